//! What a view of random sources has to show, said as plainly as possible.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use crate::config::resolved::Links;
use crate::snapshot::{Snapshot, Source};
use crate::store::memory::{MemoryBuilder, MemoryStore};
use crate::store::walk;
use crate::union::name::{Name, RelPath};
use crate::union::namespace::{Directory, Item, Namespace, Shown};
use crate::union::object::Kind;
use crate::union::revision::RevisionSetId;
use crate::union::source::SourceId;
use crate::union::succession::{Remembered, Succession};
use crate::view::sample::{path, source_of};

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
    fn at(&self, at: &RelPath) -> Option<&Self> {
        at.names().iter().try_fold(self, |tree, name| match tree {
            Self::Directory(children) => children
                .iter()
                .find(|(known, _)| known.as_bytes() == name.as_bytes())
                .map(|(_, tree)| tree),
            Self::File(..) | Self::Link(_) | Self::Submodule => None,
        })
    }

    fn store(&self) -> MemoryStore {
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

/// A revision set: which revision of each source, and which of them has the surface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) revisions: [usize; 2],
    /// Which source's `skills` are shown.
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
    },
    Overlay,
    Revisions,
    /// A file or link of `.overlay`.
    Text {
        bytes: Arc<[u8]>,
        is_link: bool,
    },
}

/// All sources, and the sets that were shown so far.
pub(super) struct World {
    links: Links,
    revisions: [Vec<(Tree, Arc<Source>)>; 2],
    pub(super) sets: Vec<(Arc<Snapshot>, Choice)>,
    /// The sets that were left and are kept, oldest first.
    pub(super) kept: Vec<usize>,
    remembered: Remembered,
}

/// So many sets are kept, the current one included.
pub(super) const SETS_KEPT: usize = 3;

impl World {
    pub(super) fn new(links: Links, trees: [Vec<Tree>; 2], first: Choice) -> Self {
        let mut key = 0;
        let revisions = trees.map(|trees| {
            key += 1;
            let name = format!("o/{key}");
            let source = |tree: Tree| {
                let store = Arc::new(tree.store());
                (tree, source_of(&name, key, store))
            };
            trees.into_iter().map(source).collect()
        });
        let (sets, kept) = Default::default();
        let mut world = Self { links, revisions, sets, kept, remembered: Remembered::default() };
        world.follow(first);
        world
    }

    /// Makes the next set the current one.
    pub(super) fn follow(&mut self, choice: Choice) -> Arc<Snapshot> {
        let chosen = choice.revisions.map(|revision| revision % self.revisions[0].len());
        let choice = Choice { revisions: chosen, ..choice };
        let serial = self.sets.len() as u64;
        let plain = self.namespace(choice);
        let namespace = match self.sets.last() {
            None => plain,
            Some((before, _)) => Succession {
                is_same: &|old, new| {
                    old.object == new.object
                        && old.source_path == new.source_path
                        && old.source == new.source
                },
                now_secs: 1000,
                serial,
                remembered: &mut self.remembered,
            }
            .follow(&before.namespace, &plain),
        };
        let mut id = [0; 32];
        for (place, revision) in id.iter_mut().zip(chosen) {
            *place = u8::try_from(revision).unwrap();
        }
        (id[2], id[3]) = (u8::try_from(choice.on_surface).unwrap(), u8::from(choice.is_whole));
        let sources = [0, 1].map(|source| self.revisions[source][chosen[source]].1.clone());
        let next = Arc::new(Snapshot {
            id: RevisionSetId(id),
            since: SystemTime::UNIX_EPOCH,
            serial,
            sources: sources.to_vec(),
            namespace,
            ..Snapshot::default()
        });
        if let Some(left) = self.sets.len().checked_sub(1) {
            self.kept.push(left);
        }
        let spare = (self.kept.len() + 1).saturating_sub(SETS_KEPT);
        self.kept.drain(..spare);
        self.sets.push((next.clone(), choice));
        next
    }

