//! Pin directories outlive the repositories that they were made of.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

use super::fixture::{Fixture, Made};
use super::pin::{Filled, Lenders, PinDirectory, PinError};
use super::{Repository, oid};
use crate::union::object::Oid;

fn lenders(made: &Made) -> (Arc<Repository>, Lenders) {
    let repository = Arc::new(Repository::open(&made.path).unwrap());
    let lenders = Lenders::of(&repository).unwrap();
    (repository, lenders)
}

fn directory(fixture: &Fixture, id_len: usize) -> (PinDirectory, Receiver<PathBuf>) {
    let (removal, removals) = mpsc::channel();
    let root = fixture.path().join("pins");
    fs::create_dir_all(&root).unwrap();
    PinDirectory::prepare(&root).unwrap();
    let pin = PinDirectory::create(&root, "key-0", id_len, removal).unwrap();
    (pin, removals)
}

/// Pins a repository, removes it, and checks that this commit is still all there.
fn assert_outlives(fixture: &Fixture, made: &Made, commit: &str) {
    let (repository, lenders) = lenders(made);
    let (pin, _removals) = directory(fixture, repository.id_len());
    assert_eq!(pin.fill(&lenders).unwrap(), Filled::Whole);
    fs::remove_dir_all(&made.path).unwrap();
    let at = pin.path().to_owned();
    let commit = oid(commit.as_bytes()).unwrap();
    let pinned = Repository::open_pinned(repository, pin).unwrap();
    pinned.expect_here(&commit).unwrap();
    let git = fixture.at(at.strip_prefix(fixture.path()).unwrap().to_str().unwrap());
    git.git(&["rev-list", "--objects", &commit.to_string()]);
    assert_eq!(git.git(&["cat-file", "-p", &format!("{commit}:dir/file")]), "content");
}

fn links(path: &Path) -> u64 {
    path.metadata().unwrap().nlink()
}

#[test]
fn loose_objects_and_packs_outlive_their_repository() {
    let fixture = Fixture::new();
    let made = fixture.with_files("r", &[("dir/file", "content")]);
    made.git(&["gc", "-q"]);
    let commit = made.commit(&[("other", "loose")]);
    assert_outlives(&fixture, &made, &commit);
}

#[test]
fn long_ids_are_pinned_too() {
    let fixture = Fixture::new();
    let made = fixture.init("r", &["--object-format=sha256"]);
    let commit = made.commit(&[("dir/file", "content")]);
    assert_outlives(&fixture, &made, &commit);
}

#[test]
fn borrowed_objects_are_pinned_too() {
    let fixture = Fixture::new();
    let first = fixture.with_files("first", &[("dir/file", "content")]);
    first.git(&["gc", "-q"]);
    fixture.at(".").git(&["clone", "-q", "--shared", "first", "second"]);
    let second = fixture.at("second");
    second.commit(&[("more", "x")]);
    fixture.at(".").git(&["clone", "-q", "--shared", "second", "third"]);
    let third = fixture.at("third");
    let commit = third.commit(&[("most", "x")]);
    let (repository, lenders) = lenders(&third);
    let (pin, _removals) = directory(&fixture, repository.id_len());
    assert_eq!(pin.fill(&lenders).unwrap(), Filled::Whole);
    for made in [&first, &second, &third] {
        fs::remove_dir_all(&made.path).unwrap();
    }
    let git = fixture.at("pins/key-0");
    git.git(&["rev-list", "--objects", &commit]);
    assert_eq!(git.git(&["cat-file", "-p", &format!("{commit}:dir/file")]), "content");
}

