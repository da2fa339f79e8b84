//! What a namespace takes over from the one that it follows: times, and the identity of directories.
//!
//! Programs trust times: Python takes a file for unchanged if size and time are. So an entry that did not change keeps its time, and one
//! that changed gets a later time than it ever had, also when it returns to older bytes (S57).

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use super::name::{Name, RelPath};
use super::namespace::{Directory, Item, Namespace, Shown};

/// The last times of names that are not in the view any more, in seconds since 1970: those that vanished last.
#[derive(Debug, Clone, Default)]
pub struct Remembered {
    recent: HashMap<RelPath, i64>,
    /// Those before: as many, and looked at second.
    older: HashMap<RelPath, i64>,
}

/// So many names that vanished are known at least.
const REMEMBERED_MIN: usize = 65_536;

impl Remembered {
    fn get(&self, path: &RelPath) -> Option<i64> {
        self.recent.get(path).or_else(|| self.older.get(path)).copied()
    }

    fn put(&mut self, path: RelPath, time_secs: i64) {
        if self.recent.len() >= REMEMBERED_MIN {
            self.older = mem::take(&mut self.recent);
        }
        let last = self.older.remove(&path).unwrap_or(time_secs).max(time_secs);
        let known = self.recent.entry(path).or_insert(last);
        *known = (*known).max(last);
    }
}

/// A namespace that follows another one.
pub struct Succession<'a> {
    /// Whether an entry of the namespace before is the same as one that follows it at the same path, times apart.
    pub is_same: &'a dyn Fn(&Shown, &Shown) -> bool,
    /// The time of the change, in seconds since 1970.
    pub now_secs: i64,
    /// The serial number of the snapshot that follows.
    pub serial: u64,
    /// The times of names that vanished earlier.
    pub remembered: &'a mut Remembered,
}

impl Succession<'_> {
    /// Gives `after` the times and identities that it has when it follows `before`. A directory in which nothing changed is the same
    /// allocation as before.
    pub fn follow(&mut self, before: &Namespace, after: &Namespace) -> Namespace {
        let root = self.directory(Some(before.root()), after.root(), &RelPath::root());
        Namespace::from_root(root)
    }

    fn directory(
        &mut self,
        before: Option<&Arc<Directory>>,
        after: &Directory,
        path: &RelPath,
    ) -> Arc<Directory> {
        let mut has_changed = before.is_none_or(|before| before.items.len() != after.items.len());
        let mut is_identical = !has_changed;
        let mut items = Vec::with_capacity(after.items.len());
        for (name, item) in &after.items {
            let old = before.and_then(|before| before.get(name.as_bytes()));
            let new = self.item(old, item, &path.join(name));
            has_changed |= !old.is_some_and(|old| is_unchanged(old, &new));
            is_identical &= old.is_some_and(|old| is_identical_item(old, &new));
            items.push((name.clone(), new));
        }
        if let Some(before) = before {
            self.remember_vanished(before, &items, path);
            if is_identical {
                return before.clone();
            }
        }
        let last = before.map(|before| before.time_secs).or_else(|| self.last_time(path));
        let time_secs = match (last, before) {
            (Some(last), Some(_)) if !has_changed => last,
            (Some(last), _) => self.now_secs.max(last.saturating_add(1)),
            (None, _) => self.now_secs.max(after.time_secs),
        };
        let born = before.map_or(self.serial, |before| before.born);
        Arc::new(Directory { items, time_secs, born })
    }

    fn item(&mut self, old: Option<&Item>, new: &Item, path: &RelPath) -> Item {
        match (old, new) {
            (Some(Item::Entry(old)), Item::Entry(new)) if (self.is_same)(old, new) => {
                if old.source == new.source {
                    return Item::Entry(old.clone());
                }
                let time_secs = old.time_secs;
                Item::Entry(Arc::new(Shown { time_secs, ..Shown::clone(new) }))
            }
            (old, Item::Entry(new)) => {
                let last = match old {
                    Some(Item::Entry(old)) => Some(old.time_secs),
                    Some(Item::Directory(_)) | None => self.last_time(path),
                };
                let time_secs =
                    last.map_or(new.time_secs, |last| new.time_secs.max(last.saturating_add(1)));
                Item::Entry(Arc::new(Shown { time_secs, ..Shown::clone(new) }))
            }
            (Some(Item::Directory(old)), Item::Directory(new)) => {
                Item::Directory(self.directory(Some(old), new, path))
            }
            (Some(Item::Entry(_)) | None, Item::Directory(new)) => {
                Item::Directory(self.directory(None, new, path))
            }
        }
    }

    fn last_time(&self, path: &RelPath) -> Option<i64> {
        self.remembered.get(path)
    }

    /// Remembers the times of all that was in a directory and is not there, or something else, now.
    fn remember_vanished(&mut self, before: &Directory, items: &[(Name, Item)], path: &RelPath) {
        for (name, old) in &before.items {
            let found = items.binary_search_by(|(known, _)| known.cmp(name));
            let is_there = match (old, found.ok().map(|index| &items[index].1)) {
                (Item::Entry(_), Some(Item::Entry(_)))
                | (Item::Directory(_), Some(Item::Directory(_))) => true,
                (_, Some(_) | None) => false,
            };
            if !is_there {
                self.remember(old, path.join(name));
            }
        }
    }

    fn remember(&mut self, item: &Item, path: RelPath) {
        let time_secs = match item {
            Item::Entry(shown) => shown.time_secs,
            Item::Directory(directory) => {
                for (name, below) in &directory.items {
                    self.remember(below, path.join(name));
                }
                directory.time_secs
            }
        };
        self.remembered.put(path, time_secs);
    }
}

