//! Listings of live directories that somebody reads piece by piece (S125).
//!
//! A directory on disk changes while it is listed, and the kernel goes on by an offset alone. So an offset is a tag and, above it and below it, a
//! position: the tag is of a listing as it was when somebody began it, and the position is one in that listing. What is remembered of it is a
//! digest of each name, in order: whoever goes on gets the names that follow and are still there. The same names have the same tag, as long as no other
//! listing of the directory has it, so that of a directory that did not change nothing need be remembered.
//!
//! Locks: one, around a list; never over a call to a store.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use super::journal::Record;
use super::nodes::Number;
use super::superblock::ViewId;
use crate::store::Listed;

/// So many names are remembered, of all listings together, and of one listing at least.
const NAMES_MAX: usize = 1 << 19;
/// So many listings are remembered.
const LISTINGS_MAX: usize = 1024;
/// So many names are read of a journal.
pub(super) const NOTED_MAX: usize = 1 << 17;

/// How many bits of an offset are the tag.
const TAG_BITS: u32 = 12;
/// How many below it are the position.
const INDEX_BITS: u32 = 19;
const TAG_MASK: u64 = (1 << TAG_BITS) - 1;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;

/// The offset of a position in a listing: below 2^31, where 32-bit programs can read it, for as many positions as there.
pub(super) fn offset(tag: u64, index: u64) -> u64 {
    let high = (index >> INDEX_BITS) << (INDEX_BITS + TAG_BITS);
    high | (tag << INDEX_BITS) | (index & INDEX_MASK)
}

/// The tag and the position of an offset.
pub(super) fn split(offset: u64) -> (u64, u64) {
    let high = (offset >> (INDEX_BITS + TAG_BITS)) << INDEX_BITS;
    ((offset >> INDEX_BITS) & TAG_MASK, high | (offset & INDEX_MASK))
}

/// The names of a listing, as digests, in order.
pub(super) type Names = Arc<[u64]>;

/// A listing that somebody began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Begun {
    pub(super) directory: Number,
    pub(super) tag: u64,
    pub(super) names: Names,
}

impl Begun {
    /// What is written down of it.
    pub(super) fn record(&self, view: ViewId) -> Record {
        let (view, directory) = (view.0, self.directory.0);
        Record::Listed { view, directory, tag: self.tag, names: self.names.to_vec() }
    }
}

/// Listings that somebody began, those that were asked for last at the end.
#[derive(Debug, Default, Clone)]
pub(super) struct Begins {
    all: VecDeque<Begun>,
    names: usize,
}

impl Begins {
    /// Remembers a listing, and forgets others where it is too much.
    pub(super) fn push(&mut self, begun: Begun, names_max: usize) {
        drop(self.take(begun.directory, begun.tag));
        self.names += begun.names.len();
        self.all.push_back(begun);
        while self.all.len() > 1 && (self.names > names_max || self.all.len() > LISTINGS_MAX) {
            let oldest = self.all.pop_front();
            self.names -= oldest.map_or(0, |oldest| oldest.names.len());
        }
    }

    fn take(&mut self, directory: Number, tag: u64) -> Option<Begun> {
        let is_it = |begun: &Begun| begun.directory == directory && begun.tag == tag;
        let found = self.all.remove(self.all.iter().rposition(is_it)?)?;
        self.names -= found.names.len();
        Some(found)
    }

    /// The names of a listing.
    pub(super) fn find(&self, directory: Number, tag: u64) -> Option<Names> {
        let is_it = |begun: &&Begun| begun.directory == directory && begun.tag == tag;
        self.all.iter().rfind(is_it).map(|begun| begun.names.clone())
    }

    /// All listings.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Begun> {
        self.all.iter()
    }
}

/// The listings that a view remembers.
#[derive(Debug, Default)]
pub(super) struct Streams {
    begun: Mutex<Begins>,
    /// Those that the journal has too.
    noted: Mutex<Begins>,
}

impl Streams {
    /// Begins a listing. Returns its tag.
    pub(super) fn begin(&self, directory: Number, names: &Names) -> u64 {
        let mut begun = lock(&self.begun);
        let first = names.iter().fold(0_u64, |all, name| all.rotate_left(7) ^ name);
        let mut tag = (first ^ (first >> 24) ^ (first >> 48)) & TAG_MASK;
        for _ in 0..=TAG_MASK {
            if begun.find(directory, tag).is_none_or(|known| known == *names) {
                break;
            }
            tag = (tag + 1) & TAG_MASK;
        }
        begun.push(Begun { directory, tag, names: names.clone() }, NAMES_MAX);
        tag
    }

