use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::tests::{path, shown_at, snapshot_of};
use super::*;
use crate::config::resolved::Links;
use crate::snapshot::Snapshot;
use crate::store::dir::DirStore;
use crate::store::walk;
use crate::union::namespace::Namespace;
use crate::union::revision::RevisionSetId;

/// A live directory with one file, `a`, and the set that shows it.
fn live() -> (tempfile::TempDir, Snapshot) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "a").unwrap();
    let store = Arc::new(DirStore::open(dir.path()).unwrap());
    let object = walk::find(store.as_ref(), &path("a")).unwrap().unwrap();
    let namespace = Namespace::new([shown_at("a", "a", object)], [], 0);
    (dir, snapshot_of(store, namespace))
}

fn view(snapshot: Snapshot) -> View {
    View::new(Arc::new(snapshot), Settings { links: Links::All, has_xattrs: false })
}

/// How long the kernel may keep each name that it forgets, if it asks at once.
struct Asking<'a>(&'a View, Mutex<Vec<Lifetime>>);

impl Kernel for Asking<'_> {
    fn forget_name(&self, _: Number, name: &[u8]) {
        if let Ok(Found::Absent(lifetime)) = self.0.lookup(Number::ROOT, name) {
            self.1.lock().unwrap().push(lifetime);
        }
    }
    fn forget_listing(&self, _: Number) {}
}

#[test]
fn the_absence_of_what_left_the_disk_is_not_kept_while_its_name_changes() {
    let (dir, set) = live();
    // In the next set the name leads to something again.
    let (_other, next) = live();
    let next = Snapshot { id: RevisionSetId([2; 32]), serial: 1, ..next };
    let view = view(set);
    fs::remove_file(dir.path().join("a")).unwrap();
    let asking = Asking(&view, Mutex::default());
    let keeping = Keeping { sets: 3, time: Duration::ZERO };
    view.flip(Arc::new(next), keeping, &asking);
    // Before the flip is published, and not after it.
    assert_eq!(asking.1.into_inner().unwrap(), [Lifetime::None]);
}

struct NoRoom;

impl Sink for NoRoom {
    fn take(&mut self, _: Offered<'_>) -> bool {
        false
    }
}

#[test]
fn a_live_file_has_no_listing_even_for_who_has_no_room() {
    let (_dir, set) = live();
    let view = view(set);
    let Found::Present { attr, .. } = view.lookup(Number::ROOT, b"a").unwrap() else { panic!() };
    let answer = view.list(attr.number, 0, Depth::Names, &mut NoRoom);
    assert!(matches!(answer, Err(ViewError::NotADirectory)), "{answer:?}");
}
