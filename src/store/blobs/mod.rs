//! Decoded git blobs, kept within bounds: small ones in memory, large ones in files of the cache directory.
//!
//! A blob is decoded once however many readers ask for it at the same time, large ones as a stream wherever git stored them as one; what
//! must be whole in memory to be decoded waits for its part of a budget. The bytes of a large blob are compared with its id before
//! anybody sees one of them.

mod budget;
mod directory;
mod draft;
mod hashing;
mod large;
mod letting_go;
mod opened;

#[cfg(test)]
mod moment_tests;
#[cfg(test)]
mod tests;

pub(super) use draft::Draft;
pub(super) use hashing::{PIECES, Piece};
pub(super) use opened::read_exactly;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use self::large::LargeBlobs;
use self::opened::OpenedBlob;
use super::StoreError;
use crate::union::object::Oid;

/// How much a [`BlobCache`] may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobLimits {
    /// Bytes of small blobs in memory. A large one for which there is no room on disk may take as much once more.
    pub memory_bytes: u64,
    /// Blobs with more bytes than this are large: they go to disk.
    pub small_bytes: u64,
    /// Bytes of large blobs on disk. The one decoded last is held beyond them.
    pub disk_bytes: u64,
    /// Blobs with more bytes than this are not read at all.
    pub object_bytes: u64,
    /// Bytes that decodings of large blobs may take at the same time. A single one may take more.
    pub decoding_bytes: u64,
}

impl Default for BlobLimits {
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            small_bytes: 4 << 20,
            disk_bytes: 2 << 30,
            object_bytes: OBJECT_BYTES,
            decoding_bytes: 128 << 20,
        }
    }
}

/// The largest git object that is read where nobody sets another limit, in bytes.
pub const OBJECT_BYTES: u64 = 8 << 30;
/// The largest one that is decoded in memory whatever the limit, in bytes: trees, commits, tags, and blobs that are stored as differences. git itself stores none
/// of more than `core.bigFileThreshold` so, 512 MiB unless it is set (git-config(1)).
pub const WHOLE_BYTES_MAX: u64 = 1 << 30;

/// A blob of a repository. A repository that lacks a blob does not get it from another one's, so that each has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlobKey {
    /// The repository: a digest of its real path.
    pub repository: [u8; 16],
    /// The blob's id.
    pub oid: Oid,
}

/// Where encoded blobs come from.
pub(super) trait BlobOrigin {
    /// How many bytes a blob has.
    fn size(&self, oid: &Oid) -> Result<u64, StoreError>;

    /// A whole blob.
    fn bytes(&self, oid: &Oid) -> Result<Vec<u8>, StoreError>;

    /// Decodes a blob piece by piece, if it is stored so that this can be done.
    fn stream(&self, oid: &Oid, draft: &mut Draft) -> Result<Streamed, StoreError>;
}

/// What came of decoding a blob piece by piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Streamed {
    /// All of it was written.
    Whole,
    /// It has to be decoded in memory.
    NotAStream,
}

/// The decoded blobs of all git stores.
#[derive(Debug)]
pub struct BlobCache {
    limits: BlobLimits,
    small: Cache<BlobKey, Arc<[u8]>, SmallWeight>,
    large: LargeBlobs,
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Debug, Clone)]
struct SmallWeight;

impl Weighter<BlobKey, Arc<[u8]>> for SmallWeight {
    fn weight(&self, _key: &BlobKey, blob: &Arc<[u8]>) -> u64 {
        // The key, the pointers and the cache's own slot count too: a million empty blobs are not free.
        blob.len() as u64 + 128
    }
}

/// The cache may be divided into shards only as far as each still holds a few of the heaviest items.
fn options(capacity: u64, heaviest: u64, items: u64) -> quick_cache::Options {
    let shards = (capacity / heaviest.max(1) / 4).clamp(1, 16);
    let shards = if shards.is_power_of_two() { shards } else { shards.next_power_of_two() / 2 };
    OptionsBuilder::new()
        .weight_capacity(capacity.max(1))
        .estimated_items_capacity(usize::try_from(items.clamp(16, 1 << 20)).unwrap_or(16))
        .shards(usize::try_from(shards).unwrap_or(1))
        .build()
        .expect("all three required options are given")
}

impl BlobCache {
    /// Makes an empty cache. `dir` holds the files of large blobs, also of earlier caches there and of those of other processes; it
    /// is created when the first one comes.
    pub fn new(dir: impl Into<PathBuf>, limits: BlobLimits) -> Self {
        let items = limits.memory_bytes / 4096;
        let small = options(limits.memory_bytes, limits.small_bytes, items);
        let hash = DefaultHashBuilder::default();
        let small = Cache::with_options(small, SmallWeight, hash, DefaultLifecycle::default());
        let (hits, misses) = Default::default();
        Self { limits, small, large: LargeBlobs::new(dir.into(), limits), hits, misses }
    }

