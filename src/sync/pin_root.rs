//! The directory of a mount in which its pins are, and the sets that it keeps.
//!
//! `<state directory>/pins/<digest of the mount point>`, locked while a daemon serves the mount. The next daemon of the same mount takes it
//! over with all that is in it. One that nobody has used for a day is removed by whichever daemon starts next; a second daemon that finds it
//! locked makes one of its own, which goes with it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest, Sha256};
use tracing::{info, warn};

use crate::store::git::pin::PinDirectory;
use crate::store::state_dir::expect_ours;
use crate::union::hex::Hex;

/// How long another daemon that starts is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the last daemon of the same mount is waited for, before another place is taken.
const PATIENCE_WITH_OWN: Duration = Duration::from_millis(200);
/// How long what a mount kept stays for its next daemon, where that has not come.
const LEFT_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// How often a daemon says that it uses its root.
const LIFE_SIGN: Duration = Duration::from_secs(60 * 60);

/// Where the sets that are kept are described.
pub(super) const SETS: &str = "sets";

/// The directory of one mount.
#[derive(Debug)]
pub(super) struct PinRoot {
    path: PathBuf,
    device: u64,
    removal: Sender<PathBuf>,
    next: AtomicU64,
    /// Whether nothing in it is removed any more.
    is_kept: Arc<AtomicBool>,
    /// Whether the next daemon of the mount will find it.
    is_shared_over_time: bool,
    /// Says that a daemon uses it.
    lock: File,
}

impl PinRoot {
    /// Takes the directory of a mount, made if need be; without a mount one that goes with this daemon.
    pub(super) fn open(state_dir: &Path, mountpoint: Option<&Path>) -> io::Result<Self> {
        let all = state_dir.join("pins");
        fs::create_dir_all(state_dir)?;
        expect_ours(state_dir)?;
        match DirBuilder::new().mode(0o700).create(&all) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => expect_ours(&all)?,
        }
        // Objects of private sources are reached through here.
        fs::set_permissions(&all, fs::Permissions::from_mode(0o700))?;
        let starting = open_directory(&all)?;
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = starting.try_lock() {
            match error {
                TryLockError::WouldBlock if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(5));
                }
                TryLockError::WouldBlock => return Err(ErrorKind::ResourceBusy.into()),
                TryLockError::Error(error) => return Err(error),
            }
        }
        // While `starting` is locked nobody takes a root: one that is not locked has been left.
        let (path, lock, is_shared_over_time) = match mountpoint {
            Some(mountpoint) => take(&all, &name_of(mountpoint))?,
            None => take_new(&all, "alone")?,
        };
        let left = left_behind(&all)?;
        drop(starting);
        PinDirectory::prepare(&path)?;
        let device = lock.metadata()?.dev();
        let (removal, removals) = mpsc::channel();
        let is_kept = Arc::new(AtomicBool::new(false));
        let stays = is_kept.clone();
        let root = path.clone();
        thread::Builder::new().name("unpin".into()).spawn(move || {
            remove_left(left);
            remove_all(&removals, &stays, &root, LIFE_SIGN);
        })?;
        let next = AtomicU64::new(0);
        Ok(Self { path, device, removal, next, is_kept, is_shared_over_time, lock })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The device that it is on.
    pub(super) fn device(&self) -> u64 {
        self.device
    }

    /// Where pin directories go that are not needed any more.
    pub(super) fn removal(&self) -> Sender<PathBuf> {
        self.removal.clone()
    }

    /// The pin directories that are there already, each with the key of its repository.
    pub(super) fn left(&self) -> Vec<([u8; 16], PinDirectory)> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let mut left = Vec::new();
        for entry in entries {
            let name = entry.file_name();
            let Some((key, number)) = name.to_str().and_then(key_and_number) else { continue };
            self.next.fetch_max(number + 1, Ordering::Relaxed);
            match PinDirectory::adopt(entry.path(), self.removal()) {
                Ok(directory) => left.push((key, directory)),
                Err(error) => warn!(%error, "what was pinned before cannot be used"),
            }
        }
        left
    }

    /// Removes nothing any more, so that the next daemon of the mount finds it.
    pub(super) fn keep(&self) {
        if self.is_shared_over_time {
            self.is_kept.store(true, Ordering::Relaxed);
            // Its age counts from now. Where that cannot be said, it may be removed too early.
            self.lock.set_modified(SystemTime::now()).unwrap_or_default();
        }
    }

    /// A name for a new pin directory of a repository.
    pub(super) fn next(&self, key: &[u8; 16]) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number}", Hex(key))
    }
}

impl Drop for PinRoot {
    fn drop(&mut self) {
        if !self.is_kept.load(Ordering::Relaxed) {
            remove(&self.path);
        }
    }
}

