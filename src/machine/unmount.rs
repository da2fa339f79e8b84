//! Unmounting: refused with names while a mount is in use, and over only when the mount is gone.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use super::mountinfo::{Mount, MountTable};
use super::{MachineError, connections, fusermount, holders, user};

/// How long to search for holders.
const SEARCH: Duration = Duration::from_secs(5);
/// How long nobody may be found who holds a mount that is in use. Who looks a name up, as `doctor` does for a second at most, holds it
/// meanwhile, and nothing in `/proc` says so.
const MOMENT: Duration = Duration::from_secs(2);
/// How long a mount may be listed after it was unmounted.
const GONE: Duration = Duration::from_secs(5);

/// Unmounts the view on a path that [`super::mountpoint::resolve`] gave, and waits until it is gone.
///
/// `lazy` detaches it also while it is in use: no new access finds it, and those who hold it keep it.
///
/// # Errors
/// No view of ours is there; it is in use ([`MachineError::Busy`] with the holders' names); this user may not unmount it.
pub fn unmount(path: &Path, lazy: bool) -> Result<(), MachineError> {
    let Some(mount) = topmost_of_ours(path)? else {
        return Err(MachineError::NotMounted { path: path.to_owned() });
    };
    unmount_once_free(path, lazy)?;
    wait_until_gone(path, mount.id)
}

/// Aborts the connection of the view on a path and detaches it: requests under way fail, whoever holds it gets errors, nobody hangs.
///
/// With privileges this needs no control file system: a forced unmount aborts a FUSE connection, even if it then finds the mount in use.
///
/// # Errors
/// No view of ours is there, or this user may not abort or unmount it.
pub fn abort(path: &Path) -> Result<(), MachineError> {
    let Some(mount) = topmost_of_ours(path)? else {
        return Err(MachineError::NotMounted { path: path.to_owned() });
    };
    if user::has_sys_admin() {
        let flags = MntFlags::MNT_FORCE | MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
        umount2(path, flags)
            .map_err(|error| MachineError::Unmount { path: path.to_owned(), error })?;
    } else {
        connections::abort(mount.minor)?;
        fusermount::unmount(path, true)?;
    }
    wait_until_gone(path, mount.id)
}

fn topmost_of_ours(path: &Path) -> Result<Option<Mount>, MachineError> {
    Ok(MountTable::read()?.topmost_at(path).filter(|mount| mount.is_ours()).cloned())
}

/// Unmounts; waits for a moment where nobody is found who holds it.
fn unmount_once_free(path: &Path, lazy: bool) -> Result<(), MachineError> {
    let deadline = Instant::now() + MOMENT;
    let mut is_searched = false;
    loop {
        match unmount_once(path, lazy) {
            Err(MachineError::Busy { .. }) => {}
            outcome => return outcome,
        }
        let is_over = Instant::now() > deadline;
        // A search takes longer than a look-up, and is not to keep this from meeting the moment between two.
        if is_over || !is_searched {
            let holders = holders::find(path, SEARCH);
            if is_over || !holders.is_empty() {
                return Err(MachineError::Busy { path: path.to_owned(), holders });
            }
            is_searched = true;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Unmounts, or fails without a search for holders.
fn unmount_once(path: &Path, lazy: bool) -> Result<(), MachineError> {
    let busy = || MachineError::Busy { path: path.to_owned(), holders: Vec::new() };
    if !user::has_sys_admin() {
        return fusermount::unmount(path, lazy).map_err(|error| match error {
            MachineError::Fusermount { message, .. } if message.contains("busy") => busy(),
            error => error,
        });
    }
    let lazily = if lazy { MntFlags::MNT_DETACH } else { MntFlags::empty() };
    umount2(path, MntFlags::UMOUNT_NOFOLLOW | lazily).map_err(|error| match error {
        Errno::EBUSY => busy(),
        Errno::EINVAL | Errno::ENOENT => MachineError::NotMounted { path: path.to_owned() },
        error => MachineError::Unmount { path: path.to_owned(), error },
    })
}

fn wait_until_gone(path: &Path, id: u64) -> Result<(), MachineError> {
    let deadline = Instant::now() + GONE;
    while MountTable::read()?.at(path).any(|mount| mount.id == id && mount.is_ours()) {
        if Instant::now() > deadline {
            return Err(MachineError::StillMounted { path: path.to_owned() });
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
