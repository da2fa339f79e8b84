//! Listings, from their beginning, from offsets that were given out, and from any other.

use std::collections::BTreeMap;

use super::driver::{Driver, From};
use super::world::{Standing, Thing};
use crate::union::object::Kind;
use crate::view::{Attr, Depth, Lifetime, Number, Offered, Sink, ViewError};

/// What a name in a listing stands for.
#[derive(Debug)]
enum Listed {
    /// This directory or the one above: what is not told.
    Dot,
    Name(Thing),
}

/// What a listing gave.
#[derive(Debug)]
pub(super) struct Offer {
    name: Vec<u8>,
    attr: Attr,
    next_offset: u64,
    lifetimes: (Lifetime, Lifetime),
    is_unreadable: bool,
}

pub(super) struct Taken {
    pub(super) names: Vec<Offer>,
    pub(super) room: usize,
}

impl Sink for Taken {
    fn take(&mut self, offered: Offered<'_>) -> bool {
        let Offered { name, next_offset, attr, is_unreadable, attr_lifetime, name_lifetime } =
            offered;
        let has_room = self.names.len() < self.room;
        let (name, lifetimes) = (name.to_vec(), (attr_lifetime, name_lifetime));
        let offer = Offer { name, attr, next_offset, lifetimes, is_unreadable };
        self.names.extend(has_room.then_some(offer));
        has_room
    }
}

impl Driver {
    pub(super) fn list(&mut self, number: Number, from: From, depth: Depth, room: usize) {
        if matches!(self.known[&number].thing, Thing::Live(_)) {
            return self.list_live(number, from, depth, room);
        }
        let given: Vec<_> = self
            .offsets
            .range((number, 0)..=(number, u64::MAX))
            .map(|(key, at)| (key.1, *at))
            .collect();
        let current = self.world.sets[self.world.current()].0.serial;
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
        if self.world.standing(&self.known[&number].thing) == Standing::Other {
            return assert!(matches!(answer, Err(ViewError::NotADirectory)));
        }
        let Some((serial, position)) = at else {
            // An offset that nobody was given: an error, or a listing of a set that can be read.
            if answer.is_ok() {
                assert!(self.is_of_one_set(number, &taken) || room < 2, "{taken:?} is of no set");
            }
            return self.take_back(depth, &taken);
        };
        let is_asked = |set: &usize| !is_merged || self.world.sets[*set].0.serial == serial;
        let set = self.readable().find(is_asked);
        let listing = set.and_then(|set| self.listing(number, set));
        let Some(listing) = listing else {
            // Whoever has no room for the two dots does not get as far as what is gone.
            assert!(matches!(answer, Err(ViewError::Stale)) || room < 2, "{answer:?}");
            return self.take_back(depth, &taken);
        };
        answer.unwrap();
        let left = listing.into_iter().enumerate().skip(position);
        let shown = left.filter_map(|(index, (name, thing))| Some((index, (name, thing?))));
        let left: Vec<_> = shown.take(room).collect();
        assert_eq!(left.len(), taken.len(), "{left:?} and {taken:?}");
        for ((index, (name, thing)), taken) in left.into_iter().zip(taken) {
            assert_eq!(name, taken.name);
            let next = if is_merged { (serial, index + 1) } else { (0, index + 1) };
            let same = *self.offsets.entry((number, taken.next_offset)).or_insert(next);
            assert_eq!(same, next, "one offset for two positions");
            self.listed(number, &name, thing, &taken, depth, serial == current);
        }
    }

