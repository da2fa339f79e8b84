//! From a directory and a name to a node.

use std::sync::Arc;

use super::attr::{Attr, Lifetime};
use super::journal::{Thing, What};
use super::merged::Merged;
use super::moment::Moment;
use super::nodes::{Node, Number};
use super::numbers::NodeKey;
use super::tree::{Leaf, Live, Tree, object_bytes, stays_inside, unreadable};
use super::{View, ViewError, git, overlay};
use crate::config::resolved::Links;
use crate::snapshot::{Snapshot, Source};
use crate::store::walk;
use crate::union::name::{NAME_MAX, Name, RelPath};
use crate::union::namespace::{Item, Shown};
use crate::union::object::{Kind, Object};

/// What a look-up found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A node. The look-up is counted; [`View::forget`] takes it back.
    Present {
        /// Its attributes.
        attr: Attr,
        /// How long the attributes hold.
        attr_lifetime: Lifetime,
        /// How long the name leads to this node.
        name_lifetime: Lifetime,
    },
    /// Nothing, and for how long.
    Absent(Lifetime),
}

/// A node that may be about to be known, and how long its name leads to it.
pub(super) struct Candidate {
    pub(super) number: Number,
    pub(super) node: Node,
    pub(super) name_lifetime: Lifetime,
}

/// A merged directory that is looked into, and the snapshot that says what is in it.
#[derive(Clone, Copy)]
pub(super) struct LookedInto<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) number: Number,
    pub(super) merged: &'a Merged,
}

impl View {
    /// Looks a name up in a directory.
    ///
    /// # Errors
    /// `parent` is no known directory, the name is longer than 255 bytes, or the object cannot be read.
    pub fn lookup(&self, parent: Number, name: &[u8]) -> Result<Found, ViewError> {
        if name.len() > NAME_MAX {
            return Err(ViewError::NameTooLong);
        }
        let moment = self.now.load();
        let parent_node = self.node(parent)?;
        // What is above the views does not know what they show.
        let is_above = matches!(parent_node, Node::Front(_));
        let (candidate, absence) = match parent_node {
            Node::Merged(merged) => self.in_merged(&moment, parent, &merged, name)?,
            Node::Tree(tree) => (self.in_tree(&tree, name)?, Lifetime::Unlimited),
            Node::Live(live) => (self.in_live(parent, &live, name)?, Lifetime::Live),
            Node::Empty { .. } => (None, Lifetime::Unlimited),
            Node::Overlay(_) => {
                Self::named(name, &overlay::path(), &moment, |name| self.in_overlay(&moment, name))?
            }
            Node::Revisions(..) => {
                Self::named(name, &overlay::revisions_path(), &moment, |name| {
                    self.in_revisions(&moment, parent, name)
                })?
            }
            Node::Front(front) => (front.find(name), Lifetime::None),
            Node::Kept { .. } => return Err(ViewError::Stale),
            Node::Child(..) | Node::Leaf(_) | Node::Text(_) => {
                return Err(ViewError::NotADirectory);
            }
        };
        let Some(candidate) = candidate.map(|found| self.held(found)) else {
            return Ok(Found::Absent(absence));
        };
        let (attr, attr_lifetime) = match self.node_attr(candidate.number, &candidate.node) {
            // It went away between the look-up and the question for its size.
            Err(ViewError::Stale) if absence == Lifetime::Live => {
                return Ok(Found::Absent(absence));
            }
            answer => answer?,
        };
        let attr_lifetime = if is_above { Lifetime::None } else { attr_lifetime };
        let name_lifetime = candidate.name_lifetime;
        self.nodes.count(candidate.number, || candidate.node);
        Ok(Found::Present { attr, attr_lifetime, name_lifetime })
    }

    /// Of a set that was left and came back the kernel may still hold what it was then: a number stands for one of them, to its end.
    pub(super) fn held(&self, candidate: Candidate) -> Candidate {
        match &candidate.node {
            Node::Merged(merged) if merged.pin.is_some() => {}
            Node::Kept { .. } => {}
            _ => return candidate,
        }
        match self.nodes.get(candidate.number) {
            Ok(node @ Node::Merged(_)) => Candidate { node, ..candidate },
            Ok(_) | Err(_) => candidate,
        }
    }

