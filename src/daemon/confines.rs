//! What a worker gives up before it serves, and what it finds that it would need of that later.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use tracing::warn;

use super::start::Plan;
use crate::config::resolved::Config;
use crate::control::http::Address;
use crate::control::status::Confinement;
use crate::machine::confinement::{self, Confined, KeptPrivileges, Paths};
use crate::machine::kernel;
use crate::machine::run_dir::RunDir;
use crate::machine::user;
use crate::sync::reach::Reach;

/// A worker asks for another one in its place at most this often.
const PACE: Duration = Duration::from_secs(1);

/// How this process is confined.
#[derive(Debug)]
pub(super) struct Confines {
    confined: Confined,
    /// `None` where all paths are open.
    held: Option<OpenedPaths>,
    since: Instant,
}

/// What can be opened.
#[derive(Debug)]
struct OpenedPaths {
    read: Vec<OpenedPath>,
    lend: Vec<OpenedPath>,
    write: Vec<OpenedPath>,
}

/// A path, and what was there when it was opened to this process.
#[derive(Debug)]
struct OpenedPath {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl Confines {
    /// Confines this process to what a plan leads to, and what the configuration's file leads to by now, where that is another. Has to
    /// come before its first thread.
    pub(super) fn enter(plan: &Plan, now: Option<&Config>) -> Self {
        let mut needs = Needs::new(now.map(Reach::of).unwrap_or_default());
        needs.add(&plan.config);
        let binds_low_port = plan.metrics.as_ref().is_some_and(Address::is_privileged);
        let passes_files_through = plan.passthrough.is_some();
        Self::enter_for(needs, KeptPrivileges { binds_low_port, passes_files_through })
    }

    /// Confines this process to what is needed. Has to come before its first thread.
    pub(super) fn enter_for(needs: Needs, kept: KeptPrivileges) -> Self {
        Self::enter_by(needs, |paths| confinement::confine(paths, kept))
    }

    fn enter_by(needs: Needs, confine: impl FnOnce(Result<&Paths, String>) -> Confined) -> Self {
        let Needs { reach, run_dir, obstacle } = needs;
        // Before they are opened: what takes the place of one of them meanwhile may be closed, and is taken for closed.
        let held = OpenedPaths::of(&reach);
        let confined = match obstacle {
            None => confine(Ok(&paths(&reach, run_dir))),
            Some(why) => confine(Err(why.to_owned())),
        };
        for warning in &confined.warnings {
            warn!("{warning}");
        }
        let held = confined.is_bound_to_paths().then_some(held);
        Self { confined, held, since: Instant::now() }
    }

    /// What of a reach is closed to this process.
    pub(super) fn closed(&self, reach: &Reach) -> BTreeSet<PathBuf> {
        let Some(held) = &self.held else { return BTreeSet::new() };
        let Reach { read, lend, write } = reach.clone();
        let is_closed = |path: &PathBuf, open: &[&[OpenedPath]]| {
            !open.iter().flat_map(|places| places.iter()).any(|place| place.opens(path))
        };
        let (any, lent) =
            (&[&held.read[..], &held.lend, &held.write], &[&held.lend[..], &held.write]);
        let read = read.into_iter().filter(|path| is_closed(path, any));
        let lend = lend.into_iter().filter(|path| is_closed(path, lent));
        let write = write.into_iter().filter(|path| is_closed(path, &[&held.write]));
        read.chain(lend).chain(write).collect()
    }

    /// Waits until another worker may be asked for.
    pub(super) fn keep_pace(&self) {
        thread::sleep(PACE.saturating_sub(self.since.elapsed()));
    }

    /// As `status` tells it.
    pub(super) fn told(&self) -> Confinement {
        let Confined { landlock, seccomp, no_new_privs, capabilities, .. } = self.confined.clone();
        Confinement { landlock, seccomp, no_new_privs, capabilities }
    }
}

/// What a worker needs.
#[derive(Debug)]
pub(super) struct Needs {
    reach: Reach,
    run_dir: Option<RunDir>,
    obstacle: Option<&'static str>,
}

impl Needs {
    /// It needs this and its run directory.
    pub(super) fn new(reach: Reach) -> Self {
        Self { reach, run_dir: RunDir::make().ok(), obstacle: None }
    }

    /// And what a configuration leads to. What a worker makes itself is made: it has to be there. What cannot be made is said where it is
    /// missed.
    pub(super) fn add(&mut self, config: &Config) {
        fs::create_dir_all(&config.state.dir).unwrap_or_default();
        if config.repo_cache.is_synced {
            fs::create_dir_all(&config.repo_cache.path).unwrap_or_default();
        }
        self.reach.extend(Reach::of(config));
        self.obstacle = self.obstacle.or_else(|| obstacle(config));
    }
}

/// Why no other worker could take over unnoticed where files are needed that are closed. Then none are closed.
fn obstacle(config: &Config) -> Option<&'static str> {
    if !kernel::hands_mounts_over() {
        return Some("before Linux 6.9 no other worker can take over where it needs other files");
    }
    let is_writable = user::may_write(&config.state.dir);
    (!is_writable)
        .then_some("without `state.dir` no other worker can take over where it needs other files")
}

fn paths(reach: &Reach, run_dir: Option<RunDir>) -> Paths {
    // It is asked also where nothing is fetched: for refs in a format of its own.
    let mut paths = confinement::for_git();
    paths.read.extend(reach.read.iter().cloned());
    paths.lend.extend(reach.lend.iter().cloned());
    paths.write.extend(reach.write.iter().cloned());
    paths.write.extend(run_dir.map(|made| made.path().to_owned()));
    // Each thread that answers the kernel has a descriptor of its own.
    paths.control.insert("/dev/fuse".into());
    paths
}

impl OpenedPaths {
    fn of(reach: &Reach) -> Self {
        let places =
            |paths: &BTreeSet<PathBuf>| paths.iter().map(|path| OpenedPath::of(path)).collect();
        let Reach { read, lend, write } = reach;
        Self { read: places(read), lend: places(lend), write: places(write) }
    }
}

impl OpenedPath {
    fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), identity: identity(path) }
    }

    /// Whether this place, if it is the same still, opens a path.
    fn opens(&self, path: &Path) -> bool {
        path.starts_with(&self.path) && identity(&self.path) == self.identity
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s98_what_takes_the_place_of_a_file_while_a_worker_confines_itself_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().canonicalize().unwrap().join(name);
        let confined = Confined {
            landlock: "abi 6".to_owned(),
            seccomp: "filter".to_owned(),
            no_new_privs: true,
            capabilities: Vec::new(),
            warnings: Vec::new(),
        };
        for is_replaced in [false, true] {
            fs::write(path("file"), "").unwrap();
            let reach = Reach::of_file(&path("file"));
            let confines = Confines::enter_by(Needs::new(reach.clone()), |_| {
                if is_replaced {
                    fs::write(path("next"), "").unwrap();
                    fs::rename(path("next"), path("file")).unwrap();
                }
                confined.clone()
            });
            assert_eq!(confines.closed(&reach).contains(&path("file")), is_replaced);
        }
    }
}
