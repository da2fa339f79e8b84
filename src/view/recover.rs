//! Nodes that an earlier process of this mount told the kernel about are made again when the kernel asks for them.
//!
//! How often it looked them up is not known. It need not be: the kernel takes all its look-ups of a node back at once, and a node that was
//! forgotten too early is made again.

use std::sync::Arc;

use super::flip::Kernel;
use super::journal::{What, path_of};
use super::merged::Merged;
use super::moment::Moment;
use super::nodes::{Node, Number};
use super::overlay;
use super::past::Past;
use super::tree::{Leaf, Live, Text, Tree};
use super::{View, ViewError};
use crate::snapshot::{Snapshot, Source};
use crate::store::{Store, walk};
use crate::union::name::RelPath;
use crate::union::namespace::Item;
use crate::union::object::{Kind, Object};
use crate::union::revision::RevisionSetId;

/// In so many sets, the present one included, something is looked for that each of them may have: making one again takes its time.
const RECENT: usize = 4;

impl View {
    /// What a number stands for, also one that an earlier process gave out.
    pub(super) fn node(&self, number: Number) -> Result<Node, ViewError> {
        match (self.nodes.get(number), &self.past) {
            (Err(ViewError::Stale), Some(past)) => {
                let node = self.recover(past, number)?;
                self.nodes.adopt(number, node.clone());
                Ok(node)
            }
            (answer, _) => answer,
        }
    }

    /// Makes the kernel forget what a process that was killed in the middle of a flip may have left: listings of directories that change.
    /// Names were taken from it before the set was shown.
    ///
    /// Not to be called by a thread that answers requests.
    pub fn settle(&self, kernel: &dyn Kernel) {
        let snapshot = self.snapshot();
        let mut left = vec![(RelPath::root(), snapshot.namespace.root().clone())];
        while let Some((path, directory)) = left.pop() {
            if let Some(number) = self.known_directory(&snapshot, &path) {
                // That takes the directory's lock, so that a listing being read is over.
                if let Some((name, _)) = directory.items.first() {
                    kernel.forget_name(number, name.as_bytes());
                }
                kernel.forget_listing(number);
            }
            for (name, item) in &directory.items {
                if let Item::Directory(below) = item {
                    left.push((path.join(name), below.clone()));
                }
            }
        }
        let texts = overlay::text_paths().filter_map(|path| path.last().cloned());
        if let Some(number) = self.known_directory(&snapshot, &overlay::path()) {
            for name in texts {
                kernel.forget_name(number, name.as_bytes());
            }
            kernel.forget_listing(number);
        }
        if let Some(number) = self.known_directory(&snapshot, &overlay::revisions_path()) {
            kernel.forget_listing(number);
        }
    }

    /// Whether the kernel may know a node.
    pub(super) fn may_be_known(&self, number: Number) -> bool {
        self.nodes.knows(number) || self.past.as_ref().is_some_and(|past| past.has(number))
    }

    /// Whether the kernel knows a directory of this view of which an earlier process told it. There may be many: it is for views that are gone.
    pub(super) fn is_known_from_past(&self, kernel: &dyn Kernel) -> bool {
        let Some(past) = &self.past else { return false };
        past.places(self.seat.id).into_iter().any(|number| kernel.knows(number))
    }

