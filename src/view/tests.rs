use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

pub(crate) use super::sample::{path, shown_at, snapshot, snapshot_of, source_of};
use super::*;
use crate::config::resolved::Links;
use crate::snapshot::Snapshot;
use crate::store::memory::MemoryStore;
use crate::union::namespace::{Namespace, Shown};
use crate::union::object::{Identity, Kind, Object};
use crate::union::revision::RevisionSetId;

/// A view with one source `o/r`: its directory `skills` as a surface, a file as an entry, and whole.
pub(super) fn view(links: Links) -> View {
    View::new(Arc::new(snapshot()), Settings { links, has_xattrs: false })
}

fn present(view: &View, text: &str) -> Attr {
    let mut attr = view.attr(Number::ROOT).unwrap().0;
    for name in path(text).names() {
        match view.lookup(attr.number, name.as_bytes()).unwrap() {
            Found::Present { attr: found, .. } => attr = found,
            Found::Absent(_) => panic!("`{text}` is absent"),
        }
    }
    attr
}

/// Collects a listing, up to a number of names.
pub(super) struct Collected {
    pub(super) names: Vec<(String, Attr, u64, Lifetime)>,
    pub(super) unreadable: Vec<String>,
    pub(super) room: usize,
}

impl Sink for Collected {
    fn take(&mut self, offered: Offered<'_>) -> bool {
        if self.names.len() == self.room {
            return false;
        }
        let name = String::from_utf8_lossy(offered.name).into_owned();
        self.unreadable.extend(offered.is_unreadable.then(|| name.clone()));
        self.names.push((name, offered.attr, offered.next_offset, offered.name_lifetime));
        true
    }
}

pub(super) fn list(view: &View, number: Number, offset: u64, room: usize) -> Collected {
    let mut names = Collected { names: Vec::new(), unreadable: Vec::new(), room };
    view.list(number, offset, Depth::Attributes, &mut names).unwrap();
    names
}

#[test]
fn names_lead_to_objects_at_every_depth() {
    let view = view(Links::All);
    let skill = present(&view, "skills/review/SKILL.md");
    assert_eq!(skill.kind, Kind::File { is_executable: false });
    assert_eq!((skill.size_bytes, skill.modified), (7, (1000, 0)));
    assert_eq!(view.read(skill.number, 2, 100).unwrap(), b"view\n");
    assert_eq!(view.read(skill.number, 2, 3).unwrap(), b"vie");
    assert_eq!(view.read(skill.number, 100, 3).unwrap(), b"");
    let run = present(&view, "skills/review/run");
    assert_eq!((run.permissions(), skill.permissions()), (0o755, 0o644));
    let link = present(&view, "skills/review/link");
    assert_eq!(view.read_link(link.number).unwrap(), b"SKILL.md");
    assert_eq!(view.read(present(&view, "prompts/00.md").number, 0, 9).unwrap(), b"loose\n");
    assert_eq!(present(&view, "tools").kind, Kind::Directory);
}

#[test]
fn errors_say_what_was_wrong() {
    let view = view(Links::All);
    let skill = present(&view, "skills/review/SKILL.md").number;
    let directory = present(&view, "skills/review").number;
    assert!(matches!(view.lookup(skill, b"x"), Err(ViewError::NotADirectory)));
    assert!(matches!(view.read(directory, 0, 1), Err(ViewError::IsADirectory)));
    assert!(matches!(view.read_link(skill), Err(ViewError::NotALink)));
    assert!(matches!(view.attr(Number(4_000_000)), Err(ViewError::Stale)));
    assert!(matches!(view.lookup(directory, &[b'x'; 256]), Err(ViewError::NameTooLong)));
    assert!(matches!(view.xattr(skill, b"user.x"), Err(ViewError::AttributesOff)));
    assert!(matches!(view.lookup(directory, b"absent"), Ok(Found::Absent(Lifetime::Unlimited))));
}

#[test]
fn a_number_survives_being_forgotten() {
    let view = view(Links::All);
    let known = view.known_nodes();
    let first = present(&view, "o/r/skills/review/deep/er/file");
    assert!(view.known_nodes() > known);
    for text in [
        "o",
        "o/r",
        "o/r/skills",
        "o/r/skills/review",
        "o/r/skills/review/deep",
        "o/r/skills/review/deep/er",
        "o/r/skills/review/deep/er/file",
    ] {
        let number = present(&view, text).number;
        view.forget(number, u64::MAX);
    }
    // `present` itself looked the upper ones up again.
    for text in ["o", "o/r", "o/r/skills"] {
        view.forget(present(&view, text).number, u64::MAX);
    }
    assert_eq!(present(&view, "o/r/skills/review/deep/er/file").number, first.number);
}

