//! Content of files and targets of links.

use std::fs::File;

use super::nodes::{Node, Number};
use super::tree::unreadable;
use super::{View, ViewError};
use crate::snapshot::Source;
use crate::union::name::RelPath;
use crate::union::object::{Kind, Object};

impl View {
    /// Bytes of a file from `offset`: `len` of them, or as many as there are before its end.
    ///
    /// # Errors
    /// The node is no known file, its file is gone, or its object cannot be read. Never fewer bytes without an error (S33).
    pub fn read(&self, number: Number, offset: u64, len: usize) -> Result<Vec<u8>, ViewError> {
        let node = self.node(number)?;
        if let Node::Text(text) = &node {
            let bytes = &text.bytes;
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            return Ok(bytes[start..start.saturating_add(len).min(bytes.len())].to_vec());
        }
        on_object(&node, |source, object| source.store.read(object, offset, len))
    }

    /// The same, but `None` where that would take long: a large object must be decoded first.
    ///
    /// # Errors
    /// As [`View::read`].
    pub fn read_at_hand(
        &self,
        number: Number,
        offset: u64,
        len: usize,
    ) -> Result<Option<Vec<u8>>, ViewError> {
        let node = self.node(number)?;
        if let Node::Text(_) = &node {
            return self.read(number, offset, len).map(Some);
        }
        on_object(&node, |source, object| {
            source.store.read_at_hand(object, known_size(&node), offset, len)
        })
    }

    /// All of a file of a frozen source that the kernel knows, and of which it knows that it has so many bytes at most and is not empty; else `None`.
    ///
    /// # Errors
    /// As [`View::read`].
    pub fn small_file(&self, number: Number, most: usize) -> Result<Option<Vec<u8>>, ViewError> {
        // What an earlier process has told the kernel is not looked for.
        let Ok(node @ Node::Child(tree, index)) = &self.nodes.get(number) else { return Ok(None) };
        let is_file = matches!(tree.child_at(*index).0.object.kind(), Kind::File { .. });
        let len = tree.known_size(*index).and_then(|size_bytes| usize::try_from(size_bytes).ok());
        let Some(len) = len.filter(|len| is_file && (1..=most).contains(len)) else {
            return Ok(None);
        };
        // As the kernel's own question for all of it: what the kernel is to keep is not kept here too.
        let size_bytes = Some(len as u64);
        let content = on_object(node, |source, object| {
            source.store.read_at_hand(object, size_bytes, 0, len)
        })?;
        Ok(content.filter(|content| content.len() == len))
    }

    /// Whether the content of a file is in a file of ours once it was decoded ([`View::kept_file`]).
    ///
    /// # Errors
    /// The node is not known, its file is gone, or its object cannot be read.
    pub fn has_kept_file(&self, number: Number) -> Result<bool, ViewError> {
        let node = self.node(number)?;
        if let Node::Text(_) = &node {
            return Ok(false);
        }
        on_object(&node, |source, object| source.store.has_kept_file(object, known_size(&node)))
    }

    /// The file of ours that has the whole content of a large file; `None` where there is none. May take long.
    ///
    /// # Errors
    /// As [`View::read`].
    pub fn kept_file(&self, number: Number) -> Result<Option<File>, ViewError> {
        let node = self.node(number)?;
        on_object(&node, |source, object| source.store.kept_file(object))
    }

    /// The target of a link, verbatim.
    ///
    /// # Errors
    /// The node is no known link, its file is gone, or its object cannot be read.
    pub fn read_link(&self, number: Number) -> Result<Vec<u8>, ViewError> {
        let node = self.node(number)?;
        if let Node::Text(text) = &node {
            return match text.kind {
                Kind::Link => Ok(text.bytes.to_vec()),
                Kind::Directory | Kind::File { .. } => Err(ViewError::NotALink),
            };
        }
        on_object(&node, |source, object| source.store.read_link(object))
    }
}

/// The size of a file, where it has been asked for.
fn known_size(node: &Node) -> Option<u64> {
    if let Node::Child(tree, index) = node { tree.known_size(*index) } else { None }
}

/// Asks the store that has a node's object; a directory has none that can be read.
fn on_object<T>(
    node: &Node,
    ask: impl FnOnce(&Source, &Object) -> Result<T, crate::store::StoreError>,
) -> Result<T, ViewError> {
    let (source, object, path): (_, _, &dyn Fn() -> RelPath) = match node {
        Node::Child(tree, index) => {
            (&tree.source, &tree.child_at(*index).0.object, &|| tree.child_path(*index))
        }
        Node::Leaf(leaf) => (&leaf.source, &leaf.object, &|| leaf.path.clone()),
        Node::Live(live) => (&live.source, &live.object, &|| live.path.clone()),
        Node::Merged(_)
        | Node::Tree(_)
        | Node::Empty { .. }
        | Node::Overlay(_)
        | Node::Revisions(..)
        | Node::Front(_)
        | Node::Kept { .. }
        | Node::Text(_) => {
            return Err(ViewError::IsADirectory);
        }
    };
    ask(source, object).map_err(|cause| unreadable(source, &path(), cause))
}
