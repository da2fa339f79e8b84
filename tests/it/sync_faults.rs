//! System calls of a fetch that fail, in `sync` and in a daemon that fetches by itself: the mirror is whole, old or new, and the next round heals.
//!
//! The short form runs with all tests. `OVERLAYFS_MOUNT_SYNC_FAULTS=10000` makes it the long one.

use std::fs;

use crate::faults::one_remote;
use crate::fixture::{Sandbox, can_inject, has_program, times};

fn injected(who: &str, rest: &str) {
    if !can_inject() || !has_program("python3", "apt-get install python3") {
        return;
    }
    let sandbox = Sandbox::new();
    one_remote(&sandbox, "0\n", rest);
    fs::write(sandbox.path("sync_remote.py"), include_str!("sync_remote.py")).unwrap();
    fs::write(sandbox.path("sync_faults.py"), include_str!("sync_faults.py")).unwrap();
    sandbox.succeed(&["sync", "--once"]);
    let mount = sandbox.mount_with(&["--log", "log"]);
    let program = env!("CARGO_BIN_EXE_overlayfs-mount");
    let faults = times("OVERLAYFS_MOUNT_SYNC_FAULTS", 0).to_string();
    let mut command = sandbox.command("timeout");
    command.args(["-s", "KILL", "7200", "python3", "sync_faults.py", program, "view"]);
    let output = command.args([&faults, who]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    eprintln!("{said}");
    mount.unmount();
}

#[test]
fn s116_calls_that_fail_in_sync_leave_a_whole_mirror_that_the_next_round_heals() {
    injected("once", "");
}

#[test]
fn s116_calls_that_fail_in_a_fetching_daemon_leave_a_whole_mirror_and_the_view() {
    injected("daemon", ", sync: true, interval: 1h");
}
