//! The end of all views of a directory.

use std::thread;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::group::Group;
use super::member::Leave;
use super::privileged::Privileged;
use super::{Daemon, State};

/// How long threads may take to notice that their connection is gone.
const ABORTED: Duration = Duration::from_secs(2);
/// How often it is looked whether all are gone.
const PACE: Duration = Duration::from_millis(10);

impl Daemon {
    /// Unmounts all views; who holds one is served for a while, and then cut off.
    pub(super) fn stop(&mut self) {
        let mut patience = Duration::ZERO;
        for state in self.views.values() {
            if let State::Shown(shown) = state {
                shown.stop();
                patience = patience.max(shown.member().plan.config.mount.stop_timeout);
            }
        }
        // Nothing has been dropped yet that is to be found by the next daemon.
        for estate in self.estates.values() {
            estate.pins.keep();
        }
        for (file, state) in std::mem::take(&mut self.views) {
            self.leave(&file, state, Leave::ForNow);
        }
        if !ended(&self.retired, patience) {
            for group in self.retired.iter().filter(|group| !group.has_ended()) {
                cut_off(&mut self.privileged, group);
            }
            if !ended(&self.retired, ABORTED) {
                tracing::error!("a session did not end after its connection was aborted");
            }
        }
    }
}

/// Cuts off whoever holds a superblock.
fn cut_off(privileged: &mut Privileged, group: &Group) {
    let Some(connection) = group.connection() else { return };
    info!(connection, "still held: aborting the connection");
    if let Err(error) = privileged.abort(connection) {
        warn!(%error, "the connection cannot be aborted");
    }
}

/// Waits until all are gone, for at most `patience`.
fn ended(groups: &[Group], patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    while !groups.iter().all(Group::has_ended) {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(PACE);
    }
    true
}
