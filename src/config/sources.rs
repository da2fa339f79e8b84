//! Entries of `overlays.sources` and `toolServer` become sources.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use super::command_line::OPTION;
use super::environment::normalize;
use super::git_ref;
use super::git_url::Transport;
use super::key_path::{KeyPath, Step};
use super::nearest::{list, nearest};
use super::raw::{GivenText, RawMode, RawPin, RawSource, RawToolServer, Verbatim};
use super::report::Report;
use super::resolved::{Location, Mode, Pin, SourceSpec};
use super::surfaces::subdir;
use crate::union::name::{Name, RelPath};
use crate::union::source::{SourceName, Visibility};
use crate::union::surface::Surface;

/// First components that the view or the repo cache needs for itself.
const RESERVED_OWNERS: [&str; 4] = [".overlay", ".git", "public", "private"];

/// For so many unknown names of surfaces the nearest known one is looked for. Each costs a look at all that are known.
const HINTS_MAX: usize = 20;

/// The most surfaces that a cure names.
const NAMED_MAX: usize = 20;

/// Reads the entries of a list of sources.
pub(super) struct EntryReader<'a> {
    /// The key of the list of entries.
    pub(super) list: KeyPath,
    /// The directory that relative paths are relative to.
    pub(super) base: &'a Path,
    /// The table of surfaces.
    pub(super) surfaces: &'a [Surface],
    /// Whether the view shows `<owner>/<repo>`.
    pub(super) shows_sources: bool,
    /// Where problems go.
    pub(super) report: &'a mut Report,
}

