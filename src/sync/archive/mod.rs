//! Sets that were left, written down so that they need no memory and survive a restart of the daemon.
//!
//! `<root of the mount>/sets/<id>.json` for each (see `pin_root`); what a record says is made again when somebody asks for it. A record's
//! time is when its set was left, or came. The repositories of each set are held here, so that their pins stay.

mod bytes;
mod part;
mod problem;
mod recall;
mod record;
mod surface;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tracing::{info, warn};

use self::problem::Problem;
use self::recall::Recalled;
use self::record::{ContentRecord, LfsRecord, SetRecord, SourceRecord};
use super::pin::Pins;
use super::pin_root::{SETS, name_of};
use super::shared::Shared;
use crate::config::resolved::{Access, Config, SourceSpec};
use crate::snapshot::Snapshot;
use crate::store::git::Repository;
use crate::store::is_momentary;
use crate::store::patience::{self, patiently, patiently_until};
use crate::union::object::Oid;
use crate::union::revision::RevisionSetId;
use crate::union::source::{SourceId, Visibility};
use crate::view;

/// So long it is worth while to wait for what cannot be read at the moment.
pub const PATIENCE: Duration = patience::PATIENCE;
/// How long after a try the next one is made.
const PAUSE: Duration = Duration::from_millis(50);

/// The sets that a mount keeps.
pub struct Archive {
    dir: PathBuf,
    /// What records do not say.
    like: Config,
    shared: Arc<Shared>,
    sets: Mutex<HashMap<RevisionSetId, SetRepositories>>,
}

/// Since when the root of a set has been there, and its time.
type SetRoot = (u64, i64);

/// The repository of each source of a set, where it has one. Most sets share them.
type SetRepositories = Arc<[Option<Arc<Repository>>]>;

impl Archive {
    /// The archive of a mount, empty; nothing if there can be no directory for it, also after a while. Where several views share their pins, each has one of its
    /// own, by its mount point.
    pub fn open(
        pins: &Pins,
        of_view: Option<&Path>,
        config: &Config,
        shared: Arc<Shared>,
    ) -> Option<Self> {
        let sets = pins.directory()?.join(SETS);
        let dir = of_view.map_or(sets.clone(), |at| sets.join(name_of(at)));
        if let Err(error) = patiently(|| make(&dir)) {
            warn!(dir = %dir.display(), %error, "sets that were left will be forgotten with this mount");
            return None;
        }
        Some(Self { dir, like: config.clone(), shared, sets: Mutex::default() })
    }

    /// Whether an earlier daemon of this mount has left sets beside one.
    pub fn has_others(&self, than: &RevisionSetId) -> bool {
        self.records().iter().any(|(id, _, _)| id != than)
    }

    /// Takes over what an earlier daemon of this mount kept, as far as it is to be kept still and can be read: each with the time when
    /// it was left, oldest first. `left` is what was pinned then ([`Pins::left`]). What keeps one from being read and may pass is waited for;
    /// if it does not, the set is left for the next daemon.
    pub fn load(
        &self,
        pins: &Pins,
        left: &[Arc<Repository>],
        config: &Config,
        sets_min: usize,
    ) -> Vec<view::Kept> {
        let mut found = self.records();
        found.sort_by_key(|(_, time, _)| *time);
        // The newest was shown until now.
        let newest = found.len().saturating_sub(1);
        let until = Instant::now() + PATIENCE;
        let mut kept = Vec::new();
        for (position, (id, time, path)) in found.into_iter().enumerate() {
            let age = if position == newest {
                Duration::ZERO
            } else {
                time.elapsed().unwrap_or_default()
            };
            let is_spare = age >= config.mount.keep && newest - position >= sets_min;
            let take = || self.take(&path, pins, left, config);
            let taken = if is_spare {
                Ok(None)
            } else {
                patiently_until(until, |problem: &Problem| problem.is_momentary, take)
            };
            match taken {
                Ok(Some((repositories, (born, time_secs)))) => {
                    self.sets().insert(id, repositories);
                    let left_at = Instant::now().checked_sub(age).unwrap_or_else(Instant::now);
                    kept.push(view::Kept::from_archive(id, left_at, born, time_secs));
                    continue;
                }
                Ok(None) => {}
                Err(problem) if problem.is_momentary => {
                    warn!(revision = %id, %problem, "a set that was kept is not shown: it cannot be read at the moment");
                    continue;
                }
                Err(problem) => info!(revision = %id, %problem, "a set that was kept is gone"),
            }
            remove(&path);
        }
        kept
    }

    /// The repositories of a record, and what is known of its root; nothing if this view may not show it.
    fn take(
        &self,
        path: &Path,
        pins: &Pins,
        left: &[Arc<Repository>],
        config: &Config,
    ) -> Result<Option<(SetRepositories, SetRoot)>, Problem> {
        let record = read(path)?;
        if is_forbidden(&record, config) {
            return Ok(None);
        }
        let repositories = record.sources.iter().map(|source| self.repository(source, pins, left));
        let repositories = repositories.collect::<Result<Vec<_>, _>>()?;
        Ok(Some((repositories.into(), record.root())))
    }

