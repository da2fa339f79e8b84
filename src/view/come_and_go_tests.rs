//! Live files that come and go while nothing flips.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use super::recover_tests::journal_file;
use super::sample::source_of;
use super::sweep_tests::{Knowing, SETTINGS, keys, number};
use super::tests::{shown_at, snapshot_of};
use super::*;
use crate::snapshot::Snapshot;
use crate::store::Store;
use crate::store::dir::DirStore;
use crate::union::name::Name;
use crate::union::namespace::Namespace;

/// So many files are there at once.
const AT_ONCE: usize = 500;
/// So often all of them are others.
const TURNS: usize = 24;
/// At most so many keys are worth no sweep, or came since the last one.
const MOST: usize = 6000;

/// A live directory, and the set that shows all of it.
struct Churn {
    dir: tempfile::TempDir,
    turn: usize,
}

impl Churn {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("work")).unwrap();
        for name in ["stays", "is-held"] {
            fs::write(dir.path().join("work").join(name), "x").unwrap();
        }
        Self { dir, turn: 0 }
    }

    fn set(&self) -> Snapshot {
        let store = Arc::new(DirStore::open(self.dir.path()).unwrap());
        let namespace = Namespace::new([shown_at("o/l", ".", store.root().unwrap())], [], 0);
        let sources = vec![source_of("o/l", 9, store.clone())];
        Snapshot { sources, ..snapshot_of(store, namespace) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("work").join(name)
    }

    /// Replaces all files by others and has each looked up.
    fn turn(&mut self, number: impl Fn(&str) -> Number) -> HashMap<String, Number> {
        let name = |turn: usize, file: usize| format!("{turn}-{file}");
        let mut found = HashMap::new();
        for file in 0..AT_ONCE {
            if self.turn > 0 {
                fs::remove_file(self.path(&name(self.turn - 1, file))).unwrap();
            }
            let name = name(self.turn, file);
            fs::write(self.path(&name), "x").unwrap();
            found.insert(name.clone(), number(&format!("o/l/work/{name}")));
        }
        self.turn += 1;
        found
    }
}

fn has(view: &View, number: Number) -> bool {
    let mut is_there = false;
    view.numbers.all_files().each(|_, block| is_there |= block.first == number.0);
    is_there
}

#[test]
fn s138_live_files_that_are_gone_are_given_up_while_nothing_flips() {
    let mut churn = Churn::new();
    let view = View::new(Arc::new(churn.set()), SETTINGS);
    let work = number(&view, "o/l/work");
    let [stays, held] = ["stays", "is-held"].map(|name| number(&view, &format!("o/l/work/{name}")));
    // Somebody has it open when it is removed.
    let found = ["o", "l", "work", "is-held"].iter().fold(Number::ROOT, |at, name| {
        let Ok(Found::Present { attr, .. }) = view.lookup(at, name.as_bytes()) else {
            panic!("no {name}");
        };
        view.forget(at, 1);
        attr.number
    });
    assert_eq!(found, held);
    let mut most = 0;
    for _ in 0..TURNS {
        let found = churn.turn(|text| number(&view, text));
        fs::remove_file(churn.path("is-held")).unwrap_or_default();
        view.sweep_live_if_due(&Knowing::default());
        most = most.max(keys(&view));
        let again = |name: &String| number(&view, &format!("o/l/work/{name}"));
        assert!(found.iter().all(|(name, before)| again(name) == *before), "they are there");
    }
    assert!(view.used_numbers() > (AT_ONCE * TURNS) as u64);
    assert!(most < MOST, "{most} keys of {}", view.used_numbers());
    assert_eq!((number(&view, "o/l/work"), number(&view, "o/l/work/stays")), (work, stays));
    assert!(has(&view, held));
    view.forget(held, u64::MAX);
    for _ in 0..TURNS {
        churn.turn(|text| number(&view, text));
        view.sweep_live_if_due(&Knowing::default());
    }
    assert!(!has(&view, held), "nobody holds it any more");
}

#[test]
fn s138_live_files_of_several_views_are_given_up_while_nothing_flips() {
    let mut churn = Churn::new();
    let superblock = Superblock::of_many(SETTINGS, None);
    let views = ["a", "b"].map(|name| {
        let name = Name::new(name.as_bytes()).unwrap();
        let view = superblock.add(&name, Arc::new(churn.set()), None, b"").unwrap();
        // Where it is bound, the kernel holds its root.
        let root = superblock.of(Number::ROOT).lookup(Number::ROOT, name.as_bytes());
        assert!(matches!(root, Ok(Found::Present { .. })));
        view
    });
    let of = |view: &View, text: &str| {
        let mut met = vec![view.seat.root];
        for name in text.split('/') {
            let found = view.lookup(met[met.len() - 1], name.as_bytes());
            let Ok(Found::Present { attr, .. }) = found else { panic!("no {text}: {found:?}") };
            met.push(attr.number);
        }
        met[1..].iter().for_each(|number| superblock.forget(*number, 1));
        met[met.len() - 1]
    };
    let stays = views.each_ref().map(|view| of(view, "o/l/work/stays"));
    let mut most = 0;
    for _ in 0..TURNS {
        // As long as it is there, both know it by the same number.
        let found = churn.turn(|text| of(&views[0], text));
        for view in &views {
            view.sweep_live_if_due(&Knowing::default());
        }
        superblock.sweep(&Knowing::default());
        most = most.max(views[0].numbers.all_files().len());
        let again = |name: &String| of(&views[1], &format!("o/l/work/{name}"));
        assert!(found.iter().all(|(name, before)| again(name) == *before));
    }
    assert!(most < MOST, "{most} keys of {}", views[0].used_numbers());
    assert_eq!(views.each_ref().map(|view| of(view, "o/l/work/stays")), stays);
}

#[test]
fn s138_the_next_process_knows_no_more_of_what_came_and_went() {
    let mut churn = Churn::new();
    let file = journal_file();
    let journal = Journal::begin(file.try_clone().unwrap()).unwrap();
    let view = View::start(Arc::new(churn.set()), SETTINGS, None, Some(Arc::new(journal)));
    let stays = number(&view, "o/l/work/stays");
    let mut found = HashMap::new();
    for _ in 0..TURNS {
        found = churn.turn(|text| number(&view, text));
        view.sweep_live_if_due(&Knowing::default());
    }
    drop(view);
    let (past, journal) = Past::read(file.try_clone().unwrap()).unwrap();
    assert!(past.len() < MOST, "{} blocks", past.len());
    let past = (past, Arc::new(journal));
    let view = View::resume(churn.set(), SETTINGS, None, Vec::new(), past);
    assert_eq!(number(&view, "o/l/work/stays"), stays);
    let again = |name: &String| number(&view, &format!("o/l/work/{name}"));
    assert!(found.iter().all(|(name, before)| again(name) == *before));
    // What the one before has left is given up by this one, unless the kernel knows it.
    let known = *found.values().next().unwrap();
    for _ in 0..TURNS {
        churn.turn(|text| number(&view, text));
        view.sweep_live_if_due(&Knowing::of(known));
    }
    assert!(keys(&view) < MOST && has(&view, known));
    assert!(found.values().filter(|number| has(&view, **number)).count() < AT_ONCE);
}
