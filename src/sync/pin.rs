//! What a mount serves, kept readable whatever other programs do to its repositories.
//!
//! Each daemon has a root of its own, `<state directory>/pins/<process>-<n>`, locked while it lives; below it each repository has
//! directories `<key>-<n>` into which its objects are linked ([`PinDirectory`]). A root whose lock can be taken was left by a daemon that
//! crashed, and is removed by the next. Lock order: that of one repository, then what was said. The first is held while its files are
//! linked, so that two sources of one repository share a directory; no request waits for it.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tracing::{info, warn};

use super::fetch::Stop;
use crate::snapshot::Pinning;
use crate::store::git::Repository;
use crate::store::git::lfs::LfsObjects;
use crate::store::git::pin::{Filled, Lenders, PinDirectory, PinError};
use crate::union::object::Oid;

/// How long another daemon that starts is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// The pins of one daemon. When it goes, all of them are removed.
#[derive(Debug)]
pub struct Pins {
    /// Where they are, or why there can be none.
    root: Result<Root, String>,
    repositories: Mutex<HashMap<[u8; 16], OfRepository>>,
    /// As `repositories`, where the objects are copies.
    copies: Mutex<HashMap<[u8; 16], OfRepository>>,
    /// Which failures are in the log already.
    said: Mutex<HashSet<(PathBuf, String)>>,
}

/// The pins of one repository, the newest last.
type OfRepository = Arc<Mutex<Vec<Known>>>;

/// A repository that is read from a pin, while a store uses it.
#[derive(Debug)]
struct Known {
    pinned: Weak<Repository>,
    /// The commits that were found in it, with the looks that its lenders had then.
    found: HashMap<Oid, Vec<Option<SystemTime>>>,
    /// The commits that were copied into it, with a digest of the LFS objects that there were then.
    copied: HashSet<(Oid, Option<[u8; 32]>)>,
}

/// The directory of one daemon.
#[derive(Debug)]
struct Root {
    path: PathBuf,
    device: u64,
    removal: Sender<PathBuf>,
    next: AtomicU64,
    /// Says that the daemon lives.
    _lock: File,
}

impl Pins {
    /// Makes the root of this daemon, and removes those of daemons that have died. Where that fails, nothing is pinned.
    pub fn open(state_dir: &Path) -> Self {
        let root = Root::open(state_dir).map_err(|error| {
            format!("nothing can be kept in the state directory `{}`: {error}", state_dir.display())
        });
        let (repositories, copies, said) = Default::default();
        Self { root, repositories, copies, said }
    }

    /// The repository to read a commit from: one of hard links of our own where that can be had, else the repository itself.
    pub fn pin(
        &self,
        repository: &Arc<Repository>,
        commit: &Oid,
        lfs: Option<&LfsObjects>,
    ) -> (Arc<Repository>, Pinning) {
        let pinned = self.root.as_ref().map_err(Clone::clone).and_then(|root| {
            let pinned = self.try_pin(root, repository, commit).and_then(|pinned| {
                lfs.zip(pinned.pin()).map_or(Ok(()), |(lfs, pin)| pin.link_lfs(lfs))?;
                Ok(pinned)
            });
            pinned.map_err(|error| error.to_string())
        });
        self.or_unpinned(repository, pinned)
    }

    /// The copy of a commit that is there; else the repository itself, and that a copy is to be made.
    pub fn copied(
        &self,
        repository: &Arc<Repository>,
        commit: &Oid,
        lfs: Option<&LfsObjects>,
    ) -> (Arc<Repository>, Pinning) {
        let of_repository = held(&self.copies).entry(repository.key()).or_default().clone();
        let known = held(&of_repository);
        for known in known.iter().rev() {
            let Some(pinned) = known.pinned.upgrade() else { continue };
            if known.copied.contains(&(*commit, lfs.map(LfsObjects::digest))) {
                return (pinned, Pinning::Pinned);
            }
            if known.copied.iter().any(|(copied, _)| copied == commit) {
                return (pinned, Pinning::Awaited);
            }
        }
        (repository.clone(), Pinning::Awaited)
    }

