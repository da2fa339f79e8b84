//! A large blob that can be read.
//!
//! The kernel keeps what it was given in its own page cache of the view. So once it was given a whole blob, the cached pages of the file behind
//! it are of no more use, and are dropped, unless another process has the file open too. Whether one has, the lock on the file tells (flock(2)).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::{letting_go, slice};
use crate::store::StoreError;

/// How often the time of a file that is read is renewed: the file that was used last is evicted last.
const RENEWED: Duration = Duration::from_secs(60);

/// Where the bytes of a large blob are stored.
#[derive(Debug)]
pub(super) enum Storage {
    /// In a file.
    File(File),
    /// In memory, where there is no room on disk.
    Memory(Vec<u8>),
}

/// A large blob, whole and checked.
#[derive(Debug)]
pub(super) struct OpenedBlob {
    storage: Storage,
    size_bytes: u64,
    /// Whether its file had a name in the cache directory when it was opened: then closing it frees nothing.
    pub(super) has_name: bool,
    since: Instant,
    /// Seconds after it was opened at which the file's time was renewed.
    renewed_secs: AtomicU64,
    /// Whether its pages are about to be dropped.
    is_let_go: AtomicBool,
}

impl OpenedBlob {
    pub(super) fn new(storage: Storage, size_bytes: u64, has_name: bool) -> Self {
        let renewed_secs = AtomicU64::new(0);
        if let Storage::File(file) = &storage {
            // Where there are no locks the pages stay.
            file.try_lock_shared().unwrap_or_default();
        }
        let is_let_go = AtomicBool::new(false);
        Self { storage, size_bytes, has_name, since: Instant::now(), renewed_secs, is_let_go }
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub(super) fn is_in_memory(&self) -> bool {
        matches!(self.storage, Storage::Memory(_))
    }

    /// False for a file that was evicted and only takes room until it is closed.
    pub(super) fn is_linked(&self) -> bool {
        match &self.storage {
            Storage::File(file) => file.metadata().is_ok_and(|metadata| metadata.nlink() > 0),
            Storage::Memory(_) => false,
        }
    }

    pub(super) fn read(self: &Arc<Self>, offset: u64, len: usize) -> Result<Vec<u8>, StoreError> {
        match &self.storage {
            Storage::Memory(bytes) => Ok(slice(bytes, offset, len)),
            Storage::File(file) => {
                self.renew(file);
                let bytes = read_exactly(file, self.size_bytes, offset, len)?;
                if offset + bytes.len() as u64 == self.size_bytes && self.has_name {
                    self.let_go_of_pages();
                }
                Ok(bytes)
            }
        }
    }

    /// Its file, by a descriptor of the caller's own; `None` if it is in memory.
    pub(super) fn file(&self) -> Result<Option<File>, StoreError> {
        let Storage::File(file) = &self.storage else { return Ok(None) };
        if file.metadata()?.len() != self.size_bytes {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.renew(file);
        Ok(Some(file.try_clone()?))
    }

    /// Drops the pages of the file from the page cache, soon.
    fn let_go_of_pages(self: &Arc<Self>) {
        if !self.is_let_go.swap(true, Ordering::Relaxed) && !letting_go::begin(self) {
            self.is_let_go.store(false, Ordering::Relaxed);
        }
    }

    /// All attempts to drop its pages have been made.
    pub(super) fn has_let_go(&self) {
        self.is_let_go.store(false, Ordering::Relaxed);
    }

    pub(super) fn advise_to_let_go(&self) {
        if let Storage::File(file) = &self.storage
            && file.try_lock().is_ok()
        {
            // Only an advice. What is not on the disk yet stays, and begins to be written.
            posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap_or_default();
            file.try_lock_shared().unwrap_or_default();
        }
    }

    fn renew(&self, file: &File) {
        let now = self.since.elapsed().as_secs();
        let last = self.renewed_secs.load(Ordering::Relaxed);
        if now < last + RENEWED.as_secs() {
            return;
        }
        let ours =
            self.renewed_secs.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed);
        if ours.is_ok() {
            // It only orders what is evicted.
            file.set_modified(SystemTime::now()).unwrap_or_default();
        }
    }
}

/// Reads `len` bytes from `offset` of a file that must have `size_bytes`, or as many as there are before that size.
///
/// # Errors
/// The file ends before its size, or cannot be read.
pub(in crate::store) fn read_exactly(
    file: &File,
    size_bytes: u64,
    offset: u64,
    len: usize,
) -> Result<Vec<u8>, StoreError> {
    let left = usize::try_from(size_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len.min(left)).map_err(io::Error::from)?;
    bytes.resize(len.min(left), 0);
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}
