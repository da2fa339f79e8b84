//! What one daemon has for itself: the lock on its directory of views, and the directory in which superblocks are mounted.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use tracing::warn;

use crate::daemon::DaemonError;
use crate::machine::mountinfo::{Mount, MountTable};
use crate::machine::run_dir::RunDir;
use crate::machine::stale::{abort_abandoned, detach};

/// A directory that only this daemon uses, removed with the value.
#[derive(Debug)]
pub(super) struct Base {
    path: PathBuf,
    next: u64,
    _lock: Flock<File>,
}

impl Base {
    /// Takes it for the views of a directory. What a daemon left there that was killed is detached, and so is what was bound from it (S93).
    pub(super) fn take(views: &Path) -> Result<Self, DaemonError> {
        let path = RunDir::make()?.views(views);
        let failed = |error| DaemonError::Views { path: path.clone(), error };
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let directory = File::open(&path).map_err(failed)?;
        let lock = Flock::lock(directory, FlockArg::LockExclusiveNonblock)
            .map_err(|_| DaemonError::ViewsTaken { dir: views.to_owned() })?;
        clear(&path)?;
        Ok(Self { path, next: 0, _lock: lock })
    }

    /// A new name in it.
    pub(super) fn next(&mut self) -> PathBuf {
        self.next += 1;
        self.path.join(self.next.to_string())
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        // It stays where something is still mounted in it: the next daemon finds that.
        fs::remove_dir(&self.path).unwrap_or_default();
    }
}

fn clear(path: &Path) -> Result<(), DaemonError> {
    let table = MountTable::read()?;
    let is_inside = |mount: &&Mount| mount.mountpoint.starts_with(path);
    let left: Vec<_> = table.ours().filter(is_inside).map(|mount| mount.minor).collect();
    for mount in table.ours().filter(|mount| left.contains(&mount.minor)) {
        let mountpoint = mount.mountpoint.display();
        let taken = abort_abandoned(&mount.mountpoint)
            .and_then(|is_aborted| if is_aborted { Ok(()) } else { detach(&mount.mountpoint) });
        match taken {
            Ok(()) => warn!(%mountpoint, "a view was here whose daemon has died: detached"),
            Err(error) => warn!(%mountpoint, %error, "a view whose daemon has died stays"),
        }
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        fs::remove_dir(entry.path()).unwrap_or_default();
    }
    Ok(())
}
