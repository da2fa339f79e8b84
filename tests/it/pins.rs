//! What is served stays readable, whatever other programs do to its repository.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use crate::fixture::{Repo, Sandbox, can_mount, can_take_over, wait_for};

/// What makes a repository lose all that no ref leads to, and every pack and loose file that it had.
const LOSE: &str = "git reflog expire --expire=now --all; git repack -adfq; git gc --quiet --prune=now; git prune --expire=now";

fn one_source(sandbox: &Sandbox) -> Repo<'_> {
    let repo = sandbox.repo("acme/base");
    repo.skill("review", "one\n").write(".agents/skills/review/deep/part", "part one\n").commit();
    repo.write(".agents/skills/review/deep/big", "line\n".repeat(500_000)).commit();
    sandbox.configure("    - repo: acme/base", "");
    repo
}

/// Makes a commit that has nothing in common with what was there, and drops all of that.
fn force_push(repo: &Repo<'_>) {
    repo.shell("git checkout -q --orphan new; git rm -rqf .");
    repo.skill("review", "two\n").commit();
    repo.shell(&format!("git branch -M new main; {LOSE}"));
}

/// The pin directories, as `<root>/<repository>-<n>`.
fn pin_directories(sandbox: &Sandbox) -> Vec<PathBuf> {
    fn below(dir: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(dir).into_iter().flatten();
        entries.flatten().map(|entry| entry.path()).collect()
    }
    let roots = below(&sandbox.path("state/pins"));
    let is_pin = |path: &PathBuf| path.is_dir() && !path.ends_with("sets");
    roots.iter().flat_map(|root| below(root)).filter(is_pin).collect()
}

/// A process that holds a file and a directory of the view and reads them once the test says so.
struct Holder<'a> {
    sandbox: &'a Sandbox,
    child: Child,
}

impl<'a> Holder<'a> {
    fn new(sandbox: &'a Sandbox) -> Self {
        let script = "cd $VIEW/.agents/skills/review; exec 5< SKILL.md 6< deep/big; touch $HOME/held
             while [ ! -e $HOME/go ]; do sleep 0.01; done
             cat <&5; cat SKILL.md; cat deep/part; ls deep; cat <&6 | md5sum; cat deep/big | md5sum";
        let mut command = sandbox.command("sh");
        command.args(["-euc", script]).env("VIEW", sandbox.view()).stdout(Stdio::piped());
        let child = command.spawn().unwrap();
        wait_for("the holder", || sandbox.path("home/held").exists());
        Self { sandbox, child }
    }

    fn assert_reads_old_revision(mut self) {
        self.sandbox.shell("echo 2 > /proc/sys/vm/drop_caches || true");
        fs::write(self.sandbox.path("home/go"), "").unwrap();
        let mut said = String::new();
        std::io::Read::read_to_string(&mut self.child.stdout.take().unwrap(), &mut said).unwrap();
        assert!(self.child.wait().unwrap().success(), "{said}");
        let sum = self.sandbox.shell("yes line | head -500000 | md5sum");
        assert_eq!(said, format!("one\none\npart one\nbig\npart\n{sum}{sum}"));
    }
}

#[test]
fn s67_what_is_held_is_readable_after_another_program_has_pruned_it() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = one_source(&sandbox);
    let mount = sandbox.mount_pinned();
    let first = sandbox.shell("cat $VIEW/.overlay/revision");
    let commit = repo.git(&["rev-parse", "HEAD"]);
    let holder = Holder::new(&sandbox);
    force_push(&repo);
    repo.shell(&format!("! git cat-file -e {commit}"));
    sandbox.succeed(&["reload"]);
    assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/review/SKILL.md"), "two\n");
    holder.assert_reads_old_revision();
    let kept = format!(
        "cat $VIEW/.overlay/revisions/{}/acme/base/.agents/skills/review/deep/part",
        first.trim()
    );
    assert_eq!(sandbox.shell(&kept), "part one\n");
    assert_eq!(sandbox.status()["sources"][0]["pinned"], true);
    mount.unmount();
}

