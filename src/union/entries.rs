//! The entry rules: which parts of a source's sub-directory are shown or hidden as a whole.

use super::name::{Name, RelPath};
use super::object::{Kind, Object};
use super::source::SourceName;
use super::surface::EntryRule;

/// A child of a sub-directory, listed as deep as [`may_be_category`] asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// Its name.
    pub name: Name,
    /// What it is.
    pub object: Object,
    /// Whether it is a directory that holds the surface's marker.
    pub has_marker: bool,
    /// Its own children, where the rule looks into it; else empty.
    pub children: Vec<Child>,
}

impl Child {
    /// A child into which no rule looks.
    pub fn leaf(name: Name, object: Object) -> Self {
        Self { name, object, has_marker: false, children: Vec::new() }
    }
}

/// What two entries must share for the later one to hide the earlier.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EntryKey {
    /// A package, by its own name, whatever its category (S8).
    Package(Name),
    /// Anything else, by its path on the surface.
    Path,
}

/// A part of a source that is shown or hidden whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands on its surface.
    pub path: RelPath,
    /// How later entries find it.
    pub key: EntryKey,
    /// Where it stands in its source.
    pub source_path: RelPath,
    /// What it is.
    pub object: Object,
}

/// What a source offers at the sub-directory of a surface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    /// A directory with these children.
    Directory(Vec<Child>),
    /// A file; only the prompts rule takes it.
    File(Object),
}

/// True if the name may be a package's or a category's: it starts neither with `.` nor with `_` (S7).
fn may_be_package(name: &Name) -> bool {
    !matches!(name.as_bytes().first(), Some(b'.' | b'_'))
}

/// True if the rule must know whether this object, at `level` (from 1), holds the marker.
pub fn may_hold_marker(rule: &EntryRule, level: u32, name: &Name, kind: Kind) -> bool {
    match rule {
        EntryRule::Packages { depth, .. } => {
            level <= *depth && kind.is_directory() && may_be_package(name)
        }
        EntryRule::Children | EntryRule::Prompts => false,
    }
}

/// True if the rule must know the children of this object, at `level` (from 1) and without a marker.
pub fn may_be_category(rule: &EntryRule, level: u32, name: &Name, kind: Kind) -> bool {
    may_hold_marker(rule, level + 1, name, kind)
}

/// Cuts what a source offers on a surface into entries (S7, S10, S12, S13).
///
/// `base` is the sub-directory in the source, `position` the source's place among those that the view may show, from 0.
pub fn entries(
    rule: &EntryRule,
    offer: Offer,
    base: &RelPath,
    source: &SourceName,
    position: usize,
) -> Vec<Entry> {
    let children = match (rule, offer) {
        (EntryRule::Prompts, Offer::File(object)) => {
            return vec![prompt(object, base, source, position)];
        }
        (_, Offer::File(_)) => return Vec::new(),
        (_, Offer::Directory(children)) => children,
    };
    let mut collected = Collected { rule, entries: Vec::with_capacity(children.len()) };
    collected.add(1, children, &RelPath::root(), base);
    collected.entries
}

/// The single entry of a `promptPath` that names a file (S12).
fn prompt(object: Object, path: &RelPath, source: &SourceName, position: usize) -> Entry {
    let suffix = [b"__".as_slice(), source.repo.as_bytes(), b".md"].concat();
    let bytes = [format!("{position:02}-").as_bytes(), source.owner.as_bytes(), &suffix].concat();
    // Two names of 255 bytes do not fit into one: such a source is known by its position alone.
    let name = Name::new(bytes).or_else(|_| Name::new(format!("{position:02}.md")));
    let name = name.expect("a number and a suffix are a name");
    Entry {
        path: [name].into_iter().collect(),
        key: EntryKey::Path,
        source_path: path.clone(),
        object,
    }
}

/// The entries of a directory, as far as they are collected.
struct Collected<'a> {
    rule: &'a EntryRule,
    entries: Vec<Entry>,
}

impl Collected<'_> {
    /// Adds the entries among children at `level` (from 1), and those in their categories. `path` and `source_path` are of the directory.
    fn add(&mut self, level: u32, children: Vec<Child>, path: &RelPath, source_path: &RelPath) {
        for child in children {
            let path = path.join(&child.name);
            let source_path = source_path.join(&child.name);
            if is_category(self.rule, level, &child) {
                self.add(level + 1, child.children, &path, &source_path);
                continue;
            }
            let is_package = is_package(self.rule, level, &child);
            let key = if is_package { EntryKey::Package(child.name) } else { EntryKey::Path };
            self.entries.push(Entry { path, key, source_path, object: child.object });
        }
    }
}

fn is_package(rule: &EntryRule, level: u32, child: &Child) -> bool {
    child.has_marker && may_hold_marker(rule, level, &child.name, child.object.kind())
}

fn is_category(rule: &EntryRule, level: u32, child: &Child) -> bool {
    !child.has_marker
        && may_be_category(rule, level, &child.name, child.object.kind())
        && child
            .children
            .iter()
            .any(|inner| is_package(rule, level + 1, inner) || is_category(rule, level + 1, inner))
}
