//! Listings of directories: sorted by bytes, `.` and `..` first, stable across `telldir` and `seekdir` (S4, S125).

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::attr::{Attr, Lifetime};
use super::lookup::{Candidate, LookedInto};
use super::merged::Merged;
use super::moment::Moment;
use super::nodes::{Node, Number};
use super::pieces::{Left, NAMES_MIN};
use super::position::{self, Position};
use super::tree::{Live, Tree, stays_inside, unreadable};
use super::{View, ViewError, streams};
use crate::config::resolved::Links;
use crate::snapshot::Snapshot;
use crate::union::name::Name;
use crate::union::object::Kind;

/// One name of a listing, offered to whoever asked for it.
#[derive(Debug, Clone, Copy)]
pub struct Offered<'a> {
    /// The name's bytes.
    pub name: &'a [u8],
    /// Where a listing that continues after this name starts.
    pub next_offset: u64,
    /// Attributes of the node; only number and type count for `.`, `..`, where no attributes were asked for, and where they cannot be read.
    pub attr: Attr,
    /// Whether attributes were asked for and cannot be read.
    pub is_unreadable: bool,
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
        let node = self.node(number)?;
        let parent = match &node {
            Node::Merged(merged) => merged.parent,
            Node::Tree(tree) => tree.parent(),
            Node::Live(live) if live.object.kind().is_directory() => live.parent,
            Node::Empty { parent, .. } | Node::Revisions(parent, _) => *parent,
            Node::Kept { .. } => return Err(ViewError::Stale),
            Node::Overlay(seat) => seat.root,
            Node::Front(_) => number,
            Node::Child(..) | Node::Leaf(_) | Node::Text(_) | Node::Live(_) => {
                return Err(ViewError::NotADirectory);
            }
        };
        let moment = self.now.load();
        let mut on_disk = Left::default();
        let set = match &node {
            Node::Merged(merged) if merged.pin.is_none() => self.set_of(&moment, offset)?,
            Node::Live(live) => {
                let (set, left) = self.on_disk(&moment, number, live, offset)?;
                on_disk = left;
                set
            }
            Node::Merged(_)
            | Node::Tree(_)
            | Node::Empty { .. }
            | Node::Overlay(_)
            | Node::Revisions(..)
            | Node::Front(_)
            | Node::Kept { .. }
            | Node::Child(..)
            | Node::Leaf(_)
            | Node::Text(_) => Set::only(&moment, offset),
        };
        let mut listing =
            Listing { view: self, moment: &moment, set, depth, sink, taken: 0, is_cut: false };
        for (place, name, number) in [(0, &b"."[..], number), (1, b"..", parent)] {
            let next_offset = listing.set.offset(place + 1)?;
            if listing.set.index <= place && !listing.sink.take(dot(name, number, next_offset)) {
                return Ok(());
            }
        }
        let answer = match &node {
            Node::Merged(merged) => listing.merged(number, merged),
            Node::Tree(tree) => listing.tree(tree),
            Node::Live(live) => listing.live(number, live, &on_disk),
            Node::Overlay(_) => listing.prepared(self.overlay_names(&moment)?),
            Node::Revisions(..) => listing.prepared(self.revision_names(&moment, number)?),
            // Views are found by name.
            Node::Front(_)
            | Node::Empty { .. }
            | Node::Kept { .. }
            | Node::Child(..)
            | Node::Leaf(_)
            | Node::Text(_) => Ok(()),
        };
        if let (Bits::Tag(tag), true) = (listing.set.bits, listing.is_cut) {
            self.note_listing(number, tag);
        }
        // An error would lose names that were taken and counted. Whoever continues after them gets it.
        if listing.taken > 0 { Ok(()) } else { answer }
    }
}

impl View {
    /// The set that an offset carries, if it is kept; the current one at the start of a stream.
    fn set_of(&self, moment: &Moment, offset: u64) -> Result<Set, ViewError> {
        let position = Position::of(offset);
        let (index, current) = (position.index, moment.snapshot.serial);
        if offset == 0 || position.is_in(current) {
            let snapshot = moment.snapshot.clone();
            return Ok(Set { snapshot, index, bits: Bits::Set(current), is_current: true });
        }
        let (kept, serial) = moment.at(position).ok_or(ViewError::Stale)?;
        let snapshot = kept.snapshot(self.archive())?;
        Ok(Set { snapshot, index, bits: Bits::Set(serial), is_current: false })
    }

