//! Objects: what a name in a source leads to.

use std::fmt;

use super::hex::Hex;
use super::name::RelPath;

/// The type of an object, as far as the view distinguishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Whether its owner may execute it.
        is_executable: bool,
    },
    /// A symbolic link.
    Link,
}

impl Kind {
    /// True for a directory.
    pub fn is_directory(self) -> bool {
        matches!(self, Self::Directory)
    }

    /// True for a regular file.
    pub fn is_file(self) -> bool {
        matches!(self, Self::File { .. })
    }
}

/// A git object id of 20 (SHA-1) or 32 (SHA-256) bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Oid {
    len: u8,
    bytes: [u8; 32],
}

impl Oid {
    /// Takes 20 or 32 bytes; `None` for any other length.
    pub fn from_bytes(id: &[u8]) -> Option<Self> {
        if id.len() != 20 && id.len() != 32 {
            return None;
        }
        let mut bytes = [0; 32];
        bytes[..id.len()].copy_from_slice(id);
        Some(Self { len: u8::try_from(id.len()).ok()?, bytes })
    }

    /// The id's 20 or 32 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Shows the id as lower-case hexadecimal digits.
impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(self.as_bytes()).fmt(f)
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What tells a file of a live directory from every other one, also from a later one at the same path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// The device that holds the file.
    pub device: u64,
    /// Its inode number there.
    pub inode: u64,
    /// When it was made, in nanoseconds since 1970; 0 where the file system does not say.
    pub born_nanos: i128,
}

/// A file, directory or link that was found in a live directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LiveFile {
    /// Where it was found, below the source's root.
    pub path: RelPath,
    /// Which file was found there.
    pub identity: Identity,
}

/// What a name in a source leads to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Object {
    /// A git object: never changes.
    Frozen {
        /// Its type, from the mode in the tree that names it.
        kind: Kind,
        /// Its id.
        oid: Oid,
    },
    /// A directory in which nothing is shown: a submodule, or a mount point inside a live source.
    Empty,
    /// A file of a live directory: its content and attributes change under the same identity.
    Live {
        /// Its type; another type is another object.
        kind: Kind,
        /// Which file it is. Boxed, so that frozen objects, which are the most, need not be as large.
        file: Box<LiveFile>,
    },
}

/// There is one for each name that was ever listed, so it is kept small.
const _: () = assert!(size_of::<Object>() <= 40);

impl Object {
    /// A file of this type that was found in a live directory.
    pub fn live(kind: Kind, path: RelPath, identity: Identity) -> Self {
        Self::Live { kind, file: Box::new(LiveFile { path, identity }) }
    }

    /// The id of a git object; `None` for what has none.
    pub fn oid(&self) -> Option<&Oid> {
        match self {
            Self::Frozen { oid, .. } => Some(oid),
            Self::Empty | Self::Live { .. } => None,
        }
    }

    /// The type of the object.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Frozen { kind, .. } | Self::Live { kind, .. } => *kind,
            Self::Empty => Kind::Directory,
        }
    }
}
