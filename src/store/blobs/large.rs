//! Large blobs: which are open, who decodes one, and where it is put.
//!
//! Locks, in the order in which they may be taken: that of one blob (`flights`), held while the blob is decoded or checked; that of `last`;
//! that of the map of `flights`, held for a look-up only.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, Weighter};

use super::budget::Budget;
use super::directory::CacheDirectory;
use super::draft::Draft;
use super::opened::{OpenedBlob, Storage};
use super::{BlobKey, BlobLimits, BlobOrigin, Streamed, options};
use crate::store::StoreError;
use crate::union::object::Oid;

/// What decoding a blob as a stream takes: the window of the decoder, pieces of input and output, and those that wait to be hashed.
const STREAM_BYTES: u64 = 2 << 20;

/// The memory that decoding a blob stored as a delta takes, in sizes of the blob: its base, itself, and the delta.
const WHOLE_SIZES: u64 = 3;

/// The most files that are open.
const OPEN_FILES: u64 = 256;

/// The large blobs of all git stores.
pub(super) struct LargeBlobs {
    limits: BlobLimits,
    directory: CacheDirectory,
    budget: Budget,
    /// Whether the directory could not be written to last: then files are made in the directory for temporary files.
    is_dir_refused: AtomicBool,
    /// Why the blob that was decoded last could not be put into a file of the directory, if it could not.
    trouble: Mutex<Option<String>>,
    /// Whether it was said in the log that large blobs are kept in memory.
    is_memory_used: AtomicBool,
    open: Cache<BlobKey, Arc<OpenedBlob>, LargeWeight>,
    /// The blob that was decoded last: the cache may not admit it beside the ones that it holds, and without it
    /// each of the many reads of one pass would decode it anew.
    last: Mutex<Option<(BlobKey, Arc<OpenedBlob>)>>,
    /// For each blob that is open or waited for a lock, so that only one thread decodes it, with the blob for those who waited.
    flights: Mutex<HashMap<Oid, Arc<Mutex<Weak<OpenedBlob>>>>>,
}

#[derive(Debug, Clone)]
struct LargeWeight {
    most: u64,
}

impl Weighter<BlobKey, Arc<OpenedBlob>> for LargeWeight {
    fn weight(&self, _key: &BlobKey, blob: &Arc<OpenedBlob>) -> u64 {
        // A file with a name takes its place on the disk whether it is open or not: closing it saves a descriptor and nothing else.
        let least = (self.most / OPEN_FILES).max(1);
        let bytes = if blob.has_name { least } else { blob.size_bytes() };
        // A blob heavier than the cache would never be admitted.
        bytes.clamp(least, self.most)
    }
}

/// Where a large blob is put.
#[derive(Debug, Clone, Copy)]
enum BlobPlace {
    Disk,
    /// On disk, after everything else there has gone.
    EmptiedDisk,
    Memory,
}

/// Why a large blob is not there.
enum Missing {
    /// The operating system had no place for it.
    NoRoom(io::Error),
    Failed(StoreError),
}

impl From<StoreError> for Missing {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

impl LargeBlobs {
    pub(super) fn new(dir: PathBuf, limits: BlobLimits) -> Self {
        let weights = options(limits.disk_bytes, limits.disk_bytes, OPEN_FILES);
        // The cache refuses what is heavier than its share of hot items, 97 of 100.
        let weight = LargeWeight { most: (limits.disk_bytes / 10 * 9).max(1) };
        let hash = DefaultHashBuilder::default();
        Self {
            limits,
            directory: CacheDirectory::new(dir, limits.disk_bytes),
            budget: Budget::new(limits.decoding_bytes),
            is_dir_refused: AtomicBool::new(false),
            trouble: Mutex::new(None),
            is_memory_used: AtomicBool::new(false),
            open: Cache::with_options(weights, weight, hash, DefaultLifecycle::default()),
            last: Mutex::new(None),
            flights: Mutex::default(),
        }
    }

