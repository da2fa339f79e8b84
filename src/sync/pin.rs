//! What a mount serves, kept readable whatever other programs do to its repositories.
//!
//! Below the root of the mount (`pin_root`) each repository has directories `<key>-<n>` into which its objects are linked ([`PinDirectory`]).
//! Lock order: that of one repository, then what was said. The first is held while its files are linked, so that two sources of one
//! repository share a directory; no request waits for it.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Instant, SystemTime};

use tracing::{debug, info, warn};

use super::fetch::Stop;
use super::pin_root::PinRoot;
use super::resolve::keeps;
use crate::config::resolved::StateSettings;
use crate::snapshot::{Pinning, Source};
use crate::store::git::lfs::LfsObjects;
use crate::store::git::pin::{Filled, Lenders, PinDirectory, PinError};
use crate::store::git::{GitStore, Repository};
use crate::store::patience::{PATIENCE, patiently};
use crate::union::object::Oid;

/// So many failures are remembered as said. They are said once more when there were more.
const SAID_MAX: usize = 256;

/// The pins of one mount.
#[derive(Debug)]
pub struct Pins {
    /// Where they are, or why there can be none.
    root: Result<PinRoot, String>,
    /// The largest object that is read of what an earlier daemon left.
    object_bytes: u64,
    repositories: Mutex<HashMap<[u8; 16], OfRepository>>,
    /// As `repositories`, where the objects are copies.
    copies: Mutex<HashMap<[u8; 16], OfRepository>>,
    /// Which failures are in the log already.
    said: Mutex<HashSet<(PathBuf, String)>>,
}

/// The pins of one repository, the newest last.
type OfRepository = Arc<Mutex<Vec<UsedPin>>>;

/// A repository that is read from a pin, while a store uses it.
#[derive(Debug)]
struct UsedPin {
    pinned: Weak<Repository>,
    /// The commits of which it holds all, with how its lenders looked when that was found last.
    whole: HashMap<Oid, Vec<Option<SystemTime>>>,
    /// The commits that were copied into it, with a digest of the LFS objects that there were then.
    copied: HashSet<(Oid, Option<[u8; 32]>)>,
}

impl UsedPin {
    /// One in which nothing was looked for yet.
    fn of(pinned: &Arc<Repository>) -> Self {
        let (whole, copied) = Default::default();
        Self { pinned: Arc::downgrade(pinned), whole, copied }
    }

    /// Knows from now on, and says to the next daemon, that all of a commit is in it.
    fn note(&mut self, commit: &Oid, stamps: Vec<Option<SystemTime>>) {
        let is_new = self.whole.insert(*commit, stamps).is_none();
        if is_new && let Some(pinned) = self.pinned.upgrade() {
            note(&pinned, commit);
        }
    }
}

/// What says whether a ref leads to a commit at this moment. Without it nothing is known of that: the commit was named by its id.
///
/// While a ref leads to a commit `git gc` removes nothing of it, so that what was linked by then is all of it.
pub type IsNamed<'a> = Option<&'a dyn Fn() -> bool>;

/// What says whether a ref leads to a commit, where it is a ref and no id.
pub(super) fn unless_id<'a>(
    repository: &Repository,
    git_ref: Option<&str>,
    is_named: &'a dyn Fn() -> bool,
) -> IsNamed<'a> {
    let is_id = git_ref.is_some_and(|git_ref| repository.is_full_id(git_ref));
    (!is_id).then_some(is_named)
}

impl Pins {
    /// Takes the root of a mount, and what an earlier daemon left there: [`Pins::left`] gives it once. Without a mount it is a root that goes
    /// with this daemon. Where there can be no root, nothing is pinned; what keeps one from being had and may pass is waited for.
    pub fn open(state: &StateSettings, mountpoint: Option<&Path>) -> Self {
        let opened = patiently(|| PinRoot::open(&state.dir, mountpoint));
        let root = opened.map_err(|error| {
            format!("nothing can be kept in the state directory `{}`: {error}", state.dir.display())
        });
        let (repositories, copies, said) = Default::default();
        Self { root, object_bytes: state.object_bytes, repositories, copies, said }
    }

