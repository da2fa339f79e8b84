//! The run directory: where control sockets are, one for each mount point.

use std::env;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{MachineError, inside, user};

const NAME: &str = "overlayfs-mount";
/// Where a session manager keeps the directories that `XDG_RUNTIME_DIR` names, one for each user.
const SESSIONS: &str = "/run/user";
/// Where everybody may make a directory, and nobody may move away somebody else's.
const SHARED: &str = "/tmp";
const ENDING: &str = "sock";
/// How many bytes a socket's whole path may have (unix(7)).
const SOCKET_MAX: usize = 107;
/// The most bytes of a mount point that are part of a file's name.
const SLUG_MAX: usize = 32;
const DIGEST_BYTES: usize = 6;
/// What the log of a daemon ends in.
const LOG_ENDING: &str = "log";
/// A log that nobody has written to for so long, and nobody has open, is needed no more.
const LOG_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// The longest ending: while a socket is being made it ends in the number of its process.
const ENDING_MAX: usize = 10;

/// The run directory of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir {
    path: PathBuf,
    /// Who it must belong to.
    owner: u32,
}

impl RunDir {
    /// Where the run directory of this process's user may be, best first: `OVERLAYFS_MOUNT_RUN_DIR` alone if it is set; for
    /// root `/run/overlayfs-mount`, whatever session it is in; for others `overlayfs-mount` in `XDG_RUNTIME_DIR` or
    /// `/run/user/<uid>`, those of them that exist. Last `/tmp/overlayfs-mount-<uid>`: containers seldom have a session.
    pub fn places() -> Vec<Self> {
        if let Some(path) = env::var_os("OVERLAYFS_MOUNT_RUN_DIR").filter(|path| !path.is_empty()) {
            return vec![Self::at(path)];
        }
        let (uid, _) = user::effective_ids();
        let mut places = Vec::new();
        if uid == 0 {
            places.push(Self::at(Path::new("/run").join(NAME)));
        } else {
            let session = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
            let session = session.filter(|path| path.is_absolute());
            let sessions = session.into_iter().chain([Path::new(SESSIONS).join(uid.to_string())]);
            places.extend(
                sessions.filter(|path| path.is_dir()).map(|path| Self::at(path.join(NAME))),
            );
        }
        places.push(Self::at(Path::new(SHARED).join(format!("{NAME}-{uid}"))));
        places.dedup();
        places
    }

    /// The run directory of this process's user, made if need be: the first of [`RunDir::places`] that can be had.
    ///
    /// # Errors
    /// None of them can be made or trusted; why not the best of them.
    pub fn make() -> Result<Self, MachineError> {
        let mut failures = Vec::new();
        for place in Self::places() {
            match place.create() {
                Ok(()) => return Ok(place),
                Err(error) => failures.push(error),
            }
        }
        // There is always a place to try, and the first is the best.
        Err(failures.swap_remove(0))
    }

    /// A run directory of this process's user elsewhere.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        let (owner, _) = user::effective_ids();
        Self { path: path.into(), owner }
    }

    /// The run directories in which this process's user may find daemons: its own; for root also those of other users, which
    /// are passed over where they cannot be trusted.
    pub fn all() -> Vec<Self> {
        let mut all: Vec<_> = Self::places();
        if user::effective_ids().0 == 0 {
            let sessions = theirs(Path::new(SESSIONS), "", |path| path.join(NAME));
            let shared = theirs(Path::new(SHARED), &format!("{NAME}-"), Path::to_owned);
            let known = all.clone();
            let is_new = |dir: &Self| !known.contains(dir) && dir.check().is_ok();
            all.extend(sessions.into_iter().chain(shared).filter(is_new));
        }
        all
    }

    /// The control socket of a mount point: of a view around this process ([`inside`]), or in any of the directories of [`RunDir::all`];
    /// `None` if there is none.
    pub fn find_socket(mountpoint: &Path) -> Option<PathBuf> {
        let is_socket = |path: &Path| {
            fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
        };
        let in_directories = || {
            let all = Self::all().into_iter().filter(|dir| dir.check().is_ok());
            all.map(|dir| dir.socket(mountpoint)).find(|socket| is_socket(socket))
        };
        inside::find_socket(mountpoint).or_else(in_directories)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory, for this user only, unless it is there.
    ///
    /// # Errors
    /// It cannot be made, or what is there belongs to somebody else or is open to others.
    pub fn create(&self) -> Result<(), MachineError> {
        match DirBuilder::new().recursive(false).mode(0o700).create(&self.path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.check(),
            Err(error) => Err(self.error(error.to_string())),
        }
    }

    /// Checks that nobody else can put sockets there.
    ///
    /// # Errors
    /// It cannot be read, is no directory, belongs to somebody else or is open to others.
    pub fn check(&self) -> Result<(), MachineError> {
        let found =
            fs::symlink_metadata(&self.path).map_err(|error| self.error(error.to_string()))?;
        let mode = found.permissions().mode() & 0o7777;
        if !found.is_dir() {
            Err(self.error("is not a directory".to_owned()))
        } else if found.uid() != self.owner {
            Err(self.error(format!("belongs to user {}, not to user {}", found.uid(), self.owner)))
        } else if mode & 0o077 != 0 {
            Err(self.error(format!("is open to others (mode {mode:04o})")))
        } else {
            Ok(())
        }
    }

    /// The control socket of a mount point: a readable part, then a digest of the whole path.
    pub fn socket(&self, mountpoint: &Path) -> PathBuf {
        self.path.join(format!("{}.{ENDING}", self.stem(mountpoint)))
    }

    fn stem(&self, mountpoint: &Path) -> String {
        // The directory, a slash, a dash, the digest, a dot and the ending.
        let taken = self.path.as_os_str().len() + 2 + 2 * DIGEST_BYTES + 1 + ENDING_MAX;
        stem(mountpoint, SOCKET_MAX.saturating_sub(taken))
    }

    /// The log of a daemon that has nowhere else to write to. It has it locked while it lives.
    pub fn log(&self, mountpoint: &Path) -> PathBuf {
        self.path.join(format!("{}.{LOG_ENDING}", self.stem(mountpoint)))
    }

    /// Removes logs of daemons that are gone, after a week (S112). What cannot be removed stays.
    pub fn remove_old_logs(&self) {
        let Ok(entries) = fs::read_dir(&self.path) else { return };
        let logs = entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|ending| ending == LOG_ENDING));
        for path in logs {
            let Ok(log) = File::open(&path) else { continue };
            let modified = log.metadata().and_then(|found| found.modified()).ok();
            let age = modified.and_then(|modified| modified.elapsed().ok());
            if age.is_some_and(|age| age > LOG_KEPT) && log.try_lock().is_ok() {
                fs::remove_file(&path).unwrap_or_default();
            }
        }
    }

    /// Where the daemon that serves a directory of views mounts what it binds from.
    pub fn views(&self, directory: &Path) -> PathBuf {
        self.path.join(format!("{}.views", self.stem(directory)))
    }

    /// All control sockets in it, sorted; none if there is no such directory.
    ///
    /// # Errors
    /// The directory cannot be read or trusted.
    pub fn sockets(&self) -> Result<Vec<PathBuf>, MachineError> {
        if fs::symlink_metadata(&self.path)
            .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        {
            return Ok(Vec::new());
        }
        self.check()?;
        let entries = fs::read_dir(&self.path).map_err(|error| self.error(error.to_string()))?;
        let mut sockets: Vec<_> = entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()))
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|ending| ending == ENDING))
            .collect();
        sockets.sort();
        Ok(sockets)
    }

    fn error(&self, reason: String) -> MachineError {
        MachineError::RunDir { path: self.path.clone(), reason }
    }
}