impl EntryReader<'_> {
    /// The sources of `overlays.sources`; without entries those of `toolServer`.
    pub(super) fn read(
        &mut self,
        entries: &[RawSource],
        tool_server: Option<&RawToolServer>,
    ) -> Vec<SourceSpec> {
        if entries.is_empty() {
            return tool_server.map(|server| self.tool_server(server)).unwrap_or_default();
        }
        let key = self.list.clone();
        let read = entries.iter().enumerate();
        read.filter_map(|(i, entry)| self.entry(entry, &key.index(i))).collect()
    }

    fn tool_server(&mut self, server: &RawToolServer) -> Vec<SourceSpec> {
        let key = KeyPath::top("toolServer");
        let extra = server.extra_sources.as_deref().unwrap_or_default();
        let GivenText::Text(repo) = &server.repo else {
            if !extra.is_empty() {
                let cure = "set `toolServer.repo`, or list all sources in `overlays.sources`";
                let what = "counts for nothing without `toolServer.repo`";
                self.report.warning(&key.key("extraSources"), what, cure);
            }
            return Vec::new();
        };
        if server.enabled == Some(false) {
            return Vec::new();
        }
        let base = RawSource {
            repo: Some(repo.clone()),
            git_ref: server.git_ref.clone(),
            visibility: server.visibility.clone(),
            tools_subdir: or_default(server.subdir.as_deref()),
            ..RawSource::default()
        };
        let mut sources: Vec<SourceSpec> = self.entry(&base, &key).into_iter().collect();
        for (i, extra) in extra.iter().enumerate() {
            let entry = RawSource {
                repo: extra.repo.clone(),
                git_ref: extra.git_ref.clone(),
                visibility: extra.visibility.clone(),
                tools_subdir: or_default(extra.subdir.as_deref()),
                workflows_subdir: or_default(extra.workflows_subdir.as_deref()),
                skills_subdir: or_default(extra.skills_subdir.as_deref()),
                ..RawSource::default()
            };
            sources.extend(self.entry(&entry, &key.key("extraSources").index(i)));
        }
        sources
    }

    /// One entry; `None` where it is dropped or cannot be read. `key` may be the `toolServer` mapping, whose
    /// sub-directory of tools is called `subdir`.
    fn entry(&mut self, raw: &RawSource, key: &KeyPath) -> Option<SourceSpec> {
        let location = self.location(raw, key)?;
        let mode = mode(raw, &location);
        self.check_mode(raw, &location, mode, key);
        let git_ref = self.git_ref(raw.git_ref.as_ref(), key);
        let subdirs = self.subdirs(raw, key);
        let name = self.name(raw, &location, key)?;
        Some(SourceSpec {
            name,
            location,
            mode,
            git_ref,
            visibility: visibility(raw.visibility.as_deref()),
            subdirs,
            is_required: raw.required.unwrap_or(true),
            serves_lfs: raw.lfs.unwrap_or(false),
            pin: match raw.pin {
                None | Some(RawPin::Auto) => Pin::Auto,
                Some(RawPin::Copy) => Pin::Copy,
            },
            line: self.report.line(key),
        })
    }

    fn location(&mut self, raw: &RawSource, key: &KeyPath) -> Option<Location> {
        let repo = raw.repo.as_deref().filter(|repo| !repo.is_empty());
        let path = raw.path.as_deref().filter(|path| !path.is_empty());
        match (repo, path) {
            (None, None) => {
                let cure = "set `repo: owner/repo` or `path: DIRECTORY`, or remove the entry";
                self.report.warning(key, "has neither `repo` nor `path`, and is dropped", cure);
                None
            }
            (Some(_), Some(_)) => {
                let cure = "keep `repo` for a repository of the cache, `path` for a directory; \
                            where to clone from is `url`";
                self.report.error(key, "has both `repo` and `path`", cure);
                None
            }
            (None, Some(path)) => {
                directory(path, &key.key("path"), self.base, self.report).map(Location::Path)
            }
            (Some(repo), None) => {
                let url = raw.url.clone().filter(|url| !url.is_empty());
                self.check_url(url.as_deref(), &key.key("url"));
                match SourceName::parse(repo) {
                    Ok(repo) => Some(Location::Repo { repo, url }),
                    Err(error) => {
                        let cure = "write `owner/repo`; where to clone from is `url`";
                        let what = format!("`{repo}` {error}");
                        self.report.own_error(&key.key("repo"), what, cure);
                        None
                    }
                }
            }
        }
    }

    fn check_url(&mut self, url: Option<&str>, key: &KeyPath) {
        let Some(url) = url else { return };
        if url.starts_with('-') || url.chars().any(|c| c.is_control() || c == ' ') {
            let what = "is no URL: it starts with `-`, or holds a blank or a control character";
            self.report.own_error(key, what, "write it as `https://git.example/owner/repo.git`");
        } else if Transport::of(url).is_none() {
            // What is in the cache already can be shown all the same.
            let what = "is no https, ssh or file URL: `sync` cannot clone from it";
            self.report.warning(key, what, "write it as `https://git.example/owner/repo.git`");
        }
        let authority = url.split_once("://").and_then(|(_, rest)| rest.split('/').next());
        let user = authority.and_then(|authority| authority.rsplit_once('@'));
        if user.is_some_and(|(user, _)| user.contains(':')) {
            let cure = "remove `user:password@` and set `repoCache.tokenFile`";
            self.report.warning(key, "holds a password, which every process list shows", cure);
        }
    }

    /// Reports keys that have no meaning for a source that is served live, or for a directory.
    fn check_mode(&mut self, raw: &RawSource, location: &Location, mode: Mode, key: &KeyPath) {
        let has_ref = raw.git_ref.as_ref().is_some_and(|text| !text.0.is_empty());
        let has_url = raw.url.as_ref().is_some_and(|url| !url.is_empty());
        if has_url && matches!(location, Location::Path(_)) {
            let cure = "remove `url`; a repository that is cloned is listed by `repo`";
            self.report.error(&key.key("url"), "counts only with `repo`", cure);
        }
        if mode == Mode::Git {
            return;
        }
        let given = [
            ("ref", has_ref),
            ("lfs", raw.lfs == Some(true)),
            ("pin", matches!(raw.pin, Some(RawPin::Copy))),
        ];
        for (name, _) in given.into_iter().filter(|(_, is_given)| *is_given) {
            let cure = format!("set `mode: git` to serve commits, or remove `{name}`");
            self.report.error(&key.key(name), "counts for nothing in a live source", cure);
        }
    }

    fn git_ref(&mut self, text: Option<&Verbatim>, key: &KeyPath) -> Option<String> {
        let text = text.map(|text| text.0.as_str()).filter(|text| !text.is_empty())?;
        if let Some(refusal) = git_ref::refusal(text) {
            let cure = "write a branch, a tag, a full ref name or a full commit id";
            self.report.own_error(&key.key("ref"), format!("`{text}` {refusal}"), cure);
        }
        Some(text.to_owned())
    }

    fn subdirs(&mut self, raw: &RawSource, key: &KeyPath) -> Vec<Option<RelPath>> {
        let by_name = raw.subdirs.as_ref();
        self.check_subdir_names(by_name, key);
        let own = own_subdirs(raw);
        let surfaces = self.surfaces;
        let row = |surface: &Surface| {
            let own = own
                .iter()
                .find(|(row, _, given)| *row == surface.name && **given != GivenText::Absent)
                .map(|(_, key, given)| (*key, *given));
            let other = by_name.and_then(|by_name| by_name.get(&surface.name));
            let in_map = key.key("subdirs").key(&surface.name);
            let (given, at) = match (own, other) {
                (None, None) => return surface.subdir.clone(),
                (Some((name, given)), None) => (given, own_key_path(key, name)),
                (None, Some(given)) => (given, in_map),
                (Some((name, _)), Some(given)) => {
                    let cure = format!("keep one of `{name}` and `subdirs.{}`", surface.name);
                    self.report.error(&in_map, format!("`{name}` says it too"), cure);
                    (given, in_map)
                }
            };
            match given {
                GivenText::Absent => surface.subdir.clone(),
                GivenText::Empty => None,
                GivenText::Text(text) => subdir(text, &at, self.report),
            }
        };
        surfaces.iter().map(row).collect()
    }

    fn check_subdir_names(&mut self, by_name: Option<&BTreeMap<String, GivenText>>, key: &KeyPath) {
        let Some(by_name) = by_name else { return };
        let known: Vec<&str> = self.surfaces.iter().map(|row| row.name.as_str()).collect();
        let all: HashSet<&str> = known.iter().copied().collect();
        let unknown = by_name.keys().filter(|name| !all.contains(name.as_str()));
        for (position, name) in unknown.enumerate() {
            let near =
                if position < HINTS_MAX { nearest(name, known.iter().copied()) } else { None };
            let hint = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
            let named = &known[..known.len().min(NAMED_MAX)];
            let more = match known.len() - named.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let cure = format!(
                "{hint}known surfaces: {}{more}; a new one is a row of `surfaces`",
                list(named)
            );
            self.report.error(&key.key("subdirs").key(name), "unknown surface", cure);
        }
    }

    fn name(&mut self, raw: &RawSource, location: &Location, key: &KeyPath) -> Option<SourceName> {
        let given = raw.name.as_deref().filter(|name| !name.is_empty());
        let (name, at) = match (given, location) {
            (Some(text), _) => match SourceName::parse(text) {
                Ok(name) => (name, key.key("name")),
                Err(error) => {
                    let cure = "write two components, as `name: team/overlay`";
                    self.report.own_error(&key.key("name"), format!("`{text}` {error}"), cure);
                    return None;
                }
            },
            (None, Location::Repo { repo, .. }) => (repo.clone(), key.key("repo")),
            (None, Location::Path(path)) => {
                let at = key.key("path");
                let Some(name) = local_name(path) else {
                    let cure = "add a name, as `name: local/root`";
                    self.report.error(&at, "has no directory name", cure);
                    return None;
                };
                (name, at)
            }
        };
        if self.shows_sources {
            self.check_owner(&name, &at);
        }
        Some(name)
    }

    /// Reports a name that cannot be shown: in the view `<owner>/<repo>` stands beside the surfaces.
    fn check_owner(&mut self, name: &SourceName, key: &KeyPath) {
        let other = format!("`name: source-{}/{}`", name.owner, name.repo);
        let own = if self.list == KeyPath::top(OPTION) {
            format!("list it in a configuration file with another name, as {other}")
        } else {
            format!("set `name` to another one, as {other}")
        };
        let surface = self.surfaces.iter().find(|row| row.at.first() == Some(&name.owner));
        if let Some(surface) = surface {
            let what = format!(
                "source `{name}` would stand inside surface `{}`, whose place begins with `{}`",
                surface.name, name.owner
            );
            let cure = format!(
                "{own}, or move the surface: `surfaces: {{{}: {{at: ...}}}}`, or set \
                 `mount.sources: false`",
                surface.name
            );
            self.report.error(key, what, cure);
        } else if RESERVED_OWNERS.iter().any(|owner| owner.as_bytes() == name.owner.as_bytes()) {
            let what = format!("`{}` is reserved and cannot own source `{name}`", name.owner);
            self.report.error(key, what, format!("{own}, or set `mount.sources: false`"));
        } else if name.repo.as_bytes() == b".git" {
            let what = format!("source `{name}` would be called `.git`, which is never shown");
            self.report.error(key, what, "set `name` to another one, as `name: team/git`");
        }
    }
}

