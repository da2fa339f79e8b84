//! When what failed is tried again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::snapshot::{Snapshot, Source};

/// How long after the first failure: it may have passed.
const FIRST: Duration = Duration::from_millis(100);
/// How long after each one that follows, at most.
const LONGEST: Duration = Duration::from_secs(2);

/// When sources are read again although nothing moved.
#[derive(Debug, Default)]
pub(super) struct Retry {
    at: Option<Instant>,
    /// How long after the last failure.
    pause: Option<Duration>,
}

impl Retry {
    /// The first time: at once after another process, whose sources may have moved while nobody looked, and soon where a source cannot be read.
    pub(super) fn first(first: &Snapshot, is_resumed: bool) -> Self {
        let mut retry = Self { at: is_resumed.then(Instant::now), pause: None };
        if !is_resumed && !Self::is_whole(first) {
            retry.failed();
        }
        retry
    }

    /// Whether nothing lacks that may be there at another time.
    pub(super) fn is_whole(snapshot: &Snapshot) -> bool {
        let may_get_better = |source: &Arc<Source>| {
            source.state.error().is_some() || source.unread.is_some_and(|unread| unread.may_pass)
        };
        !snapshot.sources.iter().any(may_get_better)
    }

    /// When, if at all.
    pub(super) fn when(&self) -> Option<Instant> {
        self.at
    }

    /// All could be read.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Something could not: soon at first, then less and less often.
    pub(super) fn failed(&mut self) {
        let pause = self.pause.map_or(FIRST, |pause| (pause * 2).min(LONGEST));
        *self = Self { at: Some(Instant::now() + pause), pause: Some(pause) };
    }

    /// After this time, unless it is tried earlier.
    pub(super) fn within(&mut self, pause: Duration) {
        self.at.get_or_insert(Instant::now() + pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_tried_soon_and_then_less_and_less_often() {
        let mut retry = Retry::default();
        let mut next = || {
            retry.failed();
            retry.pause.unwrap().as_millis()
        };
        let pauses: Vec<_> = (0..7).map(|_| next()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 2000, 2000]);
        retry.succeeded();
        assert_eq!(retry.when(), None);
        retry.failed();
        assert_eq!(retry.pause, Some(FIRST));
    }
}
