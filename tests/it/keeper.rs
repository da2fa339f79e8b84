//! The worker that serves a view dies, is stopped or is replaced, and nobody notices.
//!
//! The short form runs with all tests. `OVERLAYFS_MOUNT_KILLS=200` makes it the long one.

use std::fs;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fixture::{Mount, Sandbox, can_mount, can_take_over, has_program, times, wait_for};
use crate::large::large;
use crate::torn::{Readers, commit, first_revision};

/// Deaths of the short form.
const KILLS: u64 = 12;

pub(crate) fn status(sandbox: &Sandbox) -> Option<serde_json::Value> {
    let output = sandbox.overlay(&["status", "view", "--json"]).output().unwrap();
    serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success())
}

pub(crate) fn number(status: &serde_json::Value, key: &str) -> i32 {
    let number = status[key].as_i64().and_then(|number| i32::try_from(number).ok());
    assert!(number.is_some(), "{key}: {status}");
    number.unwrap()
}

/// The worker and its keeper.
pub(crate) fn processes(sandbox: &Sandbox) -> (i32, i32) {
    let status = status(sandbox).unwrap();
    (number(&status, "pid"), number(&status, "supervisor_pid"))
}

/// Sends a signal to the worker, and waits until another one serves.
fn replace(sandbox: &Sandbox, signal: Signal) {
    let (worker, keeper) = processes(sandbox);
    kill(Pid::from_raw(worker), signal).unwrap();
    wait_for("another worker", || {
        status(sandbox).is_some_and(|status| number(&status, "pid") != worker)
    });
    assert_eq!(processes(sandbox).1, keeper, "the keeper stays");
}

pub(crate) fn sample(sandbox: &Sandbox) -> Mount<'_> {
    let repo = sandbox.repo("acme/base");
    repo.skill("review", "review\n").skill("plan", "plan\n").write("README.md", "readme\n");
    repo.commit();
    sandbox.configure("    - {repo: acme/base, ref: main}", "");
    sandbox.mount_with(&["--supervised", "--log", "log"])
}

pub(crate) fn log(sandbox: &Sandbox) -> String {
    fs::read_to_string(sandbox.path("log")).unwrap()
}

pub(crate) fn runs(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Kills a worker somewhere in its look at a source, in the flip, or after it; now and then without what the kernel has cached.
pub(crate) fn kill_on_the_way(worker: i32, revision: u64) {
    for _ in 0..revision % 7 {
        drop(Command::new("true").status());
    }
    if revision.is_multiple_of(3) {
        fs::write("/proc/sys/vm/drop_caches", "2").unwrap_or_default();
    }
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
}

#[test]
fn s95_nobody_notices_that_workers_are_killed_while_the_view_changes() {
    if !can_take_over() || !has_program("python3", "apt-get install python3") {
        return;
    }
    let _emptying = crate::fixture::empties_caches();
    let kills = times("OVERLAYFS_MOUNT_KILLS", KILLS);
    let sandbox = Sandbox::new();
    let repo = first_revision(&sandbox);
    let mount = sandbox.mount_with(&["--supervised", "--log", "log"]);
    let readers = Readers::start(&sandbox);
    for revision in 2..=kills + 1 {
        let id = commit(&repo, revision);
        let (worker, _) = processes(&sandbox);
        repo.git(&["update-ref", "refs/heads/main", &id]);
        kill_on_the_way(worker, revision);
        wait_for("the next worker to show the revision", || {
            sandbox.overlay(&["reload", "view"]).output().unwrap().status.success()
        });
        readers.published(revision);
    }
    let (entries, longest_ms) = readers.finish();
    assert!(entries > kills, "the readers read {entries} entries only");
    eprintln!(
        "{kills} workers killed, {entries} entries read: none wrong, longest {longest_ms} ms"
    );
    mount.unmount();
}

#[test]
fn s95_what_is_held_goes_on_when_the_worker_dies() {
    if !can_take_over() {
        return;
    }
    let _emptying = crate::fixture::empties_caches();
    let sandbox = Sandbox::new();
    let mount = sample(&sandbox);
    let inodes = "find . | sort | xargs stat -c '%i %s %Y %a %n'";
    let before = sandbox.shell(&format!("cd $VIEW; {inodes}"));
    let (worker, _) = processes(&sandbox);
    let held = sandbox.shell(&format!(
        "exec 3<$VIEW/.agents/skills/review/SKILL.md; cd $VIEW/.agents/skills/plan
         kill -KILL {worker}; echo 2 > /proc/sys/vm/drop_caches
         cat <&3; ls; cat SKILL.md; cat ../review/SKILL.md; cat $VIEW/.overlay/revision"
    ));
    assert!(held.starts_with("review\nSKILL.md\nplan\nreview\n"), "{held}");
    assert_ne!(processes(&sandbox).0, worker);
    assert_eq!(sandbox.shell(&format!("cd $VIEW; {inodes}")), before, "numbers, times, sizes");
    sandbox.shell("echo 3 > /proc/sys/vm/drop_caches");
    assert_eq!(sandbox.shell(&format!("cd $VIEW; {inodes}")), before);
    mount.unmount();
}

/// The processes that a process has started.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    listed.split_whitespace().map(|child| child.parse().unwrap()).collect()
}