    fn recover(&self, past: &Past, number: Number) -> Result<Node, ViewError> {
        let (first, what) = past.what(number).ok_or(ViewError::Stale)?;
        let moment = self.now.load();
        match what {
            What::Overlay => Ok(Node::Overlay(self.seat.clone())),
            What::Revisions => {
                let above = self.numbers.known(overlay::key()).ok_or(ViewError::Stale)?;
                Ok(Node::Revisions(above, self.seat.clone()))
            }
            What::Text { is_link, bytes } => self.text(&moment, number, is_link, bytes),
            What::Merged { path, parent, born, pin } => {
                let path = path_of(&path).ok_or(ViewError::Stale)?;
                let pin = pin.map(|id| self.set(&moment, RevisionSetId(id))).transpose()?;
                let seat = self.seat.clone();
                let parent = Number(parent);
                Ok(Node::Merged(Arc::new(Merged { path, parent, born, pin, seat })))
            }
            What::Entry { source, parent, path, object, time_secs, is_whole } => {
                let object = object.object().ok_or(ViewError::Stale)?;
                let parent = Number(parent);
                if object == Object::Empty {
                    return Ok(Node::Empty { parent, time_secs });
                }
                let source = self.source(&moment, source, &object, is_whole)?;
                let git = is_whole.then(|| git_of(&source, &object)).flatten();
                let path = path_of(&path).ok_or(ViewError::Stale)?;
                Ok(match object.kind() {
                    Kind::Directory => {
                        let above = (parent, self.seat.id);
                        let tree = Tree::entry(source, object, time_secs, number, above, path);
                        Node::Tree(Arc::new(tree.with_git(git)))
                    }
                    Kind::File { .. } | Kind::Link => {
                        Node::Leaf(Arc::new(Leaf { source, path, object, time_secs }))
                    }
                })
            }
            What::Live { source, parent, path, object, .. } => {
                let object = object.object().ok_or(ViewError::Stale)?;
                let path = path_of(&path).ok_or(ViewError::Stale)?;
                let parent = Number(parent);
                if object == Object::Empty {
                    return Ok(Node::Empty { parent, time_secs: self.started_secs });
                }
                let source = self.live_source(&moment, source, &path, &object)?;
                let view = self.seat.id;
                Ok(Node::Live(Arc::new(Live { source, path, object, parent, view })))
            }
            What::Directories { tree, .. } => self.child(past, Number(tree), number),
            What::Files { tree } => self.file(past, Number(tree), first, number),
            What::Git { tree, .. } => {
                let tree = self.recovered_tree(past, Number(tree))?;
                tree.load(&self.numbers, self.settings.links)?;
                let index = tree.find(b".git").ok_or(ViewError::Stale)?;
                let candidate = Self::tree_child(&tree, index);
                // Of another revision it is another one.
                let is_it = candidate.number == number;
                if is_it { Ok(candidate.node) } else { Err(ViewError::Stale) }
            }
        }
    }

    /// A child of a frozen directory, by its number.
    fn child(&self, past: &Past, tree: Number, number: Number) -> Result<Node, ViewError> {
        let tree = self.recovered_tree(past, tree)?;
        tree.load(&self.numbers, self.settings.links)?;
        let index = tree.numbered(number).ok_or(ViewError::Stale)?;
        Ok(Self::tree_child(&tree, index).node)
    }

    /// A file of the block that begins with `first`: in the directory where it was seen first or, if that was given up, in another one that
    /// has the same files.
    fn file(
        &self,
        past: &Past,
        tree: Number,
        first: Number,
        number: Number,
    ) -> Result<Node, ViewError> {
        self.child(past, tree, number).or_else(|error| match error {
            ViewError::Stale => {
                let mut others = past.with_files(first).into_iter();
                others.find_map(|tree| self.child(past, tree, number).ok()).ok_or(error)
            }
            _ => Err(error),
        })
    }

    /// A frozen directory, by its number. Those above it are made first, without recursion: their depth is up to who wrote the source.
    fn recovered_tree(&self, past: &Past, number: Number) -> Result<Arc<Tree>, ViewError> {
        let mut below = Vec::new();
        let mut at = number;
        let mut tree = loop {
            if let Ok(Node::Tree(tree)) = self.nodes.get(at) {
                break tree;
            }
            if let Some(tree) = past.trees.get(&(self.seat.id, at)) {
                break tree;
            }
            match past.what(at).ok_or(ViewError::Stale)? {
                // A directory has its number before what it holds; a damaged journal may say otherwise, and lead in a circle.
                (first, What::Directories { tree, .. }) if tree < first.0 => {
                    below.push(at);
                    at = Number(tree);
                }
                (_, What::Entry { .. }) => match self.recover(past, at)? {
                    Node::Tree(tree) => break tree,
                    _ => return Err(ViewError::Stale),
                },
                _ => return Err(ViewError::Stale),
            }
        };
        past.trees.insert((self.seat.id, at), tree.clone());
        for number in below.into_iter().rev() {
            tree.load(&self.numbers, self.settings.links)?;
            let index = tree.numbered(number).ok_or(ViewError::Stale)?;
            let Node::Tree(next) = Self::tree_child(&tree, index).node else {
                return Err(ViewError::Stale);
            };
            past.trees.insert((self.seat.id, number), next.clone());
            tree = next;
        }
        Ok(tree)
    }

