//! What a view of random sources has to show, said as plainly as possible.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::disk::{self, Gits, Live, Place, Time};
use super::sets::Revision;
use crate::config::resolved::Links;
use crate::snapshot::Snapshot;
use crate::store::memory::{MemoryBuilder, MemoryStore};
use crate::store::walk;
use crate::union::name::{Name, RelPath};
use crate::union::namespace::{Directory, Item};
use crate::union::object::Kind;
use crate::union::succession::Remembered;

/// A source's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tree {
    /// A file with this content, and whether it is executable.
    File(u8, bool),
    Link(&'static str),
    Submodule,
    Directory(BTreeMap<&'static str, Tree>),
}

impl Tree {
    pub(super) fn at(&self, at: &RelPath) -> Option<&Self> {
        at.names().iter().try_fold(self, |tree, name| match tree {
            Self::Directory(children) => children
                .iter()
                .find(|(known, _)| known.as_bytes() == name.as_bytes())
                .map(|(_, tree)| tree),
            Self::File(..) | Self::Link(_) | Self::Submodule => None,
        })
    }

    pub(super) fn store(&self) -> MemoryStore {
        self.put(MemoryStore::builder(), "").build()
    }

    fn put(&self, builder: MemoryBuilder, at: &str) -> MemoryBuilder {
        match self {
            Self::File(content, true) => builder.exec(at, bytes(*content)),
            Self::File(content, false) => builder.file(at, bytes(*content)),
            Self::Link(target) => builder.link(at, target),
            Self::Submodule => builder.submodule(at),
            Self::Directory(children) => {
                let builder = if at.is_empty() { builder } else { builder.directory(at) };
                children.iter().fold(builder, |builder, (name, child)| {
                    let below =
                        if at.is_empty() { (*name).to_owned() } else { format!("{at}/{name}") };
                    child.put(builder, &below)
                })
            }
        }
    }
}

/// The bytes of a content: of 0 none, of others more than one page now and then.
pub(super) fn bytes(content: u8) -> Vec<u8> {
    format!("{content};").repeat(usize::from(content) * usize::from(content) * 90).into_bytes()
}

/// A revision set: which revision of each source from git, and which source has the surface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) revisions: [usize; 2],
    /// Which `.git` these have, if any.
    pub(super) gits: [usize; 2],
    /// Which source's `skills` are shown: that of the live one is 2.
    pub(super) on_surface: usize,
    /// Whether sources are shown whole.
    pub(super) is_whole: bool,
}

/// What a number stands for.
#[derive(Debug, Clone)]
pub(super) enum Thing {
    /// A merged directory, in the set that it is pinned to or the current one.
    Merged {
        pin: Option<usize>,
        path: RelPath,
        born: u64,
    },
    /// A frozen directory, of the revision that it was found in.
    Frozen {
        source: usize,
        revision: usize,
        path: RelPath,
        tree: Tree,
        time: i64,
        git: Option<Arc<Place>>,
    },
    Live(Live),
    Overlay,
    Revisions,
    /// A file or link of `.overlay`.
    Text {
        bytes: Arc<[u8]>,
        is_link: bool,
    },
}

/// What a node is to whoever looks into it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Directory,
    /// It was one and is not there any more.
    Gone,
    Other,
}

/// All sources, and the sets that were shown so far.
pub(super) struct World {
    links: Links,
    gits: Arc<Gits>,
    pub(super) revisions: [Vec<Revision>; 2],
    pub(super) disk: Arc<Place>,
    /// Every set with the choice that it was made of. Two of one id in a row have one place in the order of sets.
    pub(super) sets: Vec<(Arc<Snapshot>, Choice)>,
    /// The sets that were left and are kept, oldest first.
    pub(super) kept: Vec<usize>,
    pub(super) remembered: Remembered,
    _dir: tempfile::TempDir,
}

/// So many sets are kept, the current one included.
pub(super) const SETS_KEPT: usize = 3;

/// The live source.
pub(super) const LIVE: usize = 2;

