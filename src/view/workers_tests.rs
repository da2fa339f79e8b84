//! Numbers that are given up by one worker after the other, and numbers of what is live.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::recover_tests::{journal_file, walk as walk_all};
use super::sample::source_of;
use super::sweep_tests::{KEEPING, Knowing, SETTINGS, keys, number, set, set_of, store};
use super::tests::{path, shown_at, snapshot_of};
use super::*;
use crate::snapshot::{GitDirectory, Snapshot};
use crate::store::dir::DirStore;
use crate::store::{Store, walk};
use crate::union::name::RelPath;
use crate::union::namespace::{Namespace, Shown};
use crate::union::revision::RevisionSetId;
use crate::union::source::SourceId;

/// The set of this number: only each eighth is another than the one before.
fn slow_set(serial: u64) -> Snapshot {
    set_of(serial, serial / 8)
}

/// The number of a path below a directory.
fn number_below(view: &View, directory: Number, text: &str) -> Number {
    path(text).names().iter().fold(directory, |at, name| match view.lookup(at, name.as_bytes()) {
        Ok(Found::Present { attr, .. }) => attr.number,
        other => panic!("{text}: {other:?}"),
    })
}

/// Makes the sets of these tests again.
#[derive(Debug)]
struct Sets(fn(u64) -> Snapshot);

impl Archive for Sets {
    fn has(&self, _: &RevisionSetId) -> bool {
        true
    }

    fn recall(&self, id: &RevisionSetId) -> Result<Snapshot, String> {
        let mut serial = [0; 8];
        serial.copy_from_slice(&id.0[..8]);
        Ok(self.0(u64::from_le_bytes(serial)))
    }
}

/// The process that comes after one that showed these sets, one after the other; how many blocks it has read.
fn next_of(file: &fs::File, shown: &[u64], set: fn(u64) -> Snapshot) -> (View, usize) {
    let (past, journal) = Past::read(file.try_clone().unwrap()).unwrap();
    let blocks = past.len();
    let keep = |of: &u64| {
        let root = set(*of).namespace.root().clone();
        Kept::from_archive(set(*of).id, Instant::now(), root.born, root.time_secs)
    };
    let (last, before) = shown.split_last().unwrap();
    let kept = before[before.len().saturating_sub(KEEPING.sets - 1)..].iter().map(keep).collect();
    let (past, archive) =
        ((past, Arc::new(journal)), Some(Arc::new(Sets(set)) as Arc<dyn Archive>));
    (View::resume(set(*last), SETTINGS, archive, kept, past), blocks)
}

/// Each process sees one flip, and dies long before a set is left that it has shown.
#[test]
fn s124_workers_that_see_no_set_leave_give_up_what_is_due() {
    let file = journal_file();
    let journal = Journal::begin(file.try_clone().unwrap()).unwrap();
    let archive: Arc<dyn Archive> = Arc::new(Sets(set));
    let view = View::start(Arc::new(set(0)), SETTINGS, Some(archive), Some(Arc::new(journal)));
    let held = number(&view, "skills/0");
    let below = number(&view, "skills/0/deep/er");
    drop(walk_all(&view));
    drop(view);
    let kernel = Knowing::of(held);
    let mut most = 0;
    let mut seen = BTreeMap::new();
    for serial in 1..60 {
        let (view, blocks) = next_of(&file, &(0..serial).collect::<Vec<_>>(), set);
        most = most.max(blocks);
        view.flip(Arc::new(set(serial)), KEEPING, &kernel);
        view.sweep(&kernel);
        for (at, number) in &seen {
            let at: &RelPath = at;
            let kept = at.names().get(2).and_then(|id| RevisionSetId::parse(id.as_bytes()));
            if kept.is_none_or(|id| view.revisions().contains(&id)) {
                assert_eq!(self::number(&view, &at.to_string()), *number, "{at} in {serial}");
            }
        }
        let found = walk_all(&view).into_iter().map(|(number, (at, ..))| (at, number));
        let is_lasting = |at: &RelPath| {
            at.names().get(1).is_some_and(|name| name.as_bytes() == b"revisions")
                || at.names().iter().any(|name| name.as_bytes() == b"still")
        };
        seen = found.filter(|(at, _)| is_lasting(at)).collect();
        assert_eq!(number_below(&view, held, "deep/er"), below, "in {serial}");
    }
    assert!(most < 400, "{most} blocks");
}

