//! What a large live directory held when a piece of its listing was given (S125): whoever asks for the next piece at once need not have all of
//! it read once more, which would cost the square of its names. It is good while the directory looks the same, and for a second at most.
//!
//! Locks: one, around what is remembered; never over a call to a store.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::nodes::Number;
use crate::store::Listed;

/// Directories with fewer names are read for each piece: most have one piece.
pub(super) const NAMES_MIN: usize = 500;
/// So many are remembered.
const DIRECTORIES_MAX: usize = 4;
/// How long what was read is good.
const GOOD: Duration = Duration::from_secs(1);
/// A directory that changed less than this before it was read may change once more within the same tick of its clock.
const TICK: Duration = Duration::from_millis(100);

/// What of a listing is still there, each name with its position in it.
pub(super) type Left = Arc<[(usize, Listed)]>;

/// When a directory changed last: seconds and nanoseconds.
pub(super) type Modified = (i64, u32);

/// What was read of directories for the listings that go on.
#[derive(Debug, Default)]
pub(super) struct Pieces(Mutex<VecDeque<ReadDirectory>>);

#[derive(Debug)]
struct ReadDirectory {
    listing: (Number, u64),
    modified: Modified,
    read_at: Instant,
    left: Left,
}

impl Pieces {
    /// What was read for a listing not long ago, and when the directory had changed last then.
    pub(super) fn find(&self, directory: Number, tag: u64) -> Option<(Modified, Left)> {
        let mut all = self.lock();
        all.retain(|read| read.read_at.elapsed() < GOOD);
        let found = all.iter().find(|read| read.listing == (directory, tag))?;
        Some((found.modified, found.left.clone()))
    }

    /// Remembers what was read of a directory, unless that may have changed meanwhile. `began` is when that began.
    pub(super) fn put(
        &self,
        (directory, tag): (Number, u64),
        modified: Modified,
        began: (Instant, SystemTime),
        left: &Left,
    ) {
        let (read_at, now) = began;
        if !is_settled(modified, now) {
            return;
        }
        let mut all = self.lock();
        all.retain(|read| read.listing != (directory, tag));
        while all.len() >= DIRECTORIES_MAX {
            all.pop_front();
        }
        let (listing, left) = ((directory, tag), left.clone());
        all.push_back(ReadDirectory { listing, modified, read_at, left });
    }

    /// Forgets what is good no longer.
    pub(super) fn forget_old(&self) {
        self.lock().retain(|read| read.read_at.elapsed() < GOOD);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<ReadDirectory>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a directory that is read now will say so if it changes from now on.
fn is_settled((secs, nanos): Modified, now: SystemTime) -> bool {
    let Ok(secs) = u64::try_from(secs) else { return true };
    let modified = SystemTime::UNIX_EPOCH.checked_add(Duration::new(secs, nanos));
    // A time to come says nothing.
    modified.and_then(|modified| now.duration_since(modified).ok()).is_some_and(|age| age > TICK)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: (Number, u64) = (Number(5), 3);

    fn of(secs: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(secs)
    }

    #[test]
    fn what_may_have_changed_since_is_not_remembered() {
        let now = Instant::now();
        for (modified, is_good) in [(99, true), (100, false), (101, false), (-1, true)] {
            let pieces = Pieces::default();
            pieces.put(LISTING, (modified, 0), (now, of(100)), &Left::from([]));
            assert_eq!(pieces.find(LISTING.0, LISTING.1).is_some(), is_good, "{modified}");
        }
    }

    #[test]
    fn what_was_read_is_good_for_a_second_and_few_are_remembered() {
        let pieces = Pieces::default();
        let put = |tag, read_at| {
            pieces.put((Number(5), tag), (1, 0), (read_at, of(100)), &Left::from([]));
        };
        let Some(long_ago) = Instant::now().checked_sub(GOOD) else { return };
        put(0, long_ago);
        assert!(pieces.find(Number(5), 0).is_none());
        for tag in 0..100 {
            put(tag, Instant::now());
        }
        assert_eq!(pieces.lock().len(), DIRECTORIES_MAX);
        assert!(pieces.find(Number(5), 99).is_some() && pieces.find(Number(4), 99).is_none());
        pieces.lock().iter_mut().for_each(|read| read.read_at = long_ago);
        pieces.forget_old();
        assert_eq!(pieces.lock().len(), 0);
    }
}
