//! The `.git` of sources that are shown whole (`mount.git`): HEAD at the revision, and the objects of all revisions that the mount has served.
//!
//! Below `<root of the mount>/git` each source has a directory ([`packs`]), which the next daemon of the mount takes over. It is named by what
//! decides who may see it, the source's name and visibility, and not by its repository: a clone that borrows from the view finds its
//! objects also when the repository has moved.
//! Lock order: that of one history alone. It is held while git packs, so that nobody packs the same at once; no request waits for it.

mod layout;
mod packs;
#[cfg(test)]
mod packs_tests;
mod record;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, TryLockError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::mkdtemp;
use thiserror::Error;
use tracing::{debug, warn};

use self::layout::Boundary;
use self::packs::{Packing, Packs};
use super::digest::Fields;
use super::fetch::{ChildRun, PackCause, Stop};
use crate::snapshot::{GitDirectory, Pinning, SharedPinning, Source, SourceState};
use crate::store::dir::DirStore;
use crate::store::git::Repository;
use crate::union::hex::Hex;
use crate::union::object::Oid;
use crate::union::revision::Revision;
use crate::union::source::{SourceName, Visibility};

/// The most time that packing the history of one source may take.
const TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// What could not be packed is tried again after this, when something else moves.
const PAUSE: Duration = Duration::from_secs(60);

/// Why there is no `.git`.
#[derive(Debug, Error)]
enum HistoryError {
    /// Git could not pack it.
    #[error("its history cannot be packed: {0}")]
    Packing(PackCause),
    /// Something in the place of an object or a pack is no regular file.
    #[error("its history cannot be packed: `{}` is not a regular file", .0.display())]
    Special(PathBuf),
    /// It was tried before, or cannot be had again.
    #[error("{0}")]
    Again(String),
    /// The operating system refused.
    #[error("{step} `{}`: {error}", path.display())]
    Io {
        /// What was attempted.
        step: &'static str,
        /// Where.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
}

/// What a `.git` is asked for.
pub(super) struct WantedGit<'a> {
    pub(super) name: &'a SourceName,
    pub(super) visibility: Visibility,
    pub(super) git_ref: Option<&'a str>,
    pub(super) place: &'a Path,
    pub(super) commit: Oid,
    pub(super) time_secs: i64,
    pub(super) is_sha256: bool,
}

/// The histories that a mount shows.
#[derive(Debug)]
pub struct Histories {
    wanted: Option<PathBuf>,
    place: OnceLock<Result<PathBuf, String>>,
    sources: Mutex<HashMap<[u8; 16], Arc<Mutex<History>>>>,
    removal: OnceLock<Sender<PathBuf>>,
    stop: Stop,
}

/// The history of one source.
#[derive(Debug, Default)]
struct History {
    packs: Option<Packs>,
    /// What the view shows or may still show.
    served: Vec<ServedSource>,
    /// What could not be packed, when, and why.
    failed: Option<(Wanted, Instant, String)>,
}

/// A commit, and the name of the boundary of its history.
type Wanted = (String, String);

#[derive(Debug)]
struct ServedSource {
    wanted: Wanted,
    serial: u64,
    source: Weak<Source>,
}

impl Histories {
    /// Those below a directory, which is made when the first is asked for; without one in a directory for temporary files that goes with this
    /// value. `stop` ends packing early.
    pub fn new(directory: Option<PathBuf>, stop: Stop) -> Self {
        let (place, removal) = (OnceLock::new(), OnceLock::new());
        Self { wanted: directory, place, sources: Mutex::default(), removal, stop }
    }

    /// The `.git` of a source at a commit; packs what of its history is not here yet. `repositories` have the objects; the last is the
    /// source's own.
    pub(super) fn get(&self, asked: &WantedGit<'_>, repositories: &[&Repository]) -> GitDirectory {
        let found = self.history(asked).and_then(|(dir, history)| {
            let mut history = history.lock().unwrap_or_else(PoisonError::into_inner);
            let found = history.get(&dir, self, asked, repositories);
            found.map_err(|error| error.to_string())
        });
        found.map_or_else(|reason| GitDirectory::LeftOut { reason }, GitDirectory::Shown)
    }

