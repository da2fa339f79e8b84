//! Copies what sources with `pin: copy` serve, beside the view: neither a mount nor a flip waits for it.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use tracing::info;

use super::DaemonError;
use super::guard::survived;
use crate::snapshot::{Pinning, Snapshot, Source};
use crate::sync::fetch::Stop;
use crate::sync::pin::Pins;

/// The thread that copies, as others see it. It ends with the value.
#[derive(Debug)]
pub(super) struct Copying {
    sources: Option<Sender<Arc<Source>>>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Copying {
    /// Starts the thread; there is nothing to copy yet.
    pub(super) fn start(pins: Arc<Pins>) -> Result<Self, DaemonError> {
        let (sender, sources) = mpsc::channel();
        let stop = Stop::default();
        let wish = stop.clone();
        let thread = thread::Builder::new()
            .name("copy".into())
            .spawn(move || run(&pins, &wish, &sources))
            .map_err(|error| DaemonError::Start { step: "starting a thread", error })?;
        Ok(Self { sources: Some(sender), stop, thread: Some(thread) })
    }

    /// Has everything copied that a snapshot waits for.
    pub(super) fn follow(&self, snapshot: &Snapshot) {
        let Some(sender) = &self.sources else { return };
        for source in &snapshot.sources {
            if source.pinning.get() == Pinning::Awaited {
                // Without the thread it stays unpinned, and `status` says so.
                sender.send(source.clone()).unwrap_or_default();
            }
        }
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        self.stop.set();
        drop(self.sources.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap_or_default();
        }
    }
}

fn run(pins: &Pins, stop: &Stop, sources: &Receiver<Arc<Source>>) {
    for source in sources {
        survived("copying", || copy(pins, stop, &source));
    }
}

fn copy(pins: &Pins, stop: &Stop, source: &Source) {
    let Some(git) = source.git.as_ref() else { return };
    if stop.is_set() || source.pinning.get() != Pinning::Awaited {
        return;
    }
    // There is none if it was stopped.
    let copied = pins.copy(&git.lender(), &git.commit(), git.lfs(), stop);
    let Some((repository, pinning)) = copied else { return };
    if pinning == Pinning::Pinned {
        info!(source = source.label, revision = %git.commit(), "copied");
        git.adopt(repository);
    }
    source.pinning.set(pinning);
}
