//! Layers become stacks, stacks become a namespace. Hiding is stated here, once: see [`Stack::merge`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use super::entries::{Entry, EntryKey};
use super::name::{Name, RelPath};
use super::object::Object;
use super::source::SourceId;
use super::surface::SurfaceId;

/// One source's entries on one surface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The source they come from.
    pub source: SourceId,
    /// The entries, in any order.
    pub entries: Vec<Entry>,
}

/// An entry at its place in a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The source it comes from.
    pub source: SourceId,
    /// The entry.
    pub entry: Entry,
    /// The position in the stack of the topmost entry that hides it; `None` if it is visible.
    pub hidden_by: Option<usize>,
    /// The positions in the stack of the entries for which it is the topmost that hides them, bottom first.
    pub hides: Vec<usize>,
}

/// All entries of one surface, bottom layer first, each knowing whether it is visible.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stack {
    /// The entries in layer order.
    pub placed: Vec<Placed>,
}

impl Stack {
    /// Merges layers, bottom first.
    ///
    /// An entry is hidden if a later layer holds a package of the same name (both being packages), or any entry whose
    /// path is the same, above or below (S6, S8, S9). Whether that later entry is itself visible does not matter.
    /// Entries of one layer never hide each other (S11).
    pub fn merge(layers: Vec<Layer>) -> Self {
        let mut stack = Self::default();
        let mut layer_ends = Vec::with_capacity(layers.len());
        for Layer { source, entries } in layers {
            stack.placed.extend(entries.into_iter().map(|entry| Placed {
                source,
                entry,
                hidden_by: None,
                hides: Vec::new(),
            }));
            layer_ends.push(stack.placed.len());
        }
        // From the topmost layer down: what may hide an entry is known when its layer is reached.
        let mut later = Later::default();
        while let Some(end) = layer_ends.pop() {
            let start = layer_ends.last().copied().unwrap_or(0);
            for placed in &mut stack.placed[start..end] {
                placed.hidden_by = later.topmost_hider(&placed.entry);
            }
            for (offset, placed) in stack.placed[start..end].iter().enumerate() {
                later.add(&placed.entry, start + offset);
            }
        }
        for position in 0..stack.placed.len() {
            if let Some(hider) = stack.placed[position].hidden_by {
                stack.placed[hider].hides.push(position);
            }
        }
        stack
    }

    /// The visible entries, bottom layer first.
    pub fn visible(&self) -> impl Iterator<Item = &Placed> {
        self.placed.iter().filter(|placed| placed.hidden_by.is_none())
    }
}

/// The entries of the layers above the one that is looked at. For each way of hiding, the position in the stack of the topmost entry.
#[derive(Default)]
struct Later {
    /// Packages, by their own name.
    packages: HashMap<Name, usize>,
    /// Entries, by their path.
    at: HashMap<RelPath, usize>,
    /// Entries, by each path above theirs.
    below: HashMap<RelPath, usize>,
}

impl Later {
    fn topmost_hider(&self, entry: &Entry) -> Option<usize> {
        let same_package = match &entry.key {
            EntryKey::Package(name) => self.packages.get(name).copied(),
            EntryKey::Path => None,
        };
        let at_or_above = prefixes(&entry.path).filter_map(|prefix| self.at.get(&prefix).copied());
        let below = self.below.get(&entry.path).copied();
        at_or_above.chain(same_package).chain(below).max()
    }

    fn add(&mut self, entry: &Entry, position: usize) {
        let keep_topmost = |known: &mut usize| *known = (*known).max(position);
        if let EntryKey::Package(name) = &entry.key {
            self.packages.entry(name.clone()).and_modify(keep_topmost).or_insert(position);
        }
        self.at.entry(entry.path.clone()).and_modify(keep_topmost).or_insert(position);
        for above in prefixes(&entry.path).filter(|above| *above != entry.path) {
            self.below.entry(above).and_modify(keep_topmost).or_insert(position);
        }
    }
}

/// All prefixes of a path that are not the root, the path itself last.
fn prefixes(path: &RelPath) -> impl Iterator<Item = RelPath> + '_ {
    (1..=path.names().len()).map(|len| path.names()[..len].iter().cloned().collect())
}

/// A visible entry at its place in the view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The source it comes from.
    pub source: SourceId,
    /// The surface it is on; `None` for a source that is shown whole.
    pub surface: Option<SurfaceId>,
    /// Where it stands in its source.
    pub source_path: RelPath,
    /// What it is.
    pub object: Object,
    /// The time of everything in it, in seconds since 1970; live objects have their own.
    pub time_secs: i64,
}

/// A name in a merged directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A merged directory: a surface, one above a surface, a category or an owner.
    Directory(Arc<Directory>),
    /// An entry: everything below it comes from one source.
    Entry(Arc<Shown>),
}