    /// As [`Histories::get`], of a commit that was served before: neither packs anything nor waits for who does.
    pub(super) fn get_again(&self, asked: &WantedGit<'_>) -> GitDirectory {
        let found = self.history(asked).and_then(|(dir, history)| {
            let mut history = match history.try_lock() {
                Ok(history) => history,
                Err(TryLockError::Poisoned(history)) => history.into_inner(),
                Err(TryLockError::WouldBlock) => return Err("its history is being packed".into()),
            };
            history.get_again(&dir, self, asked).map_err(|error| error.to_string())
        });
        found.map_or_else(|reason| GitDirectory::LeftOut { reason }, GitDirectory::Shown)
    }

    fn history(&self, asked: &WantedGit<'_>) -> Result<(PathBuf, Arc<Mutex<History>>), String> {
        let place = self.place.get_or_init(|| self.make_place()).clone()?;
        let key = asked.key();
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((place.join(Hex(&key).to_string()), sources.entry(key).or_default().clone()))
    }

    fn make_place(&self) -> Result<PathBuf, String> {
        let place = match &self.wanted {
            Some(wanted) => fs::create_dir_all(wanted).map(|()| wanted.clone()),
            None => mkdtemp(&std::env::temp_dir().join("overlayfs-mount-git-XXXXXX"))
                .map_err(io::Error::from),
        };
        place.map_err(|error| format!("its history cannot be kept anywhere: {error}"))
    }

    /// Where what is not shown any more goes.
    fn removal(&self) -> Sender<PathBuf> {
        let start = || {
            let (sender, removals) = mpsc::channel::<PathBuf>();
            let remove = move || {
                for path in removals {
                    // What stays is removed by the next daemon, or with the directory of the mount.
                    fs::remove_dir_all(path).unwrap_or_default();
                }
            };
            if let Err(error) = thread::Builder::new().name("forget".into()).spawn(remove) {
                warn!(%error, "what a `.git` had stays until the mount ends");
            }
            sender
        };
        self.removal.get_or_init(start).clone()
    }
}

impl Drop for Histories {
    fn drop(&mut self) {
        if let (None, Some(Ok(place))) = (&self.wanted, self.place.get()) {
            fs::remove_dir_all(place).unwrap_or_default();
        }
    }
}

impl WantedGit<'_> {
    /// Names its history.
    fn key(&self) -> [u8; 16] {
        let mut fields = Fields::new("overlayfs-mount history 1");
        fields.bytes(self.name.owner.as_bytes());
        fields.bytes(self.name.repo.as_bytes());
        fields.number(u64::from(self.visibility == Visibility::Public));
        fields.number(u64::from(self.is_sha256));
        let mut key = [0; 16];
        key.copy_from_slice(&fields.finish()[..16]);
        key
    }

    /// What the view reads the `.git` from.
    fn source(&self, store: DirStore) -> Source {
        Source {
            name: self.name.clone(),
            label: self.name.to_string(),
            git_ref: self.git_ref.map(str::to_owned),
            is_live: false,
            place: self.place.to_owned(),
            revision: Revision::Commit(self.commit),
            visibility: self.visibility,
            state: SourceState::Ready,
            subdirs: Vec::new(),
            time_secs: self.time_secs,
            key: self.key(),
            store: Arc::new(store),
            signals: Vec::new(),
            pinning: SharedPinning::new(Pinning::NotAsked),
            git: None,
            git_directory: GitDirectory::NotAsked,
            unread: None,
        }
    }
}

impl History {
    fn get(
        &mut self,
        dir: &Path,
        histories: &Histories,
        asked: &WantedGit<'_>,
        repositories: &[&Repository],
    ) -> Result<Arc<Source>, HistoryError> {
        let boundary = match repositories.last() {
            Some(own) => boundary_of(own.common_dir())?,
            None => Boundary::default(),
        };
        let wanted = (asked.commit.to_string(), boundary.name());
        let packs = self.open(dir, asked.is_sha256)?;
        if packs.record.tip(&wanted.0, &wanted.1).is_none() {
            if let Some((failed, at, reason)) = &self.failed
                && *failed == wanted
                && at.elapsed() < PAUSE
            {
                return Err(HistoryError::Again(reason.clone()));
            }
            let packed = self.pack(dir, histories, &wanted.0, &boundary, repositories);
            if let Err(error) = packed {
                if !histories.stop.is_set() {
                    self.failed = Some((wanted, Instant::now(), error.to_string()));
                }
                return Err(error);
            }
            self.failed = None;
        }
        self.serve(dir, wanted, histories, asked)
    }

