//! A flip among readers, in the orders in which their threads can run (shuttle): `cfg(shuttle)` only.
//!
//! The code of flip, fence and look-ups is the view's own. What stands in for the kernel keeps names and listings as it does: a look-up or
//! a listing holds the directory's lock, shared, from the request until what came is kept; forgetting a name takes it alone, forgetting a
//! listing does not.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use shuttle::sync::{Mutex, RwLock};
use shuttle::thread;

use super::sample::{path, shown_at, snapshot_of};
use super::*;
use crate::config::resolved::Links;
use crate::snapshot::Snapshot;
use crate::store::memory::MemoryStore;
use crate::union::namespace::Namespace;
use crate::union::revision::RevisionSetId;

/// So many orders are tried.
const ORDERS: usize = 100_000;

/// Sets of one directory, the root: `a` has as many bytes as the set's number, `b` is there in odd sets only, `c` in all.
fn sets() -> &'static [Arc<Snapshot>; 3] {
    static SETS: OnceLock<[Arc<Snapshot>; 3]> = OnceLock::new();
    SETS.get_or_init(|| {
        [0, 1, 2].map(|serial: u8| {
            let store = MemoryStore::builder().file("a", vec![b'a'; serial.into()]).file("c", "c");
            let store = store.build();
            let object = |at: &str| store.at(&path(at)).unwrap();
            let mut entries =
                vec![shown_at("a", "a", object("a")), shown_at("c", "c", object("c"))];
            entries.extend((serial % 2 == 1).then(|| shown_at("b", "c", object("c"))));
            let namespace = Namespace::new(entries, [], 0);
            let (id, serial) = (RevisionSetId([serial; 32]), serial.into());
            Arc::new(Snapshot { id, serial, ..snapshot_of(Arc::new(store), namespace) })
        })
    })
}

/// What a name leads to: the bytes of the file, or nothing.
type Led = Option<u64>;

/// The kernel's side of the root.
struct Directory {
    view: View,
    lock: RwLock<()>,
    names: Mutex<HashMap<&'static str, Led>>,
    listing: Mutex<Option<Vec<String>>>,
    /// The newest set that anybody has seen.
    seen: Mutex<u64>,
}

impl Directory {
    fn new() -> Self {
        let settings = Settings { links: Links::All, has_xattrs: false };
        let view = View::new(sets()[0].clone(), settings);
        let (lock, names, listing, seen) = Default::default();
        Self { view, lock, names, listing, seen }
    }

    fn look_up(&self, name: &'static str) -> Led {
        let locked = self.lock.read().unwrap();
        if let Some(kept) = self.names.lock().unwrap().get(name) {
            return *kept;
        }
        let answering = self.view.answering();
        let (led, lifetime) = match self.view.lookup(Number::ROOT, name.as_bytes()).unwrap() {
            Found::Present { attr, name_lifetime, .. } => (Some(attr.size_bytes), name_lifetime),
            Found::Absent(lifetime) => (None, lifetime),
        };
        drop(answering);
        // The answer is with the kernel, which has yet to keep it.
        if lifetime == Lifetime::Unlimited {
            self.names.lock().unwrap().insert(name, led);
        }
        drop(locked);
        led
    }

    fn list(&self) -> Vec<String> {
        struct Names(Vec<String>);
        impl Sink for Names {
            fn take(&mut self, offered: Offered<'_>) -> bool {
                self.0.push(String::from_utf8_lossy(offered.name).into_owned());
                true
            }
        }
        let locked = self.lock.read().unwrap();
        if let Some(kept) = &*self.listing.lock().unwrap() {
            return kept.clone();
        }
        let answering = self.view.answering();
        let mut names = Names(Vec::new());
        self.view.list(Number::ROOT, 0, Depth::Names, &mut names).unwrap();
        drop(answering);
        *self.listing.lock().unwrap() = Some(names.0.clone());
        drop(locked);
        names.0
    }

    /// Nobody who looks a name up sees a set older than one that was seen before he began (S58).
    fn read(&self, name: &'static str, last: u64) {
        let floor = *self.seen.lock().unwrap();
        let led = self.look_up(name);
        let sets = 0..=last;
        // The newest set in which the name leads there: of `b` two may say the same.
        let newest = match name {
            "a" => led,
            _ => sets.rev().find(|set| led.is_some() == (set % 2 == 1)),
        };
        let newest = newest.unwrap_or_else(|| panic!("`{name}` leads to {led:?} in no set"));
        assert!(newest >= floor, "`{name}` is of set {newest} after set {floor} was seen");
        if name == "a" || last == 1 {
            let mut seen = self.seen.lock().unwrap();
            *seen = newest.max(*seen);
        }
    }
}

impl Kernel for Directory {
    fn forget_name(&self, directory: Number, name: &[u8]) {
        if directory != Number::ROOT {
            return;
        }
        let locked = self.lock.write().unwrap();
        self.names.lock().unwrap().retain(|known, _| known.as_bytes() != name);
        drop(locked);
    }

    fn forget_listing(&self, directory: Number) {
        if directory == Number::ROOT {
            *self.listing.lock().unwrap() = None;
        }
    }
}

/// Readers, one who lists, and `last` flips, all at once.
fn flips_among_readers(last: usize) {
    let root = Arc::new(Directory::new());
    let newest = u64::try_from(last).unwrap();
    let readers = [["a", "b"], ["b", "a"]].map(|names| {
        let root = root.clone();
        thread::spawn(move || names.iter().for_each(|name| root.read(name, newest)))
    });
    let lists = {
        let root = root.clone();
        thread::spawn(move || drop([root.list(), root.list()]))
    };
    for next in &sets()[1..=last] {
        let keeping = Keeping { sets: 3, time: Duration::ZERO };
        root.view.flip(next.clone(), keeping, &*root);
        // `reload` has returned: names and listings are of the new set.
        let is_there = next.serial % 2 == 1;
        assert_eq!(root.look_up("a"), Some(next.serial));
        assert_eq!(root.look_up("b").is_some(), is_there);
        assert_eq!(root.list().iter().any(|name| name == "b"), is_there);
    }
    for reader in readers {
        reader.join().unwrap();
    }
    lists.join().unwrap();
}

#[test]
fn shuttle_one_flip_among_readers() {
    shuttle::check_random(|| flips_among_readers(1), ORDERS);
}

#[test]
fn shuttle_two_flips_among_readers() {
    shuttle::check_random(|| flips_among_readers(2), ORDERS);
}

#[test]
fn shuttle_one_flip_among_readers_with_few_switches() {
    shuttle::check_pct(|| flips_among_readers(1), ORDERS, 3);
}

/// Readers hold the value that they loaded while they are in; whoever replaced it and waited may take the old one away.
#[test]
fn shuttle_nobody_who_saw_the_old_value_is_left_behind_a_fence() {
    let run = || {
        let shared = Arc::new((fence::Fence::default(), Mutex::new(0), Mutex::new(0)));
        let readers = [(); 2].map(|()| {
            let shared = shared.clone();
            thread::spawn(move || {
                let (fence, current, gone) = &*shared;
                for _ in 0..2 {
                    let answering = fence.enter();
                    let seen = *current.lock().unwrap();
                    assert!(*gone.lock().unwrap() <= seen, "it was taken away");
                    drop(answering);
                }
            })
        });
        let (fence, current, gone) = &*shared;
        for next in 1..=2 {
            *current.lock().unwrap() = next;
            fence.wait();
            *gone.lock().unwrap() = next;
        }
        for reader in readers {
            reader.join().unwrap();
        }
    };
    shuttle::check_random(run, ORDERS);
}
