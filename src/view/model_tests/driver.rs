//! Asks the view as the kernel would, and remembers what the kernel would remember.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::disk::{self, Change};
use super::world::{Choice, Standing, Thing, Tree, World};
use crate::config::resolved::Links;
use crate::union::name::RelPath;
use crate::view::{Attr, Depth, Found, Lifetime, Number, Settings, View, ViewError};

/// Where a listing begins.
#[derive(Debug, Clone, Copy)]
pub(super) enum From {
    Start,
    /// At one of the offsets that were given out for this directory.
    Given(usize),
    Any(u64),
}

/// What is asked next. Nodes are chosen among those that are known at that moment.
#[derive(Debug, Clone)]
pub(super) enum Op {
    /// A name that is there.
    Child(usize, usize),
    /// One name after the other, as far as they are there: one of [`WAYS`], and which of several at `*`.
    Walk(usize, usize),
    /// A name that may be there.
    Lookup(usize, usize),
    List(usize, From, Depth, usize),
    Forget(usize, u64),
    /// As when the kernel is out of memory.
    ForgetAll,
    Attr(usize),
    Read(usize, u64, usize),
    ReadLink(usize),
    /// A number that nothing has.
    Unknown(u32),
    Flip(Choice),
    /// What happens in the live directory.
    Disk(Change),
}

/// A node that the kernel knows.
pub(super) struct Known {
    pub(super) thing: Thing,
    pub(super) parent: Number,
    lookups: u64,
    /// It is a set of which only the name is known.
    pub(super) is_listed_only: bool,
}

/// A name of a directory, and what it leads to.
pub(super) type Place = (Number, Vec<u8>, String);

pub(super) struct Driver {
    pub(super) view: View,
    pub(super) world: World,
    pub(super) known: BTreeMap<Number, Known>,
    /// What every number ever stood for.
    pub(super) met: HashMap<Number, String>,
    /// The number of everything at its place.
    pub(super) places: HashMap<Place, Number>,
    /// Offsets that were given out, with the set's place in their order and the position that they stand for.
    pub(super) offsets: BTreeMap<(Number, u64), (u64, usize)>,
    /// Offsets that were given out for live directories, with the names that followed when the listing was begun.
    pub(super) streams: BTreeMap<(Number, u64), Vec<Vec<u8>>>,
    pub(super) cache: RefCell<Cache>,
    /// What was looked up last, if it was there.
    found: Option<Number>,
}

/// What the kernel keeps without asking again.
#[derive(Default)]
pub(super) struct Cache {
    pub(super) names: HashMap<(Number, Vec<u8>), Option<Number>>,
    pub(super) attrs: HashMap<Number, Attr>,
}

const NAMES: [&[u8]; 18] = [
    b"a",
    b"b",
    b"c",
    b"x",
    b"p",
    b"o",
    b"1",
    b"skills",
    b"tools",
    b"prompts",
    b"00.md",
    b".overlay",
    b".",
    b"..",
    b".git",
    b"HEAD",
    b"new",
    &[b'n'; 256],
];

/// Where what is rare is found.
pub(super) const WAYS: [&str; 12] = [
    "o/1/.git/HEAD",
    "o/2/.git/objects/pack/pack-1.pack",
    "o/3/skills/a/a",
    "o/3/skills/b/b/c",
    "o/3/x/b/a",
    "skills/a/a",
    "skills/b/b/c",
    "skills/c",
    "prompts/02.md",
    ".overlay/revisions/*/o/1/.git/objects/pack/pack-2.pack",
    ".overlay/revisions/*/o/3/skills/a/b",
    ".overlay/revisions/*/skills/a/b",
];

impl Driver {
    pub(super) fn new(links: Links, world: World) -> Self {
        let settings = Settings { links, has_xattrs: false };
        let view = View::new(world.sets[0].0.clone(), settings);
        let root = Thing::Merged { pin: None, path: RelPath::root(), born: 0 };
        let root = Known { thing: root, parent: Number::ROOT, lookups: 1, is_listed_only: false };
        let known = BTreeMap::from([(Number::ROOT, root)]);
        let (met, places, offsets, streams, cache) = Default::default();
        Self { view, world, known, met, places, offsets, streams, cache, found: None }
    }