/// Nobody asked for it but once, long before the oldest set that is kept was shown, and in none of the processes that saw it leave.
#[test]
fn s124_what_a_kept_set_has_keeps_its_numbers_over_workers() {
    let file = journal_file();
    let journal = Journal::begin(file.try_clone().unwrap()).unwrap();
    let archive: Arc<dyn Archive> = Arc::new(Sets(slow_set));
    let first = Arc::new(slow_set(0));
    let view = View::start(first, SETTINGS, Some(archive), Some(Arc::new(journal)));
    let all = ["skills/0/deep/er/b", "prompts/loose.md"];
    let before = all.map(|text| number(&view, text));
    drop(view);
    for serial in 1..16 {
        let (view, _) = next_of(&file, &(0..serial).collect::<Vec<_>>(), slow_set);
        view.flip(Arc::new(slow_set(serial)), KEEPING, &Knowing::default());
        view.sweep(&Knowing::default());
        drop(view);
        let (past, journal) = Past::read(file.try_clone().unwrap()).unwrap();
        journal.shrink(Some(&past)).unwrap();
        // The seventh is the last that has it, and is kept until the tenth is shown.
        assert_eq!(before.map(|number| past.has(number)), [serial < 10; 2], "in {serial}");
    }
    let (view, _) = next_of(&file, &(0..16).collect::<Vec<_>>(), slow_set);
    assert!(all.iter().zip(before).all(|(text, before)| number(&view, text) != before));
}

/// The numbers are older than all that is kept: nobody gave them up between.
#[test]
fn s124_numbers_from_before_a_set_came_back_stay_with_it() {
    let file = journal_file();
    let shown = [9, 1, 2, 3, 4, 9, 5];
    let journal = Journal::begin(file.try_clone().unwrap()).unwrap();
    let archive: Arc<dyn Archive> = Arc::new(Sets(set));
    let first = Arc::new(Snapshot { serial: 0, ..set(9) });
    let view = View::start(first, SETTINGS, Some(archive), Some(Arc::new(journal)));
    let all = ["/skills", "/skills/0", "/skills/0/deep/er"];
    let all = all.map(|text| format!(".overlay/revisions/{}{text}", set(9).id));
    let before = all.each_ref().map(|text| number(&view, text));
    drop(view);
    for turn in 1..shown.len() {
        let (view, _) = next_of(&file, &shown[..turn], set);
        let next = Snapshot { serial: turn as u64, ..set(shown[turn]) };
        view.flip(Arc::new(next), KEEPING, &Knowing::default());
    }
    let (view, _) = next_of(&file, &shown, set);
    view.sweep(&Knowing::default());
    assert_eq!(all.each_ref().map(|text| number(&view, text)), before);
}

thread_local! {
    /// It goes with the thread of a test.
    static GITS: tempfile::TempDir = tempfile::tempdir().unwrap();
}

/// The directory of a test.
fn gits(test: &str) -> PathBuf {
    GITS.with(|gits| gits.path().join(test))
}

/// The set of this number, in a directory of its own for each test: its source is shown whole, and each has another `.git`. One entry is a live file.
fn with_git(serial: u64, test: &str) -> Snapshot {
    let gits = gits(test);
    let git = gits.join(serial.to_string());
    if !git.exists() {
        fs::create_dir_all(git.join("refs/heads")).unwrap();
        for name in ["HEAD", "refs/heads/main"] {
            fs::write(git.join(name), "x").unwrap();
        }
        // As an editor saves it.
        fs::write(gits.join("new"), "x").unwrap();
        fs::rename(gits.join("new"), gits.join("prompt.md")).unwrap();
    }
    let store = store();
    let git = source_of("o/r", 8, Arc::new(DirStore::open(&git).unwrap()));
    let live = source_of("o/l", 9, Arc::new(DirStore::open(&gits).unwrap()));
    let (place, shown) = shown_at("o/r", ".", store.root().unwrap());
    let whole = (place, Shown { time_secs: i64::try_from(serial).unwrap(), ..shown });
    let object = walk::find(live.store.as_ref(), &path("prompt.md")).unwrap().unwrap();
    let (place, shown) = shown_at("prompts/prompt.md", "prompt.md", object);
    let prompt = (place, Shown { source: SourceId(1), ..shown });
    let (place, shown) = shown_at("o/l", ".", live.store.root().unwrap());
    let all = (place, Shown { source: SourceId(1), ..shown });
    let mut source = Arc::into_inner(source_of("o/r", 7, store.clone())).unwrap();
    source.git_directory = GitDirectory::Shown(git);
    let mut id = [1; 32];
    id[..8].copy_from_slice(&serial.to_le_bytes());
    let snapshot = snapshot_of(store, Namespace::new([whole, prompt, all], [], 0));
    let sources = vec![Arc::new(source), live];
    Snapshot { id: RevisionSetId(id), serial, sources, ..snapshot }
}

