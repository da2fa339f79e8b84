//! Listings, from their beginning, from offsets that were given out, and from any other.

use super::driver::{Driver, From};
use super::world::Thing;
use crate::union::object::Kind;
use crate::view::{Attr, Depth, Lifetime, Number, Offered, Sink, ViewError};

/// What a listing gave.
#[derive(Debug)]
pub(super) struct Offer {
    name: Vec<u8>,
    attr: Attr,
    next_offset: u64,
    name_lifetime: Lifetime,
    is_unreadable: bool,
}

pub(super) struct Taken {
    pub(super) names: Vec<Offer>,
    pub(super) room: usize,
}

impl Sink for Taken {
    fn take(&mut self, offered: Offered<'_>) -> bool {
        let Offered { name, next_offset, attr, is_unreadable, name_lifetime, .. } = offered;
        let has_room = self.names.len() < self.room;
        let offer = Offer { name: name.to_vec(), attr, next_offset, name_lifetime, is_unreadable };
        self.names.extend(has_room.then_some(offer));
        has_room
    }
}

impl Driver {
    pub(super) fn list(&mut self, number: Number, from: From, depth: Depth, room: usize) {
        let given: Vec<_> = self
            .offsets
            .range((number, 0)..=(number, u64::MAX))
            .map(|(key, at)| (key.1, *at))
            .collect();
        let current = self.world.current();
        let of_offset = |offset| given.iter().find(|given| given.0 == offset).map(|given| given.1);
        let (offset, mut at) = match from {
            From::Given(index) if !given.is_empty() => {
                let (offset, at) = given[index % given.len()];
                (offset, Some(at))
            }
            From::Start | From::Given(_) | From::Any(0) => (0, Some((current, 0))),
            From::Any(offset) => (offset, of_offset(offset)),
        };
        let is_merged = matches!(self.known[&number].thing, Thing::Merged { pin: None, .. });
        if !is_merged {
            // Offsets of a directory that never changes are positions.
            at = Some((current, usize::try_from(offset).unwrap_or(usize::MAX)));
        }
        let mut taken = Taken { names: Vec::new(), room };
        let answer = self.view.list(number, offset, depth, &mut taken);
        let taken = taken.names;
        if !self.world.attr(&self.known[&number].thing).is_none_or(|(kind, ..)| kind.is_directory())
        {
            return assert!(matches!(answer, Err(ViewError::NotADirectory)));
        }
        let is_there = |set: &usize| *set == current || self.world.kept.contains(set);
        let Some((set, position)) = at else {
            // An offset that nobody was given: an error, or a listing of a set that can be read.
            if answer.is_ok() {
                assert!(self.is_of_one_set(number, &taken) || room < 2, "{taken:?} is of no set");
            }
            return self.take_back(depth, &taken);
        };
        let listing = self.listing(number, set).filter(|_| !is_merged || is_there(&set));
        let Some(listing) = listing else {
            // Whoever has no room for the two dots does not get as far as what is gone.
            assert!(matches!(answer, Err(ViewError::Stale)) || room < 2, "{answer:?}");
            return self.take_back(depth, &taken);
        };
        answer.unwrap();
        let left: Vec<_> = listing.into_iter().enumerate().skip(position).take(room).collect();
        assert_eq!(left.len(), taken.len(), "{left:?} and {taken:?}");
        for ((index, (name, thing)), taken) in left.into_iter().zip(taken) {
            assert_eq!(name, taken.name);
            let next = if is_merged { (set, index + 1) } else { (0, index + 1) };
            let same = *self.offsets.entry((number, taken.next_offset)).or_insert(next);
            assert_eq!(same, next, "one offset for two positions");
            self.listed(number, &name, thing, &taken, depth, set == current);
        }
    }

    /// Whether names stand one after the other in a directory, in one of the sets that can be read.
    fn is_of_one_set(&self, number: Number, taken: &[Offer]) -> bool {
        let names: Vec<_> = taken.iter().map(|taken| &taken.name).collect();
        let is_part = |all: Vec<(Vec<u8>, Option<Thing>)>| {
            let all: Vec<_> = all.iter().map(|(name, _)| name).collect();
            names.is_empty() || all.windows(names.len()).any(|part| part == names)
        };
        let mut sets = self.world.kept.iter().copied().chain([self.world.current()]);
        sets.any(|set| self.listing(number, set).is_some_and(is_part))
    }

    /// `.`, `..` and the names of a directory in a set. What the two dots stand for is not told.
    fn listing(&self, number: Number, set: usize) -> Option<Vec<(Vec<u8>, Option<Thing>)>> {
        let children = self.children(number, set)?;
        let named = children.into_iter().map(|(name, thing)| (name, Some(thing)));
        Some([(b".".to_vec(), None), (b"..".to_vec(), None)].into_iter().chain(named).collect())
    }

    fn listed(
        &mut self,
        number: Number,
        name: &[u8],
        thing: Option<Thing>,
        taken: &Offer,
        depth: Depth,
        is_current: bool,
    ) {
        let attr = taken.attr;
        let Some(thing) = thing else {
            let expected = if name == b"." { number } else { self.known[&number].parent };
            return assert_eq!((attr.number, attr.kind), (expected, Kind::Directory));
        };
        self.meet(number, name, attr.number, &thing);
        let found = self.world.attr(&thing);
        if let Some((kind, ..)) = found {
            assert_eq!(attr.kind, kind);
        }
        if depth == Depth::Names {
            return;
        }
        assert_eq!(taken.is_unreadable, found.is_none());
        let is_kept = match &thing {
            Thing::Merged { pin: Some(set), path, .. } => {
                path.is_root() && *set != self.world.current()
            }
            Thing::Merged { .. }
            | Thing::Frozen { .. }
            | Thing::Overlay
            | Thing::Revisions
            | Thing::Text { .. } => false,
        };
        let is_lasting = is_current && !is_kept && found.is_some();
        let lifetime = if is_lasting { Lifetime::Unlimited } else { Lifetime::None };
        assert_eq!(taken.name_lifetime, lifetime);
        self.count(number, attr.number, thing, is_kept);
        if found.is_some() {
            self.agree(attr);
            self.cache.borrow_mut().attrs.insert(attr.number, attr);
        }
        if is_lasting {
            self.cache.borrow_mut().names.insert((number, name.to_vec()), Some(attr.number));
        }
    }

    /// What came with a listing that the model has nothing to say of is forgotten at once.
    pub(super) fn take_back(&self, depth: Depth, taken: &[Offer]) {
        let names = taken.iter().filter(|taken| taken.name != b"." && taken.name != b"..");
        for taken in names.filter(|_| depth == Depth::Attributes) {
            self.view.forget(taken.attr.number, 1);
        }
    }
}
