//! The door for machines: HTTP with the metrics and the health of this process.
//!
//! One thread answers all connections and never waits for a single one. The number of connections, what each may send and how long it may
//! take are bounded. Where there are too many, the oldest is closed, so that a client that asks at once is always answered. What is
//! answered is the process's matter: it implements [`Observed`].

mod address;
mod answer;
mod connection;

#[cfg(test)]
mod tests;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Shutdown, shutdown};

pub use self::address::{Address, AddressError};
#[cfg(any(test, fuzzing))]
pub(super) use self::answer::answer;
use self::connection::Connection;
use super::ControlError;
use super::metrics::Page;

/// The most connections that are open at a time.
const CONNECTIONS_MAX: usize = 64;
/// The most connections that are taken before those that are open have their turn.
const ACCEPTED_AT_ONCE: usize = 16;
/// How long no connection is accepted after accepting one has failed: most likely the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a process tells those who observe it. Asked by one thread, which must not be kept waiting.
pub trait Observed: Send + Sync + 'static {
    /// What it counts.
    fn metrics(&self) -> Page;

    /// Whether it can do its work at all.
    ///
    /// # Errors
    /// What has ended: only starting it again helps.
    fn health(&self) -> Result<(), String>;

    /// Whether it does its work now.
    ///
    /// # Errors
    /// What it waits for.
    fn readiness(&self) -> Result<(), String>;
}

/// An address that is answered until this is dropped.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    listener: Arc<TcpListener>,
    is_stopping: Arc<AtomicBool>,
    answering: Option<JoinHandle<()>>,
}

impl HttpServer {
    /// Listens, and answers from now on.
    ///
    /// # Errors
    /// The address is taken, or none of this machine.
    pub fn start(address: &Address, observed: Arc<dyn Observed>) -> Result<Self, ControlError> {
        let failed = |error| ControlError::Bind { address: address.to_string(), error };
        let listener = Arc::new(address.bind().map_err(failed)?);
        listener.set_nonblocking(true).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let is_stopping = Arc::new(AtomicBool::new(false));
        let answering = thread::Builder::new().name("http".to_owned()).spawn({
            let (listener, is_stopping) = (listener.clone(), is_stopping.clone());
            move || {
                let mut connections = Connections {
                    listener: &listener,
                    observed: &*observed,
                    open: vec![],
                    paused_until: None,
                };
                while !is_stopping.load(Ordering::Acquire) {
                    connections.poll_once();
                }
            }
        });
        let answering = Some(answering.map_err(failed)?);
        Ok(Self { address: bound, listener, is_stopping, answering })
    }

    /// Where it listens; the port is the real one where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::Release);
        // Wakes the thread: `poll` sees a hang-up. Should that fail, the thread is left to itself.
        let is_woken = shutdown(self.listener.as_raw_fd(), Shutdown::Both).is_ok();
        if let Some(answering) = self.answering.take().filter(|_| is_woken) {
            answering.join().unwrap_or_default();
        }
    }
}

/// The listener, and all connections that are open.
struct Connections<'a> {
    listener: &'a TcpListener,
    observed: &'a dyn Observed,
    /// In the order in which they came.
    open: Vec<Connection>,
    /// Until when no connection is accepted.
    paused_until: Option<Instant>,
}

impl Connections<'_> {
    /// Waits until something can be done, and does it.
    fn poll_once(&mut self) {
        let mut ready = self.wait().into_iter();
        let is_somebody_there = ready.next().unwrap_or(false);
        let now = Instant::now();
        let observed = self.observed;
        self.open.retain_mut(|connection| {
            let is_ready = ready.next().unwrap_or(false);
            (!is_ready || connection.advance(observed)) && connection.deadline() > now
        });
        self.paused_until = self.paused_until.filter(|until| *until > now);
        if is_somebody_there && self.paused_until.is_none() {
            self.accept();
        }
    }

    /// Waits, and tells of the listener and then of each connection whether there is something to do.
    fn wait(&self) -> Vec<bool> {
        let accepting =
            if self.paused_until.is_some() { PollFlags::empty() } else { PollFlags::POLLIN };
        let mut waited = vec![PollFd::new(self.listener.as_fd(), accepting)];
        waited.extend(self.open.iter().map(|one| PollFd::new(one.as_fd(), one.waits_for())));
        let deadlines = self.open.iter().map(Connection::deadline).chain(self.paused_until);
        let timeout = deadlines.min().map_or(PollTimeout::NONE, |first| {
            // A millisecond more: the kernel's clock is coarser than ours.
            let left = first.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut waited, timeout) {
            Ok(_) => waited.iter().map(|one| one.any().unwrap_or(true)).collect(),
            Err(Errno::EINTR) => Vec::new(),
            Err(error) => {
                tracing::warn!(%error, "metrics: connections cannot be waited for");
                thread::sleep(ACCEPT_PAUSE);
                Vec::new()
            }
        }
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTED_AT_ONCE {
            match self.listener.accept().and_then(|(stream, _)| Connection::new(stream)) {
                Ok(connection) => {
                    if self.open.len() >= CONNECTIONS_MAX {
                        drop(self.open.remove(0));
                    }
                    self.open.push(connection);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Whoever came has gone again.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::debug!(%error, "metrics: a connection cannot be accepted");
                    if !self.open.is_empty() {
                        drop(self.open.remove(0));
                    }
                    self.paused_until = Some(Instant::now() + ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }
}
