//! What is taken over of a history, and what is packed twice.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::HistoryError;
use super::layout::Boundary;
use super::packs::{Packing, Packs};
use crate::store::git::fixture::{Fixture, Made};
use crate::sync::fetch::{ChildRun, Stop};

struct Packed {
    fixture: Fixture,
    made: Made,
    commit: String,
}

impl Packed {
    fn new() -> Self {
        let fixture = Fixture::new();
        let made = fixture.with_files("r", &[("file", "one")]);
        let commit = made.commit(&[("file", "two")]);
        Self { fixture, made, commit }
    }

    fn dir(&self) -> PathBuf {
        self.fixture.path().join("history")
    }

    /// What is left there, or nothing.
    fn open(&self) -> Result<Packs, HistoryError> {
        fs::create_dir_all(self.dir()).unwrap();
        Packs::open(self.dir(), false)
    }

    /// Adds the commit, as of a repository whose history ends where it is now said to.
    fn add(&self, packs: &mut Packs) {
        let common_dir = self.made.path.join(".git");
        let boundary = Boundary::of(&common_dir).unwrap();
        let stop = Stop::default();
        let child = ChildRun { timeout: Duration::from_secs(60), stop: &stop, hear: &|_| {} };
        let lenders = [common_dir.join("objects")];
        let means = Packing { program: Path::new("git"), lenders: &lenders, child };
        packs.add(&self.commit, &boundary, &means).unwrap();
    }
}

/// As after `git fetch --depth 1` of another branch.
#[test]
fn s87_the_same_objects_once_more_are_one_pack() {
    let it = Packed::new();
    let mut packs = it.open().unwrap();
    it.add(&mut packs);
    let first = it.made.git(&["rev-parse", "HEAD~"]);
    fs::write(it.made.path.join(".git/shallow"), first + "\n").unwrap();
    it.add(&mut packs);
    let tip = packs.record.tips.last().cloned().unwrap();
    assert_eq!(packs.record.tips.len(), 2);
    let served = packs.serve(&tip).unwrap();
    let packs = fs::read_dir(served.join("objects/pack")).unwrap();
    assert_eq!(
        packs
            .filter(|file| file.as_ref().unwrap().path().extension() == Some("idx".as_ref()))
            .count(),
        1
    );
}

/// The kernel says of such a record that the device failed.
#[test]
fn s87_a_history_that_cannot_be_read_for_a_moment_stays() {
    let it = Packed::new();
    let mut packs = it.open().unwrap();
    it.add(&mut packs);
    drop(packs);
    let (record, hidden) = (it.dir().join("record.json"), it.fixture.path().join("hidden"));
    fs::rename(&record, &hidden).unwrap();
    symlink("/proc/self/mem", &record).unwrap();
    let error = it.open().map(drop).unwrap_err();
    assert!(matches!(error, HistoryError::Io { .. }), "{error}");
    fs::rename(&hidden, &record).unwrap();
    let packs = it.open().unwrap();
    assert!(packs.record.tip(&it.commit, "").is_some());
}

#[test]
fn s87_a_git_directory_that_cannot_be_made_leaves_nothing() {
    let it = Packed::new();
    let mut packs = it.open().unwrap();
    it.add(&mut packs);
    let tip = packs.record.tips.last().cloned().unwrap();
    let all = it.dir().join("repository/objects/pack");
    fs::rename(&all, it.dir().join("hidden")).unwrap();
    assert!(packs.serve(&tip).is_err());
    assert_eq!(fs::read_dir(it.dir().join("served")).unwrap().count(), 0);
    fs::rename(it.dir().join("hidden"), &all).unwrap();
    assert!(packs.serve(&tip).is_ok());
}
