//! A session: a mounted descriptor, threads that answer it, and its end.

use std::io;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, JoinHandle};

use fuser::{Config, Session, SessionACL};
use thiserror::Error;

use super::counts::Counts;
use super::filesystem::Filesystem;
use super::handshake::{self, Agreed};
use super::kernel::{Courier, KernelCache};
use super::passthrough::Passthrough;
use crate::view::{Journal, Superblock};

/// Who owns every file of a superblock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// A superblock that is being served.
#[derive(Debug)]
pub struct Served {
    /// What the kernel has cached. Never to be used from a request.
    pub kernel: KernelCache,
    /// Requests so far.
    pub counts: Arc<Counts>,
    /// Can be upgraded for as long as the kernel is answered.
    pub alive: Weak<()>,
    failure: Arc<OnceLock<io::Error>>,
    thread: JoinHandle<()>,
}

impl Served {
    /// True once the mount is gone and every thread has ended.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Why the kernel is answered by fewer threads than it should be, or by none, although the mount may be there.
    pub fn failure(&self) -> Option<SessionError> {
        self.failure.get().map(failed)
    }

    /// Waits until the mount is gone.
    ///
    /// # Errors
    /// A thread of the session failed.
    pub fn wait(self) -> Result<(), SessionError> {
        if self.thread.join().is_err() {
            return Err(SessionError::Panicked);
        }
        self.failure.get().map_or(Ok(()), |cause| Err(failed(cause)))
    }
}

/// Why a session did not start or did not end well.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The kernel and we did not agree on a protocol.
    #[error("the FUSE handshake with the kernel failed: {0}")]
    Handshake(io::Error),
    /// The kernel reads no files for a FUSE file system.
    #[error("this kernel has no FUSE passthrough")]
    NoPassthrough,
    /// No thread could be started.
    #[error("starting the threads that answer the kernel failed: {0}")]
    Threads(io::Error),
    /// Reading requests failed while the mount was there.
    #[error("reading requests from the kernel failed: {0}")]
    Ended(io::Error),
    /// Another program has served this mount before, and told the kernel something else about itself.
    #[error(
        "this program speaks to the kernel in another way than the one that served the mount before"
    )]
    OtherAgreement,
    /// The kernel cannot ask again what was left unanswered.
    #[error("the kernel cannot send again what was left unanswered (that needs Linux 6.9): {0}")]
    NoResend(io::Error),
    /// What was agreed with the kernel could not be written down.
    #[error("writing down what was agreed with the kernel failed: {0}")]
    Unwritten(io::Error),
    /// A thread of the session panicked.
    #[error("a thread that answers the kernel panicked")]
    Panicked,
}

/// The fewest threads: one that waits for a slow object must not stop the others.
const FEWEST_THREADS: usize = 4;

/// How many threads answer the kernel.
fn answering() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get).max(FEWEST_THREADS)
}

/// How many threads a session has.
pub fn threads() -> usize {
    answering() + 1
}

/// The buffer of each thread that reads requests: the library's, for a request that writes as much as it lets the kernel write.
pub const BUFFER_BYTES: usize = (16 << 20) + 4096;

/// The buffers that the threads of so many sessions begin with, by their sizes in bytes.
pub fn buffers(sessions: usize) -> Vec<usize> {
    vec![BUFFER_BYTES; sessions * answering()]
}

/// How a session begins.
#[derive(Debug, Clone, Copy)]
pub enum Beginning<'a> {
    /// With the handshake, on a mount that was just made.
    First,
    /// The same, and what was agreed on is written down for a process that takes the mount over.
    Recorded(&'a Journal),
    /// Where a process that was killed has left the mount.
    TakenOver(Agreed<'a>),
}

/// How a view is served.
pub struct Serving<'a> {
    /// Who owns every file.
    pub owner: Owner,
    /// Whether large files are handed to the kernel.
    pub passthrough: Option<Passthrough>,
    /// Where the session begins.
    pub beginning: Beginning<'a>,
    /// Who tells the kernel what flips change, without one this process does; and gives it files before it asks.
    pub courier: Option<Courier>,
}

impl Serving<'_> {
    /// Without anything beyond what is needed.
    pub fn alone(owner: Owner) -> Self {
        Self { owner, passthrough: None, beginning: Beginning::First, courier: None }
    }
}

/// Why the library did not take the handshake.
pub(super) fn refused(error: io::Error, has_passthrough: bool) -> SessionError {
    match error.kind() {
        io::ErrorKind::Unsupported if has_passthrough => SessionError::NoPassthrough,
        _ => SessionError::Handshake(error),
    }
}

/// What a session failed of. Requests are waited for: only a thread that could not be started is put off.
fn failed(cause: &io::Error) -> SessionError {
    let copy = cause.raw_os_error().map_or_else(
        || io::Error::new(cause.kind(), cause.to_string()),
        io::Error::from_raw_os_error,
    );
    match cause.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => SessionError::Threads(copy),
        _ => SessionError::Ended(copy),
    }
}

/// Answers the kernel's requests on a mounted `/dev/fuse` descriptor until the mount is gone.
///
/// # Errors
/// The handshake fails, the kernel lacks what was asked for, the mount cannot be taken over, or no thread can be started.
pub fn serve(
    views: Arc<Superblock>,
    fd: OwnedFd,
    serving: Serving<'_>,
) -> Result<Served, SessionError> {
    let Serving { owner, passthrough, beginning, courier } = serving;
    let counts = Arc::new(Counts::default());
    let mut config = Config::default();
    let threads = answering();
    config.n_threads = Some(threads);
    tracing::debug!(threads, "session starts");
    let has_passthrough = passthrough.is_some();
    let filesystem = Filesystem::new(views, owner, counts.clone(), passthrough, courier.clone());
    let session = match beginning {
        // The kernel itself refuses others when the mount is not shared; a second check here would refuse root.
        Beginning::First => Session::from_fd(filesystem, fd, SessionACL::All, config)
            .map_err(|error| refused(error, has_passthrough))?,
        Beginning::Recorded(journal) => {
            handshake::begin(filesystem, &fd, config, journal, has_passthrough)?
        }
        Beginning::TakenOver(agreed) => {
            handshake::take_over(filesystem, &fd, config, agreed, has_passthrough)?
        }
    };
    let kernel = KernelCache::new(session.notifier(), courier);
    let life = Arc::new(());
    let alive = Arc::downgrade(&life);
    let failure = Arc::<OnceLock<_>>::default();
    let found = failure.clone();
    let thread = thread::Builder::new().name("session".into()).spawn(move || {
        if let Err(cause) = session.run() {
            found.get_or_init(|| cause);
        }
        // Goes with the thread, also by a panic.
        drop(life);
    });
    let thread = thread.map_err(SessionError::Threads)?;
    Ok(Served { kernel, counts, alive, failure, thread })
}
