//! A flip among readers, in the orders in which their threads can run (shuttle): `cfg(shuttle)` only.
//!
//! The code of flip, fence and look-ups is the view's own. What stands in for the kernel keeps names and listings, in two ways. With the
//! directory's lock, as `fs/fuse` does when it looks up and lists: shared, from the request until what came is kept, which may be long after
//! the answer; forgetting a name takes the lock alone, forgetting a listing does not. And without it, as when a name is asked about again:
//! then what came is kept when the request is answered.

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
fn orders() -> usize {
    let is_long = std::env::var_os("OVERLAYFS_MOUNT_LONG").is_some_and(|value| value == "1");
    if is_long { 100_000 } else { 2_000 }
}

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

/// Until when what came is kept at the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum With {
    /// The directory's lock is let go.
    Lock,
    /// The request is answered.
    Answer,
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

    fn look_up(&self, name: &'static str, with: With) -> Led {
        let locked = (with == With::Lock).then(|| self.lock.read().unwrap());
        if let Some(kept) = self.names.lock().unwrap().get(name) {
            return *kept;
        }
        let answering = self.view.answering();
        let (led, lifetime) = match self.view.lookup(Number::ROOT, name.as_bytes()).unwrap() {
            Found::Present { attr, name_lifetime, .. } => (Some(attr.size_bytes), name_lifetime),
            Found::Absent(lifetime) => (None, lifetime),
        };
        let answering = Some(answering).filter(|_| with == With::Answer);
        if lifetime == Lifetime::Unlimited {
            self.names.lock().unwrap().insert(name, led);
        }
        drop((answering, locked));
        led
    }

    fn list(&self, with: With) -> Vec<String> {
        struct Names(Vec<String>);
        impl Sink for Names {
            fn take(&mut self, offered: Offered<'_>) -> bool {
                self.0.push(String::from_utf8_lossy(offered.name).into_owned());
                true
            }
        }
        let locked = (with == With::Lock).then(|| self.lock.read().unwrap());
        if let Some(kept) = &*self.listing.lock().unwrap() {
            return kept.clone();
        }
        let answering = self.view.answering();
        let mut names = Names(Vec::new());
        self.view.list(Number::ROOT, 0, Depth::Names, &mut names).unwrap();
        let answering = Some(answering).filter(|_| with == With::Answer);
        *self.listing.lock().unwrap() = Some(names.0.clone());
        drop((answering, locked));
        names.0
    }

    fn flip(&self, next: u64) {
        let keeping = Keeping { sets: 3, time: Duration::ZERO };
        self.view.flip(sets()[usize::try_from(next).unwrap()].clone(), keeping, self);
    }

    /// Nobody who looks a name up sees a set older than one that was seen before he began (S58).
    fn read(&self, name: &'static str, with: With, last: u64) {
        let floor = *self.seen.lock().unwrap();
        let led = self.look_up(name, with);
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

/// Whoever reads names while flips are under way sees no older set than was seen before, and when a flip is over the new one.
fn names_among_flips(last: u64, names: [&'static str; 2]) {
    let root = Arc::new(Directory::new());
    let readers = [With::Lock, With::Answer].map(|with| {
        let root = root.clone();
        thread::spawn(move || names.iter().for_each(|name| root.read(name, with, last)))
    });
    for next in 1..=last {
        root.flip(next);
        assert_eq!(root.look_up("a", With::Lock), Some(next));
        assert_eq!(root.look_up("b", With::Lock).is_some(), next % 2 == 1);
    }
    readers.map(|reader| reader.join().unwrap());
}

/// Whoever lists while a flip is under way leaves nothing old behind.
fn listing_among_flips(with: With) {
    let root = Arc::new(Directory::new());
    let lists = {
        let root = root.clone();
        thread::spawn(move || drop(root.list(with)))
    };
    root.flip(1);
    assert!(root.list(With::Lock).iter().any(|name| name == "b"), "an old listing is kept");
    lists.join().unwrap();
    // What was kept only now stays, for whoever looks next.
    assert!(root.list(With::Lock).iter().any(|name| name == "b"), "an old listing was kept late");
}

/// Tries orders at random, and such with few switches between threads.
fn check(run: impl Fn() + Send + Sync + Copy + 'static) {
    shuttle::check_pct(run, orders() / 2, 3);
    shuttle::check_random(run, orders() / 2);
}

#[test]
fn shuttle_two_names_among_one_flip() {
    check(|| names_among_flips(1, ["a", "b"]));
}

#[test]
fn shuttle_a_name_among_two_flips() {
    check(|| names_among_flips(2, ["a", "a"]));
}

#[test]
fn shuttle_a_listing_that_is_kept_late() {
    check(|| listing_among_flips(With::Lock));
}

#[test]
fn shuttle_a_listing_that_is_kept_when_it_is_answered() {
    check(|| listing_among_flips(With::Answer));
}

/// Readers hold the value that they loaded while they are in; whoever replaced it and waited may take the old one away.
#[test]
fn shuttle_nobody_who_saw_the_old_value_is_left_behind_a_fence() {
    let run = || {
        let shared = Arc::new((fence::Fence::default(), Mutex::new(0), Mutex::new(0)));
        let reader = {
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
        };
        let (fence, current, gone) = &*shared;
        for next in 1..=2 {
            *current.lock().unwrap() = next;
            fence.wait();
            *gone.lock().unwrap() = next;
        }
        reader.join().unwrap();
    };
    check(run);
}
