//! The file as written becomes the configuration as meant: defaults, rules and checks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::command_line::OPTION;
use super::environment::{Environment, normalize};
use super::key_path::KeyPath;
use super::problem::{Problem, Severity};
use super::raw::{
    RawAccess, RawAllowOther, RawAuto, RawConfig, RawLinks, RawMount, RawRepoCache, RawState,
    Verbatim,
};
use super::report::Report;
use super::resolved::{
    Access, AllowOther, Config, Links, Location, MountSettings, Origin, PlatformValues, RepoCache,
    StateSettings,
};
use super::sources::{EntryReader, directory};
use super::surfaces;
use super::units::{DURATION_CURE, SIZE_CURE, duration, size};

/// Where the platform keeps its repositories.
pub(super) const REPO_CACHE: &str = "/var/lib/centaur/repos";

const TOKEN_FILE: &str = "/github-token/token";
const MOUNT_POINT: &str = "/home/agent/github";
const INTERVAL: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const KEEP: Duration = Duration::from_secs(24 * 60 * 60);
const CACHE_BYTES: u64 = 2 << 30;
/// As `store::blobs::OBJECT_BYTES`.
const OBJECT_BYTES: u64 = 8 << 30;
/// What is read at least: the trees and commits of ordinary repositories.
const OBJECT_BYTES_MIN: u64 = 1 << 20;

/// Turns what `raw` says into a configuration; with errors in `report` the result is of no use.
pub(super) fn resolve(
    raw: &RawConfig,
    origin: Origin,
    base: &Path,
    env: &Environment,
    report: &mut Report,
) -> Config {
    let mount = raw.mount.as_ref();
    let surfaces = match &raw.surfaces {
        Some(changes) => surfaces::resolve(changes, report),
        None => surfaces::built_in(),
    };
    let entries = raw.overlays.as_ref().and_then(|overlays| overlays.sources.as_deref());
    let shows_sources = mount.and_then(|mount| mount.sources).unwrap_or(true);
    let list = match origin {
        Origin::File(_) | Origin::Values(_) => KeyPath::top("overlays").key("sources"),
        Origin::CommandLine => KeyPath::top(OPTION),
    };
    let sources = EntryReader { list, base, surfaces: &surfaces, shows_sources, report }
        .read(entries.unwrap_or_default(), raw.tool_server.as_ref());
    let mut settings = SettingsReader { base, report };
    let config = Config {
        origin,
        surfaces,
        sources,
        access: match raw.access {
            None | Some(RawAccess::All) => Access::All,
            Some(RawAccess::Public) => Access::Public,
            Some(RawAccess::None) => Access::None,
        },
        repo_cache: settings
            .repo_cache(raw.repo_cache.as_ref().unwrap_or(&RawRepoCache::default())),
        state: settings.state(raw.state.as_ref().unwrap_or(&RawState::default()), env),
        mount: settings.mount(mount.unwrap_or(&RawMount::default())),
        platform: PlatformValues::default(),
    };
    if mount.is_some_and(|mount| mount.at.is_some()) {
        settings.check_mount_point(&config);
    }
    warn_if_empty(&config, report);
    config
}

fn warn_if_empty(config: &Config, report: &mut Report) {
    if let Some((key, what, cure)) = why_empty(config) {
        report.warning(&key, what, cure);
    }
}

/// Why a view shows no source at all, and what to do about it, if that can be told from its configuration: the key, what is so, the cure.
pub fn why_empty(config: &Config) -> Option<(KeyPath, &'static str, &'static str)> {
    let why = if config.access == Access::None {
        (KeyPath::top("access"), "`none` shows no source", "set `access: all` or `public`")
    } else if config.sources.is_empty() {
        let key = KeyPath::top("overlays").key("sources");
        (key, "there are no sources: the view is empty", "list some in `overlays.sources`")
    } else if config.shown_sources().next().is_none() {
        let cure = "set `visibility: public` on sources that all may see";
        (KeyPath::top("access"), "`public` shows none of the sources: all are private", cure)
    } else {
        return None;
    };
    Some(why)
}

struct SettingsReader<'a> {
    base: &'a Path,
    report: &'a mut Report,
}