const GIT: [&str; 2] = ["o/r/.git/HEAD", "o/r/.git/refs/heads/main"];

/// The numbers of `.git` in the sets that are kept are those that they had when they were shown.
fn check_kept(view: &View, heads: &BTreeMap<u64, [Number; 2]>, test: &str) {
    for (serial, before) in heads {
        let id = with_git(*serial, test).id;
        if view.revisions().contains(&id) {
            let now = GIT.map(|text| number(view, &format!(".overlay/revisions/{id}/{text}")));
            assert_eq!(now, *before, "of {serial}");
        }
    }
}

#[test]
fn s126_numbers_of_git_directories_and_live_entries_are_given_up() {
    let view = View::new(Arc::new(with_git(0, "alone")), SETTINGS);
    let held = number(&view, GIT[0]);
    let (mut most, mut heads) = (0, BTreeMap::new());
    for serial in 1..60 {
        heads.insert(serial - 1, GIT.map(|text| number(&view, text)));
        number(&view, "prompts/prompt.md");
        view.flip(Arc::new(with_git(serial, "alone")), KEEPING, &Knowing::default());
        view.sweep(&Knowing::default());
        let prompt = number(&view, "prompts/prompt.md");
        check_kept(&view, &heads, "alone");
        most = most.max(keys(&view));
        view.sweep(&Knowing::default());
        assert_eq!(number(&view, "prompts/prompt.md"), prompt, "it is there");
    }
    assert_eq!(heads[&0][0], held);
    assert!(most < 100, "{most} keys");
}

/// Nobody asks for it, and the kernel has forgotten it.
#[test]
fn s126_what_is_in_a_live_directory_keeps_its_number() {
    let view = View::new(Arc::new(with_git(0, "there")), SETTINGS);
    let all = ["o/l/0", "o/l/0/HEAD", "o/l/0/refs/heads/main"];
    let before = all.map(|text| number(&view, text));
    for serial in 1..20 {
        view.flip(Arc::new(with_git(serial, "there")), KEEPING, &Knowing::default());
        view.sweep(&Knowing::default());
    }
    assert_eq!(all.map(|text| number(&view, text)), before);
}

/// Editors replace files, and builds make and remove directories.
#[test]
fn s126_what_is_gone_from_a_live_directory_is_given_up() {
    let (mut most, mut last) = (0, None);
    let view = View::new(Arc::new(with_git(0, "churn")), SETTINGS);
    let disk = gits("churn").join("0");
    let there = number(&view, "o/l/0/refs/heads/main");
    for serial in 1..60 {
        fs::write(disk.join("new"), "x").unwrap();
        fs::rename(disk.join("new"), disk.join("HEAD")).unwrap();
        fs::create_dir(disk.join("built")).unwrap();
        fs::write(disk.join("built/file"), "x").unwrap();
        let all = ["o/l/0/HEAD", "o/l/0/built", "o/l/0/built/file"];
        let now = all.map(|text| number(&view, text));
        view.flip(Arc::new(with_git(serial, "churn")), KEEPING, &Knowing::default());
        view.sweep(&Knowing::default());
        assert_eq!(all.map(|text| number(&view, text)), now, "as long as it is there");
        assert!(last.is_none_or(|last| last != now));
        last = Some(now);
        most = most.max(keys(&view));
        fs::remove_dir_all(disk.join("built")).unwrap();
    }
    assert!(most < 100, "{most} keys");
    assert_eq!(number(&view, "o/l/0/refs/heads/main"), there);
}

#[test]
fn s126_numbers_of_git_directories_are_given_up_by_workers() {
    let of = |serial| with_git(serial, "workers");
    let file = journal_file();
    let journal = Journal::begin(file.try_clone().unwrap()).unwrap();
    let archive: Arc<dyn Archive> = Arc::new(Sets(of));
    let view = View::start(Arc::new(of(0)), SETTINGS, Some(archive), Some(Arc::new(journal)));
    let mut heads = BTreeMap::from([(0, GIT.map(|text| number(&view, text)))]);
    drop(view);
    // What somebody has open is held, whatever becomes of the rest.
    let held = heads[&0][0];
    let kernel = Knowing::of(held);
    let mut most = 0;
    for serial in 1..60 {
        let (view, blocks) = next_of(&file, &(0..serial).collect::<Vec<_>>(), of);
        most = most.max(blocks);
        view.flip(Arc::new(of(serial)), KEEPING, &kernel);
        view.sweep(&kernel);
        check_kept(&view, &heads, "workers");
        heads.insert(serial, GIT.map(|text| number(&view, text)));
        assert!(view.past.as_ref().unwrap().has(held), "in {serial}");
    }
    assert!(most < 120, "{most} blocks");
}
