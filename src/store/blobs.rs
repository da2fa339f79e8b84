//! Decoded git blobs, kept within bounds: small ones in memory, large ones in unlinked temporary files.
//!
//! A blob is decoded once however many readers ask for it at the same time. Evicting a large blob closes its file, which
//! frees its room on disk; who reads it at that moment keeps it open.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use super::StoreError;
use crate::union::object::Oid;

/// How much a [`BlobCache`] may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobLimits {
    /// Bytes of small blobs in memory.
    pub memory_bytes: u64,
    /// Blobs with more bytes than this are large: they go to disk.
    pub small_bytes: u64,
    /// Bytes of large blobs on disk. The one decoded last is held beyond them.
    pub disk_bytes: u64,
    /// Blobs with more bytes than this are not read at all.
    pub object_bytes: u64,
}

impl Default for BlobLimits {
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            small_bytes: 4 << 20,
            disk_bytes: 2 << 30,
            object_bytes: OBJECT_BYTES_MAX,
        }
    }
}

/// The largest git object that is read, in bytes.
pub const OBJECT_BYTES_MAX: u64 = 8 << 30;

/// A blob of a repository. Repositories are not trusted to agree about what an id means, so that each has its own blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlobKey {
    /// The repository: a digest of its real path.
    pub repository: [u8; 16],
    /// The blob's id.
    pub oid: Oid,
}

/// The decoded blobs of all git stores.
#[derive(Debug)]
pub struct BlobCache {
    limits: BlobLimits,
    dir: PathBuf,
    is_dir_refused: AtomicBool,
    small: Cache<BlobKey, Arc<[u8]>, SmallWeight>,
    large: Cache<BlobKey, Arc<Spilled>, LargeWeight>,
    /// The large blob that was decoded last: the cache may not admit it beside the ones that it holds, and without it
    /// each of the many reads of one pass would decode it anew.
    last_large: Mutex<Option<(BlobKey, Arc<Spilled>)>>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// A large blob in a file without a name.
#[derive(Debug)]
struct Spilled {
    file: File,
    size_bytes: u64,
}

#[derive(Debug, Clone)]
struct SmallWeight;

impl Weighter<BlobKey, Arc<[u8]>> for SmallWeight {
    fn weight(&self, _key: &BlobKey, blob: &Arc<[u8]>) -> u64 {
        // The key, the pointers and the cache's own slot count too: a million empty blobs are not free.
        blob.len() as u64 + 128
    }
}

#[derive(Debug, Clone)]
struct LargeWeight {
    most: u64,
}

impl Weighter<BlobKey, Arc<Spilled>> for LargeWeight {
    fn weight(&self, _key: &BlobKey, blob: &Arc<Spilled>) -> u64 {
        // A blob heavier than the cache would never be admitted.
        blob.size_bytes.clamp(1, self.most)
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
    /// Makes an empty cache. `dir` holds the files of large blobs; it is created when the first one comes.
    pub fn new(dir: impl Into<PathBuf>, limits: BlobLimits) -> Self {
        let items = limits.memory_bytes / 4096;
        let small = options(limits.memory_bytes, limits.small_bytes, items);
        let large = options(limits.disk_bytes, limits.disk_bytes, 64);
        // The cache refuses what is heavier than its share of hot items, 97 of 100.
        let most = (limits.disk_bytes / 10 * 9).max(1);
        Self {
            limits,
            dir: dir.into(),
            is_dir_refused: AtomicBool::new(false),
            small: Cache::with_options(
                small,
                SmallWeight,
                DefaultHashBuilder::default(),
                quick_cache::sync::DefaultLifecycle::default(),
            ),
            large: Cache::with_options(
                large,
                LargeWeight { most },
                DefaultHashBuilder::default(),
                quick_cache::sync::DefaultLifecycle::default(),
            ),
            last_large: Mutex::new(None),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// Bytes that decoded blobs take at present, in memory and on disk.
    pub fn used_bytes(&self) -> (u64, u64) {
        (self.small.weight(), self.large.weight())
    }

    /// Reads of blobs that were held, and of blobs that were not.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }

    /// Bytes of a blob from `offset`: `len` of them, or as many as there are before its end.
    ///
    /// `size` and `decode` are asked only for what is not held.
    ///
    /// # Errors
    /// Whatever `size` and `decode` say; the blob is too large; its file cannot be written or read.
    pub fn read(
        &self,
        key: BlobKey,
        offset: u64,
        len: usize,
        size: impl FnOnce() -> Result<u64, StoreError>,
        decode: impl FnOnce() -> Result<Vec<u8>, StoreError>,
    ) -> Result<Vec<u8>, StoreError> {
        if let Some(blob) = self.small.get(&key) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(slice(&blob, offset, len));
        }
        if let Some(blob) = self.large.get(&key) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return blob.read(offset, len);
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let size_bytes = size()?;
        self.check_size(key, size_bytes)?;
        let decode = || whole(key, size_bytes, decode()?);
        if size_bytes <= self.limits.small_bytes {
            let blob = self.small.get_or_insert_with(&key, || decode().map(Arc::from))?;
            return Ok(slice(&blob, offset, len));
        }
        let blob = self.large.get_or_insert_with(&key, || self.last_or_spilled(key, decode))?;
        blob.read(offset, len)
    }

    fn last_or_spilled(
        &self,
        key: BlobKey,
        decode: impl FnOnce() -> Result<Vec<u8>, StoreError>,
    ) -> Result<Arc<Spilled>, StoreError> {
        let last = || self.last_large.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, blob)) = &*last()
            && *known == key
        {
            return Ok(blob.clone());
        }
        let blob = Arc::new(self.spill(&decode()?)?);
        *last() = Some((key, blob.clone()));
        Ok(blob)
    }

