//! A worker that runs and answers nobody.
//!
//! The keeper asks the kernel every few seconds for something that it asks the worker each time, and that the worker answers from nothing but
//! memory (`machine::answer`). Where there is no answer for a long time, all that answer the kernel are busy, or in a dead-lock: another
//! worker takes the place. Merely slow is one that waits for a disk, which killing it would not end; and who is slow in another way is
//! given twice the time after each death, so that it comes to its end.

use std::io;
use std::path::Path;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tracing::{debug, error, warn};

use super::{Event, Keeping};
use crate::machine::answer::{self, Asked};

/// How long nobody may be answered.
const HANG: Duration = Duration::from_secs(60);
/// What says it in seconds; 0: for ever.
const VARIABLE: &str = "OVERLAYFS_MOUNT_HANG_SECS";
/// How often the time is doubled at most: from a minute to an hour.
const DOUBLED_MAX: u32 = 6;

/// Has it said on the channel how long there was no answer, again and again while there is none, until the value goes.
pub(super) fn watch(mountpoint: &Path, sender: &Sender<Event>) -> Option<Asked> {
    if let Ok(said) = std::env::var(VARIABLE)
        && said.parse::<u64>().is_err()
    {
        let hang = HANG.as_secs();
        warn!(
            "{VARIABLE}=`{said}` is no number of seconds: {hang} count; 0 is for ever",
            said = said.escape_debug()
        );
    }
    let hang = bound()?;
    let sender = sender.clone();
    // Nobody listens any more once the mount is gone.
    let waited = move |waited| sender.send(Event::Unanswered(waited)).unwrap_or_default();
    let asked = answer::watch(mountpoint, hang, waited);
    let failed = |error: &io::Error| warn!(%error, "a worker that answers nobody will not be replaced: no thread can be started");
    asked.inspect_err(failed).ok()
}

/// `None` if nothing is to be noticed.
fn bound() -> Option<Duration> {
    let said = std::env::var(VARIABLE).ok().and_then(|text| text.parse().ok());
    Some(said.map_or(HANG, Duration::from_secs)).filter(|hang| !hang.is_zero())
}

impl Keeping<'_> {
    /// Kills a worker that has answered nobody for so long, unless there is another reason for it.
    pub(super) fn is_unanswered(&mut self, waited: Duration) {
        let Some(hang) = bound().map(|hang| hang * 2_u32.pow(self.hangs.min(DOUBLED_MAX))) else {
            return;
        };
        let Some(serving) = self.worker.as_mut().filter(|_| self.is_stopping.is_none()) else {
            return;
        };
        // Who has just come answers what was left.
        if waited < hang || serving.since.is_none_or(|since| since.elapsed() < hang) {
            return;
        }
        let worker = serving.worker.pid();
        if answer::waits_for_disk(worker) {
            debug!(worker, ?waited, "no answer: the worker waits for a disk");
            return;
        }
        error!(worker, ?waited, "the worker answers nobody: another one takes its place");
        self.hangs += 1;
        // Until it has ended it is not said again.
        serving.since = Some(Instant::now());
        self.signal(Signal::SIGKILL);
    }
}
