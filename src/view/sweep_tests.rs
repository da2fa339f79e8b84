use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::recover_tests::{Seen, journal_file, names, see, walk};
use super::tests::{path, shown_at, snapshot_of};
use super::*;
use crate::config::resolved::Links;
use crate::snapshot::Snapshot;
use crate::store::memory::MemoryStore;
use crate::union::namespace::{Namespace, Shown};
use crate::union::revision::RevisionSetId;

pub(super) const SETTINGS: Settings = Settings { links: Links::All, has_xattrs: false };
pub(super) const KEEPING: Keeping = Keeping { sets: 3, time: Duration::ZERO };
/// So many skills are others in each set.
const MOVING: u64 = 4;

pub(super) fn store() -> Arc<MemoryStore> {
    static STORE: OnceLock<Arc<MemoryStore>> = OnceLock::new();
    let build = || {
        let builder = (0..MOVING).map(|skill| format!("skills/{skill}"));
        let builder = builder.chain(["skills/still".to_owned()]);
        let builder = builder.fold(MemoryStore::builder(), |builder, skill| {
            builder.file(&format!("{skill}/a"), "a").file(&format!("{skill}/deep/er/b"), "b")
        });
        Arc::new(builder.file("loose.md", "loose").build())
    };
    STORE.get_or_init(build).clone()
}

/// The set of this number: all skills but one are of this time.
pub(super) fn set(serial: u64) -> Snapshot {
    set_of(serial, serial)
}

pub(super) fn set_of(serial: u64, time: u64) -> Snapshot {
    let store = store();
    let time = i64::try_from(time).unwrap();
    let moving =
        (0..MOVING).map(|skill| (format!("skills/{skill}"), format!("skills/{skill}"), time));
    let loose = ("prompts/loose.md".to_owned(), "loose.md".to_owned(), time);
    let still = ("skills/still".to_owned(), "skills/still".to_owned(), -1);
    let entries = moving.chain([loose, still]).map(|(place, of, time_secs)| {
        let (place, shown) = shown_at(&place, &of, store.at(&path(&of)).unwrap());
        (place, Shown { time_secs, ..shown })
    });
    let namespace = Namespace::new(entries, [], 0);
    let mut id = [1; 32];
    id[..8].copy_from_slice(&serial.to_le_bytes());
    Snapshot { id: RevisionSetId(id), serial, ..snapshot_of(store, namespace) }
}

/// A kernel that knows some numbers of earlier processes, and is asked about others.
#[derive(Default)]
pub(super) struct Knowing {
    known: HashSet<Number>,
    asked: RefCell<HashSet<Number>>,
}

impl Knowing {
    /// One that knows this number.
    pub(super) fn of(number: Number) -> Self {
        Self { known: HashSet::from([number]), ..Self::default() }
    }
}

impl Kernel for Knowing {
    fn forget_name(&self, _: Number, _: &[u8]) {}
    fn forget_listing(&self, _: Number) {}
    fn knows(&self, number: Number) -> bool {
        self.asked.borrow_mut().insert(number);
        self.known.contains(&number)
    }
}

pub(super) fn forget_all_but(view: &View, kept: &HashSet<Number>) {
    for number in (2..view.used_numbers()).map(|number| Number(u32::try_from(number).unwrap())) {
        if !kept.contains(&number) {
            view.forget(number, u64::MAX);
        }
    }
}

pub(super) fn keys(view: &View) -> usize {
    view.numbers.places.len() + view.numbers.all_files().len()
}

/// The number of a path, without leaving anything known.
pub(super) fn number(view: &View, text: &str) -> Number {
    let mut at = Number::ROOT;
    let mut met = Vec::new();
    for name in path(text).names() {
        let Ok(Found::Present { attr, .. }) = view.lookup(at, name.as_bytes()) else {
            panic!("no {text}");
        };
        at = attr.number;
        met.push(at);
    }
    for number in met {
        view.forget(number, 1);
    }
    at
}

