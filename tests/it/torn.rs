//! Readers of a view whose revision moves under them: nobody may see a mixture, or an older set than anybody has seen.
//!
//! The short form runs with all tests. `OVERLAYFS_MOUNT_TORN_FLIPS=10000` makes it the long one.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::{fs, mem};

use crate::fixture::{Repo, Sandbox, can_mount, has_program, times, wait_for};

pub(crate) const READERS: u64 = 8;
const SKILLS: u64 = 40;
/// Flips of the short form.
const FLIPS: u64 = 40;

/// A tree in which every file holds the number of the revision, and one name does.
pub(crate) fn commit(repo: &Repo<'_>, revision: u64) -> String {
    let mut text = String::new();
    let number = format!("{revision}\n");
    let mut file = |path: &str| {
        let header = format!("M 100644 inline {path}\ndata {}\n", number.len());
        text.extend([header.as_str(), number.as_str(), "\n"]);
    };
    for skill in 0..SKILLS {
        for part in ["SKILL.md", "deep/one", "deep/two"] {
            file(&format!(".agents/skills/skill-{skill:02}/{part}"));
        }
    }
    file(&format!(".agents/skills/revision-{revision}/SKILL.md"));
    file("workflows/flow.py");
    let stream = format!(
        "commit refs/heads/made\nmark :1\ncommitter t <t@localhost> {} +0000\ndata 1\nx\ndeleteall\n{text}\nget-mark :1\n",
        1_700_000_000 + revision
    );
    fs::write(repo.path.join("stream"), stream).unwrap();
    repo.git(&["-c", "core.fsync=none", "update-ref", "-d", "refs/heads/made"]);
    repo.shell("git fast-import --quiet --force < stream")
}

/// A repository at its first revision, and a configuration that follows it.
pub(crate) fn first_revision(sandbox: &Sandbox) -> Repo<'_> {
    let repo = sandbox.repo("acme/base");
    let first = commit(&repo, 1);
    repo.git(&["update-ref", "refs/heads/main", &first]);
    sandbox.configure("    - {repo: acme/base, ref: main}", "");
    repo
}

#[test]
fn s58_readers_see_no_mixture_and_never_an_older_set() {
    if !can_mount() || !has_program("python3", "apt-get install python3") {
        return;
    }
    let flips = times("OVERLAYFS_MOUNT_TORN_FLIPS", FLIPS);
    let sandbox = Sandbox::new();
    let repo = first_revision(&sandbox);
    let mount = sandbox.mount();
    let readers = Readers::start(&sandbox);
    for revision in 2..=flips + 1 {
        let id = commit(&repo, revision);
        repo.git(&["update-ref", "refs/heads/main", &id]);
        sandbox.succeed(&["reload", "view"]);
        readers.published(revision);
    }
    let (entries, longest_ms) = readers.finish();
    assert!(entries > flips, "the readers read {entries} entries only");
    eprintln!(
        "{flips} flips, {entries} entries read by {READERS} processes: none torn, none stale, longest {longest_ms} ms"
    );
    mount.unmount();
}

/// Processes that read the view.
pub(crate) struct Readers {
    /// Numbers that the test and its readers share.
    shared: fs::File,
    processes: Vec<Child>,
}

impl Readers {
    pub(crate) fn start(sandbox: &Sandbox) -> Self {
        Self::of(sandbox, &sandbox.view(), "shared", READERS)
    }

    /// So many that read a view, and share what they know in a file of this name. All have read something when this returns.
    pub(crate) fn of(sandbox: &Sandbox, view: &Path, shared: &str, count: u64) -> Self {
        let path = sandbox.path(shared);
        fs::write(&path, vec![0; 8 * usize::try_from(READERS + 2).unwrap()]).unwrap();
        let place = path.clone();
        let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        fs::write(sandbox.path("reader.py"), include_str!("torn_reader.py")).unwrap();
        let start = |slot: u64| {
            let mut command = sandbox.command("python3");
            command.arg("reader.py").arg(view).arg(&place);
            command.arg(slot.to_string()).stdout(Stdio::piped()).spawn().unwrap()
        };
        let readers = Self { shared: file, processes: (0..count).map(start).collect() };
        wait_for("the readers", || (0..count).all(|slot| readers.number(slot + 2) > 0));
        readers
    }

    /// From now on nobody may see an older revision.
    pub(crate) fn published(&self, revision: u64) {
        self.set(0, revision);
    }

    /// Ends the readers, which must have seen nothing wrong. How many entries they have read, and the longest operation in milliseconds.
    pub(crate) fn finish(mut self) -> (u64, u64) {
        self.set(1, 1);
        let (mut entries, mut longest_ms) = (0, 0);
        for process in mem::take(&mut self.processes) {
            let output = process.wait_with_output().unwrap();
            let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            for fault in ["torn", "stale", "backward", "absent"] {
                assert_eq!(found[fault], 0, "{found}");
            }
            entries += found["entries"].as_u64().unwrap();
            longest_ms = longest_ms.max(found["longest_ms"].as_u64().unwrap());
        }
        (entries, longest_ms)
    }

    fn set(&self, index: u64, number: u64) {
        self.shared.write_all_at(&number.to_le_bytes(), index * 8).unwrap();
    }

    fn number(&self, index: u64) -> u64 {
        let mut bytes = [0; 8];
        self.shared.read_exact_at(&mut bytes, index * 8).unwrap();
        u64::from_le_bytes(bytes)
    }
}

impl Drop for Readers {
    /// A test that fails leaves nobody behind.
    fn drop(&mut self) {
        for process in &mut self.processes {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}
