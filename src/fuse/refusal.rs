//! Errors for the requests that a process left unanswered when it died, where several have died in a row: the requests may be the cause.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{read, write};

use super::handshake::resend;
use super::wire::{RequestHeader, error_reply};

/// The kernel refuses to give a request to a reader that has no room for the largest request that was agreed on, with its headers.
const MESSAGE_MAX: usize = (1 << 20) + (64 << 10);
/// The bit of a request's number that says that it was sent before (`FUSE_UNIQUE_RESEND`, `fuse.h`).
const SENT_BEFORE: u64 = 1 << 63;
/// The opcodes of requests that get no reply: `FUSE_FORGET`, `FUSE_INTERRUPT` and `FUSE_BATCH_FORGET`, `fuse.h`.
const WITHOUT_REPLY: [u32; 3] = [2, 36, 42];

/// Answers every request with an error that was sent before and not answered. The last one that is read may be a new one, and is left
/// unanswered: whoever calls this has the kernel send again afterwards.
pub(super) fn refuse(device: &OwnedFd) -> io::Result<()> {
    // What was sent before comes first.
    resend(device)?;
    let mut message = vec![0; MESSAGE_MAX];
    let mut refused = 0;
    while has_request(device)? {
        let len = match read(device, &mut message) {
            Ok(len) => len,
            Err(Errno::EINTR | Errno::EAGAIN | Errno::ENOENT) => continue,
            Err(error) => return Err(error.into()),
        };
        let Some(header) = RequestHeader::read(&message[..len]) else { break };
        if WITHOUT_REPLY.contains(&header.opcode) {
            continue;
        }
        if header.unique & SENT_BEFORE == 0 {
            break;
        }
        match write(device, &error_reply(header.unique, libc::EIO)) {
            // Whoever asked may be gone by now.
            Ok(_) | Err(Errno::ENOENT) => refused += 1,
            Err(error) => return Err(error.into()),
        }
    }
    tracing::warn!(refused, "requests that were left unanswered got an error");
    Ok(())
}

fn has_request(device: &OwnedFd) -> io::Result<bool> {
    let mut asked = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
    match poll(&mut asked, PollTimeout::ZERO) {
        Ok(count) => Ok(count > 0),
        Err(Errno::EINTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