impl SettingsReader<'_> {
    fn repo_cache(&mut self, raw: &RawRepoCache) -> RepoCache {
        let key = KeyPath::top("repoCache");
        let interval_key = key.key("interval");
        let interval = self.duration(raw.interval.as_deref(), &interval_key, INTERVAL);
        if interval.is_zero() {
            let cure = "write a time above zero, as `30s`; without fetching: `sync: false`";
            self.report.own_error(&interval_key, "is zero: fetching would never pause", cure);
        }
        RepoCache {
            path: self.path(raw.path.as_deref(), &key.key("path"), Path::new(REPO_CACHE)),
            is_synced: raw.sync.unwrap_or(false),
            interval,
            token_file: self.path(
                raw.token_file.as_deref(),
                &key.key("tokenFile"),
                Path::new(TOKEN_FILE),
            ),
        }
    }

    fn state(&mut self, raw: &RawState, env: &Environment) -> StateSettings {
        let key = KeyPath::top("state");
        let cache_bytes = self.size(raw.cache_bytes.as_ref(), &key.key("cacheBytes"), CACHE_BYTES);
        let object_key = key.key("objectBytes");
        let object_bytes = self.size(raw.object_bytes.as_ref(), &object_key, OBJECT_BYTES);
        if object_bytes < OBJECT_BYTES_MIN {
            let what = "is less than 1MiB: directories of a source may be larger";
            self.report.own_error(&object_key, what, "write `1MiB` or more");
        }
        let dir = self.path(raw.dir.as_deref(), &key.key("dir"), &env.state_dir());
        StateSettings { dir, cache_bytes, object_bytes }
    }

    fn size(&mut self, raw: Option<&Verbatim>, key: &KeyPath, default: u64) -> u64 {
        let Some(text) = raw else { return default };
        size(&text.0).unwrap_or_else(|| {
            self.report.own_error(key, format!("`{}` is no size", text.0), SIZE_CURE);
            default
        })
    }

    fn mount(&mut self, raw: &RawMount) -> MountSettings {
        let key = KeyPath::top("mount");
        let at = self.path(raw.at.as_deref(), &key.key("at"), Path::new(MOUNT_POINT));
        MountSettings {
            named_at: at.clone(),
            at,
            shows_sources: raw.sources.unwrap_or(true),
            shows_git: raw.git.unwrap_or(false),
            has_xattrs: raw.xattrs.unwrap_or(false),
            links: match raw.links {
                None | Some(RawLinks::All) => Links::All,
                Some(RawLinks::Inside) => Links::Inside,
            },
            allow_other: match raw.allow_other {
                None | Some(RawAllowOther::Word(RawAuto::Auto)) => AllowOther::Auto,
                Some(RawAllowOther::Sure(true)) => AllowOther::Yes,
                Some(RawAllowOther::Sure(false)) => AllowOther::No,
            },
            uid: raw.uid,
            gid: raw.gid,
            stop_timeout: self.duration(
                raw.stop_timeout.as_deref(),
                &key.key("stopTimeout"),
                STOP_TIMEOUT,
            ),
            keep: self.duration(raw.keep.as_deref(), &key.key("keep"), KEEP),
        }
    }

    fn path(&mut self, text: Option<&str>, key: &KeyPath, default: &Path) -> PathBuf {
        text.and_then(|text| directory(text, key, self.base, self.report))
            .unwrap_or_else(|| default.to_owned())
    }

    fn duration(&mut self, text: Option<&str>, key: &KeyPath, default: Duration) -> Duration {
        let Some(text) = text else { return default };
        duration(text).unwrap_or_else(|| {
            self.report.own_error(key, format!("`{text}` is no duration"), DURATION_CURE);
            default
        })
    }

    fn check_mount_point(&mut self, config: &Config) {
        let key = KeyPath::top("mount").key("at");
        for problem in check_mountpoint(config, &config.mount.at) {
            self.report.error(&key, problem.what, problem.cure);
        }
    }
}

/// Says where a mount at `at` would cover, or lie in, a directory that the view is made from.
///
/// Goes by names alone: links are for the caller to resolve, who knows the real mount point.
pub fn check_mountpoint(config: &Config, at: &Path) -> Vec<Problem> {
    clashes(config, at, &|_| None)
}

/// As [`check_mountpoint`], also where links lead to such a directory.
pub fn check_real_mountpoint(config: &Config, at: &Path) -> Vec<Problem> {
    clashes(config, at, &|dir| dir.canonicalize().ok())
}

fn clashes(config: &Config, at: &Path, real: &dyn Fn(&Path) -> Option<PathBuf>) -> Vec<Problem> {
    let at = normalize(at);
    let file = match &config.origin {
        Origin::File(file) | Origin::Values(file) => Some(file.clone()),
        Origin::CommandLine => None,
    };
    let live = config.sources.iter().filter_map(|source| match &source.location {
        Location::Path(path) => Some((format!("source `{}`", source.name), path)),
        Location::Repo { .. } => None,
    });
    let own = [
        ("the repo cache".to_owned(), &config.repo_cache.path),
        ("the state directory".to_owned(), &config.state.dir),
    ];
    live.chain(own)
        .filter_map(|(whose, dir)| {
            let named = normalize(dir);
            let (relation, dir) = match relation(&at, &named) {
                Some(relation) => (relation, named),
                None => real(dir).and_then(|dir| Some((relation(&at, &dir)?, dir)))?,
            };
            Some(Problem {
                severity: Severity::Error,
                file: file.clone(),
                line: None,
                key: KeyPath::top("mount").key("at"),
                what: format!(
                    "the mount point `{}` {relation} {whose} (`{}`)",
                    at.display(),
                    dir.display()
                ),
                cure: "mount elsewhere, or move that directory out of the way".to_owned(),
            })
        })
        .collect()
}

/// How a mount point stands to a directory that should be apart from it; `None` if it is.
fn relation(at: &Path, dir: &Path) -> Option<&'static str> {
    if dir == at {
        Some("is")
    } else if at.starts_with(dir) {
        Some("lies inside")
    } else if dir.starts_with(at) {
        Some("covers")
    } else {
        None
    }
}