    /// The names of a listing that was begun, if it is remembered.
    pub(super) fn find(&self, directory: Number, tag: u64) -> Option<Names> {
        let mut begun = lock(&self.begun);
        let found = begun.take(directory, tag)?;
        let names = found.names.clone();
        begun.push(found, NAMES_MAX);
        Some(names)
    }

    /// Remembers a listing that another process began.
    pub(super) fn recall(&self, begun: Begun) {
        lock(&self.noted).push(begun.clone(), NOTED_MAX);
        lock(&self.begun).push(begun, NAMES_MAX);
    }

    /// A listing that is to be written down, unless it was.
    pub(super) fn to_note(&self, directory: Number, tag: u64) -> Option<Begun> {
        let names = lock(&self.begun).find(directory, tag)?;
        let mut noted = lock(&self.noted);
        if noted.find(directory, tag).is_some_and(|known| known == names) {
            return None;
        }
        let begun = Begun { directory, tag, names };
        noted.push(begun.clone(), NOTED_MAX);
        Some(begun)
    }
}

fn lock(begins: &Mutex<Begins>) -> MutexGuard<'_, Begins> {
    begins.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The digests of names.
pub(super) fn names(listed: &[Listed]) -> Names {
    let digest = |listed: &Listed| {
        let digest: [u8; 32] = Sha256::digest(listed.name.as_bytes()).into();
        digest.iter().take(8).fold(0, |all, byte| (all << 8) | u64::from(*byte))
    };
    listed.iter().map(digest).collect()
}

/// What of a listing is still there, each name with its position in it.
pub(super) fn left(begun: &Names, now: &Names, listed: Vec<Listed>) -> Vec<(usize, Listed)> {
    if begun == now {
        return listed.into_iter().enumerate().collect();
    }
    let mut there: HashMap<_, _> = now.iter().copied().zip(listed).collect();
    let still = |(index, name)| there.remove(name).map(|listed| (index, listed));
    begun.iter().enumerate().filter_map(still).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECTORY: Number = Number(5);

    fn names(numbers: impl IntoIterator<Item = u64>) -> Names {
        numbers.into_iter().collect()
    }

    #[test]
    fn s125_listings_of_a_directory_have_a_tag_each() {
        let streams = Streams::default();
        // By their names alone these would have the same one.
        let listings: Vec<_> = (0..20).map(|bit| names([1 << 24, bit << 12])).collect();
        let tags: Vec<_> = listings.iter().map(|names| streams.begin(DIRECTORY, names)).collect();
        for (names, tag) in listings.iter().zip(&tags) {
            assert_eq!(streams.find(DIRECTORY, *tag).as_ref(), Some(names));
            assert_eq!(streams.begin(DIRECTORY, names), *tag, "the same once more");
        }
        assert_eq!(tags.iter().collect::<std::collections::HashSet<_>>().len(), tags.len());
        // Whoever has forgotten them all says the same of each that is alone.
        let first = listings.first().unwrap();
        assert_eq!(Streams::default().begin(DIRECTORY, first), tags[0]);
    }

    #[test]
    fn s125_what_is_remembered_of_listings_has_a_bound() {
        let streams = Streams::default();
        let listing = |first: u64| names((0..100_000).map(|name| name + first));
        let tags: Vec<_> = (0..10).map(|first| streams.begin(DIRECTORY, &listing(first))).collect();
        let known = tags.iter().filter(|tag| streams.find(DIRECTORY, **tag).is_some()).count();
        assert_eq!(known, NAMES_MAX / 100_000);
        for number in 0..2 * u32::try_from(LISTINGS_MAX).unwrap() {
            streams.begin(Number(number), &names([1]));
        }
        assert_eq!(lock(&streams.begun).all.len(), LISTINGS_MAX);
        let all = names(0..2 * NAMES_MAX as u64);
        let tag = streams.begin(DIRECTORY, &all);
        assert_eq!(streams.find(DIRECTORY, tag), Some(all), "one listing in any case");
        assert_eq!(lock(&streams.begun).all.len(), 1);
    }

    #[test]
    fn an_offset_is_a_tag_and_a_position() {
        for tag in [0, 1, TAG_MASK] {
            for index in [0, 1, 2, INDEX_MASK, INDEX_MASK + 1, 1 << 30] {
                assert_eq!(split(offset(tag, index)), (tag, index));
                assert!(index > INDEX_MASK || offset(tag, index) < 1 << 31);
            }
            assert!(offset(tag, 1 << 30) < 1 << 62, "the kernel takes them as signed");
        }
    }
}