    /// Copies what a commit needs, which may take long; the repository to read it from then. Nothing if it was stopped.
    pub fn copy(
        &self,
        repository: &Arc<Repository>,
        commit: &Oid,
        lfs: Option<&LfsObjects>,
        stop: &Stop,
    ) -> Option<(Arc<Repository>, Pinning)> {
        let pinned = match &self.root {
            Ok(root) => self.try_copy(root, repository, commit, lfs, stop).transpose()?,
            Err(reason) => return Some(self.or_unpinned(repository, Err(reason.clone()))),
        };
        Some(self.or_unpinned(repository, pinned.map_err(|error| error.to_string())))
    }

    fn try_copy(
        &self,
        root: &Root,
        repository: &Arc<Repository>,
        commit: &Oid,
        lfs: Option<&LfsObjects>,
        stop: &Stop,
    ) -> Result<Option<Arc<Repository>>, PinError> {
        let last = {
            let of_repository = held(&self.copies).entry(repository.key()).or_default().clone();
            let mut known = held(&of_repository);
            known.retain(|known| known.pinned.strong_count() > 0);
            known.last().and_then(|known| known.pinned.upgrade())
        };
        let last = last.filter(|last| last.pin().is_some_and(|pin| !pin.is_outgrown()));
        let is_new = last.is_none();
        let pinned = match last {
            Some(last) => last,
            None => Arc::new(open_empty(root, repository)?),
        };
        let Some(directory) = pinned.pin() else { return Ok(None) };
        if !directory.copy(repository, commit, lfs, &|| stop.is_set())? {
            return Ok(None);
        }
        pinned.expect_here(commit).map_err(|error| PinError::Incomplete(error.to_string()))?;
        let of_repository = held(&self.copies).entry(repository.key()).or_default().clone();
        let mut known = held(&of_repository);
        if is_new {
            let (pinned, found, copied) = (Arc::downgrade(&pinned), HashMap::new(), HashSet::new());
            known.push(Known { pinned, found, copied });
        }
        if let Some(known) = known.last_mut() {
            known.copied.insert((*commit, lfs.map(LfsObjects::digest)));
        }
        Ok(Some(pinned))
    }

    fn or_unpinned(
        &self,
        repository: &Arc<Repository>,
        pinned: Result<Arc<Repository>, String>,
    ) -> (Arc<Repository>, Pinning) {
        match pinned {
            Ok(pinned) => (pinned, Pinning::Pinned),
            Err(reason) => {
                let git_dir = repository.git_dir();
                if held(&self.said).insert((git_dir.to_owned(), reason.clone())) {
                    info!(repository = %git_dir.display(), reason, "not pinned: what another program prunes there becomes unreadable");
                }
                (repository.clone(), Pinning::Unpinned { reason })
            }
        }
    }

    fn try_pin(
        &self,
        root: &Root,
        repository: &Arc<Repository>,
        commit: &Oid,
    ) -> Result<Arc<Repository>, PinError> {
        let lenders = Lenders::of(repository)?;
        lenders.expect_on(root.device)?;
        let stamps = lenders.stamps();
        let of_repository = held(&self.repositories).entry(repository.key()).or_default().clone();
        let mut known = held(&of_repository);
        known.retain(|known| known.pinned.strong_count() > 0);
        for known in known.iter().rev() {
            if known.found.get(commit) == Some(&stamps)
                && let Some(pinned) = known.pinned.upgrade()
            {
                return Ok(pinned);
            }
        }
        if let Some(known) = known.last_mut()
            && let Some(pinned) = known.pinned.upgrade()
            && let Some(directory) = pinned.pin()
            && directory.fill(&lenders)? == Filled::Whole
            && pinned.expect_here(commit).is_ok()
        {
            known.found.insert(*commit, stamps);
            return Ok(pinned);
        }
        // A second time, for what was changed while it was linked.
        let pinned = match pin_anew(root, &lenders, repository, commit) {
            Err(PinError::Incomplete(_)) => pin_anew(root, &lenders, repository, commit),
            pinned => pinned,
        }?;
        let found = HashMap::from([(*commit, stamps)]);
        known.push(Known { pinned: Arc::downgrade(&pinned), found, copied: HashSet::new() });
        Ok(pinned)
    }
}

