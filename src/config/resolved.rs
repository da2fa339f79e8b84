//! The configuration after every default, rule and check: what the rest of the program reads.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::union::name::RelPath;
use crate::union::source::{SourceName, Visibility};
use crate::union::surface::Surface;

/// A configuration without problems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where it was read from.
    pub origin: Origin,
    /// The surfaces, each with its place in the view.
    pub surfaces: Vec<Surface>,
    /// All sources, bottom first, also those that `access` does not let this view show.
    pub sources: Vec<SourceSpec>,
    /// Which sources this view may show.
    pub access: Access,
    /// Where repositories are looked for and kept.
    pub repo_cache: RepoCache,
    /// Where the daemon keeps what it needs itself.
    pub state: StateSettings,
    /// How the view is mounted.
    pub mount: MountSettings,
    /// What only the platform's own programs read, for their environment.
    pub platform: PlatformValues,
}

impl Config {
    /// The sources that `access` lets this view show, bottom first.
    pub fn shown_sources(&self) -> impl DoubleEndedIterator<Item = &SourceSpec> {
        self.sources.iter().filter(|source| match self.access {
            Access::All => true,
            Access::Public => source.visibility == Visibility::Public,
            Access::None => false,
        })
    }
}

/// Where a configuration was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file in our own format, as an absolute path.
    File(PathBuf),
    /// A Helm values file of the platform, as an absolute path.
    Values(PathBuf),
    /// The `--source` options of a command line.
    CommandLine,
}

/// Which sources a view may show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Every source.
    All,
    /// Public sources only.
    Public,
    /// No source.
    None,
}

/// One source as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSpec {
    /// Its name of two components.
    pub name: SourceName,
    /// Where its content is.
    pub location: Location,
    /// Whether it is served from git objects or from a directory.
    pub mode: Mode,
    /// The ref as written; `None` means the repository's HEAD.
    pub git_ref: Option<String>,
    /// Who may see it.
    pub visibility: Visibility,
    /// For each row of [`Config::surfaces`] its sub-directory in this source; `None` means off. For the prompts rule a
    /// file or a directory.
    pub subdirs: Vec<Option<RelPath>>,
    /// Whether a mount fails without it.
    pub is_required: bool,
    /// Whether LFS pointers are served as the objects they name.
    pub serves_lfs: bool,
    /// How what is served is kept readable.
    pub pin: Pin,
    /// The line of its entry in the configuration file, from 1; `None` for a `--source` option.
    pub line: Option<usize>,
}

/// Where a source's content is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A repository in the repo cache.
    Repo {
        /// Its `owner/repo` below the cache.
        repo: SourceName,
        /// Where to clone it from.
        url: Option<String>,
    },
    /// A directory of this machine, absolute.
    Path(PathBuf),
}

/// What a source is served from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The objects of a git repository, at one commit.
    Git,
    /// A directory or a work tree, live.
    Live,
}

/// How what a source serves is kept readable while its repository changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pin {
    /// By the cheapest means that the repository allows.
    Auto,
    /// By a copy of what is served.
    Copy,
}

/// The repo cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoCache {
    /// Its directory, absolute.
    pub path: PathBuf,
    /// Whether this program keeps it up to date itself.
    pub is_synced: bool,
    /// Time between two fetches.
    pub interval: Duration,
    /// The file with the access token, read anew for each fetch.
    pub token_file: PathBuf,
}

/// What the daemon keeps for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateSettings {
    /// Its directory, absolute.
    pub dir: PathBuf,
    /// The most that cached content may take there.
    pub cache_bytes: u64,
    /// The largest git object that is read.
    pub object_bytes: u64,
}

