//! Inode numbers: 32 bits, never given out twice, the same for the same thing for as long as anybody can come to it (S5, S111).
//!
//! A thing is named by a 128-bit digest of what it is and where. A number that was given to a name stays with it, also after the
//! kernel forgot the node: 40 bytes for each directory that was listed and each entry, not for each file. `sweep` gives up what nobody can
//! come to any more: for that each block knows when it was asked for last, in eras; each flip begins one.
//!
//! Files have their numbers in common in all views of a superblock, directories in each view their own (S90): these go with the view.

use std::mem;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::ViewError;
use super::blocks::{Blocks, Tie};
use super::journal::{ViewJournal, What};
use super::nodes::Number;
use super::past::Past;
use super::past_view::PastView;

pub(super) use super::blocks::Block;

/// The name of a numbered thing, or of a block of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct NodeKey([u8; 16]);

impl NodeKey {
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

    /// The beginning of it, which is never 0.
    pub(super) fn short(&self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_le_bytes([a, b, c, d]).max(1)
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
    /// One begins with each flip of any of the views.
    era: AtomicU32,
    files: Blocks,
}

/// The numbers of one view.
#[derive(Debug)]
pub(super) struct Numbers {
    common: Arc<Common>,
    /// What has another number in each view: directories.
    pub(super) places: Blocks,
    /// The sets that can be read, by their place in the order of snapshots, and the era in which each was shown first; oldest first.
    sets: Mutex<Vec<(u64, u32)>>,
    /// Where every number is written down before anybody is told of it.
    journal: Option<ViewJournal>,
}

/// The last number that a 32-bit program can read.
const LAST: u64 = u32::MAX as u64;

impl Numbers {
    /// Starts after the root's number.
    pub(super) fn new(journal: Option<ViewJournal>) -> Self {
        let (next, era) = (AtomicU64::new(u64::from(Number::ROOT.0) + 1), AtomicU32::new(0));
        let common = Arc::new(Common { next, era, files: Blocks::new(Vec::new()) });
        Self { common, places: Blocks::new(Vec::new()), sets: Mutex::default(), journal }
    }

    /// Goes on with the numbers that an earlier process gave out, and with its eras.
    pub(super) fn resume(journal: ViewJournal, past: &mut Past, view: &mut PastView) -> Self {
        let files = Blocks::new(mem::take(&mut past.files));
        let (next, era) = (AtomicU64::new(past.next_number()), AtomicU32::new(past.era()));
        let common = Arc::new(Common { next, era, files });
        let (places, sets) = (Blocks::new(mem::take(&mut view.places)), Mutex::new(view.eras()));
        Self { common, places, sets, journal: Some(journal) }
    }

    /// The numbers of another view of the same superblock.
    pub(super) fn beside(&self, journal: Option<ViewJournal>) -> Self {
        let (places, sets) = (Blocks::new(Vec::new()), Mutex::default());
        Self { common: self.common.clone(), places, sets, journal }
    }

    /// The numbers of another view of the same superblock that an earlier process has served.
    pub(super) fn beside_again(&self, journal: Option<ViewJournal>, view: &mut PastView) -> Self {
        let (places, sets) = (Blocks::new(mem::take(&mut view.places)), Mutex::new(view.eras()));
        Self { common: self.common.clone(), places, sets, journal }
    }