    /// Looks a name up in a directory that flips change; with it how long its absence may be kept.
    fn named(
        name: &[u8],
        directory: &RelPath,
        moment: &Moment,
        find: impl FnOnce(&Name) -> Result<Option<Candidate>, ViewError>,
    ) -> Result<(Option<Candidate>, Lifetime), ViewError> {
        let Ok(name) = Name::new(name) else { return Ok((None, Lifetime::Unlimited)) };
        Ok((find(&name)?, moment.lifetime(directory, &name)))
    }

    fn in_merged(
        &self,
        moment: &Moment,
        parent: Number,
        merged: &Merged,
        name: &[u8],
    ) -> Result<(Option<Candidate>, Lifetime), ViewError> {
        if merged.path.is_root() && merged.pin.is_none() && name == overlay::NAME {
            return Ok((Some(self.overlay()?), Lifetime::Unlimited));
        }
        let snapshot = merged.snapshot(&moment.snapshot);
        let directory = merged.directory(snapshot)?;
        let place = merged.place();
        let Some(item) = directory.get(name) else {
            return Self::named(name, &place, moment, |_| Ok(None));
        };
        let looked_into = LookedInto { snapshot, number: parent, merged };
        let (candidate, lifetime) = Self::named(name, &place, moment, |name| {
            self.item(looked_into, name, item, moment.lifetime(&place, name))
        })?;
        // A name of a live source is decided by the disk, from one moment to the next; one that a flip changes is not kept even so long.
        let absence = if candidate.is_some() { lifetime } else { lifetime.min(Lifetime::Live) };
        Ok((candidate, absence))
    }

    /// What an item of a merged directory stands for; `None` for a live entry that is not on the disk any more.
    pub(super) fn item(
        &self,
        LookedInto { snapshot, number: parent, merged }: LookedInto<'_>,
        name: &Name,
        item: &Item,
        name_lifetime: Lifetime,
    ) -> Result<Option<Candidate>, ViewError> {
        match item {
            Item::Directory(directory) => {
                let merged = merged.child(parent, name, directory.born);
                let number = self.numbers.single(merged.key(), || merged.what())?;
                let node = Node::Merged(Arc::new(merged));
                Ok(Some(Candidate { number, node, name_lifetime }))
            }
            Item::Entry(shown) => {
                let source = snapshot.source(shown.source);
                if let Object::Live { kind, .. } = &shown.object {
                    let found = self.live_entry(source, parent, &shown.source_path, *kind)?;
                    return Ok(found.map(|found| Candidate {
                        name_lifetime: name_lifetime.min(found.name_lifetime),
                        ..found
                    }));
                }
                let path = merged.numbered_path(shown).join(name);
                let found = self.entry(source, parent, &path, shown)?;
                Ok(Some(Candidate { name_lifetime, ..found }))
            }
        }
    }

    fn entry(
        &self,
        source: &Arc<Source>,
        parent: Number,
        path: &RelPath,
        shown: &Shown,
    ) -> Result<Candidate, ViewError> {
        let source_path = shown.source_path.clone();
        let time_secs = shown.time_secs;
        let key = entry_key(source, path, shown);
        let what = || What::Entry {
            source: source.key,
            parent: parent.0,
            path: source_path.to_bytes(),
            object: Thing::of(&shown.object),
            time_secs,
            is_whole: shown.surface.is_none(),
        };
        let number = if shown.object.kind().is_directory() {
            self.numbers.single(key, what)?
        } else {
            self.numbers.files(key, 1, what)?
        };
        let whole = shown.surface.is_none().then(|| source.git_directory.shown());
        let git = whole.flatten().cloned();
        let (source, object) = (source.clone(), shown.object.clone());
        let node = match (&object, object.kind()) {
            (Object::Empty, _) => Node::Empty { parent, time_secs },
            (_, Kind::Directory) => {
                let above = (parent, self.seat.id);
                let tree = Tree::entry(source, object, time_secs, number, above, source_path);
                Node::Tree(Arc::new(tree.with_git(git)))
            }
            (_, Kind::File { .. } | Kind::Link) => {
                Node::Leaf(Arc::new(Leaf { source, path: source_path, object, time_secs }))
            }
        };
        Ok(Candidate { number, node, name_lifetime: Lifetime::Unlimited })
    }

