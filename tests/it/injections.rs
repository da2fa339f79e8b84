//! System calls of a daemon that fail: what is read is right, or an error, and right again afterwards.
//!
//! The short form runs with all tests. `OVERLAYFS_MOUNT_FAULTS=10000` makes it the long one.

use std::fs;

use crate::fixture::{Sandbox, can_inject, has_program, times};

/// A source in a pack, one of loose files, and a live directory, and beside them what the view is to show of all three.
const SOURCES: &str = r"
fill() {
    for skill in 1 2 3; do
        mkdir -p .agents/skills/$1$skill
        for file in 1 2 3; do seq $skill$file 77 99999 >.agents/skills/$1$skill/$file; done
        ln -s 1 .agents/skills/$1$skill/link
    done
    head -c $2 /dev/urandom >.agents/skills/${1}1/big
}
(cd repos/acme/packed
 fill p 4300000
 # One that is stored as a difference.
 (cat .agents/skills/p1/big; echo more) >.agents/skills/p2/big
 git add -A; git commit -qm one; git branch one
 echo >other; git add -A; git commit -qm two; git branch two
 git repack -adq)
(cd repos/acme/loose; fill o 4300000; git add -A; git commit -qm one)
mkdir live; (cd live; fill l 100000)
mkdir plain; cp -a repos/acme/*/.agents/skills/* live/.agents/skills/* plain
";

fn injected(arguments: &[&str]) {
    if !can_inject() || !has_program("python3", "apt-get install python3") {
        return;
    }
    let _emptying = crate::fixture::empties_caches();
    let sandbox = Sandbox::new();
    sandbox.repo("acme/packed");
    sandbox.repo("acme/loose");
    sandbox.shell(SOURCES);
    sandbox.configure("    - repo: acme/packed\n    - repo: acme/loose\n    - path: live", "");
    // Large files have to make room for each other, so that they are decoded again and again.
    sandbox.edit(|text| text.replace("{dir: state}", "{dir: state, cacheBytes: 6291456}"));
    fs::write(sandbox.path("injections.py"), include_str!("injections.py")).unwrap();
    let program = env!("CARGO_BIN_EXE_overlayfs-mount");
    let mount = sandbox.guard();
    // Without a number: some kinds, each once.
    let faults = times("OVERLAYFS_MOUNT_FAULTS", 0);
    let mut command = sandbox.command("timeout");
    command.args(["-s", "KILL", "3600", "python3", "injections.py", program, "view", "plain"]);
    command.args([&faults.to_string(), "--log", "log"]).args(arguments);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    eprintln!("{said}");
    mount.unmount();
}

#[test]
fn s106_system_calls_that_fail_give_errors_and_no_other_bytes() {
    injected(&[]);
}

#[test]
fn s106_system_calls_of_a_worker_that_fail_give_errors_and_no_other_bytes() {
    injected(&["--supervised"]);
}
