//! Git objects: a repository at one commit. Trees, commits and links are checked here, since nobody did before.
//!
//! `repository` opens one, `objects` asks it for objects: `loose` and `stream` read some files by themselves, `bases` caches for the library,
//! `again` is the second try. `commit` and `tree` decode. [`pin`] and `copy` keep objects that their repository may lose. [`lfs`] finds what
//! pointers name.

mod again;
mod bases;
mod commit;
mod copy;
mod digest;
#[cfg(test)]
pub(crate) mod fixture;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod lfs;
mod loose;
#[cfg(test)]
mod moment_tests;
mod noted;
mod objects;
pub mod pin;
#[cfg(test)]
mod pin_tests;
mod regular;
mod repository;
mod stream;
#[cfg(test)]
mod stream_tests;
mod tree;

pub use commit::{Commit, oid};
pub use regular::is_special;
pub use repository::{OpenError, Repository};

use std::fmt;
use std::fs::File;
use std::sync::Arc;

use arc_swap::ArcSwap;
use gix::objs::Kind as GitKind;

use self::lfs::{LfsObjects, POINTER_BYTES, Pointer};
use self::objects::{expect_id, expect_kind, unreadable};
use self::pin::PinDirectory;
use super::blobs::{BlobCache, BlobKey, BlobOrigin, read_exactly};
use super::empty::EMPTY_DIRECTORY;
use super::{Attributes, LeftOut, Listed, Store, StoreError};
use crate::union::object::{Kind, Object, Oid};

/// Targets of links are shorter than this, in bytes (`PATH_MAX`, `limits.h`).
const TARGET_BYTES: u64 = 4096;

/// A repository at one commit.
pub struct GitStore {
    repository: ArcSwap<Repository>,
    commit: Oid,
    tree: Oid,
    id_len: usize,
    blobs: Arc<BlobCache>,
    lfs: Option<LfsObjects>,
}

/// Where the bytes of a file are.
enum BlobBytes {
    Blob,
    Lfs(Pointer),
}

