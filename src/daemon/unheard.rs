//! A notice that waits at most once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether something was said that was not heard yet. Said again meanwhile it would say nothing more, and whoever writes to a watched directory
/// without end could fill the memory of a process that is busy.
#[derive(Debug, Clone, Default)]
pub(super) struct Unheard(Arc<AtomicBool>);

impl Unheard {
    /// Says it, unless it waits to be heard already.
    pub(super) fn say(&self, say: impl FnOnce()) {
        if !self.0.swap(true, Ordering::AcqRel) {
            say();
        }
    }

    /// What is said from now on is said anew. Called before it is acted upon.
    pub(super) fn heard(&self) {
        self.0.store(false, Ordering::Release);
    }
}
