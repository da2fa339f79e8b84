//! Which pin a commit is read from, and what that holds of it.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::pin::{IsNamed, Pins};
use super::pin_root::remove_all;
use super::resolve::keeps;
use crate::config::resolved::StateSettings;
use crate::snapshot::Pinning;
use crate::store::blobs::OBJECT_BYTES;
use crate::store::few_descriptors::with_few_descriptors;
use crate::store::git::fixture::{Fixture, Made};
use crate::store::git::{Repository, oid};
use crate::union::object::Oid;

const CONTENT: &str = "dir/file";

/// A repository with one commit, and the pins of a mount.
struct Pinned {
    fixture: Fixture,
    made: Made,
    repository: Arc<Repository>,
    commit: Oid,
    content: Oid,
}

impl Pinned {
    fn new() -> Self {
        let fixture = Fixture::new();
        let made = fixture.with_files("r", &[(CONTENT, "content"), ("other", "other")]);
        let id = |name: &str| oid(made.git(&["rev-parse", name]).as_bytes()).unwrap();
        let (commit, content) = (id("HEAD"), id(&format!("HEAD:{CONTENT}")));
        let repository = Arc::new(Repository::open(&made.path).unwrap());
        Self { fixture, made, repository, commit, content }
    }

    fn pins(&self) -> Pins {
        let (dir, cache_bytes) = (self.fixture.path().join("state"), 1 << 20);
        let state = StateSettings { dir, cache_bytes, object_bytes: OBJECT_BYTES };
        Pins::open(&state, Some(&self.fixture.path().join("view")))
    }

    fn pin(&self, pins: &Pins, is_named: IsNamed<'_>) -> Arc<Repository> {
        let (pinned, pinning) = pins.pin(&self.repository, &self.commit, None, is_named);
        assert_eq!(pinning, Pinning::Pinned);
        pinned
    }

    /// As `git gc` does to a commit that no ref leads to: some of it goes before the rest.
    fn lose_content(&self) {
        fs::remove_file(loose(&self.made.path.join(".git"), &self.content)).unwrap();
    }

    /// Whether a pin has the content itself, as git sees it.
    fn has_content(&self, pinned: &Repository) -> bool {
        let directory = pinned.pin().unwrap().path();
        let mut git = Command::new("git");
        git.arg("--git-dir").arg(directory).args(["cat-file", "-e", &self.content.to_string()]);
        git.status().unwrap().success()
    }
}

fn loose(git_dir: &Path, id: &Oid) -> PathBuf {
    let id = id.to_string();
    git_dir.join("objects").join(&id[..2]).join(&id[2..])
}

#[test]
fn s67_what_holds_all_of_a_commit_is_not_given_up_for_what_may_lack_some() {
    let it = Pinned::new();
    let pins = it.pins();
    let first = it.pin(&pins, Some(&|| true));
    it.lose_content();
    for is_named in [Some(&(|| false) as &dyn Fn() -> bool), None] {
        let again = it.pin(&pins, is_named);
        assert!(Arc::ptr_eq(&again, &first) && it.has_content(&again));
    }
    // What is new has less, and is not taken for all of it.
    drop(first);
    let part = it.pin(&pins, Some(&|| false));
    assert!(!it.has_content(&part));
    let directory = part.pin().unwrap();
    assert!(!directory.is_noted(&it.commit));
    // It is looked at again once the ref says that it is all there.
    it.made.git(&["hash-object", "-w", CONTENT]);
    let whole = it.pin(&pins, Some(&|| true));
    assert!(it.has_content(&whole) && whole.pin().unwrap().is_noted(&it.commit));
}

#[test]
fn s67_a_commit_is_kept_by_a_ref_that_leads_to_what_comes_from_it() {
    let it = Pinned::new();
    let keeps = || {
        let repository = Repository::open(&it.made.path).unwrap();
        keeps(&repository, &it.made.path, Some("main"), &it.commit)
    };
    assert!(keeps());
    let child =
        |of: &[&str]| it.made.git(&[&["commit-tree", "-m", "x", "HEAD^{tree}"], of].concat());
    let first = it.commit.to_string();
    let mut newer = child(&["-p", &first]);
    for _ in 0..3 {
        newer = child(&["-p", newer.trim()]);
    }
    it.made.git(&["update-ref", "refs/heads/main", newer.trim()]);
    assert!(keeps());
    let other = child(&[]);
    it.made.git(&["update-ref", "refs/heads/main", other.trim()]);
    assert!(!keeps(), "it was replaced");
    let merged = child(&["-p", other.trim(), "-p", &first]);
    it.made.git(&["update-ref", "refs/heads/main", merged.trim()]);
    assert!(keeps());
}

