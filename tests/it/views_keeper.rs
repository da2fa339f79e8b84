//! The worker that serves many views dies or is replaced, and nobody who uses any of them notices.
//!
//! The short form runs with all tests. `OVERLAYFS_MOUNT_KILLS=200` makes it the long one.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fixture::{Sandbox, can_mount, has_program, times, wait_for};
use crate::keeper::{kill_on_the_way, number, runs};
use crate::torn::{Readers, commit, first_revision};
use crate::views::{all, error_of, is_there, sandbox, serve_with, view};

/// Deaths of the short form.
const KILLS: u64 = 9;

/// The worker and its keeper, by what the first view says that answers.
pub(crate) fn processes(sandbox: &Sandbox) -> Option<(i32, i32)> {
    let output = sandbox.overlay(&["status", "at/one", "--json"]).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    output.status.success().then(|| (number(&status, "pid"), number(&status, "supervisor_pid")))
}

/// Kills the worker, and waits until another one serves.
pub(crate) fn replace(sandbox: &Sandbox) {
    let (worker, keeper) = processes(sandbox).unwrap();
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    wait_for("another worker", || processes(sandbox).is_some_and(|(pid, _)| pid != worker));
    assert_eq!(processes(sandbox).unwrap().1, keeper, "the keeper stays");
}

/// `one` and `two` share a superblock, `told` has one of its own.
fn three(sandbox: &Sandbox, sources: &[&str]) {
    view(sandbox, "one", sources, "");
    view(sandbox, "two", sources, "");
    view(sandbox, "told", sources, "mount: {at: ../at/told, xattrs: true}\n");
}

pub(crate) const VIEWS: [&str; 3] = ["one", "two", "told"];

#[test]
fn s120_nobody_notices_that_workers_of_many_views_are_killed_while_they_change() {
    if !can_mount() || !has_program("python3", "apt-get install python3") {
        return;
    }
    let _emptying = crate::fixture::empties_caches();
    let kills = times("OVERLAYFS_MOUNT_KILLS", KILLS);
    let sandbox = Sandbox::new();
    let repo = first_revision(&sandbox);
    fs::create_dir(sandbox.path("views")).unwrap();
    three(&sandbox, &["base"]);
    // Of a branch that moves whole.
    sandbox.shell("sed -i 's/repo: acme.base/&, ref: main/' views/*.yaml");
    let mount = serve_with(&sandbox, &["--supervised"]);
    let readers = VIEWS.map(|name| {
        let at = sandbox.path(format!("at/{name}"));
        Readers::of(&sandbox, &at, &format!("shared-{name}"), 3)
    });
    for revision in 2..=kills + 1 {
        let id = commit(&repo, revision);
        let (worker, _) = processes(&sandbox).unwrap();
        repo.git(&["update-ref", "refs/heads/main", &id]);
        kill_on_the_way(worker, revision);
        for (name, readers) in VIEWS.iter().zip(&readers) {
            wait_for("the next worker to show the revision", || {
                let reload = ["reload", &format!("at/{name}")];
                sandbox.overlay(&reload).output().unwrap().status.success()
            });
            readers.published(revision);
        }
    }
    let found = readers.map(Readers::finish);
    let (entries, longest_ms) =
        found.iter().fold((0, 0), |(all, most), (count, ms)| (all + count, most.max(*ms)));
    assert!(entries > kills, "the readers read {entries} entries only");
    eprintln!(
        "{kills} workers killed, {entries} entries of three views read: none wrong, longest {longest_ms} ms"
    );
    let log = fs::read_to_string(sandbox.path("log")).unwrap();
    assert!(!log.contains("mounted anew") && !log.contains("made anew"), "{log}");
    mount.end();
}

#[test]
fn s120_what_is_held_of_many_views_goes_on_when_the_worker_dies() {
    if !can_mount() {
        return;
    }
    let _emptying = crate::fixture::empties_caches();
    let sandbox = sandbox();
    three(&sandbox, &["base", "team"]);
    let mount = serve_with(&sandbox, &["--supervised"]);
    let see = |name: &str| {
        let inodes = "find . | sort | xargs stat -c '%d %i %s %Y %a %n'";
        sandbox.shell(&format!("cd at/{name}; {inodes}"))
    };
    let before = VIEWS.map(see);
    let (worker, _) = processes(&sandbox).unwrap();
    let held = sandbox.shell(&format!(
        "exec 3<at/two/.agents/skills/review/SKILL.md; cd at/one/.agents/skills/only-base
         kill -KILL {worker}; echo 2 > /proc/sys/vm/drop_caches
         cat <&3; ls; cat ../review/SKILL.md; cat ../../../acme/base/.agents/skills/review/SKILL.md"
    ));
    assert_eq!(held, "team\nSKILL.md\nteam\nbase\n");
    assert_eq!(VIEWS.map(see), before, "devices, numbers, times, sizes");
    let (after, keeper) = processes(&sandbox).unwrap();
    assert_ne!(after, worker);
    // Each follows what moves, the others keep what they have.
    sandbox.existing("acme/team").skill("review", "newer\n").commit();
    sandbox.succeed(&["reload", "at/told"]);
    sandbox.succeed(&["reload", "at/two"]);
    assert_eq!(sandbox.shell("cat at/told/.agents/skills/review/SKILL.md"), "newer\n");
    let said = sandbox.succeed(&["upgrade", "at/two"]);
    let (worker, _) = processes(&sandbox).unwrap();
    assert_eq!(said, format!("process {worker} took over from {after}\n"));
    sandbox.shell("echo 3 > /proc/sys/vm/drop_caches");
    let source = "acme/base/.agents/skills/large/data";
    let seen = |at: &str| sandbox.shell(&format!("stat -c '%d %i' at/{at}/{source}"));
    assert_eq!(seen("one"), seen("two"), "a file is one in both still");
    assert!(before[0].contains(&seen("one").trim().replace('\n', "")));
    // What the keeper ends leaves nothing.
    kill(Pid::from_raw(keeper), Signal::SIGTERM).unwrap();
    wait_for("the end", || !runs(worker) && !runs(keeper));
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
    assert!(!sandbox.path("at/one").exists(), "what was made for it goes with it");
    drop(mount);
}

