//! What is different where the kernel is older, by a kernel that says so: `setarch --uname-2.6` has it give another version.
//!
//! What an old kernel itself does differently, `tests/kernels/run` shows.

use std::fs;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::fixture::{Mount, Sandbox, can_mount, has_program, wait_for};

/// What says which kernels lack something.
const SINCE: &str = "before Linux 6.9";

/// The program under test, on a kernel that gives an old version.
fn on_an_old_kernel(sandbox: &Sandbox, arguments: &[&str]) -> Command {
    let mut command = sandbox.command("setarch");
    command.args(["--uname-2.6", env!("CARGO_BIN_EXE_overlayfs-mount")]).args(arguments);
    command
}

/// A supervised view of one skill, on such a kernel.
fn mount_on_an_old_kernel(sandbox: &Sandbox) -> Mount<'_> {
    sandbox.repo("acme/base").skill("plan", "plan\n").commit();
    sandbox.configure("    - {repo: acme/base, ref: main}", "");
    let arguments = ["mount", "--supervised", "--log", "log"];
    sandbox.mount_by(&mut on_an_old_kernel(sandbox, &arguments))
}

fn status(sandbox: &Sandbox) -> Option<Value> {
    let output = sandbox.overlay(&["status", "view", "--json"]).output().unwrap();
    serde_json::from_slice(&output.stdout).ok()
}

fn worker(sandbox: &Sandbox) -> Option<i64> {
    status(sandbox)?["pid"].as_i64()
}

#[test]
fn s95_an_old_kernel_costs_those_who_hold_the_view_and_says_so() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let mount = mount_on_an_old_kernel(&sandbox);
    let log = || fs::read_to_string(sandbox.path("log")).unwrap();
    let said = |words: &str| log().lines().filter(|line| line.contains(words)).count();
    assert!(log().contains(&format!("{SINCE} no other process can go on")), "{}", log());
    let first = worker(&sandbox).unwrap();

    // Nobody is ended for a successor that could not go on.
    let refused = sandbox.fail(1, &["upgrade", "view"]);
    assert!(refused.contains(SINCE) && refused.contains("cure"), "{refused}");
    assert_eq!(worker(&sandbox), Some(first));
    assert_eq!(said("the worker has died"), 0, "{}", log());

    kill(Pid::from_raw(i32::try_from(first).unwrap()), Signal::SIGKILL).unwrap();
    wait_for("a new mount", || worker(&sandbox).is_some_and(|now| now != first));
    assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/plan/SKILL.md"), "plan\n");
    assert_eq!(sandbox.mounts().len(), 1, "the old one is not below the new one");
    // The first of the next is the one that serves.
    assert_eq!(said("the worker has died"), 1, "{}", log());
    assert!(log().contains("it is made anew"), "{}", log());
    mount.unmount();
}

#[test]
fn s129_a_damaged_configuration_does_not_cost_a_view_that_is_mounted_anew() {
    if !can_mount() || !has_program("python3", "apt-get install python3") {
        return;
    }
    let sandbox = Sandbox::new();
    let mount = mount_on_an_old_kernel(&sandbox);
    let file = sandbox.path("overlays.yaml");
    let whole = fs::read_to_string(&file).unwrap();
    let kill_worker = || {
        let last = worker(&sandbox).unwrap();
        kill(Pid::from_raw(i32::try_from(last).unwrap()), Signal::SIGKILL).unwrap();
        wait_for("a new mount", || worker(&sandbox).is_some_and(|now| now != last));
    };
    for damaged in [Some("overlays: {sour"), Some(""), None] {
        match damaged {
            Some(text) => fs::write(&file, text).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        kill_worker();
        assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/plan/SKILL.md"), "plan\n");
        assert_eq!(sandbox.mounts().len(), 1);
        // Whoever comes says that what it serves is not what the file says.
        wait_for("its status", || status(&sandbox).is_some_and(|now| now["state"] == "degraded"));
    }
    let log = fs::read_to_string(sandbox.path("log")).unwrap();
    assert!(log.contains("the view stays as it is"), "{log}");
    // It is followed again as soon as it is whole; and a whole one is what the next mount is made of, also in what only a new mount can change.
    fs::write(&file, whole.replace("at: view", "at: view, sources: false")).unwrap();
    wait_for("the configuration", || !sandbox.view().join("acme").exists());
    fs::write(&file, whole.replace("at: view", "at: view, xattrs: true")).unwrap();
    kill_worker();
    let attribute =
        "import os, sys; print(os.getxattr(sys.argv[1], 'user.overlayfs-mount.source'))";
    let shown = sandbox.shell(&format!("python3 -c \"{attribute}\" $VIEW/acme/base"));
    assert!(shown.contains("acme/base"), "{shown}");
    mount.unmount();
}

#[test]
fn s129_a_source_that_is_gone_does_not_cost_a_view_that_is_mounted_anew() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").skill("plan", "plan\n").commit();
    sandbox.shell("mkdir -p mine/.agents/skills/own");
    sandbox.configure("    - {repo: acme/base, ref: main}\n    - {path: mine, name: me/mine}", "");
    let mut command = on_an_old_kernel(&sandbox, &["mount", "--supervised", "--log", "log"]);
    let mount = sandbox.mount_by(&mut command);
    let first = worker(&sandbox).unwrap();
    sandbox.shell("mv mine away");
    kill(Pid::from_raw(i32::try_from(first).unwrap()), Signal::SIGKILL).unwrap();
    wait_for("a new mount", || worker(&sandbox).is_some_and(|now| now != first));
    assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/*/SKILL.md; ls $VIEW/me/mine"), "plan\n");
    let state = |state: &str| {
        status(&sandbox).is_some_and(|now| now["sources"][1]["state"].as_str() == Some(state))
    };
    assert!(state("missing"), "{:?}", status(&sandbox));
    sandbox.shell("mv away mine");
    wait_for("the source", || state("ready"));
    assert_eq!(sandbox.shell("ls $VIEW/.agents/skills"), "own\nplan\n");
    mount.unmount();
}

#[test]
fn doctor_says_what_an_old_kernel_lacks() {
    let sandbox = Sandbox::new();
    let output = on_an_old_kernel(&sandbox, &["doctor", "--json"]).output().unwrap();
    let checks: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    for (id, outcome, evidence, cure) in [
        ("kernel", "fail", "Linux 2.6", "Linux 5.10 or newer"),
        ("takeover", "warn", SINCE, "Linux 6.9 or newer"),
        ("landlock", "warn", "", "Linux 6.9 or newer"),
        ("passthrough", "warn", "too old", "Linux 6.9 or newer"),
    ] {
        let check = checks.iter().find(|check| check["id"] == id).unwrap();
        assert_eq!(check["outcome"], outcome, "{check}");
        assert!(check["evidence"].as_str().unwrap().contains(evidence), "{check}");
        assert!(check["cure"].as_str().unwrap().contains(cure), "{check}");
    }
    assert_eq!(output.status.code(), Some(1));
}
