//! Workers that the kernel kills for lack of memory, in a control group of their own.

use std::fs;
use std::process::{Child, Stdio};

use crate::control_group::{Controller, Group};
use crate::fixture::{Mount, Sandbox, can_mount, empties_caches, has_program, wait_for};
use crate::torn::{Readers, commit, first_revision};

const MEMORY: Controller = Controller {
    name: "memory",
    limits: [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")],
};

fn set(group: &Group, bytes: u64) {
    group.set(bytes);
    // Without it the kernel swaps before it kills.
    for swap in ["memory.swap.max", "memory.swappiness"] {
        if group.file(swap).exists() {
            fs::write(group.file(swap), "0").unwrap();
        }
    }
}

/// The memory that cannot be taken back: that of processes, and not of files.
fn used(group: &Group) -> u64 {
    let stat = fs::read_to_string(group.file("memory.stat")).unwrap();
    let key = if group.file("memory.max").exists() { "anon " } else { "rss " };
    stat.lines().find_map(|line| line.strip_prefix(key)?.parse().ok()).unwrap()
}

fn mount<'a>(group: &Group, sandbox: &'a Sandbox) -> Mount<'a> {
    let program = env!("CARGO_BIN_EXE_overlayfs-mount");
    let script = group.enter(&format!("exec {program} mount --supervised --log log"));
    sandbox.mount_by(sandbox.command("sh").args(["-euc", &script]))
}

/// A process that ends with the value.
struct Hog(Child);

impl Drop for Hog {
    fn drop(&mut self) {
        self.0.kill().unwrap_or_default();
        self.0.wait().map(drop).unwrap_or_default();
    }
}

/// Takes memory until another process has been killed: no longer, or the next one is killed too.
const HOG: &str = "
import sys
def lives():
    try:
        with open('/proc/' + sys.argv[1] + '/stat') as stat:
            return stat.read().rsplit(') ', 1)[1][0] not in 'ZX'
    except OSError:
        return False
held = []
while lives():
    held.append(b'x' * (1 << 20))
";

fn processes(sandbox: &Sandbox) -> Option<(u64, u64)> {
    let output = sandbox.overlay(&["status", "view", "--json"]).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    Some((status["pid"].as_u64()?, status["supervisor_pid"].as_u64()?))
}

fn deaths(sandbox: &Sandbox) -> usize {
    let log = fs::read_to_string(sandbox.path("log")).unwrap();
    log.lines().filter(|line| line.contains("has died") && line.contains("OutOfMemory")).count()
}

#[test]
fn s115_nobody_notices_a_worker_that_is_killed_for_lack_of_memory() {
    if !can_mount() || !has_program("python3", "apt-get install python3") {
        return;
    }
    let Some(group) = Group::make("load", &MEMORY) else { return };
    let _emptying = empties_caches();
    let sandbox = Sandbox::new();
    let repo = first_revision(&sandbox);
    let mount = mount(&group, &sandbox);
    let (_, keeper) = processes(&sandbox).unwrap();
    let readers = Readers::start(&sandbox);
    for revision in 2..=3 {
        let (worker, _) = processes(&sandbox).unwrap();
        // It is what the kernel is to take.
        fs::write(format!("/proc/{worker}/oom_score_adj"), "1000").unwrap();
        set(&group, used(&group) + (24 << 20));
        let script = group.enter(&format!("exec python3 -c \"$HOG\" {worker}"));
        let mut hog = sandbox.command("sh");
        hog.args(["-euc", &script]).env("HOG", HOG).stderr(Stdio::null());
        let hog = Hog(hog.spawn().unwrap());
        wait_for("another worker", || processes(&sandbox).is_some_and(|(now, _)| now != worker));
        drop(hog);
        set(&group, 4 << 30);
        let id = commit(&repo, revision);
        repo.git(&["update-ref", "refs/heads/main", &id]);
        wait_for("the next worker to show the revision", || {
            sandbox.overlay(&["reload", "view"]).output().unwrap().status.success()
        });
        readers.published(revision);
    }
    let (entries, longest_ms) = readers.finish();
    assert!(deaths(&sandbox) >= 2, "{}", fs::read_to_string(sandbox.path("log")).unwrap());
    eprintln!(
        "2 workers killed for lack of memory, {entries} entries read, longest {longest_ms} ms"
    );
    assert_eq!(processes(&sandbox).unwrap().1, keeper);
    mount.unmount();
}

/// Two files of one content but for the end: one is stored as a difference, which takes both in memory to read.
const LARGE: &str = "
    mkdir -p .agents/skills/large .agents/skills/small; echo small >.agents/skills/small/SKILL.md
    head -c 64000000 /dev/zero >.agents/skills/large/a
    cp .agents/skills/large/a .agents/skills/large/b; echo more >>.agents/skills/large/b
    git add -A; git commit -qm large; git repack -adfq --window=2 --depth=2";

#[test]
fn s115_a_request_that_takes_the_memory_of_every_worker_gets_an_error_and_the_others_go_on() {
    if !can_mount() {
        return;
    }
    let Some(group) = Group::make("request", &MEMORY) else { return };
    let _emptying = empties_caches();
    let sandbox = Sandbox::new();
    let repo = sandbox.repo("acme/base");
    repo.shell(LARGE);
    sandbox.configure("    - {repo: acme/base, ref: main}", "");
    let mount = mount(&group, &sandbox);
    let (_, keeper) = processes(&sandbox).unwrap();
    set(&group, used(&group) + (48 << 20));
    let large = sandbox.shell_output("cat $VIEW/.agents/skills/large/* >/dev/null");
    let said = String::from_utf8_lossy(&large.stderr);
    let log = || fs::read_to_string(sandbox.path("log")).unwrap();
    assert!(!large.status.success() && said.contains("Input/output error"), "{said} {}", log());
    assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/small/SKILL.md"), "small\n");
    assert!(deaths(&sandbox) >= 3, "{}", log());
    // With more memory it is read.
    set(&group, 4 << 30);
    sandbox.shell("cmp -n 64000000 $VIEW/.agents/skills/large/a $VIEW/.agents/skills/large/b");
    assert_eq!(processes(&sandbox).unwrap().1, keeper);
    mount.unmount();
}