/// True if a name leads to what it led to before: the same entry at the same time, or the same directory, whatever is in it now.
fn is_unchanged(old: &Item, new: &Item) -> bool {
    match (old, new) {
        (Item::Entry(old), Item::Entry(new)) => {
            old.time_secs == new.time_secs
                && old.object == new.object
                && old.source_path == new.source_path
        }
        (Item::Directory(old), Item::Directory(new)) => old.born == new.born,
        (Item::Entry(_), Item::Directory(_)) | (Item::Directory(_), Item::Entry(_)) => false,
    }
}

fn is_identical_item(old: &Item, new: &Item) -> bool {
    match (old, new) {
        (Item::Entry(old), Item::Entry(new)) => Arc::ptr_eq(old, new),
        (Item::Directory(old), Item::Directory(new)) => Arc::ptr_eq(old, new),
        (Item::Entry(_), Item::Directory(_)) | (Item::Directory(_), Item::Entry(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::union::object::{Identity, Kind, Object, Oid};
    use crate::union::source::SourceId;
    use crate::union::tests::path;

    /// A namespace with entries at paths, each with a byte that stands for its content and the time of its commit.
    fn namespace(entries: &[(&str, u8, i64)]) -> Namespace {
        let entries = entries.iter().map(|(at, content, time_secs)| {
            let oid = Oid::from_bytes(&[*content; 20]).expect("20 bytes are an id");
            let object = Object::Frozen { kind: Kind::Directory, oid };
            let shown = Shown {
                source: SourceId(0),
                surface: None,
                source_path: path(at),
                object,
                time_secs: *time_secs,
            };
            (path(at), shown)
        });
        Namespace::new(entries.collect::<Vec<_>>(), [path("tools")], 0)
    }

    struct History {
        now: Namespace,
        serial: u64,
        remembered: Remembered,
    }

    impl History {
        fn new(first: &[(&str, u8, i64)]) -> Self {
            Self { now: namespace(first), serial: 0, remembered: Remembered::default() }
        }

        fn next(&mut self, now_secs: i64, entries: &[(&str, u8, i64)]) {
            self.follow(now_secs, &namespace(entries));
        }

        fn follow(&mut self, now_secs: i64, next: &Namespace) {
            self.serial += 1;
            let mut succession = Succession {
                is_same: &|old, new| old.object == new.object && old.source_path == new.source_path,
                now_secs,
                serial: self.serial,
                remembered: &mut self.remembered,
            };
            self.now = succession.follow(&self.now, next);
        }

        fn item(&self, at: &str) -> Item {
            let found = self.now.resolve(&path(at));
            found.unwrap_or_else(|| panic!("nothing is at `{at}`")).0
        }

        fn time(&self, at: &str) -> i64 {
            match self.item(at) {
                Item::Directory(directory) => directory.time_secs,
                Item::Entry(shown) => shown.time_secs,
            }
        }

        fn directory(&self, at: &str) -> Arc<Directory> {
            match self.item(at) {
                Item::Directory(directory) => directory,
                Item::Entry(_) => panic!("an entry"),
            }
        }
    }

    #[test]
    fn s57_a_changed_entry_gets_a_later_time_than_it_ever_had() {
        let mut history = History::new(&[("skills/a", 1, 100), ("skills/b", 1, 100)]);
        history.next(500, &[("skills/a", 2, 90), ("skills/b", 1, 90)]);
        assert_eq!((history.time("skills/a"), history.time("skills/b")), (101, 100));
        history.next(501, &[("skills/a", 1, 100), ("skills/b", 1, 100)]);
        assert_eq!(history.time("skills/a"), 102);
        history.next(502, &[("skills/b", 1, 100)]);
        history.next(503, &[("skills/a", 1, 100), ("skills/b", 3, 400)]);
        assert_eq!((history.time("skills/a"), history.time("skills/b")), (103, 400));
    }

    #[test]
    fn s57_what_is_remembered_of_names_that_vanished_has_a_bound() {
        const AT_ONCE: usize = 500;
        let names: Vec<_> = (0..3 * REMEMBERED_MIN).map(|n| format!("skills/{n}")).collect();
        let mut history = History::new(&[]);
        for (serial, names) in (100..).zip(names.chunks(AT_ONCE)) {
            let entries: Vec<_> = names.iter().map(|name| (name.as_str(), 1, serial)).collect();
            history.next(serial, &entries);
        }
        history.next(1000, &[]);
        let remembered = &history.remembered;
        assert!(remembered.recent.len() + remembered.older.len() <= 2 * REMEMBERED_MIN);
        for name in &names[2 * REMEMBERED_MIN..] {
            assert!(remembered.get(&path(name)).is_some(), "{name}");
        }
        // What came back and vanished again is known by the later time.
        let last = &names[names.len() - 1];
        history.next(1001, &[(last, 2, 2000)]);
        history.next(1002, &[]);
        history.next(1003, &[(last, 1, 100)]);
        assert_eq!(history.time(last), 2001);
    }

    #[test]
    fn s57_what_is_live_and_was_away_gets_a_later_time_too() {
        let mut history = History::new(&[]);
        // Else it would have the number of before, below a directory that is another one by now.
        for expected in [100, 101, 102] {
            let identity = Identity { device: 1, inode: 7, born_nanos: 0 };
            let object = Object::live(Kind::Directory, path("skills/a"), identity);
            let (source_path, source) = (path("skills/a"), SourceId(0));
            let shown = Shown { source, surface: None, source_path, object, time_secs: 100 };
            history.follow(500, &Namespace::new([(path("skills/a"), shown)], [], 0));
            assert_eq!(history.time("skills/a"), expected);
            history.next(501, &[]);
        }
    }

    #[test]
    fn s57_a_directory_has_the_time_of_its_own_last_change() {
        let mut history = History::new(&[("skills/a", 1, 100), ("tools/c/x", 1, 100)]);
        history.next(500, &[("skills/a", 2, 90), ("tools/c/x", 1, 90)]);
        assert_eq!((history.time("skills"), history.time("tools/c")), (500, 100));
        assert_eq!(history.time("tools"), 100);
        // A clock that was set back makes no time earlier.
        history.next(400, &[("skills/a", 3, 90), ("tools/c/x", 1, 90)]);
        assert_eq!(history.time("skills"), 501);
    }

    #[test]
    fn what_did_not_change_is_shared() {
        let mut history = History::new(&[("skills/a", 1, 100), ("tools/c/x", 1, 100)]);
        let (tools, root) = (history.directory("tools"), history.now.root().clone());
        history.next(500, &[("skills/a", 1, 300), ("tools/c/x", 1, 300)]);
        assert!(Arc::ptr_eq(&root, history.now.root()));
        history.next(501, &[("skills/a", 2, 300), ("tools/c/x", 1, 300)]);
        assert!(Arc::ptr_eq(&tools, &history.directory("tools")));
    }

    #[test]
    fn a_directory_that_comes_back_is_another_one() {
        let mut history = History::new(&[("tools/c/x", 1, 100), ("tools/y", 1, 100)]);
        let born = history.directory("tools/c").born;
        history.next(500, &[("tools/c/x", 2, 100), ("tools/y", 1, 100)]);
        assert_eq!(history.directory("tools/c").born, born);
        history.next(501, &[("tools/y", 1, 100)]);
        history.next(501, &[("tools/c/x", 2, 100), ("tools/y", 1, 100)]);
        assert_ne!(history.directory("tools/c").born, born);
        assert!(history.time("tools/c") > 500);
    }
}
