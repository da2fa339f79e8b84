//! Binding a directory of a mounted file system to another place, and hearing when mounts come or go.

use std::fs::File;
use std::io::{self, PipeWriter};
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;

use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::{MachineError, mount};

/// Makes a directory of a mounted file system appear at another place too, with the same restrictions.
///
/// # Errors
/// One of the two is not there, or this process may not mount.
pub fn bind(from: &Path, at: &Path) -> Result<(), MachineError> {
    let refused = |path: &Path, error: rustix::io::Errno| {
        mount::refused(path, Errno::from_raw(error.raw_os_error()))
    };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, from, flags).map_err(|error| refused(from, error))?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&tree, "", CWD, at, flags).map_err(|error| refused(at, error))
}

/// Keeps what is mounted or unmounted on a mount and on what is bound from it each for itself.
///
/// # Errors
/// Nothing is mounted there, or this process may not mount.
pub fn keep_apart(at: &Path) -> Result<(), MachineError> {
    nix::mount::mount(None::<&str>, at, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(|error| mount::refused(at, error))
}

/// Notices of mounts that come and go, until this is dropped.
#[derive(Debug)]
pub struct MountNotices {
    /// Closing it ends the thread.
    _alive: PipeWriter,
}

impl MountNotices {
    /// Calls `notice`, by another thread, whenever a mount of this process's name space came or went (`proc_pid_mounts(5)`).
    ///
    /// # Errors
    /// `/proc` is not mounted, or there can be no thread.
    pub fn start(notice: impl Fn() + Send + 'static) -> io::Result<Self> {
        let mounts = File::open("/proc/self/mountinfo")?;
        let (ended, alive) = io::pipe()?;
        thread::Builder::new().name("mounts".into()).spawn(move || {
            loop {
                let mut ready = [
                    PollFd::new(mounts.as_fd(), PollFlags::POLLPRI),
                    PollFd::new(ended.as_fd(), PollFlags::POLLIN),
                ];
                match poll(&mut ready, PollTimeout::NONE) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(error) => return tracing::debug!(%error, "no notices of mounts"),
                }
                if ready[1].revents().is_some_and(|events| !events.is_empty()) {
                    return;
                }
                if ready[0].revents().is_some_and(|events| events.contains(PollFlags::POLLPRI)) {
                    notice();
                }
            }
        })?;
        Ok(Self { _alive: alive })
    }
}
