//! Which variables a program of the platform gets, by the rules of its chart.
//!
//! In style `list` the values are what the chart renders: one directory for each source, bottom first, sources whose surface is off left
//! out. In style `union` a list of directories is the one directory of the view that shows them all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{EnvProgram, EnvStyle};
use crate::commands::failure::Failure;
use crate::config::resolved::{Config, Location, SourceSpec};
use crate::union::name::RelPath;
use crate::union::source::Visibility;

/// Values by name, sorted.
pub(super) type Variables = BTreeMap<String, String>;

/// What the API's image holds, for when there are no sources.
const APP: &str = "/app";
/// What the workflow host's image holds.
const HOST_WORKFLOWS: &str = "/opt/centaur/workflows";
/// The variables for sandboxes, as a JSON list of `name` and `value`, inside a variable of the API.
const SANDBOX_VARIABLES: &str = "SESSION_SANDBOX_EXTRA_ENV";

/// The variables of a program.
///
/// # Errors
/// A directory's name holds the sign that separates directories, or is one of a source that the view does not show whole.
pub(super) fn variables(
    config: &Config,
    program: EnvProgram,
    style: EnvStyle,
) -> Result<Variables, Failure> {
    let rules = Rules { config, style };
    match program {
        EnvProgram::Api => rules.api(),
        EnvProgram::Sandbox => rules.sandbox(),
        EnvProgram::WorkflowHost => rules.workflow_host(),
        EnvProgram::RepoCache => Ok(rules.repo_cache()),
    }
}

struct Rules<'a> {
    config: &'a Config,
    style: EnvStyle,
}

/// From where a program sees the sources.
#[derive(Clone, Copy)]
enum SourcesSeen {
    /// In the repo cache.
    Cache,
    /// In the view.
    View,
}

impl<'a> Rules<'a> {
    fn api(&self) -> Result<Variables, Failure> {
        let mut variables = Variables::new();
        for (name, surface) in [("TOOL_DIRS", "tools"), ("WORKFLOW_DIRS", "workflows")] {
            let directories = self.directories(surface, SourcesSeen::Cache, false)?;
            let instead = || format!("{APP}/{surface}");
            variables.insert(name.to_owned(), directories.unwrap_or_else(instead));
        }
        let public = self.directories("tools", SourcesSeen::Cache, true)?;
        variables.extend(public.map(|value| ("KUBERNETES_PUBLIC_TOOL_DIRS".to_owned(), value)));
        let workflows = self.directories("workflows", SourcesSeen::View, false)?;
        variables.extend(workflows.map(|value| ("KUBERNETES_WORKFLOW_DIRS".to_owned(), value)));
        self.tool_sources(&mut variables)?;
        // Of two variables of one name Kubernetes takes the later, which is the operator's. Who asks for the union wants the union.
        if self.style == EnvStyle::List {
            for (name, value) in &self.config.platform.extra_env {
                variables.entry(name.clone()).and_modify(|known| known.clone_from(value));
            }
        }
        if let Some(theirs) = self.config.platform.extra_env.get(SANDBOX_VARIABLES) {
            variables.insert(SANDBOX_VARIABLES.to_owned(), merged(theirs, &self.sandbox()?));
        }
        Ok(variables)
    }

    /// The first source with tools, and the others.
    fn tool_sources(&self, variables: &mut Variables) -> Result<(), Failure> {
        let sources: Vec<_> = self.repositories_with("tools").collect();
        let Some(((repo, subdir, first), others)) = sources.split_first() else { return Ok(()) };
        let mut insert = |name: &str, value: String| {
            variables.insert(format!("KUBERNETES_TOOLS_{name}"), value);
        };
        insert("REPO", repo.clone());
        if let Some(git_ref) = &first.git_ref {
            insert("REF", git_ref.clone());
        }
        insert("SUBDIR", text(subdir));
        insert("VISIBILITY", first.visibility.to_string());
        let others = others.iter().map(|(repo, subdir, source)| {
            let mut fields = BTreeMap::from([
                ("repo", repo.clone()),
                ("subdir", text(subdir)),
                ("visibility", source.visibility.to_string()),
            ]);
            fields.extend(source.git_ref.clone().map(|git_ref| ("ref", git_ref)));
            json!(fields)
        });
        let others: Vec<Value> = others.collect();
        if !others.is_empty() {
            insert("EXTRA_SOURCES", Value::from(others).to_string());
        }
        if self.config.platform.has_repo_cache {
            insert("REPO_CACHE_PATH", exact(&self.config.repo_cache.path)?);
            insert("AUTO_RELOAD", self.config.platform.reloads_tools.to_string());
        }
        Ok(())
    }

