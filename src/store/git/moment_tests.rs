//! What cannot be read for a moment, told from what is not there.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gix::ObjectId;

use super::again::lacking;
use super::fixture::{Fixture, Made};
use super::lfs::LfsObjects;
use super::pin::PinDirectory;
use super::repository::options;
use super::{GitStore, Repository, oid};
use crate::store::blobs::{BlobCache, BlobLimits, OBJECT_BYTES};
use crate::store::few_descriptors::with_few_descriptors;
use crate::store::{Store, StoreError, is_momentary};
use crate::union::object::Object;

const NAME: &str =
    "store::git::moment_tests::s127_what_no_descriptor_is_left_for_is_not_taken_for_absent";

#[test]
fn s127_what_no_descriptor_is_left_for_is_not_taken_for_absent() {
    with_few_descriptors(NAME, without_descriptors);
}

fn without_descriptors() {
    let fixture = Fixture::new();
    let made = fixture.with_files("r", &[("in/file", "0")]);
    made.git(&["repack", "-adq"]);
    let commit = made.commit(&[("other", "1")]);
    made.git(&["repack", "-dq"]);
    let first = serves(&Arc::new(Repository::open(&made.path).unwrap()), &commit);
    let below = first.lookup(&first.root().unwrap(), b"in").unwrap().unwrap();
    let id = made.git(&["rev-parse", "HEAD:in"]);
    let id = ObjectId::from_hex(id.trim().as_bytes()).unwrap();
    let opened = [(); 2].map(|()| options(OBJECT_BYTES).open(&made.path).unwrap());
    // It knows which packs there are, and has opened none.
    opened[0].objects.structure().unwrap();
    let find = |at: usize, id: &ObjectId| opened[at].to_thread_local().find_header(*id).is_ok();
    let lfs = made.path.join(".git/lfs/objects/ab/ab");
    fs::create_dir_all(&lfs).unwrap();
    fs::write(lfs.join("ab".repeat(32)), "x").unwrap();
    let scan = || LfsObjects::scan(&made.path.join(".git"));
    let mut held = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        held.push(file);
    }
    let unavailable = |error: StoreError| {
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
        assert!(error.is_momentary());
    };
    unavailable(first.list(&below).unwrap_err());
    assert!(is_momentary(&scan().unwrap_err()));
    assert!(!find(0, &id));
    drop(held);
    // The library takes an index that it could not open for one that is not there, for good.
    assert!(!find(0, &id) && find(1, &id));
    assert!(lacking(&opened[0]).is_some());
    let absent = ObjectId::from_hex(&[b'1'; 40]).unwrap();
    assert!(!find(1, &absent) && lacking(&opened[1]).is_none());
    assert!(!scan().unwrap().is_empty());
    let deadline = Instant::now() + Duration::from_secs(60);
    let listed = loop {
        match first.list(&below) {
            Ok(listed) => break listed,
            Err(error) => unavailable(error),
        }
        assert!(Instant::now() < deadline, "it never came back");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(listed.len(), 1);
    without_the_pack(&made, &commit, &below);
}

const COPIED: &str =
    "store::git::moment_tests::s67_what_cannot_be_read_for_a_moment_is_not_left_out_of_a_copy";

#[test]
fn s67_what_cannot_be_read_for_a_moment_is_not_left_out_of_a_copy() {
    with_few_descriptors(COPIED, || {
        let fixture = Fixture::new();
        let made = fixture.with_files("r", &[("in/file", "0")]);
        made.git(&["repack", "-adq"]);
        let commit = made.commit(&[("other", "1")]);
        made.git(&["repack", "-dq"]);
        let below = made.git(&["rev-parse", "HEAD:in", "HEAD:in/file"]);
        let below: Vec<_> = below.lines().map(|id| oid(id.as_bytes()).unwrap()).collect();
        let repository = Arc::new(Repository::open(&made.path).unwrap());
        let commit = oid(commit.as_bytes()).unwrap();
        let (removal, _removals) = std::sync::mpsc::channel();
        PinDirectory::prepare(fixture.path()).unwrap();
        let pin = PinDirectory::create(fixture.path(), "key-0", 20, removal).unwrap();
        // There are none while what is below the top is read, until it is asked for the third time.
        let (held, asked) = (RefCell::new(Vec::new()), Cell::new(0));
        let is_stopped = || {
            asked.set(asked.get() + 1);
            held.borrow_mut().clear();
            while asked.get() == 2
                && let Ok(file) = File::open("/dev/null")
            {
                held.borrow_mut().push(file);
            }
            false
        };
        assert!(pin.copy(&repository, &commit, None, &is_stopped).unwrap());
        for id in below {
            let copy = super::loose::path_of(&pin.path().join("objects"), &id.to_string());
            assert!(copy.exists(), "{id} lacks");
        }
    });
}

fn serves(repository: &Arc<Repository>, commit: &str) -> GitStore {
    let blobs = BlobCache::new(std::env::temp_dir(), BlobLimits::default());
    let commit = oid(commit.as_bytes()).unwrap();
    GitStore::new(repository.clone(), commit, Arc::new(blobs), None).unwrap()
}

/// What is in no pack any more is not there, whoever lacks what.
fn without_the_pack(made: &Made, commit: &str, below: &Object) {
    let packs = made.path.join(".git/objects/pack");
    let tree = made.git(&["rev-parse", "HEAD:in"]);
    for entry in fs::read_dir(&packs).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "idx") {
            let listed = made.git(&["verify-pack", "-v", path.to_str().unwrap()]);
            if listed.contains(tree.trim()) {
                for extension in ["pack", "rev", "idx"] {
                    fs::remove_file(path.with_extension(extension)).unwrap_or_default();
                }
            }
        }
    }
    let repository = Arc::new(Repository::open(&made.path).unwrap());
    let error = serves(&repository, commit).list(below).unwrap_err();
    assert!(matches!(error, StoreError::Unreadable { .. }) && !error.is_momentary(), "{error}");
}

/// Its long ids would be taken for short ones. The kernel says of this file that the device failed.
#[test]
fn s127_a_configuration_that_cannot_be_read_for_a_moment_is_not_taken_for_an_empty_one() {
    let fixture = Fixture::new();
    let made = fixture.init("r", &["--object-format=sha256"]);
    let (config, hidden) = (made.path.join(".git/config"), made.path.join("hidden"));
    fs::rename(&config, &hidden).unwrap();
    symlink("/proc/self/mem", &config).unwrap();
    let error = Repository::open(&made.path).unwrap_err();
    assert!(error.is_momentary, "{error}");
    fs::rename(&hidden, &config).unwrap();
    assert_eq!(Repository::open(&made.path).unwrap().id_len(), 32);
    for nothing in ["", "# [nothing]\n"] {
        fs::write(&config, nothing).unwrap();
        assert_eq!(Repository::open(&made.path).unwrap().id_len(), 20);
    }
}
