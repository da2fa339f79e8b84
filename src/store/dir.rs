//! A live directory: files of this machine, never outside of the root and never another file than the one listed.
//!
//! Every access starts at a descriptor of the root and goes through `openat2(2)` without following any link, magic link
//! or mount point; what was opened is then compared with the [`Identity`] of the object. No descriptor outlives a call.

use std::ffi::{CStr, OsStr};
use std::fs::{File, Metadata};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::time::UNIX_EPOCH;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstatat};

use super::empty::EMPTY_DIRECTORY;
use super::{Attributes, Listed, Store, StoreError};
use crate::union::name::{Name, RelPath};
use crate::union::object::{Identity, Kind, Object};

/// Paths with more bytes than this are opened in pieces; the kernel's limit is 4096.
const PATH_BYTES: usize = 4000;

/// A directory of this machine.
#[derive(Debug)]
pub struct DirStore {
    root: OwnedFd,
    /// The same as an object: it is this directory for as long as it is held.
    top: Object,
    place: PathBuf,
    /// Where the path is sent when nobody reads the directory any more, if the directory is ours.
    removal: Option<Sender<PathBuf>>,
}

impl DirStore {
    /// Takes a directory as a source. The path itself may go through links.
    ///
    /// # Errors
    /// There is no such directory, or `openat2` is not to be had (Linux 5.6).
    pub fn open(place: &Path) -> Result<Self, StoreError> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(place, flags, Mode::empty()).map_err(std::io::Error::from)?;
        match beneath(root.as_fd(), c".", OFlag::O_PATH) {
            Ok(probe) => {
                let identity = identity_of(&File::from(probe).metadata()?);
                let top = Object::live(Kind::Directory, RelPath::root(), identity);
                Ok(Self { root, top, place: place.to_owned(), removal: None })
            }
            Err(Errno::ENOSYS) => Err(StoreError::NoOpenat2),
            Err(errno) => Err(StoreError::Io(errno.into())),
        }
    }

    /// Takes a directory of ours as a source. When nobody reads it any more it is sent to where it is removed.
    ///
    /// # Errors
    /// As [`DirStore::open`].
    pub fn open_until_dropped(place: &Path, removal: Sender<PathBuf>) -> Result<Self, StoreError> {
        let mut store = Self::open(place)?;
        store.removal = Some(removal);
        Ok(store)
    }

    /// The path by which it was opened.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Opens what is at a path, without following links.
    fn open_at(&self, path: &RelPath, flags: OFlag) -> Result<OwnedFd, StoreError> {
        let mut bytes = Vec::new();
        let mut above: Option<OwnedFd> = None;
        for name in path.names() {
            if bytes.len() + name.as_bytes().len() > PATH_BYTES {
                let from = above.as_ref().map_or(self.root.as_fd(), AsFd::as_fd);
                let next = beneath(from, bytes.as_slice(), OFlag::O_PATH | OFlag::O_DIRECTORY);
                above = Some(next.map_err(gone_or)?);
                bytes.clear();
            }
            if !bytes.is_empty() {
                bytes.push(b'/');
            }
            bytes.extend_from_slice(name.as_bytes());
        }
        let from = above.as_ref().map_or(self.root.as_fd(), AsFd::as_fd);
        let last: &[u8] = if bytes.is_empty() { b"." } else { &bytes };
        beneath(from, last, flags | OFlag::O_NOFOLLOW).map_err(gone_or)
    }

    /// Opens the very file that the object is.
    fn open_object(&self, object: &Object, flags: OFlag) -> Result<(File, Metadata), StoreError> {
        let Object::Live { kind, file: expected } = object else { return Err(StoreError::Gone) };
        let file = File::from(self.open_at(&expected.path, flags)?);
        let metadata = file.metadata()?;
        let is_same = identity_of(&metadata) == expected.identity
            && kind_of(&metadata).is_some_and(|found| is_same_type(found, *kind));
        if is_same { Ok((file, metadata)) } else { Err(StoreError::Gone) }
    }

    fn open_directory(
        &self,
        directory: &Object,
        flags: OFlag,
    ) -> Result<Option<(File, RelPath)>, StoreError> {
        match directory {
            Object::Live { kind: Kind::Directory, file: expected } => {
                let (file, _) = self.open_object(directory, flags | OFlag::O_DIRECTORY)?;
                Ok(Some((file, expected.path.clone())))
            }
            Object::Empty => Ok(None),
            Object::Live { kind: Kind::File { .. } | Kind::Link, .. } => {
                Err(StoreError::NotADirectory)
            }
            Object::Frozen { .. } => Err(StoreError::Gone),
        }
    }
}