#[test]
fn only_what_is_new_is_linked_until_the_repository_loses_something() {
    let fixture = Fixture::new();
    let made = fixture.with_files("r", &[("a", "1")]);
    made.git(&["gc", "-q"]);
    let (repository, lenders) = lenders(&made);
    let (pin, _removals) = directory(&fixture, repository.id_len());
    assert_eq!(pin.fill(&lenders).unwrap(), Filled::Whole);
    let files = |above: PathBuf| fs::read_dir(above).unwrap().count();
    let count = || {
        let objects = fs::read_dir(pin.path().join("objects")).unwrap();
        objects.map(|above| files(above.unwrap().path())).sum::<usize>()
    };
    let before = count();
    assert!((2..=3).contains(&before), "{before} files of one pack");
    let commit = made.commit(&[("a", "2")]);
    let loose = Path::new("objects").join(&commit[..2]).join(&commit[2..]);
    assert_eq!(pin.fill(&lenders).unwrap(), Filled::Whole);
    assert_eq!(count(), before + 3, "a commit, a tree and a blob");
    assert_eq!(links(&pin.path().join(&loose)), 2);
    made.git(&["gc", "-q"]);
    assert_eq!(pin.fill(&lenders).unwrap(), Filled::Outgrown);
    assert_eq!(links(&pin.path().join(&loose)), 1);
}

