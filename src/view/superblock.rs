//! A superblock: what one connection with the kernel serves, and what the kernel caches together. It holds one view, or any number.
//!
//! Of several views each is a directory in the root, found by name and not listed; whoever mounts binds it where it is wanted. Files are
//! the same nodes in all of them, so that the kernel keeps one copy of their bytes; directories are others in each (S90). Views of one
//! superblock have the same [`Settings`], and what else must be equal is for the one to see to who puts them together.

use std::collections::HashSet;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;

use super::attr::Lifetime;
use super::journal::{Journal, ViewJournal};
use super::kept::{Archive, Kept};
use super::lookup::Candidate;
use super::merged::Merged;
use super::nodes::{Node, Number};
use super::past::Past;
use super::past_view::PastView;
use super::{Kernel, Settings, View, ViewError};
use crate::snapshot::Snapshot;
use crate::union::name::Name;

/// Tells the views of one superblock apart; never given out twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ViewId(pub(super) u32);

impl ViewId {
    /// The one view, or what stands before several.
    pub(super) const FIRST: Self = Self(0);
}

/// A view's place in its superblock. Whatever the kernel knows of a view that only the view can answer for holds it.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) id: ViewId,
    /// The number of the view's root.
    pub(super) root: Number,
}

impl Seat {
    /// The place at the root of the superblock.
    pub(super) fn first() -> Self {
        Self { id: ViewId::FIRST, root: Number::ROOT }
    }
}

/// The directory that holds several views.
#[derive(Debug, Default)]
pub(super) struct Front(DashMap<Box<[u8]>, Arc<Seat>>);

impl Front {
    /// The root of a view. Neither it nor its absence is to be kept: another view may get the name.
    pub(super) fn find(&self, name: &[u8]) -> Option<Candidate> {
        let seat = self.0.get(name)?.clone();
        let number = seat.root;
        let node = Node::Merged(Arc::new(Merged::root(seat)));
        Some(Candidate { number, node, name_lifetime: Lifetime::None })
    }
}

/// The views that one connection with the kernel serves.
#[derive(Debug)]
pub struct Superblock {
    /// The only view, or one that answers for the root and for what is the same in all.
    first: Arc<View>,
    many: Option<Many>,
}

#[derive(Debug)]
struct Many {
    front: Arc<Front>,
    /// Those that were removed too, while the kernel knows directories of them.
    views: DashMap<ViewId, Arc<View>>,
    removed: Mutex<Vec<ViewId>>,
    next: AtomicU32,
}

impl Many {
    fn removed(&self) -> MutexGuard<'_, Vec<ViewId>> {
        self.removed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The view that is to be asked.
#[derive(Debug)]
pub enum Asked<'a> {
    /// It is the only one, or any will do.
    First(&'a Arc<View>),
    /// One of several.
    Other(Arc<View>),
}

impl Deref for Asked<'_> {
    type Target = Arc<View>;

    fn deref(&self) -> &Arc<View> {
        match self {
            Self::First(view) => view,
            Self::Other(view) => view,
        }
    }
}

impl Superblock {
    /// One view, at the root.
    pub fn only(view: Arc<View>) -> Self {
        Self { first: view, many: None }
    }

    /// Any number of views; none yet. With a journal another process can go on later.
    pub fn of_many(settings: Settings, journal: Option<Arc<Journal>>) -> Self {
        Self::with_front(settings, journal, None)
    }

    /// Any number of views, of which an earlier process has served some: each is to be returned, or it has left.
    pub fn resume(
        settings: Settings,
        (mut past, journal): (Past, Arc<Journal>),
    ) -> (Self, Vec<PastView>) {
        drop(past.remove(ViewId::FIRST));
        let views = past.remove_all();
        (Self::with_front(settings, Some(journal), Some(past)), views)
    }

    fn with_front(settings: Settings, journal: Option<Arc<Journal>>, past: Option<Past>) -> Self {
        let front = Arc::new(Front::default());
        let next = past.as_ref().map_or(ViewId::FIRST, Past::last_view).0 + 1;
        let first = View::front(settings, Node::Front(front.clone()), journal, past);
        let (views, removed) = Default::default();
        let many = Many { front, views, removed, next: AtomicU32::new(next) };
        Self { first: Arc::new(first), many: Some(many) }
    }

    /// Shows a view again that an earlier process has served.
    ///
    /// # Errors
    /// The superblock is made for one view.
    pub fn return_view(
        &self,
        view: PastView,
        snapshot: Snapshot,
        archive: Option<Arc<dyn Archive>>,
        kept: Vec<Kept>,
    ) -> Result<Arc<View>, ViewError> {
        let many = self.many.as_ref().ok_or(ViewError::Stale)?;
        let name = view.name().to_vec();
        let view = Arc::new(self.first.beside_again(view, snapshot, archive, kept));
        let root = Node::Merged(Arc::new(Merged::root(view.seat.clone())));
        self.first.nodes.adopt(view.seat.root, root);
        drop(many.views.insert(view.seat.id, view.clone()));
        many.front.0.insert(name.into(), view.seat.clone());
        Ok(view)
    }

