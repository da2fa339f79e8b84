//! The directory of large blobs: one file for each, named by its id, shared by every daemon of the same state directory.
//!
//! A file gets its name only when it is whole and its bytes are those of its id: it is written without a name (`O_TMPFILE`, open(2)), so
//! that a daemon that is killed leaves nothing behind. A file that has a name is never written to. Evicting one takes its name; who
//! reads it at that moment goes on. Who changes which names there are holds a lock on the directory (flock(2)).

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::{AT_FDCWD, AtFlags, FallocateFlags, PosixFadviseAdvice};
use nix::unistd::{geteuid, linkat};

use super::draft::{expect_id, hasher};
use crate::store::StoreError;
use crate::store::state_dir::expect_ours;
use crate::union::object::Oid;

/// Files are read in pieces of this size to check them.
const PIECE_BYTES: usize = 256 << 10;

/// The cache directory.
#[derive(Debug)]
pub(super) struct CacheDirectory {
    path: PathBuf,
    most_bytes: u64,
}

/// A file of the directory, as eviction sees it.
struct EvictableFile {
    used: SystemTime,
    size_bytes: u64,
    path: PathBuf,
}

impl CacheDirectory {
    /// Nothing is done before the first blob comes.
    pub(super) fn new(path: PathBuf, most_bytes: u64) -> Self {
        Self { path, most_bytes }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a blob that was kept, if its file is whole and unharmed. One that is not is removed.
    pub(super) fn open(&self, oid: &Oid, size_bytes: u64) -> Option<File> {
        let path = self.path_of(oid);
        let file = match self.expect_ours().and_then(|()| open_file(&path)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::debug!(file = %path.display(), %error, "a cached file cannot be opened");
                return None;
            }
        };
        match check(&file, oid, size_bytes) {
            Ok(()) => {
                // It only orders what is evicted.
                file.set_modified(SystemTime::now()).unwrap_or_default();
                Some(file)
            }
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "a cached file was damaged: removed, and decoded anew");
                self.remove(oid);
                None
            }
        }
    }

    /// Takes a blob's name away.
    pub(super) fn remove(&self, oid: &Oid) {
        let path = self.path_of(oid);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(file = %path.display(), %error, "a cached file cannot be removed");
        }
    }

    /// A file without a name, with room for a blob of this size where the file system can promise it.
    pub(super) fn nameless(&self, size_bytes: u64) -> io::Result<File> {
        let file = match self.expect_ours().and_then(|()| nameless_in(&self.path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.create()?;
                nameless_in(&self.path)?
            }
            opened => opened?,
        };
        let size = i64::try_from(size_bytes).map_err(io::Error::other)?;
        match nix::fcntl::fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, size) {
            Ok(()) | Err(nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::ENOSYS) => Ok(file),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the file of a checked blob its name, so that it is found again. False if it gets none: the blob is too large to be kept, the
    /// file system has no files that get a name later, or another daemon was faster.
    pub(super) fn keep(&self, file: &File, oid: &Oid, size_bytes: u64) -> bool {
        if size_bytes > self.most_bytes {
            return false;
        }
        let linked = || -> io::Result<()> {
            let _locked = self.lock()?;
            self.evict_to(self.most_bytes - size_bytes)?;
            // linkat(2): the way to name such a file that needs no privilege.
            let nameless = format!("/proc/self/fd/{}", file.as_raw_fd());
            let path = self.path_of(oid);
            let follow = AtFlags::AT_SYMLINK_FOLLOW;
            Ok(linkat(AT_FDCWD, nameless.as_str(), AT_FDCWD, &path, follow)?)
        };
        match linked() {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%oid, %error, "a decoded blob is not kept for later");
                false
            }
        }
    }

    /// Bytes of all blobs that have a name, also of those that other daemons wrote.
    pub(super) fn used_bytes(&self) -> u64 {
        self.kept().unwrap_or_default().iter().map(|file| file.size_bytes).sum()
    }

    /// Removes every file.
    pub(super) fn empty(&self) -> io::Result<()> {
        let emptied = self.lock().and_then(|_locked| self.evict_to(0));
        // A directory that could not be made is empty.
        emptied.or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })
    }

    /// Removes what was used longest ago until the rest has at most so many bytes.
    fn evict_to(&self, bytes: u64) -> io::Result<()> {
        let mut kept = self.kept()?;
        let mut sum: u64 = kept.iter().map(|file| file.size_bytes).sum();
        kept.sort_by_key(|file| file.used);
        for file in kept {
            if sum <= bytes {
                break;
            }
            match fs::remove_file(&file.path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            sum -= file.size_bytes;
        }
        Ok(())
    }

    /// The blobs that have a name.
    fn kept(&self) -> io::Result<Vec<EvictableFile>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let is_id = matches!(name.len(), 40 | 64)
                && name.as_encoded_bytes().iter().all(u8::is_ascii_hexdigit);
            // It may go at any moment.
            let Ok(metadata) = entry.metadata() else { continue };
            if is_id && metadata.is_file() {
                let used = metadata.modified()?;
                found.push(EvictableFile { used, size_bytes: metadata.len(), path: entry.path() });
            }
        }
        Ok(found)
    }

    /// Locks out every other daemon until the file is closed.
    fn lock(&self) -> io::Result<File> {
        self.expect_ours()?;
        let directory = File::open(&self.path)?;
        directory.lock()?;
        Ok(directory)
    }

    /// Checks that nobody else can put another directory into its place.
    fn expect_ours(&self) -> io::Result<()> {
        self.path.parent().map_or(Ok(()), expect_ours)
    }

    /// Contents of private sources are in it: nobody else may look.
    fn create(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        self.expect_ours()?;
        let metadata = fs::metadata(&self.path)?;
        if metadata.mode() & 0o077 != 0 {
            fs::set_permissions(&self.path, Permissions::from_mode(0o700))?;
        }
        Ok(())
    }

    fn path_of(&self, oid: &Oid) -> PathBuf {
        self.path.join(oid.to_string())
    }
}