/// A name for what belongs to a mount point.
pub(super) fn name_of(mountpoint: &Path) -> String {
    let digest: [u8; 32] = Sha256::digest(mountpoint.as_os_str().as_bytes()).into();
    Hex(&digest[..16]).to_string()
}

/// Reads `<key>-<n>`.
fn key_and_number(name: &str) -> Option<([u8; 16], u64)> {
    let (key, number) = name.split_once('-')?;
    if key.len() != 32 || !key.is_ascii() {
        return None;
    }
    let mut bytes = [0; 16];
    for (byte, at) in bytes.iter_mut().zip((0..32).step_by(2)) {
        *byte = u8::from_str_radix(&key[at..at + 2], 16).ok()?;
    }
    Some((bytes, number.parse().ok()?))
}

/// The root of this name, locked; another one if a daemon uses it. True for the first.
fn take(all: &Path, name: &str) -> io::Result<(PathBuf, File, bool)> {
    let own = all.join(name);
    // A daemon that ends holds it a moment longer than its mount; so does a child that it was just starting.
    let deadline = Instant::now() + PATIENCE_WITH_OWN;
    loop {
        match DirBuilder::new().mode(0o700).create(&own) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let is_free =
            open_directory(&own).map(|lock| lock.try_lock().is_ok().then_some(lock)).or_else(
                |error| if error.kind() == ErrorKind::NotFound { Ok(None) } else { Err(error) },
            );
        // One that keeps nothing removes it with its last breath: what was waited for is gone then.
        if let Some(lock) = is_free?.filter(|lock| is_at(lock, &own)) {
            return Ok((own, lock, true));
        }
        if Instant::now() >= deadline {
            return take_new(all, name);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a directory that is open is the one at a path.
fn is_at(directory: &File, path: &Path) -> bool {
    let id = |found: fs::Metadata| (found.dev(), found.ino());
    directory.metadata().map(id).ok() == fs::symlink_metadata(path).map(id).ok()
}

/// Takes a root that nobody else had or will have.
fn take_new(all: &Path, name: &str) -> io::Result<(PathBuf, File, bool)> {
    let path = create_root(all, name)?;
    let lock = open_directory(&path)?;
    lock.try_lock().map_err(io::Error::from)?;
    Ok((path, lock, false))
}

/// True if nobody will come for a root: its mount has not been there for long, or it was to go with its daemon.
fn is_abandoned(path: &Path) -> bool {
    let is_of_mount = path.file_name().is_some_and(|name| name.len() == 32);
    let used = [path.to_owned(), path.join(SETS)].into_iter().filter_map(|path| {
        let modified = path.metadata().and_then(|metadata| metadata.modified());
        modified.ok().and_then(|time| time.elapsed().ok())
    });
    // A clock that was set back says nothing about age.
    !is_of_mount || used.min().is_some_and(|age| age > LEFT_FOR)
}

fn open_directory(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(path)
}

fn create_root(all: &Path, name: &str) -> io::Result<PathBuf> {
    for number in 0..u32::MAX {
        let path = all.join(format!("{name}-{}-{number}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            outcome => return outcome.map(|()| path),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

/// The roots that nobody will come for, locked so that nobody else removes them too.
fn left_behind(all: &Path) -> io::Result<Vec<(PathBuf, File)>> {
    let mut left = Vec::new();
    for entry in fs::read_dir(all)? {
        let path = entry?.path();
        if is_abandoned(&path)
            && let Ok(root) = open_directory(&path)
            && root.try_lock().is_ok()
        {
            left.push((path, root));
        }
    }
    Ok(left)
}

/// Removes what was left behind.
fn remove_left(left: Vec<(PathBuf, File)>) {
    for (path, _lock) in left {
        info!(path = %path.display(), "removing what a mount kept that is gone");
        remove(&path);
    }
}

/// Removes what is no longer needed, until nobody can need anything any more or all is to stay. Says from time to time that somebody uses the
/// root: its age counts from then, should its daemon be killed.
pub(super) fn remove_all(
    removals: &Receiver<PathBuf>,
    stays: &AtomicBool,
    root: &Path,
    life_sign: Duration,
) {
    loop {
        match removals.recv_timeout(life_sign) {
            Ok(path) if !stays.load(Ordering::Relaxed) => remove(&path),
            Ok(_) => {}
            // Where that cannot be said, it may be removed too early.
            Err(RecvTimeoutError::Timeout) => open_directory(root)
                .and_then(|root| root.set_modified(SystemTime::now()))
                .unwrap_or_default(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Removes a directory with all that is in it; follows no link.
fn remove(path: &Path) {
    // The same may be removed twice at once, when the daemon stops.
    let outcome = (0..3).map(|_| fs::remove_dir_all(path)).find(|outcome| match outcome {
        Ok(()) => true,
        Err(error) => error.kind() == ErrorKind::NotFound,
    });
    if outcome.is_none() {
        warn!(path = %path.display(), "pins that are not needed any more could not be removed");
    }
}
