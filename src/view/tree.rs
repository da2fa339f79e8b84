//! What nodes stand for: frozen directories with their listings, and files; merged directories are in `merged`.

use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::attr::Attr;
use super::journal::What;
use super::nodes::Number;
use super::numbers::{NodeKey, Numbers};
use super::superblock::ViewId;
use super::{ViewError, git};
use crate::config::resolved::Links;
use crate::snapshot::Source;
use crate::store::{Listed, StoreError, walk};
use crate::union::name::RelPath;
use crate::union::object::{Kind, Object};

/// A file or link of `.overlay`; it never changes.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) bytes: Arc<[u8]>,
    pub(super) kind: Kind,
}

/// An entry that is itself a frozen file or link.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) source: Arc<Source>,
    /// Where it is in its source.
    pub(super) path: RelPath,
    pub(super) object: Object,
    pub(super) time_secs: i64,
}

impl Leaf {
    pub(super) fn attr(&self, number: Number) -> Result<Attr, ViewError> {
        let attributes = self.source.store.attributes(&self.object);
        let attributes = attributes.map_err(|cause| unreadable(&self.source, &self.path, cause))?;
        Ok(Attr::from_store(number, attributes, self.time_secs))
    }
}

/// A file, directory or link of a live source.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) source: Arc<Source>,
    /// Where it was found in its source.
    pub(super) path: RelPath,
    pub(super) object: Object,
    /// The number of the directory that holds it.
    pub(super) parent: Number,
    /// The view that it is in; of a file the one that found it first.
    pub(super) view: ViewId,
}

impl Live {
    pub(super) fn attr(&self, number: Number) -> Result<Attr, ViewError> {
        let attributes = self.source.store.attributes(&self.object);
        let attributes = attributes.map_err(|cause| unreadable(&self.source, &self.path, cause))?;
        Ok(Attr::from_store(number, attributes, 0))
    }
}

/// A frozen directory at one place in the view.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) source: Arc<Source>,
    pub(super) object: Object,
    pub(super) time_secs: i64,
    /// Its own number.
    pub(super) number: Number,
    /// The view that it is in.
    pub(super) view: ViewId,
    above: Above,
    /// The `.git` in it, where it is a source that is shown whole and has one.
    git: Option<Arc<Source>>,
    listing: OnceLock<Listing>,
}

/// What holds a frozen directory.
#[derive(Debug)]
enum Above {
    /// It is an entry: the number of the merged directory, and its own path in the source.
    Entry(Number, RelPath),
    /// It is a child, by position, of a frozen directory.
    Tree(Arc<Tree>, u32),
}

/// What a frozen directory holds. Numbers come from two blocks: files and links have the same ones wherever the directory is shown,
/// directories have others at each place, since the kernel allows a directory a single name.
#[derive(Debug)]
struct Listing {
    children: Vec<Child>,
}

#[derive(Debug)]
struct Child {
    listed: Listed,
    number: Number,
    /// The size in bytes once it is known, else [`UNKNOWN`].
    size: AtomicU64,
}

const UNKNOWN: u64 = u64::MAX;

/// There is one for each name that was listed: it is kept small.
const _: () = assert!(size_of::<Child>() <= 72);

impl Tree {
    /// A frozen directory that is an entry.
    pub(super) fn entry(
        source: Arc<Source>,
        object: Object,
        time_secs: i64,
        number: Number,
        above: (Number, ViewId),
        path: RelPath,
    ) -> Self {
        let (parent, view) = above;
        let above = Above::Entry(parent, path);
        Self { source, object, time_secs, number, view, above, git: None, listing: OnceLock::new() }
    }

    /// The same with a `.git`.
    pub(super) fn with_git(mut self, git: Option<Arc<Source>>) -> Self {
        self.git = git;
        self
    }

    /// Where its live child is: its `.git` is the only one.
    pub(super) fn git(&self) -> &Arc<Source> {
        self.git.as_ref().unwrap_or(&self.source)
    }

    /// The frozen directory that is the child at `index`.
    pub(super) fn child_tree(self: &Arc<Self>, index: u32) -> Self {
        let child = self.child(index);
        Self {
            source: self.source.clone(),
            object: child.listed.object.clone(),
            time_secs: self.time_secs,
            number: child.number,
            view: self.view,
            above: Above::Tree(self.clone(), index),
            git: None,
            listing: OnceLock::new(),
        }
    }

