//! A journal that is written anew says the same as before, wherever its process is killed.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use super::recover_tests::{Seen, journal_file, see, walk};
use super::superblock::ViewId;
use super::sweep_tests::{KEEPING, Knowing, SETTINGS, forget_all_but, number, set};
use super::*;

/// The numbers of a process that saw some flips and gave up what was left, and all that there is to see under them.
fn lived(file: &File) -> Vec<(Number, Seen)> {
    let journal = Journal::begin(file.try_clone().unwrap()).unwrap();
    journal.agreed(b"request", b"reply").unwrap();
    let view = View::start(Arc::new(set(0)), SETTINGS, None, Some(Arc::new(journal)));
    view.note_configuration(b"first");
    for serial in 1..=20 {
        drop(walk(&view));
        for number in walk(&view).into_keys() {
            view.forget(number, 1 << 20);
        }
        view.flip(Arc::new(set(serial)), KEEPING, &Knowing::default());
        view.sweep(&Knowing::default());
        view.note_configuration(format!("number {serial}").as_bytes());
    }
    // What `.overlay` says of itself is another thing for each process.
    let found = walk(&view).into_iter();
    let found = found.filter(|(_, (at, ..))| !at.to_bytes().starts_with(b".overlay"));
    let found: Vec<_> = found.map(|(number, (.., seen))| (number, seen)).collect();
    assert!(found.len() > 20, "{}", found.len());
    found
}

fn next(file: &File) -> View {
    let (past, journal) = Past::read(file.try_clone().unwrap()).unwrap();
    View::resume(set(20), SETTINGS, None, Vec::new(), (past, Arc::new(journal)))
}

