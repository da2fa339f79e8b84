//! A flood of look-ups: what the daemon holds for it goes when the kernel forgets.

use std::fs;

use crate::fixture::{Sandbox, can_mount, has_program, is_long, wait_for};
use crate::observing::{metrics, mount};

/// Asks for every file of a directory by name, and for as many that are not there.
const FLOOD: &str = "
import os, sys
view, count, first = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for number in range(count):
    assert os.stat(f'{view}/{number // 1000}/{number % 1000}').st_size == 5
    try:
        os.stat(f'{view}/{number // 1000}/absent-{first + number}')
        sys.exit('an absent name is there')
    except FileNotFoundError:
        pass
";

/// Memory of a process that is not of files, in KiB.
fn anonymous_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn what_a_flood_of_lookups_took_is_given_back() {
    if !can_mount() || !has_program("python3", "apt-get install python3") {
        return;
    }
    // It counts what the kernel knows.
    let _counting = crate::fixture::counts_requests();
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root has the kernel forget");
        return;
    }
    // Each round is a flood of new names that the kernel does not know any more.
    let (files, rounds) = if is_long() { (50_000, 10) } else { (4_000, 3) };
    let sandbox = Sandbox::new();
    let repo = sandbox.repo("acme/base");
    repo.shell(&format!(
        "git init -q --bare ../x; oid=$(printf flood | git hash-object -w --stdin)
         for n in $(seq 0 999); do printf '100644 blob %s\\t%s\\n' $oid $n; done | git mktree >../tree
         for n in $(seq 0 {}); do printf '040000 tree %s\\t%s\\n' $(cat ../tree) $n; done | git mktree >../top
         git update-ref refs/heads/main $(git commit-tree -m flood $(cat ../top))",
        files / 1000 - 1
    ));
    sandbox.configure("    - repo: acme/base", "");
    fs::write(sandbox.path("flood.py"), FLOOD).unwrap();
    let (mount, address) = mount(&sandbox, &[]);
    let pid = mount.pid();
    let nodes = || {
        let all = metrics(&address);
        all["overlayfs_mount_nodes"].parse::<f64>().unwrap()
    };
    let forget = || sandbox.shell("echo 2 >/proc/sys/vm/drop_caches");
    forget();
    let before = nodes();
    let mut memory = Vec::new();
    for round in 0..rounds {
        let from = round * files;
        sandbox.shell(&format!("python3 flood.py $VIEW/acme/base {files} {from}"));
        let most = nodes();
        // Other tests have the kernel forget too.
        assert!(most > before + 8.0, "{most}");
        wait_for("the kernel to forget", || {
            forget();
            nodes() <= before + 8.0
        });
        memory.push(anonymous_kib(pid));
        eprintln!("round {round}: {before} nodes, {most}, {}; {memory:?} KiB", nodes());
    }
    // The first round fills caches that have a bound of their own.
    let (first, last) = (memory[0], memory[memory.len() - 1]);
    assert!(last <= first + first / 4 + 4096, "{memory:?} KiB");
    mount.unmount();
}
