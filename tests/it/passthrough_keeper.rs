//! The worker dies while the kernel reads large files by itself: what it was given stays with the connection, and the next worker goes on with it.

use std::fs;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fixture::{Sandbox, times, wait_for};
use crate::keeper::number;
use crate::large::{READ, cached, large};
use crate::observing::{address, metrics};
use crate::passthrough::{can_pass_through, digest_of, holder};
use crate::views::{is_there, serve_with, view};

const ON: [&str; 7] =
    ["--supervised", "-o", "passthrough", "--log", "log", "--metrics", "127.0.0.1:0"];

fn worker(sandbox: &Sandbox, at: &str) -> Option<i32> {
    let output = sandbox.overlay(&["status", at, "--json"]).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    output.status.success().then(|| number(&status, "pid"))
}

/// Kills the worker, and waits for the next one.
fn replace(sandbox: &Sandbox, at: &str) {
    let before = worker(sandbox, at).unwrap();
    kill(Pid::from_raw(before), Signal::SIGKILL).unwrap();
    wait_for("another worker", || worker(sandbox, at).is_some_and(|pid| pid != before));
}

/// Reads that the present worker has answered.
fn reads(sandbox: &Sandbox) -> String {
    let log = fs::read_to_string(sandbox.path("log")).unwrap();
    let last = log.lines().rfind(|line| line.contains("metrics are served")).unwrap();
    let of = "overlayfs_mount_requests_total{operation=\"read\"}";
    metrics(&address(last).unwrap())[of].clone()
}

#[test]
fn s120_what_the_kernel_reads_by_itself_is_gone_on_with() {
    let _counting = crate::fixture::counts_requests();
    if !can_pass_through() {
        return;
    }
    let (sandbox, digest) = large();
    let mount = sandbox.mount_with(&ON);
    let read = || sandbox.shell(READ).trim().to_owned();
    for _ in 0..3 {
        let held = holder(&sandbox);
        replace(&sandbox, "view");
        // While it is open from before the kernel takes no other file for it.
        assert_eq!(read(), digest);
        // Also when the cache has lost it.
        fs::remove_file(&cached(&sandbox)[0]).unwrap();
        assert_eq!(read(), digest);
        replace(&sandbox, "view");
        assert_eq!((read(), reads(&sandbox)), (digest.clone(), "0".to_owned()));
        assert_eq!(digest_of(held), digest);
        fs::remove_file(sandbox.path("opened")).unwrap();
        // Nobody has it open: what it is read from may be another one now.
        assert_eq!(read(), digest);
        assert_eq!(cached(&sandbox).len(), 1, "it is decoded anew");
    }
    mount.unmount();
}

#[test]
fn s120_what_nobody_has_open_any_more_is_let_go_of_after_a_death() {
    if !can_pass_through() {
        return;
    }
    let (sandbox, digest) = large();
    sandbox.shell("mkdir -p state; mount -t tmpfs tmpfs state");
    let mount = sandbox.mount_with(&ON);
    let used = || {
        let text = sandbox.shell("df --output=used -B1M state | tail -1");
        text.trim().parse::<u64>().unwrap()
    };
    let held = holder(&sandbox);
    replace(&sandbox, "view");
    fs::remove_file(&cached(&sandbox)[0]).unwrap();
    let before = used();
    assert!(before >= 5, "{before} MiB");
    assert_eq!(digest_of(held), digest);
    // The next open of anything closes it.
    wait_for("room", || {
        sandbox.shell("echo 3 > /proc/sys/vm/drop_caches; cat $VIEW/.agents/skills/model/SKILL.md");
        used() + 5 <= before
    });
    sandbox.succeed(&["unmount", "view"]);
    drop(mount);
}

#[test]
fn s120_readers_of_large_files_do_not_notice_that_workers_are_killed() {
    if !can_pass_through() {
        return;
    }
    let (sandbox, digest) = large();
    fs::create_dir(sandbox.path("views")).unwrap();
    for name in ["one", "two"] {
        view(&sandbox, name, &["base"], "");
    }
    let mount = serve_with(&sandbox, &ON[..3]);
    // Some read by chance when there is a worker, some when there is none; each opens it anew, and one holds it open.
    let script = |at: &str| {
        format!(
            "exec 3<at/{at}/.agents/skills/model/weights.bin; n=0
             while ! test -e stop; do
                 test \"$(sha256sum < at/{at}/.agents/skills/model/weights.bin)\" = '{digest}'
                 test \"$(cat at/{at}/.agents/skills/model/SKILL.md)\" = x; n=$((n+1)); echo >> reads
             done
             test \"$(sha256sum <&3)\" = '{digest}'; echo $n"
        )
    };
    let start = |at: &str| {
        let mut command = sandbox.command("sh");
        command.args(["-euc", &script(at)]).stdout(Stdio::piped()).spawn().unwrap()
    };
    let readers: Vec<_> = ["one", "two", "one", "two"].map(start).into();
    let read = || fs::read(sandbox.path("reads")).map_or(0, |lines| lines.len());
    let kills = times("OVERLAYFS_MOUNT_KILLS", 6);
    for round in 0..kills {
        let before = read();
        wait_for("more reads", || read() > before + 4);
        replace(&sandbox, "at/one");
        if round % 2 == 0 {
            for file in cached(&sandbox) {
                fs::remove_file(file).unwrap_or_default();
            }
        }
    }
    fs::write(sandbox.path("stop"), "").unwrap();
    let mut all = 0;
    for reader in readers {
        let output = reader.wait_with_output().unwrap();
        assert!(output.status.success(), "a reader failed");
        all += String::from_utf8(output.stdout).unwrap().trim().parse::<u64>().unwrap();
    }
    eprintln!("{kills} workers killed under {all} reads of a large file: none wrong");
    assert!(all > 4 * kills && is_there(&sandbox, "at/two/tools"), "{all} reads");
    mount.end();
}