    /// A stream of a live directory has the names that it began with and that are still there.
    fn list_live(&mut self, number: Number, from: From, depth: Depth, room: usize) {
        let given = self.streams.range((number, 0)..=(number, u64::MAX)).map(|(key, _)| key.1);
        let given: Vec<_> = given.collect();
        let offset = match from {
            From::Given(index) if !given.is_empty() => given[index % given.len()],
            From::Start | From::Given(_) => 0,
            From::Any(offset) => offset,
        };
        let mut taken = Taken { names: Vec::new(), room };
        let answer = self.view.list(number, offset, depth, &mut taken);
        let taken = taken.names;
        if self.world.standing(&self.known[&number].thing) == Standing::Other {
            return assert!(matches!(answer, Err(ViewError::NotADirectory)));
        }
        let Some(listing) = self.listing(number, self.world.current()) else {
            assert!(matches!(answer, Err(ViewError::Stale)), "{answer:?}");
            return self.take_back(depth, &taken);
        };
        answer.unwrap();
        let now = || listing.iter().map(|(name, _)| name.clone()).collect();
        let begun = match self.streams.get(&(number, offset)) {
            _ if offset == 0 => now(),
            Some(left) => left.clone(),
            // An offset that nobody was given.
            None => return self.take_back(depth, &taken),
        };
        let mut there: BTreeMap<_, _> = listing.into_iter().collect();
        let left = begun.iter().enumerate();
        let left = left.filter_map(|(index, name)| Some((index, name, there.remove(name)??)));
        let left: Vec<_> = left.take(room).collect();
        assert_eq!(left.len(), taken.len(), "{left:?} and {taken:?}");
        for ((index, name, thing), taken) in left.into_iter().zip(taken) {
            assert_eq!(*name, taken.name);
            let after = begun[index + 1..].to_vec();
            let same = self.streams.entry((number, taken.next_offset)).or_insert(after.clone());
            assert_eq!(*same, after, "one offset for two streams");
            self.listed(number, name, thing, &taken, depth, true);
        }
    }

    /// The sets that can be read, newest first.
    fn readable(&self) -> impl Iterator<Item = usize> + use<> {
        [self.world.current()].into_iter().chain(self.world.kept.clone().into_iter().rev())
    }

    /// Whether names stand one after the other in a directory, in one of the sets that can be read.
    fn is_of_one_set(&self, number: Number, taken: &[Offer]) -> bool {
        let names: Vec<_> = taken.iter().map(|taken| &taken.name).collect();
        let is_part = |all: Vec<(Vec<u8>, Option<Listed>)>| {
            let all: Vec<_> =
                all.iter().filter(|(_, listed)| listed.is_some()).map(|(name, _)| name).collect();
            names.is_empty() || all.windows(names.len()).any(|part| part == names)
        };
        self.readable().any(|set| self.listing(number, set).is_some_and(is_part))
    }

    /// `.`, `..` and the names of a directory in a set, also those that are not shown now.
    fn listing(&self, number: Number, set: usize) -> Option<Vec<(Vec<u8>, Option<Listed>)>> {
        let places = self.places(number, set)?.into_iter();
        let named = places.map(|(name, thing)| (name, thing.map(Listed::Name)));
        let dots = [b".".to_vec(), b"..".to_vec()].map(|name| (name, Some(Listed::Dot)));
        Some(dots.into_iter().chain(named).collect())
    }

    fn listed(
        &mut self,
        number: Number,
        name: &[u8],
        listed: Listed,
        taken: &Offer,
        depth: Depth,
        is_current: bool,
    ) {
        let attr = taken.attr;
        let Listed::Name(thing) = listed else {
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
            | Thing::Live(_)
            | Thing::Overlay
            | Thing::Revisions
            | Thing::Text { .. } => false,
        };
        let is_kept_by_kernel = is_current && !is_kept && found.is_some();
        // The `.git` of a frozen directory is as lasting as the directory.
        let is_in_frozen = matches!(self.known[&number].thing, Thing::Frozen { .. });
        let lasting = if is_in_frozen { Lifetime::Unlimited } else { thing.lasting() };
        let (attr_lifetime, name_lifetime) = taken.lifetimes;
        assert_eq!(name_lifetime, if is_kept_by_kernel { lasting } else { Lifetime::None });
        self.count(number, attr.number, thing, is_kept);
        if found.is_some() {
            self.agree(attr, attr_lifetime);
        }
        if name_lifetime == Lifetime::Unlimited {
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
