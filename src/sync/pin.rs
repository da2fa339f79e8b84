//! What a mount serves, kept readable whatever other programs do to its repositories.
//!
//! Below the root of the mount (`pin_root`) each repository has directories `<key>-<n>` into which its objects are linked ([`PinDirectory`]).
//! Lock order: that of one repository, then what was said. The first is held while its files are linked, so that two sources of one
//! repository share a directory; no request waits for it.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use tracing::info;

use super::pin_root::Root;
use crate::snapshot::Pinning;
use crate::store::git::Repository;
use crate::store::git::pin::{Filled, Lenders, PinDirectory, PinError};
use crate::union::object::Oid;

/// The pins of one mount.
#[derive(Debug)]
pub struct Pins {
    /// Where they are, or why there can be none.
    root: Result<Root, String>,
    repositories: Mutex<HashMap<[u8; 16], OfRepository>>,
    /// Which failures are in the log already.
    said: Mutex<HashSet<(PathBuf, String)>>,
}

/// The pins of one repository, the newest last.
type OfRepository = Arc<Mutex<Vec<Known>>>;

/// A repository that is read from a pin, while a store uses it.
#[derive(Debug)]
struct Known {
    pinned: Weak<Repository>,
    /// The commits that were found in it since its lenders have looked as they do.
    found: HashSet<Oid>,
    stamps: Vec<Option<SystemTime>>,
}

impl Pins {
    /// Takes the root of a mount, and what an earlier daemon left there: [`Pins::left`] gives it once. Without a mount it is a root that goes
    /// with this daemon. Where there can be no root,
    /// nothing is pinned.
    pub fn open(state_dir: &Path, mountpoint: Option<&Path>) -> Self {
        let root = Root::open(state_dir, mountpoint).map_err(|error| {
            format!("nothing can be kept in the state directory `{}`: {error}", state_dir.display())
        });
        Self { root, repositories: Mutex::default(), said: Mutex::default() }
    }

    /// Where a mount keeps what is to outlive its daemon; nothing where there is no such place.
    pub fn directory(&self) -> Option<&Path> {
        self.root.as_ref().ok().map(Root::path)
    }

    /// The pins that an earlier daemon left. Those that nobody takes are removed when the last of them is dropped.
    pub fn left(&self) -> Vec<Arc<Repository>> {
        let Ok(root) = &self.root else { return Vec::new() };
        let mut left = Vec::new();
        for (key, directory) in root.left() {
            let Ok(pinned) = Repository::open_left(directory, key) else { continue };
            let pinned = Arc::new(pinned);
            let of_repository = held(&self.repositories).entry(key).or_default().clone();
            let pinned_by = Arc::downgrade(&pinned);
            let known = Known { pinned: pinned_by, found: HashSet::new(), stamps: Vec::new() };
            held(&of_repository).insert(0, known);
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
    pub fn pin(&self, repository: &Arc<Repository>, commit: &Oid) -> (Arc<Repository>, Pinning) {
        let pinned = match &self.root {
            Ok(root) => self.try_pin(root, repository, commit).map_err(|error| error.to_string()),
            Err(reason) => Err(reason.clone()),
        };
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
        lenders.expect_on(root.device())?;
        let stamps = lenders.stamps();
        let of_repository = held(&self.repositories).entry(repository.key()).or_default().clone();
        let mut known = held(&of_repository);
        known.retain(|known| known.pinned.strong_count() > 0);
        for known in known.iter().rev() {
            if known.stamps == stamps
                && known.found.contains(commit)
                && let Some(pinned) = known.pinned.upgrade()
            {
                pinned.set_lender(repository.clone());
                return Ok(pinned);
            }
        }
        if let Some(known) = known.last_mut()
            && let Some(pinned) = known.pinned.upgrade()
            && let Some(directory) = pinned.pin()
            && directory.fill(&lenders)? == Filled::Whole
            && pinned.expect_here(commit).is_ok()
        {
            pinned.set_lender(repository.clone());
            if known.stamps != stamps {
                known.found.clear();
                known.stamps = stamps;
            }
            known.found.insert(*commit);
            return Ok(pinned);
        }
        // A second time, for what was changed while it was linked.
        let pinned = match pin_anew(root, &lenders, repository, commit) {
            Err(PinError::Incomplete(_)) => pin_anew(root, &lenders, repository, commit),
            pinned => pinned,
        }?;
        let found = HashSet::from([*commit]);
        known.push(Known { pinned: Arc::downgrade(&pinned), found, stamps });
        Ok(pinned)
    }
}

fn pin_anew(
    root: &Root,
    lenders: &Lenders,
    repository: &Arc<Repository>,
    commit: &Oid,
) -> Result<Arc<Repository>, PinError> {
    let incomplete = |error: &dyn std::fmt::Display| PinError::Incomplete(error.to_string());
    let (name, id_len) = (root.next(&repository.key()), repository.id_len());
    let directory = PinDirectory::create(root.path(), &name, id_len, root.removal())?;
    directory.fill(lenders)?;
    let pinned = Repository::open_pinned(repository.clone(), directory);
    let pinned = pinned.map_err(|error| incomplete(&error))?;
    pinned.expect_here(commit).map_err(|error| incomplete(&error))?;
    Ok(Arc::new(pinned))
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
