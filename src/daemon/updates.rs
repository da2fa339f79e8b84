//! The way to the thread that keeps a view up to date.

use std::sync::Weak;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::control::ControlError;
use crate::control::protocol::ReloadReport;

/// The way to ask for an update.
#[derive(Debug, Clone)]
pub(super) struct Updates(Sender<Request>);

/// What the thread that keeps a view up to date is asked for.
pub(super) enum Request {
    /// Update at once, and answer.
    Reload(SyncSender<Result<ReloadReport, ControlError>>),
    /// Something happened near a file that is watched.
    Look,
    /// No more updates.
    End,
}

/// Waits for what is asked for next, until a time.
pub(super) fn wait(
    requests: &Receiver<Request>,
    until: Instant,
) -> Result<Request, RecvTimeoutError> {
    requests.recv_timeout(until.saturating_duration_since(Instant::now()))
}

impl Updates {
    pub(super) fn new(requests: Sender<Request>) -> Self {
        Self(requests)
    }

    /// Reads configuration and refs anew; returns when every new look-up sees the result.
    pub(super) fn reload(&self) -> Result<ReloadReport, ControlError> {
        let gone =
            || ControlError::Refused { message: "the daemon is stopping".to_owned(), cure: None };
        let (answer, answered) = mpsc::sync_channel(1);
        self.0.send(Request::Reload(answer)).map_err(|_| gone())?;
        answered.recv().unwrap_or_else(|_| Err(gone()))
    }

    /// Ends the updating thread when it is done with what it does.
    pub(super) fn end(&self) {
        // It may have ended by itself.
        self.0.send(Request::End).unwrap_or_default();
    }
}

/// The thread that keeps a view up to date.
pub(super) struct Updating {
    pub(super) thread: JoinHandle<()>,
    /// Can be upgraded for as long as it runs.
    pub(super) alive: Weak<()>,
}
