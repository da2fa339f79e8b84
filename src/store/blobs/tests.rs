use std::cell::Cell;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::directory::CacheDirectory;
use super::*;

/// A single blob whose decodings are counted.
pub(super) struct Blob {
    content: Vec<u8>,
    key: BlobKey,
    is_stream: bool,
    decoded: AtomicUsize,
}

impl BlobOrigin for Blob {
    fn size(&self, _oid: &Oid) -> Result<u64, StoreError> {
        Ok(self.content.len() as u64)
    }

    fn bytes(&self, _oid: &Oid) -> Result<Vec<u8>, StoreError> {
        self.decoded.fetch_add(1, Ordering::SeqCst);
        std::thread::yield_now();
        Ok(self.content.clone())
    }

    fn stream(&self, _oid: &Oid, draft: &mut Draft) -> Result<Streamed, StoreError> {
        if !self.is_stream {
            return Ok(Streamed::NotAStream);
        }
        self.decoded.fetch_add(1, Ordering::SeqCst);
        self.content.chunks(1000).try_for_each(|piece| draft.write(&piece.to_vec().into()))?;
        Ok(Streamed::Whole)
    }
}

fn id_of(content: &[u8]) -> Oid {
    let mut hash = draft::hasher(&Oid::from_bytes(&[0; 20]).unwrap(), content.len() as u64);
    hash.update(content);
    Oid::from_bytes(hash.try_finalize().unwrap().as_bytes()).unwrap()
}

impl Blob {
    pub(super) fn new(n: u8, len: usize) -> Self {
        let content: Vec<_> = (0..len).map(|i| u8::try_from(i % 251).unwrap() ^ n).collect();
        let key = BlobKey { repository: [0; 16], oid: id_of(&content) };
        Self { content, key, is_stream: true, decoded: AtomicUsize::new(0) }
    }

    fn read(&self, cache: &BlobCache, offset: u64, len: usize) -> Result<Vec<u8>, StoreError> {
        cache.read(self.key, self, offset, len)
    }

    /// Reads it whole and says how often it was decoded so far.
    pub(super) fn check(&self, cache: &BlobCache) -> usize {
        assert!(self.read(cache, 0, usize::MAX).unwrap() == self.content);
        self.decoded.load(Ordering::SeqCst)
    }

    pub(super) fn file(&self, dir: &Path) -> PathBuf {
        dir.join(self.key.oid.to_string())
    }
}

pub(super) fn limits() -> BlobLimits {
    BlobLimits {
        memory_bytes: 64 << 10,
        small_bytes: 4 << 10,
        disk_bytes: 200_000,
        object_bytes: 1 << 20,
        decoding_bytes: 64 << 10,
    }
}

fn cache(dir: &TempDir) -> BlobCache {
    BlobCache::new(dir.path().join("made/on/demand"), limits())
}

pub(super) fn names(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn bytes_below(dir: &Path) -> u64 {
    names(dir).iter().map(|path| fs::metadata(path).unwrap().len()).sum()
}

#[test]
fn a_blob_is_decoded_once_by_concurrent_readers() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(&dir);
    for (len, is_stream) in [(1000, true), (50_000, true), (50_001, false)] {
        let blob = Blob { is_stream, ..Blob::new(1, len) };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    assert_eq!(blob.read(&cache, 10, 20).unwrap(), blob.content[10..30]);
                });
            }
        });
        assert_eq!(blob.decoded.load(Ordering::SeqCst), 1, "blob of {len} bytes");
    }
    assert_eq!(cache.large.flights_left(), 2);
}

#[test]
fn reads_end_at_the_end_of_the_blob() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(&dir);
    for len in [1000, 50_000] {
        let blob = Blob::new(2, len);
        let read = |offset, count| blob.read(&cache, offset, count).unwrap();
        assert_eq!(read(len as u64 - 3, 100).len(), 3);
        assert!(read(len as u64, 1).is_empty());
        assert!(read(u64::MAX, 10).is_empty());
        assert_eq!(read(0, usize::MAX), blob.content);
    }
}

