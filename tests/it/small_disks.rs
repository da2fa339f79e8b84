//! State directories without room: what is read is right, and `status` says what could not be kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::fixture::{Sandbox, can_mount};

/// A small file system, gone with the value.
pub(crate) struct Small(PathBuf);

impl Small {
    /// Mounts a tmpfs with these options.
    pub(crate) fn mount(at: &Path, options: &str) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at);
        if mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
            return Some(Self(at.to_owned()));
        }
        assert!(std::env::var_os("CI").is_none(), "`mount -t tmpfs` needs root");
        eprintln!("SKIPPED: `mount -t tmpfs` needs root");
        None
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().map(drop).unwrap_or_default();
    }
}

/// Reads all large files twice and compares each with its digest; those that cannot be read. Then what `status` says of them.
fn read_all(sandbox: &Sandbox) -> (String, Option<String>) {
    let failed = sandbox.shell(
        "for turn in 1 2; do for name in a b huge; do
           if cat $VIEW/.agents/skills/model/$name >$HOME/read 2>/dev/null; then
             cmp $HOME/read repos/acme/base/.agents/skills/model/$name
           else echo $name; fi
         done; done",
    );
    let status: serde_json::Value = sandbox.status();
    let said = status["no_large_files_because"].as_str().map(str::to_owned);
    let text = sandbox.succeed(&["status", "view"]);
    assert_eq!(text.contains("large files have no place in"), said.is_some(), "{text}");
    (failed, said)
}

/// A mount with its state on a small disk, prepared by a script before and changed by one after. What could not be read, and was said.
fn on_small(options: &str, before: &str, after: &str, arguments: &[&str]) {
    let sandbox = Sandbox::new();
    let repo = sandbox.repo("acme/base");
    repo.skill("model", "model\n");
    repo.shell(
        "cd .agents/skills/model
         for name in a b; do head -c 4300000 /dev/urandom >$name; done; truncate -s 68M huge",
    );
    repo.commit();
    sandbox.configure("    - {repo: acme/base, ref: main}", "");
    fs::create_dir(sandbox.path("state")).unwrap();
    let Some(small) = Small::mount(&sandbox.path("state"), options) else { return };
    sandbox.shell(before);
    let mount = sandbox.mount_with(arguments);
    sandbox.shell(after);
    let (failed, said) = read_all(&sandbox);
    let case = format!("{options}, {before}, {after}, {arguments:?}: failed {failed:?}, {said:?}");
    // 68 MiB are more than is held in memory.
    let is_elsewhere = before.contains("remount,ro");
    assert_eq!(failed, if is_elsewhere { "" } else { "huge\nhuge\n" }, "{case}");
    let cause = if is_elsewhere { "Read-only file system" } else { "No space left on device" };
    assert!(said.is_some_and(|said| said.contains(cause)), "{case}");
    assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/model/SKILL.md"), "model\n", "{case}");
    if !is_elsewhere {
        // As soon as there is room, it is used.
        sandbox.shell("rm -f state/filled; mount -o remount,size=200m,nr_inodes=1000 state");
        assert_eq!(read_all(&sandbox), (String::new(), None), "{case}");
    }
    sandbox.succeed(&["unmount", "view"]);
    // Files of the cache are whole, or not there.
    sandbox.shell(
        "for file in $(ls state/blobs 2>/dev/null); do
           git -C repos/acme/base cat-file blob $file | cmp - state/blobs/$file
         done",
    );
    drop((small, mount));
}

const FILL: &str = "cat /dev/zero >state/filled 2>/dev/null || true";

#[test]
fn s106_a_state_directory_without_room_costs_no_byte() {
    if !can_mount() {
        return;
    }
    on_small("size=8m,nr_inodes=50", "true", "true", &[]);
    on_small("size=64k", FILL, "true", &["--supervised"]);
    on_small("size=1m,nr_inodes=1", "true", "true", &[]);
    on_small("size=8m", "true", FILL, &["--supervised"]);
    on_small("size=1m", "mount -o remount,ro state", "true", &[]);
}