impl Drop for DirStore {
    fn drop(&mut self) {
        if let Some(removal) = self.removal.take() {
            // Without a receiver the whole directory around it is removed.
            removal.send(std::mem::take(&mut self.place)).unwrap_or_default();
        }
    }
}

/// Opens beneath a directory, following nothing.
fn beneath<P: ?Sized + nix::NixPath>(
    from: BorrowedFd<'_>,
    path: &P,
    flags: OFlag,
) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_MAGICLINKS
        | ResolveFlag::RESOLVE_NO_XDEV
        | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
    loop {
        match openat2(from, path, how) {
            Err(Errno::EINTR) => {}
            answer => return answer,
        }
    }
}

/// What an errno means for an object that was listed before.
fn gone_or(errno: Errno) -> StoreError {
    match errno {
        // A link, a file or a mount point in the way: it is not the path that was listed.
        Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV | Errno::ENXIO => {
            StoreError::Gone
        }
        Errno::EACCES | Errno::EPERM => StoreError::Denied,
        errno => StoreError::Io(errno.into()),
    }
}

fn identity_of(metadata: &Metadata) -> Identity {
    let born = metadata.created().ok();
    let born_nanos = born.map_or(0, |born| match born.duration_since(UNIX_EPOCH) {
        Ok(after) => i128::try_from(after.as_nanos()).unwrap_or(0),
        Err(before) => -i128::try_from(before.duration().as_nanos()).unwrap_or(0),
    });
    Identity { device: metadata.dev(), inode: metadata.ino(), born_nanos }
}

/// The type of a file; `None` for a special one, which is never shown.
fn kind_of(metadata: &Metadata) -> Option<Kind> {
    let file_type = metadata.file_type();
    if file_type.is_dir() {
        Some(Kind::Directory)
    } else if file_type.is_symlink() {
        Some(Kind::Link)
    } else if file_type.is_file() {
        Some(Kind::File { is_executable: metadata.mode() & 0o100 != 0 })
    } else {
        None
    }
}

/// True for equal types; a permission may change without making another object.
fn is_same_type(a: Kind, b: Kind) -> bool {
    a == b || (a.is_file() && b.is_file())
}

/// What a name in an open directory leads to; `None` if nothing is shown there.
fn child(
    directory: BorrowedFd<'_>,
    path: RelPath,
    name: &CStr,
) -> Result<Option<Object>, StoreError> {
    let file = match beneath(directory, name, OFlag::O_PATH | OFlag::O_NOFOLLOW) {
        Ok(file) => File::from(file),
        Err(Errno::ENOENT | Errno::ENAMETOOLONG) => return Ok(None),
        Err(Errno::EXDEV) => return Ok(mount_point(directory, name)),
        Err(errno) => return Err(gone_or(errno)),
    };
    let metadata = file.metadata()?;
    let identity = identity_of(&metadata);
    Ok(kind_of(&metadata).map(|kind| Object::live(kind, path, identity)))
}

