//! Extended attributes that say where a file comes from (S42).

use std::sync::Arc;

use super::nodes::{Node, Number};
use super::{View, ViewError};
use crate::snapshot::{Snapshot, Source};
use crate::union::name::RelPath;

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
        let (Some(name), Some((source, path))) = (name, origin(&node)) else {
            return Err(ViewError::NoAttribute);
        };
        let value = match name {
            "source" => Some(source.label.clone().into_bytes()),
            "ref" if source.is_live => None,
            "ref" => Some(source.git_ref.clone().unwrap_or_else(|| "HEAD".into()).into_bytes()),
            "revision" => Some(source.revision.to_string().into_bytes()),
            "path" => Some(path.to_bytes()),
            "hides" => hides(&self.snapshot(), source, &path).map(String::into_bytes),
            _ => None,
        };
        value.ok_or(ViewError::NoAttribute)
    }

    /// The names of extended attributes that a listing shows: none, so that copies do not carry them along.
    ///
    /// # Errors
    /// Attributes are off.
    pub fn listed_xattrs(&self) -> Result<(), ViewError> {
        if self.settings.has_xattrs { Ok(()) } else { Err(ViewError::AttributesOff) }
    }
}

/// The source of a node and its path there; nothing for what comes from no single source.
fn origin(node: &Node) -> Option<(&Arc<Source>, RelPath)> {
    match node {
        Node::Tree(tree) => Some((&tree.source, tree.path())),
        Node::Child(tree, index) => Some((&tree.source, tree.child_path(*index))),
        Node::Leaf(leaf) => Some((&leaf.source, leaf.path.clone())),
        Node::Live(live) => Some((&live.source, live.path.clone())),
        Node::Merged(_)
        | Node::Empty { .. }
        | Node::Overlay(_)
        | Node::Revisions(..)
        | Node::Front(_)
        | Node::Kept { .. }
        | Node::Text(_) => None,
    }
}

/// The labels of the sources whose entries the entry at this path hides, joined by commas; `None` if it is no entry that is visible.
fn hides(snapshot: &Snapshot, source: &Source, path: &RelPath) -> Option<String> {
    let mut entries = snapshot.stacks.iter().flat_map(|stack| {
        let visible = stack.visible();
        visible.map(move |placed| (stack, placed))
    });
    let (stack, placed) = entries.find(|(_, placed)| {
        placed.entry.source_path == *path && snapshot.source(placed.source).key == source.key
    })?;
    let hidden = placed.hides.iter().map(|position| stack.placed[*position].source);
    Some(hidden.map(|id| snapshot.source(id).label.clone()).collect::<Vec<_>>().join(","))
}