    pub(super) fn run(&mut self, op: &Op) {
        match *op {
            Op::Child(node, name) => {
                let number = self.node(node);
                let children = self.children(number, self.world.current()).unwrap_or_default();
                let mut names: Vec<_> = children.into_iter().map(|(name, _)| name).collect();
                names.extend((number == Number::ROOT).then(|| b".overlay".to_vec()));
                if !names.is_empty() {
                    self.lookup(number, &names[name % names.len()]);
                }
            }
            Op::Walk(way, pick) => self.walk(WAYS[way % WAYS.len()], pick),
            Op::Lookup(node, name) => self.lookup(self.node(node), NAMES[name % NAMES.len()]),
            Op::List(node, from, depth, room) => self.list(self.node(node), from, depth, room),
            Op::Forget(node, count) => self.forget(self.node(node), count),
            Op::ForgetAll => self.forget_all(),
            Op::Attr(node) => self.attr(self.node(node)),
            Op::Read(node, offset, len) => self.read(self.node(node), offset, len),
            Op::ReadLink(node) => self.read_link(self.node(node)),
            Op::Unknown(number) => self.unknown(Number(number % 512)),
            Op::Flip(choice) => self.flip(choice),
            Op::Disk(change) => {
                let known = self.known.values().filter_map(|known| match &known.thing {
                    Thing::Live(live) if Arc::ptr_eq(&live.place, &self.world.disk) => {
                        Some(live.path.to_string())
                    }
                    _ => None,
                });
                let paths: Vec<_> = known.filter(|path| path != ".").collect();
                self.world.disk.change(change, &paths);
                self.keeps_nothing_old();
            }
        }
    }

    /// Takes everything back: nothing may be left but the root.
    pub(super) fn end(mut self) {
        self.forget_all();
        assert_eq!(self.view.known_nodes(), 1);
    }

    fn walk(&mut self, way: &str, pick: usize) {
        let mut at = Number::ROOT;
        for name in way.split('/') {
            let name = match (name, self.children(at, self.world.current())) {
                ("*", Some(children)) if !children.is_empty() => {
                    children[pick % children.len()].0.clone()
                }
                _ => name.as_bytes().to_vec(),
            };
            self.lookup(at, &name);
            let Some(next) = self.found.take() else { return };
            at = next;
        }
    }

    fn forget_all(&mut self) {
        let numbers: Vec<_> = self.known.keys().copied().collect();
        for number in numbers {
            self.forget(number, u64::MAX);
        }
    }

    fn node(&self, node: usize) -> Number {
        *self.known.keys().nth(node % self.known.len()).unwrap()
    }

    pub(super) fn children(&self, number: Number, set: usize) -> Option<Vec<(Vec<u8>, Thing)>> {
        let known = &self.known[&number];
        self.world.children(&known.thing, set).filter(|_| !known.is_listed_only)
    }

    /// The same with what has a place in listings and is not shown now.
    pub(super) fn places(
        &self,
        number: Number,
        set: usize,
    ) -> Option<Vec<(Vec<u8>, Option<Thing>)>> {
        let known = &self.known[&number];
        self.world.places(&known.thing, set).filter(|_| !known.is_listed_only)
    }

    fn lookup(&mut self, parent: Number, name: &[u8]) {
        let answer = self.view.lookup(parent, name);
        self.found = None;
        if name.len() > 255 {
            return assert!(matches!(answer, Err(ViewError::NameTooLong)));
        }
        let thing = &self.known[&parent].thing;
        if self.world.standing(thing) == Standing::Other {
            return assert!(matches!(answer, Err(ViewError::NotADirectory)), "{answer:?}");
        }
        let Some(places) = self.places(parent, self.world.current()) else {
            return assert!(matches!(answer, Err(ViewError::Stale)), "{answer:?} {thing:?}");
        };
        let expected = places.into_iter().find(|(known, _)| known == name);
        // The disk decides about it, from one moment to the next.
        let is_live = matches!(
            (thing, &expected),
            (Thing::Live(_), _) | (Thing::Merged { .. }, Some((_, None | Some(Thing::Live(_)))))
        );
        let lasting = if is_live { Lifetime::Live } else { Lifetime::Unlimited };
        let mut expected = expected.and_then(|(name, thing)| Some((name, thing?)));
        if parent == Number::ROOT && name == b".overlay" {
            expected = Some((name.to_vec(), Thing::Overlay));
        }
        let cached = match (answer.unwrap(), expected) {
            (Found::Absent(lifetime), None) => {
                assert_eq!(lifetime, lasting);
                None
            }
            (Found::Present { attr, attr_lifetime, name_lifetime }, Some((_, thing))) => {
                assert_eq!((attr_lifetime, name_lifetime), (thing.lasting(), lasting));
                self.meet(parent, name, attr.number, &thing);
                self.count(parent, attr.number, thing, false);
                self.agree(attr, attr_lifetime);
                Some(attr.number)
            }
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        };
        self.found = cached;
        if lasting == Lifetime::Unlimited {
            self.cache.borrow_mut().names.insert((parent, name.to_vec()), cached);
        }
    }

