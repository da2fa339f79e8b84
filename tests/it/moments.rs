//! A daemon that has no descriptors left for a while.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::fixture::{Sandbox, can_mount, has_program, wait_for};

#[test]
fn s127_a_view_keeps_what_it_shows_while_its_daemon_has_no_descriptors() {
    if !can_mount() || !has_program("prlimit", "apt-get install util-linux") {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = sandbox.repo("acme/base");
    repo.skill("plan", "plan\n").package("tools/slack", "low").commit();
    let overlay = sandbox.path("overlay");
    fs::create_dir_all(overlay.join("tools/mine")).unwrap();
    fs::write(overlay.join("tools/mine/pyproject.toml"), "").unwrap();
    let sources = "    - {repo: acme/base, ref: main}\n    - {path: overlay, name: me/overlay, required: false}";
    sandbox.configure(sources, "");
    let mount = sandbox.mount_with(&["--log", "log"]);
    let pid = mount.pid();
    let limit = |descriptors: &str| {
        let limit = format!("--nofile={descriptors}:");
        let status = Command::new("prlimit").args(["--pid", &pid.to_string(), &limit]).status();
        assert!(status.unwrap().success());
    };
    let before = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let before = before.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let before = before.split_whitespace().next().unwrap();
    // From memory: what lies on the disk cannot be read meanwhile.
    let shown = || sandbox.shell("cd $VIEW/.overlay; cat revision entries.json");
    let whole = shown();
    let log = || fs::read_to_string(sandbox.path("log")).unwrap();

    limit("3");
    fs::create_dir(overlay.join("tools/more")).unwrap();
    repo.skill("next", "next\n").commit();
    wait_for("the daemon to notice", || log().contains("keeps its last revision"));
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        assert_eq!(shown(), whole, "{}", log());
    }
    let said = log();
    let said: Vec<_> = said.lines().filter(|line| line.contains("overlay` keeps its")).collect();
    assert_eq!(said.len(), 1, "it is said once: {said:?}");

    limit(before);
    wait_for("both changes", || {
        let shown = sandbox.shell("ls $VIEW/tools $VIEW/.agents/skills");
        shown.contains("more\n") && shown.contains("next\n")
    });
    assert!(log().contains("all sources can be read again"), "{}", log());
    mount.unmount();
}