    /// What a live directory holds, for who begins to list it or goes on: the names of the listing that his offset is of, as far as they are still there,
    /// each with its position. Where nobody remembers that listing it is the present one.
    fn on_disk(
        &self,
        moment: &Moment,
        number: Number,
        live: &Live,
        offset: u64,
    ) -> Result<(Set, Left), ViewError> {
        let (tag, index) = streams::split(offset);
        let set = |tag| Set { index, bits: Bits::Tag(tag), ..Set::only(moment, offset) };
        let store = &live.source.store;
        let modified = || store.attributes(&live.object).ok().and_then(|found| found.modified);
        // It is remembered as one that was asked for last in any case.
        let begun = (offset > 0).then(|| self.streams.find(number, tag)).flatten();
        if offset > 0
            && let Some((then, left)) = self.pieces.find(number, tag)
            && modified() == Some(then)
        {
            return Ok((set(tag), left));
        }
        let began = (Instant::now(), SystemTime::now());
        let listed = store.list(&live.object);
        let listed = listed.map_err(|cause| unreadable(&live.source, &live.path, cause))?;
        let now = streams::names(&listed);
        let (tag, begun) = match begun {
            Some(begun) => (tag, begun),
            None => (self.streams.begin(number, &now), now.clone()),
        };
        let left = Left::from(streams::left(&begun, &now, listed));
        if left.len() >= NAMES_MIN
            && let Some(modified) = modified()
        {
            self.pieces.put((number, tag), modified, began, &left);
        }
        Ok((set(tag), left))
    }

    /// Writes a listing down that somebody will go on with.
    fn note_listing(&self, number: Number, tag: u64) {
        if let Some(journal) = &self.journal
            && let Some(begun) = self.streams.to_note(number, tag)
        {
            journal.listed(&begun);
        }
    }
}

/// Where a listing continues, and in which set. Offsets of directories that flips change carry their set, so that one stream
/// is one set from its beginning to its end (S59).
struct Set {
    snapshot: Arc<Snapshot>,
    /// The position to continue at: 0 is `.`, 1 is `..`.
    index: u64,
    bits: Bits,
    /// Whether the set is the one that look-ups see.
    is_current: bool,
}

/// What offsets carry above the index.
#[derive(Clone, Copy)]
enum Bits {
    /// Nothing: the directory never changes.
    None,
    /// The serial number of the set.
    Set(u64),
    /// The tag of a listing of a live directory.
    Tag(u64),
}

impl Set {
    /// The set of a directory that never changes.
    fn only(moment: &Moment, offset: u64) -> Self {
        Self {
            snapshot: moment.snapshot.clone(),
            index: offset,
            bits: Bits::None,
            is_current: true,
        }
    }

    /// The offset of a position.
    fn offset(&self, index: u64) -> Result<u64, ViewError> {
        match self.bits {
            Bits::None => Ok(index),
            Bits::Set(serial) => {
                position::offset(serial, index).ok_or(ViewError::DirectoryTooLarge)
            }
            Bits::Tag(tag) => Ok(streams::offset(tag, index)),
        }
    }

    /// How many names to pass over.
    fn skip(&self) -> usize {
        usize::try_from(self.index.saturating_sub(DOTS)).unwrap_or(usize::MAX)
    }
}

fn dot(name: &[u8], number: Number, next_offset: u64) -> Offered<'_> {
    let attr = Attr::directory(number, 0);
    let (attr_lifetime, name_lifetime) = (Lifetime::None, Lifetime::None);
    Offered { name, next_offset, attr, is_unreadable: false, attr_lifetime, name_lifetime }
}

/// A listing under way.
struct Listing<'a> {
    view: &'a View,
    moment: &'a Moment,
    set: Set,
    depth: Depth,
    sink: &'a mut dyn Sink,
    /// How many names were taken, the two dots apart.
    taken: usize,
    /// Whether one was not.
    is_cut: bool,
}

