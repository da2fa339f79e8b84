use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::tests::{Collected, path, snapshot};
use super::*;
use crate::config::resolved::Links;
use crate::snapshot::Snapshot;
use crate::store::few_descriptors::with_few_descriptors;
use crate::union::name::RelPath;
use crate::union::object::Kind;
use crate::union::revision::RevisionSetId;

const SETTINGS: Settings = Settings { links: Links::All, has_xattrs: true };

pub(super) fn journal_file() -> File {
    tempfile::tempfile().unwrap()
}

fn first(file: &File) -> View {
    let journal = Journal::begin(file.try_clone().unwrap()).unwrap();
    View::start(Arc::new(snapshot()), SETTINGS, None, Some(Arc::new(journal)))
}

/// A process that comes after the one that wrote the journal was killed.
fn next(file: &File) -> View {
    let (past, journal) = Past::read(file.try_clone().unwrap()).unwrap();
    View::resume(snapshot(), SETTINGS, None, Vec::new(), (past, Arc::new(journal)))
}

pub(super) fn names(view: &View, number: Number) -> Vec<(String, Attr, u64)> {
    let mut names = Collected { names: Vec::new(), unreadable: Vec::new(), room: usize::MAX };
    view.list(number, 0, Depth::Attributes, &mut names).unwrap();
    names.names.into_iter().map(|(name, attr, offset, _)| (name, attr, offset)).collect()
}

/// What there is to see at one node.
#[derive(Debug, PartialEq)]
pub(super) enum Seen {
    Directory(Vec<(String, Attr, u64)>),
    File(Result<Vec<u8>, String>),
    Link(Vec<u8>),
}

pub(super) fn see(view: &View, attr: Attr) -> Seen {
    match attr.kind {
        Kind::Directory => Seen::Directory(names(view, attr.number)),
        Kind::File { .. } => {
            Seen::File(view.read(attr.number, 0, 1 << 20).map_err(|e| e.to_string()))
        }
        Kind::Link => Seen::Link(view.read_link(attr.number).unwrap()),
    }
}

/// Everything below the root, `.overlay` too, by number: where it was found, its attributes, and what it holds.
pub(super) fn walk(view: &View) -> BTreeMap<Number, (RelPath, Attr, Seen)> {
    let root = view.attr(Number::ROOT).unwrap().0;
    let Ok(Found::Present { attr: overlay, .. }) = view.lookup(Number::ROOT, b".overlay") else {
        panic!("no .overlay");
    };
    let mut left = vec![(RelPath::root(), root), (path(".overlay"), overlay)];
    let mut found = BTreeMap::new();
    while let Some((at, attr)) = left.pop() {
        let seen = see(view, attr);
        if let Seen::Directory(names) = &seen {
            for (name, below, _) in names.iter().filter(|(name, ..)| name != "." && name != "..") {
                let name = crate::union::name::Name::new(name.as_bytes()).unwrap();
                // A listing alone does not say what a set of `.overlay/revisions` is.
                let Ok(Found::Present { attr, .. }) = view.lookup(attr.number, name.as_bytes())
                else {
                    continue;
                };
                assert_eq!(attr.number, below.number);
                left.push((at.join(&name), attr));
            }
        }
        found.insert(attr.number, (at, attr, seen));
    }
    found
}

