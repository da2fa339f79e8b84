//! The line between a worker, which cannot mount, and the broker, which mounts for it.
//!
//! A pair of sockets that keep messages apart (`SOCK_SEQPACKET`). The keeper holds both ends: each worker gets the one, and each broker,
//! which is this program again with the same arguments, the other as its standard input. So both may die and be replaced.

use std::env;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::MachineError;
use super::keeper::failed;

/// Set for a broker, and for workers that have one: the number of their keeper.
pub(super) const MARKER: &str = "OVERLAYFS_MOUNT_BROKER_OF";
/// The most bytes of a message.
const MESSAGE_MAX: usize = 64 << 10;

/// One end of the line.
#[derive(Debug)]
pub struct Line(OwnedFd);

/// What comes over it.
#[derive(Debug)]
pub struct Message {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The descriptor that came with it.
    pub descriptor: Option<OwnedFd>,
}

/// Both ends of a new line.
///
/// # Errors
/// The kernel has none.
pub fn pair() -> Result<(Line, Line), MachineError> {
    let (kind, flags) = (SockType::SeqPacket, SockFlag::SOCK_CLOEXEC);
    let ends = socketpair(AddressFamily::Unix, kind, None, flags).map_err(io::Error::from);
    let (one, other) = ends.map_err(failed("making the broker's line"))?;
    Ok((Line(one), Line(other)))
}

/// Whether a process with this marker was started by the keeper that is its parent.
fn is_ours() -> bool {
    env::var(MARKER).is_ok_and(|keeper| keeper == nix::unistd::getppid().to_string())
}

/// Whether the keeper of this worker has a broker for it.
pub fn is_there() -> bool {
    is_ours()
}

/// The line of this process, if it was started to be a broker. Takes it away from standard input.
///
/// # Errors
/// Standard input is not the line.
pub fn find() -> Result<Option<Line>, MachineError> {
    if !is_ours() || env::var_os(super::keeper::MARKER).is_some() {
        return Ok(None);
    }
    let line = io::stdin().as_fd().try_clone_to_owned().map_err(failed("taking the line"))?;
    let null = File::open("/dev/null").map_err(failed("/dev/null"))?;
    dup2_stdin(null).map_err(io::Error::from).map_err(failed("standard input"))?;
    Ok(Some(Line(line)))
}

/// Has the signals that end a daemon pass by this process: it ends with its line, after all that is to be taken away.
///
/// # Errors
/// The kernel refused.
pub fn outlast_signals() -> Result<(), MachineError> {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let noted = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal, noted).map_err(failed("taking over signals"))?;
    }
    Ok(())
}

/// Lets go of what the caller waits for.
///
/// # Errors
/// The kernel refused.
pub fn let_go_of_output() -> Result<(), MachineError> {
    let null = File::options().write(true).open("/dev/null").map_err(failed("/dev/null"))?;
    dup2_stdout(&null).map_err(io::Error::from).map_err(failed("standard output"))?;
    dup2_stderr(&null).map_err(io::Error::from).map_err(failed("standard error"))
}

impl Line {
    /// Takes an end that was handed over.
    pub fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Sends a message, with a descriptor if one is given.
    ///
    /// # Errors
    /// Nobody is at the other end.
    pub fn send(&self, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        self.send_with(bytes, descriptor, MsgFlags::MSG_NOSIGNAL)
    }

    /// Sends a message if it need not be waited for: who does not listen does not get it.
    pub fn notify(&self, bytes: &[u8]) {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        self.send_with(bytes, None, flags).unwrap_or_default();
    }

    fn send_with(
        &self,
        bytes: &[u8],
        descriptor: Option<BorrowedFd<'_>>,
        flags: MsgFlags,
    ) -> io::Result<()> {
        let numbers: Vec<_> = descriptor.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let rights = if numbers.is_empty() { &[][..] } else { &rights[..] };
        loop {
            let parts = [IoSlice::new(bytes)];
            match sendmsg::<()>(self.0.as_raw_fd(), &parts, rights, flags, None) {
                Ok(_) => return Ok(()),
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for a message; `None` once nobody is at the other end. One that is empty or too long is passed over.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn receive(&self) -> io::Result<Option<Message>> {
        loop {
            let mut bytes = vec![0; MESSAGE_MAX];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [IoSliceMut::new(&mut bytes)];
            let received = match recvmsg(&self.0, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)
            {
                Ok(received) => received,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let descriptor = control.drain().find_map(|message| match message {
                RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
                _ => None,
            });
            if received.bytes == 0 && self.has_ended() {
                return Ok(None);
            }
            let is_whole = !received.flags.contains(rustix::net::ReturnFlags::TRUNC);
            if received.bytes > 0 && is_whole {
                bytes.truncate(received.bytes);
                return Ok(Some(Message { bytes, descriptor }));
            }
        }
    }

    /// Throws away what has come until now.
    pub fn drain(&self) {
        let has_come = || {
            let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            let is_in = |polled: &PollFd<'_>| {
                let events = polled.revents().unwrap_or(PollFlags::empty());
                events.contains(PollFlags::POLLIN) && !events.contains(PollFlags::POLLHUP)
            };
            poll(&mut polled, PollTimeout::ZERO).is_ok() && is_in(&polled[0])
        };
        while has_come() && self.receive().is_ok_and(|message| message.is_some()) {}
    }

    fn has_ended(&self) -> bool {
        let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::empty())];
        let is_gone = |polled: &PollFd<'_>| {
            polled.revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
        };
        poll(&mut polled, PollTimeout::ZERO).is_ok() && is_gone(&polled[0])
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_stay_apart_and_descriptors_come_with_theirs() {
        let (ours, theirs) = pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        ours.send(b"one", None).unwrap();
        ours.send(b"", None).unwrap();
        ours.send(b"two", Some(file.as_fd())).unwrap();
        let one = theirs.receive().unwrap().unwrap();
        assert!(one.bytes == b"one" && one.descriptor.is_none());
        let two = theirs.receive().unwrap().unwrap();
        assert!(two.bytes == b"two" && two.descriptor.is_some());
        ours.send(b"old", None).unwrap();
        ours.send(b"older", None).unwrap();
        theirs.drain();
        ours.send(b"new", None).unwrap();
        assert_eq!(theirs.receive().unwrap().unwrap().bytes, b"new");
        drop(ours);
        assert!(theirs.receive().unwrap().is_none());
        assert!(find().unwrap().is_none() && !is_there(), "nobody has started this process so");
    }
}
