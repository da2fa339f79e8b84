use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use super::tests::{path, shown_at, snapshot_of};
use super::*;
use crate::config::resolved::Links;
use crate::snapshot::Snapshot;
use crate::store::dir::DirStore;
use crate::store::{Attributes, Listed, Store, StoreError, walk};
use crate::union::namespace::Namespace;
use crate::union::object::Object;
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

/// Counts how often directories of it are read.
#[derive(Debug)]
struct Counting {
    inner: DirStore,
    reads: AtomicUsize,
}

impl Store for Counting {
    fn root(&self) -> Result<Object, StoreError> {
        self.inner.root()
    }

    fn list(&self, directory: &Object) -> Result<Vec<Listed>, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.inner.list(directory)
    }

    fn lookup(&self, directory: &Object, name: &[u8]) -> Result<Option<Object>, StoreError> {
        self.inner.lookup(directory, name)
    }

    fn attributes(&self, object: &Object) -> Result<Attributes, StoreError> {
        self.inner.attributes(object)
    }

    fn read(&self, file: &Object, offset: u64, len: usize) -> Result<Vec<u8>, StoreError> {
        self.inner.read(file, offset, len)
    }

    fn read_link(&self, link: &Object) -> Result<Vec<u8>, StoreError> {
        self.inner.read_link(link)
    }
}

/// Takes so many names.
struct Piece {
    room: usize,
    names: Vec<String>,
    next_offset: u64,
}

impl Sink for Piece {
    fn take(&mut self, offered: Offered<'_>) -> bool {
        let has_room = self.names.len() < self.room;
        if has_room {
            self.names.push(String::from_utf8(offered.name.to_vec()).unwrap());
            self.next_offset = offered.next_offset;
        }
        has_room
    }
}

#[test]
fn s125_a_large_directory_is_not_read_for_each_piece_of_its_listing() {
    const NAMES: usize = 2000;
    let dir = tempfile::tempdir().unwrap();
    let many = dir.path().join("many");
    fs::create_dir(&many).unwrap();
    for name in 0..NAMES {
        fs::write(many.join(format!("{name:04}")), "").unwrap();
    }
    let long_ago = SystemTime::now() - Duration::from_secs(60);
    fs::File::open(&many).unwrap().set_modified(long_ago).unwrap();
    let (inner, reads) = (DirStore::open(dir.path()).unwrap(), AtomicUsize::new(0));
    let store = Arc::new(Counting { inner, reads });
    let object = walk::find(store.as_ref(), &path("many")).unwrap().unwrap();
    let namespace = Namespace::new([shown_at("many", "many", object)], [], 0);
    let view = view(snapshot_of(store.clone(), namespace));
    let Found::Present { attr, .. } = view.lookup(Number::ROOT, b"many").unwrap() else { panic!() };
    let piece = |offset| {
        let mut piece = Piece { room: 100, names: Vec::new(), next_offset: offset };
        view.list(attr.number, offset, Depth::Names, &mut piece).unwrap();
        (piece.names, piece.next_offset)
    };
    let rest = |mut offset| {
        let mut all = Vec::new();
        loop {
            let (names, next) = piece(offset);
            if names.is_empty() {
                return all;
            }
            all.extend(names);
            offset = next;
        }
    };
    let before = store.reads.load(Ordering::Relaxed);
    assert_eq!(rest(0).len(), NAMES + 2);
    let reads = store.reads.load(Ordering::Relaxed) - before;
    assert!(reads < NAMES / 100 / 2, "{reads} reads");
    // What goes meanwhile is not shown.
    let (_, next) = piece(0);
    fs::remove_file(many.join("1500")).unwrap();
    let all = rest(next);
    assert!(all.contains(&"1499".to_owned()) && !all.contains(&"1500".to_owned()));
}
