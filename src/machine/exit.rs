//! Waiting for a process that is no child of ours.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::MachineError;

/// One certain process: its number may be given out again, this never means the other one.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    handle: OwnedFd,
}

impl Process {
    /// Takes hold of a process; `None` if there is none of this number.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn open(pid: u32) -> Result<Option<Self>, MachineError> {
        let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
        match pidfd_open(number, PidfdFlags::empty()) {
            Ok(handle) => Ok(Some(Self { pid, handle })),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(error) => Err(MachineError::Wait { pid, error: error.into() }),
        }
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// It has not ended after `patience`.
    pub fn wait(&self, patience: Duration) -> Result<(), MachineError> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up, so that the last wait is not a busy one.
            let timeout = PollTimeout::try_from(left + Duration::from_millis(1));
            let mut polled = [PollFd::new(self.handle.as_fd(), PollFlags::POLLIN)];
            match nix::poll::poll(&mut polled, timeout.unwrap_or(PollTimeout::MAX)) {
                Ok(1..) => return Ok(()),
                Ok(_) if left.is_zero() => {
                    return Err(MachineError::StillRunning { pid: self.pid });
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => {
                    return Err(MachineError::Wait {
                        pid: self.pid,
                        error: io::Error::from(error),
                    });
                }
            }
        }
    }
}

/// Waits until the process of this number has ended; at once if there is none.
///
/// Where the number may have been given out again since it was learned, [`Process::open`] it before asking the process to end.
///
/// # Errors
/// It has not ended after `patience`.
pub fn wait_for_exit(pid: u32, patience: Duration) -> Result<(), MachineError> {
    match Process::open(pid)? {
        Some(process) => process.wait(patience),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_end_of_a_process_is_seen_and_a_living_one_is_named() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::open(child.id()).unwrap().unwrap();
        let error = process.wait(Duration::from_millis(20)).unwrap_err();
        assert!(error.to_string().contains(&child.id().to_string()), "{error}");
        child.kill().unwrap();
        process.wait(Duration::from_secs(10)).unwrap();
        child.wait().unwrap();
        wait_for_exit(child.id(), Duration::ZERO).unwrap();
    }
}
