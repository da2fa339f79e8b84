//! Large files that the kernel reads by itself: what `-o passthrough` changes, and what it does not.

use std::fs;
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::fixture::{Sandbox, can_mount, wait_for};
use super::large::{READ, cached, large};
use super::observing::{metrics, mount};

const ON: [&str; 2] = ["-o", "passthrough"];

/// Whether this machine has it: root in the first user name space, and a kernel with passthrough.
pub(crate) fn can_pass_through() -> bool {
    if !can_mount() {
        return false;
    }
    let sandbox = Sandbox::new();
    let text = sandbox.overlay(&["doctor", "--json"]).output().unwrap().stdout;
    let doctor: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let checks = doctor["checks"].as_array().or_else(|| doctor.as_array()).unwrap();
    let check = checks.iter().find(|check| check["id"] == "passthrough").unwrap();
    if check["outcome"] != "ok" {
        eprintln!("SKIPPED: {}; {}", check["evidence"], check["cure"]);
    }
    check["outcome"] == "ok"
}

/// Requests of one kind so far.
fn requests(address: &str, operation: &str) -> u64 {
    let name = format!("overlayfs_mount_requests_total{{operation=\"{operation}\"}}");
    metrics(address)[&name].parse().unwrap()
}

/// A child that reads the first byte of the large file, and the digest of the rest when it is told to go on.
pub(crate) fn holder(sandbox: &Sandbox) -> Child {
    let script = "exec 3< $VIEW/.agents/skills/model/weights.bin
        head -c 1 <&3 > first; touch opened; read go; cat first - <&3 | sha256sum";
    let mut command = sandbox.command("sh");
    command.args(["-euc", script]).env("VIEW", sandbox.view());
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    wait_for("an open file", || sandbox.path("opened").exists());
    child
}

