//! Requests that wait for a large object to be decoded. Each gets a thread of its own, so that the session's threads go on with the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use fuser::{INodeNo, ReplyData};

use super::ask::ask;
use super::counts::Counts;
use crate::view::View;

/// The most threads for such requests. Beyond that a request is answered by the session's thread that took it.
const THREADS_MAX: usize = 64;

/// What is to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct LongRead {
    pub(super) ino: INodeNo,
    pub(super) offset: u64,
    pub(super) len: usize,
}

/// The requests that wait at present.
#[derive(Debug, Default)]
pub(super) struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    /// Reads and answers, in a thread of its own if one can be had.
    pub(super) fn read(
        &self,
        view: &Arc<View>,
        counts: &Arc<Counts>,
        read: LongRead,
        reply: ReplyData,
    ) {
        let (view, counts) = (view.clone(), counts.clone());
        self.run(move || answer(&view, &counts, read, reply));
    }

    /// Runs what answers a request, in a thread of its own if one can be had.
    pub(super) fn run(&self, work: impl FnOnce() + Send + 'static) {
        let Some(counted) = self.count() else { return work() };
        let work = move || {
            work();
            drop(counted);
        };
        if let Err(error) = thread::Builder::new().name("wait".into()).spawn(work) {
            // The request went with the closure, which answers it with an error.
            tracing::warn!(%error, "a thread for a long request could not be started");
        }
    }

    fn count(&self) -> Option<Counted> {
        let counted = Counted(self.0.clone());
        (self.0.fetch_add(1, Ordering::Relaxed) < THREADS_MAX).then_some(counted)
    }
}

/// One request that waits.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn answer(view: &View, counts: &Counts, read: LongRead, reply: ReplyData) {
    match ask(view, read.ino, |view, number| view.read(number, read.offset, read.len)) {
        Ok(bytes) => reply.data(&bytes),
        Err(errno) => {
            counts.read.failed(errno);
            reply.error(errno);
        }
    }
}