    /// The repository of a source: what was pinned of it, else the one at its place.
    fn repository(
        &self,
        source: &SourceRecord,
        pins: &Pins,
        left: &[Arc<Repository>],
    ) -> Result<Option<Arc<Repository>>, Problem> {
        let ContentRecord::Git { commit, repository: key, lfs } = &source.content else {
            return Ok(None);
        };
        let commit = Oid::from_bytes(&commit.0);
        let commit = commit.ok_or_else(|| Problem::lasting("its record is damaged"))?;
        let mut pinned = left.iter().filter(|pinned| pinned.key()[..] == key.0);
        let is_whole = |pinned: &&Arc<Repository>| {
            let is_noted = pinned.pin().is_some_and(|directory| directory.is_noted(&commit));
            is_noted && pinned.expect_here(&commit).is_ok()
        };
        if let Some(pinned) = pinned.find(is_whole) {
            return Ok(Some(pinned.clone()));
        }
        let problem = |error: &dyn fmt::Display, is_momentary| {
            let said = format!("source `{}`: {error}", source.label);
            Problem { said, is_momentary }
        };
        let there = self.shared.repositories.open(&source.place.os_path());
        let there = there.map_err(|error| problem(&error, error.is_momentary))?;
        let found = there.commit(&commit);
        found.map_err(|error| problem(&error, error.is_momentary()))?;
        let lfs = lfs.as_ref().and_then(LfsRecord::objects);
        Ok(Some(pins.pin(&there, &commit, lfs.as_ref(), None).0))
    }

    /// Writes a set down before it is shown. Where that fails the set stays in memory, and goes with the daemon.
    pub fn keep(&self, snapshot: &Snapshot, config: &Config) {
        let record = SetRecord::of(snapshot, config);
        if let Err(error) = write(&self.dir, &snapshot.id, &record) {
            warn!(dir = %self.dir.display(), %error, "this set is kept in memory only");
            return;
        }
        self.hold(snapshot);
    }

    /// Keeps the repositories open that a set is read from now.
    fn hold(&self, snapshot: &Snapshot) {
        let repositories = snapshot.sources.iter();
        let repositories: Vec<_> =
            repositories.map(|source| source.git.as_ref().map(|git| git.repository())).collect();
        let mut sets = self.sets();
        let is_same = |known: &&SetRepositories| {
            known.len() == repositories.len()
                && known.iter().zip(&repositories).all(is_same_repository)
        };
        let shared = sets.values().find(is_same).cloned();
        sets.insert(snapshot.id, shared.unwrap_or_else(|| repositories.into()));
    }

    /// Notes that a set is left now. It may have been copied meanwhile.
    pub fn leave(&self, snapshot: &Snapshot) {
        if self.sets().contains_key(&snapshot.id) {
            self.hold(snapshot);
        }
        let file = File::options().write(true).open(path_of(&self.dir, &snapshot.id));
        // Its age counts from when it came, then.
        file.and_then(|file| file.set_modified(SystemTime::now())).unwrap_or_default();
    }

    /// Forgets all sets but these.
    pub fn retain(&self, ids: &[RevisionSetId]) {
        let ids: HashSet<_> = ids.iter().collect();
        let gone: Vec<_> = self.sets().keys().filter(|id| !ids.contains(id)).copied().collect();
        for id in gone {
            remove(&path_of(&self.dir, &id));
            drop(self.sets().remove(&id));
        }
    }

    /// Forgets all sets of a view that is gone for good.
    pub fn forget(&self) {
        self.retain(&[]);
        // Something stays if there is another view at the mount point already.
        fs::remove_dir(&self.dir).unwrap_or_default();
    }

    /// The sets that a view of this configuration may not show.
    pub fn forbidden(&self, config: &Config) -> HashSet<RevisionSetId> {
        let ids: Vec<_> = self.sets().keys().copied().collect();
        let is_forbidden = |id: &RevisionSetId| {
            read(&path_of(&self.dir, id)).map_or(true, |record| is_forbidden(&record, config))
        };
        ids.into_iter().filter(is_forbidden).collect()
    }

