//! The way to the thread that keeps a view up to date.

use std::sync::Weak;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::control::ControlError;
use crate::control::protocol::ReloadReport;
use crate::daemon::unheard::Unheard;
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

/// What is asked for, as it comes to the thread.
pub(super) struct Requests {
    received: Receiver<UpdateRequest>,
    looks: Unheard,
}

impl Requests {
    /// Waits for what is asked for next, until a time.
    pub(super) fn wait(&self, until: Instant) -> Result<UpdateRequest, RecvTimeoutError> {
        let request =
            self.received.recv_timeout(until.saturating_duration_since(Instant::now()))?;
        if matches!(request, UpdateRequest::Look) {
            self.looks.heard();
        }
        Ok(request)
    }
}

/// The way to ask, what comes of it, and how it is said that something happened: at most one such notice waits, however long the thread is
/// busy.
pub(super) fn updates(stop: Stop) -> (Updates, Requests, impl Fn() + Send + Sync + 'static) {
    let (sender, received) = mpsc::channel();
    let (looks, asked) = (Unheard::default(), sender.clone());
    let said = looks.clone();
    // The last look may be asked for when the thread has ended already.
    let notice = move || said.say(|| asked.send(UpdateRequest::Look).unwrap_or_default());
    (Updates { requests: sender, stop }, Requests { received, looks }, notice)
}

impl Updates {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn of_many_notices_one_waits_and_none_is_lost() {
        let (updates, requests, notice) = updates(Stop::default());
        let now = || Instant::now() + Duration::from_secs(10);
        for _ in 0..3 {
            for _ in 0..10_000 {
                notice();
            }
            assert!(matches!(requests.wait(now()), Ok(UpdateRequest::Look)));
            assert!(matches!(requests.wait(Instant::now()), Err(RecvTimeoutError::Timeout)));
        }
        notice();
        updates.end();
        assert!(matches!(requests.wait(now()), Ok(UpdateRequest::Look)));
        assert!(matches!(requests.wait(now()), Ok(UpdateRequest::End)));
    }
}
