//! Extended attributes that say where a file comes from (S42).

use std::sync::Arc;

use super::kept::Kept;
use super::nodes::{Node, Number};
use super::{View, ViewError};
use crate::snapshot::{Snapshot, Source};
use crate::union::name::RelPath;
use crate::union::object::Object;

/// What every name starts with.
const PREFIX: &str = "user.overlayfs-mount.";

impl View {
    /// The value of an extended attribute: text, without a newline.
    ///
    /// # Errors
    /// Attributes are off, the node is not known, or it has no such attribute.
    pub fn xattr(&self, number: Number, name: &[u8]) -> Result<Vec<u8>, ViewError> {
        if !self.settings.has_xattrs {
            return Err(ViewError::AttributesOff);
        }
        let node = self.node(number)?;
        let name = str::from_utf8(name).ok().and_then(|name| name.strip_prefix(PREFIX));
        let (Some(name), Some((source, object, path))) = (name, origin(&node)) else {
            return Err(ViewError::NoAttribute);
        };
        let value = match name {
            "source" => Some(source.label.clone().into_bytes()),
            "ref" if source.is_live => None,
            "ref" => Some(source.git_ref.clone().unwrap_or_else(|| "HEAD".into()).into_bytes()),
            "revision" => Some(source.revision.to_string().into_bytes()),
            "path" => Some(path.to_bytes()),
            "hides" => self.hides(&node, (source, object), &path).map(String::into_bytes),
            _ => None,
        };
        value.ok_or(ViewError::NoAttribute)
    }

    /// What an entry hides in the set that it is in: the one that its place is pinned to, else the newest that has it, of those in memory. A
    /// file is one file in all sets that have it.
    fn hides(
        &self,
        node: &Node,
        (source, object): (&Source, &Object),
        path: &RelPath,
    ) -> Option<String> {
        if let Some(pin) = self.pin_above(node) {
            return hides(&pin, source, path, None);
        }
        let moment = self.now.load();
        let kept = moment.kept.iter().rev().filter_map(Kept::in_memory);
        if matches!(node, Node::Live(_)) {
            return hides(&moment.snapshot, source, path, None);
        }
        let mut sets = [moment.snapshot.clone()].into_iter().chain(kept);
        sets.find_map(|set| hides(&set, source, path, Some(object)))
    }

    /// The set that a directory is below in `.overlay/revisions`.
    fn pin_above(&self, node: &Node) -> Option<Arc<Snapshot>> {
        let mut above = parent(node)?;
        loop {
            let node = self.node(above).ok()?;
            if let Node::Merged(merged) = node {
                return merged.pin.clone();
            }
            // A directory has its number before what it holds.
            above = parent(&node).filter(|next| *next < above)?;
        }
    }

    /// The names of extended attributes that a listing shows: none, so that copies do not carry them along.
    ///
    /// # Errors
    /// Attributes are off.
    pub fn listed_xattrs(&self) -> Result<(), ViewError> {
        if self.settings.has_xattrs { Ok(()) } else { Err(ViewError::AttributesOff) }
    }
}

/// The source of a node, what it is of that, and its path there; nothing for what comes from no single source.
fn origin(node: &Node) -> Option<(&Arc<Source>, &Object, RelPath)> {
    match node {
        Node::Tree(tree) => Some((&tree.source, &tree.object, tree.path())),
        Node::Child(tree, index) => {
            Some((&tree.source, &tree.child_at(*index).0.object, tree.child_path(*index)))
        }
        Node::Leaf(leaf) => Some((&leaf.source, &leaf.object, leaf.path.clone())),
        Node::Live(live) => Some((&live.source, &live.object, live.path.clone())),
        Node::Merged(_)
        | Node::Empty { .. }
        | Node::Overlay(_)
        | Node::Revisions(..)
        | Node::Front(_)
        | Node::Kept { .. }
        | Node::Text(_) => None,
    }
}

/// The directory that holds one that is at a single place.
fn parent(node: &Node) -> Option<Number> {
    match node {
        Node::Tree(tree) => Some(tree.parent()),
        Node::Live(live) if live.object.kind().is_directory() => Some(live.parent),
        Node::Live(_)
        | Node::Child(..)
        | Node::Leaf(_)
        | Node::Merged(_)
        | Node::Empty { .. }
        | Node::Overlay(_)
        | Node::Revisions(..)
        | Node::Front(_)
        | Node::Kept { .. }
        | Node::Text(_) => None,
    }
}

/// The labels of the sources whose entries the entry at this path of a source hides, joined by commas; `None` if it is no entry that is
/// visible, or not this object. A file is one file wherever it is shown: what it hides on any surface counts.
fn hides(
    snapshot: &Snapshot,
    source: &Source,
    path: &RelPath,
    object: Option<&Object>,
) -> Option<String> {
    let mut is_entry = false;
    let mut labels: Vec<&str> = Vec::new();
    for stack in &snapshot.stacks {
        let entries = stack.visible().filter(|placed| {
            placed.entry.source_path == *path
                && snapshot.source(placed.source).key == source.key
                && object.is_none_or(|object| placed.entry.object == *object)
        });
        for position in entries.inspect(|_| is_entry = true).flat_map(|placed| &placed.hides) {
            let label = snapshot.source(stack.placed[*position].source).label.as_str();
            if !labels.contains(&label) {
                labels.push(label);
            }
        }
    }
    is_entry.then(|| labels.join(","))
}
