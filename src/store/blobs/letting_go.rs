//! When the pages of files that were read are dropped: one thread for all of them, while there are any.
//!
//! Locks: one, around the list of what waits; never while a file is asked for anything.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::opened::OpenedBlob;

/// The pauses, after all of a file was read, before each attempt to drop its pages. There are several, since pages that were just written
/// can be dropped only when they are on the disk.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(5)];

/// A file of which all was read.
struct ReadWhole {
    /// When the next attempt is made.
    at: Instant,
    /// How many were made.
    attempts: usize,
    /// Held for no longer than an attempt takes: one that is evicted takes room until it is closed.
    blob: Weak<OpenedBlob>,
}

/// All that wait.
struct LettingGo {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

struct Waiting {
    files: Vec<ReadWhole>,
    has_thread: bool,
}

static LETTING_GO: LettingGo = LettingGo {
    waiting: Mutex::new(Waiting { files: Vec::new(), has_thread: false }),
    changed: Condvar::new(),
};

/// Has the pages of a file dropped, soon. False if no thread can be had for that.
pub(super) fn begin(blob: &Arc<OpenedBlob>) -> bool {
    let mut waiting = LETTING_GO.lock();
    if !waiting.has_thread {
        let thread = thread::Builder::new().name("let-go".into()).spawn(|| LETTING_GO.run());
        if thread.is_err() {
            return false;
        }
        waiting.has_thread = true;
    }
    let (at, attempts) = (Instant::now() + PAUSES[0], 0);
    waiting.files.push(ReadWhole { at, attempts, blob: Arc::downgrade(blob) });
    LETTING_GO.changed.notify_one();
    true
}

impl LettingGo {
    /// Until nothing waits.
    fn run(&self) {
        while let Some(due) = self.due() {
            for ReadWhole { attempts, blob, .. } in due {
                let Some(held) = blob.upgrade() else { continue };
                held.advise_to_let_go();
                let attempts = attempts + 1;
                match PAUSES.get(attempts) {
                    Some(pause) => {
                        let at = Instant::now() + *pause;
                        self.lock().files.push(ReadWhole { at, attempts, blob });
                    }
                    None => held.has_let_go(),
                }
            }
        }
    }

    /// Waits for those whose time has come; `None` if there are no more.
    fn due(&self) -> Option<Vec<ReadWhole>> {
        let mut waiting = self.lock();
        loop {
            let now = Instant::now();
            let due: Vec<_> = waiting.files.extract_if(.., |file| file.at <= now).collect();
            if !due.is_empty() {
                return Some(due);
            }
            let Some(next) = waiting.files.iter().map(|file| file.at).min() else {
                waiting.has_thread = false;
                return None;
            };
            let waited = self.changed.wait_timeout(waiting, next - now);
            waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