#[test]
fn s108_workers_that_are_killed_as_soon_as_they_start_cost_nobody_the_view() {
    if !can_take_over() {
        return;
    }
    let _emptying = crate::fixture::empties_caches();
    let sandbox = Sandbox::new();
    let mount = sample(&sandbox);
    let (worker, keeper) = processes(&sandbox);
    kill(Pid::from_raw(worker), Signal::SIGSTOP).unwrap();
    fs::write("/proc/sys/vm/drop_caches", "3").unwrap_or_default();
    let mut waiting = sandbox.command("cat");
    waiting.arg("view/.agents/skills/plan/SKILL.md").stdout(Stdio::piped());
    let waiting = waiting.spawn().unwrap();
    let mut killed = Vec::new();
    // Six that die by themselves end the mount.
    wait_for("workers to kill", || {
        for child in children(keeper) {
            if !killed.contains(&child) && kill(Pid::from_raw(child), Signal::SIGKILL).is_ok() {
                killed.push(child);
            }
        }
        killed.len() >= 9
    });
    let read = waiting.wait_with_output().unwrap();
    assert_eq!((read.status.success(), read.stdout), (true, b"plan\n".to_vec()));
    assert_eq!(processes(&sandbox).1, keeper, "the keeper stays");
    assert!(log(&sandbox).matches("the worker has died").count() >= 9, "{}", log(&sandbox));
    mount.unmount();
}

/// What the worker before has pinned is pinned once more by the next one.
#[test]
fn s95_a_large_file_is_read_and_a_missing_object_is_an_error_after_a_death() {
    if !can_take_over() {
        return;
    }
    let (sandbox, digest) = large();
    let repo = sandbox.existing("acme/base");
    let lost = repo
        .skill("lost", "lost\n")
        .shell("git add -A; git rev-parse :.agents/skills/lost/SKILL.md");
    repo.commit();
    // Before anything is pinned it is not there.
    repo.shell(&format!("rm -f .git/objects/{}/{}", &lost[..2], lost[2..].trim()));
    let mount = sandbox.mount_with(&["--supervised", "--log", "log"]);
    wait_for("the pins", || {
        status(&sandbox).is_some_and(|status| !status["sources"][0]["pinned"].is_null())
    });
    for _ in 0..2 {
        replace(&sandbox, Signal::SIGKILL);
        wait_for("the pins", || {
            status(&sandbox).is_some_and(|status| !status["sources"][0]["pinned"].is_null())
        });
        let (worker, _) = processes(&sandbox);
        fs::remove_dir_all(sandbox.path("state/blobs")).unwrap_or_default();
        let lost = sandbox.shell_output("cat $VIEW/.agents/skills/lost/SKILL.md");
        assert!(String::from_utf8_lossy(&lost.stderr).contains("Input/output error"), "{lost:?}");
        let read = sandbox.shell("sha256sum < $VIEW/.agents/skills/model/weights.bin");
        assert_eq!(read.trim(), digest);
        assert_eq!(processes(&sandbox).0, worker, "nobody died of it");
    }
    mount.unmount();
}

