//! The view itself: the current snapshot, the nodes and their numbers.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::fence::{Answering, Fence};
use super::journal::{Journal, Record};
use super::kept::{Archive, Kept};
use super::merged::Merged;
use super::moment::{Moment, Now};
use super::nodes::{Node, Nodes, Number};
use super::numbers::Numbers;
use super::past::Past;
use super::superblock::Seat;
use crate::config::resolved::Links;
use crate::snapshot::Snapshot;
use crate::union::revision::RevisionSetId;

/// What of the configuration decides how files look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Which links are shown.
    pub links: Links,
    /// Whether extended attributes are answered.
    pub has_xattrs: bool,
}

/// The file system without a protocol.
#[derive(Debug)]
pub struct View {
    pub(super) now: Now,
    pub(super) fence: Fence,
    /// Those of all views of the superblock.
    pub(super) nodes: Arc<Nodes>,
    pub(super) numbers: Numbers,
    pub(super) settings: Settings,
    pub(super) started_secs: i64,
    pub(super) journal: Option<Arc<Journal>>,
    /// What an earlier process of this mount did.
    pub(super) past: Option<Past>,
    pub(super) seat: Arc<Seat>,
    archive: Option<Arc<dyn Archive>>,
}

impl View {
    /// Shows a snapshot.
    pub fn new(snapshot: Arc<Snapshot>, settings: Settings) -> Self {
        Self::start(snapshot, settings, None, None)
    }

    /// Shows a snapshot. Sets that were left need no memory where the archive has them; with a journal another process can go on later.
    pub fn start(
        snapshot: Arc<Snapshot>,
        settings: Settings,
        archive: Option<Arc<dyn Archive>>,
        journal: Option<Arc<Journal>>,
    ) -> Self {
        if let Some(journal) = &journal {
            journal.shown(&snapshot);
        }
        let seat = Arc::new(Seat::first());
        let root = Node::Merged(Arc::new(Merged::root(seat.clone())));
        Self::at(seat, root, snapshot, settings, archive, journal)
    }

    /// Shows nothing but its root, which is this.
    pub(super) fn front(settings: Settings, root: Node) -> Self {
        Self::at(Arc::new(Seat::first()), root, Arc::new(Snapshot::default()), settings, None, None)
    }

    fn at(
        seat: Arc<Seat>,
        root: Node,
        snapshot: Arc<Snapshot>,
        settings: Settings,
        archive: Option<Arc<dyn Archive>>,
        journal: Option<Arc<Journal>>,
    ) -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            now: Now::new(Moment { snapshot, kept: Arc::new([]), touched: None }),
            fence: Fence::default(),
            nodes: Arc::new(Nodes::new(root)),
            numbers: Numbers::new(journal.clone()),
            settings,
            started_secs: i64::try_from(started.as_secs()).unwrap_or(i64::MAX),
            journal,
            past: None,
            seat,
            archive,
        }
    }

    /// Another view of the same superblock.
    pub(super) fn beside(
        &self,
        seat: Seat,
        snapshot: Arc<Snapshot>,
        archive: Option<Arc<dyn Archive>>,
    ) -> Self {
        Self {
            now: Now::new(Moment { snapshot, kept: Arc::new([]), touched: None }),
            fence: Fence::default(),
            nodes: self.nodes.clone(),
            numbers: self.numbers.beside(),
            settings: self.settings,
            started_secs: self.started_secs,
            journal: None,
            past: None,
            seat: Arc::new(seat),
            archive,
        }
    }

    /// Goes on where an earlier process was killed: shows the set that it showed last, and the sets that it kept, oldest first.
    pub fn resume(
        mut snapshot: Snapshot,
        settings: Settings,
        archive: Option<Arc<dyn Archive>>,
        kept: Vec<Kept>,
        (mut past, journal): (Past, Arc<Journal>),
    ) -> Self {
        let serials = past.serials();
        if let Some(shown) = past.shown() {
            (snapshot.serial, snapshot.since) = (shown.serial, shown.since());
        }
        let kept = kept.into_iter().filter(|kept| kept.id() != snapshot.id);
        let kept: Vec<_> = kept.map(|kept| kept.with_serial(&serials)).collect();
        let seat = Arc::new(Seat::first());
        let root = Node::Merged(Arc::new(Merged::root(seat.clone())));
        Self {
            now: Now::new(Moment {
                snapshot: Arc::new(snapshot),
                kept: kept.into(),
                touched: None,
            }),
            fence: Fence::default(),
            nodes: Arc::new(Nodes::new(root)),
            numbers: Numbers::resume(journal.clone(), &mut past),
            settings,
            started_secs: past.started_secs,
            journal: Some(journal),
            past: Some(past),
            seat,
            archive,
        }
    }

    /// Writes the configuration's file down as it was read, for a process that comes after this one and finds it damaged.
    pub fn note_configuration(&self, text: &[u8]) {
        if let Some(journal) = self.journal.as_ref().filter(|_| !text.is_empty()) {
            journal.note(&Record::Configured { text: text.to_vec() });
        }
    }

    pub(super) fn archive(&self) -> Option<&dyn Archive> {
        self.archive.as_deref()
    }

    /// The sets that can be read below `.overlay/revisions`, sorted.
    pub fn revisions(&self) -> Vec<RevisionSetId> {
        self.now.load().ids()
    }

    /// The snapshot that new look-ups see.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.now.load().snapshot.clone()
    }

    /// Counts a request in. It is answered, for a flip that waits, once what this returns is dropped: after the reply was sent.
    pub fn answering(&self) -> Answering<'_> {
        self.fence.enter()
    }

    /// Takes back `count` look-ups of a node.
    pub fn forget(&self, number: Number, count: u64) {
        self.nodes.forget(number, count);
    }

    /// Lets go of the room of nodes that the kernel has forgotten.
    pub fn shrink(&self) {
        self.nodes.shrink();
    }

    /// How many nodes the kernel knows, those of other views of the superblock and the root included.
    pub fn known_nodes(&self) -> usize {
        self.nodes.len()
    }

    /// How many sets that were left can still be read.
    pub fn kept_sets(&self) -> usize {
        self.now.load().kept.len()
    }

    /// How many of the 2^32 inode numbers of the superblock were given out.
    pub fn used_numbers(&self) -> u64 {
        self.numbers.used()
    }
}