    /// A file or link of `.overlay`: as it was written down, or written again from a set.
    fn text(
        &self,
        moment: &Moment,
        number: Number,
        is_link: bool,
        bytes: Option<Vec<u8>>,
    ) -> Result<Node, ViewError> {
        let kind = if is_link { Kind::Link } else { Kind::File { is_executable: false } };
        if let Some(bytes) = bytes {
            return Ok(Node::Text(Arc::new(Text { bytes: bytes.into(), kind })));
        }
        for snapshot in self.sets(moment, RECENT) {
            for (name, bytes) in snapshot.texts() {
                let key = overlay::text_key(name, bytes);
                if self.numbers.known_file(key) == Some(number) {
                    return Ok(Node::Text(Arc::new(Text { bytes: bytes.clone(), kind })));
                }
            }
        }
        Err(ViewError::Stale)
    }

    /// A set that can be read.
    fn set(&self, moment: &Moment, id: RevisionSetId) -> Result<Arc<Snapshot>, ViewError> {
        if moment.snapshot.id == id {
            return Ok(moment.snapshot.clone());
        }
        moment.kept(&id).ok_or(ViewError::Stale)?.snapshot(self.archive())
    }

    /// The sets that can be read, at most so many: the present one first, then those left last.
    fn sets<'a>(
        &'a self,
        moment: &'a Moment,
        at_most: usize,
    ) -> impl Iterator<Item = Arc<Snapshot>> + 'a {
        let kept = moment.kept.iter().rev().take(at_most - 1);
        let kept = kept.filter_map(|kept| kept.snapshot(self.archive()).ok());
        [moment.snapshot.clone()].into_iter().chain(kept)
    }

    /// A source of this key that has an object: at the revision that is shown, else at one that is kept.
    fn source(
        &self,
        moment: &Moment,
        key: [u8; 16],
        object: &Object,
        is_whole: bool,
    ) -> Result<Arc<Source>, ViewError> {
        let of_set = |snapshot: Arc<Snapshot>| {
            snapshot.sources.iter().find(|source| source.key == key).cloned()
        };
        let is_top = |source: &Arc<Source>| is_top(source, object);
        let has = |source: &Arc<Source>| has(source.store.as_ref(), object);
        let recent = || self.sets(moment, RECENT);
        let found = is_whole.then(|| recent().filter_map(of_set).find(is_top)).flatten();
        // Most objects are in the repository that is shown; only for those that are not a set is made again.
        let found = found.or_else(|| self.sets(moment, usize::MAX).filter_map(of_set).find(has));
        found.ok_or(ViewError::Stale)
    }

    /// A source of this key that has a live object at a path: a directory, or the `.git` of a source.
    fn live_source(
        &self,
        moment: &Moment,
        key: [u8; 16],
        path: &RelPath,
        object: &Object,
    ) -> Result<Arc<Source>, ViewError> {
        let of_set = |snapshot: Arc<Snapshot>| {
            let gits = snapshot.sources.iter().filter_map(|source| source.git_directory.shown());
            let mut known = snapshot.sources.iter().chain(gits).filter(|source| source.key == key);
            let has = |source: &&Arc<Source>| matches!(walk::find(source.store.as_ref(), path), Ok(Some(found)) if found == *object);
            known.find(has).cloned()
        };
        self.sets(moment, RECENT).find_map(of_set).ok_or(ViewError::Stale)
    }
}

/// Whether an object is the top of a source.
fn is_top(source: &Source, object: &Object) -> bool {
    object.kind().is_directory() && source.store.root().is_ok_and(|top| top == *object)
}

/// The `.git` of a source that is shown whole, if it is that of this object.
fn git_of(source: &Source, object: &Object) -> Option<Arc<Source>> {
    source.git_directory.shown().filter(|_| is_top(source, object)).cloned()
}

/// Whether a store can read an object at all.
fn has(store: &dyn Store, object: &Object) -> bool {
    if object.kind().is_directory() {
        store.list(object).is_ok()
    } else {
        store.attributes(object).is_ok()
    }
}
