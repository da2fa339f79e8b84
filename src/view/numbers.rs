//! Inode numbers: 32 bits, never given out twice, the same for the same thing while the view lives (S5).
//!
//! A thing is named by a 128-bit digest of what it is and where. A number that was given to a name stays with it, also after the
//! kernel forgot the node: 20 bytes for each directory that was ever listed, not for each file.
//!
//! Files have their numbers in common in all views of a superblock, directories in each view their own (S90): these go with the view.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use sha2::{Digest, Sha256};

use super::ViewError;
use super::journal::{Journal, Record, What};
use super::nodes::Number;
use super::past::{Given, Past};

/// The name of a numbered thing, or of a block of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 16]);

impl Key {
    /// Digests the fields; no two lists of fields give the same input.
    pub(super) fn new(fields: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        for field in fields {
            hasher.update((field.len() as u64).to_le_bytes());
            hasher.update(field);
        }
        let digest: [u8; 32] = hasher.finalize().into();
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        Self(key)
    }

    /// A key that was written down.
    pub(super) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

/// What all views of a superblock have in common: where the next number comes from, and the numbers of files.
#[derive(Debug)]
struct Common {
    next: AtomicU64,
    files: DashMap<Key, Number>,
}

/// The numbers of one view.
#[derive(Debug)]
pub(super) struct Numbers {
    common: Arc<Common>,
    /// What has another number in each view: directories.
    places: DashMap<Key, Number>,
    /// Where every number is written down before anybody is told of it.
    journal: Option<Arc<Journal>>,
}

/// The last number that a 32-bit program can read.
const LAST: u64 = u32::MAX as u64;

impl Numbers {
    /// Starts after the root's number.
    pub(super) fn new(journal: Option<Arc<Journal>>) -> Self {
        let next = AtomicU64::new(u64::from(Number::ROOT.0) + 1);
        let common = Arc::new(Common { next, files: DashMap::new() });
        Self { common, places: DashMap::new(), journal }
    }

    /// Goes on with the numbers that an earlier process gave out.
    pub(super) fn resume(journal: Arc<Journal>, past: &mut Past) -> Self {
        let Given { files, places } = mem::take(&mut past.given);
        let next = AtomicU64::new(past.next_number());
        let common = Arc::new(Common { next, files: files.into_iter().collect() });
        Self { common, places: places.into_iter().collect(), journal: Some(journal) }
    }

    /// The numbers of another view of the same superblock.
    pub(super) fn beside(&self) -> Self {
        Self { common: self.common.clone(), places: DashMap::new(), journal: None }
    }

    /// The number of one thing that is in this view only; `what` is written down if it is new.
    pub(super) fn single(
        &self,
        key: Key,
        what: impl FnOnce() -> What,
    ) -> Result<Number, ViewError> {
        self.block(key, 1, what)
    }

    /// The first number of a block of `len` for what is in this view only; the same key always comes with the same `len`.
    pub(super) fn block(
        &self,
        key: Key,
        len: usize,
        what: impl FnOnce() -> What,
    ) -> Result<Number, ViewError> {
        self.give(&self.places, key, len, what)
    }

    /// The first number of a block of `len` for files, which are the same ones in all views; the same key always comes with the same `len`.
    pub(super) fn files(
        &self,
        key: Key,
        len: usize,
        what: impl FnOnce() -> What,
    ) -> Result<Number, ViewError> {
        self.give(&self.common.files, key, len, what)
    }

    /// The number of one thing that is in this view only, if it has one.
    pub(super) fn known(&self, key: Key) -> Option<Number> {
        self.places.get(&key).map(|number| *number)
    }

    /// The number of one thing that all views have in common, if it has one.
    pub(super) fn known_file(&self, key: Key) -> Option<Number> {
        self.common.files.get(&key).map(|number| *number)
    }

    /// How many numbers were given out, by all views.
    pub(super) fn used(&self) -> u64 {
        self.common.next.load(Ordering::Relaxed)
    }

    /// A number that nothing else will ever have.
    pub(super) fn fresh(&self) -> Result<Number, ViewError> {
        self.take(1)
    }

    fn give(
        &self,
        given: &DashMap<Key, Number>,
        key: Key,
        len: usize,
        what: impl FnOnce() -> What,
    ) -> Result<Number, ViewError> {
        if let Some(known) = given.get(&key) {
            return Ok(*known);
        }
        match given.entry(key) {
            dashmap::Entry::Occupied(known) => Ok(*known.get()),
            dashmap::Entry::Vacant(place) => {
                let first = self.take(len as u64)?;
                if let Some(journal) = &self.journal {
                    // No number exceeds 32 bits.
                    let len = u32::try_from(len).unwrap_or(u32::MAX);
                    let given = Record::Given { key: key.0, first: first.0, len, what: what() };
                    journal.note(&given);
                }
                place.insert(first);
                Ok(first)
            }
        }
    }

    fn take(&self, len: u64) -> Result<Number, ViewError> {
        let grow = |next: u64| (next + len <= LAST).then_some(next + len);
        let first = self.common.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow);
        let first = first.ok().and_then(|first| u32::try_from(first).ok());
        first.map(Number).ok_or(ViewError::NumbersUsedUp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> What {
        What::Overlay
    }

    #[test]
    fn s5_a_number_stays_with_its_key_and_is_never_given_out_again() {
        let numbers = Numbers::new(None);
        let first = numbers.block(Key::new(&[b"a"]), 10, nothing).unwrap();
        let second = numbers.single(Key::new(&[b"b"]), nothing).unwrap();
        assert_eq!(first, numbers.block(Key::new(&[b"a"]), 10, nothing).unwrap());
        assert_eq!(second.0, first.0 + 10);
    }

    #[test]
    fn the_last_number_is_followed_by_an_error() {
        let numbers = Numbers::new(None);
        numbers.common.next.store(LAST - 1, Ordering::Relaxed);
        assert!(numbers.single(Key::new(&[b"a"]), nothing).is_ok());
        assert!(matches!(
            numbers.single(Key::new(&[b"b"]), nothing),
            Err(ViewError::NumbersUsedUp)
        ));
        assert!(numbers.single(Key::new(&[b"a"]), nothing).is_ok());
    }

    #[test]
    fn keys_keep_fields_apart() {
        assert_ne!(Key::new(&[b"ab", b"c"]), Key::new(&[b"a", b"bc"]));
        assert_ne!(Key::new(&[b"ab"]), Key::new(&[b"ab", b""]));
    }
}