impl Listing<'_> {
    fn merged(&mut self, number: Number, merged: &Merged) -> Result<(), ViewError> {
        let snapshot = merged.snapshot(&self.set.snapshot).clone();
        let directory = merged.directory(&snapshot)?;
        let place = merged.place();
        let looked_into = LookedInto { snapshot: &snapshot, number, merged };
        for (index, (name, item)) in directory.items.iter().enumerate().skip(self.set.skip()) {
            let lifetime = if self.set.is_current {
                self.moment.lifetime(&place, name)
            } else {
                Lifetime::None
            };
            let candidate = self.view.item(looked_into, name, item, lifetime)?;
            if let Some(candidate) = candidate
                && !self.offer(name, index, candidate)?
            {
                break;
            }
        }
        Ok(())
    }

    fn tree(&mut self, tree: &Arc<Tree>) -> Result<(), ViewError> {
        tree.load(&self.view.numbers, self.view.settings.links)?;
        for index in self.set.skip()..tree.len() {
            let Ok(position) = u32::try_from(index) else { break };
            let candidate = View::tree_child(tree, position);
            if !self.offer(&tree.child_at(position).0.name, index, candidate)? {
                break;
            }
        }
        Ok(())
    }

    fn live(&mut self, number: Number, live: &Live, on_disk: &Left) -> Result<(), ViewError> {
        let skip = self.set.skip();
        let first = on_disk.partition_point(|(index, _)| *index < skip);
        for (index, child) in on_disk.iter().skip(first) {
            let is_shown = self.view.settings.links == Links::All
                || stays_inside(&live.source, &live.path, &child.object);
            if !is_shown {
                continue;
            }
            let path = live.path.join(&child.name);
            let candidate = self.view.live(&live.source, number, path, child.object.clone())?;
            if !self.offer(&child.name, *index, candidate)? {
                break;
            }
        }
        Ok(())
    }

    fn prepared(&mut self, names: Vec<(Name, Candidate)>) -> Result<(), ViewError> {
        for (index, (name, candidate)) in names.into_iter().enumerate().skip(self.set.skip()) {
            if !self.offer(&name, index, candidate)? {
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
        let Candidate { number, node, name_lifetime } = self.view.held(candidate);
        let next_offset = self.set.offset(index as u64 + DOTS + 1)?;
        let name = name.as_bytes();
        if self.depth == Depth::Names {
            let attr = Attr { number, kind: kind(&node), size_bytes: 0, modified: (0, 0) };
            let attr_lifetime = Lifetime::None;
            let is_taken = self.sink.take(Offered {
                name,
                next_offset,
                attr,
                is_unreadable: false,
                attr_lifetime,
                name_lifetime,
            });
            self.taken += usize::from(is_taken);
            self.is_cut |= !is_taken;
            return Ok(is_taken);
        }
        let found = self.view.node_attr(number, &node);
        let is_unreadable = found.is_err();
        let (attr, attr_lifetime, name_lifetime) = match found {
            Ok((attr, lifetime)) => (attr, lifetime, name_lifetime),
            Err(ViewError::NumbersUsedUp) => return Err(ViewError::NumbersUsedUp),
            Err(_) => {
                let attr = Attr { number, kind: kind(&node), size_bytes: 0, modified: (0, 0) };
                (attr, Lifetime::None, Lifetime::None)
            }
        };
        // Counted first: the kernel may take the look-up back as soon as it has the name.
        self.view.nodes.count(number, || node);
        let offered =
            Offered { name, next_offset, attr, is_unreadable, attr_lifetime, name_lifetime };
        let is_taken = self.sink.take(offered);
        self.taken += usize::from(is_taken);
        self.is_cut |= !is_taken;
        if !is_taken {
            self.view.nodes.forget(number, 1);
        }
        Ok(is_taken)
    }
}

/// The type of a node as a listing shows it.
fn kind(node: &Node) -> Kind {
    match node {
        Node::Merged(_)
        | Node::Tree(_)
        | Node::Empty { .. }
        | Node::Overlay(_)
        | Node::Revisions(..)
        | Node::Front(_)
        | Node::Kept { .. } => Kind::Directory,
        Node::Child(tree, index) => tree.child_at(*index).0.object.kind(),
        Node::Leaf(leaf) => leaf.object.kind(),
        Node::Live(live) => live.object.kind(),
        Node::Text(text) => text.kind,
    }
}