#[test]
fn every_lookup_is_counted_and_taken_back() {
    let view = view(Links::All);
    let start = view.known_nodes();
    let number = present(&view, "skills").number;
    present(&view, "skills");
    view.forget(number, 1);
    assert_eq!(view.known_nodes(), start + 1);
    view.forget(number, 1);
    assert_eq!(view.known_nodes(), start);
    view.forget(Number::ROOT, 5);
    assert!(view.attr(Number::ROOT).is_ok());
}

#[test]
fn a_listing_counts_what_was_taken_and_no_more() {
    let view = view(Links::All);
    let review = present(&view, "skills/review").number;
    let start = view.known_nodes();
    let names = list(&view, review, 0, 4);
    let taken: Vec<&str> = names.names.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(taken, [".", "..", "SKILL.md", "bad"]);
    assert_eq!(view.known_nodes(), start + 2);
    let rest = list(&view, review, names.names[3].2, 100);
    let taken: Vec<&str> = rest.names.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(taken, ["deep", "link", "out", "run", "sub"]);
    assert_eq!(names.names[1].1.number, present(&view, "skills").number);
}

#[test]
fn listings_and_lookups_agree_and_share_no_number() {
    let view = view(Links::All);
    let mut seen = HashMap::new();
    let mut open = vec![(String::new(), Number::ROOT)];
    while let Some((above, number)) = open.pop() {
        for (name, attr, ..) in list(&view, number, 0, usize::MAX).names {
            if name == "." || name == ".." {
                continue;
            }
            let text = format!("{above}/{name}");
            if name != "bad" {
                assert_eq!(present(&view, &text[1..]).number, attr.number, "{text}");
            }
            if let Some(other) = seen.insert(attr.number, text.clone()) {
                // One file, seen on its surface and in its source.
                assert!(!attr.kind.is_directory(), "{text} and {other}");
                let inside = |text: &str| text.trim_start_matches("/o/r").to_owned();
                assert_eq!(inside(&text), inside(&other));
            }
            if attr.kind.is_directory() {
                open.push((text, attr.number));
            }
        }
    }
    assert!(seen.values().any(|text| text.ends_with("deep/er/file")));
    assert!(!seen.values().any(|text| text.contains(".overlay")));
}

#[test]
fn an_unreadable_object_is_listed_and_its_lookup_fails() {
    let view = view(Links::All);
    let review = present(&view, "skills/review").number;
    let found = list(&view, review, 0, usize::MAX);
    let (.., lifetime) = found.names.iter().find(|(name, ..)| name == "bad").unwrap();
    assert_eq!((*lifetime, found.unreadable), (Lifetime::None, ["bad".to_owned()].into()));
    assert!(matches!(view.lookup(review, b"bad"), Err(ViewError::Unreadable { .. })));
}

#[test]
fn links_that_leave_their_source_can_be_hidden() {
    let view = view(Links::Inside);
    let review = present(&view, "skills/review").number;
    assert!(matches!(view.lookup(review, b"out"), Ok(Found::Absent(_))));
    let names = list(&view, review, 0, usize::MAX).names;
    assert!(names.iter().any(|(name, ..)| name == "link"));
    assert!(!names.iter().any(|(name, ..)| name == "out"));
}

#[test]
fn s41_the_view_tells_about_itself_where_it_is_not_listed() {
    let view = view(Links::All);
    let revision = present(&view, ".overlay/revision");
    let text = view.read(revision.number, 0, 100).unwrap();
    assert_eq!(String::from_utf8(text).unwrap(), format!("{}\n", "01".repeat(32)));
    let overlay = present(&view, ".overlay").number;
    let names = list(&view, overlay, 0, usize::MAX).names;
    let names: Vec<&str> = names.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(
        names,
        [".", "..", "current", "entries.json", "revision", "revisions", "status.json"]
    );
}

/// A kernel that remembers what it was told.
#[derive(Default)]
pub(super) struct Told(std::sync::Mutex<Vec<(Number, String)>>);

impl Kernel for Told {
    fn forget_name(&self, directory: Number, name: &[u8]) {
        self.0.lock().unwrap().push((directory, String::from_utf8_lossy(name).into_owned()));
    }

    fn forget_listing(&self, directory: Number) {
        self.0.lock().unwrap().push((directory, "*".into()));
    }
}