    /// Begins an era. What was asked for before counts as older once the requests that are under way are answered.
    pub(super) fn begin_era(&self) -> u32 {
        self.common.era.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The present era.
    pub(super) fn era(&self) -> u32 {
        self.common.era.load(Ordering::SeqCst)
    }

    /// A set is shown since this era began, and all requests from before are answered; `oldest` is the oldest set that can be read, if this mount has shown it.
    pub(super) fn published(&self, serial: u64, era: u32, oldest: Option<u64>) {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        sets.retain(|(known, _)| Some(*known) >= oldest && *known != serial);
        sets.push((serial, era));
    }

    /// The era since which a set can be read, of which nothing is known from before the first flip.
    pub(super) fn shown_since(&self, serial: Option<u64>) -> u32 {
        let sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let set = sets.iter().find(|(known, _)| Some(*known) == serial);
        set.map_or(0, |(_, era)| *era)
    }

    /// The era before which nobody has asked for anything that a set has that can be read: each has its place in the order since then.
    pub(super) fn floor(&self, oldest: Option<u64>) -> u32 {
        let sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let known = sets.iter().filter(|(serial, _)| Some(*serial) >= oldest);
        // Of a set that another mount has left nothing is written down, nor of the first before the first flip.
        let is_complete = sets.iter().any(|(serial, _)| Some(*serial) == oldest);
        known.map(|(_, era)| *era).min().filter(|_| is_complete).unwrap_or(0)
    }

    /// The files, which other views may share.
    pub(super) fn all_files(&self) -> &Blocks {
        &self.common.files
    }

    /// Whether no other view shares the numbers of files.
    pub(super) fn is_alone(&self) -> bool {
        Arc::strong_count(&self.common) == 1
    }

    /// Writes down what the present set has until the end of an era, and the next one has not.
    pub(super) fn note_leaving(&self, era: u32, blocks: Vec<u32>) {
        if let Some(journal) = self.journal.as_ref().filter(|_| !blocks.is_empty()) {
            journal.leaving(era, blocks);
        }
    }

    /// Writes down what was given up.
    pub(super) fn note_given_up(&self, blocks: &[(NodeKey, u32)]) {
        let Some(journal) = &self.journal else { return };
        for blocks in blocks.chunks(1024) {
            journal.given_up(blocks.iter().map(|(key, first)| (key.0, *first)).collect());
        }
    }

    /// Gives what is dead in the journal back to the disk, if there may be enough of it.
    pub(super) fn shrink_journal(&self, past: Option<&Past>) {
        if let Some(journal) = &self.journal {
            journal.journal.shrink_if_due(past);
        }
    }

    /// The number of one thing that is in this view only; `what` is written down if it is new.
    pub(super) fn single(
        &self,
        key: NodeKey,
        what: impl FnOnce() -> What,
    ) -> Result<Number, ViewError> {
        self.block(key, 1, what)
    }

    /// The first number of a block of `len` for what is in this view only; the same key always comes with the same `len`.
    pub(super) fn block(
        &self,
        key: NodeKey,
        len: usize,
        what: impl FnOnce() -> What,
    ) -> Result<Number, ViewError> {
        self.give(&self.places, key, len, what)
    }

    /// The first number of a block of `len` for files, which are the same ones in all views; the same key always comes with the same `len`.
    pub(super) fn files(
        &self,
        key: NodeKey,
        len: usize,
        what: impl FnOnce() -> What,
    ) -> Result<Number, ViewError> {
        self.give(&self.common.files, key, len, what)
    }

    /// The number of one thing that is in this view only, if it has one.
    pub(super) fn known(&self, key: NodeKey) -> Option<Number> {
        self.places.by_key.get(&key).map(|block| Number(block.first))
    }

    /// The number of one thing that all views have in common, if it has one.
    pub(super) fn known_file(&self, key: NodeKey) -> Option<Number> {
        self.common.files.by_key.get(&key).map(|block| Number(block.first))
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
        given: &Blocks,
        key: NodeKey,
        len: usize,
        what: impl FnOnce() -> What,
    ) -> Result<Number, ViewError> {
        let era = self.era();
        let known = |block: &Block| {
            block.touch(era);
            Ok(Number(block.first))
        };
        if let Some(block) = given.by_key.get(&key) {
            return known(&block);
        }
        match given.by_key.entry(key) {
            dashmap::Entry::Occupied(block) => known(block.get()),
            // Whoever finds the number has to find it written down, so the part of the table stays locked while it is. The journal's own lock is
            // the only one that is taken meanwhile, and who holds that wants no part of a table. What cannot be written takes no longer (S155); where
            // the disk of the journal hangs, so does whoever needs a new number, as with any order of these steps.
            dashmap::Entry::Vacant(place) => {
                let first = self.take(len as u64)?;
                // No number exceeds 32 bits.
                let len = u32::try_from(len).unwrap_or(u32::MAX);
                let what = what();
                let block = Block::new(first.0, len, Tie::of(&what), era);
                if let Some(journal) = &self.journal {
                    journal.given(era, key.0, first.0, len, what);
                }
                given.given(&block);
                drop(place.insert(block));
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
        let first = numbers.block(NodeKey::new(&[b"a"]), 10, nothing).unwrap();
        let second = numbers.single(NodeKey::new(&[b"b"]), nothing).unwrap();
        assert_eq!(first, numbers.block(NodeKey::new(&[b"a"]), 10, nothing).unwrap());
        assert_eq!(second.0, first.0 + 10);
    }

    #[test]
    fn the_last_number_is_followed_by_an_error() {
        let numbers = Numbers::new(None);
        numbers.common.next.store(LAST - 1, Ordering::Relaxed);
        assert!(numbers.single(NodeKey::new(&[b"a"]), nothing).is_ok());
        assert!(matches!(
            numbers.single(NodeKey::new(&[b"b"]), nothing),
            Err(ViewError::NumbersUsedUp)
        ));
        assert!(numbers.single(NodeKey::new(&[b"a"]), nothing).is_ok());
    }

    #[test]
    fn keys_keep_fields_apart() {
        assert_ne!(NodeKey::new(&[b"ab", b"c"]), NodeKey::new(&[b"a", b"bc"]));
        assert_ne!(NodeKey::new(&[b"ab"]), NodeKey::new(&[b"ab", b""]));
    }
}
