//! The handshake with the kernel. It happens once in the life of a mount: a process that takes a mount over must not repeat it.
//!
//! But the FUSE library always reads a first message and answers it. So we hand it the kernel's first message over a pair of sockets, read
//! its answer, and then put the kernel's descriptor in the place of its socket. The first process passes the answer on to the kernel; a
//! later one only compares it with what the first has written down.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use fuser::{Config, Session, SessionACL};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{dup2, read, write};

use super::filesystem::Filesystem;
use super::refusal::refuse;
use super::session::{SessionError, refused};
use super::wire::{NOTIFY_RESEND, REQUEST_HEADER_BYTES, RequestHeader, notification, word};
use crate::view::Journal;

/// What is certainly enough for the first message, and what the kernel wants to see offered (`FUSE_MIN_READ_BUFFER`, `fuse.h`).
const MESSAGE_MAX: usize = 64 * 1024;
/// The operation that the first message asks for (`FUSE_INIT`, `fuse.h`).
const INIT: u32 = 26;
/// The protocol that all kernels speak, for good (`FUSE_KERNEL_VERSION`, `fuse.h`).
const MAJOR: u32 = 7;

/// What the kernel and the process that served it first have agreed on.
#[derive(Debug, Clone, Copy)]
pub struct Agreed<'a> {
    /// The kernel's first message.
    pub request: &'a [u8],
    /// The answer that it got.
    pub reply: &'a [u8],
    /// Whether what that process has left unanswered gets an error.
    pub is_to_refuse: bool,
}

/// Makes a session of a mount that was just made, and writes down what it and the kernel agree on.
pub(super) fn begin(
    filesystem: Filesystem,
    device: &OwnedFd,
    config: Config,
    journal: &Journal,
    has_passthrough: bool,
) -> Result<Session<Filesystem>, SessionError> {
    let mut message = vec![0; MESSAGE_MAX];
    let len = loop {
        match read(device, &mut message) {
            Ok(len) => break len,
            Err(Errno::EINTR | Errno::EAGAIN | Errno::ENOENT) => {}
            Err(error) => return Err(SessionError::Handshake(error.into())),
        }
    };
    message.truncate(len);
    let (session, reply) = answered(filesystem, &message, config, has_passthrough)?;
    write(device, &reply).map_err(|error| SessionError::Handshake(error.into()))?;
    journal.agreed(&message, &reply).map_err(SessionError::Unwritten)?;
    give(&session, device)?;
    Ok(session)
}

/// Makes a session of a mount that another process has served, and has the kernel ask again what that one left unanswered.
pub(super) fn take_over(
    filesystem: Filesystem,
    device: &OwnedFd,
    config: Config,
    agreed: Agreed<'_>,
    has_passthrough: bool,
) -> Result<Session<Filesystem>, SessionError> {
    let (session, reply) = answered(filesystem, agreed.request, config, has_passthrough)?;
    if reply != agreed.reply {
        return Err(SessionError::OtherAgreement);
    }
    give(&session, device)?;
    if agreed.is_to_refuse {
        refuse(device).map_err(SessionError::NoResend)?;
    }
    resend(device).map_err(SessionError::NoResend)?;
    Ok(session)
}

/// A session that has read the first message from us, and its answer.
fn answered(
    filesystem: Filesystem,
    request: &[u8],
    config: Config,
    has_passthrough: bool,
) -> Result<(Session<Filesystem>, Vec<u8>), SessionError> {
    let failed = |error: Errno| SessionError::Handshake(error.into());
    let opcode = RequestHeader::read(request).map(|header| header.opcode);
    // The version follows the header.
    let numbers = (opcode, word(request, REQUEST_HEADER_BYTES));
    if numbers != (Some(INIT), Some(MAJOR)) {
        // The library would wait for another message, which never comes.
        let unknown = format!("the kernel began with {numbers:?}, not with ({INIT}, {MAJOR})");
        return Err(SessionError::Handshake(io::Error::other(unknown)));
    }
    let (kind, flags) = (SockType::SeqPacket, SockFlag::SOCK_CLOEXEC);
    let (ours, theirs) = socketpair(AddressFamily::Unix, kind, None, flags).map_err(failed)?;
    write(&ours, request).map_err(failed)?;
    let session = Session::from_fd(filesystem, theirs, SessionACL::All, config);
    let session = session.map_err(|error| refused(error, has_passthrough))?;
    let mut reply = vec![0; MESSAGE_MAX];
    let len = read(&ours, &mut reply).map_err(failed)?;
    reply.truncate(len);
    Ok((session, reply))
}

/// Puts the kernel's descriptor in the place of a session's socket.
#[expect(unsafe_code, reason = "the session owns its descriptor and lends it only")]
fn give(session: &Session<Filesystem>, device: &OwnedFd) -> Result<(), SessionError> {
    // SAFETY: the number is open and the session's; it is neither closed nor given away by this value, which is never dropped, and
    // `dup2` leaves it open. Nobody reads or writes it yet: the session runs later.
    let number = unsafe { OwnedFd::from_raw_fd(session.as_fd().as_raw_fd()) };
    let mut place = ManuallyDrop::new(number);
    dup2(device, &mut place).map_err(|error| SessionError::Handshake(error.into()))
}

/// Has the kernel ask again whatever was read and never answered (`FUSE_NOTIFY_RESEND`, Linux 6.9).
pub(super) fn resend(device: impl AsFd) -> io::Result<()> {
    write(device, &notification(NOTIFY_RESEND, &[]))?;
    Ok(())
}