/// A blob, and the LFS object that stands for it.
type LocatedBlob<'a> = (&'a Oid, Option<(&'a LfsObjects, Pointer)>);

impl GitStore {
    /// Serves the tree of a commit. With `lfs` a pointer whose object is among these is served as the object.
    ///
    /// # Errors
    /// The commit or the tree at its top cannot be read.
    pub fn new(
        repository: Arc<Repository>,
        commit: Oid,
        blobs: Arc<BlobCache>,
        lfs: Option<LfsObjects>,
    ) -> Result<Self, StoreError> {
        let tree = repository.commit(&commit)?.tree;
        let id_len = repository.id_len();
        let repository = ArcSwap::new(repository);
        let store = Self { repository, commit, tree, id_len, blobs, lfs };
        store.root().and_then(|root| store.list(&root))?;
        Ok(store)
    }

    /// The commit that it serves.
    pub fn commit(&self) -> Oid {
        self.commit
    }

    /// The repository.
    pub fn repository(&self) -> Arc<Repository> {
        self.repository.load_full()
    }

    /// The repository that it was made for: the one that lends to the pin, where it reads from one.
    pub fn lender(&self) -> Arc<Repository> {
        let repository = self.repository.load_full();
        repository.lender().unwrap_or(repository)
    }

    /// The LFS objects that it serves, where it serves any.
    pub fn lfs(&self) -> Option<&LfsObjects> {
        self.lfs.as_ref()
    }

    /// Reads from another repository from now on, which has the same objects: a pin of the first.
    pub fn adopt(&self, repository: Arc<Repository>) {
        self.repository.store(repository);
    }

    fn tree(&self, oid: &Oid) -> Result<Vec<u8>, StoreError> {
        self.repository().object(oid, GitKind::Tree)
    }

    fn key(&self, oid: &Oid) -> BlobKey {
        BlobKey { repository: self.repository().key(), oid: *oid }
    }

    fn blob_size(&self, oid: &Oid) -> Result<u64, StoreError> {
        let size_bytes = self.repository().size(oid)?;
        if size_bytes == 0 {
            // Nobody reads what is empty: a size that lies would be found by nobody later (S100).
            expect_id(oid, GitKind::Blob, b"")?;
        }
        Ok(size_bytes)
    }

    fn blob_bytes(&self, oid: &Oid, offset: u64, len: usize) -> Result<Vec<u8>, StoreError> {
        self.blobs.read(self.key(oid), self.repository().as_ref(), offset, len)
    }

    /// The blob of a file, and the LFS object that is served in its place, if there is one.
    fn located<'a>(&'a self, file: &'a Object) -> Result<LocatedBlob<'a>, StoreError> {
        let oid = match file {
            Object::Frozen { kind: Kind::File { .. }, oid } => oid,
            Object::Frozen { kind: Kind::Directory, .. } | Object::Empty => {
                return Err(StoreError::IsADirectory);
            }
            Object::Frozen { kind: Kind::Link, oid } => {
                return Err(unreadable(oid, "it is a link"));
            }
            Object::Live { .. } => return Err(StoreError::Gone),
        };
        if let Some(lfs) = &self.lfs
            && let (BlobBytes::Lfs(pointer), _) = self.content(oid)?
        {
            return Ok((oid, Some((lfs, pointer))));
        }
        Ok((oid, None))
    }

    /// Bytes of the LFS object that stands for a pointer.
    fn lfs_bytes(
        &self,
        lfs: &LfsObjects,
        oid: &Oid,
        pointer: &Pointer,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, StoreError> {
        let repository = self.repository();
        let pin = repository.pin().map(PinDirectory::lfs_dir);
        let file = lfs.open(pointer, pin.as_deref());
        let file = file.map_err(|error| unreadable(oid, &format!("lfs: {error}")))?;
        read_exactly(&file, pointer.size_bytes, offset, len)
    }

    /// Where the bytes of a blob are, and how many there are.
    fn content(&self, oid: &Oid) -> Result<(BlobBytes, u64), StoreError> {
        let size_bytes = self.blob_size(oid)?;
        if let Some(lfs) = &self.lfs
            && size_bytes < POINTER_BYTES
            && !lfs.is_empty()
        {
            let bytes = self.blob_bytes(oid, 0, usize::MAX)?;
            if let Some(pointer) = Pointer::parse(&bytes).filter(|pointer| lfs.holds(pointer)) {
                return Ok((BlobBytes::Lfs(pointer), pointer.size_bytes));
            }
        }
        Ok((BlobBytes::Blob, size_bytes))
    }
}

impl Store for GitStore {
    fn root(&self) -> Result<Object, StoreError> {
        Ok(Object::Frozen { kind: Kind::Directory, oid: self.tree })
    }

    fn list(&self, directory: &Object) -> Result<Vec<Listed>, StoreError> {
        self.list_with_left_out(directory).map(|(listed, _)| listed)
    }

    fn list_with_left_out(
        &self,
        directory: &Object,
    ) -> Result<(Vec<Listed>, Vec<LeftOut>), StoreError> {
        let Some(oid) = tree_of(directory)? else { return Ok((Vec::new(), Vec::new())) };
        tree::decode(&self.tree(oid)?, self.id_len)
            .map_err(|tree::Truncated| unreadable(oid, "it is a truncated tree"))
    }

    fn lookup(&self, directory: &Object, name: &[u8]) -> Result<Option<Object>, StoreError> {
        let Some(oid) = tree_of(directory)? else { return Ok(None) };
        tree::find(&self.tree(oid)?, self.id_len, name)
            .map_err(|tree::Truncated| unreadable(oid, "it is a truncated tree"))
    }

    fn attributes(&self, object: &Object) -> Result<Attributes, StoreError> {
        let (kind, oid) = match object {
            Object::Frozen { kind, oid } => (*kind, oid),
            Object::Empty => return Ok(EMPTY_DIRECTORY),
            Object::Live { .. } => return Err(StoreError::Gone),
        };
        let size_bytes = match kind {
            Kind::Directory => {
                let (found, _) = self.repository().header(oid)?;
                expect_kind(oid, found, GitKind::Tree).map(|()| 0)?
            }
            Kind::File { .. } => self.content(oid)?.1,
            Kind::Link => self.blob_size(oid)?,
        };
        Ok(Attributes { kind, size_bytes, modified: None })
    }

    fn read(&self, file: &Object, offset: u64, len: usize) -> Result<Vec<u8>, StoreError> {
        match self.located(file)? {
            (oid, Some((lfs, pointer))) => self.lfs_bytes(lfs, oid, &pointer, offset, len),
            (oid, None) => self.blob_bytes(oid, offset, len),
        }
    }

    fn read_at_hand(
        &self,
        file: &Object,
        size_bytes: Option<u64>,
        offset: u64,
        len: usize,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        match self.located(file)? {
            (oid, Some((lfs, pointer))) => {
                self.lfs_bytes(lfs, oid, &pointer, offset, len).map(Some)
            }
            (oid, None) => {
                let repository = self.repository.load();
                let key = BlobKey { repository: repository.key(), oid: *oid };
                self.blobs.read_at_hand(key, repository.as_ref(), size_bytes, offset, len)
            }
        }
    }

    fn has_kept_file(&self, file: &Object, size_bytes: Option<u64>) -> Result<bool, StoreError> {
        match self.located(file)? {
            (_, Some(_)) => Ok(false),
            (oid, None) => {
                let size_bytes = size_bytes.map_or_else(|| self.blob_size(oid), Ok)?;
                Ok(self.blobs.is_large(size_bytes))
            }
        }
    }

    fn kept_file(&self, file: &Object) -> Result<Option<File>, StoreError> {
        match self.located(file)? {
            (_, Some(_)) => Ok(None),
            (oid, None) => self.blobs.file(self.key(oid), self.repository().as_ref()),
        }
    }

    fn read_link(&self, link: &Object) -> Result<Vec<u8>, StoreError> {
        let oid = match link {
            Object::Frozen { kind: Kind::Link, oid } => oid,
            Object::Frozen { kind: Kind::File { .. } | Kind::Directory, .. } | Object::Empty => {
                return Err(StoreError::NotALink);
            }
            Object::Live { .. } => return Err(StoreError::Gone),
        };
        if self.blob_size(oid)? >= TARGET_BYTES {
            return Err(unreadable(oid, "its target has 4096 bytes or more"));
        }
        let target = self.repository().object(oid, GitKind::Blob)?;
        if target.is_empty() {
            return Err(unreadable(oid, "its target is empty"));
        }
        if target.contains(&0) {
            return Err(unreadable(oid, "its target holds a NUL byte"));
        }
        Ok(target)
    }

    fn lfs_digest(&self) -> Option<[u8; 32]> {
        self.lfs.as_ref().filter(|lfs| !lfs.is_empty()).map(LfsObjects::digest)
    }
}

/// The tree of a directory; `None` for one in which nothing is shown.
fn tree_of(directory: &Object) -> Result<Option<&Oid>, StoreError> {
    match directory {
        Object::Frozen { kind: Kind::Directory, oid } => Ok(Some(oid)),
        Object::Empty => Ok(None),
        Object::Frozen { kind: Kind::File { .. } | Kind::Link, .. } => {
            Err(StoreError::NotADirectory)
        }
        Object::Live { .. } => Err(StoreError::Gone),
    }
}

impl fmt::Debug for GitStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("GitStore");
        text.field("repository", &self.repository()).field("commit", &self.commit);
        text.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