#[test]
fn s111_keys_do_not_grow_with_the_number_of_flips() {
    let view = View::new(Arc::new(set(0)), SETTINGS);
    let mut most = 0;
    for serial in 1..10_000 {
        for skill in ["skills/0/deep/er/b", "skills/1/a", "prompts/loose.md", ".overlay/revision"] {
            number(&view, skill);
        }
        view.flip(Arc::new(set(serial)), KEEPING, &Knowing::default());
        most = most.max(keys(&view));
    }
    assert!(view.used_numbers() > 100_000, "{}", view.used_numbers());
    assert!(most < 10_000, "{most} keys");
    let known = view.known_nodes();
    assert_eq!(known, 1);
}

/// Nobody asks for it, the kernel has forgotten it, and hundreds of sets come and go.
#[test]
fn s111_what_stays_there_keeps_its_number() {
    let view = View::new(Arc::new(set(0)), SETTINGS);
    let all = ["skills", "skills/still", "skills/still/a", "skills/still/deep/er/b", ".overlay"];
    let before = all.map(|text| number(&view, text));
    for serial in 1..20 {
        view.flip(Arc::new(set(serial)), KEEPING, &Knowing::default());
        view.sweep(&Knowing::default());
    }
    assert_eq!(all.map(|text| number(&view, text)), before);
}

#[test]
fn s111_what_is_held_keeps_its_numbers_and_all_below_it() {
    let view = View::new(Arc::new(set(0)), SETTINGS);
    let held = [number(&view, "skills/0"), number(&view, "prompts/loose.md")];
    let pinned = format!(".overlay/revisions/{}/skills", set(0).id);
    let pinned = number(&view, &pinned);
    let below = ["a", "deep", "deep/er", "deep/er/b"];
    let before = below.map(|text| number(&view, &format!("skills/0/{text}")));
    drop(walk(&view));
    let kept = HashSet::from([held[0], held[1], pinned]);
    forget_all_but(&view, &kept);
    let listed = names(&view, pinned);
    forget_all_but(&view, &kept);
    let many = keys(&view);
    for serial in 1..20 {
        view.flip(Arc::new(set(serial)), KEEPING, &Knowing::default());
        view.sweep(&Knowing::default());
    }
    let again = |text: &str| {
        let mut at = held[0];
        for name in path(text).names() {
            let Ok(Found::Present { attr, .. }) = view.lookup(at, name.as_bytes()) else {
                panic!("no {text}");
            };
            at = attr.number;
        }
        at
    };
    assert_eq!(below.map(again), before);
    assert!(view.attr(held[1]).is_ok());
    assert_eq!(names(&view, pinned), listed);
    // And once nobody holds it, it is given up.
    forget_all_but(&view, &HashSet::new());
    view.sweep(&Knowing::default());
    assert!(keys(&view) < many, "{} of {many}", keys(&view));
    let skills = number(&view, "skills/0");
    assert!(skills > before.into_iter().max().unwrap(), "a new one: {skills:?}");
}

#[test]
fn s111_sets_that_are_kept_keep_their_numbers() {
    let view = View::new(Arc::new(set(0)), SETTINGS);
    view.flip(Arc::new(set(1)), KEEPING, &Knowing::default());
    let all = ["", "/skills", "/skills/0/a", "/skills/0/deep/er", "/prompts/loose.md"];
    let all = all.map(|text| format!(".overlay/revisions/{}{text}", set(1).id));
    let before = all.each_ref().map(|text| number(&view, text));
    for serial in 2..4 {
        view.flip(Arc::new(set(serial)), KEEPING, &Knowing::default());
        view.sweep(&Knowing::default());
        assert_eq!(all.each_ref().map(|text| number(&view, text)), before, "in set {serial}");
    }
}

