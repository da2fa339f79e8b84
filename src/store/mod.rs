//! Objects by id: where the bytes of sources come from.
//!
//! A [`Store`] is one source at one revision. Implementations: git objects ([`git`]), a live directory ([`dir`]), and one in
//! memory for tests. Nothing here knows surfaces, layers or the view. No store follows a link; [`walk`] does, and never out of the source.

pub mod blobs;
pub mod dir;
pub mod empty;
#[cfg(test)]
pub(crate) mod few_descriptors;
pub mod git;
#[cfg(any(test, fuzzing))]
pub mod memory;
pub(crate) mod patience;
pub mod state_dir;
pub mod walk;

use std::fmt::{self, Debug};
use std::fs::File;
use std::path::PathBuf;

use thiserror::Error;

use crate::union::name::{Name, NameError};
use crate::union::object::{Kind, Object};

/// A name in a directory of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The name.
    pub name: Name,
    /// What it leads to.
    pub object: Object,
}

/// A stored name that a store does not serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The name as it is stored.
    pub name: Vec<u8>,
    /// Why it is not served.
    pub reason: LeftOutReason,
}

/// Why a store does not serve a name (S30).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LeftOutReason {
    /// No directory can hold the name.
    BadName(NameError),
    /// The name is `.git`.
    GitDirectory,
    /// The mode is none that git writes.
    UnknownMode,
    /// An earlier entry has the same name.
    Repeated,
}

/// Says what is wrong with the name, to follow it in a sentence.
impl fmt::Display for LeftOutReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadName(error) => write!(f, "{error}"),
            Self::GitDirectory => f.write_str("is `.git`"),
            Self::UnknownMode => f.write_str("has an unknown mode"),
            Self::Repeated => f.write_str("repeats a name"),
        }
    }
}

/// What `stat` needs beyond the type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// The type; of a live file the permission may have changed since it was listed.
    pub kind: Kind,
    /// Bytes of content: of a file, or of a link's target; 0 for a directory.
    pub size_bytes: u64,
    /// The time of its last modification (seconds, nanoseconds); `None` where the store has none of its own (git).
    pub modified: Option<(i64, u32)>,
}

/// One source at one revision, readable.
pub trait Store: Send + Sync + Debug {
    /// The directory at the top of the source.
    ///
    /// # Errors
    /// The top cannot be read.
    fn root(&self) -> Result<Object, StoreError>;

    /// The names of a directory, sorted by bytes, each once, without those that are never shown (S17, S30).
    ///
    /// # Errors
    /// `directory` is none, is gone, or cannot be read.
    fn list(&self, directory: &Object) -> Result<Vec<Listed>, StoreError>;

    /// The names of a directory as [`Store::list`] gives them, and those that are stored and not served.
    ///
    /// # Errors
    /// `directory` is none, is gone, or cannot be read.
    fn list_with_left_out(
        &self,
        directory: &Object,
    ) -> Result<(Vec<Listed>, Vec<LeftOut>), StoreError> {
        self.list(directory).map(|listed| (listed, Vec::new()))
    }

    /// The object of this name in a directory; `None` if the directory does not show it.
    ///
    /// # Errors
    /// `directory` is none, is gone, or cannot be read.
    fn lookup(&self, directory: &Object, name: &[u8]) -> Result<Option<Object>, StoreError>;

    /// Whether the name in a directory is a fifo, a socket or a device, which are never shown (S29). Nothing else is asked of it.
    fn has_special_file(&self, _directory: &Object, _name: &Name) -> bool {
        false
    }

    /// Size and times of an object, without reading its content.
    ///
    /// # Errors
    /// The object is gone or cannot be read.
    fn attributes(&self, object: &Object) -> Result<Attributes, StoreError>;

    /// Bytes of a file from `offset`: `len` of them, or as many as there are before its end.
    ///
    /// # Errors
    /// The object is gone or cannot be read. Never fewer bytes than that without an error.
    fn read(&self, file: &Object, offset: u64, len: usize) -> Result<Vec<u8>, StoreError>;

    /// The same as [`Store::read`], but `None` where that would take long: a large object must be decoded first. `size_bytes` is what
    /// [`Store::attributes`] said of the file, where that is known: then nobody asks for it again.
    ///
    /// # Errors
    /// As [`Store::read`].
    fn read_at_hand(
        &self,
        file: &Object,
        _size_bytes: Option<u64>,
        offset: u64,
        len: usize,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(file, offset, len).map(Some)
    }