/// The snapshot of a view with one entry less and the next serial number.
pub(super) fn next(view: &View, without: &str) -> Arc<Snapshot> {
    let now = view.snapshot();
    let entries = now.namespace.root().entries().into_iter();
    let kept = entries.filter(|(at, _)| *at != path(without));
    let kept: Vec<_> = kept.map(|(at, shown)| (at, Shown::clone(shown))).collect();
    Arc::new(Snapshot {
        id: RevisionSetId([2; 32]),
        since: now.since,
        serial: now.serial + 1,
        sources: now.sources.clone(),
        surfaces: Vec::new(),
        stacks: Vec::new(),
        namespace: Namespace::new(kept, [path("tools")], 1000),
        findings: Vec::new(),
        notes: Vec::new(),
        texts: OnceLock::new(),
    })
}

pub(super) const KEEPING: Keeping = Keeping { sets: 2, time: std::time::Duration::ZERO };

#[test]
fn a_flip_tells_the_kernel_of_changed_names_in_directories_that_it_knows() {
    let view = view(Links::All);
    let prompts = present(&view, "prompts").number;
    let told = Told::default();
    let changes = view.flip(next(&view, "prompts/00.md"), KEEPING, &told);
    // The last prompt went, and its directory with it.
    assert_eq!(changes.len(), 1);
    let told = told.0.into_inner().unwrap();
    assert!(told.contains(&(Number::ROOT, "prompts".into())), "{told:?}");
    assert_eq!(told.last(), Some(&(Number::ROOT, "*".into())));
    assert!(!told.iter().any(|(_, name)| name == "skills" || name == "o"), "{told:?}");
    assert!(matches!(view.lookup(Number::ROOT, b"prompts"), Ok(Found::Absent(_))));
    assert!(matches!(view.lookup(prompts, b"00.md"), Err(ViewError::Stale)));
}

#[test]
fn s59_a_stream_that_is_continued_after_a_flip_stays_on_its_set() {
    let view = view(Links::All);
    let names =
        |found: Collected| found.names.into_iter().map(|(name, ..)| name).collect::<Vec<_>>();
    let start = list(&view, Number::ROOT, 0, 3);
    let offset = start.names[2].2;
    assert_eq!(names(start), [".", "..", "o"]);
    view.flip(next(&view, "prompts/00.md"), KEEPING, &Told::default());
    assert_eq!(names(list(&view, Number::ROOT, offset, 100)), ["prompts", "skills", "tools"]);
    assert_eq!(names(list(&view, Number::ROOT, 0, 100)), [".", "..", "o", "skills", "tools"]);
    // Two flips later the set is gone.
    for _ in 0..2 {
        view.flip(next(&view, "o/r"), KEEPING, &Told::default());
    }
    let mut sink = Collected { names: Vec::new(), unreadable: Vec::new(), room: 100 };
    let answer = view.list(Number::ROOT, offset, Depth::Names, &mut sink);
    assert!(matches!(answer, Err(ViewError::Stale)));
}

#[test]
fn names_that_are_about_to_change_are_not_to_be_kept() {
    /// Looks at the view while the flip is under way.
    struct Looking<'a>(&'a View, std::sync::Mutex<Vec<Found>>);
    impl Kernel for Looking<'_> {
        fn forget_name(&self, _: Number, _: &[u8]) {
            let mut found = self.1.lock().unwrap();
            for name in [&b"prompts"[..], b"skills"] {
                found.push(self.0.lookup(Number::ROOT, name).unwrap());
            }
        }
        fn forget_listing(&self, _: Number) {}
    }
    let view = view(Links::All);
    let looking = Looking(&view, std::sync::Mutex::default());
    view.flip(next(&view, "prompts/00.md"), KEEPING, &looking);
    let found = looking.1.into_inner().unwrap();
    let lifetime = |found: &Found| match found {
        Found::Present { name_lifetime, .. } => *name_lifetime,
        Found::Absent(lifetime) => *lifetime,
    };
    assert_eq!(lifetime(&found[0]), Lifetime::None);
    assert_eq!(lifetime(&found[1]), Lifetime::Unlimited);
    // After the flip the new answer may be kept.
    assert!(matches!(found[found.len() - 2], Found::Absent(Lifetime::Unlimited)));
}

