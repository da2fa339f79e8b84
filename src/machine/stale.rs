//! Mounts whose daemon is gone: finding out without hanging, and detaching them.

use std::collections::hash_map::RandomState;
use std::ffi::{CStr, CString};
use std::hash::BuildHasher;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, IntoRawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{ForkResult, fork};

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
/// A copy of this process asks. It is left behind where there is no answer: nothing can end it until the mount answers or its connection
/// is aborted ([`super::connections::abort`]), since who has asked the daemon of a FUSE file system waits for good.
pub fn probe(path: &Path, patience: Duration) -> Liveness {
    let name = format!(".overlayfs-mount-probe-{:016x}", RandomState::new().hash_one(0));
    let Ok(asked) = CString::new(path.join(name).into_os_string().into_vec()) else {
        return Liveness::Alive;
    };
    match ask(&asked, patience) {
        Ok(Some(libc::ENOTCONN | libc::ECONNABORTED)) => Liveness::Dead,
        Ok(Some(libc::EACCES)) => Liveness::Forbidden,
        Ok(Some(_)) => Liveness::Alive,
        Ok(None) | Err(_) => Liveness::Silent,
    }
}

/// The error of looking a name up, 0 for none; `None` if it takes longer than `patience`.
#[expect(unsafe_code, reason = "the copy calls nothing but the kernel")]
fn ask(asked: &CStr, patience: Duration) -> io::Result<Option<i32>> {
    let (mut reader, writer) = io::pipe()?;
    // SAFETY: `answer` takes no lock, which another thread might have held when it was copied: it neither allocates nor panics.
    let copy = match unsafe { fork() }? {
        ForkResult::Child => answer(asked, writer),
        ForkResult::Parent { child } => child,
    };
    drop(writer);
    let errno = is_readable(&reader, patience)?.then(|| {
        let mut errno = [0; 4];
        reader.read_exact(&mut errno).map(|()| i32::from_ne_bytes(errno))
    });
    if errno.is_none() {
        kill(copy, Signal::SIGKILL).unwrap_or_default();
    }
    // One that waits for the mount is collected when this process has ended. Somebody else may have collected it already.
    let flags = errno.is_none().then_some(WaitPidFlag::WNOHANG);
    waitpid(copy, flags).map(drop).unwrap_or_default();
    errno.transpose()
}

/// Looks a name up in the copy of a process, says with which error, and ends.
#[expect(unsafe_code, reason = "the copy calls nothing but the kernel")]
fn answer(asked: &CStr, writer: PipeWriter) -> ! {
    let mut found = MaybeUninit::<libc::stat>::uninit();
    let writer = writer.into_raw_fd();
    // SAFETY: all are calls of the kernel, on a descriptor, a text and places on the stack that are there. Whoever may wait for a mount
    // for good is to hold nothing of its caller's, a descriptor of the mount's connection say (before Linux 5.9 it does).
    unsafe {
        if let Some(below) = writer.unsigned_abs().checked_sub(1) {
            libc::syscall(libc::SYS_close_range, 0, below, 0);
        }
        libc::syscall(libc::SYS_close_range, writer.unsigned_abs() + 1, libc::c_uint::MAX, 0);
        let is_absent = libc::lstat(asked.as_ptr(), found.as_mut_ptr()) != 0;
        let errno = if is_absent { Errno::last_raw() } else { 0 }.to_ne_bytes();
        libc::write(writer, errno.as_ptr().cast(), errno.len());
        libc::_exit(0)
    }
}

fn is_readable(reader: &PipeReader, patience: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up, so that the last wait is not a busy one.
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1));
        let mut polled = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, timeout.unwrap_or(PollTimeout::MAX)) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
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
