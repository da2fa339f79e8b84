//! Large files: decoded once, kept between mounts, read ahead.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Stdio;

use super::fixture::{Sandbox, can_mount, wait_for};

pub(super) const READ: &str = "sha256sum < $VIEW/.agents/skills/model/weights.bin";

/// A configured source with a file of 5 MiB that does not compress to nothing; its digest.
pub(super) fn large() -> (Sandbox, String) {
    let sandbox = Sandbox::new();
    sandbox.configure("    - {repo: acme/base, ref: main}", "");
    let repo = sandbox.repo("acme/base");
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24).to_le_bytes()[0]
    };
    let content: Vec<_> = std::iter::repeat_with(next).take(5 << 20).collect();
    repo.skill("model", "x\n").write(".agents/skills/model/weights.bin", content).commit();
    let digest = repo.shell("sha256sum < .agents/skills/model/weights.bin");
    (sandbox, digest)
}

/// The cached files of large contents.
pub(super) fn cached(sandbox: &Sandbox) -> Vec<PathBuf> {
    fs::read_dir(sandbox.path("state/blobs")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn s72_many_readers_of_a_large_file_get_all_of_it_and_it_is_kept_for_the_next_mount() {
    if !can_mount() {
        return;
    }
    let (sandbox, digest) = large();
    let mount = sandbox.mount();
    let readers = format!("for n in 1 2 3 4 5 6 7 8; do {READ} & done; wait");
    let said = sandbox.shell(&readers);
    assert_eq!(said.lines().count(), 8);
    assert!(said.lines().all(|line| line == digest), "{said}");
    mount.unmount();
    let files = cached(&sandbox);
    assert_eq!(files.len(), 1);
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(sandbox.path("state/blobs")), mode(files[0].clone())), (0o700, 0o600));
    let written = fs::metadata(&files[0]).unwrap().ino();
    let mount = sandbox.mount();
    assert_eq!(sandbox.shell(READ).trim(), digest);
    assert_eq!(fs::metadata(&files[0]).unwrap().ino(), written);
    mount.unmount();
}

#[test]
fn s72_others_do_not_wait_for_a_large_file() {
    if !can_mount() {
        return;
    }
    let (sandbox, digest) = large();
    let mount = sandbox.mount();
    // No decoded file gets its name while the directory is locked, and nobody reads it before.
    fs::create_dir(sandbox.path("state/blobs")).unwrap();
    let directory = fs::File::open(sandbox.path("state/blobs")).unwrap();
    directory.lock().unwrap();
    let file = sandbox.view().join(".agents/skills/model/weights.bin");
    // Each at a place of its own: readers of one page wait for each other in the kernel.
    let reader = |n: u32| {
        let mut reader = sandbox.command("dd");
        reader.arg(format!("if={}", file.display())).arg(format!("skip={}", n * 400));
        reader.args(["bs=1k", "count=1", "status=none"]).stdout(Stdio::piped()).spawn().unwrap()
    };
    let readers: Vec<_> = (0..12).map(reader).collect();
    // The number of the system call that a process is in, and its first argument (proc_pid_syscall(5)): a read of the file.
    let reads = |pid: u32| {
        let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap();
        call.starts_with(&format!("{} 0x0 ", libc::SYS_read))
    };
    let waits_for_lock = || {
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let inode = format!(":{} ", directory.metadata().unwrap().ino());
        locks.lines().any(|line| line.contains("->") && line.contains(&inode))
    };
    wait_for("reads that wait", || {
        readers.iter().all(|reader| reads(reader.id())) && waits_for_lock()
    });
    sandbox.shell("test ! -e $VIEW/.agents/skills/absent; cat $VIEW/.agents/skills/model/SKILL.md");
    drop(directory);
    for reader in readers {
        assert_eq!(reader.wait_with_output().unwrap().stdout.len(), 1024);
    }
    assert_eq!(sandbox.shell(READ).trim(), digest);
    mount.unmount();
}

#[test]
fn s74_a_damaged_file_of_the_cache_does_not_show() {
    if !can_mount() {
        return;
    }
    let (sandbox, digest) = large();
    for script in ["printf x | dd of=$1 bs=1 seek=5000000 conv=notrunc 2>&1", "truncate -s 1M $1"] {
        let mount = sandbox.mount();
        assert_eq!(sandbox.shell(READ).trim(), digest);
        mount.unmount();
        let file = cached(&sandbox).remove(0);
        sandbox.shell(&format!("set -- '{}'; {script}", file.display()));
        let mount = sandbox.mount();
        assert_eq!(sandbox.shell(READ).trim(), digest);
        mount.unmount();
    }
}

#[test]
fn root_has_large_files_read_ahead_by_whole_requests() {
    if !can_mount() || !nix::unistd::geteuid().is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.configure("", "");
    let mount = sandbox.mount();
    let line = sandbox.mounts().remove(0);
    let device = line.split(' ').nth(2).unwrap();
    let setting = format!("/sys/class/bdi/{device}/read_ahead_kb");
    // It follows once whoever mounted was told: nobody waits for it.
    wait_for("the setting", || fs::read_to_string(&setting).unwrap().trim() == "1024");
    mount.unmount();
}
