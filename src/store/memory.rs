//! A store in memory, for tests: content-addressed as git is, so that equal trees have equal ids.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what helps a test may fail it")]

use std::collections::{BTreeMap, HashMap, HashSet};

use sha2::{Digest, Sha256};

use super::empty::EMPTY_DIRECTORY;
use super::{Attributes, Listed, Store, StoreError};
use crate::union::name::{Name, RelPath};
use crate::union::object::{Kind, Object, Oid};

/// What will be in a [`MemoryStore`].
#[derive(Debug, Default)]
pub struct MemoryBuilder {
    root: GrowingMemory,
    unreadable: Vec<RelPath>,
}

#[derive(Debug)]
enum GrowingMemory {
    Directory(BTreeMap<Name, GrowingMemory>),
    Leaf(Kind, Vec<u8>),
    Empty,
}

impl Default for GrowingMemory {
    fn default() -> Self {
        Self::Directory(BTreeMap::new())
    }
}

impl MemoryBuilder {
    /// Adds a regular file, and the directories above it.
    #[must_use]
    pub fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.leaf(path, Kind::File { is_executable: false }, content.as_ref())
    }

    /// Adds an executable file.
    #[must_use]
    pub fn exec(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.leaf(path, Kind::File { is_executable: true }, content.as_ref())
    }

    /// Adds a link.
    #[must_use]
    pub fn link(self, path: &str, target: impl AsRef<[u8]>) -> Self {
        self.leaf(path, Kind::Link, target.as_ref())
    }

    /// Adds a directory, which may stay empty.
    #[must_use]
    pub fn directory(self, path: &str) -> Self {
        self.put(path, GrowingMemory::default())
    }

    /// Adds a submodule: a directory in which nothing is shown.
    #[must_use]
    pub fn submodule(self, path: &str) -> Self {
        self.put(path, GrowingMemory::Empty)
    }

    /// Makes every question about the object at this path, once built, an error. Equal objects elsewhere share it.
    ///
    /// # Panics
    /// The path is none.
    #[must_use]
    pub fn unreadable(mut self, path: &str) -> Self {
        self.unreadable.push(RelPath::parse(path).unwrap());
        self
    }

    fn leaf(self, path: &str, kind: Kind, content: &[u8]) -> Self {
        self.put(path, GrowingMemory::Leaf(kind, content.to_vec()))
    }

    fn put(mut self, path: &str, what: GrowingMemory) -> Self {
        let path = RelPath::parse(path).unwrap();
        let (last, above) = path.names().split_last().unwrap();
        let mut at = &mut self.root;
        for name in above {
            let GrowingMemory::Directory(children) = at else { panic!("`{path}` is below a file") };
            at = children.entry(name.clone()).or_default();
        }
        let GrowingMemory::Directory(children) = at else { panic!("`{path}` is below a file") };
        children.insert(last.clone(), what);
        self
    }

    /// Ends the building.
    pub fn build(self) -> MemoryStore {
        let mut nodes = HashMap::new();
        let root = freeze(self.root, &mut nodes);
        let mut store = MemoryStore { root, nodes, unreadable: HashSet::new() };
        let broken: Vec<_> = self.unreadable.iter().filter_map(|path| store.at(path)).collect();
        store.unreadable = broken.into_iter().collect();
        store
    }
}

fn freeze(growing: GrowingMemory, nodes: &mut HashMap<Object, MemoryNode>) -> Object {
    let (kind, node) = match growing {
        GrowingMemory::Empty => return Object::Empty,
        GrowingMemory::Leaf(kind, content) => (kind, MemoryNode::Content(content)),
        GrowingMemory::Directory(children) => {
            let children = children.into_iter();
            let listed =
                children.map(|(name, child)| Listed { name, object: freeze(child, nodes) });
            (Kind::Directory, MemoryNode::Directory(listed.collect()))
        }
    };
    let digest = Sha256::digest(format!("{node:?}"));
    let oid = Oid::from_bytes(&digest[..20]).expect("an id has 20 bytes");
    let object = Object::Frozen { kind, oid };
    nodes.insert(object.clone(), node);
    object
}

/// A source in memory.
#[derive(Debug)]
pub struct MemoryStore {
    root: Object,
    nodes: HashMap<Object, MemoryNode>,
    unreadable: HashSet<Object>,
}

#[derive(Debug)]
enum MemoryNode {
    Directory(Vec<Listed>),
    Content(Vec<u8>),
}

impl MemoryStore {
    /// Starts with an empty directory.
    pub fn builder() -> MemoryBuilder {
        MemoryBuilder::default()
    }

    /// The object at a path, if there is one.
    pub fn at(&self, path: &RelPath) -> Option<Object> {
        path.names().iter().try_fold(self.root.clone(), |object, name| {
            self.lookup(&object, name.as_bytes()).ok().flatten()
        })
    }

    fn node(&self, object: &Object) -> Result<&MemoryNode, StoreError> {
        if self.unreadable.contains(object) {
            let oid = object.oid().ok_or(StoreError::Gone)?;
            let cause = "made unreadable".to_owned();
            return Err(StoreError::Unreadable { oid: oid.to_string(), cause });
        }
        self.nodes.get(object).ok_or(StoreError::Gone)
    }
}

impl Store for MemoryStore {
    fn root(&self) -> Result<Object, StoreError> {
        Ok(self.root.clone())
    }

    fn list(&self, directory: &Object) -> Result<Vec<Listed>, StoreError> {
        if *directory == Object::Empty {
            return Ok(Vec::new());
        }
        match self.node(directory)? {
            MemoryNode::Directory(children) => Ok(children.clone()),
            MemoryNode::Content(_) => Err(StoreError::NotADirectory),
        }
    }

    fn lookup(&self, directory: &Object, name: &[u8]) -> Result<Option<Object>, StoreError> {
        let children = self.list(directory)?;
        let found = children.into_iter().find(|listed| listed.name.as_bytes() == name);
        Ok(found.map(|listed| listed.object))
    }

    fn attributes(&self, object: &Object) -> Result<Attributes, StoreError> {
        if *object == Object::Empty {
            return Ok(EMPTY_DIRECTORY);
        }
        let size_bytes = match self.node(object)? {
            MemoryNode::Directory(_) => 0,
            MemoryNode::Content(content) => content.len() as u64,
        };
        Ok(Attributes { kind: object.kind(), size_bytes, modified: None })
    }

    fn read(&self, file: &Object, offset: u64, len: usize) -> Result<Vec<u8>, StoreError> {
        if file.kind().is_directory() {
            return Err(StoreError::IsADirectory);
        }
        match self.node(file)? {
            MemoryNode::Directory(_) => Err(StoreError::IsADirectory),
            MemoryNode::Content(content) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
                let end = start.saturating_add(len).min(content.len());
                Ok(content[start..end].to_vec())
            }
        }
    }

    fn read_link(&self, link: &Object) -> Result<Vec<u8>, StoreError> {
        if link.kind() != Kind::Link {
            return Err(StoreError::NotALink);
        }
        self.read(link, 0, usize::MAX)
    }
}
