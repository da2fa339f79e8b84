//! The death of a worker: what it died of, and who goes on.

use std::mem;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tracing::{error, warn};

use super::{Due, Keeping};
use crate::daemon::DaemonError;
use crate::daemon::stop::Stopped;

/// How long after the death of a worker the next one starts, by how many in a row have died soon and by themselves.
const PAUSES: [Duration; 6] = [
    Duration::ZERO,
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];
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
    /// Somebody else wanted it to end.
    Others,
}

impl Cause {
    /// Whether a death is one of those in a row that a request may be to blame for (S108); `served` is how long the worker did, if it ever did.
    fn counts(self, served: Option<Duration>) -> bool {
        let Some(served) = served else { return true };
        match self {
            Self::Itself => served < SERVED,
            Self::OutOfMemory => served < SERVED_WITH_LITTLE_MEMORY,
            Self::Others => false,
        }
    }
}

impl Keeping<'_> {
    /// What a worker died of that was killed by a signal.
    pub(super) fn cause(&mut self, signal: i32) -> Cause {
        if signal != Signal::SIGKILL as i32 {
            return Cause::Itself;
        }
        if self.oom_kills.is_new() { Cause::OutOfMemory } else { Cause::Others }
    }

    /// The worker has died. Another one goes on, unless it is the end, or nothing was ever served.
    pub(super) fn died(
        &mut self,
        how: &str,
        code: i32,
        cause: Cause,
    ) -> Result<Option<Stopped>, DaemonError> {
        let Some(serving) = self.worker.take() else { return Ok(None) };
        if let Some(signal) = self.is_stopping {
            return Ok(Some(Stopped::Signal(signal)));
        }
        let code = u8::try_from(code).unwrap_or(1).max(1);
        if !self.has_served {
            return Ok(Some(Stopped::Worker(code)));
        }
        if mem::take(&mut self.is_on_trial) {
            self.workshop.dismiss();
        }
        let counts = cause.counts(serving.since.map(|since| since.elapsed()));
        self.deaths = if counts { self.deaths + 1 } else { 0 };
        if serving.since.is_none() && self.deaths >= PAUSES.len() {
            error!(how, "one worker after the other has died: the mount is given up");
            return Ok(Some(Stopped::Worker(code)));
        }
        let pause = PAUSES.get(self.deaths).unwrap_or(&PAUSES[PAUSES.len() - 1]);
        warn!(
            worker = serving.worker.pid(),
            how,
            ?cause,
            "the worker has died: another one goes on"
        );
        if pause.is_zero() {
            self.due = None;
            self.start()?;
        } else {
            self.due = Some((Instant::now() + *pause, Due::Start));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s115_deaths_by_lack_of_memory_count_and_those_that_others_wanted_do_not() {
        let secs = |secs| Some(Duration::from_secs(secs));
        for cause in [Cause::Itself, Cause::OutOfMemory, Cause::Others] {
            assert!(cause.counts(None), "{cause:?} before it served");
        }
        assert!(Cause::Itself.counts(secs(1)) && !Cause::Itself.counts(secs(6)));
        assert!(Cause::OutOfMemory.counts(secs(20)) && !Cause::OutOfMemory.counts(secs(31)));
        assert!(!Cause::Others.counts(secs(0)));
    }
}
