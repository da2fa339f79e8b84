//! A revision set made readable: immutable, shared.
//!
//! And what a snapshot says about itself: the files of `.overlay` ([`report`]), how it is ([`status`]), why a path shows what it shows
//! ([`explanation`]), how two differ ([`difference`]), what hides what since the one before ([`collisions`]).

pub mod collisions;
pub mod difference;
pub mod explanation;
mod git_directory;
pub mod report;
pub mod status;
pub mod told;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

pub use git_directory::GitDirectory;

use self::status::SourceNote;
use crate::store::Store;
use crate::store::git::GitStore;
use crate::union::name::{Name, RelPath};
use crate::union::namespace::{Namespace, Shown, Stack};
use crate::union::revision::{Revision, RevisionSetId};
use crate::union::source::{SourceId, SourceName, Visibility};
use crate::union::surface::{Surface, SurfaceId};

/// One revision set, readable: what every look-up of the view is answered from.
#[derive(Debug)]
pub struct Snapshot {
    /// The digest of all that decides a name or a byte.
    pub id: RevisionSetId,
    /// When it was built.
    pub since: SystemTime,
    /// Its place in the order of snapshots of one view, from 0.
    pub serial: u64,
    /// The sources that the view shows, bottom first. A [`SourceId`] is a position here.
    pub sources: Vec<Arc<Source>>,
    /// The surfaces. A [`SurfaceId`] is a position here.
    pub surfaces: Vec<Surface>,
    /// For each surface all its entries, visible or hidden.
    pub stacks: Vec<Stack>,
    /// The merged tree.
    pub namespace: Namespace,
    /// What an operator should know and what stopped nothing.
    pub findings: Vec<Finding>,
    /// What was seen of each source since the snapshot was built, by position; may be shorter than `sources`.
    pub notes: Vec<SourceNote>,
    /// The files of `.overlay`, written when they are first asked for.
    pub texts: OnceLock<Vec<(Name, Arc<[u8]>)>>,
}

/// Nothing at all, for where nothing is shown.
impl Default for Snapshot {
    fn default() -> Self {
        Self {
            id: RevisionSetId([0; 32]),
            since: SystemTime::UNIX_EPOCH,
            serial: 0,
            sources: Vec::new(),
            surfaces: Vec::new(),
            stacks: Vec::new(),
            namespace: Namespace::default(),
            findings: Vec::new(),
            notes: Vec::new(),
            texts: OnceLock::new(),
        }
    }
}

impl Snapshot {
    /// The source at a position of this snapshot.
    ///
    /// # Panics
    /// The position is of another snapshot, which had more sources.
    pub fn source(&self, id: SourceId) -> &Arc<Source> {
        &self.sources[id.index()]
    }

    /// The `.git` of an entry that is a whole source. Two such entries with one object may differ in it.
    pub fn git_directory(&self, shown: &Shown) -> &GitDirectory {
        match shown.surface {
            None => &self.source(shown.source).git_directory,
            Some(_) => &GitDirectory::NotAsked,
        }
    }

    /// The surface at a position of this snapshot.
    ///
    /// # Panics
    /// The position is of another table, which had more surfaces.
    pub fn surface(&self, id: SurfaceId) -> &Surface {
        &self.surfaces[id.index()]
    }

    /// The files of `.overlay`, sorted by name.
    pub fn texts(&self) -> &[(Name, Arc<[u8]>)] {
        self.texts.get_or_init(|| report::write(self))
    }
}

/// A source at its revision.
#[derive(Debug)]
pub struct Source {
    /// Its name of two components.
    pub name: SourceName,
    /// What commands call it: the name alone, or `name@ref` or `name#2` where the name occurs twice.
    pub label: String,
    /// The ref as configured; `None` for HEAD and for a live directory.
    pub git_ref: Option<String>,
    /// Whether it is served from a directory as it is on disk; else from a commit.
    pub is_live: bool,
    /// Where it is on this machine.
    pub place: PathBuf,
    /// What it resolved to.
    pub revision: Revision,
    /// Who may see it.
    pub visibility: Visibility,
    /// Whether it can be read.
    pub state: SourceState,
    /// The sub-directory of each surface; `None` means off.
    pub subdirs: Vec<Option<RelPath>>,
    /// The commit time of its revision, in seconds since 1970; 0 for a live directory.
    pub time_secs: i64,
    /// Tells the source from all others that this view may ever show: a digest of its name, place, ref and mode.
    pub key: [u8; 16],
    /// Where its bytes are; an empty store if it is missing or broken.
    pub store: Arc<dyn Store>,
    /// The files whose change says that the source may have moved.
    pub signals: Vec<PathBuf>,
    /// Whether what it serves stays readable whatever happens to its repository.
    pub pinning: SharedPinning,
    /// Its git store, where it has one.
    pub git: Option<Arc<GitStore>>,
    /// The `.git` that it has where it is shown whole.
    pub git_directory: GitDirectory,
    /// What it is shown with where a part of its entry lists cannot be read, although its revision has them.
    pub unread: Option<Unread>,
}

