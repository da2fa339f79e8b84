//! One connection: a request is read, answered, and the connection ended. Nothing here ever waits.

use std::io::{self, Read, Write};
use std::mem;
use std::net::{self, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::PollFlags;

use super::Observed;
use super::answer::{HEAD_MAX, answer};

/// How long a client may take to send its request.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client may take to read its answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client that has its answer may take to close the connection.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// A client, until its deadline.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    deadline: Instant,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// The client sends its request. What it has sent so far.
    Reading(Vec<u8>),
    /// The client reads its answer. What it has yet to read.
    Writing(Vec<u8>),
    /// The client has its answer. Whatever it goes on sending is read and dropped. If it were left unread, the kernel would reset the
    /// connection when it is closed, and the client might lose the answer.
    Lingering,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            deadline: Instant::now() + READ_TIMEOUT,
            phase: Phase::Reading(Vec::new()),
        })
    }

    /// When it is cut off.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What it waits for.
    pub(super) fn waits_for(&self) -> PollFlags {
        match self.phase {
            Phase::Reading(_) | Phase::Lingering => PollFlags::POLLIN,
            Phase::Writing(_) => PollFlags::POLLOUT,
        }
    }

    /// Does what can be done now. False once it is over.
    pub(super) fn advance(&mut self, observed: &dyn Observed) -> bool {
        self.try_advance(observed).unwrap_or_else(|error| {
            matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
        })
    }

    fn try_advance(&mut self, observed: &dyn Observed) -> io::Result<bool> {
        match &mut self.phase {
            Phase::Reading(sent) => {
                let mut chunk = [0_u8; HEAD_MAX];
                let count = self.stream.read(&mut chunk)?;
                sent.extend_from_slice(&chunk[..count]);
                if count == 0 {
                    return Ok(false);
                }
                let Some(answer) = answer(sent, observed) else { return Ok(true) };
                self.enter(Phase::Writing(answer), WRITE_TIMEOUT);
                self.try_advance(observed)
            }
            Phase::Writing(left) => {
                while !left.is_empty() {
                    let count = self.stream.write(left)?;
                    if count == 0 {
                        return Ok(false);
                    }
                    *left = left.split_off(count);
                }
                self.stream.shutdown(net::Shutdown::Write)?;
                self.enter(Phase::Lingering, LINGER_TIMEOUT);
                Ok(true)
            }
            // One piece at a time, so that whoever sends without end has no more than its turn.
            Phase::Lingering => Ok(self.stream.read(&mut [0_u8; HEAD_MAX])? > 0),
        }
    }

    fn enter(&mut self, phase: Phase, patience: Duration) {
        drop(mem::replace(&mut self.phase, phase));
        self.deadline = Instant::now() + patience;
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