    /// A live entry as the disk has it now: it may have been replaced since the snapshot was built.
    fn live_entry(
        &self,
        source: &Arc<Source>,
        parent: Number,
        source_path: &RelPath,
        kind: Kind,
    ) -> Result<Option<Candidate>, ViewError> {
        let found = walk::find(source.store.as_ref(), source_path)
            .map_err(|cause| unreadable(source, source_path, cause))?;
        match found {
            Some(object) if object.kind().is_directory() == kind.is_directory() => {
                self.live(source, parent, source_path.clone(), object).map(Some)
            }
            Some(_) | None => Ok(None),
        }
    }

    /// The node of a live object at a place. Files have one number wherever they are shown, directories another at each place.
    pub(super) fn live(
        &self,
        source: &Arc<Source>,
        parent: Number,
        path: RelPath,
        object: Object,
    ) -> Result<Candidate, ViewError> {
        let what = || {
            let in_it = if object.kind().is_directory() { None } else { path.parent() };
            What::Live {
                source: source.key,
                parent: parent.0,
                path: path.to_bytes(),
                object: Thing::of(&object),
                folder: folder(source, in_it.as_ref().unwrap_or(&path)),
            }
        };
        let number = if object.kind().is_directory() {
            self.numbers.single(live_key(source, &path, &object, parent.0), what)?
        } else {
            self.numbers.files(live_key(source, &path, &object, 0), 1, what)?
        };
        let view = self.seat.id;
        let node = match object {
            Object::Empty => Node::Empty { parent, time_secs: self.started_secs },
            object => {
                Node::Live(Arc::new(Live { source: source.clone(), path, object, parent, view }))
            }
        };
        Ok(Candidate { number, node, name_lifetime: Lifetime::Live })
    }

    fn in_tree(&self, tree: &Arc<Tree>, name: &[u8]) -> Result<Option<Candidate>, ViewError> {
        tree.load(&self.numbers, self.settings.links)?;
        Ok(tree.find(name).map(|index| Self::tree_child(tree, index)))
    }

    /// The node of a child of a listed frozen directory.
    pub(super) fn tree_child(tree: &Arc<Tree>, index: u32) -> Candidate {
        let (listed, number) = tree.child_at(index);
        let node = match (&listed.object, listed.object.kind()) {
            (object @ Object::Live { .. }, _) => git::node(tree, object),
            (Object::Empty, _) => Node::Empty { parent: tree.number, time_secs: tree.time_secs },
            (_, Kind::Directory) => Node::Tree(Arc::new(tree.child_tree(index))),
            (_, Kind::File { .. } | Kind::Link) => Node::Child(tree.clone(), index),
        };
        Candidate { number, node, name_lifetime: Lifetime::Unlimited }
    }

    fn in_live(
        &self,
        parent: Number,
        live: &Live,
        name: &[u8],
    ) -> Result<Option<Candidate>, ViewError> {
        let found = live.source.store.lookup(&live.object, name);
        let found = found.map_err(|cause| unreadable(&live.source, &live.path, cause))?;
        let (Some(object), Ok(name)) = (found, Name::new(name)) else { return Ok(None) };
        if self.settings.links == Links::Inside && !stays_inside(&live.source, &live.path, &object)
        {
            return Ok(None);
        }
        self.live(&live.source, parent, live.path.join(&name), object).map(Some)
    }
}

/// Names a live thing among all numbered things: a file by what it is, a directory also by the number of the one that holds it.
pub(super) fn live_key(source: &Source, path: &RelPath, object: &Object, place: u32) -> NodeKey {
    let (path, object) = (path.to_bytes(), object_bytes(object));
    NodeKey::new(&[b"live", &source.key, &path, &object, &place.to_le_bytes()])
}

/// What a live directory is wherever it is shown, short; 0 if that cannot be told.
pub(super) fn folder(source: &Source, path: &RelPath) -> u32 {
    let Ok(root) = source.store.root() else { return 0 };
    NodeKey::new(&[b"folder", &source.key, &object_bytes(&root), &path.to_bytes()]).short()
}

/// Names an entry among all numbered things: where it is, unless it is the same file elsewhere, and what.
pub(super) fn entry_key(source: &Source, path: &RelPath, shown: &Shown) -> NodeKey {
    NodeKey::new(&[
        b"entry",
        &path.to_bytes(),
        &source.key,
        &shown.source_path.to_bytes(),
        &object_bytes(&shown.object),
        &shown.time_secs.to_le_bytes(),
    ])
}