    /// Where a mount keeps what is to outlive its daemon; nothing where there is no such place.
    pub fn directory(&self) -> Option<&Path> {
        self.root.as_ref().ok().map(PinRoot::path)
    }

    /// The pins that an earlier daemon left. Those that nobody takes are removed when the last of them is dropped; those that cannot be opened
    /// at the moment, and in the next ones either, stay.
    pub fn left(&self) -> Vec<Arc<Repository>> {
        let Ok(root) = &self.root else { return Vec::new() };
        let mut left = Vec::new();
        let until = Instant::now() + PATIENCE;
        for (key, directory) in root.left() {
            let patience = until.saturating_duration_since(Instant::now());
            let opened = Repository::open_left(directory, key, self.object_bytes, patience);
            let pinned = match opened {
                Ok(pinned) => pinned,
                Err(error) => {
                    warn!(%error, "what was pinned before cannot be used");
                    continue;
                }
            };
            let pinned = Arc::new(pinned);
            let of_repository = held(&self.repositories).entry(key).or_default().clone();
            held(&of_repository).insert(0, UsedPin::of(&pinned));
            left.push(pinned);
        }
        left
    }

    /// Lets all that is pinned now outlive this value, for the next daemon of the mount.
    pub fn keep(&self) {
        if let Ok(root) = &self.root {
            root.keep();
        }
    }

    /// The repository to read a commit from: one of hard links of our own where that can be had, else the repository itself.
    pub fn pin(
        &self,
        repository: &Arc<Repository>,
        commit: &Oid,
        lfs: Option<&LfsObjects>,
        is_named: IsNamed<'_>,
    ) -> (Arc<Repository>, Pinning) {
        let pinned = self.root.as_ref().map_err(Clone::clone).and_then(|root| {
            let pinned = self.try_pin(root, repository, commit, is_named).and_then(|pinned| {
                lfs.zip(pinned.pin()).map_or(Ok(()), |(lfs, pin)| pin.link_lfs(lfs))?;
                Ok(pinned)
            });
            pinned.map_err(|error| error.to_string())
        });
        self.or_unpinned(repository, pinned)
    }

