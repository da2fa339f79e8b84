//! The way to the thread that keeps a view up to date.

use std::sync::Weak;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::control::ControlError;
use crate::control::protocol::ReloadReport;
use crate::sync::fetch::Stop;

/// The way to ask for an update.
#[derive(Debug, Clone)]
pub(super) struct Updates {
    requests: Sender<UpdateRequest>,
    /// The wish that what takes long ends early.
    stop: Stop,
}

/// What the thread that keeps a view up to date is asked for.
pub(super) enum UpdateRequest {
    /// Update at once, and answer.
    Reload(Box<dyn FnOnce(Result<ReloadReport, ControlError>) + Send>),
    /// Something happened near a file that is watched.
    Look,
    /// No more updates.
    End,
}

/// Waits for what is asked for next, until a time.
pub(super) fn wait(
    requests: &Receiver<UpdateRequest>,
    until: Instant,
) -> Result<UpdateRequest, RecvTimeoutError> {
    requests.recv_timeout(until.saturating_duration_since(Instant::now()))
}

impl Updates {
    pub(super) fn new(requests: Sender<UpdateRequest>, stop: Stop) -> Self {
        Self { requests, stop }
    }

    /// Reads configuration and refs anew; returns when every new look-up sees the result.
    pub(super) fn reload(&self) -> Result<ReloadReport, ControlError> {
        let (answer, answered) = mpsc::sync_channel(1);
        // Whoever asked may have gone away.
        self.reload_then(move |outcome| answer.send(outcome).unwrap_or_default())?;
        answered.recv().unwrap_or_else(|_| Err(gone()))
    }

    /// The same without waiting: `done` is called with the outcome, and not at all where the thread ends before.
    pub(super) fn reload_then(
        &self,
        done: impl FnOnce(Result<ReloadReport, ControlError>) + Send + 'static,
    ) -> Result<(), ControlError> {
        self.requests.send(UpdateRequest::Reload(Box::new(done))).map_err(|_| gone())
    }

    /// Ends the updating thread when it is done with what it does.
    pub(super) fn end(&self) {
        self.stop.set();
        // It may have ended by itself.
        self.requests.send(UpdateRequest::End).unwrap_or_default();
    }
}

fn gone() -> ControlError {
    ControlError::Refused { message: "the daemon is stopping".to_owned(), cure: None }
}

/// The thread that keeps a view up to date.
pub(super) struct Updating {
    pub(super) thread: JoinHandle<()>,
    /// Can be upgraded for as long as it runs.
    pub(super) alive: Weak<()>,
}