#[test]
fn a_worker_that_is_stopped_or_crashes_is_replaced() {
    // Numbers of sets that were left, beside all else.
    if !can_take_over() {
        return;
    }
    let sandbox = Sandbox::new();
    let mount = sample(&sandbox);
    for signal in [Signal::SIGSTOP, Signal::SIGABRT, Signal::SIGILL] {
        replace(&sandbox, signal);
        assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/plan/SKILL.md"), "plan\n", "{signal}");
    }
    // Sets that were left are there still, with their numbers.
    let of_set = "stat -c %i $VIEW/.overlay/current/.agents/skills/plan";
    let before = sandbox.shell(of_set);
    let id = sandbox.shell("cat $VIEW/.overlay/revision");
    sandbox.existing("acme/base").skill("plan", "other\n").commit();
    sandbox.succeed(&["reload", "view"]);
    replace(&sandbox, Signal::SIGKILL);
    let old = format!("$VIEW/.overlay/revisions/{}/.agents/skills/plan", id.trim());
    assert_eq!(sandbox.shell(&format!("cat {old}/SKILL.md")), "plan\n");
    assert_eq!(sandbox.shell(&format!("stat -c %i {old}")), before);
    assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/plan/SKILL.md"), "other\n");
    mount.unmount();
}

#[test]
fn a_damaged_configuration_is_no_reason_to_lose_the_view_when_the_worker_dies() {
    if !can_take_over() {
        return;
    }
    let sandbox = Sandbox::new();
    let mount = sample(&sandbox);
    let file = sandbox.path("overlays.yaml");
    let whole = fs::read_to_string(&file).unwrap();
    for damaged in [Some("overlays: {sour"), Some(""), None] {
        match damaged {
            Some(text) => fs::write(&file, text).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        replace(&sandbox, Signal::SIGKILL);
        assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/plan/SKILL.md"), "plan\n");
        assert_eq!(sandbox.shell("cat $VIEW/acme/base/README.md"), "readme\n");
    }
    // It is followed again as soon as it is whole.
    fs::write(&file, whole.replace("at: view", "at: view, sources: false")).unwrap();
    wait_for("the configuration", || !sandbox.view().join("acme").exists());
    mount.unmount();
}

#[test]
fn why_a_worker_cannot_take_over_is_in_the_log() {
    if !can_take_over() {
        return;
    }
    let sandbox = Sandbox::new();
    let mount = sample(&sandbox);
    let (worker, _) = processes(&sandbox);
    let cannot = "the worker cannot take over";
    assert!(!log(&sandbox).contains(cannot));
    // The next one may not put its socket there.
    sandbox.shell("chmod 755 run/ours");
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    wait_for("the reason", || log(&sandbox).contains(cannot));
    sandbox.shell("chmod 700 run/ours");
    let said = log(&sandbox);
    let said = said.lines().find(|line| line.contains(cannot)).unwrap();
    assert!(said.contains("is open to others (mode 0755)") && said.contains("cure="), "{said}");
    wait_for("another worker", || {
        status(&sandbox).is_some_and(|status| number(&status, "pid") != worker)
    });
    assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/plan/SKILL.md"), "plan\n");
    mount.unmount();
}

#[test]
fn unmounting_and_signals_leave_no_process() {
    if !can_mount() {
        return;
    }
    for way in ["unmount", "keeper", "worker", "umount"] {
        let sandbox = Sandbox::new();
        let mount = sample(&sandbox);
        let (worker, keeper) = processes(&sandbox);
        match way {
            "unmount" => drop(sandbox.succeed(&["unmount", "view"])),
            "keeper" => kill(Pid::from_raw(keeper), Signal::SIGTERM).unwrap(),
            "worker" => kill(Pid::from_raw(worker), Signal::SIGTERM).unwrap(),
            _ => drop(sandbox.shell("umount $VIEW")),
        }
        wait_for("the end", || !runs(worker) && !runs(keeper));
        assert_eq!(sandbox.mounts(), Vec::<String>::new(), "{way}");
        assert!(!log(&sandbox).contains("has died"), "{way}: {}", log(&sandbox));
        drop(mount);
    }
}

#[test]
fn a_worker_goes_on_without_its_keeper() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let mount = sample(&sandbox);
    let (worker, keeper) = processes(&sandbox);
    kill(Pid::from_raw(keeper), Signal::SIGKILL).unwrap();
    wait_for("word of it", || {
        status(&sandbox).is_some_and(|status| status["supervisor_pid"].is_null())
    });
    assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/plan/SKILL.md"), "plan\n");
    assert!(log(&sandbox).contains("the keeper of the mount has ended"), "{}", log(&sandbox));
    sandbox.existing("acme/base").skill("plan", "other\n").commit();
    sandbox.succeed(&["reload", "view"]);
    assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/plan/SKILL.md"), "other\n");
    kill(Pid::from_raw(worker), Signal::SIGTERM).unwrap();
    wait_for("the end", || !runs(worker));
    // Who could unmount is gone, and who is confined cannot. The next mount clears it away.
    assert!(log(&sandbox).contains("nobody is left who could unmount"), "{}", log(&sandbox));
    sandbox.succeed(&["mount", "--supervised", "--log", "log"]);
    assert_eq!(sandbox.mounts().len(), 1);
    assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/plan/SKILL.md"), "other\n");
    mount.unmount();
}

