//! A superblock: what one connection with the kernel serves, and what the kernel caches together. It holds one view, or any number.
//!
//! Of several views each is a directory in the root, found by name and not listed; whoever mounts binds it where it is wanted. Files are
//! the same nodes in all of them, so that the kernel keeps one copy of their bytes; directories are others in each (S90). Views of one
//! superblock have the same [`Settings`], and what else must be equal is for the one to see to who puts them together.

use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dashmap::DashMap;

use super::attr::Lifetime;
use super::kept::Archive;
use super::lookup::Candidate;
use super::merged::Merged;
use super::nodes::{Node, Number};
use super::{Kernel, Settings, View, ViewError};
use crate::snapshot::Snapshot;
use crate::union::name::Name;

/// Tells the views of one superblock apart; never given out twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ViewId(u32);

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

    /// Any number of views; none yet.
    pub fn of_many(settings: Settings) -> Self {
        let front = Arc::new(Front::default());
        let first = Arc::new(View::front(settings, Node::Front(front.clone())));
        let next = AtomicU32::new(ViewId::FIRST.0 + 1);
        let (views, removed) = Default::default();
        Self { first, many: Some(Many { front, views, removed, next }) }
    }

    /// The view that a request about a node is for. One that nobody knows is for any: it is stale in all.
    pub fn of(&self, number: Number) -> Asked<'_> {
        let Some(many) = &self.many else { return Asked::First(&self.first) };
        let view = self.first.nodes.view(number).and_then(|id| many.views.get(&id));
        view.map_or(Asked::First(&self.first), |view| Asked::Other(view.clone()))
    }

    /// Takes back `count` look-ups of a node.
    pub fn forget(&self, number: Number, count: u64) {
        self.first.forget(number, count);
    }

    /// Adds a view under a name of the root. One that had the name before has it no longer; who holds it keeps it.
    ///
    /// # Errors
    /// The superblock is made for one view, or has no numbers left.
    pub fn add(
        &self,
        name: &Name,
        snapshot: Arc<Snapshot>,
        archive: Option<Arc<dyn Archive>>,
    ) -> Result<Arc<View>, ViewError> {
        let many = self.many.as_ref().ok_or(ViewError::Stale)?;
        let root = self.first.numbers.fresh()?;
        let id = ViewId(many.next.fetch_add(1, Ordering::Relaxed));
        let view = Arc::new(self.first.beside(Seat { id, root }, snapshot, archive));
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
        many.removed.lock().unwrap_or_else(PoisonError::into_inner).push(view.seat.id);
    }

    /// Lets go of removed views of which the kernel knows nothing any more, and of numbers of files to which no view leads. Returns how many are left that it knows.
    pub fn sweep(&self) -> usize {
        let Some(many) = &self.many else { return 0 };
        let mut removed = many.removed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gone = Vec::new();
        removed.retain(|id| {
            let is_held = |view: &Arc<View>| Arc::strong_count(&view.seat) > 1;
            let is_gone = many.views.get(id).is_none_or(|view| !is_held(&view));
            gone.extend(is_gone.then(|| many.views.remove(id)).flatten());
            !is_gone
        });
        let left = removed.len();
        drop(removed);
        // What it served goes with a view: not under a lock.
        drop(gone);
        let views: Vec<_> = many.views.iter().map(|view| view.value().clone()).collect();
        self.first.sweep_files(&views);
        left
    }
}