#[test]
fn s94_another_file_that_is_older_is_a_change_also_while_the_worker_dies() {
    if !can_mount() {
        return;
    }
    let sandbox = sandbox();
    for name in ["one", "away"] {
        view(&sandbox, name, &["base"], "");
    }
    sandbox.shell("sed s/base/team/ views/away.yaml >older; touch -d 2020-01-01 older");
    let mount = serve_with(&sandbox, &["--supervised"]);
    sandbox.succeed(&["unmount", "at/away"]);
    let note = || sandbox.shell("find run -name 'away.yaml.unmounted'");
    wait_for("word of it", || !note().is_empty());
    replace(&sandbox);
    assert!(!is_there(&sandbox, "at/away/tools"), "its file did not change");
    let (worker, _) = processes(&sandbox).unwrap();
    kill(Pid::from_raw(worker), Signal::SIGSTOP).unwrap();
    sandbox.shell("mv older views/away.yaml");
    // Who is stopped is replaced.
    wait_for("the view", || is_there(&sandbox, "at/away/.agents/skills/only-team"));
    mount.end();
}

#[test]
fn s120_views_come_change_and_go_while_workers_die() {
    if !can_mount() {
        return;
    }
    let sandbox = sandbox();
    three(&sandbox, &["base"]);
    let mount = serve_with(&sandbox, &["--supervised"]);
    let seen = |path: &str| sandbox.shell(&format!("stat -c '%d %i' at/{path}"));
    let file = ".agents/skills/review/SKILL.md";
    let before = seen(&format!("two/{file}"));
    // A view that somebody unmounted stays away, one that has gone does not come back, and what it has shown first is known of it no less.
    view(&sandbox, "away", &["base"], "");
    view(&sandbox, "bad", &["nowhere"], "");
    wait_for("a view that comes", || is_there(&sandbox, "at/away/tools"));
    sandbox.succeed(&["unmount", "at/away"]);
    fs::remove_file(sandbox.path("views/two.yaml")).unwrap();
    wait_for("a view that goes", || !is_there(&sandbox, "at/two/tools"));
    replace(&sandbox);
    // Of the views that there were it tells before.
    wait_for("word of it", || error_of(&sandbox, "bad.yaml").contains("acme/nowhere"));
    assert_eq!(seen(&format!("one/{file}")), before);
    assert_eq!(sandbox.shell(&format!("cat at/one/{file}")), "base\n");
    // A file that changed while nobody looked is followed.
    let keeper = processes(&sandbox).unwrap().1;
    let (worker, _) = processes(&sandbox).unwrap();
    kill(Pid::from_raw(worker), Signal::SIGSTOP).unwrap();
    view(&sandbox, "one", &["team"], "");
    view(&sandbox, "three", &["base"], "");
    // Who is stopped is replaced.
    wait_for("the changed view", || {
        is_there(&sandbox, "at/one/.agents/skills/only-team")
            && is_there(&sandbox, "at/three/tools")
    });
    assert_eq!(processes(&sandbox).unwrap().1, keeper);
    assert!(!is_there(&sandbox, "at/away/tools") && !is_there(&sandbox, "at/two/tools"));
    assert_eq!(seen(&format!("three/{file}")), before);
    sandbox.shell("touch views/away.yaml");
    wait_for("the view again", || is_there(&sandbox, "at/away/tools"));
    // A damaged file is no reason to lose a view.
    fs::write(sandbox.path("views/told.yaml"), "overlays: {sour").unwrap();
    replace(&sandbox);
    assert_eq!(sandbox.shell(&format!("cat at/told/{file}")), "base\n");
    wait_for("word of it", || error_of(&sandbox, "told.yaml").contains("told.yaml"));
    drop(all(&sandbox));
    mount.end();
}

#[test]
fn s120_a_view_that_cannot_be_gone_on_with_is_mounted_anew_and_the_others_stay() {
    if !can_mount() {
        return;
    }
    let sandbox = sandbox();
    three(&sandbox, &["base"]);
    view(&sandbox, "lost", &["base"], "");
    sandbox.shell("sed -i 's/dir: ...state/&2/' views/lost.yaml");
    let mount = serve_with(&sandbox, &["--supervised"]);
    let seen = |path: &str| sandbox.shell(&format!("stat -c '%d %i' at/{path}"));
    let before = VIEWS.map(seen);
    let lost = seen("lost");
    wait_for("its end", || fs::remove_dir_all(sandbox.path("state2")).is_ok());
    replace(&sandbox);
    wait_for("a new mount", || is_there(&sandbox, "at/lost/tools"));
    assert_ne!(seen("lost"), lost);
    assert_eq!(VIEWS.map(seen), before);
    let log = fs::read_to_string(sandbox.path("log")).unwrap();
    assert!(log.contains("the view is mounted anew"), "{log}");
    mount.end();
}
