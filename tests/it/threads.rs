//! What the threads of the program begin with.

use std::fs;
use std::process::Stdio;

use crate::faults::one_remote;
use crate::fixture::{Sandbox, can_mount, has_program, wait_for};

/// The bits of SIGBUS and SIGSEGV in a mask of signals.
const FAULTS: u64 = 1 << (libc::SIGBUS - 1) | 1 << (libc::SIGSEGV - 1);

#[test]
fn s136_no_thread_needs_memory_that_is_not_asked_for_before_it_starts() {
    if !can_mount() || !has_program("strace", "apt-get install strace") {
        return;
    }
    let sandbox = Sandbox::new();
    one_remote(&sandbox, "one\n", ", sync: true");
    let program = env!("CARGO_BIN_EXE_overlayfs-mount");
    for arguments in [&[][..], &["--supervised"]] {
        let mut strace = sandbox.command("strace");
        strace.args(["-f", "-qq", "-o", "trace", "-e", "trace=sigaltstack,clone3,clone"]);
        strace.args([program, "mount"]).args(arguments).stderr(Stdio::null());
        let mount = sandbox.guard();
        let mut traced = strace.stdout(Stdio::null()).spawn().unwrap();
        let status = || sandbox.overlay(&["status", "view", "--json"]).output().unwrap();
        wait_for("the daemon", || status().status.success());
        let told: serde_json::Value = serde_json::from_slice(&status().stdout).unwrap();
        let ignored = fs::read_to_string(format!("/proc/{}/status", told["pid"])).unwrap();
        let ignored = ignored.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
        assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & FAULTS, 0, "{ignored}");
        mount.unmount();
        traced.wait().unwrap();
        let trace = fs::read_to_string(sandbox.path("trace")).unwrap();
        let threads = trace.lines().filter(|line| line.contains("CLONE_THREAD")).count();
        let stacks: Vec<_> = trace.lines().filter(|line| line.contains("sigaltstack(")).collect();
        assert!(threads > 5 && stacks.is_empty(), "{threads} threads, {stacks:#?}");
    }
}
