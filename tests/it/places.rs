//! Places that are apart: a mount point or an export, and what is shown there.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fixture::{Repo, Sandbox, can_mount, can_take_over, wait_for};
use crate::keeper::number;

const LIVE: &str = "    - {path: mine, name: me/mine}";

fn with_skill(sandbox: &Sandbox) {
    sandbox
        .shell("mkdir -p mine/.agents/skills/own && echo own > mine/.agents/skills/own/SKILL.md");
}

#[test]
fn s146_an_export_is_not_written_into_or_over_a_source() {
    let sandbox = Sandbox::new();
    with_skill(&sandbox);
    sandbox.configure(LIVE, "");
    for directory in ["mine/out", "mine/.agents/skills/out"] {
        let said = sandbox.fail(2, &["export", directory]);
        assert!(said.contains("lies inside source `me/mine`") && said.contains("cure: "), "{said}");
    }
    assert_eq!(sandbox.shell("find mine | wc -l").trim(), "5");
    // What an earlier export left is replaced, but not with a source that was put there since.
    sandbox.succeed(&["export", "out"]);
    sandbox.shell("cp -r mine out/mine");
    sandbox.configure("    - {path: out/mine, name: me/mine}", "");
    let said = sandbox.fail(2, &["export", "out"]);
    assert!(said.contains("holds source `me/mine`") && said.contains("cure: "), "{said}");
    assert!(sandbox.path("out/mine/.agents").exists());
}

#[test]
fn s146_a_directory_that_took_the_number_of_an_export_is_left_alone() {
    let sandbox = Sandbox::new();
    with_skill(&sandbox);
    sandbox.configure(LIVE, "");
    sandbox.succeed(&["export", "out"]);
    sandbox.succeed(&["export", "out"]);
    let number = fs::metadata(sandbox.path("out")).unwrap().ino();
    fs::remove_dir_all(sandbox.path("out")).unwrap();
    let made = (0..200).map(|index| sandbox.path(format!("made-{index}")));
    let same = made.into_iter().find(|path| {
        fs::create_dir(path).unwrap();
        fs::metadata(path).unwrap().ino() == number
    });
    let Some(same) = same else {
        eprintln!("SKIPPED: this file system gives out no inode number again");
        return;
    };
    fs::rename(same, sandbox.path("out")).unwrap();
    fs::write(sandbox.path("out/precious"), "mine").unwrap();
    let said = sandbox.fail(1, &["export", "out"]);
    assert!(said.contains("was not written by an export"), "{said}");
    assert_eq!(fs::read_to_string(sandbox.path("out/precious")).unwrap(), "mine");
}

#[test]
fn s56_a_mount_point_stays_clear_of_sources_that_links_or_a_new_configuration_lead_to() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    with_skill(&sandbox);
    sandbox.shell("mkdir -p view/below; ln -s view/below link");
    // What is below the mount point cannot be found any more once that is covered.
    sandbox.configure("    - {path: link, name: me/link}", "");
    let said = sandbox.fail(2, &["mount"]);
    assert!(said.contains("covers source `me/link`") && said.contains("cure: "), "{said}");
    sandbox.configure(LIVE, "");
    let mount = sandbox.mount_with(&["elsewhere"]);
    for path in ["elsewhere/me/mine", "elsewhere", "."] {
        sandbox
            .configure(&format!("{LIVE}\n    - {{path: {path}, name: in/side}}"), "sources: true");
        let said = sandbox.fail(1, &["reload", "elsewhere"]);
        assert!(said.contains("source `in/side`") && said.contains("cure: "), "{path}: {said}");
    }
    let status = sandbox.succeed(&["status", "elsewhere"]);
    assert!(!status.contains("  in/side"), "{status}");
    sandbox.configure(LIVE, "");
    sandbox.succeed(&["reload", "elsewhere"]);
    // The daemon holds nothing of its own view.
    sandbox.succeed(&["unmount", "elsewhere"]);
    drop(mount);
}

#[test]
fn s64_another_mount_point_is_said_to_take_effect_with_the_next_mount() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    with_skill(&sandbox);
    sandbox.configure(LIVE, "");
    let mount = sandbox.mount();
    let configured = sandbox.edit(|text| text.replace("at: view", "at: elsewhere"));
    let reload = || {
        let output = sandbox.overlay(&["reload", "view"]).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let expected = "warning: `mount.at` takes effect with the next mount\n";
    assert_eq!((reload(), reload()), (expected.to_owned(), expected.to_owned()));
    fs::write(sandbox.path("overlays.yaml"), configured).unwrap();
    assert_eq!(reload(), "");
    mount.unmount();
}