impl World {
    pub(super) fn new(
        links: Links,
        trees: [Vec<Tree>; 2],
        live: &Tree,
        gits: Arc<Gits>,
        first: Choice,
    ) -> Self {
        let mut source = 0;
        let revisions = trees.map(|trees| {
            let revisions = trees.into_iter().enumerate();
            let of_source =
                revisions.map(|(index, tree)| Revision::new(source, index, tree, &gits)).collect();
            source += 1;
            of_source
        });
        let dir = tempfile::tempdir().unwrap();
        disk::put(live, dir.path());
        let disk = Place::new(dir.path(), "o/3", 3);
        let (sets, kept, remembered) = Default::default();
        let mut world = Self { links, gits, revisions, disk, sets, kept, remembered, _dir: dir };
        world.follow(first);
        world
    }

    pub(super) fn current(&self) -> usize {
        self.sets.len() - 1
    }

    /// The directory of a merged one in the set that decides; `None` if it is not there.
    pub(super) fn directory(
        &self,
        set: usize,
        path: &RelPath,
        born: u64,
    ) -> Option<Arc<Directory>> {
        match self.sets[set].0.namespace.resolve(path) {
            Some((Item::Directory(directory), rest)) if rest.is_root() => {
                (directory.born == born || path.is_root()).then_some(directory)
            }
            Some(_) | None => None,
        }
    }

    /// Type, size and time; `None` if it is not there any more.
    pub(super) fn attr(&self, thing: &Thing) -> Option<(Kind, u64, Option<Time>)> {
        Some(match thing {
            Thing::Merged { pin, path, born } => {
                let directory = self.directory(pin.unwrap_or(self.current()), path, *born)?;
                (Kind::Directory, 0, Some((directory.time_secs, 0)))
            }
            Thing::Frozen { tree, time, .. } => {
                let (kind, len) = match tree {
                    Tree::File(content, is_executable) => {
                        (Kind::File { is_executable: *is_executable }, bytes(*content).len())
                    }
                    Tree::Link(target) => (Kind::Link, target.len()),
                    Tree::Submodule | Tree::Directory(_) => (Kind::Directory, 0),
                };
                (kind, len as u64, Some((*time, 0)))
            }
            Thing::Live(live) => {
                let (kind, size, time) = live.attr()?;
                (kind, size, Some(time))
            }
            Thing::Overlay | Thing::Revisions => (Kind::Directory, 0, None),
            Thing::Text { bytes, is_link } => {
                let file = Kind::File { is_executable: false };
                (if *is_link { Kind::Link } else { file }, bytes.len() as u64, None)
            }
        })
    }

    pub(super) fn standing(&self, thing: &Thing) -> Standing {
        let is_directory = match thing {
            Thing::Merged { .. } | Thing::Overlay | Thing::Revisions => true,
            Thing::Frozen { tree, .. } => matches!(tree, Tree::Directory(_) | Tree::Submodule),
            Thing::Live(live) => live.kind.is_directory(),
            Thing::Text { .. } => false,
        };
        match (is_directory, self.attr(thing)) {
            (false, _) => Standing::Other,
            (true, Some(_)) => Standing::Directory,
            (true, None) => Standing::Gone,
        }
    }

    /// The names of a directory in a set, sorted; `None` if it is none, or not there any more.
    pub(super) fn children(&self, thing: &Thing, set: usize) -> Option<Vec<(Vec<u8>, Thing)>> {
        let places = self.places(thing, set)?.into_iter();
        Some(places.filter_map(|(name, thing)| Some((name, thing?))).collect())
    }