/// A mount point is an empty directory, or nothing if it is a file.
fn mount_point(directory: BorrowedFd<'_>, name: &CStr) -> Option<Object> {
    let flags = AtFlags::AT_SYMLINK_NOFOLLOW | AtFlags::AT_NO_AUTOMOUNT;
    match fstatat(directory, name, flags) {
        Ok(stat) => {
            let file_type = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
            (file_type == SFlag::S_IFDIR).then_some(Object::Empty)
        }
        Err(Errno::ENOENT) => None,
        // A network file system may not answer, or let nobody in: it is taken for a directory, which most mount points are.
        Err(_) => Some(Object::Empty),
    }
}

/// Whether an error is of the file alone, and not of this process or the machine.
fn is_damage(error: &std::io::Error) -> bool {
    // EFSCORRUPTED and EFSBADCRC of the kernel's file systems.
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EUCLEAN | libc::EBADMSG))
}

/// The name, if it may be shown.
fn shown_name(bytes: &[u8]) -> Option<Name> {
    if bytes == b".git" { None } else { Name::new(bytes).ok() }
}

impl Store for DirStore {
    fn root(&self) -> Result<Object, StoreError> {
        Ok(self.top.clone())
    }

    fn list(&self, directory: &Object) -> Result<Vec<Listed>, StoreError> {
        let Some((file, path)) = self.open_directory(directory, OFlag::O_RDONLY)? else {
            return Ok(Vec::new());
        };
        let mut stream = Dir::from_fd(file.into()).map_err(std::io::Error::from)?;
        let mut names = Vec::new();
        for entry in stream.iter() {
            names.push(entry.map_err(std::io::Error::from)?.file_name().to_owned());
        }
        let mut listed = Vec::with_capacity(names.len());
        for text in names {
            let Some(name) = shown_name(text.to_bytes()) else { continue };
            let found = match child(stream.as_fd(), path.join(&name), &text) {
                // An error that does not come again is no damage.
                Err(StoreError::Io(_)) => child(stream.as_fd(), path.join(&name), &text),
                found => found,
            };
            match found {
                Ok(Some(object)) => listed.push(Listed { name, object }),
                Ok(None) | Err(StoreError::Gone) => {}
                // One damaged inode costs itself, not its neighbours; a look-up of it says what is wrong.
                Err(StoreError::Io(error)) if is_damage(&error) => {
                    let directory = self.place.join(OsStr::from_bytes(&path.to_bytes()));
                    tracing::warn!(directory = %directory.display(), %name, %error, "left out of a listing");
                }
                Err(error) => return Err(error),
            }
        }
        listed.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        // A stream over a directory that changes may give a name twice.
        listed.dedup_by(|later, first| later.name == first.name);
        Ok(listed)
    }

    fn lookup(&self, directory: &Object, name: &[u8]) -> Result<Option<Object>, StoreError> {
        let opened = self.open_directory(directory, OFlag::O_PATH)?;
        let (Some((file, path)), Some(name)) = (opened, shown_name(name)) else { return Ok(None) };
        let text = std::ffi::CString::new(name.as_bytes()).map_err(std::io::Error::other)?;
        child(file.as_fd(), path.join(&name), &text)
    }

    fn has_special_file(&self, directory: &Object, name: &Name) -> bool {
        let Ok(Some((file, _))) = self.open_directory(directory, OFlag::O_PATH) else {
            return false;
        };
        let child = beneath(file.as_fd(), name.as_bytes(), OFlag::O_PATH | OFlag::O_NOFOLLOW);
        let metadata = child.map(File::from).ok().and_then(|child| child.metadata().ok());
        metadata.is_some_and(|metadata| kind_of(&metadata).is_none())
    }

    fn attributes(&self, object: &Object) -> Result<Attributes, StoreError> {
        if matches!(object, Object::Empty) {
            return Ok(EMPTY_DIRECTORY);
        }
        let (_file, metadata) = self.open_object(object, OFlag::O_PATH)?;
        let kind = kind_of(&metadata).ok_or(StoreError::Gone)?;
        let size_bytes = if kind.is_directory() { 0 } else { metadata.len() };
        let nanos = u32::try_from(metadata.mtime_nsec()).unwrap_or(0);
        Ok(Attributes { kind, size_bytes, modified: Some((metadata.mtime(), nanos)) })
    }