/// Lets the child go on, and gives the digest.
pub(crate) fn digest_of(mut child: Child) -> String {
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"go\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The digest of the large file as the view has it now.
fn read(sandbox: &Sandbox) -> String {
    sandbox.shell(READ).trim().to_owned()
}

#[test]
fn s82_the_kernel_reads_large_files_by_itself() {
    let _counting = crate::fixture::counts_requests();
    if !can_pass_through() {
        return;
    }
    let (sandbox, digest) = large();
    let (mount, address) = mount(&sandbox, &ON);
    let readers = format!("for n in 1 2 3 4 5 6 7 8; do {READ} & done; wait; {READ}");
    let said = sandbox.shell(&readers);
    assert_eq!(said.lines().count(), 9);
    assert!(said.lines().all(|line| line == digest), "{said}");
    assert_eq!(requests(&address, "read"), 0);
    assert!(requests(&address, "open") >= 9);
    // Mapped, executed or read with O_DIRECT it is the same file.
    let file = "$VIEW/.agents/skills/model/weights.bin";
    sandbox.shell(&format!(
        "cmp {file} state/blobs/*; dd if={file} iflag=direct bs=1M | cmp - {file}"
    ));
    sandbox.shell("python3 -c \"
import mmap, sys
with open(sys.argv[1], 'rb') as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as pages: file.seek(0); assert pages[:] == file.read()
\" $VIEW/.agents/skills/model/weights.bin");
    assert_eq!(requests(&address, "read"), 0);
    // A small file is read by requests, once. Others may have the kernel drop it meanwhile; the next one is as good.
    let mut small = 0;
    wait_for("a small file that is read once", || {
        small += 1;
        let text = format!("{small}\n");
        sandbox.existing("acme/base").skill("model", &text).commit();
        sandbox.succeed(&["reload", "view"]);
        let before = requests(&address, "read");
        for _ in 0..3 {
            assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/model/SKILL.md"), text);
        }
        let reads = requests(&address, "read") - before;
        assert!(reads > 0, "nobody was asked for a small file");
        reads == 1
    });
    mount.unmount();
}

#[test]
fn s82_what_is_open_stays_as_it_was_whatever_becomes_of_the_cache() {
    if !can_pass_through() {
        return;
    }
    let (sandbox, old) = large();
    let mount = sandbox.mount_with(&ON);
    let held = holder(&sandbox);
    // Evicted, and another revision, while it is open.
    fs::remove_file(&cached(&sandbox)[0]).unwrap();
    assert_eq!(read(&sandbox), old);
    let repo = sandbox.existing("acme/base");
    repo.shell("printf more >> .agents/skills/model/weights.bin");
    repo.commit();
    let new = repo.shell("sha256sum < .agents/skills/model/weights.bin");
    sandbox.succeed(&["reload", "view"]);
    assert_eq!(read(&sandbox), new);
    assert_eq!(digest_of(held), old);
    assert_eq!(read(&sandbox), new);
    mount.unmount();
}

#[test]
fn s82_a_damaged_file_of_the_cache_is_decoded_anew() {
    if !can_pass_through() {
        return;
    }
    let (sandbox, digest) = large();
    for script in ["printf x | dd of=$1 bs=1 seek=5000000 conv=notrunc 2>&1", "truncate -s 1M $1"] {
        let mount = sandbox.mount_with(&ON);
        assert_eq!(read(&sandbox), digest);
        mount.unmount();
        let file = cached(&sandbox).remove(0);
        sandbox.shell(&format!("set -- '{}'; {script}", file.display()));
        let mount = sandbox.mount_with(&ON);
        assert_eq!(read(&sandbox), digest);
        mount.unmount();
    }
    // Cut while the view is mounted: who opens it then finds it whole.
    let mount = sandbox.mount_with(&ON);
    assert_eq!(read(&sandbox), digest);
    let file = cached(&sandbox).remove(0);
    sandbox.shell(&format!("truncate -s 1M '{}'", file.display()));
    assert_eq!(read(&sandbox), digest);
    mount.unmount();
}

#[test]
fn s83_what_is_open_can_be_read_after_the_daemon_was_killed() {
    if !can_pass_through() {
        return;
    }
    let (sandbox, digest) = large();
    let mount = sandbox.mount_with(&ON);
    let held = holder(&sandbox);
    let pid = Pid::from_raw(i32::try_from(mount.pid()).unwrap());
    kill(pid, Signal::SIGKILL).unwrap();
    wait_for("the end of the daemon", || kill(pid, None).is_err());
    assert!(!sandbox.shell_output(READ).status.success());
    assert_eq!(digest_of(held), digest);
    drop(mount);
}

#[test]
fn s84_the_state_directory_may_be_on_a_tmpfs_or_an_overlayfs() {
    let _counting = crate::fixture::counts_requests();
    if !can_pass_through() {
        return;
    }
    let (sandbox, digest) = large();
    let overlay = "mkdir below; mount -t tmpfs tmpfs below; mkdir below/l below/u below/w
        mount -t overlay overlay -o lowerdir=below/l,upperdir=below/u,workdir=below/w state";
    for way in ["mount -t tmpfs tmpfs state", overlay] {
        sandbox.shell(&format!("rm -f log; mkdir -p state; {way}"));
        let (mount, address) = mount(&sandbox, &ON);
        assert_eq!(read(&sandbox), digest);
        assert_eq!(requests(&address, "read"), 0, "{way}");
        sandbox.succeed(&["unmount", "view"]);
        // Takes away all that is mounted in the sandbox.
        drop(mount);
    }
}

#[test]
fn s84_who_may_not_is_told_before_anything_is_mounted() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.configure("", "");
    let program = env!("CARGO_BIN_EXE_overlayfs-mount");
    let output =
        sandbox.shell_output(&format!("unshare -Urm {program} mount -f -o passthrough view"));
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("unshare") {
        eprintln!("SKIPPED: {said}");
        return;
    }
    assert!(said.contains("CAP_SYS_ADMIN counts only in the first user name space"), "{said}");
    assert!(said.contains("  cure: mount as root"), "{said}");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
}