    /// The number of the directory that holds it.
    pub(super) fn parent(&self) -> Number {
        match &self.above {
            Above::Entry(parent, _) => *parent,
            Above::Tree(tree, _) => tree.number,
        }
    }

    /// Where it is in its source.
    pub(super) fn path(&self) -> RelPath {
        let mut names = Vec::new();
        let mut tree = self;
        let entry = loop {
            match &tree.above {
                Above::Entry(_, path) => break path,
                Above::Tree(above, index) => {
                    names.push(above.child(*index).listed.name.clone());
                    tree = above;
                }
            }
        };
        entry.names().iter().cloned().chain(names.into_iter().rev()).collect()
    }

    /// Lists it, once; later calls cost nothing.
    pub(super) fn load(&self, numbers: &Numbers, links: Links) -> Result<(), ViewError> {
        if self.listing.get().is_none() {
            let listing = self.list(numbers, links)?;
            // Two threads may have listed it: the same object gives the same listing and the same numbers.
            self.listing.get_or_init(|| listing);
        }
        Ok(())
    }

    /// How many children it has. Only after [`Tree::load`].
    pub(super) fn len(&self) -> usize {
        self.listing().children.len()
    }

    /// The position of a name, if it is there. Only after [`Tree::load`].
    pub(super) fn find(&self, name: &[u8]) -> Option<u32> {
        let children = &self.listing().children;
        let found = children.binary_search_by(|child| child.listed.name.as_bytes().cmp(name));
        found.ok().and_then(|index| u32::try_from(index).ok())
    }

    /// The position of the child that has this number. Only after [`Tree::load`].
    pub(super) fn numbered(&self, number: Number) -> Option<u32> {
        let mut children = self.listing().children.iter().zip(0..);
        children.find(|(child, _)| child.number == number).map(|(_, index)| index)
    }

    /// Name and object of a child, and its number.
    pub(super) fn child_at(&self, index: u32) -> (&Listed, Number) {
        let child = self.child(index);
        (&child.listed, child.number)
    }

    /// The attributes of a child. The size is asked for once.
    pub(super) fn child_attr(&self, number: Number, index: u32) -> Result<Attr, ViewError> {
        let child = self.child(index);
        let kind = child.listed.object.kind();
        if kind.is_directory() {
            return Ok(Attr::directory(number, self.time_secs));
        }
        let mut size_bytes = child.size.load(Ordering::Relaxed);
        if size_bytes == UNKNOWN {
            let attributes = self.source.store.attributes(&child.listed.object);
            let attributes = attributes
                .map_err(|cause| unreadable(&self.source, &self.child_path(index), cause))?;
            size_bytes = attributes.size_bytes;
            child.size.store(size_bytes, Ordering::Relaxed);
        }
        Ok(Attr { number, kind, size_bytes, modified: (self.time_secs, 0) })
    }

    /// The size of a child, if it has been asked for.
    pub(super) fn known_size(&self, index: u32) -> Option<u64> {
        let size_bytes = self.child(index).size.load(Ordering::Relaxed);
        (size_bytes != UNKNOWN).then_some(size_bytes)
    }

    /// Where a child is in the source.
    pub(super) fn child_path(&self, index: u32) -> RelPath {
        self.path().join(&self.child(index).listed.name)
    }

    fn listing(&self) -> &Listing {
        self.listing.get().expect("a child is known only of a directory that was listed")
    }

    fn child(&self, index: u32) -> &Child {
        &self.listing().children[index as usize]
    }