/// A pin that a killed worker was still linking has the commit, and not all that is below it.
#[test]
fn s67_a_worker_goes_on_with_what_was_pinned_whole() {
    if !can_mount() || !can_take_over() {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = one_source(&sandbox);
    let mount = sandbox.mount_with(&["--supervised", "--pin", "--log", "log"]);
    wait_for("the pin", || sandbox.status()["sources"][0]["pinned"] == true);
    let pinned = pin_directories(&sandbox).pop().unwrap();
    let note = format!("whole-{}", repo.git(&["rev-parse", "HEAD"]));
    wait_for("the set to be written down", || {
        pinned.join(&note).exists() && !sandbox.shell("find state/pins/*/sets -type f").is_empty()
    });
    let part = repo.git(&["rev-parse", "HEAD:.agents/skills/review/deep/part"]);
    for number in 100..116 {
        let name = pinned.file_name().unwrap().to_str().unwrap().split_once('-').unwrap().0;
        let other = pinned.with_file_name(format!("{name}-{number}"));
        let lost = format!("objects/{}/{}", &part[..2], &part[2..]);
        sandbox.shell(&format!(
            "cp -al {} {other}; rm {other}/{lost} {other}/{note}",
            pinned.display(),
            other = other.display()
        ));
    }
    force_push(&repo);
    let worker = sandbox.status()["pid"].as_i64().unwrap();
    sandbox.shell(&format!("kill -9 {worker}"));
    wait_for("the next worker", || {
        sandbox.overlay(&["status", "view"]).output().unwrap().status.success()
    });
    assert_ne!(sandbox.status()["pid"].as_i64(), Some(worker));
    assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/review/deep/part"), "part one\n");
    mount.unmount();
}

#[test]
fn s67_a_repository_that_is_removed_or_away_is_still_readable() {
    if !can_mount() {
        return;
    }
    let _emptying = crate::fixture::empties_caches();
    let sandbox = Sandbox::new();
    let repo = one_source(&sandbox);
    repo.git(&["repack", "-adq"]);
    let mount = sandbox.mount_pinned();
    let first = sandbox.shell("cat $VIEW/.overlay/revision");
    repo.skill("review", "two\n").write("later", "later\n").commit();
    sandbox.succeed(&["reload"]);
    fs::rename(&repo.path, sandbox.path("away")).unwrap();
    let state = || sandbox.status()["sources"][0]["state"].as_str().unwrap().to_owned();
    wait_for("staleness", || state() == "stale");
    assert_eq!(sandbox.shell("cat $VIEW/acme/base/later"), "later\n");
    fs::rename(sandbox.path("away"), &repo.path).unwrap();
    wait_for("the source again", || state() == "ready");
    fs::remove_dir_all(&repo.path).unwrap();
    wait_for("staleness", || state() == "stale");
    sandbox.shell("echo 2 > /proc/sys/vm/drop_caches || true");
    let old =
        format!("cat $VIEW/.overlay/revisions/{}/acme/base/.agents/skills/review", first.trim());
    assert_eq!(sandbox.shell(&format!("{old}/SKILL.md; {old}/deep/part")), "one\npart one\n");
    let now = sandbox.shell("cd $VIEW; cat acme/base/.agents/skills/review/SKILL.md; wc -c < .agents/skills/review/deep/big");
    assert_eq!(now, "two\n2500000\n");
    mount.unmount();
}

#[test]
fn s68_pins_go_with_what_they_keep() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = one_source(&sandbox);
    sandbox.edit(|text| text.replace("at: view", "at: view, keep: 1s"));
    let mount = sandbox.mount_pinned();
    let first = pin_directories(&sandbox);
    assert_eq!(first.len(), 1);
    // As long as nothing is lost, the next revision uses the same directory.
    repo.skill("review", "three\n").commit();
    sandbox.succeed(&["reload"]);
    assert_eq!(pin_directories(&sandbox), first);
    force_push(&repo);
    // The commit of the push may have been pinned before the rest was lost; the next one is not.
    repo.skill("review", "four\n").commit();
    sandbox.succeed(&["reload"]);
    assert!(pin_directories(&sandbox).len() > 1);
    let mut number = 0;
    wait_for("the sets to be forgotten", || {
        number += 1;
        repo.skill("review", &format!("{number}\n")).commit();
        sandbox.succeed(&["reload"]);
        !first[0].exists()
    });
    // The next daemon of the mount would find it; the day after any other removes it.
    let root = first[0].parent().unwrap();
    let elsewhere = || sandbox.succeed(&["mount", "elsewhere"]);
    let pinned = pin_directories(&sandbox);
    mount.unmount();
    elsewhere();
    sandbox.succeed(&["unmount", "elsewhere"]);
    // What no set needs any more may have gone with the mount.
    assert!(root.exists() && pinned.iter().any(|dir| dir.exists()));
    sandbox.shell(&format!("touch -d '2 days ago' {0} {0}/sets", root.display()));
    elsewhere();
    wait_for("the pins to go", || !root.exists());
    sandbox.succeed(&["unmount", "elsewhere"]);
}