#[test]
fn what_a_repository_has_packed_is_pinned_anew_while_a_ref_leads_to_it() {
    let it = Pinned::new();
    let pins = it.pins();
    let first = it.pin(&pins, Some(&|| true));
    it.made.git(&["gc", "-q"]);
    let packed = it.pin(&pins, Some(&|| true));
    assert!(!Arc::ptr_eq(&packed, &first) && it.has_content(&packed));
    let again = it.pin(&pins, Some(&|| unreachable!("nothing has changed")));
    assert!(Arc::ptr_eq(&again, &packed));
}

#[test]
fn s67_the_next_daemon_knows_which_pin_holds_all_of_a_commit() {
    let it = Pinned::new();
    let pins = it.pins();
    let first = it.pin(&pins, Some(&|| true));
    let (directory, commit) = (first.pin().unwrap().path().to_owned(), it.commit);
    assert!(first.pin().unwrap().is_noted(&commit));
    // Left by who was killed while it linked.
    let part = directory
        .with_file_name(directory.file_name().unwrap().to_str().unwrap().replace("-0", "-7"));
    let copied = Command::new("cp").arg("-al").args([&directory, &part]).status().unwrap();
    assert!(copied.success());
    fs::remove_file(loose(&part, &it.content)).unwrap();
    fs::remove_file(part.join(format!("whole-{commit}"))).unwrap();
    pins.keep();
    drop((first, pins));
    let pins = it.pins();
    let left = pins.left();
    assert_eq!(left.len(), 2);
    for pinned in left {
        assert!(pinned.expect_here(&commit).is_ok(), "the commit and its tree are in both");
        let is_noted = pinned.pin().unwrap().is_noted(&commit);
        assert_eq!(is_noted, it.has_content(&pinned));
    }
}

/// A pin that is left, and a file of it that cannot be read: the kernel says that the device failed.
#[test]
fn s68_a_pin_that_cannot_be_read_for_a_moment_stays() {
    let it = Pinned::new();
    let pins = it.pins();
    let first = it.pin(&pins, Some(&|| true));
    let config = first.pin().unwrap().path().join("config");
    let hidden = it.fixture.path().join("hidden");
    pins.keep();
    drop((first, pins));
    fs::rename(&config, &hidden).unwrap();
    symlink("/proc/self/mem", &config).unwrap();
    let pins = it.pins();
    assert!(pins.left().is_empty());
    // What is to be removed would be by now.
    thread::sleep(Duration::from_millis(300));
    let waited = thread::scope(|scope| {
        let left = scope.spawn(|| pins.left().len());
        thread::sleep(Duration::from_millis(300));
        assert!(!left.is_finished(), "it was given up");
        fs::rename(&hidden, &config).unwrap();
        left.join().unwrap()
    });
    assert_eq!(waited, 1);
}

#[test]
fn s68_a_root_that_is_used_is_as_young_as_the_last_sign_of_it() {
    let fixture = Fixture::new();
    let root = File::open(fixture.path()).unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(48 * 60 * 60);
    root.set_modified(long_ago).unwrap();
    let (removal, removals) = mpsc::channel();
    let at = fixture.path();
    thread::scope(|scope| {
        scope.spawn(move || {
            remove_all(&removals, &AtomicBool::default(), at, Duration::from_millis(20));
        });
        let until = Instant::now() + Duration::from_secs(60);
        while root.metadata().unwrap().modified().unwrap() == long_ago {
            assert!(Instant::now() < until, "nothing says that it is used");
            thread::sleep(Duration::from_millis(5));
        }
        drop(removal);
    });
}

/// The last daemon of the mount ends while the next one waits for its root, and takes that along.
#[test]
fn s67_a_root_that_goes_while_it_is_waited_for_is_made_anew() {
    let it = Pinned::new();
    let pins = it.pins();
    let root = pins.directory().unwrap().to_owned();
    drop(pins);
    fs::create_dir(&root).unwrap();
    let ending = File::open(&root).unwrap();
    ending.lock().unwrap();
    thread::scope(|scope| {
        let next = scope.spawn(|| it.pins());
        thread::sleep(Duration::from_millis(60));
        fs::remove_dir(&root).unwrap();
        drop(ending);
        let next = next.join().unwrap();
        assert_eq!(next.directory(), Some(&*root));
        it.pin(&next, None);
    });
}

const NAME: &str =
    "sync::pin_tests::s115_a_root_of_pins_that_cannot_be_had_for_a_moment_is_waited_for";

#[test]
fn s115_a_root_of_pins_that_cannot_be_had_for_a_moment_is_waited_for() {
    with_few_descriptors(NAME, without_descriptors);
}

fn without_descriptors() {
    let it = Pinned::new();
    let mut held = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        held.push(file);
    }
    let pins = thread::scope(|scope| {
        let opened = scope.spawn(|| it.pins());
        thread::sleep(Duration::from_millis(300));
        drop(held);
        opened.join().unwrap()
    });
    assert!(pins.directory().is_some());
}