fn bytes_of(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn file_of(bytes: &[u8]) -> File {
    let file = journal_file();
    file.write_all_at(bytes, 0).unwrap();
    file
}

#[test]
fn s114_a_journal_written_anew_says_the_same_to_who_wrote_it_and_who_comes_next() {
    let file = journal_file();
    let found = lived(&file);
    let (past, journal) = Past::read(file.try_clone().unwrap()).unwrap();
    let told = past.told();
    for _ in 0..3 {
        journal.shrink(Some(&past)).unwrap();
        assert_eq!(past.told(), told, "who wrote it");
        assert_eq!(Past::read(file.try_clone().unwrap()).unwrap().0.told(), told, "who comes next");
    }
    let view = View::resume(set(20), SETTINGS, None, Vec::new(), (past, Arc::new(journal)));
    for view in [view, next(&file)] {
        for (number, seen) in &found {
            let attr = view.attr(*number).unwrap().0;
            assert_eq!(see(&view, attr), *seen);
        }
    }
}

#[test]
fn s114_killed_while_a_journal_is_written_anew_nothing_is_lost() {
    let file = journal_file();
    drop(lived(&file));
    let (past, journal) = Past::read(file.try_clone().unwrap()).unwrap();
    let (before, told) = (bytes_of(&file), past.told());
    journal.shrink(None).unwrap();
    let mut after = bytes_of(&file);
    // What stands before the records is given back with the rest.
    let again = records::framed(&journal::Record::Again).unwrap();
    let size = u32::try_from(after.len() - before.len() - size_of::<u32>()).unwrap();
    after[before.len()..][..again.len()].copy_from_slice(&again);
    after[before.len()..][..size_of::<u32>()].copy_from_slice(&size.to_le_bytes());
    // As the file was when the header had not been written yet, cut at each of the first bytes that were appended, and at many others.
    let first = before.len()..before.len() + 64;
    for cut in first.chain((before.len()..after.len()).step_by(101)).chain([after.len()]) {
        let killed = file_of(&[&before[..], &after[before.len()..cut]].concat());
        let (past, journal) = Past::read(killed.try_clone().unwrap()).unwrap();
        assert_eq!(past.told(), told, "cut at {cut}");
        if cut % 8 == 0 || cut == after.len() {
            journal.shrink(Some(&past)).unwrap();
            assert_eq!(Past::read(killed).unwrap().0.told(), told, "anew after the cut at {cut}");
        }
    }
    // The header written, and nothing given back.
    let pointing = [&after[..8], &before[8..], &after[before.len()..]].concat();
    assert_eq!(Past::read(file_of(&pointing)).unwrap().0.told(), told);
}

/// The same files are in a set that was kept, too, and were seen there first.
#[test]
fn s111_files_are_found_again_where_they_are_left() {
    let file = journal_file();
    let found = lived(&file);
    let view = next(&file);
    for (number, seen) in &found {
        assert_eq!(see(&view, view.attr(*number).unwrap().0), *seen);
    }
}

/// What watches an inode (inotify(7)) holds a file whose directories the kernel may forget.
#[test]
fn s111_what_leads_to_a_file_that_the_kernel_holds_stays_for_the_next_process() {
    let file = journal_file();
    let journal = Journal::begin(file.try_clone().unwrap()).unwrap();
    let view = View::start(Arc::new(set(0)), SETTINGS, None, Some(Arc::new(journal)));
    let held = [number(&view, "skills/0/deep/er/b"), number(&view, "skills/1/deep/er")];
    drop(walk(&view));
    for serial in 1..=10 {
        forget_all_but(&view, &held.into());
        view.flip(Arc::new(set(serial)), KEEPING, &Knowing::default());
        drop(walk(&view));
        forget_all_but(&view, &held.into());
        view.sweep(&Knowing::default());
    }
    let seen = held.map(|number| see(&view, view.attr(number).unwrap().0));
    drop(view);
    let view = next(&file);
    assert_eq!(held.map(|number| see(&view, view.attr(number).unwrap().0)), seen);
}

#[test]
fn s114_views_that_come_and_go_and_what_is_open_are_in_a_journal_written_anew() {
    let file = journal_file();
    let journal = Arc::new(Journal::begin(file.try_clone().unwrap()).unwrap());
    let of = |view| journal::ViewJournal { journal: journal.clone(), view: ViewId(view) };
    let revisions = || journal::What::Revisions;
    let files = || journal::What::Files { tree: 2 };
    for view in 1..=4 {
        of(view).joined(Number(10 * view), b"name", b"note");
        of(view).configured(b"first");
        of(view).configured(b"last");
        of(view).shown(&set(u64::from(view)), view);
        of(view).given(0, [1; 16], 10 * view + 1, 2, revisions());
        of(view).given(0, [u8::try_from(view).unwrap(); 16], 10 * view + 3, 2, files());
    }
    for view in [0, 1, 4] {
        of(view).left();
    }
    for (number, backing) in [(33, Some(7)), (33, Some(7)), (34, None), (35, Some(8))] {
        journal.opened(Number(number), backing);
    }
    journal.closed(Number(33));
    journal.closed(Number(35));
    let (past, _) = Past::read(file.try_clone().unwrap()).unwrap();
    let told = past.told();
    for _ in 0..2 {
        journal.shrink(Some(&past)).unwrap();
        let (next, _) = Past::read(file.try_clone().unwrap()).unwrap();
        assert_eq!((past.told(), next.told()), (told.clone(), told.clone()));
        assert_eq!(next.views().count(), 2);
        assert_eq!((next.last_view(), next.next_number()), (ViewId(4), 45));
        assert_eq!(next.still_open().len(), 2);
        // Of a view that has left only the files, which others have too.
        let known: Vec<_> = (10..50).filter(|number| next.has(Number(*number))).collect();
        assert_eq!(known, [13, 14, 21, 22, 23, 24, 31, 32, 33, 34, 43, 44]);
    }
}

/// Numbers of what came and went would be given out again if only those that are left were counted.
#[test]
fn s114_no_number_is_given_out_again_once_its_record_is_gone() {
    let file = journal_file();
    let journal = Journal::begin(file.try_clone().unwrap()).unwrap();
    let what = journal::What::Revisions;
    journal.note(&journal::Record::Given {
        view: 0,
        era: 0,
        key: [3; 16],
        first: 10,
        len: 5,
        what,
    });
    journal.note(&journal::Record::GivenUp { view: 0, blocks: vec![([3; 16], 10)] });
    for _ in 0..2 {
        journal.shrink(None).unwrap();
        let (past, _) = Past::read(file.try_clone().unwrap()).unwrap();
        assert_eq!((past.len(), past.next_number()), (0, 15));
    }
}

#[test]
fn s114_what_a_journal_takes_of_the_disk_has_a_bound() {
    let file = journal_file();
    let journal = Journal::begin(file.try_clone().unwrap()).unwrap();
    let path = vec![b'p'; 200];
    let mut most = 0;
    for number in 10..60_000_u32 {
        let mut key = [0; 16];
        key[..4].copy_from_slice(&number.to_le_bytes());
        let what = journal::What::Merged { path: path.clone(), parent: 1, born: 0, pin: None };
        journal.note(&journal::Record::Given { view: 0, era: 0, key, first: number, len: 1, what });
        if number % 10 != 0 {
            journal.note(&journal::Record::GivenUp { view: 0, blocks: vec![(key, number)] });
        }
        if number % 100 == 0 {
            journal.shrink_if_due(None);
            most = most.max(file.metadata().unwrap().blocks() * 512);
        }
    }
    let (past, _) = Past::read(file.try_clone().unwrap()).unwrap();
    assert_eq!(past.len(), 5_999);
    let written = file.metadata().unwrap().len();
    // A tenth of some 230 bytes each is alive at the end.
    assert!(written > 15 << 20, "{written} bytes were written in all");
    assert!(most < 5 << 20, "{most} bytes of the disk");
}