#[test]
fn s68_what_killed_daemons_left_is_removed_and_nothing_else() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = one_source(&sandbox);
    let mount = sandbox.mount_pinned();
    let left = pin_directories(&sandbox);
    // A root of another daemon that lives, and one of a daemon that will never come back.
    let (other, old) = (sandbox.path("state/pins/other"), sandbox.path("state/pins/old"));
    fs::create_dir(&other).unwrap();
    fs::create_dir(&old).unwrap();
    let lock = fs::File::open(&other).unwrap();
    lock.lock().unwrap();
    // No link is followed.
    let precious = sandbox.path("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("file"), "").unwrap();
    std::os::unix::fs::symlink(&precious, left[0].join("objects/link")).unwrap();
    std::os::unix::fs::symlink(&precious, old.join("link")).unwrap();
    std::os::unix::fs::symlink(&precious, sandbox.path("state/pins/link")).unwrap();
    sandbox.shell(&format!("kill -9 {}", mount.pid()));
    drop(mount);
    assert!(left[0].exists());
    let again = sandbox.mount_pinned();
    wait_for("the leftovers to go", || !old.exists());
    assert!(other.exists() && precious.join("file").exists());
    assert_eq!(pin_directories(&sandbox), left);
    assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/review/SKILL.md"), "one\n");
    again.unmount();
    fs::remove_dir_all(sandbox.path("state")).unwrap();
    assert_eq!(repo.shell("git fsck 2>&1; find .git/objects -type f -links +1"), "");
}

/// A directory on another file system than the sandbox, to and from which there are no hard links.
fn another_file_system(sandbox: &Sandbox) -> Option<tempfile::TempDir> {
    let shared = Path::new("/dev/shm");
    let here = sandbox.path("home").metadata().unwrap().dev();
    if !shared.metadata().is_ok_and(|shared| shared.dev() != here) {
        eprintln!("SKIPPED: /dev/shm is no other file system");
        return None;
    }
    Some(tempfile::tempdir_in(shared).unwrap())
}

#[test]
fn s67_where_nothing_can_be_linked_the_repository_itself_is_served() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let Some(elsewhere) = another_file_system(&sandbox) else { return };
    one_source(&sandbox);
    let text = fs::read_to_string(sandbox.path("overlays.yaml")).unwrap();
    let state = |dir: &Path| text.replace("dir: state", &format!("dir: {}", dir.display()));
    fs::write(sandbox.path("overlays.yaml"), state(elsewhere.path())).unwrap();
    let file = elsewhere.path().join("file");
    fs::write(&file, "").unwrap();
    for (dir, said) in [(elsewhere.path(), "different file systems"), (&file, "state directory")] {
        fs::write(sandbox.path("overlays.yaml"), state(dir)).unwrap();
        let mount = sandbox.mount_pinned();
        assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/review/SKILL.md"), "one\n");
        let source = &sandbox.status()["sources"][0];
        assert_eq!((&source["pinned"], &source["state"]), (&false.into(), &"ready".into()));
        let reason = source["unpinned_because"].as_str().unwrap();
        assert!(reason.contains(said), "{reason}");
        assert!(sandbox.succeed(&["status", "view"]).contains("`acme/base` is not pinned: "));
        let log = sandbox.shell("cat $HOME/../run/ours/*.log");
        assert!(log.contains("not pinned") && log.contains(said), "{log}");
        let public = sandbox.shell("cat $VIEW/.overlay/status.json");
        assert!(!public.contains(said), "{public}");
        mount.unmount();
    }
}