/// A merged directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    /// Its names, sorted by bytes.
    pub items: Vec<(Name, Item)>,
    /// The time of its last change, in seconds since 1970.
    pub time_secs: i64,
    /// The serial number of the snapshot since which it has been there without a gap: one that vanished and came back is another directory.
    pub born: u64,
}

impl Directory {
    /// The item of this name.
    pub fn get(&self, name: &[u8]) -> Option<&Item> {
        let found = self.items.binary_search_by(|(known, _)| known.as_bytes().cmp(name));
        found.ok().map(|index| &self.items[index].1)
    }

    /// All entries in it and in the directories below, each with its path from here, sorted by path.
    pub fn entries(&self) -> Vec<(RelPath, &Arc<Shown>)> {
        let mut found = Vec::new();
        self.collect_entries(&RelPath::root(), &mut found);
        found
    }

    fn collect_entries<'a>(&'a self, path: &RelPath, found: &mut Vec<(RelPath, &'a Arc<Shown>)>) {
        for (name, item) in &self.items {
            let path = path.join(name);
            match item {
                Item::Directory(directory) => directory.collect_entries(&path, found),
                Item::Entry(shown) => found.push((path, shown)),
            }
        }
    }
}

/// The tree of merged directories with the visible entries at its leaves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespace {
    root: Arc<Directory>,
}

impl Namespace {
    /// Puts entries at their paths in the view. `always` are directories that exist even when empty.
    ///
    /// Paths of entries are never prefixes of one another: [`Stack::merge`] and the checks on surfaces see to that. Should
    /// they be nevertheless, the entry above stays and the one below is left out. An empty directory has time `floor_secs`.
    pub fn new(
        entries: impl IntoIterator<Item = (RelPath, Shown)>,
        always: impl IntoIterator<Item = RelPath>,
        floor_secs: i64,
    ) -> Self {
        let mut root = GrowingDirectory::default();
        for path in always {
            root.directory(path.names());
        }
        for (path, shown) in entries {
            root.insert(path.names(), shown);
        }
        Self { root: Arc::new(root.finish(floor_secs)) }
    }

    /// The tree below a root.
    pub fn from_root(root: Arc<Directory>) -> Self {
        Self { root }
    }

    /// The directory at the root.
    pub fn root(&self) -> &Arc<Directory> {
        &self.root
    }

    /// The deepest item on `path`, with the components below it; `None` where a merged directory lacks the next component.
    pub fn resolve(&self, path: &RelPath) -> Option<(Item, RelPath)> {
        let mut item = Item::Directory(self.root.clone());
        let names = path.names();
        for (index, name) in names.iter().enumerate() {
            let next = match &item {
                Item::Directory(directory) => directory.get(name.as_bytes())?.clone(),
                Item::Entry(_) => return Some((item, names[index..].iter().cloned().collect())),
            };
            item = next;
        }
        Some((item, RelPath::root()))
    }
}

/// A merged directory while entries are put into it.
#[derive(Default)]
struct GrowingDirectory {
    children: BTreeMap<Name, GrowingItem>,
}

enum GrowingItem {
    Directory(GrowingDirectory),
    Entry(Shown),
}

impl GrowingDirectory {
    fn directory(&mut self, path: &[Name]) -> Option<&mut Self> {
        let Some((first, rest)) = path.split_first() else { return Some(self) };
        let place = self.children.entry(first.clone());
        match place.or_insert_with(|| GrowingItem::Directory(Self::default())) {
            GrowingItem::Directory(directory) => directory.directory(rest),
            GrowingItem::Entry(_) => None,
        }
    }

    fn insert(&mut self, path: &[Name], shown: Shown) {
        let Some((name, above)) = path.split_last() else { return };
        if let Some(directory) = self.directory(above) {
            directory.children.insert(name.clone(), GrowingItem::Entry(shown));
        }
    }

    fn finish(self, floor_secs: i64) -> Directory {
        let mut items = Vec::with_capacity(self.children.len());
        let mut time_secs = floor_secs;
        for (name, place) in self.children {
            let item = match place {
                GrowingItem::Directory(growing) => {
                    let directory = growing.finish(floor_secs);
                    time_secs = time_secs.max(directory.time_secs);
                    Item::Directory(Arc::new(directory))
                }
                GrowingItem::Entry(shown) => {
                    time_secs = time_secs.max(shown.time_secs);
                    Item::Entry(Arc::new(shown))
                }
            };
            items.push((name, item));
        }
        Directory { items, time_secs, born: 0 }
    }
}

/// Of sources with their names, bottom first, those that are the last of their name: these are shown at `<owner>/<repo>` (S3).
pub fn last_of_each_name<'a, N: Hash + Eq + 'a>(
    names: impl DoubleEndedIterator<Item = (SourceId, &'a N)>,
) -> Vec<SourceId> {
    let mut seen = HashSet::new();
    let mut last: Vec<_> =
        names.rev().filter_map(|(id, name)| seen.insert(name).then_some(id)).collect();
    last.reverse();
    last
}