#[test]
fn s95_every_node_is_what_it_was_for_the_process_that_comes_next() {
    let file = journal_file();
    let before = walk(&first(&file));
    assert!(before.len() > 30, "{}", before.len());
    // In both orders: what is above a node need not have been asked for before it.
    for is_reversed in [false, true] {
        let view = next(&file);
        let mut numbers: Vec<_> = before.keys().copied().collect();
        if is_reversed {
            numbers.reverse();
        }
        for number in numbers {
            let (at, attr, seen) = &before[&number];
            let unreadable = at.last().is_some_and(|name| name.as_bytes() == b"bad");
            if !unreadable {
                assert_eq!(view.attr(number).unwrap().0, *attr, "{at}");
            }
            assert_eq!(see(&view, *attr), *seen, "{at}");
        }
        assert_eq!(walk(&view).keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    }
}

#[test]
fn s95_numbers_go_on_where_they_were() {
    let file = journal_file();
    let view = first(&file);
    let Ok(Found::Present { attr: skills, .. }) = view.lookup(Number::ROOT, b"skills") else {
        panic!("no skills")
    };
    let used = view.used_numbers();
    drop(view);
    let view = next(&file);
    assert_eq!(view.used_numbers(), used);
    let Ok(Found::Present { attr: review, .. }) = view.lookup(skills.number, b"review") else {
        panic!("no review")
    };
    assert_eq!(u64::from(review.number.0), used, "a new one, after all others");
    drop(view);
    let view = next(&file);
    assert_eq!(names(&view, review.number).len(), 9, "the second process wrote its own down too");
}

#[test]
fn s95_the_kernel_forgets_nodes_of_an_earlier_process() {
    let file = journal_file();
    let before = walk(&first(&file));
    let view = next(&file);
    for (_, attr, _) in before.values() {
        drop(view.attr(attr.number));
    }
    assert!(view.known_nodes() > 30);
    for number in before.keys() {
        view.forget(*number, 3);
    }
    assert_eq!(view.known_nodes(), 1, "the root stays");
    let number = *before.keys().last().unwrap();
    assert!(view.attr(number).is_ok(), "one that was forgotten too early is made again");
}

/// An archive that counts how often it is asked for a set.
#[derive(Debug, Default)]
struct Untouched(AtomicUsize);

impl Archive for Untouched {
    fn has(&self, _: &RevisionSetId) -> bool {
        true
    }

    fn recall(&self, _: &RevisionSetId) -> Result<Snapshot, String> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Err("not to be had".to_owned())
    }
}

/// Making hundreds of sets again for each node would keep a reader waiting for as long as workers go on dying.
#[test]
fn s95_nodes_are_made_again_without_all_the_sets_that_are_kept() {
    let file = journal_file();
    let before = walk(&first(&file));
    let (past, journal) = Past::read(file).unwrap();
    let kept =
        (2..200_u8).map(|n| Kept::from_archive(RevisionSetId([n; 32]), Instant::now(), 0, 0));
    let archive = Arc::new(Untouched::default());
    let past = (past, Arc::new(journal));
    let view = View::resume(snapshot(), SETTINGS, Some(archive.clone()), kept.collect(), past);
    for (number, (at, attr, seen)) in before.iter().filter(|(_, (at, ..))| !at.is_root()) {
        // What `.overlay/revisions` lists is another thing with other sets.
        if !at.to_bytes().starts_with(b".overlay") {
            assert_eq!(see(&view, *attr), *seen, "{at}, {number:?}");
        }
    }
    // A few for each of the three entries, all of which stand for sources shown whole here.
    let recalled = archive.0.load(Ordering::SeqCst);
    assert!(recalled <= 9, "{recalled} of 198 sets were made again");
}

#[test]
fn a_number_that_nobody_gave_out_is_stale() {
    let file = journal_file();
    let view = first(&file);
    drop(walk(&view));
    let unused = Number(u32::try_from(view.used_numbers()).unwrap());
    assert!(matches!(view.attr(unused), Err(ViewError::Stale)));
    assert!(matches!(next(&file).attr(unused), Err(ViewError::Stale)));
    assert!(matches!(next(&file).attr(Number(0)), Err(ViewError::Stale)));
}

