//! A repository opened once more, for what could not be read.
//!
//! The library remembers for good that the index of a pack could not be opened, also where the disk failed once or the process had no
//! descriptors left: all objects of the pack are missing to it from then on. And a file that was mapped and cut stays as it was mapped,
//! also when it is whole again. The first opening is kept, since it knows packs that are gone by now.
//!
//! An object that the library does not find may so be there. Here it is told whether it is: an opening in which no index lacks knows.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gix::ThreadSafeRepository;
use gix::odb::pack::{index, multi_index};
use gix::odb::store::structure::{IndexState, Record};

use super::repository::options;
use crate::store::is_momentary;

/// The least time between two openings: an object that the repository lacks for good may be asked for again and again.
const PAUSE: Duration = Duration::from_secs(1);

/// A second opening of a repository, made when it is needed.
pub(super) struct Again {
    object_bytes: u64,
    second: Mutex<Second>,
}

#[derive(Default)]
struct Second {
    since: Option<Instant>,
    repository: Option<Arc<ThreadSafeRepository>>,
    /// What kept the last opening from knowing all that is there.
    trouble: Option<String>,
}

/// What came of asking once more.
pub(super) enum SecondLook<T> {
    /// An answer.
    Answer(T),
    /// It is not there, or damaged.
    Nothing,
    /// Nobody can tell at the moment, because of this.
    Unknown(String),
}

enum Opening {
    Open(Arc<ThreadSafeRepository>),
    /// It cannot be opened; nothing passing is to blame.
    Failed,
    /// Something that may pass is to blame.
    Trouble(String),
    /// That was tried a moment ago.
    TooSoon,
}

impl Again {
    /// One that is to read objects of at most so many bytes, as the first.
    pub(super) fn within(object_bytes: u64) -> Self {
        Self { object_bytes, second: Mutex::default() }
    }

    /// Asks about an object, in the second opening and if that fails in one that is made now.
    pub(super) fn ask<T>(
        &self,
        path: &Path,
        id: gix::ObjectId,
        question: impl Fn(&gix::Repository, gix::ObjectId) -> Result<T, gix::Error>,
    ) -> SecondLook<T> {
        let ask = |repository: &ThreadSafeRepository| {
            let ask = || question(&repository.to_thread_local(), id);
            catch_unwind(AssertUnwindSafe(ask)).ok()
        };
        let known = self.second().repository.clone();
        if let Some(Ok(answer)) = known.as_deref().and_then(ask) {
            return SecondLook::Answer(answer);
        }
        let trouble = match self.open(path) {
            Opening::TooSoon => self.second().trouble.clone(),
            Opening::Failed => None,
            Opening::Trouble(trouble) => Some(trouble),
            Opening::Open(repository) => match ask(&repository) {
                Some(Ok(answer)) => {
                    let mut second = self.second();
                    (second.repository, second.trouble) = (Some(repository), None);
                    return SecondLook::Answer(answer);
                }
                Some(Err(error)) => momentary(&error).or_else(|| lacking(&repository)),
                None => None,
            },
        };
        self.second().trouble.clone_from(&trouble);
        trouble.map_or(SecondLook::Nothing, SecondLook::Unknown)
    }

    /// Opens the repository, unless that was tried a moment ago.
    fn open(&self, path: &Path) -> Opening {
        let mut second = self.second();
        if second.since.is_some_and(|since| since.elapsed() < PAUSE) {
            return Opening::TooSoon;
        }
        second.since = Some(Instant::now());
        second.trouble = Some("it is being opened anew".to_owned());
        drop(second);
        match catch_unwind(AssertUnwindSafe(|| options(self.object_bytes).open(path))) {
            Ok(Ok(repository)) => Opening::Open(Arc::new(repository)),
            Ok(Err(error)) => momentary(&error).map_or(Opening::Failed, Opening::Trouble),
            Err(_) => Opening::Failed,
        }
    }

    fn second(&self) -> std::sync::MutexGuard<'_, Second> {
        self.second.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the operating system said, where the library failed by that and it may pass.
pub(super) fn momentary(error: &gix::Error) -> Option<String> {
    let mut causes = error.iter_errors().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.find(|cause| is_momentary(cause)).map(ToString::to_string)
}

/// Why a repository in which something was looked for in vain does not know all of its packs, if that is so and may pass.
pub(super) fn lacking(repository: &ThreadSafeRepository) -> Option<String> {
    let records = match repository.objects.structure() {
        Ok(records) => records,
        Err(error) => return momentary(&error),
    };
    let hash = repository.objects.object_hash();
    records.iter().find_map(|record| match record {
        Record::LooseObjectDatabase { .. }
        | Record::Empty
        | Record::Index { state: IndexState::Loaded, .. }
        | Record::MultiIndex { state: IndexState::Loaded, .. } => None,
        Record::Index { path, .. } => {
            could_be_opened(path, || index::File::at(path, hash).map(|_| vec![path.clone()]))
        }
        Record::MultiIndex { path, .. } => could_be_opened(path, || {
            let file = multi_index::File::at(path, None)?;
            Ok(file.index_names().iter().map(|name| path.with_file_name(name)).collect())
        }),
    })
}

/// Whether the library could have opened an index that it has not. If it is whole and has its packs by now, it could not a moment ago.
fn could_be_opened(
    path: &Path,
    open: impl Fn() -> Result<Vec<std::path::PathBuf>, gix::Error>,
) -> Option<String> {
    let opened = catch_unwind(AssertUnwindSafe(open)).ok()?;
    match opened {
        Err(error) => momentary(&error),
        Ok(indices) => {
            let is_whole = indices.iter().all(|index| index.with_extension("pack").is_file());
            is_whole.then(|| format!("`{}` could not be opened a moment ago", path.display()))
        }
    }
}
