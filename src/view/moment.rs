//! What requests are answered from at one moment: a snapshot, the names that are about to change, and the sets that are kept.
//!
//! A request loads a moment once and asks it for everything that can change.

use std::collections::HashSet;
use std::sync::Arc;

use super::attr::Lifetime;
use super::kept::Kept;
use super::position::Position;
use super::threads::ArcSwap;
use crate::snapshot::Snapshot;
use crate::union::name::{Name, RelPath};
use crate::union::revision::RevisionSetId;

/// A moment: immutable, replaced as a whole.
#[derive(Debug)]
pub(super) struct Moment {
    /// What look-ups see.
    pub(super) snapshot: Arc<Snapshot>,
    /// The sets that were left and can still be read below `.overlay/revisions`, oldest first.
    pub(super) kept: Arc<[Kept]>,
    /// The names that differ from the next snapshot, while a flip is under way.
    pub(super) touched: Option<Arc<Touched>>,
}

/// Names that a flip changes.
#[derive(Debug, Default)]
pub(super) struct Touched(HashSet<RelPath>);

impl Touched {
    /// These paths of the view.
    pub(super) fn new(paths: impl IntoIterator<Item = RelPath>) -> Self {
        Self(paths.into_iter().collect())
    }

    /// The paths, sorted.
    pub(super) fn paths(&self) -> Vec<&RelPath> {
        let mut paths: Vec<_> = self.0.iter().collect();
        paths.sort();
        paths
    }
}

impl Moment {
    /// A snapshot, before any other was shown.
    pub(super) fn of(snapshot: Arc<Snapshot>) -> Self {
        Self { snapshot, kept: Arc::new([]), touched: None }
    }

    /// How long the kernel may keep what it is told of a name: not at all if the name is about to change (phase i of a flip).
    pub(super) fn lifetime(&self, directory: &RelPath, name: &Name) -> Lifetime {
        match &self.touched {
            Some(touched) if touched.0.contains(&directory.join(name)) => Lifetime::None,
            Some(_) | None => Lifetime::Unlimited,
        }
    }

    /// A set that was left and can still be read, by its id.
    pub(super) fn kept(&self, id: &RevisionSetId) -> Option<&Kept> {
        self.kept.iter().rev().find(|kept| kept.id() == *id)
    }

    /// The ids of the sets that can be read, sorted.
    pub(super) fn ids(&self) -> Vec<RevisionSetId> {
        let kept = self.kept.iter().map(Kept::id);
        let mut ids: Vec<_> = kept.chain([self.snapshot.id]).collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// The set that was left and that a position is in, with its serial number, if it is still kept.
    pub(super) fn at(&self, position: Position) -> Option<(&Kept, u64)> {
        let with_serial = |kept| Some((kept, Kept::serial(kept)?));
        let mut kept = self.kept.iter().rev().filter_map(with_serial);
        kept.find(|(_, serial)| position.is_in(*serial))
    }
}

/// The moment that requests are answered from.
#[derive(Debug)]
pub(super) struct Now(ArcSwap<Moment>);

impl Now {
    pub(super) fn new(moment: Moment) -> Self {
        Self(ArcSwap::from_pointee(moment))
    }

    pub(super) fn load(&self) -> Arc<Moment> {
        self.0.load_full()
    }

    /// Replaces the moment, in one step for everybody.
    pub(super) fn store(&self, moment: Moment) {
        self.0.store(Arc::new(moment));
    }
}
