//! The view itself: the current snapshot, the nodes and their numbers.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::fence::{Answering, Fence};
use super::kept::Archive;
use super::moment::{Moment, Now};
use super::nodes::{Node, Nodes, Number};
use super::numbers::Numbers;
use super::superblock::Seat;
use super::tree::Merged;
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
    pub(super) seat: Arc<Seat>,
    archive: Option<Arc<dyn Archive>>,
}

impl View {
    /// Shows a snapshot.
    pub fn new(snapshot: Arc<Snapshot>, settings: Settings) -> Self {
        Self::with_archive(snapshot, settings, None)
    }

    /// Shows a snapshot. Sets that were left need no memory where the archive has them.
    pub fn with_archive(
        snapshot: Arc<Snapshot>,
        settings: Settings,
        archive: Option<Arc<dyn Archive>>,
    ) -> Self {
        let seat = Arc::new(Seat::first());
        let root = Node::Merged(Arc::new(Merged::root(seat.clone())));
        Self::at(seat, root, snapshot, settings, archive)
    }

    /// Shows nothing but its root, which is this.
    pub(super) fn front(settings: Settings, root: Node) -> Self {
        Self::at(Arc::new(Seat::first()), root, Arc::new(Snapshot::default()), settings, None)
    }

    fn at(
        seat: Arc<Seat>,
        root: Node,
        snapshot: Arc<Snapshot>,
        settings: Settings,
        archive: Option<Arc<dyn Archive>>,
    ) -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            now: Now::new(Moment { snapshot, kept: Arc::new([]), touched: None }),
            fence: Fence::default(),
            nodes: Arc::new(Nodes::new(root)),
            numbers: Numbers::new(),
            settings,
            started_secs: i64::try_from(started.as_secs()).unwrap_or(i64::MAX),
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
            seat: Arc::new(seat),
            archive,
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
