//! A large blob while it is written: its bytes are counted and hashed as they come.

use std::fs::File;
use std::io::{self, Write};

use gix::hash::{Hasher, Kind};

use super::hashing::{Hashing, Piece};
use super::opened::Storage;
use super::unreadable;
use crate::store::StoreError;
use crate::union::object::Oid;

/// A blob that is being written.
pub(in crate::store) struct Draft {
    oid: Oid,
    size_bytes: u64,
    written_bytes: u64,
    storage: Storage,
    hash: Hashing,
    /// What the operating system said when there was no place for the bytes.
    failure: Option<io::Error>,
}

impl Draft {
    /// Begins a blob of this id and size in an empty file.
    pub(super) fn in_file(file: File, oid: Oid, size_bytes: u64) -> Self {
        Self::new(Storage::File(file), oid, size_bytes)
    }

    /// Begins one in memory.
    pub(in crate::store) fn in_memory(oid: Oid, size_bytes: u64) -> Self {
        Self::new(Storage::Memory(Vec::new()), oid, size_bytes)
    }

    fn new(storage: Storage, oid: Oid, size_bytes: u64) -> Self {
        let hash = Hashing::beside(hasher(&oid, size_bytes));
        Self { oid, size_bytes, written_bytes: 0, storage, hash, failure: None }
    }

    /// What git puts before the bytes of a loose blob, and hashes with them.
    pub(in crate::store) fn header(&self) -> String {
        header(self.size_bytes)
    }

    /// What kept the bytes from being written, if something did.
    pub(super) fn failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    /// True if there was no place for the bytes.
    pub(in crate::store) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Ends the blob: it is what its id says, or nobody gets to see it.
    pub(super) fn finish(self) -> Result<Storage, StoreError> {
        if self.written_bytes != self.size_bytes {
            let cause =
                format!("decoded to {} bytes instead of {}", self.written_bytes, self.size_bytes);
            return Err(unreadable(&self.oid, cause));
        }
        let hash = self.hash.finish();
        let hash = hash.ok_or_else(|| unreadable(&self.oid, "it cannot be hashed".into()))?;
        expect_id(&self.oid, hash).map(|()| self.storage)
    }

    /// Ends a blob in memory.
    #[cfg(test)]
    pub(in crate::store) fn into_memory(self) -> Result<Vec<u8>, StoreError> {
        match self.finish()? {
            Storage::Memory(bytes) => Ok(bytes),
            Storage::File(_) => Err(StoreError::Gone),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.storage {
            Storage::File(file) => file.write_all(bytes),
            Storage::Memory(whole) => {
                whole.try_reserve(bytes.len())?;
                whole.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// Adds the next bytes.
    pub(in crate::store) fn write(&mut self, piece: &Piece) -> Result<(), StoreError> {
        let bytes = piece.bytes();
        self.written_bytes += bytes.len() as u64;
        if self.written_bytes > self.size_bytes {
            let cause = format!("decodes to more than its {} bytes", self.size_bytes);
            return Err(unreadable(&self.oid, cause));
        }
        self.hash.update(piece.clone());
        self.put(piece.bytes()).map_err(|error| {
            let told = StoreError::Io(error.kind().into());
            self.failure = Some(error);
            told
        })
    }

    /// Throws away what was written.
    pub(in crate::store) fn begin_again(&mut self) -> Result<(), StoreError> {
        if self.written_bytes == 0 {
            return Ok(());
        }
        match &mut self.storage {
            Storage::File(file) => {
                file.set_len(0)?;
                io::Seek::rewind(file)?;
            }
            Storage::Memory(whole) => whole.clear(),
        }
        self.written_bytes = 0;
        self.hash = Hashing::beside(hasher(&self.oid, self.size_bytes));
        Ok(())
    }
}

fn header(size_bytes: u64) -> String {
    format!("blob {size_bytes}\0")
}

/// A hash that has seen what git puts before a blob's bytes.
pub(super) fn hasher(oid: &Oid, size_bytes: u64) -> Hasher {
    let kind = if oid.as_bytes().len() == 32 { Kind::Sha256 } else { Kind::Sha1 };
    let mut hash = gix::hash::hasher(kind);
    hash.update(header(size_bytes).as_bytes());
    hash
}

/// Checks that what was hashed has this id.
pub(super) fn expect_id(oid: &Oid, hash: Hasher) -> Result<(), StoreError> {
    match hash.try_finalize() {
        Ok(found) if found.as_bytes() == oid.as_bytes() => Ok(()),
        Ok(found) => Err(unreadable(oid, format!("its bytes are those of {found}"))),
        Err(error) => Err(unreadable(oid, error.to_string())),
    }
}