fn nameless_in(directory: &Path) -> io::Result<File> {
    let metadata = fs::metadata(directory)?;
    if metadata.uid() != geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user"));
    }
    if metadata.mode() & 0o077 != 0 {
        fs::set_permissions(directory, Permissions::from_mode(0o700))?;
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags(libc::O_TMPFILE | libc::O_CLOEXEC);
    match options.open(directory) {
        // Not every file system has such files: then this one never gets a name.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {
            tempfile::tempfile_in(directory)
        }
        opened => opened,
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Checks that a file is ours and has the bytes of this id: it may come from an older run, or from a crash of the machine.
fn check(file: &File, oid: &Oid, size_bytes: u64) -> Result<(), StoreError> {
    let wrong = |what: &str| StoreError::Io(io::Error::other(what.to_owned()));
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.uid() != geteuid().as_raw() {
        return Err(wrong("it is not a file of this user"));
    }
    if metadata.len() != size_bytes {
        return Err(wrong(&format!("it has {} bytes instead of {size_bytes}", metadata.len())));
    }
    // Only an advice.
    let sequential = PosixFadviseAdvice::POSIX_FADV_SEQUENTIAL;
    nix::fcntl::posix_fadvise(file, 0, 0, sequential).unwrap_or_default();
    let mut hash = hasher(oid, size_bytes);
    let mut piece = vec![0; PIECE_BYTES];
    let mut at = 0;
    while at < size_bytes {
        let len = usize::try_from(size_bytes - at).unwrap_or(usize::MAX).min(piece.len());
        file.read_exact_at(&mut piece[..len], at)?;
        hash.update(&piece[..len]);
        at += len as u64;
    }
    expect_id(oid, hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s128_nothing_is_kept_or_removed_in_a_directory_of_another_user() {
        let temp = tempfile::tempdir().unwrap();
        let state = temp.path().join("state");
        let cache = CacheDirectory::new(state.join("blobs"), 1 << 20);
        let oid = Oid::from_bytes(&[0; 20]).unwrap();
        fs::create_dir_all(&cache.path).unwrap();
        let file = cache.path_of(&oid);
        fs::write(&file, "precious").unwrap();
        if !geteuid().is_root() {
            eprintln!("SKIPPED: only root can give a directory to another user");
            return;
        }
        std::os::unix::fs::chown(&state, Some(65534), None).unwrap();
        assert_eq!(cache.nameless(1).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(cache.empty().unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(cache.open(&oid, 8).is_none());
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
        // Of ours one that is damaged goes.
        std::os::unix::fs::chown(&state, Some(0), None).unwrap();
        assert!(cache.open(&oid, 8).is_none());
        assert!(!file.exists());
    }
}