    /// Bytes that decoded blobs take at present, in memory and on disk. The latter counts files.
    pub fn used_bytes(&self) -> (u64, u64) {
        (self.small.weight(), self.large.used_bytes())
    }

    /// Why large blobs are not kept in the directory at present, if they are not: they are read all the same where there is another place.
    pub fn trouble(&self) -> Option<String> {
        self.large.trouble()
    }

    /// Reads of blobs that were held, and of blobs that were not.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }

    /// Bytes of a blob from `offset`: `len` of them, or as many as there are before its end.
    ///
    /// `origin` is asked only for what is not held.
    ///
    /// # Errors
    /// Whatever the origin says; the blob is too large, is not what its id says, or there is no room for it.
    pub(super) fn read(
        &self,
        key: BlobKey,
        origin: &dyn BlobOrigin,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, StoreError> {
        if let Some(bytes) = self.read_at_hand(key, origin, None, offset, len)? {
            return Ok(bytes);
        }
        self.of_large(key, origin, |blob| blob.read(offset, len))
    }

    /// Whether a blob of this size goes to disk.
    pub(super) fn is_large(&self, size_bytes: u64) -> bool {
        size_bytes > self.limits.small_bytes
    }

    /// The file of a large blob, whole; `None` where there is no room on disk.
    ///
    /// # Errors
    /// As [`BlobCache::read`].
    pub(super) fn file(
        &self,
        key: BlobKey,
        origin: &dyn BlobOrigin,
    ) -> Result<Option<File>, StoreError> {
        self.of_large(key, origin, |blob| blob.file())
    }

    /// Asks a large blob.
    fn of_large<T>(
        &self,
        key: BlobKey,
        origin: &dyn BlobOrigin,
        question: impl Fn(&Arc<OpenedBlob>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let size_bytes = self.size(key, origin)?;
        match question(&self.large.get(key, size_bytes, origin)?) {
            // Somebody cut the file, or the disk lost it: once more from the repository.
            Err(StoreError::Io(error)) => {
                tracing::warn!(oid = %key.oid, %error, "a cached file cannot be read: decoded anew");
                self.large.forget(&key);
                question(&self.large.get(key, size_bytes, origin)?)
            }
            answer => answer,
        }
    }

    /// The same, but `None` where that would wait for a large blob to be decoded or checked. `size_bytes` is the blob's size, where
    /// it is known.
    ///
    /// A small blob that is read whole at once is not kept: the kernel keeps its pages, and the next question for it may never come.
    ///
    /// # Errors
    /// As [`BlobCache::read`].
    pub(super) fn read_at_hand(
        &self,
        key: BlobKey,
        origin: &dyn BlobOrigin,
        size_bytes: Option<u64>,
        offset: u64,
        len: usize,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(size_bytes) = size_bytes
            && offset == 0
            && size_bytes <= self.limits.small_bytes.min(len as u64)
        {
            self.misses.fetch_add(1, Ordering::Relaxed);
            return whole(key, size_bytes, origin.bytes(&key.oid)?).map(Some);
        }
        if let Some(blob) = self.small.get(&key) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(Some(slice(&blob, offset, len)));
        }
        if let Some(blob) = self.large.held(&key) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            // What fails here is tried again by who may wait.
            return Ok(blob.read(offset, len).ok());
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let size_bytes = size_bytes.map_or_else(|| self.size(key, origin), Ok)?;
        if size_bytes > self.limits.small_bytes {
            return Ok(None);
        }
        let decode = || whole(key, size_bytes, origin.bytes(&key.oid)?).map(Arc::from);
        let blob = self.small.get_or_insert_with(&key, decode)?;
        Ok(Some(slice(&blob, offset, len)))
    }

    fn size(&self, key: BlobKey, origin: &dyn BlobOrigin) -> Result<u64, StoreError> {
        let size_bytes = origin.size(&key.oid)?;
        let limit_bytes = self.limits.object_bytes;
        if size_bytes <= limit_bytes {
            return Ok(size_bytes);
        }
        Err(StoreError::TooLarge { oid: key.oid.to_string(), size_bytes, limit_bytes })
    }
}

/// Checks that a decoded blob has the size that was promised for it.
fn whole(key: BlobKey, size_bytes: u64, bytes: Vec<u8>) -> Result<Vec<u8>, StoreError> {
    if bytes.len() as u64 == size_bytes {
        return Ok(bytes);
    }
    let cause = format!("decoded to {} bytes instead of {size_bytes}", bytes.len());
    Err(unreadable(&key.oid, cause))
}

fn unreadable(oid: &Oid, cause: String) -> StoreError {
    StoreError::Unreadable { oid: oid.to_string(), cause }
}

fn slice(bytes: &[u8], offset: u64, len: usize) -> Vec<u8> {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    let end = start.saturating_add(len).min(bytes.len());
    bytes[start..end].to_vec()
}
