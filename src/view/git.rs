//! The `.git` of a source that is shown whole: one more name in its frozen directory, with a live directory behind it.

use std::sync::Arc;

use super::ViewError;
use super::journal::What;
use super::lookup::folder;
use super::nodes::{Node, Number};
use super::numbers::{NodeKey, Numbers};
use super::tree::{Live, Tree, object_bytes, unreadable};
use crate::snapshot::Source;
use crate::store::Listed;
use crate::union::name::{Name, RelPath};
use crate::union::object::Object;

/// Name and object of the `.git` in a directory, and its number there.
pub(super) fn child(
    git: &Source,
    directory: Number,
    numbers: &Numbers,
) -> Result<(Listed, Number), ViewError> {
    let object = git.store.root().map_err(|cause| unreadable(git, &RelPath::root(), cause))?;
    let place = directory.0.to_le_bytes();
    let key = NodeKey::new(&[b"git", &place, &git.key, &object_bytes(&object)]);
    let what = || What::Git { tree: directory.0, folder: folder(git, &RelPath::root()) };
    let number = numbers.single(key, what)?;
    let name = Name::new(".git").expect("a fixed name of this module");
    Ok((Listed { name, object }, number))
}

/// What it stands for.
pub(super) fn node(tree: &Tree, object: &Object) -> Node {
    let (source, object) = (tree.git().clone(), object.clone());
    let (path, parent, view) = (RelPath::root(), tree.number, tree.view);
    Node::Live(Arc::new(Live { source, path, object, parent, view }))
}
