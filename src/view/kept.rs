//! Sets that were left and can still be read below `.overlay/revisions`.
//!
//! The newest stay in memory; older ones are made again by an [`Archive`] when somebody asks for them, and stay while he holds them.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use super::ViewError;
use crate::snapshot::Snapshot;
use crate::union::revision::RevisionSetId;

/// Makes sets again that are no longer in memory.
pub trait Archive: Debug + Send + Sync {
    /// Whether a set can be made again.
    fn has(&self, id: &RevisionSetId) -> bool;

    /// Makes a set again: the same names, times and bytes as before.
    ///
    /// # Errors
    /// What of it cannot be read any more.
    fn recall(&self, id: &RevisionSetId) -> Result<Snapshot, String>;
}

/// A set that was left, while it is kept.
#[derive(Debug, Clone)]
pub struct Kept {
    set: Arc<KeptSet>,
    /// When it was left.
    pub(super) left: Instant,
}

/// What is always known of a set that is kept.
#[derive(Debug)]
struct KeptSet {
    id: RevisionSetId,
    /// Its place in the order of snapshots; none if another mount left it.
    serial: Option<u64>,
    born: u64,
    time_secs: i64,
    snapshot: Mutex<Held>,
}

#[derive(Debug)]
enum Held {
    /// It is kept in memory.
    Here(Arc<Snapshot>),
    /// It is in memory while somebody else holds it.
    Elsewhere(Weak<Snapshot>),
}

impl Kept {
    /// A set that is left now.
    pub(super) fn leaving(snapshot: Arc<Snapshot>) -> Self {
        let root = snapshot.namespace.root();
        let set = KeptSet {
            id: snapshot.id,
            serial: Some(snapshot.serial),
            born: root.born,
            time_secs: root.time_secs,
            snapshot: Mutex::new(Held::Here(snapshot)),
        };
        Self { set: Arc::new(set), left: Instant::now() }
    }

    /// A set that an earlier mount left, of which an archive has the rest. `born` and `time_secs` are those of its root.
    pub fn from_archive(id: RevisionSetId, left: Instant, born: u64, time_secs: i64) -> Self {
        let snapshot = Mutex::new(Held::Elsewhere(Weak::new()));
        Self { set: Arc::new(KeptSet { id, serial: None, born, time_secs, snapshot }), left }
    }

    /// The same set, with the place in the order of snapshots that it had.
    pub(super) fn with_serial(self, serials: &HashMap<RevisionSetId, u64>) -> Self {
        let serial = serials.get(&self.set.id).copied();
        let KeptSet { id, born, time_secs, .. } = *self.set;
        let snapshot = Mutex::new(Held::Elsewhere(Weak::new()));
        Self { set: Arc::new(KeptSet { id, serial, born, time_secs, snapshot }), left: self.left }
    }

    pub(super) fn id(&self) -> RevisionSetId {
        self.set.id
    }

    pub(super) fn serial(&self) -> Option<u64> {
        self.set.serial
    }

    /// Since which snapshot its root has been there, and the root's time.
    pub(super) fn root(&self) -> (u64, i64) {
        (self.set.born, self.set.time_secs)
    }

    /// The set itself.
    pub(super) fn snapshot(
        &self,
        archive: Option<&dyn Archive>,
    ) -> Result<Arc<Snapshot>, ViewError> {
        if let Some(snapshot) = self.in_memory() {
            return Ok(snapshot);
        }
        let lost = |cause| ViewError::Lost { id: self.id().to_string(), cause };
        let archive = archive.ok_or_else(|| lost("nothing can make it again".to_owned()))?;
        let mut snapshot = archive.recall(&self.id()).map_err(lost)?;
        snapshot.serial = self.serial().unwrap_or_default();
        let snapshot = Arc::new(snapshot);
        let mut held = self.held();
        // Another thread may have been faster: all share one.
        if let Held::Elsewhere(known) = &*held
            && let Some(known) = known.upgrade()
        {
            return Ok(known);
        }
        *held = Held::Elsewhere(Arc::downgrade(&snapshot));
        Ok(snapshot)
    }

    /// Keeps it no longer in memory than somebody else does, if it can be made again.
    pub(super) fn let_go(&self, archive: Option<&dyn Archive>) {
        if !archive.is_some_and(|archive| archive.has(&self.id())) {
            return;
        }
        let mut held = self.held();
        if let Held::Here(snapshot) = &*held {
            // A weak reference to what nobody holds would still take its room.
            let is_held = Arc::strong_count(snapshot) > 1;
            let weak = if is_held { Arc::downgrade(snapshot) } else { Weak::new() };
            *held = Held::Elsewhere(weak);
        }
    }

    /// The set itself, unless it would have to be made again.
    pub(super) fn in_memory(&self) -> Option<Arc<Snapshot>> {
        match &*self.held() {
            Held::Here(snapshot) => Some(snapshot.clone()),
            Held::Elsewhere(snapshot) => snapshot.upgrade(),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.set.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
