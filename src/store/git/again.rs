//! A repository opened once more, for what could not be read.
//!
//! The library remembers for good that the index of a pack could not be opened, also where the disk failed once or the process had no
//! descriptors left: all objects of the pack are missing to it from then on. And a file that was mapped and cut stays as it was mapped,
//! also when it is whole again. The first opening is kept, since it knows packs that are gone by now.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::repository::options;

/// The least time between two openings: an object that the repository lacks for good may be asked for again and again.
const PAUSE: Duration = Duration::from_secs(1);

/// A second opening of a repository, made when it is needed.
#[derive(Default)]
pub(super) struct Again(Mutex<Second>);

#[derive(Default)]
struct Second {
    since: Option<Instant>,
    repository: Option<Arc<gix::ThreadSafeRepository>>,
}

impl Again {
    /// Asks about an object, in the second opening and if that fails in one that is made now; `None` if neither has an answer.
    pub(super) fn ask<T>(
        &self,
        path: &Path,
        id: gix::ObjectId,
        question: impl Fn(&gix::Repository, gix::ObjectId) -> Result<T, gix::Error>,
    ) -> Option<T> {
        let ask = |repository: &gix::ThreadSafeRepository| {
            let ask = || question(&repository.to_thread_local(), id);
            catch_unwind(AssertUnwindSafe(ask)).ok()?.ok()
        };
        let known = self.second().repository.clone();
        if let Some(answer) = known.as_deref().and_then(ask) {
            return Some(answer);
        }
        let repository = self.open(path)?;
        let answer = ask(&repository)?;
        self.second().repository = Some(repository);
        Some(answer)
    }

    /// Opens the repository, unless that was tried a moment ago.
    fn open(&self, path: &Path) -> Option<Arc<gix::ThreadSafeRepository>> {
        let mut second = self.second();
        if second.since.is_some_and(|since| since.elapsed() < PAUSE) {
            return None;
        }
        second.since = Some(Instant::now());
        drop(second);
        let opened = catch_unwind(AssertUnwindSafe(|| options().open(path)));
        opened.ok()?.ok().map(Arc::new)
    }

    fn second(&self) -> std::sync::MutexGuard<'_, Second> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
