//! Live directories.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use crate::fixture::{Sandbox, can_mount, can_take_over, wait_for};
use crate::keeper::number;

fn live(sandbox: &Sandbox) -> std::path::PathBuf {
    let directory = sandbox.path("overlay");
    fs::create_dir_all(directory.join(".agents/skills/mine")).unwrap();
    fs::create_dir_all(directory.join("tools")).unwrap();
    fs::write(directory.join(".agents/skills/mine/SKILL.md"), "one\n").unwrap();
    sandbox.configure("    - path: overlay\n      name: me/overlay", "");
    directory
}

#[test]
fn s28_a_live_file_follows_the_disk() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let directory = live(&sandbox);
    let mount = sandbox.mount();
    let skill = "$VIEW/.agents/skills/mine";
    assert_eq!(sandbox.shell(&format!("cat {skill}/SKILL.md")), "one\n");
    // Longer, shorter, replaced, new, gone.
    for content in ["longer than before\n", "s\n", "two\n"] {
        fs::write(directory.join(".agents/skills/mine/SKILL.md"), content).unwrap();
        wait_for(content, || sandbox.shell(&format!("cat {skill}/SKILL.md")) == content);
    }
    let beside = directory.join(".agents/skills/mine/new");
    fs::write(&beside, "replaced\n").unwrap();
    wait_for("a new file", || sandbox.shell(&format!("ls {skill}")) == "SKILL.md\nnew\n");
    fs::rename(&beside, directory.join(".agents/skills/mine/SKILL.md")).unwrap();
    wait_for("a replaced file", || {
        sandbox.shell_output(&format!("cat {skill}/SKILL.md")).stdout == b"replaced\n"
    });
    wait_for("a file that is gone", || sandbox.shell(&format!("ls {skill}")) == "SKILL.md\n");
    mount.unmount();
}

#[test]
fn s28_the_first_look_after_a_second_is_right() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let directory = live(&sandbox).join(".agents/skills/mine");
    for (name, content) in
        [("same", "one\n"), ("longer", "one\n"), ("gone", ""), ("replaced", "one\n")]
    {
        fs::write(directory.join(name), content).unwrap();
    }
    fs::create_dir(directory.join("turned")).unwrap();
    let mount = sandbox.mount();
    let look = "cd $VIEW/.agents/skills/mine; ls; cat same longer replaced; stat -c %s longer; stat -c %F turned
                for name in gone absent; do if test -e $name; then echo $name; fi; done";
    let before =
        "SKILL.md\ngone\nlonger\nreplaced\nsame\nturned\none\none\none\n4\ndirectory\ngone\n";
    // Names, attributes, bytes, listings and absence: the kernel has them all.
    assert_eq!((sandbox.shell(look), sandbox.shell(look)), (before.to_owned(), before.to_owned()));
    fs::write(directory.join("same"), "two\n").unwrap();
    fs::write(directory.join("longer"), "two and more\n").unwrap();
    fs::remove_file(directory.join("gone")).unwrap();
    fs::write(directory.join("absent"), "").unwrap();
    fs::write(sandbox.path("other"), "two\n").unwrap();
    fs::rename(sandbox.path("other"), directory.join("replaced")).unwrap();
    fs::remove_dir(directory.join("turned")).unwrap();
    fs::write(directory.join("turned"), "now\n").unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let after = "SKILL.md\nabsent\nlonger\nreplaced\nsame\nturned\ntwo\ntwo and more\ntwo\n13\nregular file\nabsent\n";
    assert_eq!(sandbox.shell(look), after);
    mount.unmount();
}

