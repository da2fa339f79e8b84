//! What is done once, when the thread that keeps a view up to date begins.

use super::{KEPT_SETS, Updater};
use crate::snapshot::Pinning;

impl Updater {
    /// Shows the sets that the last daemon of this mount kept.
    pub(super) fn restore_left(&mut self) {
        let left = self.caches.left.take();
        let Some(archive) = self.caches.archive.as_deref() else { return };
        let pins = &self.caches.pins;
        let left = left.unwrap_or_else(|| pins.left().into());
        let earlier = archive.load(pins, &left, &self.config, KEPT_SETS);
        self.view.restore(earlier, &self.kernel);
    }

    /// Has the next daemon find the first set, unless a worker before has seen to that.
    pub(super) fn keep_first(&self) {
        if let Some(archive) = self.caches.archive.as_ref().filter(|_| !self.is_resumed) {
            archive.keep(&self.view.snapshot(), &self.config);
        }
    }

    /// Pins what the first snapshot serves.
    pub(super) fn pin_first(&self) {
        let snapshot = self.view.snapshot();
        self.caches.copying.follow(&snapshot);
        for source in &snapshot.sources {
            let Some(git) =
                source.git.as_ref().filter(|_| source.pinning.get() != Pinning::Awaited)
            else {
                continue;
            };
            let pins = &self.caches.pins;
            // Another view may have pinned it already: a pin is made of the repository itself.
            let (repository, pinning) = pins.pin_source(source, git);
            git.adopt(repository);
            source.pinning.set(pinning);
        }
    }
}