/// A source of which a part cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unread {
    /// A digest of the entries that are shown.
    pub entries: [u8; 32],
    /// Whether the operating system failed, so that more may be readable in a moment.
    pub may_pass: bool,
}

impl Source {
    /// True for the same source at the same revision, read from the same store. Pinning is not compared: it belongs to the store.
    pub fn is_same(&self, other: &Self) -> bool {
        let of_git = match (&self.git, &other.git) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => self.state != SourceState::Ready,
            (Some(_), None) | (None, Some(_)) => false,
        };
        of_git
            && self.key == other.key
            && (&self.name, &self.label, &self.git_ref)
                == (&other.name, &other.label, &other.git_ref)
            && (&self.place, &self.revision) == (&other.place, &other.revision)
            && (self.visibility, &self.state) == (other.visibility, &other.state)
            && (&self.subdirs, &self.signals) == (&other.subdirs, &other.signals)
            && (self.time_secs, self.unread) == (other.time_secs, other.unread)
            && self.git_directory.is_same(&other.git_directory)
    }
}

/// Whether what a source serves stays readable whatever happens to its repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pinning {
    /// It does.
    Pinned,
    /// What is pruned from its repository is lost.
    Unpinned {
        /// Why it could not be pinned.
        reason: String,
    },
    /// It will, when its objects have been copied.
    Awaited,
    /// There is nothing to pin, or nothing is mounted.
    NotAsked,
}

/// Whether a source can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceState {
    /// It is served at its revision.
    Ready,
    /// It is not there; an empty source stands for it.
    Missing(Fault),
    /// It is there and cannot be read; an empty source stands for it.
    Broken(Fault),
}

/// What is wrong with a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What failed, and where.
    pub error: String,
    /// What to do about it, where that is known.
    pub cure: Option<String>,
}

/// Prints both in one line.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)?;
        self.cure.as_ref().map_or(Ok(()), |cure| write!(f, "; cure: {cure}"))
    }
}

impl SourceState {
    /// The state as `status` prints it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Missing(_) => "missing",
            Self::Broken(_) => "broken",
        }
    }

    /// What is wrong, if anything is.
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Ready => None,
            Self::Missing(fault) | Self::Broken(fault) => Some(fault),
        }
    }

    /// What failed, if anything did.
    pub fn error(&self) -> Option<&str> {
        self.fault().map(|fault| fault.error.as_str())
    }
}

/// The [`Pinning`] of a source, shared and replaced while the source is served: a mount does not wait for its pins.
#[derive(Debug)]
pub struct SharedPinning(Mutex<Pinning>);

impl SharedPinning {
    /// Starts with what is known.
    pub fn new(pinning: Pinning) -> Self {
        Self(Mutex::new(pinning))
    }

    /// What is known now.
    pub fn get(&self) -> Pinning {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers what became of it.
    pub fn set(&self, pinning: Pinning) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = pinning;
    }
}

/// Something about one source that an operator should know and that stopped nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The source.
    pub source: SourceId,
    /// Where in the source.
    pub path: RelPath,
    /// What it is.
    pub kind: FindingKind,
}

/// What an operator should know about a place in a source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// A surface's sub-directory is a file: the layer is empty (S16).
    SubdirIsAFile,
    /// A surface's sub-directory is, or goes through, a link that leaves the source: the layer is empty (S15).
    SubdirLeavesSource,
    /// A surface's sub-directory or a category cannot be read: the layer lacks what is below.
    Unreadable {
        /// What failed.
        error: String,
    },
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SubdirIsAFile => f.write_str("is a file: nothing of it is shown on its surface"),
            Self::SubdirLeavesSource => {
                f.write_str("is, or goes through, a link out of the source: it is not followed")
            }
            Self::Unreadable { error } => write!(f, "cannot be read: {error}"),
        }
    }
}