/// What may be run directories of the users whose numbers follow `prefix` in the names of this directory.
fn theirs(directory: &Path, prefix: &str, below: impl Fn(&Path) -> PathBuf) -> Vec<RunDir> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let of_entry = |entry: fs::DirEntry| {
        let owner = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
        Some(RunDir { path: below(&entry.path()), owner })
    };
    entries.flatten().filter_map(of_entry).collect()
}

/// The name of a mount point where there is room for the longest.
pub(super) fn file_name(mountpoint: &Path) -> String {
    stem(mountpoint, SLUG_MAX)
}

/// The file name of a mount point without its ending: as much of a readable part as the directory leaves room for, and a digest.
fn stem(mountpoint: &Path, room: usize) -> String {
    let bytes = mountpoint.as_os_str().as_bytes();
    // The end of a path tells more than its beginning.
    let mut slug = String::new();
    for byte in &bytes[bytes.len().saturating_sub(room.min(SLUG_MAX))..] {
        let is_plain = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
        slug.push(if is_plain { char::from(*byte) } else { '-' });
    }
    let mut stem = slug.trim_start_matches(['-', '.']).to_owned();
    stem.push('-');
    for byte in Sha256::digest(bytes).iter().take(DIGEST_BYTES) {
        // Writing to a string cannot fail.
        write!(stem, "{byte:02x}").unwrap_or_default();
    }
    stem
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn each_mount_point_has_its_own_readable_socket() {
        let dir = RunDir::at("/run/x");
        let socket = dir.socket(Path::new("/home/agent/github"));
        let name = socket.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("home-agent-github-"), "{name}");
        assert_ne!(socket, dir.socket(Path::new("/home/agent-github")));
        assert!(dir.socket(Path::new(&"/long".repeat(100))).as_os_str().len() < 107);
    }

    #[test]
    fn the_directory_is_private_and_lists_its_sockets() {
        let temp = tempfile::tempdir().unwrap();
        let dir = RunDir::at(temp.path().join("run"));
        assert!(dir.sockets().unwrap().is_empty());
        dir.create().unwrap();
        dir.create().unwrap();
        let socket = dir.socket(Path::new("/a"));
        let _listener = UnixListener::bind(&socket).unwrap();
        fs::write(dir.path().join("file.sock"), "").unwrap();
        assert_eq!(dir.sockets().unwrap(), [socket]);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let error = dir.create().unwrap_err();
        assert!(error.to_string().contains("open to others"), "{error}");
    }
    #[test]
    fn s112_a_log_of_nobody_goes_after_a_week() {
        let temp = tempfile::tempdir().unwrap();
        let dir = RunDir::at(temp.path());
        let write = |name: &str, days: u64| {
            let file = File::create(temp.path().join(name)).unwrap();
            let age = Duration::from_secs(days * 24 * 3600);
            file.set_modified(std::time::SystemTime::now() - age).unwrap();
            file
        };
        let held = write("held.log", 8);
        held.lock_shared().unwrap();
        drop([write("old.log", 8), write("new.log", 6), write("old.sock", 8), write("old", 8)]);
        dir.remove_old_logs();
        let names = fs::read_dir(temp.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        assert_eq!(names, ["held.log", "new.log", "old", "old.sock"]);
    }
}