#[test]
fn only_small_blobs_are_at_hand_before_they_are_decoded() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(&dir);
    let (small, large) = (Blob::new(1, 1000), Blob::new(1, 50_000));
    let at_hand = |blob: &Blob| cache.read_at_hand(blob.key, blob, None, 1, 2).unwrap();
    assert_eq!(at_hand(&small), Some(small.content[1..3].to_vec()));
    assert_eq!(at_hand(&large), None);
    large.check(&cache);
    assert_eq!(at_hand(&large), Some(large.content[1..3].to_vec()));
}

#[test]
fn s72_a_large_blob_is_shared_by_caches_of_one_directory_and_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (cache(&dir), cache(&dir));
    let blob = Blob::new(1, 50_000);
    assert_eq!(blob.check(&one), 1);
    assert_eq!(blob.check(&two), 1);
    drop((one, two));
    assert_eq!(blob.check(&cache(&dir)), 1);
    let other = BlobKey { repository: [1; 16], ..blob.key };
    cache(&dir).read(other, &blob, 0, 1).unwrap();
    assert_eq!(blob.decoded.load(Ordering::SeqCst), 1, "another repository has it too");
}

#[test]
fn s75_cached_files_are_nobody_elses_to_read() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("made/on/demand");
    fs::create_dir_all(&place).unwrap();
    let blob = Blob::new(1, 50_000);
    blob.check(&cache(&dir));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&place), mode(&blob.file(&place))), (0o700, 0o600));
}

#[test]
fn s73_files_stay_within_their_bound_and_what_was_used_last_stays() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("made/on/demand");
    let (one, two) = (cache(&dir), cache(&dir));
    let favourite = Blob::new(255, 60_000);
    favourite.check(&one);
    for n in 0..40 {
        let blob = Blob::new(n, 60_000);
        blob.check(if n % 2 == 0 { &one } else { &two });
        let time = |age| SystemTime::now() - Duration::from_secs(age);
        let set = |file: &Path, age| {
            OpenOptions::new().write(true).open(file).unwrap().set_modified(time(age)).unwrap();
        };
        set(&blob.file(&place), 1000 - u64::from(n));
        set(&favourite.file(&place), 0);
        let small = Blob::new(n, 4000);
        small.check(&one);
        assert!(bytes_below(&place) <= limits().disk_bytes);
        assert!(one.used_bytes().0 <= limits().memory_bytes);
    }
    assert_eq!(names(&place).len(), 3);
    assert_eq!(favourite.check(&cache(&dir)), 1);
}

#[test]
fn what_is_evicted_can_be_read_by_who_has_it_open() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (cache(&dir), cache(&dir));
    let blob = Blob::new(1, 150_000);
    blob.check(&one);
    Blob::new(2, 150_000).check(&two);
    assert!(!blob.file(&dir.path().join("made/on/demand")).exists());
    assert_eq!(blob.check(&one), 1);
}

#[test]
fn a_blob_larger_than_the_cache_is_held_while_it_is_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(&dir);
    let (one, two) = (Blob::new(9, 500_000), Blob::new(8, 500_000));
    (0..5).for_each(|_| assert_eq!(one.check(&cache), 1));
    (0..5).for_each(|_| assert_eq!(two.check(&cache), 1));
    assert_eq!(bytes_below(&dir.path().join("made/on/demand")), 0);
}

