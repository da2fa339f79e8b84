//! What a source holds at the sub-directory of a surface, as a tree in memory.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::{name, path};
use crate::union::entries::{self, Child, Entry, Offer};
use crate::union::name::RelPath;
use crate::union::object::{Kind, Object, Oid};
use crate::union::source::SourceName;
use crate::union::surface::EntryRule;

/// The marker of the tests' packages.
pub(super) const MARKER: &str = "m";

/// A file, or a directory with what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tree {
    File,
    Directory(BTreeMap<String, Tree>),
}

/// Stands for the content of one path of one source: no two are equal.
pub(super) fn object(source: usize, path: &str, is_directory: bool) -> Object {
    let mut hasher = DefaultHasher::new();
    (source, path).hash(&mut hasher);
    let mut id = [0; 20];
    id[..8].copy_from_slice(&hasher.finish().to_be_bytes());
    let kind = if is_directory { Kind::Directory } else { Kind::File { is_executable: false } };
    Object::Frozen { kind, oid: Oid::from_bytes(&id).expect("20 bytes are an id") }
}

impl Tree {
    /// The tree of these files; a path that ends in `/` is an empty directory, `.` alone is a file instead of a directory.
    pub(super) fn of(files: &[&str]) -> Self {
        if files == ["."] {
            return Self::File;
        }
        let mut root = Self::Directory(BTreeMap::new());
        for file in files {
            let mut place = &mut root;
            for part in file.trim_end_matches('/').split('/') {
                if matches!(place, Self::File) {
                    *place = Self::Directory(BTreeMap::new());
                }
                let Self::Directory(children) = place else { unreachable!() };
                place = children.entry(part.into()).or_insert(Self::File);
            }
            if file.ends_with('/') {
                *place = Self::Directory(BTreeMap::new());
            }
        }
        root
    }

    pub(super) fn is_directory(&self) -> bool {
        matches!(self, Self::Directory(_))
    }

    /// Every path in the tree but its root, with whether it is a directory.
    pub(super) fn paths(&self) -> BTreeMap<String, bool> {
        let mut found = BTreeMap::new();
        if let Self::Directory(children) = self {
            for (name, child) in children {
                found.insert(name.clone(), child.is_directory());
                let below = child.paths();
                found.extend(below.iter().map(|(path, is)| (format!("{name}/{path}"), *is)));
            }
        }
        found
    }

    /// Everything at and below a path in the source.
    pub(super) fn below(&self, source: usize, from: &RelPath) -> Vec<(RelPath, Object)> {
        let all = self.paths().into_iter().map(|(text, is)| (format!("sub/{text}"), is));
        let all = all.chain([("sub".to_owned(), self.is_directory())]);
        let inside = all.filter_map(|(text, is)| {
            Some((path(&text).strip_prefix(from)?, object(source, &text, is)))
        });
        inside.collect()
    }

    /// The entries of this tree, standing at `sub` in the source of this position.
    pub(super) fn entries(&self, rule: &EntryRule, position: usize) -> Vec<Entry> {
        let offer = match self {
            Self::File => Offer::File(object(position, "sub", false)),
            Self::Directory(_) => Offer::Directory(self.children(rule, position, 1, "sub")),
        };
        let source = SourceName { owner: name("o"), repo: name("r") };
        entries::entries(rule, offer, &path("sub"), &source, position)
    }

    /// Lists the tree as deep as the rule asks for.
    fn children(&self, rule: &EntryRule, position: usize, level: u32, at: &str) -> Vec<Child> {
        let Self::Directory(children) = self else { return Vec::new() };
        let list = |(text, child): (&String, &Tree)| {
            let name = name(text);
            let at = format!("{at}/{text}");
            let object = object(position, &at, child.is_directory());
            let kind = object.kind();
            let mut listed = Child::leaf(name.clone(), object);
            listed.has_marker =
                entries::may_hold_marker(rule, level, &name, kind) && child.holds_marker();
            if !listed.has_marker && entries::may_be_category(rule, level, &name, kind) {
                listed.children = child.children(rule, position, level + 1, &at);
            }
            listed
        };
        children.iter().map(list).collect()
    }

    fn holds_marker(&self) -> bool {
        matches!(self, Self::Directory(children) if children.get(MARKER) == Some(&Self::File))
    }
}