#[test]
fn a_log_that_would_be_waited_for_is_refused() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    with_skill(&sandbox);
    sandbox.configure(LIVE, "");
    sandbox.shell("mkfifo fifo");
    let said = sandbox.fail(1, &["mount", "--log", "fifo"]);
    assert!(said.contains("`fifo`") && said.contains("cure: name another file"), "{said}");
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
}

#[test]
fn s146_what_exports_that_were_ended_left_is_removed() {
    let sandbox = Sandbox::new();
    sandbox.shell("mkdir -p mine/workflows; cd mine/workflows; seq 4000 | xargs touch");
    sandbox.configure(LIVE, "");
    let left = || -> Vec<String> {
        let names = fs::read_dir(sandbox.path("")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(".overlayfs-mount-export-")).collect()
    };
    let start = || {
        let mut command = sandbox.overlay(&["export", "out"]);
        let export = command.stderr(Stdio::piped()).spawn().unwrap();
        wait_for("a directory that is written", || !left().is_empty());
        export
    };
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let export = start();
        kill(Pid::from_raw(i32::try_from(export.id()).unwrap()), signal).unwrap();
        let output = export.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("a signal ended the export"), "{said}");
        assert_eq!(left(), Vec::<String>::new());
        assert!(!sandbox.path("out").exists());
    }
    let mut export = start();
    export.kill().unwrap();
    export.wait().unwrap();
    let killed = left();
    assert_eq!(killed.len(), 1);
    // One that another export is writing, and one that may only just have been made, stay.
    sandbox.shell("mkdir .overlayfs-mount-export-new .overlayfs-mount-export-held");
    sandbox.shell(&format!("touch -d '2 minutes ago' {} .overlayfs-mount-export-held", killed[0]));
    let held = fs::File::open(sandbox.path(".overlayfs-mount-export-held")).unwrap();
    held.lock().unwrap();
    sandbox.succeed(&["export", "out"]);
    let mut stay = left();
    stay.sort();
    assert_eq!(stay, [".overlayfs-mount-export-held", ".overlayfs-mount-export-new"]);
}

#[test]
fn s146_an_export_that_is_ended_while_git_packs_leaves_nothing() {
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").skill("plan", "one\n").commit();
    sandbox.configure("    - {repo: acme/base, ref: main}", "git: true");
    sandbox.shell("mkdir bin tmp");
    sandbox.program("bin/git", b"#!/bin/sh\nexec sleep 60\n");
    let kept = || fs::read_dir(sandbox.path("tmp")).unwrap().count();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut command = sandbox.overlay(&["export", "out"]);
        command.env("PATH", format!("{}:/usr/bin:/bin", sandbox.path("bin").display()));
        command.env("TMPDIR", sandbox.path("tmp")).stderr(Stdio::piped());
        let export = command.spawn().unwrap();
        wait_for("a directory for what is packed", || kept() > 0);
        kill(Pid::from_raw(i32::try_from(export.id()).unwrap()), signal).unwrap();
        let output = export.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("a signal ended the export"), "{said}");
        assert_eq!(kept(), 0);
        assert!(!sandbox.path("out").exists());
    }
}

#[test]
fn what_export_has_no_room_for_is_said_with_its_cure() {
    let sandbox = Sandbox::new();
    sandbox.shell("mkdir -p mine/workflows small; head -c 300000 /dev/zero > mine/workflows/blob");
    sandbox.configure(LIVE, "");
    if !sandbox.shell_output("mount -t tmpfs -o size=64k tmpfs small").status.success() {
        eprintln!("SKIPPED: only root can make a small file system");
        return;
    }
    let output = sandbox.overlay(&["export", "small/out"]).output().unwrap();
    let left = sandbox.shell("ls -A small; umount small");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), left.as_str()), (Some(1), ""), "{said}");
    assert!(said.starts_with("error: `me/mine/workflows/blob` cannot be written: "), "{said}");
    assert!(said.contains("cure: make room there"), "{said}");
}

/// A repository, and a live directory above it.
fn live_above_base(sandbox: &Sandbox) -> Repo<'_> {
    with_skill(sandbox);
    let base = sandbox.repo("acme/base");
    base.skill("plan", "one\n").commit();
    sandbox.configure(&format!("    - repo: acme/base\n{LIVE}"), "");
    base
}