fn pin_anew(
    root: &Root,
    lenders: &Lenders,
    repository: &Arc<Repository>,
    commit: &Oid,
) -> Result<Arc<Repository>, PinError> {
    let directory = create(root, repository)?;
    directory.fill(lenders)?;
    let pinned = open(repository, directory)?;
    pinned.expect_here(commit).map_err(|error| PinError::Incomplete(error.to_string()))?;
    Ok(Arc::new(pinned))
}

/// An empty directory for the objects of a repository, open.
fn open_empty(root: &Root, repository: &Arc<Repository>) -> Result<Repository, PinError> {
    create(root, repository).and_then(|directory| open(repository, directory))
}

fn create(root: &Root, repository: &Repository) -> Result<PinDirectory, PinError> {
    let (name, id_len) = (root.next(&repository.key()), repository.id_len());
    PinDirectory::create(&root.path, &name, id_len, root.removal.clone())
}

fn open(repository: &Arc<Repository>, directory: PinDirectory) -> Result<Repository, PinError> {
    Repository::open_pinned(repository.clone(), directory)
        .map_err(|error| PinError::Incomplete(error.to_string()))
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Root {
    fn open(state_dir: &Path) -> io::Result<Self> {
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
        // While `starting` is locked nobody makes a root: one that is not locked has been left.
        let left = left_behind(&all)?;
        let path = create_root(&all)?;
        let lock = open_directory(&path)?;
        lock.try_lock().map_err(io::Error::from)?;
        drop(starting);
        PinDirectory::prepare(&path)?;
        let device = lock.metadata()?.dev();
        let (removal, removals) = mpsc::channel();
        thread::Builder::new().name("unpin".into()).spawn(move || remove_all(left, &removals))?;
        Ok(Self { path, device, removal, next: AtomicU64::new(0), _lock: lock })
    }

    /// A name for a new pin directory of a repository.
    fn next(&self, key: &[u8; 16]) -> String {
        let hex = key.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap_or_default();
            hex
        });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{hex}-{number}")
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Checks that a directory is one, and that nobody else can put another into its place unless he is root.
fn expect_ours(dir: &Path) -> io::Result<()> {
    let metadata = dir.metadata()?;
    let owner = nix::unistd::Uid::from_raw(metadata.uid());
    if metadata.is_dir() && (owner.is_root() || owner == nix::unistd::geteuid()) {
        return Ok(());
    }
    Err(io::Error::other(format!("`{}` is not a directory of ours", dir.display())))
}

fn open_directory(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(path)
}

fn create_root(all: &Path) -> io::Result<PathBuf> {
    for number in 0..u32::MAX {
        let path = all.join(format!("{}-{number}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            outcome => return outcome.map(|()| path),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

/// The roots of daemons that have died, locked so that nobody else removes them too.
fn left_behind(all: &Path) -> io::Result<Vec<(PathBuf, File)>> {
    let mut left = Vec::new();
    for entry in fs::read_dir(all)? {
        let path = entry?.path();
        if let Ok(root) = open_directory(&path)
            && root.try_lock().is_ok()
        {
            left.push((path, root));
        }
    }
    Ok(left)
}

/// Removes what was left behind, and then what is no longer needed, until nobody can need anything any more.
fn remove_all(left: Vec<(PathBuf, File)>, removals: &Receiver<PathBuf>) {
    for (path, _lock) in left {
        info!(path = %path.display(), "removing the pins of a daemon that has died");
        remove(&path);
    }
    for path in removals {
        remove(&path);
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