/// Has `lfs: true` and an object for the pointer `model.bin`; gives the object's path.
fn with_lfs(repo: &Repo<'_>, content: &str) -> PathBuf {
    repo.write("object", content);
    let id = repo.shell("sha256sum object | cut -d' ' -f1; rm object");
    let size = content.len();
    let text =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{id}\nsize {size}\n");
    repo.write("model.bin", text).commit();
    let above = repo.path.join(".git/lfs/objects").join(&id[..2]).join(&id[2..4]);
    fs::create_dir_all(&above).unwrap();
    fs::write(above.join(&id), content).unwrap();
    above.join(id)
}

#[test]
fn s67_lfs_objects_are_kept_too() {
    if !can_mount() {
        return;
    }
    let _emptying = crate::fixture::empties_caches();
    let sandbox = Sandbox::new();
    let repo = one_source(&sandbox);
    let object = with_lfs(&repo, "the large object\n");
    sandbox.configure("    - {repo: acme/base, lfs: true}", "");
    let mount = sandbox.mount_pinned();
    let first = sandbox.shell("cat $VIEW/.overlay/revision");
    fs::remove_file(object).unwrap();
    sandbox.shell("echo 2 > /proc/sys/vm/drop_caches || true");
    sandbox.succeed(&["reload"]);
    // What the set serves is decided when it is built.
    let old = format!("cat $VIEW/.overlay/revisions/{}/acme/base/model.bin", first.trim());
    assert_eq!(sandbox.shell(&old), "the large object\n");
    assert!(sandbox.shell("cat $VIEW/acme/base/model.bin").starts_with("version https://git-lfs"));
    mount.unmount();
}

#[test]
fn s67_a_copy_is_kept_where_nothing_can_be_linked() {
    if !can_mount() {
        return;
    }
    let _emptying = crate::fixture::empties_caches();
    let sandbox = Sandbox::new();
    let Some(elsewhere) = another_file_system(&sandbox) else { return };
    let repo = one_source(&sandbox);
    let object = with_lfs(&repo, "the large object\n");
    let text = format!(
        "overlays: {{sources: [{{repo: acme/base, pin: copy, lfs: true}}]}}\nrepoCache: {{path: repos}}\n\
         state: {{dir: {}}}\nmount: {{at: view}}\n",
        elsewhere.path().display()
    );
    fs::write(sandbox.path("overlays.yaml"), text).unwrap();
    let mount = sandbox.mount();
    let is_pinned = || sandbox.status()["sources"][0]["pinned"] == true;
    wait_for("the copy", is_pinned);
    let first = sandbox.shell("cat $VIEW/.overlay/revision");
    let holder = Holder::new(&sandbox);
    fs::remove_file(object).unwrap();
    force_push(&repo);
    sandbox.succeed(&["reload"]);
    assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/review/SKILL.md"), "two\n");
    holder.assert_reads_old_revision();
    let old = format!("$VIEW/.overlay/revisions/{}/acme/base", first.trim());
    let kept = format!("cat {old}/.agents/skills/review/deep/part {old}/model.bin");
    assert_eq!(sandbox.shell(&kept), "part one\nthe large object\n");
    wait_for("the copy of the next", is_pinned);
    // All of it goes, and what is there was never asked for a change.
    fs::remove_dir_all(&repo.path).unwrap();
    sandbox.shell("echo 2 > /proc/sys/vm/drop_caches || true");
    assert_eq!(sandbox.shell("cat $VIEW/acme/base/.agents/skills/review/SKILL.md"), "two\n");
    mount.unmount();
}