    /// Whether the content of a file is in a file of ours once it was decoded ([`Store::kept_file`]). `size_bytes` as for
    /// [`Store::read_at_hand`].
    ///
    /// # Errors
    /// The object is gone or cannot be read.
    fn has_kept_file(&self, _file: &Object, _size_bytes: Option<u64>) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// The file of ours that has the whole content of a large file; `None` where there is none.
    ///
    /// # Errors
    /// As [`Store::read`].
    fn kept_file(&self, _file: &Object) -> Result<Option<File>, StoreError> {
        Ok(None)
    }

    /// The target of a link, verbatim.
    ///
    /// # Errors
    /// The object is no link, is gone, or cannot be read.
    fn read_link(&self, link: &Object) -> Result<Vec<u8>, StoreError>;

    /// A digest of the LFS objects that are served in the place of their pointers: with the revision it decides every
    /// byte of the source. `None` if there are none.
    fn lfs_digest(&self) -> Option<[u8; 32]> {
        None
    }
}

/// Why a store did not answer.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The object was there when it was listed and is not any more.
    #[error("it was removed or replaced")]
    Gone,
    /// The daemon may not read it.
    #[error("permission denied")]
    Denied,
    /// The kernel has no `openat2`, or a filter of system calls takes it away.
    #[error("the kernel does not answer openat2")]
    NoOpenat2,
    /// A directory was expected.
    #[error("it is not a directory")]
    NotADirectory,
    /// A file was expected.
    #[error("it is a directory")]
    IsADirectory,
    /// A link was expected.
    #[error("it is not a symbolic link")]
    NotALink,
    /// The repository lacks an object, or what it has is damaged.
    #[error("object {oid}: {cause}")]
    Unreadable {
        /// The id in hexadecimal digits.
        oid: String,
        /// What was wrong, in the words of the library that read it.
        cause: String,
    },
    /// What should be a commit is another object.
    #[error("object {oid} is a {kind}, not a commit")]
    NotACommit {
        /// The id in hexadecimal digits.
        oid: String,
        /// What it is: `tree`, `blob` or `tag`.
        kind: String,
    },
    /// Whether the repository has the object cannot be told at the moment: the process has no descriptors or no memory left, or a disk fails.
    #[error("object {oid}: it cannot be read at the moment: {cause}")]
    Unavailable {
        /// The id in hexadecimal digits.
        oid: String,
        /// What the operating system said.
        cause: String,
    },
    /// The content is larger than what is read.
    #[error(
        "object {oid} has {size_bytes} bytes, and at most {limit_bytes} are read: what `state.objectBytes` says, and 1GiB of what has to be decoded in memory"
    )]
    TooLarge {
        /// The id in hexadecimal digits.
        oid: String,
        /// Its size.
        size_bytes: u64,
        /// The most that is read.
        limit_bytes: u64,
    },
    /// A large blob was decoded and there was no place to keep it.
    #[error("object {oid}: no room for its {size_bytes} bytes in `{}`: {error}; free room there, or set `state.dir` to a place with more", directory.display())]
    NoRoom {
        /// The id in hexadecimal digits.
        oid: String,
        /// Its size.
        size_bytes: u64,
        /// The cache directory.
        directory: PathBuf,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// The operating system failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl StoreError {
    /// Whether it is about this moment, and not about what is read: it may pass by itself.
    pub fn is_momentary(&self) -> bool {
        match self {
            Self::Unavailable { .. } => true,
            Self::Io(error) => is_momentary(error),
            Self::Gone
            | Self::Denied
            | Self::NoOpenat2
            | Self::NotADirectory
            | Self::IsADirectory
            | Self::NotALink
            | Self::Unreadable { .. }
            | Self::NotACommit { .. }
            | Self::TooLarge { .. }
            | Self::NoRoom { .. } => false,
        }
    }
}

/// Whether the operating system failed for want of descriptors or memory, or because a disk or its server failed.
pub(crate) fn is_momentary(error: &std::io::Error) -> bool {
    let Some(number) = error.raw_os_error() else {
        return error.kind() == std::io::ErrorKind::OutOfMemory;
    };
    [
        libc::EMFILE,
        libc::ENFILE,
        libc::ENOMEM,
        libc::ENOBUFS,
        libc::EAGAIN,
        libc::EINTR,
        libc::EIO,
        libc::ETIMEDOUT,
    ]
    .contains(&number)
}