/// A kill can cut the last record short, whose number then never reached the kernel.
#[test]
fn a_journal_cut_anywhere_is_read_up_to_there() {
    use std::os::unix::fs::FileExt;

    let file = journal_file();
    drop(walk(&first(&file)));
    let len = file.metadata().unwrap().len();
    let mut bytes = vec![0; usize::try_from(len).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let mut readable = 0;
    for cut in 0..bytes.len() {
        let file = journal_file();
        std::io::Write::write_all(&mut &file, &bytes[..cut]).unwrap();
        if let Ok((past, journal)) = Past::read(file.try_clone().unwrap()) {
            readable += 1;
            let view =
                View::resume(snapshot(), SETTINGS, None, Vec::new(), (past, Arc::new(journal)));
            if cut % 97 == 0 {
                drop(walk(&view));
                assert!(Past::read(file).is_ok(), "what was written after the cut, at {cut}");
            }
        }
    }
    assert!(readable > bytes.len() - 30, "only without its beginning it is none: {readable}");
}

#[test]
fn a_journal_of_another_form_is_refused_by_name() {
    let file = journal_file();
    let started = journal::Record::Started { form: 99, started_secs: 0, next: 0 };
    let header = [records::HEADER, 0].map(u64::to_le_bytes).concat();
    let bytes = [header, records::framed(&started).unwrap()].concat();
    std::io::Write::write_all(&mut &file, &bytes).unwrap();
    assert!(Past::read(file).unwrap_err().to_string().contains("99"));
}

/// A file in memory that can be kept from growing, as on a full disk.
fn sealable_file() -> File {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    memfd_create(c"journal", flags).unwrap().into()
}

#[test]
fn s155_no_number_is_given_out_again_where_the_journal_has_no_room() {
    let file = sealable_file();
    let view = first(&file);
    names(&view, Number::ROOT);
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW)).unwrap();
    let before = walk(&view);
    let used = view.used_numbers();
    drop(view);
    for _ in 0..2 {
        let view = next(&file);
        assert!(view.used_numbers() >= used, "{} of {used}", view.used_numbers());
        for (number, (at, ..)) in walk(&view) {
            assert!(before.get(&number).is_none_or(|(known, ..)| *known == at), "{at}");
        }
    }
}

/// Else fuzzing would begin with what is refused at its first record.
#[test]
fn the_journals_that_fuzzing_begins_with_are_of_this_form() {
    for name in ["circle", "cut", "whole"] {
        let path = format!("{}/fuzz/corpus/journal/{name}", env!("CARGO_MANIFEST_DIR"));
        let file = journal_file();
        std::io::Write::write_all(&mut &file, &std::fs::read(path).unwrap()).unwrap();
        let (past, _) = Past::read(file).unwrap();
        assert!(past.len() > 1, "{name}");
    }
}

/// Directories of which each is said to be in the other, or in itself.
#[test]
fn a_journal_that_leads_in_a_circle_is_no_endless_loop() {
    let file = journal_file();
    let journal = Journal::begin(file.try_clone().unwrap()).unwrap();
    for (first, tree) in [(10, 11), (11, 10), (12, 12)] {
        let (key, what) =
            ([u8::try_from(first).unwrap(); 16], journal::What::Directories { tree, files: 1 });
        journal.note(&journal::Record::Given { view: 0, era: 0, key, first, len: 1, what });
    }
    let view = next(&file);
    for number in [10, 11, 12] {
        assert!(matches!(view.attr(Number(number)), Err(ViewError::Stale)));
    }
}

const NAME: &str =
    "view::recover_tests::s115_a_journal_that_cannot_be_read_for_a_moment_is_waited_for";

#[test]
fn s115_a_journal_that_cannot_be_read_for_a_moment_is_waited_for() {
    with_few_descriptors(NAME, without_descriptors);
}

fn without_descriptors() {
    let file = journal_file();
    let seen = names(&first(&file), Number::ROOT);
    let mut held = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        held.push(file);
    }
    let read = thread::scope(|scope| {
        let read = scope.spawn(|| Past::read(file));
        thread::sleep(Duration::from_millis(300));
        drop(held);
        read.join().unwrap()
    });
    let (past, journal) = read.unwrap();
    let view = View::resume(snapshot(), SETTINGS, None, Vec::new(), (past, Arc::new(journal)));
    assert_eq!(names(&view, Number::ROOT), seen);
}