    /// A view that an earlier process has served is shown no more.
    pub fn give_up(&self, view: &PastView) {
        if let Some(journal) = &self.first.journal {
            ViewJournal { journal: journal.journal.clone(), view: view.id }.left();
        }
    }

    /// The view that a request about a node is for. One that nobody knows is for any: it is stale in all.
    pub fn of(&self, number: Number) -> Asked<'_> {
        let Some(many) = &self.many else { return Asked::First(&self.first) };
        let view = self.first.nodes.view(number).and_then(|id| many.views.get(&id));
        if let Some(view) = view {
            return Asked::Other(view.clone());
        }
        let past = self.first.past.as_ref().filter(|_| !self.first.nodes.knows(number));
        let told = past.and_then(|past| Self::after(past, many, number));
        told.map_or(Asked::First(&self.first), Asked::Other)
    }

    /// The view that can make a node again of which an earlier process told the kernel: the one that gave its number out, or, if that has
    /// left, one that shows the same file.
    fn after(past: &Past, many: &Many, number: Number) -> Option<Arc<View>> {
        let (owner, is_file) = past.view(number)?;
        if let Some(view) = many.views.get(&owner) {
            return Some(view.clone());
        }
        if !is_file {
            return None;
        }
        let views: Vec<_> = many.views.iter().map(|view| view.value().clone()).collect();
        let can = |view: &Arc<View>| {
            catch_unwind(AssertUnwindSafe(|| view.node(number))).is_ok_and(|node| node.is_ok())
        };
        views.into_iter().find(can)
    }

    /// All of a small file of a frozen source, as [`View::small_file`] gives it.
    ///
    /// # Errors
    /// As there.
    pub fn small_file(&self, number: Number, most: usize) -> Result<Option<Vec<u8>>, ViewError> {
        self.first.small_file(number, most)
    }

    /// Takes back `count` look-ups of a node.
    pub fn forget(&self, number: Number, count: u64) {
        self.first.forget(number, count);
    }

    /// Adds a view under a name of the root; `note` is for a process that comes after this one. One that had the name before has it no longer; who holds it keeps it.
    ///
    /// # Errors
    /// The superblock is made for one view, or has no numbers left.
    pub fn add(
        &self,
        name: &Name,
        snapshot: Arc<Snapshot>,
        archive: Option<Arc<dyn Archive>>,
        note: &[u8],
    ) -> Result<Arc<View>, ViewError> {
        let many = self.many.as_ref().ok_or(ViewError::Stale)?;
        let root = self.first.numbers.fresh()?;
        let id = ViewId(many.next.fetch_add(1, Ordering::Relaxed));
        let view = Arc::new(self.first.beside(Seat { id, root }, snapshot, archive, name, note));
        let none = many.views.insert(id, view.clone());
        debug_assert!(none.is_none(), "ids are given out once");
        many.front.0.insert(name.as_bytes().into(), view.seat.clone());
        Ok(view)
    }

    /// Removes a view: its name leads to it no longer. What is held of it, as a working directory or a mount, goes on being served.
    ///
    /// Not to be called by a thread that answers requests.
    pub fn remove(&self, name: &Name, view: &View, kernel: &dyn Kernel) {
        let Some(many) = &self.many else { return };
        let removed = many.front.0.remove_if(name.as_bytes(), |_, seat| seat.id == view.seat.id);
        if let Some((_, seat)) = removed {
            drop(seat);
            kernel.forget_name(Number::ROOT, name.as_bytes());
        }
        if let Some(journal) = &view.journal {
            journal.left();
        }
        many.removed().push(view.seat.id);
    }

    /// Lets go of removed views of which the kernel knows nothing any more, and of numbers of files to which no view leads. Returns how many are left that it knows.
    pub fn sweep(&self, kernel: &dyn Kernel) -> usize {
        let Some(many) = &self.many else { return 0 };
        // No lock is held over a question to the kernel, which may answer it only after a request.
        let removed = many.removed().clone();
        let is_gone = |id: &ViewId| {
            let view = many.views.get(id).map(|view| view.clone());
            view.is_none_or(|view| {
                Arc::strong_count(&view.seat) == 1 && !view.is_known_from_past(kernel)
            })
        };
        let gone: HashSet<_> = removed.into_iter().filter(is_gone).collect();
        let mut removed = many.removed();
        removed.retain(|id| !gone.contains(id));
        let left = removed.len();
        drop(removed);
        // What it served goes with a view: not under a lock.
        for id in gone {
            drop(many.views.remove(&id));
        }
        let views: Vec<_> = many.views.iter().map(|view| view.value().clone()).collect();
        self.first.sweep_files(&views, kernel);
        left
    }
}
