//! Messages to the kernel that another process writes for the one that serves.
//!
//! Some have to wait until a request is answered. A process that is killed while it writes one does not end before that, and whoever
//! would answer is not started before it ends. So a worker's are written by its keeper, in a thread of its own for each worker, and those
//! of a daemon without a keeper by a process that is there for nothing else ([`beside`]). Neither looks into them: whoever holds
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

/// The longest message: a name of 255 bytes and what goes with it, and room for what may come.
const MESSAGE_MAX: usize = 4096;

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

    /// Has a message written; returns when the kernel has taken it, what that said. `None` if nobody carries any more.
    pub fn carry(&self, message: &[u8]) -> Option<io::Result<()>> {
        let len = u32::try_from(message.len()).ok()?;
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        stream.write_all(&[&len.to_ne_bytes()[..], message].concat()).ok()?;
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
    let device = File::from(device);
    thread::Builder::new()
        .name("courier".into())
        .spawn(move || while carry(&ours, &device).is_ok() {})?;
    Ok(theirs)
}

fn carry(mut stream: &UnixStream, mut device: &File) -> io::Result<()> {
    let mut len = [0; 4];
    stream.read_exact(&mut len)?;
    let len = u32::from_ne_bytes(len) as usize;
    if len > MESSAGE_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; len];
    stream.read_exact(&mut message)?;
    let error = match device.write(&message) {
        Ok(_) => 0,
        Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
    };
    stream.write_all(&error.to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_whole_and_an_error_comes_back() {
        let (mut reader, writer) = io::pipe().unwrap();
        let courier = Courier::new(start(writer.into()).unwrap());
        courier.carry(b"message").unwrap().unwrap();
        let mut message = [0; 7];
        reader.read_exact(&mut message).unwrap();
        assert_eq!(&message, b"message");
        drop(reader);
        let refused = courier.carry(b"more").unwrap().unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPIPE));
    }

    #[test]
    fn what_is_too_long_is_not_written() {
        let (_reader, writer) = io::pipe().unwrap();
        let courier = Courier::new(start(writer.into()).unwrap());
        assert!(courier.carry(&[0; MESSAGE_MAX + 1]).is_none());
    }
}
