//! The death of a worker: what it died of, and who goes on.

use std::mem;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tracing::{error, warn};

use super::{Due, Keeping};
use crate::daemon::stop::Stopped;
use crate::machine::keeper::LACKING;

/// How long after the death of a worker the next one starts, by how many in a row have died soon and by themselves.
const PAUSES: [Duration; 6] = [
    Duration::ZERO,
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];
/// How many workers in a row others may kill before they serve, until the next one is waited with.
const KILLED_AT_ONCE: usize = 2;
/// How long it is waited with then: whoever kills each worker that starts would have the keeper do nothing else.
const PAUSE_FOR_OTHERS: Duration = Duration::from_millis(100);
/// How long after a process could not be started it is tried again.
pub(super) const WITHOUT_PROCESSES: Duration = Duration::from_secs(1);
/// A worker that served so long has not failed to start.
const SERVED: Duration = Duration::from_secs(5);
/// The same of one that was killed for lack of memory: taking too much of it takes its time.
const SERVED_WITH_LITTLE_MEMORY: Duration = Duration::from_secs(30);

/// What a worker died of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Its own doing.
    Itself,
    /// The kernel killed it for lack of memory.
    OutOfMemory,
    /// It ended because the machine lacks something at this moment.
    Lacking,
    /// Somebody else wanted it to end.
    Others,
}

impl Cause {
    /// Whether a death is one of those in a row that a request may be to blame for (S108); `served` is how long the worker did, if it ever did.
    fn counts(self, served: Option<Duration>) -> bool {
        match self {
            Self::Itself => served.is_none_or(|served| served < SERVED),
            Self::OutOfMemory => served.is_none_or(|served| served < SERVED_WITH_LITTLE_MEMORY),
            Self::Lacking | Self::Others => false,
        }
    }
}

/// How many workers in a row did not live long.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Toll {
    /// Those that a request may be to blame for.
    pub(super) in_a_row: usize,
    /// Those that others killed before they served.
    killed_at_once: usize,
}

impl Toll {
    /// Counts a death; `served` is how long the worker served, if it ever did.
    fn add(&mut self, cause: Cause, served: Option<Duration>) {
        if cause.counts(served) {
            self.in_a_row += 1;
        } else if served.is_some() && cause != Cause::Lacking {
            self.in_a_row = 0;
        }
        let was_killed_at_once = cause == Cause::Others && served.is_none();
        self.killed_at_once = if was_killed_at_once { self.killed_at_once + 1 } else { 0 };
    }

    /// How long the next worker is waited with.
    fn pause(self) -> Duration {
        let by_deaths = PAUSES[self.in_a_row.min(PAUSES.len() - 1)];
        let by_others =
            if self.killed_at_once > KILLED_AT_ONCE { PAUSE_FOR_OTHERS } else { Duration::ZERO };
        by_deaths.max(by_others)
    }
}

impl Keeping<'_> {
    /// What a worker died of that ended with a status.
    pub(super) fn cause_of_status(code: i32) -> Cause {
        if code == i32::from(LACKING) { Cause::Lacking } else { Cause::Itself }
    }

    /// What a worker died of that was killed by a signal.
    pub(super) fn cause(&mut self, signal: i32) -> Cause {
        if signal != Signal::SIGKILL as i32 {
            return Cause::Itself;
        }
        if self.oom_kills.is_new() { Cause::OutOfMemory } else { Cause::Others }
    }

    /// The worker has died. Another one goes on, unless it is the end, or nothing was ever served.
    pub(super) fn died(&mut self, how: &str, code: i32, cause: Cause) -> Option<Stopped> {
        let serving = self.worker.take()?;
        if let Some(signal) = self.is_stopping {
            return Some(Stopped::Signal(signal));
        }
        // What a worker means by its status is between it and us.
        let code = if cause == Cause::Lacking { 1 } else { u8::try_from(code).unwrap_or(1).max(1) };
        if !self.has_served {
            return Some(Stopped::Worker(code));
        }
        if mem::take(&mut self.is_on_trial) {
            self.workshop.dismiss();
        }
        let served = serving.since.map(|since| since.elapsed());
        self.toll.add(cause, served);
        if served.is_none() && self.toll.in_a_row >= PAUSES.len() {
            error!(how, "one worker after the other has died: the mount is given up");
            return Some(Stopped::Worker(code));
        }
        let pause = if cause == Cause::Lacking { WITHOUT_PROCESSES } else { self.toll.pause() };
        warn!(
            worker = serving.worker.pid(),
            how,
            ?cause,
            "the worker has died: another one goes on"
        );
        if pause.is_zero() {
            self.due = None;
            self.start_or_later();
        } else {
            self.due = Some((Instant::now() + pause, Due::Start));
        }
        None
    }

    /// Starts the next worker. Where the machine lacks processes or memory at this moment it is tried again: whoever uses the mount waits.
    pub(super) fn start_or_later(&mut self) {
        if let Err(error) = self.start() {
            warn!(%error, again_in = ?WITHOUT_PROCESSES, "no worker could be started");
            self.due = Some((Instant::now() + WITHOUT_PROCESSES, Due::Start));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s115_deaths_by_lack_of_memory_count_and_those_that_others_wanted_do_not() {
        let secs = |secs| Some(Duration::from_secs(secs));
        for cause in [Cause::Itself, Cause::OutOfMemory] {
            assert!(cause.counts(None), "{cause:?} before it served");
        }
        assert!(Cause::Itself.counts(secs(1)) && !Cause::Itself.counts(secs(6)));
        assert!(Cause::OutOfMemory.counts(secs(20)) && !Cause::OutOfMemory.counts(secs(31)));
        for cause in [Cause::Others, Cause::Lacking] {
            assert!(!cause.counts(secs(0)) && !cause.counts(None), "{cause:?}");
        }
    }

    #[test]
    fn workers_that_others_kill_at_once_are_no_reason_to_give_up_and_are_waited_with() {
        let mut toll = Toll::default();
        for killed in 1..100 {
            toll.add(Cause::Others, None);
            let pause = if killed > KILLED_AT_ONCE { PAUSE_FOR_OTHERS } else { Duration::ZERO };
            assert_eq!((toll.in_a_row, toll.pause()), (0, pause), "{killed} killed");
        }
        toll.add(Cause::Itself, None);
        assert_eq!((toll.in_a_row, toll.pause()), (1, Duration::ZERO));
        toll.add(Cause::Others, None);
        assert_eq!(toll.in_a_row, 1, "who was killed at once says nothing of the request");
        toll.add(Cause::Others, Some(Duration::ZERO));
        assert_eq!(toll, Toll::default());
    }
}
