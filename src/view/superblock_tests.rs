use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use super::recover_tests::journal_file;
use super::tests::{path, source_of};
use super::*;
use crate::config::resolved::Links;
use crate::snapshot::{Snapshot, Source};
use crate::store::memory::MemoryStore;
use crate::union::name::Name;
use crate::union::namespace::{Namespace, Shown};
use crate::union::object::Kind;
use crate::union::revision::RevisionSetId;
use crate::union::source::SourceId;

const SETTINGS: Settings = Settings { links: Links::All, has_xattrs: false };
const KEEPING: Keeping = Keeping { sets: 2, time: Duration::ZERO };

/// Two sources that both have `skills/review`, and each one of its own.
struct Sources {
    stores: [Arc<MemoryStore>; 2],
    sources: [Arc<Source>; 2],
}

impl Sources {
    fn new() -> Self {
        let stores = ["a", "b"].map(|name| {
            let builder = MemoryStore::builder()
                .file("skills/review/SKILL.md", format!("review of {name}\n"))
                .file("skills/review/deep/er", "deep\n")
                .file(&format!("skills/only-{name}/SKILL.md"), name)
                .file("note.md", format!("note of {name}\n"));
            Arc::new(builder.build())
        });
        let source = |name, key: u8| source_of(name, key, stores[usize::from(key)].clone());
        let sources = [source("o/a", 0), source("o/b", 1)];
        Self { stores, sources }
    }