    /// All that there are. What keeps them from being seen and may pass is waited for; if it does not, they stay for the next daemon.
    fn records(&self) -> Vec<(RevisionSetId, SystemTime, PathBuf)> {
        let until = Instant::now() + PATIENCE;
        let list = || fs::read_dir(&self.dir)?.collect::<io::Result<Vec<_>>>();
        let unseen = |path: &Path, error: &io::Error| {
            warn!(path = %path.display(), %error, "sets that were kept are not shown");
        };
        let entries = patiently_until(until, is_momentary, list);
        let entries = entries.inspect_err(|error| unseen(&self.dir, error)).unwrap_or_default();
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.path();
            let stem = path.file_stem();
            let id = stem.and_then(|stem| RevisionSetId::parse(stem.as_encoded_bytes()));
            let Some(id) = id.filter(|id| path == path_of(&self.dir, id)) else {
                // What was being written when a daemon was killed.
                remove(&path);
                continue;
            };
            match patiently_until(until, is_momentary, || entry.metadata()?.modified()) {
                Ok(time) => found.push((id, time, path)),
                Err(error) => unseen(&path, &error),
            }
        }
        found
    }

    fn sets(&self) -> MutexGuard<'_, HashMap<RevisionSetId, SetRepositories>> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Archive {
    /// Makes a set again, and tries so for a while where something cannot be read that could be read: who lacks memory or descriptors for a
    /// moment is not to take a part for the whole. What is damaged since then is left out in the end.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub fn recall_whole(&self, id: &RevisionSetId, patience: Duration) -> Result<Snapshot, String> {
        let until = Instant::now() + patience;
        loop {
            let again = self.made_again(id);
            let is_whole = again.as_ref().is_ok_and(|(_, is_whole)| *is_whole);
            if is_whole || Instant::now() >= until {
                return again.map(|(again, is_whole)| {
                    if !is_whole {
                        warn!(set = %id, "what could be read of it cannot be read any more, and is left out");
                    }
                    again.made
                });
            }
            thread::sleep(PAUSE);
        }
    }

    /// A set, and whether it has all that it had.
    fn made_again(&self, id: &RevisionSetId) -> Result<(Recalled, bool), String> {
        let repositories = self.sets().get(id).cloned().ok_or("it is not kept any more")?;
        let record = read(&path_of(&self.dir, id)).map_err(|problem| problem.said)?;
        let again = recall::recall(id, &record, &self.like, &repositories, &self.shared)?;
        let mut sources = record.sources.iter().zip((0..).map(SourceId));
        let is_whole = !sources.any(|(source, id)| source.lacks(&again.made, id));
        Ok((again, is_whole))
    }
}

impl view::Archive for Archive {
    fn has(&self, id: &RevisionSetId) -> bool {
        self.sets().contains_key(id)
    }

    fn recall(&self, id: &RevisionSetId) -> Result<Snapshot, String> {
        let (Recalled { made, failure }, _) = self.made_again(id)?;
        // The kernel would keep for good that a name is not there.
        failure.map_or(Ok(made), Err)
    }
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive").field("dir", &self.dir).finish_non_exhaustive()
    }
}

fn is_same_repository(pair: (&Option<Arc<Repository>>, &Option<Arc<Repository>>)) -> bool {
    match pair {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Makes a directory, unless it is there.
fn make(dir: &Path) -> io::Result<()> {
    // Not by trying: that it is there already would hide why it cannot be looked at.
    match fs::metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir_all(dir),
        found => found.map(drop),
    }
}

/// True if a set shows what the configuration does not let a view show.
fn is_forbidden(record: &SetRecord, config: &Config) -> bool {
    match config.access {
        Access::All => false,
        Access::None => !record.sources.is_empty(),
        Access::Public => record.sources.iter().any(|source| {
            let name = source.name();
            let is_private = |spec: &SourceSpec| {
                spec.visibility == Visibility::Private && Some(&spec.name) == name.as_ref()
            };
            !source.is_public || config.sources.iter().any(is_private)
        }),
    }
}

fn path_of(dir: &Path, id: &RevisionSetId) -> PathBuf {
    dir.join(format!("{id}.json"))
}

fn read(path: &Path) -> Result<SetRecord, Problem> {
    let bytes = fs::read(path).map_err(|error| Problem {
        said: format!("its record cannot be read: {error}"),
        is_momentary: is_momentary(&error),
    })?;
    let record = serde_json::from_slice::<SetRecord>(&bytes);
    let record =
        record.map_err(|error| Problem::lasting(format!("its record is damaged: {error}")))?;
    if record.has_known_form() {
        return Ok(record);
    }
    Err(Problem::lasting("its record is of another version of this program"))
}

fn write(dir: &Path, id: &RevisionSetId, record: &SetRecord) -> io::Result<()> {
    let (path, beside) = (path_of(dir, id), dir.join(format!("{id}.new")));
    let written = File::create(&beside).and_then(|file| {
        let mut file = io::BufWriter::new(file);
        serde_json::to_writer(&mut file, record)?;
        file.flush()
    });
    let written = written.and_then(|()| fs::rename(&beside, &path));
    if written.is_err() {
        remove(&beside);
    }
    written
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            warn!(path = %path.display(), %error, "cannot be removed");
        }
        Ok(()) | Err(_) => {}
    }
}

#[cfg(test)]
mod tests;
