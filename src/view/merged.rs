//! Merged directories.

use std::sync::Arc;

use super::journal::What;
use super::nodes::Number;
use super::numbers::NodeKey;
use super::superblock::Seat;
use super::{ViewError, overlay};
use crate::snapshot::Snapshot;
use crate::union::name::{Name, RelPath};
use crate::union::namespace::{Directory, Item, Shown};
use crate::union::revision::RevisionSetId;

/// A merged directory: a place in the view; what it holds is up to the current snapshot, or to the one that it is pinned to.
#[derive(Debug)]
pub(super) struct Merged {
    /// Where it is in the namespace.
    pub(super) path: RelPath,
    /// The number of the directory that holds it; of the root its own.
    pub(super) parent: Number,
    /// The snapshot in which it appeared: one of the same path that came later is another one.
    pub(super) born: u64,
    /// The snapshot that it shows for good, below `.overlay/revisions`.
    pub(super) pin: Option<Arc<Snapshot>>,
    /// The view that it is in.
    pub(super) seat: Arc<Seat>,
}

impl Merged {
    pub(super) fn root(seat: Arc<Seat>) -> Self {
        Self { path: RelPath::root(), parent: seat.root, born: 0, pin: None, seat }
    }

    /// The merged directory of this name in this one.
    pub(super) fn child(&self, number: Number, name: &Name, born: u64) -> Self {
        let (pin, seat) = (self.pin.clone(), self.seat.clone());
        Self { path: self.path.join(name), parent: number, born, pin, seat }
    }

    /// The snapshot that decides what it holds.
    pub(super) fn snapshot<'a>(&'a self, current: &'a Arc<Snapshot>) -> &'a Arc<Snapshot> {
        self.pin.as_ref().unwrap_or(current)
    }

    /// What it holds in a snapshot; an error if the snapshot does not have this directory.
    pub(super) fn directory(&self, snapshot: &Snapshot) -> Result<Arc<Directory>, ViewError> {
        match snapshot.namespace.resolve(&self.path) {
            Some((Item::Directory(directory), _))
                if directory.born == self.born || self.path.is_root() =>
            {
                Ok(directory)
            }
            Some((Item::Directory(_) | Item::Entry(_), _)) | None => Err(ViewError::Stale),
        }
    }

    /// Names it among all numbered things.
    pub(super) fn key(&self) -> NodeKey {
        merged_key(self.pin.as_ref().map(|snapshot| &snapshot.id), &self.path, self.born)
    }

    /// What is written down of it.
    pub(super) fn what(&self) -> What {
        What::Merged {
            path: self.path.to_bytes(),
            parent: self.parent.0,
            born: self.born,
            pin: self.pin.as_ref().map(|snapshot| snapshot.id.0),
        }
    }

    /// Where it is for the number of an entry in it: a file has one number wherever it is shown, a directory another at each place.
    pub(super) fn numbered_path(&self, shown: &Shown) -> RelPath {
        if shown.object.kind().is_directory() { self.place() } else { self.path.clone() }
    }

    /// Where it is in the view.
    pub(super) fn place(&self) -> RelPath {
        match &self.pin {
            Some(snapshot) => overlay::revision_path(&snapshot.id).concat(&self.path),
            None => self.path.clone(),
        }
    }
}

/// Names a merged directory among all numbered things: the set that it is pinned to, its path, and since when it has been there.
pub(super) fn merged_key(pin: Option<&RevisionSetId>, path: &RelPath, born: u64) -> NodeKey {
    let pin = pin.map_or(&[][..], |id| id.0.as_slice());
    NodeKey::new(&[b"merged", pin, &path.to_bytes(), &born.to_le_bytes()])
}