#[test]
fn what_cannot_be_gone_on_with_is_mounted_anew() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let mount = sample(&sandbox);
    let (worker, _) = processes(&sandbox);
    // What the next worker would make the set again from.
    wait_for("its end", || fs::remove_dir_all(sandbox.path("state")).is_ok());
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    wait_for("a new mount", || {
        let output = sandbox.shell_output("cat $VIEW/.agents/skills/plan/SKILL.md");
        output.stdout == b"plan\n"
    });
    assert_eq!(sandbox.mounts().len(), 1, "the old one is not below the new one");
    assert!(log(&sandbox).contains("it is made anew"), "{}", log(&sandbox));
    mount.unmount();
}

#[test]
fn another_program_takes_over_or_the_old_one_goes_on() {
    if !can_take_over() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").skill("plan", "plan\n").commit();
    sandbox.configure("    - {repo: acme/base, ref: main}", "");
    let program = sandbox.path("program");
    let install = |content: &[u8]| {
        sandbox.program("beside", content);
        sandbox.shell("mv beside program");
    };
    let ours = fs::read(env!("CARGO_BIN_EXE_overlayfs-mount")).unwrap();
    install(&ours);
    let mut command = sandbox.command(&program);
    let mount = sandbox.mount_by(command.args(["mount", "--supervised", "--log", "log"]));
    let read = || assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/plan/SKILL.md"), "plan\n");
    let before = processes(&sandbox);

    for (broken, how) in [
        (&b"#!/bin/sh\nexit 1\n"[..], "did not come up: the one before goes on how=Ended("),
        (b"no program", "no other worker could be started"),
    ] {
        install(broken);
        let said = sandbox.fail(1, &["upgrade", "view"]);
        assert!(said.contains("the old one goes on"), "{said}");
        assert!(log(&sandbox).contains(how), "{}", log(&sandbox));
        assert_eq!(processes(&sandbox), before);
        read();
    }
    // A shell, to which the first argument is a script: it asks for the mount, for which the worker before it is ended, and ends.
    fs::write(sandbox.path("mount"), "printf N >&0; head -c 1 >head; exit 1").unwrap();
    install(&fs::read("/bin/sh").unwrap());
    let said = sandbox.fail(1, &["upgrade", "view"]);
    assert!(said.contains("the old one goes on") && said.contains("cure"), "{said}");
    let (worker, keeper) = processes(&sandbox);
    assert!(worker != before.0 && keeper == before.1, "{}", log(&sandbox));
    read();
    let before = (worker, keeper);
    install(&ours);
    let said = sandbox.succeed(&["upgrade", "view"]);
    let (worker, keeper) = processes(&sandbox);
    assert_eq!(said, format!("process {worker} took over from {}\n", before.0));
    assert_eq!(keeper, before.1);
    read();
    // The program that took over is what comes after a death, whatever is on disk by then.
    fs::remove_file(&program).unwrap();
    replace(&sandbox, Signal::SIGKILL);
    read();
    mount.unmount();
}

#[test]
fn a_supervised_mount_that_cannot_start_says_why_once_and_leaves_nothing() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.configure("    - {repo: acme/none, ref: main}", "");
    let said = sandbox.fail(1, &["mount", "--supervised", "--log", "log"]);
    assert_eq!(
        said.matches("acme/none").count(),
        sandbox.fail(1, &["mount"]).matches("acme/none").count()
    );
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
    assert!(!sandbox.view().exists());
    let said = sandbox.fail(1, &["upgrade", "view"]);
    assert!(said.contains("cure"), "{said}");
}

#[test]
fn a_view_without_a_keeper_cannot_be_upgraded_and_says_so() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").skill("plan", "plan\n").commit();
    sandbox.configure("    - {repo: acme/base, ref: main}", "");
    let mount = sandbox.mount();
    let said = sandbox.fail(1, &["upgrade", "view"]);
    assert!(said.contains("no keeper") && said.contains("--supervised"), "{said}");
    mount.unmount();
}
