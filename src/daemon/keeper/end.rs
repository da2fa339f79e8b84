//! The end of a mount that is kept, and what is given up before.

use std::mem;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tracing::{info, warn};

use super::broker::Broker;
use super::kept::{KeptMount, KeptPlan};
use super::{Due, Keeping, store};
use crate::daemon::DaemonError;
use crate::daemon::stop::{ABORTED, Stopped, signal_name, take_away};
use crate::daemon::views;
use crate::machine::keeper::{KeeperAnswer, Turn};
use crate::machine::kernel;

/// After so many deaths in a row nobody goes on with what was asked and not answered: it is what they may have died of.
const BEFORE_REFUSAL: usize = 3;

impl Keeping<'_> {
    /// What the next worker begins with.
    pub(super) fn turn(&self) -> Turn {
        if self.mounts.is_empty() {
            return if self.past.is_some() { Turn::Anew } else { Turn::First };
        }
        if self.toll.in_a_row < BEFORE_REFUSAL {
            return Turn::Next;
        }
        warn!(deaths = self.toll.in_a_row, "what was asked and not answered gets an error");
        Turn::Refusing
    }

    /// When something is to be done that nobody tells of.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        let broker = self.broker.as_ref().and_then(Broker::is_due);
        self.due.map(|(at, _)| at).into_iter().chain(broker).min()
    }

    /// Does what was to be done at this time.
    pub(super) fn do_what_is_due(&mut self) {
        self.look_after_broker();
        match self.due.take_if(|(at, _)| *at <= Instant::now()) {
            Some((_, Due::Start)) => self.start_or_later(),
            Some((_, Due::KillStopped)) => {
                warn!("the worker has been stopped: another one takes its place");
                self.signal(Signal::SIGKILL);
            }
            Some((_, Due::Abort)) => {
                self.abort();
                self.due = Some((Instant::now() + ABORTED, Due::Kill));
            }
            Some((_, Due::Kill)) => self.signal(Signal::SIGKILL),
            None => {}
        }
    }

    /// Takes the mount away. The worker ends with its session.
    pub(super) fn stop(&mut self, signal: i32) -> Result<(), DaemonError> {
        if self.is_stopping.is_some() {
            return Ok(());
        }
        info!(signal = signal_name(signal), "stopping");
        self.is_stopping = Some(signal);
        if let Some((worker, _)) = self.successor.take() {
            worker.end();
        }
        let KeptPlan::One(plan) = self.what else {
            // It unmounts by itself.
            self.signal(Signal::SIGTERM);
            return Ok(());
        };
        let patience = plan.config.mount.stop_timeout;
        let Some(serving) = self.worker.as_ref().filter(|_| !self.mounts.is_empty()) else {
            self.signal(Signal::SIGKILL);
            return Ok(());
        };
        serving.worker.tell(KeeperAnswer::Stopping);
        take_away(&plan.mountpoint, patience)?;
        self.due = Some((Instant::now() + patience, Due::Abort));
        Ok(())
    }

    /// The end, where it was asked for while no worker was there, since the last one had died and the next one had not been started yet.
    pub(super) fn has_nobody_to_end(&self) -> Option<Stopped> {
        self.is_stopping.filter(|_| self.worker.is_none()).map(Stopped::Signal)
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let Some(serving) = &self.worker {
            serving.worker.signal(signal);
        }
    }

    pub(super) fn abort(&self) {
        self.mounts.iter().filter(|mount| mount.is_there()).for_each(KeptMount::abort);
    }

    /// Gives up a mount that nobody can go on with: whoever holds it gets errors, and it is not in the way of the next one.
    pub(super) fn drop_mount(&mut self) {
        // After a worker's good end there is no connection.
        if self.worker.is_some() {
            self.abort();
        }
        let mut mounts = mem::take(&mut self.mounts);
        for mount in &mounts {
            store::forget(self.what, mount);
        }
        let Some(last) = mounts.pop() else { return };
        match self.what {
            KeptPlan::One(plan) => {
                self.past = Some(last.journal);
                if let Err(error) = take_away(&plan.mountpoint, Duration::ZERO) {
                    warn!(%error, "the old mount could not be taken away");
                }
            }
            KeptPlan::Views(plan) => {
                if let Err(error) = views::take_all_away(plan) {
                    warn!(%error, "the old mounts could not be taken away");
                }
            }
        }
    }

    /// Gives up a mount before anybody tries in vain to go on with it.
    pub(super) fn drop_what_nobody_takes_over(&mut self) {
        if !self.mounts.is_empty() && !kernel::hands_mounts_over() {
            warn!(
                "{}: it is made anew, and who holds the old one gets errors",
                kernel::NO_HANDOVER
            );
            self.abort();
            self.drop_mount();
        }
    }

    /// Leaves nothing behind.
    pub(super) fn clear(&mut self) {
        if let Some((worker, _)) = self.successor.take() {
            worker.end();
        }
        self.drop_mount();
        if let Some(serving) = self.worker.take() {
            serving.worker.end();
        }
        self.end_broker();
    }
}