/// It could be read all the time, first as one that was left, then as the current one, then as left again.
#[test]
fn s111_a_set_that_came_back_keeps_its_numbers() {
    let view = View::new(Arc::new(set(0)), SETTINGS);
    let flip = |serial, of| {
        let snapshot = Snapshot { serial, ..set(of) };
        view.flip(Arc::new(snapshot), KEEPING, &Knowing::default());
    };
    // What was there before the first flip is never old.
    flip(1, 9);
    let all = ["/skills", "/skills/0", "/skills/0/deep/er"];
    let all = all.map(|text| format!(".overlay/revisions/{}{text}", set(9).id));
    let before = all.each_ref().map(|text| number(&view, text));
    for (serial, of) in [(2, 8), (3, 9), (4, 7), (5, 6)] {
        flip(serial, of);
    }
    view.sweep(&Knowing::default());
    assert_eq!(all.each_ref().map(|text| number(&view, text)), before);
}

fn next(file: &std::fs::File, serial: u64) -> (View, usize) {
    let (past, journal) = Past::read(file.try_clone().unwrap()).unwrap();
    let blocks = past.len();
    let past = (past, Arc::new(journal));
    (View::resume(set(serial), SETTINGS, None, Vec::new(), past), blocks)
}

/// Each process dies with all that the kernel knows, and the kernel forgets it but for one directory.
#[test]
fn s111_the_next_process_knows_no_more_than_the_first() {
    let file = journal_file();
    let journal = Journal::begin(file.try_clone().unwrap()).unwrap();
    let view = View::start(Arc::new(set(0)), SETTINGS, None, Some(Arc::new(journal)));
    let held = number(&view, "skills/0");
    let below: BTreeMap<_, _> =
        ["deep", "a"].map(|name| (name, number(&view, &format!("skills/0/{name}")))).into();
    drop(walk(&view));
    drop(view);
    let kernel = Knowing::of(held);
    let mut most = 0;
    for round in 0..10 {
        let (view, blocks) = next(&file, round * 10);
        most = most.max(blocks);
        for serial in 1..=10 {
            view.flip(Arc::new(set(round * 10 + serial)), KEEPING, &kernel);
            drop(walk(&view));
            forget_all_but(&view, &HashSet::new());
            view.sweep(&kernel);
        }
        drop(walk(&view));
        for (name, number) in &below {
            let Ok(Found::Present { attr, .. }) = view.lookup(held, name.as_bytes()) else {
                panic!("no {name}");
            };
            assert_eq!(attr.number, *number, "in round {round}");
        }
        forget_all_but(&view, &HashSet::new());
    }
    assert!(!kernel.asked.borrow().is_empty());
    let (view, blocks) = next(&file, 100);
    assert!(most < 400 && blocks < 400, "{most}, then {blocks} blocks");
    // Nothing is given out again, also not what was given up.
    assert!(number(&view, "skills/0").0 > held.0);
    let attr = view.attr(held).unwrap().0;
    assert!(matches!(see(&view, attr), Seen::Directory(_)));
}

/// The process was killed after it had given numbers anew and before it wrote down which were given up.
#[test]
fn s111_a_late_word_about_what_was_given_up_takes_no_new_number() {
    let file = journal_file();
    let journal = Journal::begin(file.try_clone().unwrap()).unwrap();
    let given = |first| {
        let what = journal::What::Revisions;
        journal.note(&journal::Record::Given {
            view: 0,
            era: 0,
            key: [3; 16],
            first,
            len: 1,
            what,
        });
    };
    given(10);
    given(20);
    journal.note(&journal::Record::GivenUp { view: 0, blocks: vec![([3; 16], 10)] });
    let (past, _) = Past::read(file.try_clone().unwrap()).unwrap();
    assert_eq!((past.has(Number(10)), past.has(Number(20))), (false, true));
    journal.note(&journal::Record::GivenUp { view: 0, blocks: vec![([3; 16], 20)] });
    let (past, _) = Past::read(file).unwrap();
    assert_eq!((past.len(), past.next_number()), (0, 21), "a number is never given out again");
}
