//! What is on disk of the live directories that have numbers.
//!
//! What is live is named by its place and by its identity on disk, so whether anybody can come to it is for the disk to say. When numbers are given up
//! each live directory that has one is read once more, and what it holds counts as asked for; what it does not hold lives by that no longer.

use std::collections::HashSet;
use std::sync::Arc;

use super::View;
use super::lookup::live_key;
use super::merged::Merged;
use crate::snapshot::{Snapshot, Source};
use crate::store::walk;
use crate::union::name::RelPath;
use crate::union::namespace::{Directory, Item};
use crate::union::object::Object;

impl View {
    /// Counts as asked for what a set has on disk, at the place of the view or where sets are kept, as far as it has numbers. The numbers of
    /// directories of which all that is live was found so are added to `read`.
    pub(super) fn touch_on_disk(
        &self,
        snapshot: &Snapshot,
        pin: Option<&Arc<Snapshot>>,
        era: u32,
        read: &mut HashSet<u32>,
    ) {
        let (pin, directory) = (pin.cloned(), snapshot.namespace.root().clone());
        let root = Merged { pin, born: directory.born, ..Merged::root(self.seat.clone()) };
        let mut left = vec![(root, directory)];
        while let Some((merged, directory)) = left.pop() {
            for (name, item) in &directory.items {
                if let Item::Directory(below) = item {
                    left.push((merged.child(merged.parent, name, below.born), below.clone()));
                }
            }
            let is_root = merged.path.is_root() && merged.pin.is_none();
            let known = self.numbers.known(merged.key());
            let number = if is_root { Some(self.seat.root) } else { known };
            if let Some(number) = number
                && self.touch_entries(snapshot, &directory, number.0, era, read)
            {
                read.insert(number.0);
            }
        }
    }

    /// The same for the live entries of one merged directory, which has this number. False if not all could be looked for.
    fn touch_entries(
        &self,
        snapshot: &Snapshot,
        directory: &Directory,
        number: u32,
        era: u32,
        read: &mut HashSet<u32>,
    ) -> bool {
        let mut is_whole = true;
        for (_, item) in &directory.items {
            let Item::Entry(shown) = item else { continue };
            if !matches!(&shown.object, Object::Live { kind, .. } if kind.is_directory()) {
                continue;
            }
            let source = snapshot.source(shown.source);
            match walk::find(source.store.as_ref(), &shown.source_path) {
                Ok(Some(object)) => {
                    self.touch_live(source, (shown.source_path.clone(), object, number), era, read);
                }
                Ok(None) => {}
                Err(_) => is_whole = false,
            }
        }
        is_whole
    }

    /// The same for a live directory: its path in the source, what it is, and the number of the directory that holds it.
    fn touch_live(
        &self,
        source: &Source,
        top: (RelPath, Object, u32),
        era: u32,
        read: &mut HashSet<u32>,
    ) {
        let mut left = vec![top];
        while let Some((path, object, above)) = left.pop() {
            let key = live_key(source, &path, &object, above);
            let Some(number) = self.numbers.places.touch(&key, era) else { continue };
            let Ok(listed) = source.store.list(&object) else { continue };
            for child in listed {
                let path = path.join(&child.name);
                if child.object.kind().is_directory() {
                    left.push((path, child.object, number));
                } else {
                    let key = live_key(source, &path, &child.object, 0);
                    let _has_one = self.numbers.all_files().touch(&key, era);
                }
            }
            read.insert(number);
        }
    }
}