    fn get_again(
        &mut self,
        dir: &Path,
        histories: &Histories,
        asked: &WantedGit<'_>,
    ) -> Result<Arc<Source>, HistoryError> {
        let commit = asked.commit.to_string();
        let packs = self.open(dir, asked.is_sha256)?;
        let tip = packs.record.tips.iter().rev().find(|tip| tip.commit == commit);
        let wanted = tip.map(|tip| (commit, tip.boundary.clone()));
        let wanted = wanted.ok_or_else(|| HistoryError::Again("it is not kept any more".into()))?;
        self.serve(dir, wanted, histories, asked)
    }

    fn open(&mut self, dir: &Path, is_sha256: bool) -> Result<&mut Packs, HistoryError> {
        let packs = match self.packs.take() {
            Some(packs) => packs,
            None => Packs::open(dir.to_owned(), is_sha256)?,
        };
        Ok(self.packs.insert(packs))
    }

    fn pack(
        &mut self,
        dir: &Path,
        histories: &Histories,
        commit: &str,
        boundary: &Boundary,
        repositories: &[&Repository],
    ) -> Result<(), HistoryError> {
        let special = repositories.iter().find_map(|repository| repository.special_object());
        if let Some(path) = special {
            return Err(HistoryError::Special(path));
        }
        let lenders: Vec<_> =
            repositories.iter().map(|repository| repository.objects_dir().to_owned()).collect();
        let child = ChildRun { timeout: TIMEOUT, stop: &histories.stop, hear: &|_| {} };
        let means = Packing { program: Path::new("git"), lenders: &lenders, child };
        let started = Instant::now();
        let is_sha256 = commit.len() == 64;
        let packs = self.open(dir, is_sha256)?;
        let mut added = packs.add(commit, boundary, &means);
        if matches!(added, Err(HistoryError::Packing(PackCause::Failed(_)))) {
            // Another program may have packed the repository meanwhile.
            added = packs.add(commit, boundary, &means);
        }
        added?;
        packs.tidy(&means);
        debug!(commit, took = ?started.elapsed(), packs = packs.record.packs.len(), "packed");
        Ok(())
    }

    /// The `.git` of a commit all of whose objects are here: the one that is shown already, unless objects came since.
    fn serve(
        &mut self,
        dir: &Path,
        wanted: Wanted,
        histories: &Histories,
        asked: &WantedGit<'_>,
    ) -> Result<Arc<Source>, HistoryError> {
        self.served.retain(|served| served.source.strong_count() > 0);
        let packs = self.open(dir, asked.is_sha256)?;
        let serial = packs.serial;
        let tip = packs.record.tip(&wanted.0, &wanted.1).cloned();
        let same = |served: &ServedSource| {
            let is_same = served.wanted == wanted && served.serial == serial;
            is_same.then(|| served.source.upgrade()).flatten()
        };
        if let Some(same) = self.served.iter().find_map(same) {
            return Ok(same);
        }
        let tip = tip.ok_or_else(|| HistoryError::Again("it is not kept any more".into()))?;
        let place = self.open(dir, asked.is_sha256)?.serve(&tip)?;
        let store = DirStore::open_until_dropped(&place, histories.removal());
        let source = store.map(|store| Arc::new(asked.source(store))).map_err(|error| {
            HistoryError::Again(format!("`{}` cannot be read: {error}", place.display()))
        })?;
        self.served.push(ServedSource { wanted, serial, source: Arc::downgrade(&source) });
        Ok(source)
    }
}

fn boundary_of(common_dir: &Path) -> Result<Boundary, HistoryError> {
    Boundary::of(common_dir).map_err(|error| HistoryError::Io {
        step: "reading",
        path: common_dir.join("shallow"),
        error,
    })
}