    fn namespace(&self, choice: Choice) -> Namespace {
        let shown = |source: usize, source_path: RelPath| {
            let store = &self.revisions[source][choice.revisions[source]].1.store;
            let object = walk::find(store.as_ref(), &source_path).unwrap()?;
            let time_secs = 100 + i64::try_from(choice.revisions[source]).unwrap();
            let source = SourceId(u32::try_from(source).unwrap());
            Some(Shown { source, surface: None, source_path, object, time_secs })
        };
        let mut entries = Vec::new();
        let tree = &self.revisions[choice.on_surface][choice.revisions[choice.on_surface]].0;
        if let Some(Tree::Directory(skills)) = tree.at(&path("skills")) {
            for name in skills.keys() {
                let at = path(&format!("skills/{name}"));
                entries.extend(shown(choice.on_surface, at.clone()).map(|shown| (at, shown)));
            }
        }
        for source in [0, 1] {
            let prompt =
                shown(source, path("p")).filter(|shown| shown.object.kind() != Kind::Directory);
            entries.extend(prompt.map(|shown| (path(&format!("prompts/0{source}.md")), shown)));
            let whole = choice.is_whole.then(|| shown(source, RelPath::root())).flatten();
            entries.extend(whole.map(|shown| (path(&format!("o/{}", source + 1)), shown)));
        }
        Namespace::new(entries, [path("tools")], 50)
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
    pub(super) fn attr(&self, thing: &Thing) -> Option<(Kind, u64, Option<i64>)> {
        Some(match thing {
            Thing::Merged { pin, path, born } => {
                let directory = self.directory(pin.unwrap_or(self.current()), path, *born)?;
                (Kind::Directory, 0, Some(directory.time_secs))
            }
            Thing::Frozen { tree, time, .. } => {
                let (kind, len) = match tree {
                    Tree::File(content, is_executable) => {
                        (Kind::File { is_executable: *is_executable }, bytes(*content).len())
                    }
                    Tree::Link(target) => (Kind::Link, target.len()),
                    Tree::Submodule | Tree::Directory(_) => (Kind::Directory, 0),
                };
                (kind, len as u64, Some(*time))
            }
            Thing::Overlay | Thing::Revisions => (Kind::Directory, 0, None),
            Thing::Text { bytes, is_link } => {
                let file = Kind::File { is_executable: false };
                (if *is_link { Kind::Link } else { file }, bytes.len() as u64, None)
            }
        })
    }

    /// The names of a directory in a set, sorted; `None` if it is none, or not there any more.
    pub(super) fn children(&self, thing: &Thing, set: usize) -> Option<Vec<(Vec<u8>, Thing)>> {
        match thing {
            Thing::Merged { pin, path, born } => {
                let set = pin.unwrap_or(set);
                let directory = self.directory(set, path, *born)?;
                let items = directory.items.iter();
                Some(items.map(|(name, item)| self.item(*pin, set, path, name, item)).collect())
            }
            Thing::Frozen { tree: Tree::Submodule, .. } => Some(Vec::new()),
            Thing::Frozen { source, revision, path, tree: Tree::Directory(children), time } => {
                let shown = children.iter().filter(|(_, child)| {
                    self.links == Links::All || self.stays(*source, *revision, path, child)
                });
                let frozen = |(name, child): (&&str, &Tree)| {
                    let path = path.join(&Name::new(name).unwrap());
                    let (source, revision, tree) = (*source, *revision, child.clone());
                    let thing = Thing::Frozen { source, revision, path, tree, time: *time };
                    (name.as_bytes().to_vec(), thing)
                };
                Some(shown.map(frozen).collect())
            }
            Thing::Overlay => Some(self.overlay()),
            Thing::Revisions => Some(self.kept_sets()),
            Thing::Frozen { .. } | Thing::Text { .. } => None,
        }
    }

    fn item(
        &self,
        pin: Option<usize>,
        set: usize,
        above: &RelPath,
        name: &Name,
        item: &Item,
    ) -> (Vec<u8>, Thing) {
        let thing = match item {
            Item::Directory(directory) => {
                Thing::Merged { pin, path: above.join(name), born: directory.born }
            }
            Item::Entry(shown) => {
                let source = shown.source.index();
                let revision = self.sets[set].1.revisions[source];
                let tree =
                    self.revisions[source][revision].0.at(&shown.source_path).unwrap().clone();
                let (path, time) = (shown.source_path.clone(), shown.time_secs);
                Thing::Frozen { source, revision, path, tree, time }
            }
        };
        (name.as_bytes().to_vec(), thing)
    }

    fn stays(&self, source: usize, revision: usize, directory: &RelPath, child: &Tree) -> bool {
        let Tree::Link(target) = child else { return true };
        let store = self.revisions[source][revision].1.store.as_ref();
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