#[test]
fn s74_a_damaged_file_is_dropped_and_the_blob_decoded_again() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("made/on/demand");
    let blob = Blob::new(1, 50_000);
    let damages: [fn(&Path); 5] = [
        |file| {
            let mut bytes = fs::read(file).unwrap();
            bytes[49_999] ^= 1;
            fs::write(file, bytes).unwrap();
        },
        |file| OpenOptions::new().write(true).open(file).unwrap().set_len(49_999).unwrap(),
        |file| OpenOptions::new().write(true).open(file).unwrap().set_len(50_001).unwrap(),
        |file| fs::write(file, "").unwrap(),
        |file| {
            fs::rename(file, file.with_extension("away")).unwrap();
            std::os::unix::fs::symlink(file.with_extension("away"), file).unwrap();
        },
    ];
    blob.check(&cache(&dir));
    for (n, damage) in damages.into_iter().enumerate() {
        damage(&blob.file(&place));
        assert_eq!(blob.check(&cache(&dir)), n + 2);
    }
}

#[test]
fn s74_a_file_that_is_cut_while_it_is_open_costs_a_decoding_and_no_byte() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(&dir);
    let blob = Blob::new(1, 50_000);
    blob.check(&cache);
    let file = blob.file(&dir.path().join("made/on/demand"));
    OpenOptions::new().write(true).open(file).unwrap().set_len(10).unwrap();
    assert_eq!(blob.check(&cache), 2);
    assert_eq!(blob.check(&cache), 2);
}

#[test]
fn s74_what_is_not_what_its_id_says_is_never_seen() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(&dir);
    for is_stream in [true, false] {
        let mut blob = Blob { is_stream, ..Blob::new(1, 50_000) };
        blob.content[1] ^= 1;
        let error = blob.read(&cache, 40_000, 1).unwrap_err();
        assert!(matches!(error, StoreError::Unreadable { .. }), "{error}");
        assert_eq!(bytes_below(&dir.path().join("made/on/demand")), 0);
    }
}

#[test]
fn errors_are_not_remembered_and_sizes_are_checked() {
    struct Odd(Cell<usize>, Blob);
    impl BlobOrigin for Odd {
        fn size(&self, _oid: &Oid) -> Result<u64, StoreError> {
            Ok(self.1.content.len() as u64)
        }
        fn bytes(&self, _oid: &Oid) -> Result<Vec<u8>, StoreError> {
            match self.0.replace(self.0.get() + 1) {
                0 => Err(StoreError::Gone),
                1 => Ok(self.1.content[1..].to_vec()),
                2 => Ok([&self.1.content[..], b"x"].concat()),
                _ => Ok(self.1.content.clone()),
            }
        }
        fn stream(&self, _oid: &Oid, _draft: &mut Draft) -> Result<Streamed, StoreError> {
            Ok(Streamed::NotAStream)
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(&dir);
    for len in [1000, 50_000] {
        let odd = Odd(Cell::new(0), Blob::new(1, len));
        (0..3).for_each(|_| assert!(cache.read(odd.1.key, &odd, 0, 1).is_err()));
        assert_eq!(cache.read(odd.1.key, &odd, 0, usize::MAX).unwrap(), odd.1.content);
    }
    let error = Blob::new(1, 2 << 20).read(&cache, 0, 1).unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
}

#[test]
fn s76_a_directory_that_cannot_be_used_is_replaced() {
    let cache = BlobCache::new("/proc/no/such/place", limits());
    let blob = Blob::new(1, 50_000);
    assert_eq!(blob.check(&cache), 1);
    assert_eq!(blob.check(&cache), 1);
}

/// A file system of its own with little room, gone with the value.
struct Tiny(TempDir);

impl Tiny {
    fn mount(bytes: usize) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={bytes}");
        let flags = nix::mount::MsFlags::empty();
        let options = Some(options.as_str());
        match nix::mount::mount(Some("tiny"), dir.path(), Some("tmpfs"), flags, options) {
            Ok(()) => Some(Self(dir)),
            Err(error) => {
                eprintln!("SKIPPED: only root can mount a file system that is full: {error}");
                None
            }
        }
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
}

#[test]
fn s76_a_full_disk_is_emptied_of_cached_files_then_memory_is_used_then_it_is_an_error() {
    let Some(tiny) = Tiny::mount(128 << 10) else { return };
    let place = tiny.0.path().join("blobs");
    let cache = BlobCache::new(&place, limits());
    let (one, two) = (Blob::new(1, 60_000), Blob::new(2, 100_000));
    one.check(&cache);
    assert_eq!(two.check(&cache), 1);
    assert!(!one.file(&place).exists() && two.file(&place).exists());
    fs::write(tiny.0.path().join("theirs"), vec![1; 20_000]).unwrap();
    let filler = fs::read(tiny.0.path().join("theirs")).unwrap();
    drop(cache);
    fs::remove_file(two.file(&place)).unwrap();
    fs::write(tiny.0.path().join("theirs"), filler.repeat(5)).unwrap();
    let cache = BlobCache::new(&place, limits());
    let (fits, large) = (Blob::new(3, 64 << 10), Blob::new(4, 90_000));
    assert_eq!(fits.check(&cache), 1);
    assert_eq!(fits.check(&cache), 1);
    let error = large.read(&cache, 0, 1).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, StoreError::NoRoom { .. }), "{text}");
    assert!(text.contains("No space left") && text.contains("free room there"), "{text}");
    fs::remove_file(tiny.0.path().join("theirs")).unwrap();
    assert_eq!(large.check(&cache), 1);
}