    fn check_size(&self, key: BlobKey, size_bytes: u64) -> Result<(), StoreError> {
        let limit_bytes = self.limits.object_bytes;
        if size_bytes <= limit_bytes {
            return Ok(());
        }
        Err(StoreError::TooLarge { oid: key.oid.to_string(), size_bytes, limit_bytes })
    }

    fn spill(&self, bytes: &[u8]) -> Result<Spilled, StoreError> {
        let mut file = self.nameless_file()?;
        // A file that could not be written whole is dropped here, so that nobody ever reads a part of it.
        file.write_all(bytes)?;
        Ok(Spilled { file, size_bytes: bytes.len() as u64 })
    }

    fn nameless_file(&self) -> io::Result<File> {
        if !self.is_dir_refused.load(Ordering::Relaxed) {
            match file_in(&self.dir) {
                Ok(file) => return Ok(file),
                Err(error) if is_full(&error) => return Err(error),
                Err(error) => {
                    self.is_dir_refused.store(true, Ordering::Relaxed);
                    let (dir, instead) = (self.dir.display(), std::env::temp_dir());
                    tracing::warn!(%dir, instead = %instead.display(), %error, "large files are kept elsewhere");
                }
            }
        }
        tempfile::tempfile()
    }
}

/// A full disk or quota is no reason to fill the next one, and passes.
fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    ) || matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

fn file_in(dir: &Path) -> io::Result<File> {
    match tempfile::tempfile_in(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(dir)?;
            tempfile::tempfile_in(dir)
        }
        other => other,
    }
}

/// Checks that a decoded blob has the size that was promised for it.
fn whole(key: BlobKey, size_bytes: u64, bytes: Vec<u8>) -> Result<Vec<u8>, StoreError> {
    if bytes.len() as u64 == size_bytes {
        return Ok(bytes);
    }
    let cause = format!("decoded to {} bytes instead of {size_bytes}", bytes.len());
    Err(StoreError::Unreadable { oid: key.oid.to_string(), cause })
}

fn slice(bytes: &[u8], offset: u64, len: usize) -> Vec<u8> {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    let end = start.saturating_add(len).min(bytes.len());
    bytes[start..end].to_vec()
}

impl Spilled {
    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, StoreError> {
        read_exactly(&self.file, self.size_bytes, offset, len)
    }
}