    fn sandbox(&self) -> Result<Variables, Failure> {
        let mut variables = Variables::new();
        for (name, is_public) in
            [("CENTAUR_SKILL_DIRS", false), ("CENTAUR_PUBLIC_SKILL_DIRS", true)]
        {
            let directories = self.directories("skills", SourcesSeen::View, is_public)?;
            variables.extend(directories.map(|value| (name.to_owned(), value)));
        }
        Ok(variables)
    }

    fn workflow_host(&self) -> Result<Variables, Failure> {
        let explicit = self.config.platform.extra_env.get("KUBERNETES_WORKFLOW_DIRS");
        let explicit = explicit.filter(|value| self.style == EnvStyle::List && !value.is_empty());
        let configured = match explicit {
            Some(explicit) => Some(explicit.clone()),
            None => self.directories("workflows", SourcesSeen::View, false)?,
        };
        let value = match configured {
            Some(value) => value,
            None => self.workflows_beside_tools()?.unwrap_or_else(|| HOST_WORKFLOWS.to_owned()),
        };
        Ok(Variables::from([("WORKFLOW_DIRS".to_owned(), value)]))
    }

    /// Where no source configures workflows the host looks for them beside the tools.
    fn workflows_beside_tools(&self) -> Result<Option<String>, Failure> {
        if !self.config.platform.has_repo_cache {
            return Ok(None);
        }
        let directories = self
            .repositories_with("tools")
            .map(|(_, _, source)| Ok(self.shown_at(source)?.join("workflows")))
            .collect::<Result<Vec<_>, Failure>>()?;
        self.join(directories.into_iter())
    }

    fn repo_cache(&self) -> Variables {
        let platform = &self.config.platform;
        if !platform.has_repo_cache {
            return Variables::new();
        }
        let mut repositories: Vec<(String, Visibility)> = Vec::new();
        let mut refs: Vec<(String, String)> = Vec::new();
        let by_key = platform.repository_refs.iter();
        by_key.for_each(|(repo, git_ref)| first(&mut refs, repo, git_ref));
        let rows = platform.repositories.iter().map(|row| {
            let visibility = row.visibility.unwrap_or(Visibility::Private);
            (row.repo.clone(), visibility, row.git_ref.as_ref())
        });
        let sources =
            self.config.sources.iter().filter_map(|source| {
                Some((repo(source)?, source.visibility, source.git_ref.as_ref()))
            });
        for (repo, visibility, git_ref) in rows.chain(sources) {
            if let Some(git_ref) = git_ref {
                first(&mut refs, &repo, git_ref);
            }
            match repositories.iter_mut().find(|(known, _)| *known == repo) {
                Some((_, known)) => *known = visibility,
                None => repositories.push((repo, visibility)),
            }
        }
        let pairs = |pairs: Vec<String>| pairs.join(" ");
        let visibilities = repositories.iter().map(|(repo, word)| format!("{repo}={word}"));
        let visibilities = pairs(visibilities.collect());
        let names = pairs(repositories.iter().map(|(repo, _)| repo.clone()).collect());
        let refs = pairs(refs.iter().map(|(repo, git_ref)| format!("{repo}={git_ref}")).collect());
        let interval = self.config.repo_cache.interval.as_secs().max(1).to_string();
        let all = [
            ("REPOSITORIES", names),
            ("REPOSITORY_REFS", refs),
            ("REPOSITORY_VISIBILITIES", visibilities),
            ("SYNC_INTERVAL_SECONDS", interval),
        ];
        all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Where a program finds what is on a surface; `None` if no source has anything there.
    fn directories(
        &self,
        surface: &str,
        seen: SourcesSeen,
        is_public: bool,
    ) -> Result<Option<String>, Failure> {
        let sources = self.with(surface);
        let mut sources = sources
            .filter(|(_, source)| !is_public || source.visibility == Visibility::Public)
            .peekable();
        match self.style {
            // What is public only says that there is something public: who may see no more has a view that shows no more.
            EnvStyle::Union if is_public && sources.peek().is_none() => Ok(None),
            EnvStyle::Union => {
                let row = self.config.surfaces.iter().find(|row| row.name == surface);
                self.join(row.map(|row| self.config.mount.at.join(path(&row.at))).into_iter())
            }
            EnvStyle::List => {
                let directories = sources
                    .filter_map(|(subdir, source)| {
                        let place = self.place(source, seen).transpose()?;
                        Some(place.map(|place| place.join(path(subdir))))
                    })
                    .collect::<Result<Vec<_>, Failure>>()?;
                self.join(directories.into_iter())
            }
        }
    }

    /// The directories as one value; `None` if there are none.
    fn join(&self, directories: impl Iterator<Item = PathBuf>) -> Result<Option<String>, Failure> {
        let texts = directories.map(|directory| exact(&directory));
        let texts = texts.collect::<Result<Vec<_>, Failure>>()?;
        if let Some(bad) = texts.iter().find(|text| text.contains(':')) {
            let is_of_view = self.config.mount.at.display().to_string().contains(':');
            let cure = match self.style {
                EnvStyle::List if !is_of_view => "use `--style union`, or another name",
                EnvStyle::Union | EnvStyle::List => {
                    "set `mount.at`, or `at` of the surface, to a place without it"
                }
            };
            let what = format!("`{bad}` holds `:`, which separates directories in a variable");
            return Err(Failure::usage(what).with_cure(cure));
        }
        Ok((!texts.is_empty()).then(|| texts.join(":")))
    }

    /// Where a program finds a source; `None` if that would be in a cache that there is not.
    fn place(&self, source: &SourceSpec, seen: SourcesSeen) -> Result<Option<PathBuf>, Failure> {
        let has_cache = self.config.platform.has_repo_cache;
        Ok(match (&source.location, seen) {
            (Location::Repo { .. }, _) if !has_cache => None,
            (Location::Repo { repo, .. }, SourcesSeen::Cache) => {
                Some(self.config.repo_cache.path.join(path(&repo.to_path())))
            }
            (Location::Path(directory), SourcesSeen::Cache) => Some(directory.clone()),
            (_, SourcesSeen::View) => Some(self.shown_at(source)?),
        })
    }

    /// Where the view shows a source whole.
    fn shown_at(&self, source: &SourceSpec) -> Result<PathBuf, Failure> {
        if !self.config.mount.shows_sources {
            let what = format!("`mount.sources` is false: the view has no `{}`", source.name);
            return Err(
                Failure::usage(what).with_cure("use `--style union`, or set `mount.sources: true`")
            );
        }
        Ok(self.config.mount.at.join(path(&source.name.to_path())))
    }

    /// The sources that the view may show and that have something on a surface, with their sub-directory, bottom first.
    fn with(&self, surface: &str) -> impl Iterator<Item = (&'a RelPath, &'a SourceSpec)> + use<'a> {
        let row = self.config.surfaces.iter().position(|row| row.name == surface);
        self.config.shown_sources().filter_map(move |source| {
            let subdir = source.subdirs.get(row?)?.as_ref()?;
            Some((subdir, source))
        })
    }

