//! A daemon that has no descriptors left for a while.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::fatal::Traced;
use crate::fixture::{Repo, Sandbox, can_inject, can_mount, can_take_over, has_program, wait_for};

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

#[test]
fn s64_a_configuration_that_cannot_be_read_for_a_moment_is_followed_soon() {
    if !can_mount() || !has_program("prlimit", "apt-get install util-linux") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").package("tools/slack", "low").commit();
    sandbox.repo("acme/team").package("tools/more", "more").commit();
    sandbox.configure("    - {repo: acme/base}", "");
    let mount = sandbox.mount_with(&["--log", "log"]);
    let pid = mount.pid();
    let limit = |descriptors: &str| {
        sandbox.shell(&format!("prlimit --pid {pid} --nofile={descriptors}"));
    };
    let before =
        sandbox.shell(&format!("prlimit --pid {pid} --nofile --output SOFT,HARD --noheadings"));
    let before = before.split_whitespace().collect::<Vec<_>>().join(":");
    limit("3:");
    sandbox.configure("    - {repo: acme/base}\n    - {repo: acme/team}", "");
    let log = || fs::read_to_string(sandbox.path("log")).unwrap();
    wait_for("the daemon to notice", || log().contains("cannot be read"));
    limit(&before);
    wait_for("the other source", || sandbox.shell("ls $VIEW/tools") == "more\nslack\n");
    mount.unmount();
}

/// The file of a loose object.
fn object_of(repo: &Repo<'_>, what: &str) -> PathBuf {
    let id = repo.git(&["rev-parse", what]);
    let (directory, name) = id.split_at(2);
    repo.path.join(".git/objects").join(directory).join(name)
}

/// A source with a skill and a tool; the file of the tree of its skills.
fn with_skills(sandbox: &Sandbox) -> PathBuf {
    let repo = sandbox.repo("acme/base");
    repo.skill("plan", "plan\n").package("tools/slack", "low").commit();
    sandbox.configure("    - {repo: acme/base, ref: main}", "");
    object_of(&repo, "HEAD:.agents/skills")
}

#[test]
fn s137_what_cannot_be_read_for_a_moment_at_the_first_mount_is_there_soon() {
    if !can_inject() {
        return;
    }
    let sandbox = Sandbox::new();
    let object = with_skills(&sandbox);
    let mut strace = sandbox.command("strace");
    strace
        .args(["-f", "-qq", "-I2", "-o", "trace", "-e", "inject=openat:error=EMFILE", "-P"])
        .arg(&object);
    strace.args([env!("CARGO_BIN_EXE_overlayfs-mount"), "mount", "--log", "log"]);
    let mount = sandbox.guard();
    let traced = Traced(strace.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let shown =
        || sandbox.shell_output("cat $VIEW/.overlay/revision; ls $VIEW/.agents/skills").stdout;
    wait_for("the skill, although nothing moved", || shown().ends_with(b"\nplan\n"));
    let trace = fs::read_to_string(sandbox.path("trace")).unwrap();
    assert!(trace.contains("(INJECTED)"), "{trace}");
    drop(traced);
    // The whole is what a mount without the fault has shown all the time.
    let revision = sandbox.shell("cat $VIEW/.overlay/revision");
    mount.unmount();
    let mount = sandbox.mount();
    assert_eq!(sandbox.shell("cat $VIEW/.overlay/revision"), revision);
    mount.unmount();
}

#[test]
fn s106_a_kept_set_of_which_a_part_cannot_be_read_for_a_moment_is_an_error_and_no_part() {
    if !can_inject() || !can_take_over() {
        return;
    }
    let sandbox = Sandbox::new();
    let object = with_skills(&sandbox);
    let mount = sandbox.mount_with(&["--log", "log", "--supervised"]);
    let revision = || sandbox.shell("cat $VIEW/.overlay/revision");
    let first = revision();
    let list = format!("ls $VIEW/.overlay/revisions/{}/.agents/skills", first.trim());
    sandbox.existing("acme/base").skill("next", "next\n").commit();
    wait_for("the commit", || revision() != first);
    // The next worker has nothing in memory.
    let before = mount.pid();
    sandbox.shell(&format!("kill -KILL {before}"));
    wait_for("the next worker", || {
        let status = sandbox.overlay(&["status", "view", "--json"]).output().unwrap();
        status.status.success() && mount.pid() != before
    });
    let name = object.file_name().unwrap().to_str().unwrap();
    let pinned = sandbox.shell(&format!("find state -name {name}"));
    let pid = mount.pid().to_string();
    let mut strace = sandbox.command("strace");
    strace.args(["-f", "-qq", "-I2", "-o", "trace", "-e", "inject=openat:error=EMFILE", "-P"]);
    strace.arg(&object);
    for line in pinned.lines() {
        strace.arg("-P").arg(sandbox.path(line));
    }
    let traced = strace.args(["-p", &pid]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let traced = Traced(traced.unwrap());
    let status = format!("/proc/{pid}/status");
    wait_for("strace", || !fs::read_to_string(&status).unwrap().contains("TracerPid:\t0\n"));
    let output = sandbox.shell_output(&list);
    let said = String::from_utf8_lossy(&output.stderr);
    let trace = fs::read_to_string(sandbox.path("trace")).unwrap();
    assert!(said.contains("Input/output error"), "{output:?}\n{trace}");
    assert!(trace.contains("(INJECTED)"), "{trace}");
    drop(traced);
    assert_eq!(sandbox.shell(&list), "plan\n");
    mount.unmount();
}

#[test]
fn s137_what_lacked_is_shown_by_a_reload_once_it_is_there() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let object = with_skills(&sandbox);
    let hidden = sandbox.path("hidden");
    fs::rename(&object, &hidden).unwrap();
    for arguments in [&[][..], &["--supervised"]] {
        let mount = sandbox.mount_with(arguments);
        let look = "cat $VIEW/.overlay/revision; ls $VIEW/.agents/skills; ls $VIEW/tools";
        // Looked for once more, in vain.
        sandbox.succeed(&["reload", "view"]);
        let part = sandbox.shell(look);
        assert!(part.ends_with("\nslack\n") && !part.contains("plan"), "{part}");
        fs::rename(&hidden, &object).unwrap();
        if arguments.contains(&"--supervised") {
            // Who goes on shows what was shown, until it is asked to look.
            let before = mount.pid();
            let before = nix::unistd::Pid::from_raw(i32::try_from(before).unwrap());
            nix::sys::signal::kill(before, nix::sys::signal::Signal::SIGKILL).unwrap();
        } else {
            assert_eq!(sandbox.shell(look), part);
            sandbox.succeed(&["reload", "view"]);
        }
        wait_for("the skill", || sandbox.shell(look).ends_with("\nplan\nslack\n"));
        assert_ne!(sandbox.shell(look), part);
        mount.unmount();
        fs::rename(&object, &hidden).unwrap();
    }
}
