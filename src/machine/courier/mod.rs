//! Messages to the kernel that another process writes for the one that serves.
//!
//! Some have to wait until a request is answered. A process that is killed while it writes one does not end before that, and whoever
//! would answer is not started before it ends. So a worker's are written by its keeper, in a thread of its own for each worker, and those
//! of a daemon without a keeper by a process that is there for nothing else (`beside`). Neither looks into them: whoever holds
//! the descriptor, as the one that serves does, could write them itself.

mod beside;

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

pub use beside::{become_courier, is_meant, start_beside};

/// The most bytes that are carried at once: many messages with a name of up to 255 bytes, and what goes with it.
const MESSAGES_MAX: usize = 64 * 1024;
/// The head of each message, which begins with its length (`struct fuse_out_header`, `fuse.h`).
const HEAD: usize = 16;

/// The side of the one that serves.
#[derive(Debug)]
pub struct Courier {
    stream: Mutex<UnixStream>,
    /// The process that carries, where it was started for this.
    process: Option<Child>,
}

impl Courier {
    /// Takes the one end of a pair.
    pub fn new(stream: UnixStream) -> Self {
        Self { stream: Mutex::new(stream), process: None }
    }

    /// Has messages written, which stand one after the other; returns when the kernel has taken them all, what that said: `ENOENT` if it
    /// knows nothing of what one of them is about, and no other failed. `None` if nobody carries any more.
    pub fn carry(&self, messages: &[u8]) -> Option<io::Result<()>> {
        let len = u32::try_from(messages.len()).ok()?;
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        stream.write_all(&[&len.to_ne_bytes()[..], messages].concat()).ok()?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).ok()?;
        Some(match i32::from_ne_bytes(answer) {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        })
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        let Some(process) = &mut self.process else { return };
        let stream = self.stream.get_mut().unwrap_or_else(PoisonError::into_inner);
        // It may have ended.
        stream.shutdown(Shutdown::Both).unwrap_or_default();
        for _ in 0..ENDING_MS {
            if !matches!(process.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// How long a process that carries has to end once it is not needed any more.
const ENDING_MS: u32 = 1000;

/// Writes to `device` what comes over a new pair, until its other end, which is returned, is closed.
///
/// # Errors
/// No pair can be made, or no thread be started.
pub fn start(device: OwnedFd) -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    serve(ours, device)?;
    Ok(theirs)
}

/// Writes to `device` what comes over a stream, until its other end is closed.
///
/// # Errors
/// No thread can be started.
pub fn serve(stream: UnixStream, device: OwnedFd) -> io::Result<()> {
    let device = File::from(device);
    let carrying = move || while carry(&stream, &device).is_ok() {};
    thread::Builder::new().name("courier".into()).spawn(carrying).map(drop)
}

fn carry(mut stream: &UnixStream, mut device: &File) -> io::Result<()> {
    let mut len = [0; 4];
    stream.read_exact(&mut len)?;
    let len = u32::from_ne_bytes(len) as usize;
    if len > MESSAGES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut messages = vec![0; len];
    stream.read_exact(&mut messages)?;
    let (mut left, mut said) = (&messages[..], 0);
    while !left.is_empty() {
        let (message, rest) = split(left).ok_or(io::ErrorKind::InvalidData)?;
        match device.write(message).map_err(|error| error.raw_os_error()) {
            Ok(_) => {}
            Err(Some(libc::ENOENT)) if said != 0 => {}
            Err(error) => said = error.unwrap_or(libc::EIO),
        }
        left = rest;
    }
    stream.write_all(&said.to_ne_bytes())
}

/// The first message, and those that follow it.
fn split(messages: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = u32::from_ne_bytes(messages.get(..4)?.try_into().ok()?);
    messages.split_at_checked(len as usize).filter(|(message, _)| message.len() >= HEAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &[u8; 12]) -> Vec<u8> {
        [&16_u32.to_ne_bytes()[..], text].concat()
    }

    #[test]
    fn messages_arrive_one_by_one_and_an_error_comes_back() {
        let (mut reader, writer) = io::pipe().unwrap();
        let courier = Courier::new(start(writer.into()).unwrap());
        let both = [message(b"first       "), message(b"second      ")].concat();
        courier.carry(&both).unwrap().unwrap();
        let mut read = vec![0; both.len()];
        reader.read_exact(&mut read).unwrap();
        assert_eq!(read, both);
        drop(reader);
        let refused = courier.carry(&both).unwrap().unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPIPE));
    }

    #[test]
    fn what_is_too_long_or_no_message_is_not_written() {
        for wrong in [vec![0; MESSAGES_MAX + 1], vec![0; 16], 99_u32.to_ne_bytes().to_vec()] {
            let (_reader, writer) = io::pipe().unwrap();
            let courier = Courier::new(start(writer.into()).unwrap());
            assert!(courier.carry(&wrong).is_none());
        }
    }
}
