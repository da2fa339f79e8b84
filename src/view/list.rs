//! Listings of directories: sorted by bytes, `.` and `..` first, stable across `telldir` and `seekdir` (S4).

use std::sync::Arc;

use super::attr::{Attr, Lifetime};
use super::lookup::Candidate;
use super::nodes::{Node, Number};
use super::tree::{Live, Merged, Tree, stays_inside, unreadable};
use super::{View, ViewError};
use crate::config::resolved::Links;
use crate::union::name::Name;
use crate::union::object::Kind;

/// One name of a listing, offered to whoever asked for it.
#[derive(Debug, Clone, Copy)]
pub struct Offered<'a> {
    /// The name's bytes.
    pub name: &'a [u8],
    /// Where a listing that continues after this name starts.
    pub next_offset: u64,
    /// Attributes of the node; only number and type count for `.`, `..`, and where no attributes were asked for.
    pub attr: Attr,
    /// How long the attributes hold.
    pub attr_lifetime: Lifetime,
    /// How long the name leads to the node.
    pub name_lifetime: Lifetime,
}

/// Where a listing goes.
pub trait Sink {
    /// Takes a name; false if it did not fit and the listing ends before it.
    fn take(&mut self, offered: Offered<'_>) -> bool;
}

/// Whether a listing comes with attributes; if so each name that was taken counts as a look-up of its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Names, numbers and types.
    Names,
    /// Also attributes.
    Attributes,
}

/// `.` and `..` come before the names.
const DOTS: u64 = 2;

impl View {
    /// Lists a directory from an offset, 0 being its start, until the sink is full.
    ///
    /// # Errors
    /// The node is no known directory, or it cannot be read.
    pub fn list(
        &self,
        number: Number,
        offset: u64,
        depth: Depth,
        sink: &mut dyn Sink,
    ) -> Result<(), ViewError> {
        let node = self.nodes.get(number)?;
        let parent = match &node {
            Node::Merged(merged) => merged.parent,
            Node::Tree(tree) => tree.parent(),
            Node::Live(live) => live.parent,
            Node::Empty { parent, .. } => *parent,
            Node::Overlay => Number::ROOT,
            Node::Child(..) | Node::Leaf(_) | Node::Text(_) => {
                return Err(ViewError::NotADirectory);
            }
        };
        for (place, name, number) in [(0, &b"."[..], number), (1, b"..", parent)] {
            if offset <= place && !sink.take(dot(name, number, place + 1)) {
                return Ok(());
            }
        }
        let skip = usize::try_from(offset.saturating_sub(DOTS)).unwrap_or(usize::MAX);
        let mut listing = Listing { view: self, depth, sink };
        match &node {
            Node::Merged(merged) => listing.merged(number, merged, skip),
            Node::Tree(tree) => listing.tree(tree, skip),
            Node::Live(live) => listing.live(number, live, skip),
            Node::Overlay => listing.overlay(skip),
            Node::Empty { .. } | Node::Child(..) | Node::Leaf(_) | Node::Text(_) => Ok(()),
        }
    }
}

fn dot(name: &[u8], number: Number, next_offset: u64) -> Offered<'_> {
    let attr = Attr::directory(number, 0);
    let (attr_lifetime, name_lifetime) = (Lifetime::None, Lifetime::None);
    Offered { name, next_offset, attr, attr_lifetime, name_lifetime }
}

/// A listing under way.
struct Listing<'a> {
    view: &'a View,
    depth: Depth,
    sink: &'a mut dyn Sink,
}

impl Listing<'_> {
    fn merged(&mut self, number: Number, merged: &Merged, skip: usize) -> Result<(), ViewError> {
        let snapshot = self.view.current.load();
        let directory = merged.directory(&snapshot)?;
        for (index, (name, item)) in directory.items.iter().enumerate().skip(skip) {
            let candidate = self.view.item(&snapshot, number, merged, name, item)?;
            if let Some(candidate) = candidate
                && !self.offer(name, index, candidate)?
            {
                break;
            }
        }
        Ok(())
    }

    fn tree(&mut self, tree: &Arc<Tree>, skip: usize) -> Result<(), ViewError> {
        tree.load(&self.view.numbers, self.view.settings.links)?;
        for index in skip..tree.len() {
            let Ok(position) = u32::try_from(index) else { break };
            let candidate = View::tree_child(tree, position);
            if !self.offer(&tree.child_at(position).0.name, index, candidate)? {
                break;
            }
        }
        Ok(())
    }

    fn live(&mut self, number: Number, live: &Live, skip: usize) -> Result<(), ViewError> {
        let listed = live.source.store.list(&live.object);
        let listed = listed.map_err(|cause| unreadable(&live.source, &live.path, cause))?;
        for (index, child) in listed.into_iter().enumerate().skip(skip) {
            let is_shown = self.view.settings.links == Links::All
                || stays_inside(&live.source, &live.path, &child.object);
            if !is_shown {
                continue;
            }
            let path = live.path.join(&child.name);
            let candidate = self.view.live(&live.source, number, path, child.object)?;
            if !self.offer(&child.name, index, candidate)? {
                break;
            }
        }
        Ok(())
    }

    fn overlay(&mut self, skip: usize) -> Result<(), ViewError> {
        let snapshot = self.view.current.load();
        for (index, (name, text)) in snapshot.texts().iter().enumerate().skip(skip) {
            let candidate = self.view.text(name.as_bytes(), text)?;
            if !self.offer(name, index, candidate)? {
                break;
            }
        }
        Ok(())
    }

    /// Offers a name. False if it was not taken.
    ///
    /// One object that cannot be read costs only itself: it is listed with nothing to be kept, so that whoever asks for it gets the error.
    fn offer(
        &mut self,
        name: &Name,
        index: usize,
        candidate: Candidate,
    ) -> Result<bool, ViewError> {
        let Candidate { number, node, name_lifetime } = candidate;
        let next_offset = index as u64 + DOTS + 1;
        let name = name.as_bytes();
        if self.depth == Depth::Names {
            let attr = Attr { number, kind: kind(&node), size_bytes: 0, modified: (0, 0) };
            let attr_lifetime = Lifetime::None;
            return Ok(self.sink.take(Offered {
                name,
                next_offset,
                attr,
                attr_lifetime,
                name_lifetime,
            }));
        }
        let (attr, attr_lifetime, name_lifetime) = match self.view.node_attr(number, &node) {
            Ok((attr, lifetime)) => (attr, lifetime, name_lifetime),
            Err(ViewError::NumbersUsedUp) => return Err(ViewError::NumbersUsedUp),
            Err(_) => {
                let attr = Attr { number, kind: kind(&node), size_bytes: 0, modified: (0, 0) };
                (attr, Lifetime::None, Lifetime::None)
            }
        };
        // Counted first: the kernel may take the look-up back as soon as it has the name.
        self.view.nodes.count(number, || node);
        let is_taken =
            self.sink.take(Offered { name, next_offset, attr, attr_lifetime, name_lifetime });
        if !is_taken {
            self.view.nodes.forget(number, 1);
        }
        Ok(is_taken)
    }
}

/// The type of a node as a listing shows it.
fn kind(node: &Node) -> Kind {
    match node {
        Node::Merged(_) | Node::Tree(_) | Node::Empty { .. } | Node::Overlay => Kind::Directory,
        Node::Child(tree, index) => tree.child_at(*index).0.object.kind(),
        Node::Leaf(leaf) => leaf.object.kind(),
        Node::Live(live) => live.object.kind(),
        Node::Text(_) => Kind::File { is_executable: false },
    }
}