    fn list(&self, numbers: &Numbers, links: Links) -> Result<Listing, ViewError> {
        let store = &self.source.store;
        let failed = |cause| unreadable(&self.source, &self.path(), cause);
        let listed = store.list(&self.object).map_err(failed)?;
        let directories = listed.iter().filter(|child| child.object.kind().is_directory()).count();
        let tree = self.number.0;
        let files = listed.len() - directories;
        let mut next_file = numbers.files(self.files_key(), files, || What::Files { tree })?;
        // Of no files there is no number.
        let files = if files == 0 { 0 } else { next_file.0 };
        let what = || What::Directories { tree, files };
        let mut next_directory = numbers.block(self.directories_key(), directories, what)?;
        let mut children: Vec<_> = listed
            .into_iter()
            .map(|listed| {
                let next = match listed.object.kind() {
                    Kind::Directory => &mut next_directory,
                    Kind::File { .. } | Kind::Link => &mut next_file,
                };
                let number = mem::replace(next, Number(next.0.saturating_add(1)));
                Child { listed, number, size: AtomicU64::new(UNKNOWN) }
            })
            .collect();
        if links == Links::Inside {
            // Only now: whether a link stays inside is up to all of its source, and a number to this directory alone.
            let path = self.path();
            children.retain(|child| stays_inside(&self.source, &path, &child.listed.object));
        }
        if let Some(git) = &self.git {
            let (listed, number) = git::child(git, self.number, numbers)?;
            let place = children.partition_point(|other: &Child| other.listed.name < listed.name);
            children.insert(place, Child { listed, number, size: AtomicU64::new(UNKNOWN) });
        }
        Ok(Listing { children })
    }

    /// Names the block of its files: source, path, object and time, wherever it is shown.
    fn files_key(&self) -> NodeKey {
        let path = self.path().to_bytes();
        let oid = object_bytes(&self.object);
        NodeKey::new(&[b"files", &self.source.key, &path, &oid, &self.time_secs.to_le_bytes()])
    }

    /// Names the block of its directories: its own number stands for the place and all of the above.
    fn directories_key(&self) -> NodeKey {
        NodeKey::new(&[b"directories", &self.number.0.to_le_bytes()])
    }
}

/// Unwinds long chains of directories without recursion: the depth of a source is up to whoever wrote it.
impl Drop for Tree {
    fn drop(&mut self) {
        let nothing = || Above::Entry(Number::ROOT, RelPath::root());
        let mut above = mem::replace(&mut self.above, nothing());
        while let Above::Tree(tree, _) = above {
            match Arc::into_inner(tree) {
                Some(mut last) => above = mem::replace(&mut last.above, nothing()),
                None => break,
            }
        }
    }
}

/// False for a link that leaves its source, or of which that cannot be told.
pub(super) fn stays_inside(source: &Source, directory: &RelPath, object: &Object) -> bool {
    if object.kind() != Kind::Link {
        return true;
    }
    let target = source.store.read_link(object);
    let leaves =
        target.and_then(|target| walk::leaves_source(source.store.as_ref(), directory, &target));
    matches!(leaves, Ok(false))
}

/// The bytes that tell an object from all others at the same path of the same source.
pub(super) fn object_bytes(object: &Object) -> Vec<u8> {
    match object {
        Object::Frozen { kind, oid } => {
            let kind = match kind {
                Kind::Directory => b'd',
                Kind::File { is_executable: false } => b'f',
                Kind::File { is_executable: true } => b'x',
                Kind::Link => b'l',
            };
            [&[kind], oid.as_bytes()].concat()
        }
        Object::Empty => b"e".to_vec(),
        Object::Live { kind, file } => {
            let identity = &file.identity;
            let kind = match kind {
                Kind::Directory => b'D',
                Kind::File { .. } => b'F',
                Kind::Link => b'L',
            };
            let device = identity.device.to_le_bytes();
            let inode = identity.inode.to_le_bytes();
            [&[kind], &device[..], &inode, &identity.born_nanos.to_le_bytes()].concat()
        }
    }
}

/// The view's error for a store's, at a path of a source.
pub(super) fn unreadable(source: &Source, path: &RelPath, cause: StoreError) -> ViewError {
    match cause {
        StoreError::Gone => ViewError::Stale,
        StoreError::Denied => ViewError::Denied,
        StoreError::NotADirectory => ViewError::NotADirectory,
        StoreError::IsADirectory => ViewError::IsADirectory,
        StoreError::NotALink => ViewError::NotALink,
        cause @ (StoreError::Unreadable { .. }
        | StoreError::NotACommit { .. }
        | StoreError::Unavailable { .. }
        | StoreError::TooLarge { .. }
        | StoreError::NoRoom { .. }
        | StoreError::NoOpenat2
        | StoreError::Io(_)) => ViewError::Unreadable {
            source_label: source.label.clone(),
            path: path.to_string(),
            cause,
        },
    }
}