#[test]
fn what_is_being_written_has_no_name_and_goes_with_its_writer() {
    let dir = tempfile::tempdir().unwrap();
    let directory = CacheDirectory::new(dir.path().join("blobs"), 1 << 20);
    let blob = Blob::new(1, 50_000);
    let file = directory.nameless(50_000).unwrap();
    let mut draft = Draft::in_file(file.try_clone().unwrap(), blob.key.oid, 50_000);
    draft.write(&blob.content[..40_000].to_vec().into()).unwrap();
    assert_eq!((names(directory.path()).len(), file.metadata().unwrap().nlink()), (0, 0));
    assert!(draft.finish().is_err());
    assert!(directory.open(&blob.key.oid, 50_000).is_none());
}

#[test]
fn s75_a_repository_that_lacks_a_blob_does_not_get_it_from_the_cache() {
    struct Lacks;
    impl BlobOrigin for Lacks {
        fn size(&self, oid: &Oid) -> Result<u64, StoreError> {
            Err(unreadable(oid, "it is not in the repository".to_owned()))
        }
        fn bytes(&self, oid: &Oid) -> Result<Vec<u8>, StoreError> {
            self.size(oid).map(|_| Vec::new())
        }
        fn stream(&self, oid: &Oid, _draft: &mut Draft) -> Result<Streamed, StoreError> {
            self.size(oid).map(|_| Streamed::Whole)
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(&dir);
    let blob = Blob::new(1, 50_000);
    blob.check(&cache);
    let other = BlobKey { repository: [1; 16], ..blob.key };
    assert!(cache.read(other, &Lacks, 0, 1).is_err());
    assert!(cache.read_at_hand(other, &Lacks, None, 0, 1).is_err());
}

#[test]
fn a_small_blob_that_is_read_whole_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(&dir);
    let blob = Blob::new(1, 1000);
    let read =
        |size, offset, len| cache.read_at_hand(blob.key, &blob, Some(size), offset, len).unwrap();
    assert_eq!(read(1000, 0, 4096).unwrap(), read(1000, 0, 1000).unwrap());
    assert_eq!((blob.decoded.load(Ordering::SeqCst), cache.used_bytes().0), (2, 0));
    // Who reads in pieces comes again.
    assert_eq!(read(1000, 0, 999).unwrap(), blob.content[..999]);
    assert_eq!(read(1000, 999, 999).unwrap(), blob.content[999..]);
    assert_eq!(blob.decoded.load(Ordering::SeqCst), 3);
    assert!(cache.used_bytes().0 >= 1000);
    // A size that is not that of the blob is an error, not a short read.
    assert!(cache.read_at_hand(blob.key, &blob, Some(1001), 0, 4096).is_err());
}
