//! Mounts whose daemon is gone: finding out without hanging, and detaching them.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher;
use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::mountinfo::MountTable;
use super::{MachineError, dying, unmount};

/// What a mount answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// Its daemon answers.
    Alive,
    /// Its daemon is gone: what is not cached fails.
    Dead,
    /// It did not answer in time.
    Silent,
    /// This user may not ask it.
    Forbidden,
}

/// Asks a mount for a name that no cache can hold, and waits for at most `patience`.
///
/// The asking thread is left behind if there is no answer, and a process with such a thread may be unable to end until the mount
/// answers or its connection is aborted ([`super::connections::abort`]). A process that serves the mount must not ask it.
pub fn probe(path: &Path, patience: Duration) -> Liveness {
    let name = format!(".overlayfs-mount-probe-{:016x}", RandomState::new().hash_one(0));
    let asked = path.join(name);
    let (sender, receiver) = mpsc::sync_channel(1);
    let asking = thread::Builder::new().name("probe".to_owned()).spawn(move || {
        // The receiver may have gone away.
        sender.send(judge(fs::symlink_metadata(&asked))).unwrap_or_default();
    });
    match asking {
        Ok(_) => receiver.recv_timeout(patience).unwrap_or(Liveness::Silent),
        Err(_) => Liveness::Silent,
    }
}

fn judge(answer: io::Result<fs::Metadata>) -> Liveness {
    match answer.map_err(|error| error.raw_os_error()) {
        Err(Some(libc::ENOTCONN | libc::ECONNABORTED)) => Liveness::Dead,
        Err(Some(libc::EACCES)) => Liveness::Forbidden,
        Ok(_) | Err(_) => Liveness::Alive,
    }
}

/// Aborts and detaches the view on a path if all that served it were killed and one of them cannot end (`dying`). False if it is not so.
///
/// # Errors
/// This user may not abort or unmount it.
pub fn abort_abandoned(path: &Path) -> Result<bool, MachineError> {
    let table = MountTable::read()?;
    let mount = table.topmost_at(path).filter(|mount| mount.is_ours());
    if !mount.is_some_and(|mount| dying::is_abandoned(mount.minor)) {
        return Ok(false);
    }
    unmount::abort(path)?;
    Ok(true)
}

/// Detaches the view on a path, whether its daemon answers or not.
///
/// # Errors
/// No view of ours is there, or this user may not unmount it.
pub fn detach(path: &Path) -> Result<(), MachineError> {
    unmount::unmount(path, true)
}