/// Reads `len` bytes from `offset` of a file that must have `size_bytes`, or as many as there are before that size.
///
/// # Errors
/// The file ends before its size, or cannot be read.
pub(super) fn read_exactly(
    file: &File,
    size_bytes: u64,
    offset: u64,
    len: usize,
) -> Result<Vec<u8>, StoreError> {
    let left = usize::try_from(size_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; len.min(left)];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn key(n: u8) -> BlobKey {
        BlobKey { repository: [0; 16], oid: Oid::from_bytes(&[n; 20]).unwrap() }
    }

    fn limits() -> BlobLimits {
        BlobLimits {
            memory_bytes: 64 << 10,
            small_bytes: 4 << 10,
            disk_bytes: 100_000,
            object_bytes: 1 << 20,
        }
    }

    fn bytes(n: u8, len: usize) -> Vec<u8> {
        (0..len).map(|i| u8::try_from(i % 251).unwrap() ^ n).collect()
    }

    #[test]
    fn a_blob_is_decoded_once_by_concurrent_readers() {
        let dir = tempfile::tempdir().unwrap();
        let cache = BlobCache::new(dir.path().join("made/on/demand"), limits());
        for (n, len) in [(1, 1000), (2, 50_000)] {
            let decoded = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        let decode = || {
                            decoded.fetch_add(1, Ordering::SeqCst);
                            std::thread::yield_now();
                            Ok(bytes(n, len))
                        };
                        let got = cache.read(key(n), 10, 20, || Ok(len as u64), decode).unwrap();
                        assert_eq!(got, bytes(n, len)[10..30]);
                    });
                }
            });
            assert_eq!(decoded.load(Ordering::SeqCst), 1, "blob of {len} bytes");
        }
        assert_eq!(std::fs::read_dir(dir.path().join("made/on/demand")).unwrap().count(), 0);
    }

    #[test]
    fn reads_end_at_the_end_of_the_blob() {
        let cache = BlobCache::new(std::env::temp_dir(), limits());
        for (n, len) in [(1, 1000_usize), (2, 50_000)] {
            let read = |offset, count| {
                let decode = || Ok(bytes(n, len));
                cache.read(key(n), offset, count, || Ok(len as u64), decode).unwrap()
            };
            assert_eq!(read(len as u64 - 3, 100).len(), 3);
            assert!(read(len as u64, 1).is_empty());
            assert!(read(u64::MAX, 10).is_empty());
            assert_eq!(read(0, usize::MAX), bytes(n, len));
        }
    }

    #[test]
    fn what_is_held_stays_within_its_bounds() {
        let cache = BlobCache::new(std::env::temp_dir(), limits());
        for n in 0..200 {
            for len in [4000, 60_000] {
                let decode = || Ok(bytes(n, len));
                assert!(cache.read(key(n), 0, 1, || Ok(len as u64), decode).is_ok());
            }
        }
        let (memory, disk) = cache.used_bytes();
        assert!(memory <= limits().memory_bytes && disk <= limits().disk_bytes);
    }

    #[test]
    fn a_blob_larger_than_the_cache_is_held_nevertheless() {
        let cache = BlobCache::new(std::env::temp_dir(), limits());
        let decoded = AtomicUsize::new(0);
        let read = |n| {
            let decode = || {
                decoded.fetch_add(1, Ordering::SeqCst);
                Ok(bytes(n, 500_000))
            };
            cache.read(key(n), 400_000, 10, || Ok(500_000), decode).unwrap();
        };
        (0..5).for_each(|_| read(9));
        assert_eq!(decoded.load(Ordering::SeqCst), 1);
        (0..20).for_each(|_| read(8));
        assert_eq!(decoded.load(Ordering::SeqCst), 2);
        (0..20).for_each(|n| read(8 + n % 2));
        assert!(decoded.load(Ordering::SeqCst) <= 3);
    }

    #[test]
    fn a_directory_that_cannot_be_used_is_replaced() {
        let cache = BlobCache::new("/proc/no/such/place", limits());
        let got = cache.read(key(1), 0, 5, || Ok(50_000), || Ok(bytes(1, 50_000))).unwrap();
        assert_eq!(got, bytes(1, 50_000)[..5]);
    }

    #[test]
    fn errors_are_not_remembered_and_sizes_are_checked() {
        let cache = BlobCache::new(std::env::temp_dir(), limits());
        let fail = || Err(StoreError::Gone);
        assert!(cache.read(key(1), 0, 5, || Ok(10), fail).is_err());
        assert!(cache.read(key(1), 0, 5, || Ok(11), || Ok(bytes(1, 10))).is_err());
        assert!(cache.read(key(1), 0, 5, || Ok(10), || Ok(bytes(1, 10))).is_ok());
        let error = cache.read(key(2), 0, 5, || Ok(2 << 20), || Ok(vec![])).unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
    }
}