/// The built-in surfaces whose sub-directory has a key of its own, with key and value.
fn own_subdirs(raw: &RawSource) -> [(&'static str, &'static str, &GivenText); 5] {
    [
        ("tools", "toolsSubdir", &raw.tools_subdir),
        ("workflows", "workflowsSubdir", &raw.workflows_subdir),
        ("skills", "skillsSubdir", &raw.skills_subdir),
        ("personas", "personasSubdir", &raw.personas_subdir),
        ("prompts", "promptPath", &raw.prompt_path),
    ]
}

/// `toolServer` calls its sub-directory of tools `subdir`.
fn own_key_path(key: &KeyPath, name: &str) -> KeyPath {
    let is_tool_server = matches!(key.steps().first(), Some(Step::Key(top)) if top == "toolServer");
    key.key(if is_tool_server && name == "toolsSubdir" { "subdir" } else { name })
}

/// In `toolServer` an empty sub-directory means the default.
fn or_default(text: Option<&str>) -> GivenText {
    match text {
        None | Some("") => GivenText::Absent,
        Some(text) => GivenText::Text(text.to_owned()),
    }
}

fn mode(raw: &RawSource, location: &Location) -> Mode {
    match (raw.mode, location) {
        (Some(RawMode::Git), _) | (None, Location::Repo { .. }) => Mode::Git,
        (Some(RawMode::Worktree), _) | (None, Location::Path(_)) => Mode::Live,
    }
}

