//! Small files that are read one after the other: the kernel is given the next ones before it asks.
//!
//! Numbers of files follow one another in the order in which directories are listed, and so does whoever reads a tree. A first read costs a
//! request: two changes from one process to another, which take longer than decoding the file. So from the second file in a row on some of
//! those that follow are put into the kernel's cache (`FUSE_NOTIFY_STORE`, `fuse.h`), each time twice as many. The content of a frozen file
//! never changes, and no number is given out twice, so that what was stored is right for good. The kernel may have such a message wait for a
//! read of the same file: it is written by who writes those of flips ([`Courier`]).

use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use fuser::INodeNo;

use super::counts::Counts;
use super::kernel::{Courier, message_about_content};
use crate::view::{Number, Superblock};

/// Larger files are left to the kernel, which reads ahead in each by itself; in bytes.
const SMALL_BYTES: usize = 32 * 1024;
/// Messages are carried once they have so many bytes: with one more file they still are what can be carried at once.
const AT_ONCE_BYTES: usize = 28 * 1024;
/// How many numbers are looked at after the second file in a row, and at most.
const FIRST_WINDOW: u32 = 4;
const LAST_WINDOW: u32 = 128;
/// Files in a row may have other numbers between theirs: those of directories and links.
const STRIDE: u32 = 16;
/// So many readers are told apart.
const RUNS: usize = 8;

/// Files that are read one after the other.
#[derive(Debug, Default)]
struct Run {
    /// The number of the file that was asked for last, for who gives as well.
    reached: Arc<AtomicU32>,
    /// Up to this number the kernel was given files, or is about to be.
    until: u32,
    /// How many numbers were looked at last.
    window: u32,
}

/// The files among these numbers are to be given, while the reader has not come to them.
#[derive(Debug)]
struct Next {
    first: u32,
    last: u32,
    reached: Arc<AtomicU32>,
}

/// The last readers.
#[derive(Debug, Default)]
struct Runs {
    runs: [Run; RUNS],
    /// The one that is forgotten next.
    turn: usize,
}

impl Runs {
    /// A file was asked for from its beginning. What is to be given now, if anything is.
    fn was_read(&mut self, number: u32) -> Option<Next> {
        let follows = |run: &&mut Run| {
            let reached = run.reached.load(Ordering::Relaxed);
            // Two threads may tell of two reads in the other order.
            reached.saturating_sub(STRIDE) < number
                && number <= run.until.max(reached).saturating_add(STRIDE)
        };
        let Some(run) = self.runs.iter_mut().find(follows) else {
            let reached = Arc::new(AtomicU32::new(number));
            self.runs[self.turn] = Run { reached, until: number, window: 0 };
            self.turn = (self.turn + 1) % RUNS;
            return None;
        };
        run.reached.fetch_max(number, Ordering::Relaxed);
        if number <= run.until {
            // It is on its way to what was given, or faster than who gives.
            return None;
        }
        run.window = (run.window * 2).clamp(FIRST_WINDOW, LAST_WINDOW);
        run.until = number.saturating_add(run.window);
        // The first half is asked for while the second is made: nothing is decoded twice.
        let first = number.saturating_add(1 + run.window / 2);
        Some(Next { first, last: run.until, reached: run.reached.clone() })
    }
}

/// Gives the kernel files before it asks for them.
pub(super) struct Ahead {
    runs: Mutex<Runs>,
    giver: Arc<Giver>,
    /// Leads to the thread that gives, from the first time on that there is something to give; `None` where it could not be started.
    giving: OnceLock<Option<SyncSender<Next>>>,
}

impl Ahead {
    pub(super) fn new(views: Arc<Superblock>, counts: Arc<Counts>, courier: Courier) -> Self {
        let giver = Arc::new(Giver { views, counts, courier });
        Self { runs: Mutex::default(), giver, giving: OnceLock::new() }
    }

    /// A file is asked for from its beginning, and so many bytes of it are the answer.
    pub(super) fn is_read(&self, ino: INodeNo, len: usize) {
        let Ok(number) = u32::try_from(ino.0) else { return };
        if len > SMALL_BYTES {
            return;
        }
        let next = self.runs.lock().unwrap_or_else(PoisonError::into_inner).was_read(number);
        let Some(next) = next else { return };
        if let Some(giving) = self.giving.get_or_init(|| self.start()) {
            // If there is too much to do already, the kernel asks.
            giving.try_send(next).unwrap_or_default();
        }
    }

