//! What one daemon has for itself: the lock on its directory of views, and names in the directory in which superblocks are mounted.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use tracing::warn;

use super::ViewsPlan;
use crate::daemon::DaemonError;
use crate::machine::mountinfo::{Mount, MountTable};
use crate::machine::private_mounts::PrivateMounts;
use crate::machine::run_dir::RunDir;
use crate::machine::stale::{abort_abandoned, detach};
use crate::sync::Stamp;

/// A directory that only this daemon uses, removed with the value.
#[derive(Debug)]
pub(super) struct Base {
    path: PathBuf,
    next: u64,
    _lock: Flock<File>,
}

impl Base {
    /// Takes it for the views of a directory.
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
        let names = fs::read_dir(&path).map_err(failed)?.flatten();
        let numbers = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let next = numbers.max().unwrap_or(0);
        Ok(Self { path, next, _lock: lock })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Notes that somebody has unmounted the view of a file, for a process that comes after this one.
    pub(super) fn note_unmounted(&self, file: &Path) {
        fs::write(self.unmounted(file), look_of(file)).unwrap_or_default();
    }

    /// The view of a file may be mounted again.
    pub(super) fn forget_unmounted(&self, file: &Path) {
        fs::remove_file(self.unmounted(file)).unwrap_or_default();
    }

    /// Whether somebody has unmounted the view of a file, which did not change since.
    pub(super) fn was_unmounted(&self, file: &Path) -> bool {
        fs::read(self.unmounted(file)).is_ok_and(|noted| noted == look_of(file))
    }

    fn unmounted(&self, file: &Path) -> PathBuf {
        let mut name = file.file_name().unwrap_or_default().to_owned();
        name.push(".unmounted");
        self.path.join(name)
    }

    /// A new number in it.
    pub(super) fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Where the superblock of a number is mounted.
    pub(super) fn place(&self, number: u64) -> PathBuf {
        self.path.join(number.to_string())
    }
}

/// How a file looks, in words. Its time alone does not tell: another one that takes its place may be older.
fn look_of(file: &Path) -> Vec<u8> {
    format!("{:?}", Stamp::of(file)).into_bytes()
}

impl Drop for Base {
    fn drop(&mut self) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            fs::remove_file(entry.path()).unwrap_or_default();
        }
        // It stays where something is still mounted in it: the next daemon finds that.
        fs::remove_dir(&self.path).unwrap_or_default();
    }
}

/// Where a superblock of a daemon of many views is mounted, by the number of its connection.
pub(in crate::daemon) fn superblock_at(
    table: &MountTable,
    plan: &ViewsPlan,
    connection: u32,
) -> Option<PathBuf> {
    let base = RunDir::make().ok()?.views(&plan.dir);
    let mut inside = table.ours().filter(|mount| mount.mountpoint.starts_with(&base));
    inside.find(|mount| mount.minor == connection).map(|mount| mount.mountpoint.clone())
}

/// Detaches all that a daemon of many views has mounted that was killed.
pub(in crate::daemon) fn take_all_away(plan: &ViewsPlan) -> Result<(), DaemonError> {
    let base = RunDir::make()?.views(&plan.dir);
    clear(&base, &[])?;
    fs::remove_dir(&base).unwrap_or_default();
    Ok(())
}

/// Detaches all that a daemon left in a directory that was killed, and what was bound from it (S93), but these places.
pub(super) fn clear(path: &Path, but: &[&Path]) -> Result<(), DaemonError> {
    let table = MountTable::read()?;
    let is_inside = |mount: &&Mount| {
        mount.mountpoint.starts_with(path) && !but.contains(&mount.mountpoint.as_path())
    };
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
    PrivateMounts::new(path.to_owned()).sweep(but);
    Ok(())
}