    /// Bytes that large blobs take on disk.
    pub(super) fn used_bytes(&self) -> u64 {
        self.directory.used_bytes()
    }

    /// Why large blobs are not kept in files of the directory at present, if they are not.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_trouble(&self, said: Option<&io::Error>) {
        let dir = self.directory.path().display();
        let trouble = said.map(|error| format!("large files have no place in `{dir}`: {error}"));
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// A blob that is open.
    pub(super) fn held(&self, key: &BlobKey) -> Option<Arc<OpenedBlob>> {
        if let Some(blob) = self.open.get(key) {
            return Some(blob);
        }
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|(known, _)| known == key).map(|(_, blob)| blob.clone())
    }

    /// A large blob, decoded at most once by all who ask for it meanwhile.
    pub(super) fn get(
        &self,
        key: BlobKey,
        size_bytes: u64,
        origin: &dyn BlobOrigin,
    ) -> Result<Arc<OpenedBlob>, StoreError> {
        if let Some(blob) = self.held(&key) {
            return Ok(blob);
        }
        let flight = self.flight(&key.oid);
        let mut known = flight.lock().unwrap_or_else(PoisonError::into_inner);
        let blob = match known.upgrade() {
            Some(blob) if blob.size_bytes() == size_bytes => blob,
            Some(_) | None => match self.directory.open(&key.oid, size_bytes) {
                Some(file) => Arc::new(OpenedBlob::new(Storage::File(file), size_bytes, true)),
                None => Arc::new(self.decoded(&key.oid, size_bytes, origin)?),
            },
        };
        *known = Arc::downgrade(&blob);
        drop(known);
        if !blob.is_in_memory() {
            self.open.insert(key, blob.clone());
        }
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((key, blob.clone()));
        Ok(blob)
    }

    /// How many locks of single blobs there are.
    #[cfg(test)]
    pub(super) fn flights_left(&self) -> usize {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn flight(&self, oid: &Oid) -> Arc<Mutex<Weak<OpenedBlob>>> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if !flights.contains_key(oid) {
            let is_used = |flight: &Arc<Mutex<Weak<OpenedBlob>>>| {
                Arc::strong_count(flight) > 1
                    || flight.try_lock().is_ok_and(|blob| blob.strong_count() > 0)
            };
            flights.retain(|_, flight| is_used(flight));
        }
        flights.entry(*oid).or_default().clone()
    }

    /// Forgets a large blob whose file fails.
    pub(super) fn forget(&self, key: &BlobKey) {
        self.directory.remove(&key.oid);
        self.open.remove(key);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_some_and(|(known, _)| known == key) {
            *last = None;
        }
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        flights.remove(&key.oid);
    }

    /// Decodes a large blob to where there is room for it.
    fn decoded(
        &self,
        oid: &Oid,
        size_bytes: u64,
        origin: &dyn BlobOrigin,
    ) -> Result<OpenedBlob, StoreError> {
        let mut said = None;
        for place in [BlobPlace::Disk, BlobPlace::EmptiedDisk, BlobPlace::Memory] {
            if matches!(place, BlobPlace::Memory) && size_bytes > self.limits.memory_bytes {
                continue;
            }
            if matches!(place, BlobPlace::EmptiedDisk)
                && let Err(error) = self.make_room(said.as_ref())
            {
                said = Some(error);
                continue;
            }
            match self.decoded_to(place, oid, size_bytes, origin) {
                Ok(blob) => {
                    if said.is_some() || !self.is_dir_refused.load(Ordering::Relaxed) {
                        self.set_trouble(said.as_ref().filter(|_| blob.is_in_memory()));
                    }
                    return Ok(blob);
                }
                Err(Missing::Failed(error)) => return Err(error),
                Err(Missing::NoRoom(error)) => said = Some(error),
            }
        }
        self.set_trouble(said.as_ref());
        Err(StoreError::NoRoom {
            oid: oid.to_string(),
            size_bytes,
            directory: self.directory.path().to_owned(),
            error: said.unwrap_or_else(|| io::ErrorKind::StorageFull.into()),
        })
    }