    fn start(&self) -> Option<SyncSender<Next>> {
        let (giving, wanted) = mpsc::sync_channel(RUNS);
        let giver = self.giver.clone();
        let thread = thread::Builder::new().name("ahead".into());
        match thread.spawn(move || giver.give_all(&wanted)) {
            Ok(_) => Some(giving),
            Err(error) => {
                tracing::debug!(%error, "files are not given to the kernel before it asks");
                None
            }
        }
    }
}

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ahead").field("runs", &self.runs).finish_non_exhaustive()
    }
}

struct Giver {
    views: Arc<Superblock>,
    counts: Arc<Counts>,
    courier: Courier,
}

impl Giver {
    /// Until nobody wants any more, or nobody carries.
    fn give_all(&self, wanted: &Receiver<Next>) {
        while let Ok(next) = wanted.recv() {
            if self.give(&next).is_none() {
                return;
            }
        }
    }

    /// `None` if nobody carries any more.
    fn give(&self, next: &Next) -> Option<()> {
        let (mut messages, mut files) = (Vec::new(), 0);
        for number in next.first..=next.last {
            // Who reads asks for the next one before it could be there.
            if number <= next.reached.load(Ordering::Relaxed).saturating_add(1) {
                continue;
            }
            let Some(content) = self.content(number) else { continue };
            messages.extend(message_about_content(Number(number), &content));
            files += 1;
            if messages.len() >= AT_ONCE_BYTES {
                self.carry(&mem::take(&mut messages), mem::take(&mut files))?;
            }
        }
        if files > 0 { self.carry(&messages, files) } else { Some(()) }
    }

    /// The content of a small file. One that cannot be read says so when the kernel asks.
    fn content(&self, number: u32) -> Option<Vec<u8>> {
        let read = || self.views.small_file(Number(number), SMALL_BYTES);
        catch_unwind(AssertUnwindSafe(read)).ok().and_then(Result::ok).flatten()
    }

    fn carry(&self, messages: &[u8], files: u64) -> Option<()> {
        // What the kernel has forgotten meanwhile it does not take.
        drop((self.courier)(messages)?);
        self.counts.given_ahead(files);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is given when files of these numbers are asked for.
    fn given(runs: &mut Runs, numbers: impl IntoIterator<Item = u32>) -> Vec<(u32, u32)> {
        let nexts = numbers.into_iter().filter_map(|number| runs.was_read(number));
        nexts.map(|next| (next.first, next.last)).collect()
    }

    #[test]
    fn who_reads_in_a_row_is_given_more_each_time_and_half_of_it_is_asked_for() {
        let mut runs = Runs::default();
        assert_eq!(given(&mut runs, [100, 101]), [(104, 105)]);
        assert_eq!(given(&mut runs, [102, 103, 106]), [(111, 114)]);
        let mut at = 107;
        for window in [16, 32, 64, 128, 128, 128] {
            let nexts = given(&mut runs, at..at + 200);
            let last = nexts[0].1;
            assert_eq!(nexts[0], (last - window / 2 + 1, last), "from {at}");
            // The next file that is asked for is the first that was not given.
            runs = Runs::default();
            runs.runs[0] = Run { until: last, window, ..Run::default() };
            runs.runs[0].reached.store(last - window / 2, Ordering::Relaxed);
            at = last + 1;
        }
    }

    #[test]
    fn who_reads_here_and_there_is_given_nothing() {
        let mut runs = Runs::default();
        assert_eq!(given(&mut runs, [100, 900, 300, 1200, 5000, 40, 700]), []);
        assert_eq!(given(&mut runs, [100, 100, 99, 98]), [], "backwards");
        assert_eq!(given(&mut runs, [900, 900]), [], "the same");
    }

    #[test]
    fn readers_beside_each_other_are_told_apart() {
        let mut runs = Runs::default();
        let starts = (0..8).map(|reader| 1000 * (reader + 1));
        assert_eq!(given(&mut runs, starts.clone()), []);
        let nexts = given(&mut runs, starts.clone().map(|start| start + 1));
        assert_eq!(nexts, starts.map(|start| (start + 4, start + 5)).collect::<Vec<_>>());
        assert_eq!(given(&mut runs, [u32::MAX - 1, u32::MAX]), [(u32::MAX, u32::MAX)]);
    }

    #[test]
    fn reads_that_are_told_of_in_the_other_order_are_of_one_run() {
        let mut runs = Runs::default();
        assert_eq!(
            given(&mut runs, [100, 102, 101, 104, 103, 105, 107, 106]),
            [(105, 106), (112, 115)]
        );
        assert_eq!(runs.turn, 1);
    }
}