    /// As [`Pins::pin`], for a source that is served from its repository so far.
    pub fn pin_source(&self, source: &Source, git: &GitStore) -> (Arc<Repository>, Pinning) {
        let (lender, commit, git_ref) = (git.lender(), git.commit(), source.git_ref.as_deref());
        // It may have moved since the source was resolved.
        let is_named = || keeps(&lender, &source.place, git_ref, &commit);
        self.pin(&lender, &commit, git.lfs(), unless_id(&lender, git_ref, &is_named))
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
        root: &PinRoot,
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
            known.push(UsedPin::of(&pinned));
        }
        if let Some(known) = known.last_mut() {
            known.copied.insert((*commit, lfs.map(LfsObjects::digest)));
        }
        note(&pinned, commit);
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
                if self.is_new(git_dir, &reason) {
                    info!(repository = %git_dir.display(), reason, "not pinned: what another program prunes there becomes unreadable");
                }
                (repository.clone(), Pinning::Unpinned { reason })
            }
        }
    }

    /// Whether a failure is not in the log yet. It is now.
    fn is_new(&self, git_dir: &Path, reason: &str) -> bool {
        let mut said = held(&self.said);
        let said_now = (git_dir.to_owned(), reason.to_owned());
        // A reason may name what is another thing each time.
        if said.len() >= SAID_MAX && !said.contains(&said_now) {
            said.clear();
        }
        said.insert(said_now)
    }

    fn try_pin(
        &self,
        root: &PinRoot,
        repository: &Arc<Repository>,
        commit: &Oid,
        is_named: IsNamed<'_>,
    ) -> Result<Arc<Repository>, PinError> {
        let lenders = Lenders::of(repository)?;
        lenders.expect_on(root.device())?;
        let stamps = lenders.stamps();
        let of_repository = held(&self.repositories).entry(repository.key()).or_default().clone();
        let mut known = held(&of_repository);
        known.retain(|known| known.pinned.strong_count() > 0);
        let pinned =
            || known.iter().rev().filter_map(|known| Some((known, known.pinned.upgrade()?)));
        let whole = || pinned().find(|(known, _)| known.whole.contains_key(commit));
        let unchanged = pinned().find(|(known, _)| known.whole.get(commit) == Some(&stamps));
        // Another one might have less of a commit that no ref leads to.
        let kept = unchanged.or_else(|| if is_named.is_none() { whole() } else { None });
        if let Some((_, pinned)) = kept {
            pinned.set_lender(repository.clone());
            return Ok(pinned);
        }
        let older = whole().map(|(_, pinned)| pinned);
        let pinned = fill_last(&known, &lenders, commit)?;
        let is_anew = pinned.is_none();
        let pinned = match pinned {
            Some(pinned) => pinned,
            // A second time, for what was changed while it was linked.
            None => match pin_anew(root, &lenders, repository, commit) {
                Err(PinError::Incomplete(_)) => pin_anew(root, &lenders, repository, commit),
                pinned => pinned,
            }?,
        };
        let is_whole = is_named.is_none_or(|is_named| is_named());
        if !is_whole && let Some(older) = older {
            return Ok(older);
        }
        if is_anew {
            known.push(UsedPin::of(&pinned));
        }
        if is_whole && let Some(known) = known.last_mut() {
            known.note(commit, stamps);
        }
        pinned.set_lender(repository.clone());
        Ok(pinned)
    }
}

/// The newest pin of a repository, with all that the repository holds now; nothing if there is none, if it holds what the repository has
/// lost, or if the commit is not in it.
fn fill_last(
    known: &[UsedPin],
    lenders: &Lenders,
    commit: &Oid,
) -> Result<Option<Arc<Repository>>, PinError> {
    let Some(pinned) = known.last().and_then(|known| known.pinned.upgrade()) else {
        return Ok(None);
    };
    let Some(directory) = pinned.pin() else { return Ok(None) };
    let is_filled = directory.fill(lenders)? == Filled::Whole && pinned.expect_here(commit).is_ok();
    Ok(is_filled.then_some(pinned))
}

/// Says to the next daemon that all of a commit is in a pin.
fn note(pinned: &Repository, commit: &Oid) {
    if let Some(Err(error)) = pinned.pin().map(|directory| directory.note(commit)) {
        debug!(%commit, %error, "the next daemon of this mount will have to pin a commit again");
    }
}

fn pin_anew(
    root: &PinRoot,
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
fn open_empty(root: &PinRoot, repository: &Arc<Repository>) -> Result<Repository, PinError> {
    create(root, repository).and_then(|directory| open(repository, directory))
}

fn create(root: &PinRoot, repository: &Repository) -> Result<PinDirectory, PinError> {
    let (name, id_len) = (root.next(&repository.key()), repository.id_len());
    PinDirectory::create(root.path(), &name, id_len, root.removal())
}

fn open(repository: &Arc<Repository>, directory: PinDirectory) -> Result<Repository, PinError> {
    Repository::open_pinned(repository.clone(), directory)
        .map_err(|error| PinError::Incomplete(error.to_string()))
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_that_differ_each_time_take_no_more_and_more_memory() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateSettings { dir: dir.path().into(), cache_bytes: 0, object_bytes: 0 };
        let pins = Pins::open(&state, None);
        for number in 0..10 * SAID_MAX {
            assert!(pins.is_new(dir.path(), &format!("file {number} cannot be linked")));
            assert!(!pins.is_new(dir.path(), &format!("file {number} cannot be linked")));
        }
        assert!(held(&pins.said).len() <= SAID_MAX);
    }
}