    /// As [`Rules::with`], those that are in the repo cache, with the repository's name.
    fn repositories_with(
        &self,
        surface: &str,
    ) -> impl Iterator<Item = (String, &'a RelPath, &'a SourceSpec)> + use<'a> {
        self.with(surface).filter_map(|(subdir, source)| Some((repo(source)?, subdir, source)))
    }
}

fn repo(source: &SourceSpec) -> Option<String> {
    match &source.location {
        Location::Repo { repo, .. } => Some(text(&repo.to_path())),
        Location::Path(_) => None,
    }
}

/// A path as programs read it: what `Display` gives is for people, with escapes.
fn text(path_in_source: &RelPath) -> String {
    if path_in_source.is_root() {
        return ".".to_owned();
    }
    path(path_in_source).display().to_string()
}

fn path(path: &RelPath) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let names = path.names().iter().map(|name| name.as_bytes().to_vec());
    names.map(std::ffi::OsString::from_vec).collect()
}

/// A path as a value, byte for byte. JSON and YAML hold text only, and what is printed is read by others.
fn exact(path: &Path) -> Result<String, Failure> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        let what = format!("`{}` is not UTF-8, and no variable can hold it", path.display());
        Failure::usage(what)
            .with_cure("rename the directory, or name another one in the configuration")
    })
}

/// Keeps the first ref of each repository.
fn first(refs: &mut Vec<(String, String)>, repo: &str, git_ref: &str) {
    if refs.iter().all(|(known, _)| known != repo) {
        refs.push((repo.to_owned(), git_ref.to_owned()));
    }
}

/// The operator's variables for sandboxes with ours added where theirs have none of the name. What is no list stays as it is.
fn merged(theirs: &str, ours: &Variables) -> String {
    let Ok(Value::Array(mut rows)) = serde_json::from_str(theirs) else { return theirs.to_owned() };
    for (name, value) in ours {
        if rows.iter().all(|row| row.get("name").and_then(Value::as_str) != Some(name)) {
            rows.push(json!({ "name": name, "value": value }));
        }
    }
    Value::from(rows).to_string()
}