    /// A number always stands for the same, and what did not change has the same number.
    pub(super) fn meet(&mut self, parent: Number, name: &[u8], number: Number, thing: &Thing) {
        let what = self.what(parent, name, thing);
        let known = self.met.entry(number).or_insert_with(|| what.clone());
        assert_eq!(*known, what, "{number:?} is given out again");
        let place = (parent, name.to_vec(), what);
        let same = *self.places.entry(place).or_insert(number);
        assert_eq!(same, number, "another number for the same thing");
    }

    /// What tells a thing from all others.
    pub(super) fn what(&self, parent: Number, name: &[u8], thing: &Thing) -> String {
        match thing {
            Thing::Merged { pin, path, born } => {
                let id = pin.map(|set| self.world.sets[set].0.id);
                format!("merged {id:?} {path} {born}")
            }
            Thing::Frozen {
                source,
                path,
                tree: tree @ (Tree::File(..) | Tree::Link(_)),
                time,
                ..
            } => {
                format!("file {source} {path} {tree:?} {time}")
            }
            Thing::Frozen { source, path, tree, time, git, .. } => {
                let git = git.as_ref().map(disk::top).map(|git| git.what());
                format!("directory {parent:?} {name:?} {source} {path} {tree:?} {time} {git:?}")
            }
            Thing::Live(live) if live.kind.is_directory() => {
                format!("{parent:?} {}", live.what())
            }
            Thing::Live(live) => live.what(),
            Thing::Overlay => "overlay".to_owned(),
            Thing::Revisions => "revisions".to_owned(),
            Thing::Text { bytes, .. } => {
                format!("text {name:?} {}", String::from_utf8_lossy(bytes))
            }
        }
    }

    pub(super) fn count(
        &mut self,
        parent: Number,
        number: Number,
        thing: Thing,
        is_listed_only: bool,
    ) {
        let new = || Known { thing: thing.clone(), parent, lookups: 0, is_listed_only };
        let known = self.known.entry(number).or_insert_with(new);
        known.lookups += 1;
        // Of a set of which only the name is known, whoever looks gets the newest of its id.
        if known.is_listed_only {
            (known.thing, known.is_listed_only) = (thing, is_listed_only);
        }
    }

    /// The attributes of a node that is known are those of what it stands for.
    pub(super) fn agree(&self, attr: Attr, lifetime: Lifetime) {
        let thing = &self.known[&attr.number].thing;
        let (kind, size, time) = self.world.attr(thing).expect("it is there");
        assert_eq!((attr.kind, attr.size_bytes), (kind, size), "{thing:?}");
        assert!(time.is_none_or(|time| attr.modified == time), "{attr:?}: {time:?} {thing:?}");
        assert_eq!(lifetime, thing.lasting(), "{thing:?}");
        if lifetime == Lifetime::Unlimited {
            self.cache.borrow_mut().attrs.insert(attr.number, attr);
        }
    }

    fn attr(&mut self, number: Number) {
        let answer = self.view.attr(number);
        if self.world.attr(&self.known[&number].thing).is_none() {
            return assert!(matches!(answer, Err(ViewError::Stale)));
        }
        let (attr, lifetime) = answer.unwrap();
        assert_eq!(attr.number, number);
        self.agree(attr, lifetime);
    }

    fn forget(&mut self, number: Number, count: u64) {
        self.view.forget(number, count);
        let known = self.known.get_mut(&number).unwrap();
        known.lookups = known.lookups.saturating_sub(count);
        if known.lookups == 0 && number != Number::ROOT {
            self.known.remove(&number);
            let cache = self.cache.get_mut();
            cache.names.retain(|(parent, _), child| *parent != number && *child != Some(number));
            cache.attrs.remove(&number);
            self.offsets.retain(|(directory, _), _| *directory != number);
        }
        assert_eq!(self.view.known_nodes(), self.known.len());
    }
}

impl Thing {
    /// How long the kernel may keep its attributes.
    pub(super) fn lasting(&self) -> Lifetime {
        if matches!(self, Self::Live(_)) { Lifetime::Live } else { Lifetime::Unlimited }
    }
}