#[test]
fn nothing_is_written_into_the_repository_and_names_of_others_are_passed_over() {
    let fixture = Fixture::new();
    let made = fixture.with_files("r", &[("a", "1")]);
    for name in ["pack/tmp_pack_1", "pack/pack-1.idx", "ab-c", "info/more"] {
        let path = made.path.join(".git/objects").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    let list = || fixture.at("r").git(&["ls-files", "--others", "--exclude=nothing"]);
    let before = (list(), fs::read_dir(made.path.join(".git/objects")).unwrap().count());
    let (repository, lenders) = lenders(&made);
    let (pin, _removals) = directory(&fixture, repository.id_len());
    assert_eq!(pin.fill(&lenders).unwrap(), Filled::Whole);
    assert!(!pin.path().join("objects/pack").exists());
    assert_eq!(before, (list(), fs::read_dir(made.path.join(".git/objects")).unwrap().count()));
}

#[test]
fn what_is_no_regular_file_is_refused() {
    let fixture = Fixture::new();
    let made = fixture.with_files("r", &[("a", "1")]);
    made.git(&["gc", "-q"]);
    let packs = made.path.join(".git/objects/pack");
    let pack = fs::read_dir(&packs).unwrap().map(|entry| entry.unwrap().path());
    let pack = pack.into_iter().find(|path| path.extension().is_some_and(|e| e == "pack")).unwrap();
    fs::rename(&pack, fixture.path().join("moved")).unwrap();
    symlink(fixture.path().join("moved"), &pack).unwrap();
    let (repository, lenders) = lenders(&made);
    let (pin, _removals) = directory(&fixture, repository.id_len());
    let error = pin.fill(&lenders).unwrap_err();
    assert!(matches!(&error, PinError::NotAFile(path) if *path == pack), "{error}");
}

/// It would be asked for what it lacks by itself, without end.
#[test]
fn a_pin_lends_to_no_pin() {
    let fixture = Fixture::new();
    let made = fixture.with_files("r", &[("dir/file", "content")]);
    let (repository, lenders) = lenders(&made);
    let (pin, _removals) = directory(&fixture, repository.id_len());
    assert_eq!(pin.fill(&lenders).unwrap(), Filled::Whole);
    let pinned = Arc::new(Repository::open_pinned(repository.clone(), pin).unwrap());
    pinned.set_lender(pinned.clone());
    assert!(pinned.lender().is_some_and(|lender| Arc::ptr_eq(&lender, &repository)));
    let missing = oid(b"0123456789012345678901234567890123456789").unwrap();
    assert!(pinned.commit(&missing).is_err());
}

#[test]
fn a_directory_orders_its_removal_when_it_goes() {
    let fixture = Fixture::new();
    let (pin, removals) = directory(&fixture, 20);
    let path = pin.path().to_owned();
    drop(pin);
    assert_eq!(removals.recv().unwrap(), path);
}

#[test]
fn a_copy_has_what_a_commit_needs_and_the_next_costs_what_it_changed() {
    let fixture = Fixture::new();
    let made = fixture.with_files("r", &[("dir/file", "content"), ("dir/other", "old")]);
    made.git(&["gc", "-q"]);
    let first = oid(made.git(&["rev-parse", "HEAD"]).as_bytes()).unwrap();
    let repository = Arc::new(Repository::open(&made.path).unwrap());
    let (pin, _removals) = directory(&fixture, repository.id_len());
    let copy = |commit: &Oid| pin.copy(&repository, commit, None, &|| false).unwrap();
    let count = || fixture.at("pins/key-0").git(&["count-objects"]);
    assert!(!pin.copy(&repository, &first, None, &|| true).unwrap(), "it was stopped");
    assert!(copy(&first));
    assert!(count().starts_with("5 objects"), "{}", count());
    let second = oid(made.commit(&[("dir/other", "new")]).as_bytes()).unwrap();
    assert!(copy(&second));
    assert!(count().starts_with("9 objects"), "{}", count());
    assert!(!pin.is_outgrown());
    let many: Vec<_> =
        (0..1_100).map(|number| (format!("many/{number}"), number.to_string())).collect();
    let many: Vec<_> = many.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    assert!(copy(&oid(made.commit(&many).as_bytes()).unwrap()));
    assert!(pin.is_outgrown(), "{}", count());
    fs::remove_dir_all(&made.path).unwrap();
    let git = fixture.at("pins/key-0");
    git.git(&["fsck", "--full"]);
    assert_eq!(git.git(&["cat-file", "-p", &format!("{first}:dir/other")]), "old");
}

#[test]
fn what_a_repository_lacks_is_left_out_of_a_copy() {
    let fixture = Fixture::new();
    let made = fixture.with_files("r", &[("dir/file", "content"), ("other", "lost")]);
    let lost = made.git(&["rev-parse", "HEAD:other"]);
    fs::remove_file(made.path.join(".git/objects").join(&lost[..2]).join(&lost[2..])).unwrap();
    let commit = oid(made.git(&["rev-parse", "HEAD"]).as_bytes()).unwrap();
    let repository = Repository::open(&made.path).unwrap();
    let (pin, _removals) = directory(&fixture, repository.id_len());
    assert!(pin.copy(&repository, &commit, None, &|| false).unwrap());
    assert_eq!(
        fixture.at("pins/key-0").git(&["cat-file", "-p", &format!("{commit}:dir/file")]),
        "content"
    );
}

#[test]
fn what_pins_have_in_common_is_written_where_it_is_not_as_it_should_be() {
    let fixture = Fixture::new();
    let root = fixture.path().join("pins");
    fs::create_dir_all(&root).unwrap();
    PinDirectory::prepare(&root).unwrap();
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1);
    let [good, bad] = ["config-sha1", "HEAD"].map(|name| root.join(name));
    let content = fs::read(&bad).unwrap();
    for path in [&good, &bad] {
        fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
    }
    // As it were if the machine had stopped while it was written.
    fs::write(&bad, "").unwrap();
    PinDirectory::prepare(&root).unwrap();
    assert_eq!(fs::read(&bad).unwrap(), content);
    assert_eq!(good.metadata().unwrap().modified().unwrap(), long_ago);
}

/// As after the power went while a copy was on its way to the disk.
#[test]
fn s67_what_of_a_copy_is_damaged_is_read_from_the_repository() {
    let fixture = Fixture::new();
    let made = fixture.with_files("r", &[("dir/file", "content")]);
    let commit = oid(made.git(&["rev-parse", "HEAD"]).as_bytes()).unwrap();
    let repository = Arc::new(Repository::open(&made.path).unwrap());
    let (pin, _removals) = directory(&fixture, repository.id_len());
    assert!(pin.copy(&repository, &commit, None, &|| false).unwrap());
    for directory in fs::read_dir(pin.path().join("objects")).unwrap() {
        for object in fs::read_dir(directory.unwrap().path()).unwrap() {
            fs::remove_file(object.as_ref().unwrap().path()).unwrap();
            fs::write(object.unwrap().path(), "").unwrap();
        }
    }
    let pinned = Repository::open_pinned(repository, pin).unwrap();
    pinned.expect_here(&commit).unwrap_err();
    let tree = pinned.commit(&commit).unwrap().tree;
    assert_eq!(pinned.object(&tree, gix::objs::Kind::Tree).unwrap().len(), 30);
}