    fn read(&self, file: &Object, offset: u64, len: usize) -> Result<Vec<u8>, StoreError> {
        match file.kind() {
            Kind::File { .. } => {}
            Kind::Directory => return Err(StoreError::IsADirectory),
            Kind::Link => return Err(StoreError::Io(Errno::ELOOP.into())),
        }
        // Not blocking: a fifo may have been put in the file's place.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let (file, metadata) = self.open_object(file, flags)?;
        let left = usize::try_from(metadata.len().saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; len.min(left)];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn read_link(&self, link: &Object) -> Result<Vec<u8>, StoreError> {
        match link.kind() {
            Kind::Link => {}
            Kind::File { .. } | Kind::Directory => return Err(StoreError::NotALink),
        }
        let (file, _) = self.open_object(link, OFlag::O_PATH)?;
        Ok(readlinkat(&file, c"").map_err(std::io::Error::from)?.into_vec())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    use nix::fcntl::{RenameFlags, renameat2};

    use super::*;

    fn store(dir: &tempfile::TempDir) -> DirStore {
        DirStore::open(dir.path()).unwrap()
    }

    fn at(store: &DirStore, path: &str) -> Object {
        path.split('/').fold(store.root().unwrap(), |object, name| {
            store.lookup(&object, name.as_bytes()).unwrap().unwrap()
        })
    }

    #[test]
    fn names_types_and_bytes_are_those_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        fs::create_dir_all(path.join("sub/.git")).unwrap();
        fs::write(path.join("sub/.git/config"), "secret").unwrap();
        fs::write(path.join("file"), "content").unwrap();
        fs::write(path.join(OsStr::from_bytes(b"\xff")), "").unwrap();
        symlink("/etc/passwd", path.join("link")).unwrap();
        nix::unistd::mkfifo(&path.join("fifo"), Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path.join("socket")).unwrap();

        let store = store(&dir);
        let listed = store.list(&store.root().unwrap()).unwrap();
        let names: Vec<_> = listed.iter().map(|listed| listed.name.as_bytes()).collect();
        assert_eq!(names, [&b"file"[..], b"link", b"sub", b"\xff"]);
        for listed in &listed {
            let found = store.lookup(&store.root().unwrap(), listed.name.as_bytes()).unwrap();
            assert_eq!(found.as_ref(), Some(&listed.object));
        }
        let file = at(&store, "file");
        assert_eq!(store.read(&file, 3, 100).unwrap(), b"tent");
        assert_eq!(store.read(&file, 100, 100).unwrap(), b"");
        assert_eq!(store.attributes(&file).unwrap().size_bytes, 7);
        assert_eq!(store.read_link(&at(&store, "link")).unwrap(), b"/etc/passwd");
        assert!(store.list(&at(&store, "sub")).unwrap().is_empty());
        for hidden in [&b".git"[..], b".", b"..", b"", b"a/b", b"fifo", b"socket", &[b'x'; 300]] {
            assert_eq!(store.lookup(&at(&store, "sub"), hidden).unwrap(), None);
            assert_eq!(store.lookup(&store.root().unwrap(), hidden).unwrap(), None);
        }
    }

    #[test]
    fn calls_that_do_not_fit_the_type_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let store = store(&dir);
        let (file, sub) = (at(&store, "file"), at(&store, "sub"));
        assert!(matches!(store.list(&file), Err(StoreError::NotADirectory)));
        assert!(matches!(store.lookup(&file, b"x"), Err(StoreError::NotADirectory)));
        assert!(matches!(store.read(&sub, 0, 1), Err(StoreError::IsADirectory)));
        assert!(matches!(store.read_link(&sub), Err(StoreError::NotALink)));
        assert!(DirStore::open(&dir.path().join("file")).is_err());
        assert!(DirStore::open(&dir.path().join("absent")).is_err());
    }