#[test]
fn s29_special_files_are_no_entries_and_modes_are_a_checkouts() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let directory = live(&sandbox);
    let script = directory.join(".agents/skills/mine/run.sh");
    sandbox.program("overlay/.agents/skills/mine/run.sh", b"#!/bin/sh\necho ran\n");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o6755)).unwrap();
    sandbox.shell("mkfifo overlay/.agents/skills/pipe overlay/.agents/skills/mine/pipe");
    sandbox
        .shell("mkdir overlay/.git overlay/.agents/skills/mine/.git; echo x > overlay/.git/config");
    let mount = sandbox.mount();
    assert_eq!(sandbox.shell("ls -A $VIEW/.agents/skills"), "mine\n");
    assert_eq!(sandbox.shell("ls -A $VIEW/.agents/skills/mine"), "SKILL.md\nrun.sh\n");
    assert_eq!(sandbox.shell("stat -c %a $VIEW/.agents/skills/mine/*"), "644\n755\n");
    assert_eq!(sandbox.shell("$VIEW/.agents/skills/mine/run.sh"), "ran\n");
    let output = sandbox.shell_output("cat $VIEW/me/overlay/.git/config");
    assert!(!output.status.success());
    mount.unmount();
}

#[test]
fn s15_a_live_source_is_never_left() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let directory = live(&sandbox);
    fs::create_dir_all(sandbox.path("secret/skill")).unwrap();
    fs::write(sandbox.path("secret/skill/SKILL.md"), "secret").unwrap();
    fs::remove_dir(directory.join("tools")).unwrap();
    symlink(sandbox.path("secret"), directory.join("tools")).unwrap();
    symlink("../../../../secret", directory.join(".agents/skills/mine/out")).unwrap();
    let mount = sandbox.mount();
    assert_eq!(sandbox.shell("ls -A $VIEW/tools"), "");
    // The link is shown as it is; who follows it does so in its own name space.
    assert_eq!(sandbox.shell("readlink $VIEW/.agents/skills/mine/out"), "../../../../secret\n");
    mount.unmount();
    sandbox.configure("    - path: overlay\n      name: me/overlay", "links: inside");
    let mount = sandbox.mount();
    assert_eq!(sandbox.shell("ls -A $VIEW/.agents/skills/mine"), "SKILL.md\n");
    mount.unmount();
}

/// Lists a live directory in pieces of so many bytes while names come and go, and a process is killed on the way, if there is one.
fn list_while_it_changes(sandbox: &Sandbox, size: usize, process: i32) {
    let directory = sandbox.path("overlay/.agents/skills/mine").join(size.to_string());
    fs::create_dir(&directory).unwrap();
    let skill = "$VIEW/.agents/skills/mine";
    fs::write(sandbox.path("lister.py"), include_str!("live_lister.py")).unwrap();
    let disk = directory.display();
    let wrong = sandbox.shell(&format!("python3 lister.py {skill}/{size} {disk} {size} {process}"));
    assert_eq!(wrong, "");
}

#[test]
fn s125_a_listing_of_what_changes_has_each_name_that_stays_once() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    drop(live(&sandbox));
    let mount = sandbox.mount();
    // Less than the kernel asks for at a time, and more.
    for size in [600, 8192] {
        list_while_it_changes(&sandbox, size, 0);
    }
    mount.unmount();
}

#[test]
fn s125_a_listing_goes_on_where_it_was_when_the_worker_dies() {
    if !can_take_over() {
        return;
    }
    let sandbox = Sandbox::new();
    drop(live(&sandbox));
    let mount = sandbox.mount_with(&["--supervised", "--log", "log"]);
    for size in [600, 8192] {
        let status = sandbox.succeed(&["status", "view", "--json"]);
        let worker = number(&serde_json::from_str(&status).unwrap(), "pid");
        list_while_it_changes(&sandbox, size, worker);
    }
    mount.unmount();
}

#[test]
fn directories_of_a_view_of_live_directories_alone_have_a_time_that_archives_take() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    live(&sandbox);
    let mount = sandbox.mount();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for line in sandbox.shell("stat -c '%Y %n' $VIEW $VIEW/tools $VIEW/.agents/skills").lines() {
        let (time, path) = line.split_once(' ').unwrap();
        let time: u64 = time.parse().unwrap();
        assert!(now - 60 < time && time <= now, "{path}: {time}");
    }
    mount.unmount();
}