    /// A snapshot in which these names of `skills` come from these sources, and each source's note is there too.
    fn snapshot(&self, serial: u64, skills: &[(&str, usize)]) -> Arc<Snapshot> {
        let shown = |source: usize, source_path: &str| Shown {
            source: SourceId(u32::try_from(source).unwrap()),
            surface: None,
            source_path: path(source_path),
            object: self.stores[source].at(&path(source_path)).unwrap(),
            time_secs: 1000,
        };
        let skills = skills.iter().map(|(name, source)| {
            let at = format!("skills/{name}");
            (path(&at), shown(*source, &at))
        });
        let notes =
            [0, 1].map(|source| (path(&format!("notes/{source}.md")), shown(source, "note.md")));
        let mut id = [u8::try_from(skills.len()).unwrap(); 32];
        id[0] = u8::try_from(serial).unwrap();
        Arc::new(Snapshot {
            id: RevisionSetId(id),
            serial,
            sources: self.sources.to_vec(),
            namespace: Namespace::new(skills.chain(notes), [path("tools")], 1000),
            ..Snapshot::default()
        })
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// Walks from the root of the superblock, asking for each step whoever is to be asked.
fn walk(views: &Superblock, text: &str) -> Option<Attr> {
    walk_from(views, Number::ROOT, text)
}

fn walk_from(views: &Superblock, from: Number, text: &str) -> Option<Attr> {
    let mut attr = views.of(from).attr(from).unwrap().0;
    for name in path(text).names() {
        match views.of(attr.number).lookup(attr.number, name.as_bytes()).unwrap() {
            Found::Present { attr: found, .. } => attr = found,
            Found::Absent(_) => return None,
        }
    }
    Some(attr)
}

fn content(views: &Superblock, text: &str) -> String {
    let number = walk(views, text).unwrap().number;
    String::from_utf8(views.of(number).read(number, 0, 100).unwrap()).unwrap()
}

struct Collected(Vec<(String, Attr)>);

impl Sink for Collected {
    fn take(&mut self, offered: Offered<'_>) -> bool {
        let name = String::from_utf8_lossy(offered.name).into_owned();
        self.0.push((name, offered.attr));
        true
    }
}

fn list(views: &Superblock, number: Number) -> Vec<(String, Attr)> {
    let mut names = Collected(Vec::new());
    views.of(number).list(number, 0, Depth::Attributes, &mut names).unwrap();
    names.0
}

#[derive(Default)]
struct Told(Mutex<Vec<(Number, String)>>);

impl Kernel for Told {
    fn forget_name(&self, directory: Number, name: &[u8]) {
        self.0.lock().unwrap().push((directory, String::from_utf8_lossy(name).into_owned()));
    }

    fn forget_listing(&self, directory: Number) {
        self.0.lock().unwrap().push((directory, "*".into()));
    }
}

/// Two views of the same sources in one superblock, in which the other source is on top.
fn two() -> (Sources, Superblock, Arc<View>, Arc<View>) {
    let sources = Sources::new();
    let views = Superblock::of_many(SETTINGS, None);
    let all = |top: usize| [("only-a", 0), ("only-b", 1), ("review", top)];
    let one = views.add(&name("one"), sources.snapshot(0, &all(0)), None, b"").unwrap();
    let two = views.add(&name("two"), sources.snapshot(0, &all(1)), None, b"").unwrap();
    (sources, views, one, two)
}

#[test]
fn s89_views_of_one_superblock_show_each_its_own_order() {
    let (_sources, views, ..) = two();
    assert_eq!(content(&views, "one/skills/review/SKILL.md"), "review of a\n");
    assert_eq!(content(&views, "two/skills/review/SKILL.md"), "review of b\n");
    assert_eq!(content(&views, "one/skills/only-b/SKILL.md"), "b");
    assert_eq!(walk(&views, "three"), None);
    // What the one is called is nobody's name in the other.
    assert_eq!(walk(&views, "one/two"), None);
    let root: Vec<_> = list(&views, Number::ROOT).into_iter().map(|(name, _)| name).collect();
    assert_eq!(root, [".", ".."]);
}

#[test]
fn s90_views_share_the_numbers_of_files_and_no_number_of_a_directory() {
    let (_sources, views, ..) = two();
    let mut directories = HashMap::new();
    let mut files: HashMap<String, Vec<Number>> = HashMap::new();
    for view in ["one", "two"] {
        let mut open = vec![(String::new(), walk(&views, view).unwrap().number)];
        while let Some((above, number)) = open.pop() {
            let names = list(&views, number).into_iter();
            for (name, attr) in names.filter(|(name, _)| !name.starts_with('.')) {
                let text = format!("{above}/{name}");
                let known = walk(&views, &format!("{view}{text}")).unwrap().number;
                assert_eq!(known, attr.number, "{view}{text}");
                if attr.kind.is_directory() {
                    let other = directories.insert(attr.number, format!("{view}{text}"));
                    assert_eq!(other, None, "{view}{text}");
                    open.push((text, attr.number));
                } else {
                    files.entry(text).or_default().push(attr.number);
                }
            }
        }
    }
    for (text, numbers) in files {
        let is_shared = !text.starts_with("/skills/review");
        assert_eq!(numbers[0] == numbers[1], is_shared, "{text}");
        assert!(!numbers.iter().any(|number| directories.contains_key(number)), "{text}");
    }
    for own in [".overlay", ".overlay/revisions"] {
        let of = |view: &str| walk(&views, &format!("{view}/{own}")).unwrap().number;
        assert_ne!(of("one"), of("two"));
    }
}

#[test]
fn s91_a_flip_of_one_view_takes_nothing_from_the_others() {
    let (sources, views, one, two) = two();
    let mut of_two = vec![walk(&views, "two").unwrap().number];
    of_two.extend(["two/skills", "two/.overlay"].map(|at| walk(&views, at).unwrap().number));
    walk(&views, "one/skills/review").unwrap();
    let held = walk(&views, "one/skills/only-b").unwrap().number;
    let told = Told::default();
    one.flip(sources.snapshot(1, &[("review", 1)]), KEEPING, &told);
    let told = told.0.into_inner().unwrap();
    let skills = walk(&views, "one/skills").unwrap().number;
    assert!(told.contains(&(skills, "review".into())), "{told:?}");
    assert!(!told.iter().any(|(number, _)| of_two.contains(number)), "{told:?}");
    assert!(!told.iter().any(|(number, _)| *number == Number::ROOT), "{told:?}");
    assert_eq!(content(&views, "one/skills/review/SKILL.md"), "review of b\n");
    assert_eq!(walk(&views, "one/skills/only-b"), None);
    assert!(walk(&views, "two/skills/only-b").is_some());
    // What is held of the old set goes on, and each view keeps the sets that it has left itself.
    assert_eq!(list(&views, held).len(), 3);
    assert_eq!((one.kept_sets(), two.kept_sets()), (1, 0));
}

#[test]
fn a_removed_view_is_served_to_its_holders_and_then_forgotten() {
    let (sources, views, one, two) = two();
    let root = walk(&views, "one").unwrap().number;
    let skills = walk(&views, "one/skills").unwrap().number;
    let told = Told::default();
    views.remove(&name("one"), &one, &told);
    assert_eq!(*told.0.lock().unwrap(), [(Number::ROOT, "one".to_owned())]);
    assert_eq!(walk(&views, "one"), None);
    assert!(list(&views, skills).iter().any(|(name, _)| name == "review"));
    let snapshot = Arc::downgrade(&one.snapshot());
    drop(one);
    assert_eq!(views.sweep(&Told::default()), 1);
    // Another view under its name is another one.
    let again = views.add(&name("one"), sources.snapshot(0, &[]), None, b"").unwrap();
    assert_ne!(walk(&views, "one").unwrap().number, root);
    let review = walk_from(&views, skills, "review").unwrap().number;
    for number in [root, skills] {
        views.forget(number, 100);
    }
    assert_eq!(views.sweep(&Told::default()), 0);
    assert!(snapshot.upgrade().is_none(), "nothing of it is left");
    // What never changes needs no view.
    assert_eq!(list(&views, review).len(), 4);
    let deep = walk_from(&views, review, "deep/er").unwrap().number;
    let between = walk_from(&views, review, "deep").unwrap().number;
    for number in [deep, between] {
        views.forget(number, 100);
    }
    two.flip(sources.snapshot(1, &[]), KEEPING, &told);
    two.flip(sources.snapshot(2, &[]), KEEPING, &told);
    two.numbers.all_files().make_due();
    again.flip(sources.snapshot(1, &[]), KEEPING, &told);
    again.flip(sources.snapshot(2, &[]), KEEPING, &told);
    assert_eq!(views.sweep(&Told::default()), 0);
    assert_eq!(walk_from(&views, review, "deep/er").unwrap().number, deep);
    drop((again, two));
}

#[test]
fn s111_files_of_several_views_are_given_up_when_none_leads_to_them() {
    let (sources, views, one, two) = two();
    let file = |view: &str| {
        let number = walk(&views, &format!("{view}/skills/only-b/SKILL.md")).unwrap().number;
        (2..9_999).for_each(|number| views.forget(Number(number), u64::MAX));
        number
    };
    let before = file("one");
    assert_eq!(file("two"), before);
    let flip = |view: &Arc<View>, serials: std::ops::Range<u64>, skills: &[(&str, usize)]| {
        for serial in serials {
            view.flip(sources.snapshot(serial, skills), KEEPING, &Told::default());
            one.numbers.all_files().make_due();
            views.sweep(&Told::default());
        }
    };
    // The other view still has it, and nobody asks it for that.
    flip(&one, 1..9, &[]);
    flip(&two, 1..9, &[("only-b", 1), ("review", 0)]);
    assert_eq!(file("two"), before);
    flip(&two, 9..18, &[]);
    flip(&one, 9..18, &[]);
    flip(&one, 18..19, &[("only-b", 1)]);
    assert!(file("one") > before, "what comes back is another one");
}

#[test]
fn a_superblock_of_one_view_has_it_at_its_root_and_takes_no_other() {
    let sources = Sources::new();
    let view = Arc::new(View::new(sources.snapshot(0, &[("review", 0)]), SETTINGS));
    let views = Superblock::only(view);
    assert_eq!(content(&views, "skills/review/SKILL.md"), "review of a\n");
    assert!(views.add(&name("x"), sources.snapshot(0, &[]), None, b"").is_err());
}

/// All that is below a view's root, by its path: attributes, and what files hold.
fn all_of(views: &Superblock, view: &str) -> Vec<(String, Attr, Vec<u8>)> {
    let root = walk(views, view).unwrap().number;
    let mut left = vec![(view.to_owned(), views.of(root).attr(root).unwrap().0)];
    let mut all = Vec::new();
    while let Some((at, attr)) = left.pop() {
        if attr.kind == Kind::Directory {
            for (name, _) in list(views, attr.number) {
                // `.overlay/revisions` leads to the whole again.
                if name != "." && name != ".." && name != "revisions" && name != "current" {
                    let found = walk_from(views, attr.number, &name).unwrap();
                    left.push((format!("{at}/{name}"), found));
                }
            }
            all.push((at, attr, Vec::new()));
        } else {
            let bytes = views.of(attr.number).read(attr.number, 0, 100).unwrap();
            all.push((at, attr, bytes));
        }
    }
    all
}

/// The process that comes after one that was killed, with the views that have not left and these sets.
fn again(file: &File, sources: &Sources, sets: &[(&str, usize)]) -> (Superblock, Vec<Arc<View>>) {
    let (past, journal) = Past::read(file.try_clone().unwrap()).unwrap();
    let (views, earlier) = Superblock::resume(SETTINGS, (past, Arc::new(journal)));
    let mut returned = Vec::new();
    for view in earlier {
        let of_file = String::from_utf8(view.name().to_vec()).unwrap();
        assert_eq!(view.note(), format!("note of {of_file}").as_bytes());
        let top = sets.iter().find(|(name, _)| *name == of_file).unwrap().1;
        let skills = [("only-a", 0), ("only-b", 1), ("review", top)];
        let snapshot = Arc::into_inner(sources.snapshot(0, &skills)).unwrap();
        returned.push(views.return_view(view, snapshot, None, Vec::new()).unwrap());
    }
    (views, returned)
}

#[test]
fn s120_every_node_of_every_view_is_what_it_was_for_the_process_that_comes_next() {
    let (sources, file) = (Sources::new(), journal_file());
    let journal = Arc::new(Journal::begin(file.try_clone().unwrap()).unwrap());
    let views = Superblock::of_many(SETTINGS, Some(journal));
    let sets = [("one", 0), ("two", 1)];
    for (of_file, top) in sets {
        let skills = [("only-a", 0), ("only-b", 1), ("review", top)];
        let note = format!("note of {of_file}");
        let set = sources.snapshot(0, &skills);
        views.add(&name(of_file), set, None, note.as_bytes()).unwrap();
    }
    let before = ["one", "two"].map(|view| all_of(&views, view));
    let used = views.of(Number::ROOT).used_numbers();
    drop(views);
    // Asked by number alone, in an order that nobody made, and then by name.
    let (views, _returned) = again(&file, &sources, &sets);
    for (at, attr, bytes) in before.iter().flatten().rev() {
        let view = views.of(attr.number);
        assert_eq!(view.attr(attr.number).unwrap().0, *attr, "{at}");
        if attr.kind != Kind::Directory {
            assert_eq!(view.read(attr.number, 0, 100).unwrap(), *bytes, "{at}");
        }
    }
    assert_eq!(["one", "two"].map(|view| all_of(&views, view)), before);
    assert_eq!(views.of(Number::ROOT).used_numbers(), used);
    drop(views);
    // One leaves: its directories go, the files that the other shows too do not, and nothing gets its numbers.
    let (views, returned) = again(&file, &sources, &sets);
    views.remove(&name("one"), &returned[0], &Told::default());
    drop((views, returned));
    let (views, returned) = again(&file, &sources, &sets);
    assert_eq!(returned.len(), 1);
    let number = |at: &str| before[0].iter().find(|(path, ..)| path == at).unwrap().1.number;
    let shared = number("one/skills/only-b/SKILL.md");
    assert_eq!(views.of(shared).read(shared, 0, 100).unwrap(), b"b");
    let gone = number("one/skills");
    assert!(matches!(views.of(gone).attr(gone), Err(ViewError::Stale)));
    let later = views.add(&name("one"), sources.snapshot(0, &[]), None, b"").unwrap();
    assert!(u64::from(walk(&views, "one").unwrap().number.0) >= used);
    assert!(later.seat.id > returned[0].seat.id);
}

/// Whoever asks the kernel whether it knows a node waits until another thread is through.
struct Waiting(Arc<dyn Fn() + Send + Sync>);

impl Kernel for Waiting {
    fn forget_name(&self, _: Number, _: &[u8]) {}
    fn forget_listing(&self, _: Number) {}
    fn knows(&self, _: Number) -> bool {
        let (other, (told, is_through)) = (self.0.clone(), mpsc::channel());
        thread::spawn(move || {
            other();
            told.send(()).unwrap_or_default();
        });
        is_through.recv_timeout(Duration::from_secs(5)).expect("no lock is held meanwhile");
        false
    }
}

#[test]
fn views_come_go_and_answer_while_the_kernel_is_asked_about_one_that_is_gone() {
    let (sources, file) = (Sources::new(), journal_file());
    let journal = Arc::new(Journal::begin(file.try_clone().unwrap()).unwrap());
    let views = Superblock::of_many(SETTINGS, Some(journal));
    let set = sources.snapshot(0, &[("only-a", 0), ("only-b", 1), ("review", 1)]);
    views.add(&name("one"), set.clone(), None, b"note of one").unwrap();
    all_of(&views, "one");
    drop(views);
    let (views, returned) = again(&file, &sources, &[("one", 1)]);
    let (views, [one]) = (Arc::new(views), <[_; 1]>::try_from(returned).unwrap());
    views.remove(&name("one"), &one, &Told::default());
    views.forget(one.seat.root, 1);
    let asked = views.clone();
    drop(one);
    let others = move || {
        let other = asked.add(&name("two"), set.clone(), None, b"").unwrap();
        assert_eq!(content(&asked, "two/skills/review/SKILL.md"), "review of b\n");
        asked.remove(&name("two"), &other, &Told::default());
    };
    views.sweep(&Waiting(Arc::new(others)));
    (2..9_999).for_each(|number| views.forget(Number(number), u64::MAX));
    assert_eq!(views.sweep(&Told::default()), 0, "both are gone");
}
