//! A session: a mounted descriptor, threads that answer it, and its end.

use std::io;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};

use fuser::{Config, Session, SessionACL};
use thiserror::Error;

use super::counts::Counts;
use super::filesystem::Filesystem;
use super::kernel::KernelCache;
use crate::view::Superblock;

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
    thread: JoinHandle<io::Result<()>>,
}

impl Served {
    /// True once the mount is gone and every thread has ended.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until the mount is gone.
    ///
    /// # Errors
    /// A thread of the session failed.
    pub fn wait(self) -> Result<(), SessionError> {
        match self.thread.join() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(cause)) => Err(SessionError::Ended(cause)),
            Err(_panic) => Err(SessionError::Panicked),
        }
    }
}

/// Why a session did not start or did not end well.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The kernel and we did not agree on a protocol.
    #[error("the FUSE handshake with the kernel failed: {0}")]
    Handshake(io::Error),
    /// No thread could be started.
    #[error("starting the threads that answer the kernel failed: {0}")]
    Threads(io::Error),
    /// Reading requests failed while the mount was there.
    #[error("reading requests from the kernel failed: {0}")]
    Ended(io::Error),
    /// A thread of the session panicked.
    #[error("a thread that answers the kernel panicked")]
    Panicked,
}

/// The fewest threads: one that waits for a slow object must not stop the others.
const FEWEST_THREADS: usize = 4;

/// Answers the kernel's requests on a mounted `/dev/fuse` descriptor until the mount is gone.
///
/// # Errors
/// The handshake fails or no thread can be started.
pub fn serve(views: Arc<Superblock>, fd: OwnedFd, owner: Owner) -> Result<Served, SessionError> {
    let counts = Arc::new(Counts::default());
    let mut config = Config::default();
    let threads = thread::available_parallelism().map_or(1, NonZero::get).max(FEWEST_THREADS);
    config.n_threads = Some(threads);
    // The kernel itself refuses others when the mount is not shared; a second check here would refuse root.
    let acl = SessionACL::All;
    tracing::debug!(threads, "session starts");
    let filesystem = Filesystem::new(views, owner, counts.clone());
    let session = Session::from_fd(filesystem, fd, acl, config).map_err(SessionError::Handshake)?;
    let kernel = KernelCache::new(session.notifier());
    let life = Arc::new(());
    let alive = Arc::downgrade(&life);
    let thread = thread::Builder::new().name("session".into()).spawn(move || {
        let outcome = session.run();
        // Goes with the thread, also by a panic.
        drop(life);
        outcome
    });
    let thread = thread.map_err(SessionError::Threads)?;
    Ok(Served { kernel, counts, alive, thread })
}