/// Whatever is not `public`, in any case and with blanks around, is private.
pub(super) fn visibility(text: Option<&str>) -> Visibility {
    match text {
        Some(text) if text.trim().eq_ignore_ascii_case("public") => Visibility::Public,
        Some(_) | None => Visibility::Private,
    }
}

/// The name of a directory that was given none: `local/<directory>`.
pub(super) fn local_name(path: &Path) -> Option<SourceName> {
    use std::os::unix::ffi::OsStrExt;
    let normal = normalize(path);
    let repo = Name::new(normal.file_name()?.as_bytes()).ok()?;
    let owner = Name::new("local").ok()?;
    Some(SourceName { owner, repo })
}

/// The absolute path that `text` names, or a problem.
pub(super) fn directory(
    text: &str,
    key: &KeyPath,
    base: &Path,
    report: &mut Report,
) -> Option<PathBuf> {
    if text.is_empty() || text.contains('\0') {
        let what = if text.is_empty() { "is empty" } else { "holds a NUL byte" };
        report.own_error(key, what, "write a path, absolute or relative to this file");
        return None;
    }
    if text == "~" || text.starts_with("~/") {
        let cure = "write the path out, or put `./` before it if it is meant so";
        report.warning(key, format!("`~` in `{text}` is taken as written"), cure);
    }
    // Collecting drops `.` components and doubled slashes; `..` stays for the kernel, which knows the links.
    Some(base.join(text).components().collect())
}