    /// Closes all files, and removes them from the disk unless what lacked is descriptors.
    fn make_room(&self, lacked: Option<&io::Error>) -> io::Result<()> {
        self.open.clear();
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if lacked.is_some_and(is_of_descriptors) { Ok(()) } else { self.directory.empty() }
    }

    fn decoded_to(
        &self,
        place: BlobPlace,
        oid: &Oid,
        size_bytes: u64,
        origin: &dyn BlobOrigin,
    ) -> Result<OpenedBlob, Missing> {
        let mut draft = match place {
            BlobPlace::Disk | BlobPlace::EmptiedDisk => self.draft_on_disk(oid, size_bytes)?,
            BlobPlace::Memory => self.draft_in_memory(oid, size_bytes),
        };
        if let Err(error) = self.fill(&mut draft, oid, size_bytes, origin) {
            return Err(match draft.failure() {
                Some(error) => Missing::NoRoom(error),
                None => Missing::Failed(error),
            });
        }
        let storage = draft.finish()?;
        let has_name = match &storage {
            Storage::File(file) => self.directory.keep(file, oid, size_bytes),
            Storage::Memory(_) => false,
        };
        // Files that other daemons have evicted take their place on the disk until they are closed here.
        self.open.retain(|_, blob| !blob.has_name || blob.is_linked());
        Ok(OpenedBlob::new(storage, size_bytes, has_name))
    }

    fn fill(
        &self,
        draft: &mut Draft,
        oid: &Oid,
        size_bytes: u64,
        origin: &dyn BlobOrigin,
    ) -> Result<(), StoreError> {
        let streamed = {
            let _lent = self.budget.borrow(STREAM_BYTES);
            origin.stream(oid, draft)?
        };
        match streamed {
            Streamed::Whole => Ok(()),
            Streamed::NotAStream => {
                let _lent = self.budget.borrow(size_bytes.saturating_mul(WHOLE_SIZES));
                draft.begin_again()?;
                draft.write(&origin.bytes(oid)?.into())
            }
        }
    }

    fn draft_on_disk(&self, oid: &Oid, size_bytes: u64) -> Result<Draft, Missing> {
        let file = self.nameless_file(size_bytes).map_err(Missing::NoRoom)?;
        Ok(Draft::in_file(file, *oid, size_bytes))
    }

    fn draft_in_memory(&self, oid: &Oid, size_bytes: u64) -> Draft {
        if !self.is_memory_used.swap(true, Ordering::Relaxed) {
            let (dir, limit_bytes) = (self.directory.path().display(), self.limits.memory_bytes);
            tracing::warn!(%dir, limit_bytes, "no room for large files: one at a time is kept in memory, larger ones are not read; free room there");
        }
        Draft::in_memory(*oid, size_bytes)
    }

    fn nameless_file(&self, size_bytes: u64) -> io::Result<File> {
        // Tried each time: why it could not be written to may have passed.
        match self.directory.nameless(size_bytes) {
            Ok(file) => {
                self.is_dir_refused.store(false, Ordering::Relaxed);
                Ok(file)
            }
            Err(error) if is_full(&error) => Err(error),
            Err(error) => {
                self.set_trouble(Some(&error));
                if !self.is_dir_refused.swap(true, Ordering::Relaxed) {
                    let (dir, instead) = (self.directory.path().display(), std::env::temp_dir());
                    tracing::warn!(%dir, instead = %instead.display(), %error, "large files are kept elsewhere");
                }
                tempfile::tempfile()
            }
        }
    }
}

impl fmt::Debug for LargeBlobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("LargeBlobs");
        text.field("directory", &self.directory.path()).finish_non_exhaustive()
    }
}

/// A full disk or quota is no reason to fill the next one, and passes.
fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    ) || is_of_descriptors(error)
}

/// Whether this process, or the machine, has no descriptors left.
fn is_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}
