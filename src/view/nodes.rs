//! The node table: what the kernel knows, and how often it looked it up.
//!
//! Locks: one shard of the table at a time, never over a call to a store.

use std::sync::Arc;

use dashmap::DashMap;

use super::ViewError;
use super::merged::Merged;
use super::superblock::{Front, Seat, ViewId};
use super::tree::{Leaf, Live, Text, Tree};
use crate::snapshot::Snapshot;

/// The number of a node: its inode number, and what the kernel calls it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Number(pub u32);

impl Number {
    /// The root of a superblock (`FUSE_ROOT_ID`, `include/uapi/linux/fuse.h`).
    pub const ROOT: Self = Self(1);
}

/// What a node stands for: one object at one place. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) enum Node {
    /// A merged directory.
    Merged(Arc<Merged>),
    /// A frozen directory, at or below an entry.
    Tree(Arc<Tree>),
    /// A file or link in a frozen directory, by its position in the listing.
    Child(Arc<Tree>, u32),
    /// An entry that is itself a frozen file or link.
    Leaf(Arc<Leaf>),
    /// A file, directory or link of a live source.
    Live(Arc<Live>),
    /// A directory in which nothing is shown.
    Empty {
        /// The number of the directory that holds it.
        parent: Number,
        /// Its time, in seconds since 1970.
        time_secs: i64,
    },
    /// `.overlay` of a view.
    Overlay(Arc<Seat>),
    /// `.overlay/revisions` of a view, and the number of `.overlay`.
    Revisions(Number, Arc<Seat>),
    /// The directory that holds the views of a superblock.
    Front(Arc<Front>),
    /// The root of a set that is kept, known from a listing only: whoever looks it up gets the set itself.
    Kept {
        /// Its time, in seconds since 1970.
        time_secs: i64,
    },
    /// A file or link of `.overlay`.
    Text(Arc<Text>),
}

/// A node and how many look-ups of it the kernel has not yet taken back.
#[derive(Debug)]
struct Known {
    node: Node,
    lookups: u64,
}

/// There is one for each node that the kernel knows: it is kept small.
const _: () = assert!(size_of::<(Number, Known)>() <= 32);

/// All nodes that the kernel knows.
#[derive(Debug)]
pub(super) struct Nodes(DashMap<Number, Known>);

impl Nodes {
    /// Knows the root, which is never forgotten.
    pub(super) fn new(root: Node) -> Self {
        let nodes = DashMap::new();
        let root = Known { node: root, lookups: 1 };
        let none = nodes.insert(Number::ROOT, root);
        debug_assert!(none.is_none(), "the table was empty");
        Self(nodes)
    }

    /// What a number stands for.
    pub(super) fn get(&self, number: Number) -> Result<Node, ViewError> {
        self.0.get(&number).map(|known| known.node.clone()).ok_or(ViewError::Stale)
    }

    /// The view that a number belongs to; nothing where each view of the superblock gives the same answer.
    pub(super) fn view(&self, number: Number) -> Option<ViewId> {
        match &self.0.get(&number)?.node {
            Node::Merged(merged) => Some(merged.seat.id),
            Node::Overlay(seat) | Node::Revisions(_, seat) => Some(seat.id),
            Node::Tree(tree) => Some(tree.view),
            Node::Live(live) => Some(live.view),
            Node::Child(..)
            | Node::Leaf(_)
            | Node::Text(_)
            | Node::Empty { .. }
            | Node::Kept { .. }
            | Node::Front(_) => None,
        }
    }

    /// Counts one look-up of a node, and knows it from now on.
    pub(super) fn count(&self, number: Number, node: impl FnOnce() -> Node) {
        match self.0.entry(number) {
            dashmap::Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.lookups += 1;
                if matches!(known.node, Node::Kept { .. }) {
                    known.node = node();
                }
            }
            dashmap::Entry::Vacant(place) => {
                drop(place.insert(Known { node: node(), lookups: 1 }));
            }
        }
    }

    /// Knows a node of which an earlier process has told the kernel, who knows how often.
    pub(super) fn adopt(&self, number: Number, node: Node) {
        drop(self.0.entry(number).or_insert(Known { node, lookups: 0 }));
    }

    /// Takes `count` look-ups back and forgets the node with the last one.
    pub(super) fn forget(&self, number: Number, count: u64) {
        if number == Number::ROOT {
            return;
        }
        if let dashmap::Entry::Occupied(mut known) = self.0.entry(number) {
            let left = known.get().lookups.saturating_sub(count);
            known.get_mut().lookups = left;
            if left == 0 {
                let (_, forgotten) = known.remove_entry();
                drop(forgotten);
            }
        }
    }

    /// Whether the kernel knows this node.
    pub(super) fn knows(&self, number: Number) -> bool {
        self.0.contains_key(&number)
    }

    /// Lets go of the room of nodes that were forgotten.
    pub(super) fn shrink(&self) {
        self.0.shrink_to_fit();
    }

    /// The numbers of all nodes that the kernel knows, sorted, and the sets of which it knows directories below `.overlay/revisions`.
    pub(super) fn known(&self) -> (Vec<u32>, Vec<Arc<Snapshot>>) {
        let (mut numbers, mut sets) = (Vec::with_capacity(self.0.len()), Vec::new());
        for known in &self.0 {
            numbers.push(known.key().0);
            if let Node::Merged(merged) = &known.value().node {
                sets.extend(merged.pin.clone());
            }
        }
        numbers.sort_unstable();
        sets.sort_by_key(Arc::as_ptr);
        sets.dedup_by_key(|set| Arc::as_ptr(set));
        (numbers, sets)
    }

    /// How many nodes the kernel knows, the root included.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
