//! Mounts over stores in memory, one of which panics when it is asked.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::panic::resume_unwind;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use nix::unistd::{Pid, gettid};

use super::*;
use crate::config::resolved::Links;
use crate::machine::courier::{self, Courier};
use crate::machine::labels::Labels;
use crate::machine::mount::{MountRequest, mount};
use crate::store::memory::MemoryStore;
use crate::store::{Attributes, Listed, Store, StoreError};
use crate::union::name::RelPath;
use crate::union::namespace::Namespace;
use crate::union::object::Object;
use crate::view::tests::{path, shown_at, snapshot, snapshot_of};
use crate::view::{Kernel, Number, Settings, Superblock, View};

/// Panics when it is asked about certain objects, and counts that.
#[derive(Debug)]
struct Panicking {
    inner: MemoryStore,
    /// For each panic its thread, if that is one of those that take requests.
    panicked: Mutex<Vec<Option<Pid>>>,
}

impl Panicking {
    fn is(&self, object: &Object, place: &str) -> bool {
        self.inner.at(&path(place)).as_ref() == Some(object)
    }

    fn panic_about(&self, object: &Object, place: &str) {
        if self.is(object, place) {
            let answers = thread::current().name().is_some_and(|name| name.starts_with("fuser-"));
            self.panicked.lock().unwrap().push(answers.then(gettid));
            // As a panic, but for the message on the standard error of all tests.
            resume_unwind(Box::new("injected"));
        }
    }
}

impl Store for Panicking {
    fn root(&self) -> Result<Object, StoreError> {
        self.inner.root()
    }

    fn list(&self, directory: &Object) -> Result<Vec<Listed>, StoreError> {
        self.panic_about(directory, "listed");
        self.inner.list(directory)
    }

    fn lookup(&self, directory: &Object, name: &[u8]) -> Result<Option<Object>, StoreError> {
        self.panic_about(directory, "listed");
        self.inner.lookup(directory, name)
    }

    fn attributes(&self, object: &Object) -> Result<Attributes, StoreError> {
        self.panic_about(object, "asked");
        self.inner.attributes(object)
    }

    fn read(&self, file: &Object, offset: u64, len: usize) -> Result<Vec<u8>, StoreError> {
        self.panic_about(file, "read");
        self.panic_about(file, "late");
        self.inner.read(file, offset, len)
    }

    fn read_at_hand(
        &self,
        file: &Object,
        _size_bytes: Option<u64>,
        offset: u64,
        len: usize,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        if self.is(file, "late") {
            return Ok(None);
        }
        self.read(file, offset, len).map(Some)
    }

    fn read_link(&self, link: &Object) -> Result<Vec<u8>, StoreError> {
        self.panic_about(link, "link");
        self.inner.read_link(link)
    }
}

/// Unmounts when it goes away.
struct Unmounting<'a>(&'a Path);

impl Drop for Unmounting<'_> {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0).status().map(drop).unwrap_or_default();
    }
}