/// Whether a link is shown can change with another part of its source. The numbers of its neighbours are theirs all the same.
#[test]
fn a_link_that_leaves_its_source_later_moves_no_number() {
    let source = |x: &str| {
        let builder = MemoryStore::builder().file("skills/review/a", "a");
        let builder = builder.link("skills/review/b", "../../x/c").file("skills/review/c", "c");
        let builder = builder.file("skills/review/d", "d").link("x", x);
        Arc::new(builder.build())
    };
    let numbers = |sets: [&str; 2]| {
        let sets = [0, 1].map(|serial| {
            let store = source(sets[usize::from(serial)]);
            let review = store.at(&path("skills/review")).unwrap();
            let entries = [shown_at("skills/review", "skills/review", review)];
            let namespace = Namespace::new(entries, [path("tools")], 1000);
            let (id, serial) = (RevisionSetId([serial; 32]), u64::from(serial));
            Arc::new(Snapshot { id, serial, ..snapshot_of(store, namespace) })
        });
        let settings = Settings { links: Links::Inside, has_xattrs: false };
        let view = View::new(sets[0].clone(), settings);
        let look = || {
            let review = present(&view, "skills/review").number;
            let names = list(&view, review, 0, 100).names.into_iter().skip(2);
            let found: HashMap<_, _> = names.map(|(name, attr, ..)| (name, attr.number)).collect();
            for number in found.values().chain([&review]) {
                view.forget(*number, u64::MAX);
            }
            found
        };
        let before = look();
        view.flip(sets[1].clone(), KEEPING, &Told::default());
        let fresh = view.numbers.fresh().unwrap();
        (before, look(), fresh)
    };
    for sets in [[".", "/"], ["/", "."]] {
        let (before, after, fresh) = numbers(sets);
        assert_ne!(before.contains_key("b"), after.contains_key("b"));
        for name in ["a", "c", "d"] {
            assert_eq!(before[name], after[name], "{name}");
        }
        assert!(after.values().all(|number| *number < fresh), "{after:?}");
    }
}

/// A set that was left and came back has other times than it had. Who holds it as it was sees one of the two, not both.
#[test]
fn a_set_that_came_back_is_one_node() {
    let view = view(Links::All);
    let set = ".overlay/revisions/".to_owned() + &view.snapshot().id.to_string();
    let held = present(&view, &set);
    let first = view.snapshot();
    view.flip(next(&view, "prompts/00.md"), KEEPING, &Told::default());
    let later = Namespace::new(
        first.namespace.root().entries().into_iter().map(|(at, shown)| (at, Shown::clone(shown))),
        [path("tools")],
        2000,
    );
    let (sources, id) = (first.sources.clone(), first.id);
    let again = Snapshot { id, serial: 2, sources, namespace: later, ..Snapshot::default() };
    view.flip(Arc::new(again), KEEPING, &Told::default());
    assert_eq!(present(&view, &set), held);
    assert_eq!(view.attr(held.number).unwrap().0, held);
    let revisions = present(&view, ".overlay/revisions").number;
    let names = list(&view, revisions, 0, 100).names;
    assert!(names.iter().any(|(_, attr, ..)| *attr == held), "{names:?}");
    view.forget(held.number, u64::MAX);
    assert_eq!(present(&view, &set).modified, (2000, 0));
}

/// In the midst of a directory there is a name that cannot even be listed.
#[test]
fn names_that_came_before_an_error_are_given_and_not_only_counted() {
    let store = MemoryStore::builder().file("a", "a").file("d/x", "x").unreadable("d").build();
    let identity = Identity { device: 1, inode: 1, born_nanos: 1 };
    let kind = Kind::File { is_executable: false };
    let live = Object::live(kind, path("d/x"), identity);
    let entries = [
        shown_at("tools/a", "a", store.at(&path("a")).unwrap()),
        shown_at("tools/b", "d/x", live),
        shown_at("tools/c", "a", store.at(&path("a")).unwrap()),
    ];
    let namespace = Namespace::new(entries, [], 1000);
    let snapshot = snapshot_of(Arc::new(store), namespace);
    let view = View::new(Arc::new(snapshot), Settings { links: Links::All, has_xattrs: false });
    let tools = present(&view, "tools").number;
    let start = view.known_nodes();
    let names = list(&view, tools, 0, 100).names;
    assert_eq!(names.iter().map(|(name, ..)| name).collect::<Vec<_>>(), [".", "..", "a"]);
    let mut sink = Collected { names: Vec::new(), unreadable: Vec::new(), room: 100 };
    let answer = view.list(tools, names[2].2, Depth::Attributes, &mut sink);
    assert!(matches!(answer, Err(ViewError::Unreadable { .. })));
    view.forget(names[2].1.number, 1);
    assert_eq!(view.known_nodes(), start);
}
