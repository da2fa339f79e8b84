//! Requests that wait for a large object to be decoded. Each gets a thread of its own, so that the session's threads go on with the rest.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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
        self.run_knowing(move |_| work());
    }

    /// The same for what has to know whether it is in a thread of its own.
    pub(super) fn run_knowing(&self, work: impl FnOnce(bool) + Send + 'static) {
        let Some(counted) = self.count() else { return work(false) };
        // Shared, since what a thread is to do goes with one that does not start.
        let shared = Arc::new(Mutex::new(Some(work)));
        let work = shared.clone();
        let run = move || {
            run_once(&work, true);
            drop(counted);
        };
        if let Err(error) = thread::Builder::new().name("wait".into()).spawn(run) {
            tracing::debug!(%error, "no thread for a long request: others wait for it");
            run_once(&shared, false);
        }
    }

    fn count(&self) -> Option<Counted> {
        let counted = Counted(self.0.clone());
        (self.0.fetch_add(1, Ordering::Relaxed) < THREADS_MAX).then_some(counted)
    }
}

/// Runs what nobody has run yet.
fn run_once(work: &Mutex<Option<impl FnOnce(bool)>>, is_apart: bool) {
    let work = work.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(work) = work {
        work(is_apart);
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

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// Set for the process in which no thread can be started.
    const ALONE: &str = "OVERLAYFS_MOUNT_TEST_ALONE";
    const NAME: &str =
        "fuse::waiting::tests::s106_what_no_thread_can_be_had_for_is_answered_all_the_same";

    #[test]
    fn s106_what_no_thread_can_be_had_for_is_answered_all_the_same() {
        if std::env::var_os(ALONE).is_some() {
            return without_threads();
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", NAME, "--nocapture", "--test-threads=1"]).env(ALONE, "1");
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
    }

    /// There is no room for the stack of another one.
    fn without_threads() {
        let pid = std::process::id().to_string();
        let limit = |bytes: &str| {
            let status = Command::new("prlimit").args(["--pid", &pid, bytes]).status();
            status.is_ok_and(|status| status.success())
        };
        if !limit("--as=1000000:") {
            eprintln!("SKIPPED: needs prlimit; cure: apt-get install util-linux");
            return;
        }
        assert!(thread::Builder::new().spawn(|| {}).is_err());
        let (sender, done) = mpsc::channel();
        let waiting = Waiting::default();
        waiting.run(move || sender.send(thread::current().id()).unwrap());
        assert_eq!(done.recv_timeout(Duration::from_secs(60)), Ok(thread::current().id()));
        assert_eq!(waiting.0.load(Ordering::Relaxed), 0);
    }
}