/// How the view is mounted and what it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSettings {
    /// The mount point, absolute.
    pub at: PathBuf,
    /// The mount point that the configuration names, absolute: where a command line names another one it is not where the view is.
    pub named_at: PathBuf,
    /// Whether `<owner>/<repo>` shows each source whole.
    pub shows_sources: bool,
    /// Whether those show a synthesized `.git`.
    pub shows_git: bool,
    /// Whether extended attributes say where a file comes from.
    pub has_xattrs: bool,
    /// Which symbolic links are shown.
    pub links: Links,
    /// Whether other users may read the view.
    pub allow_other: AllowOther,
    /// The owner of every file; `None` means the user who mounts.
    pub uid: Option<u32>,
    /// The group of every file; `None` means the group of the user who mounts.
    pub gid: Option<u32>,
    /// How long a stopping daemon serves those who still hold the mount.
    pub stop_timeout: Duration,
    /// How long a revision set that was left stays readable.
    pub keep: Duration,
}

/// What a command line says in place of the configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overrides {
    /// In place of [`Config::access`].
    pub access: Option<Access>,
    /// In place of [`MountSettings::shows_sources`].
    pub shows_sources: Option<bool>,
    /// In place of [`MountSettings::has_xattrs`].
    pub has_xattrs: Option<bool>,
    /// In place of [`MountSettings::links`].
    pub links: Option<Links>,
    /// In place of [`MountSettings::allow_other`].
    pub allow_other: Option<AllowOther>,
    /// In place of [`MountSettings::uid`].
    pub uid: Option<u32>,
    /// In place of [`MountSettings::gid`].
    pub gid: Option<u32>,
    /// In place of [`RepoCache::is_synced`].
    pub is_synced: Option<bool>,
}

impl Overrides {
    /// Puts what is given into a configuration.
    pub fn apply(&self, config: &mut Config) {
        let mount = &mut config.mount;
        config.access = self.access.unwrap_or(config.access);
        mount.shows_sources = self.shows_sources.unwrap_or(mount.shows_sources);
        mount.has_xattrs = self.has_xattrs.unwrap_or(mount.has_xattrs);
        mount.links = self.links.unwrap_or(mount.links);
        mount.allow_other = self.allow_other.unwrap_or(mount.allow_other);
        mount.uid = self.uid.or(mount.uid);
        mount.gid = self.gid.or(mount.gid);
        config.repo_cache.is_synced = self.is_synced.unwrap_or(config.repo_cache.is_synced);
    }
}

/// Which symbolic links are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Links {
    /// All of them.
    All,
    /// Those that do not leave their source.
    Inside,
}

/// Whether other users may read the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AllowOther {
    /// Where this machine permits it.
    Auto,
    /// Yes, or the mount fails.
    Yes,
    /// No.
    No,
}

/// The platform's values that decide nothing here but stand in the environment of its programs.
///
/// Of a file in our own format these are the chart's defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformValues {
    /// Whether the platform runs its repo cache (`repoCache.enabled`).
    pub has_repo_cache: bool,
    /// Whether its tools are loaded anew when the cache changes (`repoCache.autoReload`).
    pub reloads_tools: bool,
    /// Seconds between two runs of its sync (`repoCache.syncIntervalSeconds`).
    pub sync_interval_secs: u64,
    /// Repositories that it keeps besides the sources (`repoCache.repositories`), in order.
    pub repositories: Vec<PlatformRepository>,
    /// Refs by repository (`repoCache.repositoryRefs`), as written.
    pub repository_refs: BTreeMap<String, String>,
    /// Variables that the operator adds to its API (`apiRs.extraEnv`), as written.
    pub extra_env: BTreeMap<String, String>,
}

impl Default for PlatformValues {
    fn default() -> Self {
        Self {
            has_repo_cache: true,
            reloads_tools: true,
            sync_interval_secs: 30,
            repositories: Vec::new(),
            repository_refs: BTreeMap::new(),
            extra_env: BTreeMap::new(),
        }
    }
}

/// One repository that the platform keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformRepository {
    /// Its `owner/repo`, as written.
    pub repo: String,
    /// Its ref, as written; `None` means HEAD.
    pub git_ref: Option<String>,
    /// Who may see it; `None` where the values do not say.
    pub visibility: Option<Visibility>,
}
