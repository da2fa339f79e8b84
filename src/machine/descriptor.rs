//! Descriptors of `/dev/fuse` that come from elsewhere: over a socket, or inherited under a number.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use nix::sys::stat::{fstat, major, minor};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::MachineError;

/// The device number of `/dev/fuse` (`Documentation/admin-guide/devices.txt`).
const DEVICE: (u64, u64) = (10, 229);

/// The number in `/dev/fd/N`, by which a mount point says that the mount was made already, as in libfuse.
pub fn number_in(mountpoint: &Path) -> Option<RawFd> {
    let number = mountpoint.to_str()?.strip_prefix("/dev/fd/")?;
    number.parse().ok().filter(|number| *number >= 0)
}

/// Takes over an inherited descriptor of `/dev/fuse`. Its number is closed.
///
/// # Errors
/// There is no descriptor of this number, or it is of something else.
pub fn take(number: RawFd) -> Result<OwnedFd, MachineError> {
    let taken = borrow(number)?;
    expect_device(&taken, &format!("descriptor {number}"))?;
    let failed = |error: io::Error| failed(number, &error);
    nix::unistd::close(number).map_err(io::Error::from).map_err(failed)?;
    Ok(taken)
}

/// Another descriptor of what was inherited under a number.
///
/// # Errors
/// There is no descriptor of this number.
pub fn borrow(number: RawFd) -> Result<OwnedFd, MachineError> {
    let failed = |error: io::Error| failed(number, &error);
    // Sent to ourselves: that makes an owner of a number, and says whether there is such a descriptor.
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    send_number(&theirs, number).map_err(failed)?;
    let taken = receive(&ours).map_err(failed)?;
    taken.ok_or_else(|| failed(io::ErrorKind::UnexpectedEof.into()))
}

fn failed(number: RawFd, error: &io::Error) -> MachineError {
    let reason = error.to_string();
    MachineError::Descriptor { origin: format!("descriptor {number}"), reason }
}

/// Checks that a descriptor is one of `/dev/fuse`.
///
/// # Errors
/// It is not.
pub fn expect_device(descriptor: &OwnedFd, origin: &str) -> Result<(), MachineError> {
    let device = fstat(descriptor).map(|found| (major(found.st_rdev), minor(found.st_rdev)));
    if device == Ok(DEVICE) {
        return Ok(());
    }
    let reason = "is not one of `/dev/fuse`".to_owned();
    Err(MachineError::Descriptor { origin: origin.to_owned(), reason })
}

/// The number of the connection that a descriptor of `/dev/fuse` is of; `None` where the kernel does not say it.
pub fn connection(device: &OwnedFd) -> Option<u32> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", device.as_raw_fd())).ok()?;
    connection_in(&info)
}

/// The same from what `/proc/PID/fdinfo` says of a descriptor, since Linux 6.18 (`fuse_dev_show_fdinfo`, `fs/fuse/dev.c`).
pub(super) fn connection_in(info: &str) -> Option<u32> {
    let number = info.lines().find_map(|line| line.strip_prefix("fuse_connection:"))?;
    number.trim().parse().ok()
}

/// Whether the connection of a descriptor of `/dev/fuse` has ended (`fuse_dev_poll`, `fs/fuse/dev.c`).
pub fn has_ended(device: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(device.as_fd(), PollFlags::empty())];
    let ended = |polled: &PollFd<'_>| {
        polled.revents().is_some_and(|events| events.contains(PollFlags::POLLERR))
    };
    poll(&mut polled, PollTimeout::ZERO).is_ok() && ended(&polled[0])
}

/// Sends a text with a descriptor to a datagram socket.
///
/// # Errors
/// Nobody takes it there.
pub fn send_text(socket: &Path, text: &str, descriptor: impl AsFd) -> io::Result<()> {
    let sender = UnixDatagram::unbound()?;
    let address = UnixAddr::new(socket)?;
    let numbers = [descriptor.as_fd().as_raw_fd()];
    let (parts, message) = ([IoSlice::new(text.as_bytes())], [ControlMessage::ScmRights(&numbers)]);
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg(sender.as_raw_fd(), &parts, &message, flags, Some(&address))?;
    Ok(())
}

/// Sends a descriptor.
///
/// # Errors
/// The other side is gone.
pub fn send(socket: &UnixStream, descriptor: impl AsFd) -> io::Result<()> {
    send_number(socket, descriptor.as_fd().as_raw_fd())
}

fn send_number(socket: &UnixStream, number: RawFd) -> io::Result<()> {
    // One byte goes with it: nothing is sent without.
    let parts = [IoSlice::new(b"F")];
    let numbers = [number];
    let message = [ControlMessage::ScmRights(&numbers)];
    sendmsg::<()>(socket.as_raw_fd(), &parts, &message, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives one descriptor; `None` if the other side closed without sending one.
///
/// # Errors
/// The kernel refused, or a deadline of the socket has passed.
pub fn receive(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0_u8; 1];
    loop {
        let mut parts = [IoSliceMut::new(&mut byte)];
        match recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let received = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(received)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_side_that_closes_without_a_descriptor_sent_none() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert!(receive(&ours).unwrap().is_none());
    }

    #[test]
    fn only_a_descriptor_of_the_device_is_taken() {
        assert_eq!(number_in(Path::new("/dev/fd/7")), Some(7));
        for path in ["/dev/fd/x", "/dev/fd/-1", "/dev/fd/7/x", "/mnt"] {
            assert_eq!(number_in(Path::new(path)), None, "{path}");
        }
        assert!(take(9999).unwrap_err().to_string().contains("9999"));
        let other = File::open("/dev/null").unwrap();
        let error = take(other.as_raw_fd()).unwrap_err();
        assert!(error.to_string().contains("/dev/fuse"), "{error}");
        assert!(other.metadata().is_ok(), "what is not taken stays open");
    }
}
