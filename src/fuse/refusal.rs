//! Errors for what a process was asked before it died, where others have died of the same.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{read, write};

use super::handshake::resend;

/// The kernel gives nothing to who has less room than for the largest request that was agreed on, and its headers.
const MESSAGE_MAX: usize = (1 << 20) + (64 << 10);
/// The bit of a request's number that says that it was asked before (`FUSE_UNIQUE_RESEND`, `fuse.h`).
const ASKED_BEFORE: u64 = 1 << 63;
/// What needs no answer: `FUSE_FORGET`, `FUSE_INTERRUPT` and `FUSE_BATCH_FORGET`, `fuse.h`.
const WITHOUT_ANSWER: [u32; 3] = [2, 36, 42];

/// Answers with an error what was asked before and not answered. What was not asked before may be read here once: whoever calls this has the
/// kernel ask again afterwards.
pub(super) fn refuse(device: &OwnedFd) -> io::Result<()> {
    // What was asked before comes first.
    resend(device)?;
    let mut message = vec![0; MESSAGE_MAX];
    let mut refused = 0;
    while is_asked(device)? {
        let len = match read(device, &mut message) {
            Ok(len) => len,
            Err(Errno::EINTR | Errno::EAGAIN | Errno::ENOENT) => continue,
            Err(error) => return Err(error.into()),
        };
        let Some((operation, number)) = head(&message[..len]) else { break };
        if WITHOUT_ANSWER.contains(&operation) {
            continue;
        }
        if number & ASKED_BEFORE == 0 {
            break;
        }
        match write(device, &answer(number)) {
            // Whoever asked may be gone by now.
            Ok(_) | Err(Errno::ENOENT) => refused += 1,
            Err(error) => return Err(error.into()),
        }
    }
    tracing::warn!(refused, "requests that were left unanswered got an error");
    Ok(())
}

fn is_asked(device: &OwnedFd) -> io::Result<bool> {
    let mut asked = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
    match poll(&mut asked, PollTimeout::ZERO) {
        Ok(count) => Ok(count > 0),
        Err(Errno::EINTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// The operation and the number of a request.
fn head(message: &[u8]) -> Option<(u32, u64)> {
    let operation = message.get(4..8)?.try_into().ok()?;
    let number = message.get(8..16)?.try_into().ok()?;
    Some((u32::from_ne_bytes(operation), u64::from_ne_bytes(number)))
}

/// The answer EIO.
fn answer(number: u64) -> [u8; 16] {
    let mut answer = [0; 16];
    answer[..4].copy_from_slice(&16_u32.to_ne_bytes());
    answer[4..8].copy_from_slice(&(-libc::EIO).to_ne_bytes());
    answer[8..].copy_from_slice(&number.to_ne_bytes());
    answer
}