#[test]
fn s66_a_directory_that_is_gone_is_stale_while_the_rest_moves() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let base = live_above_base(&sandbox);
    let mount = sandbox.mount();
    let status = || sandbox.status();
    fs::rename(sandbox.path("mine"), sandbox.path("away")).unwrap();
    wait_for("the directory to be stale", || status()["sources"][1]["state"] == "stale");
    let said = status();
    assert_eq!(
        (&said["state"], &said["sources"][0]["state"]),
        (&"degraded".into(), &"ready".into())
    );
    let (error, cure) = (&said["sources"][1]["error"], &said["sources"][1]["cure"]);
    assert!(error.as_str().unwrap().contains("No such file") && cure.is_string(), "{said}");
    base.skill("plan", "two\n").commit();
    wait_for("the other source", || {
        sandbox.shell("cat $VIEW/.agents/skills/plan/SKILL.md") == "two\n"
    });
    assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/own/SKILL.md"), "own\n");
    assert!(sandbox.overlay(&["reload", "view"]).status().unwrap().success());
    // Another one in its place is shown, and so is itself.
    sandbox.shell("mkdir -p mine/.agents/skills/new");
    wait_for("the new directory", || sandbox.shell("ls $VIEW/.agents/skills") == "new\nplan\n");
    sandbox.shell("rm -r mine && mv away mine");
    wait_for("the directory again", || sandbox.shell("ls $VIEW/.agents/skills") == "own\nplan\n");
    wait_for("the end of it", || status()["state"] == "ready");
    mount.unmount();
}

#[test]
fn s66_a_worker_takes_over_while_a_directory_is_gone() {
    if !can_take_over() {
        return;
    }
    let sandbox = Sandbox::new();
    let base = live_above_base(&sandbox);
    let mount = sandbox.mount_with(&["--supervised", "--log", "log"]);
    let status = || sandbox.status();
    let skill = sandbox.view().join(".agents/skills/plan");
    let mut holder = sandbox
        .command("sh")
        .args(["-c", "read line; cat SKILL.md"])
        .current_dir(skill)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let first = number(&status(), "pid");
    sandbox.shell("mv mine away");
    wait_for("the directory to be stale", || status()["sources"][1]["state"] == "stale");
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    // Nobody gets an error of it: the mount is the same.
    assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/plan/SKILL.md; ls $VIEW/me/mine"), "one\n");
    assert!(number(&status(), "pid") != first && sandbox.mounts().len() == 1);
    drop(holder.stdin.take());
    assert_eq!(holder.wait_with_output().unwrap().stdout, b"one\n");
    base.skill("plan", "two\n").commit();
    wait_for("the other source", || {
        sandbox.shell("cat $VIEW/.agents/skills/plan/SKILL.md") == "two\n"
    });
    assert_eq!(status()["sources"][1]["state"], "stale");
    sandbox.shell("mv away mine");
    wait_for("the directory again", || sandbox.shell("ls $VIEW/.agents/skills") == "own\nplan\n");
    wait_for("the end of it", || status()["state"] == "ready");
    let log = fs::read_to_string(sandbox.path("log")).unwrap();
    assert!(!log.contains("made anew"), "{log}");
    mount.unmount();
}

#[test]
fn s66_why_nothing_moves_is_in_status() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").skill("plan", "one\n").commit();
    sandbox.configure("    - {repo: acme/base, visibility: public}", "");
    let mount = sandbox.mount_with(&["-o", "access=public"]);
    let status = || sandbox.status();
    // What a public view may not read is never kept.
    sandbox.shell("mkdir -p repos/private && mv repos/acme repos/private/acme");
    sandbox.shell("mkdir repos/acme && ln -s ../private/acme/base repos/acme/base");
    sandbox.shell("git -C repos/acme/base commit --quiet --allow-empty --message=two");
    // Until then it may be seen half done, and something else be wrong.
    wait_for("the reason", || {
        let status = status();
        let error = status["error"].as_str().unwrap_or_default();
        status["state"] == "degraded"
            && error.contains("this view is public")
            && error.contains("cure: ")
    });
    sandbox.shell("rm repos/acme/base && mv repos/private/acme/base repos/acme/base");
    wait_for("the end of it", || status()["state"] == "ready");
    assert!(status()["error"].is_null());
    mount.unmount();
}