/// Runs a shell script in a directory, of which the errors are counted that it tells of.
fn shell(directory: &Path, script: &str) -> String {
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", "120", "sh", "-c", script]).current_dir(directory);
    let output = command.env("LC_ALL", "C").output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn can_mount() -> bool {
    let is_skipped =
        std::env::var_os("OVERLAYFS_MOUNT_SKIP_FUSE").is_some_and(|value| value == "1");
    let can = !is_skipped && nix::unistd::geteuid().is_root();
    if !can {
        eprintln!("SKIPPED: mounting needs root, and OVERLAYFS_MOUNT_SKIP_FUSE unset");
    }
    can
}

fn mount_at(directory: &Path) -> OwnedFd {
    let request = MountRequest {
        mountpoint: directory.canonicalize().unwrap(),
        source_name: "in memory".into(),
        allow_other: false,
        default_permissions: false,
        forbids_execution: false,
        labels: Labels::default(),
    };
    mount(&request).unwrap().fd
}

const ROOT: Owner = Owner { uid: 0, gid: 0 };

/// A worker that took a mount over asks so what of the numbers of earlier ones the kernel still has.
#[test]
fn the_kernel_tells_which_nodes_it_knows_and_nothing_comes_of_it() {
    if !can_mount() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let fd = mount_at(directory.path());
    let unmounting = Unmounting(directory.path());
    let courier = Courier::new(courier::start(fd.try_clone().unwrap()).unwrap());
    let courier: kernel::Courier = Arc::new(move |messages: &[u8]| courier.carry(messages));
    let settings = Settings { links: Links::All, has_xattrs: false };
    let view = Arc::new(View::new(Arc::new(snapshot()), settings));
    let views = Arc::new(Superblock::only(view.clone()));
    let serving = Serving { courier: Some(courier), ..Serving::alone(ROOT) };
    let served = serve(views, fd, serving).unwrap();
    // Another test may have the kernel forget all that nobody holds.
    let script = "cd skills/review; exec 3<SKILL.md; stat -c %i SKILL.md .; exec sleep 60";
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir(directory.path()).stdout(Stdio::piped());
    let mut holder = command.spawn().unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines().take(2);
    let numbers: Vec<u32> = lines.map(|line| line.unwrap().parse().unwrap()).collect();
    let known = numbers.iter().map(|number| served.kernel.knows(Number(*number)));
    let known: Vec<_> = known.chain([served.kernel.knows(Number(4_000_000))]).collect();
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(known, [true, true, false]);
    assert_eq!(
        shell(directory.path(), "cat skills/review/SKILL.md; ls skills/review/deep"),
        "review\ner\n"
    );
    drop(unmounting);
    served.wait().unwrap();
}

#[test]
fn a_thousand_panics_cost_a_thousand_requests_and_nothing_more() {
    if !can_mount() {
        return;
    }
    let inner = MemoryStore::builder().file("listed/a", "in it").file("asked", "asked");
    let inner = inner.file("read", "read").file("late", "late").link("link", "target");
    let inner = inner.file("good", "good\n").build();
    let root = inner.at(&RelPath::root()).unwrap();
    let store = Arc::new(Panicking { inner, panicked: Mutex::default() });
    let namespace = Namespace::new([shown_at("o/r", ".", root)], [], 1000);
    let snapshot = Arc::new(snapshot_of(store.clone(), namespace));
    let view = Arc::new(View::new(snapshot, Settings { links: Links::All, has_xattrs: false }));
    let directory = tempfile::tempdir().unwrap();
    let fd = mount_at(directory.path());
    let unmounting = Unmounting(directory.path());
    let views = Arc::new(Superblock::only(view));
    let served = serve(views, fd, Serving::alone(ROOT)).unwrap();
    assert_eq!(shell(directory.path(), "cat o/r/good"), "good\n");
    // Many more than there are threads: were one lost with each, nobody would answer in the end.
    let script = "for n in $(seq 200); do
            for file in listed/a asked read late; do cat o/r/$file; done; readlink -v o/r/link
        done 2>&1 | sed 's/.*: //' | sort | uniq -c | sed 's/^ *//'";
    assert_eq!(shell(directory.path(), script), "1000 Input/output error\n");
    // The kernel may have asked ahead.
    let panicked = store.panicked.lock().unwrap().clone();
    assert!(panicked.len() >= 1000, "{}", panicked.len());
    assert!(!served.has_ended());
    let lives = |thread: &Pid| Path::new(&format!("/proc/self/task/{thread}")).exists();
    let threads: BTreeSet<Pid> = panicked.into_iter().flatten().collect();
    assert!(threads.len() >= 2 && threads.iter().all(lives), "{threads:?}");
    assert_eq!(shell(directory.path(), "cat o/r/good; ls o"), "good\nr\n");
    drop(unmounting);
    served.wait().unwrap();
}
