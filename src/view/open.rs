//! The view itself: the current snapshot, the nodes and their numbers.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::fence::{Answering, Fence};
use super::journal::{Journal, ViewJournal};
use super::kept::{Archive, Kept};
use super::merged::Merged;
use super::moment::{Moment, Now};
use super::nodes::{Node, Nodes, Number};
use super::numbers::Numbers;
use super::past::Past;
use super::past_view::PastView;
use super::pieces::Pieces;
use super::streams::Streams;
use super::superblock::{Seat, ViewId};
use crate::config::resolved::Links;
use crate::snapshot::Snapshot;
use crate::union::name::Name;
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
    pub(super) journal: Option<ViewJournal>,
    /// What an earlier process of this mount did.
    pub(super) past: Option<Arc<Past>>,
    pub(super) seat: Arc<Seat>,
    archive: Option<Arc<dyn Archive>>,
    /// Listings of live directories that were begun.
    pub(super) streams: Streams,
    /// What was read for those that go on.
    pub(super) pieces: Pieces,
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
        let journal = journal.map(|journal| ViewJournal { journal, view: ViewId::FIRST });
        if let Some(journal) = &journal {
            journal.shown(&snapshot, 0);
        }
        let seat = Arc::new(Seat::first());
        let root = Node::Merged(Arc::new(Merged::root(seat.clone())));
        let (nodes, numbers) = (Arc::new(Nodes::new(root)), Numbers::new(journal.clone()));
        let (started_secs, past) = (now_secs(), None);
        let made = Made { seat, settings, nodes, numbers, started_secs, archive, journal, past };
        Self::at(made, Moment::of(snapshot))
    }

    /// Shows nothing but its root, which is this. What an earlier process told the kernel of files is known to it.
    pub(super) fn front(
        settings: Settings,
        root: Node,
        journal: Option<Arc<Journal>>,
        past: Option<Past>,
    ) -> Self {
        let journal = journal.map(|journal| ViewJournal { journal, view: ViewId::FIRST });
        let started_secs = past.as_ref().map_or_else(now_secs, |past| past.started_secs);
        let (numbers, past) = match (journal.clone(), past) {
            (Some(journal), Some(mut past)) => {
                (Numbers::resume(journal, &mut past, &mut PastView::lost()), Some(Arc::new(past)))
            }
            (journal, _) => (Numbers::new(journal), None),
        };
        let seat = Arc::new(Seat::first());
        let (nodes, archive) = (Arc::new(Nodes::new(root)), None);
        let made = Made { seat, settings, nodes, numbers, started_secs, archive, journal, past };
        Self::at(made, Moment::of(Arc::new(Snapshot::default())))
    }

    fn at(made: Made, moment: Moment) -> Self {
        let Made { seat, settings, nodes, numbers, started_secs, archive, journal, past } = made;
        let (now, fence) = (Now::new(moment), Fence::default());
        let (streams, pieces) = (Streams::default(), Pieces::default());
        for begun in past.iter().flat_map(|past| past.listings(seat.id)) {
            streams.recall(begun.clone());
        }
        Self {
            now,
            fence,
            nodes,
            numbers,
            settings,
            started_secs,
            journal,
            past,
            seat,
            archive,
            streams,
            pieces,
        }
    }

    /// Another view of the same superblock.
    pub(super) fn beside(
        &self,
        seat: Seat,
        snapshot: Arc<Snapshot>,
        archive: Option<Arc<dyn Archive>>,
        name: &Name,
        note: &[u8],
    ) -> Self {
        let journal = self.journal_of(&seat);
        if let Some(journal) = &journal {
            journal.joined(seat.root, name.as_bytes(), note);
            journal.shown(&snapshot, self.numbers.era());
        }
        let numbers = self.numbers.beside(journal.clone());
        let (seat, past) = (Arc::new(seat), self.past.clone());
        let (settings, nodes, started_secs) =
            (self.settings, self.nodes.clone(), self.started_secs);
        let made = Made { seat, settings, nodes, numbers, started_secs, archive, journal, past };
        Self::at(made, Moment::of(snapshot))
    }

    /// A view of the same superblock that an earlier process has served.
    pub(super) fn beside_again(
        &self,
        mut view: PastView,
        snapshot: Snapshot,
        archive: Option<Arc<dyn Archive>>,
        kept: Vec<Kept>,
    ) -> Self {
        let seat = Seat { id: view.id, root: view.root };
        let (journal, past) = (self.journal_of(&seat), self.past.clone());
        let (moment, started_secs) = (moment_of(&view, snapshot, kept), self.started_secs);
        let numbers = self.numbers.beside_again(journal.clone(), &mut view);
        let (seat, settings, nodes) = (Arc::new(seat), self.settings, self.nodes.clone());
        let made = Made { seat, settings, nodes, numbers, started_secs, archive, journal, past };
        Self::at(made, moment)
    }

    fn journal_of(&self, seat: &Seat) -> Option<ViewJournal> {
        let journal = self.journal.as_ref()?.journal.clone();
        Some(ViewJournal { journal, view: seat.id })
    }

    /// Goes on where an earlier process was killed: shows the set that it showed last, and the sets that it kept, oldest first.
    pub fn resume(
        snapshot: Snapshot,
        settings: Settings,
        archive: Option<Arc<dyn Archive>>,
        kept: Vec<Kept>,
        (mut past, journal): (Past, Arc<Journal>),
    ) -> Self {
        let mut view = past.remove(ViewId::FIRST).unwrap_or_else(PastView::lost);
        let (moment, started_secs) = (moment_of(&view, snapshot, kept), past.started_secs);
        let journal = ViewJournal { journal, view: ViewId::FIRST };
        let numbers = Numbers::resume(journal.clone(), &mut past, &mut view);
        let seat = Arc::new(Seat::first());
        let root = Node::Merged(Arc::new(Merged::root(seat.clone())));
        let (journal, past) = (Some(journal), Some(Arc::new(past)));
        let nodes = Arc::new(Nodes::new(root));
        let made = Made { seat, settings, nodes, numbers, started_secs, archive, journal, past };
        Self::at(made, moment)
    }

    /// Writes the configuration's file down as it was read, for a process that comes after this one and finds it damaged.
    pub fn note_configuration(&self, text: &[u8]) {
        if let Some(journal) = self.journal.as_ref().filter(|_| !text.is_empty()) {
            journal.configured(text);
        }
    }

    /// Writes down, for a process that comes after this one, what the view is called in its superblock, and what else has to be known.
    pub fn note_place(&self, name: &Name, note: &[u8]) {
        if let Some(journal) = &self.journal {
            journal.joined(self.seat.root, name.as_bytes(), note);
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

/// What a view is made of that has nothing to do with what it shows.
struct Made {
    seat: Arc<Seat>,
    settings: Settings,
    nodes: Arc<Nodes>,
    numbers: Numbers,
    started_secs: i64,
    archive: Option<Arc<dyn Archive>>,
    journal: Option<ViewJournal>,
    past: Option<Arc<Past>>,
}

fn now_secs() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// What an earlier process showed last.
fn moment_of(view: &PastView, mut snapshot: Snapshot, kept: Vec<Kept>) -> Moment {
    let serials = view.serials();
    if let Some(shown) = view.shown() {
        (snapshot.serial, snapshot.since) = (shown.serial, shown.since());
    }
    let kept = kept.into_iter().filter(|kept| kept.id() != snapshot.id);
    let kept: Vec<_> = kept.map(|kept| kept.with_serial(&serials)).collect();
    Moment { kept: kept.into(), ..Moment::of(Arc::new(snapshot)) }
}