    #[test]
    fn what_was_replaced_or_removed_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "one").unwrap();
        let store = store(&dir);
        let file = at(&store, "file");
        fs::write(dir.path().join("new"), "two").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        assert!(matches!(store.read(&file, 0, 3), Err(StoreError::Gone)));
        assert!(matches!(store.attributes(&file), Err(StoreError::Gone)));
        let file = at(&store, "file");
        fs::remove_file(&path).unwrap();
        assert!(matches!(store.read(&file, 0, 3), Err(StoreError::Gone)));
        fs::create_dir(&path).unwrap();
        assert!(matches!(store.read(&file, 0, 3), Err(StoreError::Gone)));
        fs::remove_dir(&path).unwrap();
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        assert!(matches!(store.read(&file, 0, 3), Err(StoreError::Gone)));
    }

    #[test]
    fn a_link_on_the_way_is_another_path_even_to_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        fs::create_dir_all(path.join("sub")).unwrap();
        fs::create_dir_all(path.join("other")).unwrap();
        fs::write(path.join("sub/file"), "x").unwrap();
        fs::hard_link(path.join("sub/file"), path.join("other/file")).unwrap();
        let store = store(&dir);
        let file = at(&store, "sub/file");
        fs::remove_dir_all(path.join("sub")).unwrap();
        symlink("other", path.join("sub")).unwrap();
        assert!(matches!(store.read(&file, 0, 1), Err(StoreError::Gone)));
        assert!(store.read(&at(&store, "other/file"), 0, 1).is_ok());
    }

    #[test]
    fn content_and_permission_are_live_under_the_same_identity() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "long content").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let store = store(&dir);
        let file = at(&store, "file");
        assert_eq!(file.kind(), Kind::File { is_executable: false });
        fs::write(&path, "short").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o744)).unwrap();
        assert_eq!(store.read(&file, 0, 12).unwrap(), b"short");
        let attributes = store.attributes(&file).unwrap();
        assert_eq!(
            (attributes.kind, attributes.size_bytes),
            (Kind::File { is_executable: true }, 5)
        );
    }

    #[test]
    fn a_link_swapped_in_is_never_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("file"), "secret").unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/file"), "inside").unwrap();
        symlink(outside.path(), dir.path().join("swap")).unwrap();
        let store = store(&dir);
        let root = store.root().unwrap();
        let file = at(&store, "sub/file");
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (sub, swap) = (dir.path().join("sub"), dir.path().join("swap"));
                while !is_done.load(Ordering::Relaxed) {
                    let cwd = nix::fcntl::AT_FDCWD;
                    renameat2(cwd, &sub, cwd, &swap, RenameFlags::RENAME_EXCHANGE).unwrap();
                }
            });
            for _ in 0..20_000 {
                match store.read(&file, 0, 100) {
                    Ok(bytes) => assert_eq!(bytes, b"inside"),
                    Err(error) => assert!(matches!(error, StoreError::Gone), "{error}"),
                }
                if let Some(sub) = store.lookup(&root, b"sub").unwrap()
                    && let Ok(Some(file)) = store.lookup(&sub, b"file")
                    && let Ok(bytes) = store.read(&file, 0, 100)
                {
                    assert_eq!(bytes, b"inside");
                }
            }
            is_done.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn paths_deeper_than_the_kernel_takes_at_once_are_served() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let name = "d".repeat(250);
        let mut fd = nix::fcntl::open(dir.path(), OFlag::O_PATH, Mode::empty()).unwrap();
        for _ in 0..20 {
            nix::sys::stat::mkdirat(&fd, name.as_str(), Mode::S_IRWXU).unwrap();
            fd = nix::fcntl::openat(&fd, name.as_str(), OFlag::O_PATH, Mode::empty()).unwrap();
        }
        let deepest = (0..20).fold(store.root().unwrap(), |object, _| {
            store.list(&object).unwrap()[0].object.clone()
        });
        assert!(store.list(&deepest).unwrap().is_empty());
        assert!(store.attributes(&deepest).is_ok());
    }

    #[test]
    fn s51_a_mount_point_inside_a_live_source_is_an_empty_directory() {
        use nix::mount::{MsFlags, mount};
        let dir = tempfile::tempdir().unwrap();
        for name in ["mounted", "plain"] {
            fs::create_dir_all(dir.path().join(name).join("below")).unwrap();
        }
        fs::write(dir.path().join("file"), "").unwrap();
        let none = None::<&str>;
        // Only this thread leaves the mount name space of the others, and its mounts end with it.
        let in_own_name_space = || {
            if let Err(errno) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS) {
                eprintln!("SKIPPED: mount points inside of a live source: {errno}");
                return;
            }
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(none, "/", none, private, none).unwrap();
            mount(none, &dir.path().join("mounted"), Some("tmpfs"), MsFlags::empty(), none)
                .unwrap();
            fs::write(dir.path().join("mounted/secret"), "").unwrap();
            let (plain, file) = (dir.path().join("plain"), dir.path().join("file"));
            mount(Some(&file), &file, none, MsFlags::MS_BIND, none).unwrap();
            mount(Some(&plain), &plain.join("below"), none, MsFlags::MS_BIND, none).unwrap();
            let store = store(&dir);
            let root = store.root().unwrap();
            let listed = store.list(&root).unwrap();
            let names: Vec<_> = listed.iter().map(|listed| listed.name.to_string()).collect();
            assert_eq!(names, ["mounted", "plain"]);
            assert_eq!(at(&store, "mounted"), Object::Empty);
            assert_eq!(at(&store, "plain/below"), Object::Empty);
            assert_eq!(store.lookup(&root, b"file").unwrap(), None);
            assert!(store.list(&Object::Empty).unwrap().is_empty());
            assert_eq!(store.lookup(&Object::Empty, b"secret").unwrap(), None);
        };
        std::thread::scope(|scope| scope.spawn(in_own_name_space).join().unwrap());
    }

    #[test]
    fn what_the_daemon_may_not_read_is_denied() {
        use std::os::unix::fs::PermissionsExt;
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: permissions in a live source: only root can give up its own");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("closed")).unwrap();
        fs::write(dir.path().join("closed/inner"), "").unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let mode = |path: &str, mode| {
            let permissions = fs::Permissions::from_mode(mode);
            fs::set_permissions(dir.path().join(path), permissions).unwrap();
        };
        mode("closed", 0o700);
        mode("file", 0o600);
        mode(".", 0o755);
        let store = store(&dir);
        // The user id for file systems is that of one thread.
        let as_nobody = || {
            nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65534));
            let (closed, file) = (at(&store, "closed"), at(&store, "file"));
            assert!(matches!(store.read(&file, 0, 1), Err(StoreError::Denied)));
            assert!(store.attributes(&file).is_ok());
            assert!(matches!(store.list(&closed), Err(StoreError::Denied)));
            assert!(matches!(store.lookup(&closed, b"inner"), Err(StoreError::Denied)));
        };
        std::thread::scope(|scope| scope.spawn(as_nobody).join().unwrap());
    }

    #[test]
    fn no_descriptor_is_left_open() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        let store = store(&dir);
        // Other tests open descriptors of their own at the same time: those of this directory are counted.
        let count = || {
            let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
            let targets = links.filter_map(|link| fs::read_link(link.path()).ok());
            targets.filter(|target| target.starts_with(dir.path())).count()
        };
        let before = count();
        for _ in 0..10 {
            let root = store.root().unwrap();
            let file = store.list(&root).unwrap().remove(0).object;
            store.read(&file, 0, 1).unwrap();
            store.attributes(&file).unwrap();
            assert!(store.read_link(&file).is_err());
            assert!(store.lookup(&root, b"absent").unwrap().is_none());
        }
        assert_eq!(count(), before);
    }
}