    /// The names of a directory in a set, sorted, also those that have a place in listings and are not shown now.
    pub(super) fn places(
        &self,
        thing: &Thing,
        set: usize,
    ) -> Option<Vec<(Vec<u8>, Option<Thing>)>> {
        let all = |shown: Vec<(Vec<u8>, Thing)>| {
            Some(shown.into_iter().map(|(name, thing)| (name, Some(thing))).collect())
        };
        match thing {
            Thing::Merged { pin, path, born } => {
                let set = pin.unwrap_or(set);
                let directory = self.directory(set, path, *born)?;
                let items = directory.items.iter();
                let item = |(name, item): &(Name, Item)| {
                    (name.as_bytes().to_vec(), self.item(*pin, set, path, name, item))
                };
                Some(items.map(item).collect())
            }
            Thing::Frozen { tree: Tree::Submodule, .. } => Some(Vec::new()),
            Thing::Frozen {
                source,
                revision,
                path,
                tree: Tree::Directory(children),
                time,
                git,
            } => {
                let shown = children.iter().filter(|(_, child)| {
                    self.links == Links::All || self.stays(*source, *revision, path, child)
                });
                let frozen = |(name, child): (&&str, &Tree)| {
                    let path = path.join(&Name::new(name).unwrap());
                    let (source, revision, tree) = (*source, *revision, child.clone());
                    let thing =
                        Thing::Frozen { source, revision, path, tree, time: *time, git: None };
                    (name.as_bytes().to_vec(), thing)
                };
                let git = git.iter().map(|git| (b".git".to_vec(), Thing::Live(disk::top(git))));
                let mut shown: Vec<_> = shown.map(frozen).chain(git).collect();
                shown.sort_by(|(one, _), (other, _)| one.cmp(other));
                all(shown)
            }
            Thing::Live(live) => {
                let found = live.children(self.links)?.into_iter();
                Some(found.map(|(name, live)| (name, live.map(Thing::Live))).collect())
            }
            Thing::Overlay => all(self.overlay()),
            Thing::Revisions => all(self.kept_sets()),
            Thing::Frozen { .. } | Thing::Text { .. } => None,
        }
    }

    /// What a name of a merged directory leads to; `None` for what is not on the disk as it was when the set was built.
    fn item(
        &self,
        pin: Option<usize>,
        set: usize,
        above: &RelPath,
        name: &Name,
        item: &Item,
    ) -> Option<Thing> {
        let shown = match item {
            Item::Directory(directory) => {
                return Some(Thing::Merged { pin, path: above.join(name), born: directory.born });
            }
            Item::Entry(shown) => shown,
        };
        let (source, path) = (shown.source.index(), shown.source_path.clone());
        if source == LIVE {
            let (live, _) = self.disk.look(&path)?;
            let is_alike = live.kind.is_directory() == shown.object.kind().is_directory();
            return is_alike.then_some(Thing::Live(live));
        }
        let choice = self.sets[set].1;
        let revision = choice.revisions[source];
        let tree = self.revisions[source][revision].tree.at(&path).unwrap().clone();
        let git = self.gits.get(source, revision, choice.gits[source]);
        let git = git.filter(|_| shown.surface.is_none()).cloned();
        Some(Thing::Frozen { source, revision, path, tree, time: shown.time_secs, git })
    }

    fn stays(&self, source: usize, revision: usize, directory: &RelPath, child: &Tree) -> bool {
        let Tree::Link(target) = child else { return true };
        let store = self.revisions[source][revision].store.as_ref();
        !walk::leaves_source(store, directory, target.as_bytes()).unwrap()
    }

    fn overlay(&self) -> Vec<(Vec<u8>, Thing)> {
        let now = &self.sets[self.current()].0;
        let current = format!("revisions/{}", now.id).into_bytes().into();
        let mut found = vec![
            (b"current".to_vec(), Thing::Text { bytes: current, is_link: true }),
            (b"revisions".to_vec(), Thing::Revisions),
        ];
        for (name, bytes) in now.texts() {
            let text = Thing::Text { bytes: bytes.clone(), is_link: false };
            found.push((name.as_bytes().to_vec(), text));
        }
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        found
    }

    /// The sets that can be read. Of several with one id the newest.
    fn kept_sets(&self) -> Vec<(Vec<u8>, Thing)> {
        let mut found = BTreeMap::new();
        for set in self.kept.iter().copied().chain([self.current()]) {
            let root = Thing::Merged { pin: Some(set), path: RelPath::root(), born: 0 };
            found.insert(self.sets[set].0.id.to_string().into_bytes(), root);
        }
        found.into_iter().collect()
    }
}
