//! Who mounts for workers that are confined: a process of its own, since the keeper must not wait in the kernel for the answer of a worker,
//! of which it holds the descriptor.

use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use tracing::{error, warn};

use super::Keeping;
use super::deaths::WITHOUT_PROCESSES;
use crate::daemon::DaemonError;
use crate::daemon::views;
use crate::machine::broker::{Line, pair};

/// One that dies again and again is started no more often than this.
const PACE: Duration = Duration::from_millis(200);
/// How long it may take to end.
const ENDING: Duration = Duration::from_secs(1);

/// Who mounts for workers.
pub(super) struct Broker {
    process: Child,
    since: Instant,
    /// When another one is to take its place, where none could be started.
    again_at: Option<Instant>,
    /// What each worker gets.
    workers_end: Line,
    /// What another one gets that takes its place.
    own_end: Line,
}

impl Broker {
    /// When it is to be looked after, if nobody tells.
    pub(super) fn is_due(&self) -> Option<Instant> {
        self.again_at
    }
}

impl Keeping<'_> {
    /// Starts the first one.
    pub(super) fn start_broker(&mut self) -> Result<(), DaemonError> {
        let (workers_end, own_end) = pair()?;
        let process = self.workshop.start_broker(&own_end)?;
        let (since, again_at) = (Instant::now(), None);
        self.broker = Some(Broker { process, since, again_at, workers_end, own_end });
        Ok(())
    }

    /// Starts another one where one has died; where none can be started at this moment that is tried again, and who asks waits.
    pub(super) fn look_after_broker(&mut self) {
        let Some(broker) = &mut self.broker else { return };
        if broker.again_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let Ok(Some(status)) = broker.process.try_wait() else { return };
        if broker.again_at.is_none() {
            warn!(broker = broker.process.id(), %status, "the broker has died: another one takes its place");
            // Who waits for its answer will get none.
            broker.own_end.notify(&views::died());
        }
        thread::sleep(PACE.saturating_sub(broker.since.elapsed()));
        match self.workshop.start_broker(&broker.own_end) {
            Ok(process) => {
                (broker.process, broker.since, broker.again_at) = (process, Instant::now(), None);
            }
            Err(error) => {
                warn!(%error, again_in = ?WITHOUT_PROCESSES, "no broker could be started");
                broker.again_at = Some(Instant::now() + WITHOUT_PROCESSES);
            }
        }
    }

    /// Gives a worker the line to it.
    pub(super) fn hand_line(&self, pid: u32) {
        let serving = self.worker.as_ref().map(|serving| &serving.worker);
        let next = self.successor.as_ref().map(|(worker, _)| worker);
        let asking = serving.into_iter().chain(next).find(|worker| worker.pid() == pid);
        if let Some((worker, broker)) = asking.zip(self.broker.as_ref()) {
            worker.hand_line(&broker.workers_end);
        }
    }

    /// Ends it: no worker is left that would ask.
    pub(super) fn end_broker(&mut self) {
        let Some(Broker { mut process, .. }) = self.broker.take() else { return };
        process.kill().unwrap_or_default();
        let until = Instant::now() + ENDING;
        while matches!(process.try_wait(), Ok(None)) {
            if Instant::now() > until {
                return error!(broker = process.id(), "the broker does not end");
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}
