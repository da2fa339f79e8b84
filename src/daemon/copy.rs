//! Copies what sources with `pin: copy` serve, beside the view: neither a mount nor a flip waits for it.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use tracing::{info, warn};

use super::guard::survived;
use crate::snapshot::{Pinning, Snapshot, Source};
use crate::sync::fetch::Stop;
use crate::sync::pin::Pins;

/// Who copies. It ends with the value.
#[derive(Debug)]
pub(super) struct Copying {
    pins: Arc<Pins>,
    stop: Stop,
    /// The thread, from the first source on that is to be copied: most mounts have none.
    thread: Mutex<Option<Copier>>,
}

#[derive(Debug)]
struct Copier {
    sources: Sender<Arc<Source>>,
    thread: JoinHandle<()>,
}

impl Copying {
    /// There is nothing to copy yet.
    pub(super) fn new(pins: Arc<Pins>) -> Self {
        let (stop, thread) = Default::default();
        Self { pins, stop, thread }
    }

    /// Has everything copied that a snapshot waits for.
    pub(super) fn follow(&self, snapshot: &Snapshot) {
        for source in &snapshot.sources {
            // Where there is no thread it stays unpinned, and `status` says so.
            if source.pinning.get() == Pinning::Awaited
                && let Err(error) = self.send(source)
            {
                warn!(%error, "the thread that copies cannot be started");
            }
        }
    }

    fn send(&self, source: &Arc<Source>) -> io::Result<()> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            *thread = Some(self.start()?);
        }
        let Some(copier) = &*thread else { return Ok(()) };
        copier.sources.send(source.clone()).map_err(io::Error::other)
    }

    fn start(&self) -> io::Result<Copier> {
        let (sender, sources) = mpsc::channel();
        let (pins, wish) = (self.pins.clone(), self.stop.clone());
        let work = move || run(&pins, &wish, &sources);
        let thread = thread::Builder::new().name("copy".into()).spawn(work)?;
        Ok(Copier { sources: sender, thread })
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        self.stop.set();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Copier { sources, thread }) = thread {
            drop(sources);
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
