//! What programs mount on a view: a kernel overlayfs on a pinned revision, bind mounts of a revision and of an entry, while the view flips.
//!
//! The short form runs with all tests. `OVERLAYFS_MOUNT_TORN_FLIPS=1000` makes it the long one.

use std::fs;
use std::process::{Command, Stdio};

use crate::fixture::{Sandbox, can_mount, times, wait_for};

/// Flips of the short form.
const FLIPS: u64 = 40;

/// Reads each tree again and again until told to stop; says what differed from the first time, and how often it read.
const READER: &str = r#"
look() { (cd "$1" && find . -printf '%P %y %m\n' | sort && find . -type f -exec cat {} + && cat .agents/skills/still/SKILL.md 2>/dev/null || true) 2>&1; }
for at in "$@"; do eval "first_$(echo "$at" | tr -c 'a-z\n' _)=\$(look $at)"; done
touch $HOME/reading; count=0
while [ ! -e $HOME/stop ]; do
  for at in "$@"; do
    eval "first=\$first_$(echo "$at" | tr -c 'a-z\n' _)"
    now=$(look $at)
    if [ "$now" != "$first" ]; then echo "$at differs:"; echo "$now"; exit 1; fi
    count=$((count + 1))
  done
done
echo $count
"#;

#[test]
fn what_is_mounted_on_a_pinned_revision_or_an_unchanged_entry_stays_as_it_is() {
    if !can_mount() {
        return;
    }
    let _emptying = crate::fixture::empties_caches();
    let flips = times("OVERLAYFS_MOUNT_TORN_FLIPS", FLIPS);
    let sandbox = Sandbox::new();
    let repo = sandbox.repo("acme/base");
    repo.skill("still", "still\n").write(".agents/skills/still/deep/part", "part\n");
    repo.skill("moving", "0\n").write("workflows/flow.py", "0\n").commit();
    sandbox.configure("    - {repo: acme/base, ref: main}", "");
    let mount = sandbox.mount_pinned();
    let id = sandbox.shell("cat $VIEW/.overlay/revision");
    let revision = sandbox.view().join(".overlay/revisions").join(id.trim());
    sandbox.shell("mkdir union upper work bound entry work/w");
    let mounted = sandbox.shell_output(&format!(
        "mount -t tmpfs tmpfs upper; mkdir upper/u upper/w
         mount -t overlay overlay -o lowerdir={0},upperdir=upper/u,workdir=upper/w union
         mount --bind {0} bound; mount --bind $VIEW/.agents/skills/still entry",
        revision.display()
    ));
    if !mounted.status.success() {
        assert!(std::env::var_os("CI").is_none(), "overlayfs and bind mounts need root");
        eprintln!("SKIPPED: {}", String::from_utf8_lossy(&mounted.stderr));
        return;
    }
    let mut reader = Command::new("timeout");
    reader.args(["-s", "KILL", "1700", "sh", "-uc", READER, "reader", "union", "bound", "entry"]);
    reader.current_dir(sandbox.path("")).env("HOME", sandbox.path("home")).env("LC_ALL", "C");
    let reader = reader.stdout(Stdio::piped()).spawn().unwrap();
    wait_for("the reader", || sandbox.path("home/reading").exists());
    for flip in 1..=flips {
        repo.skill("moving", &format!("{flip}\n")).write("workflows/flow.py", format!("{flip}\n"));
        if flip % 2 == 0 {
            repo.skill(&format!("new-{flip}"), "new\n");
        }
        repo.commit();
        sandbox.succeed(&["reload", "view"]);
        if flip == FLIPS / 2 {
            // Once: on a busy machine it takes its time.
            sandbox.shell("echo 2 > /proc/sys/vm/drop_caches || true");
        }
    }
    fs::write(sandbox.path("home/stop"), "").unwrap();
    let output = reader.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    let count: u64 = said.trim().parse().unwrap();
    assert!(count > 0);
    eprintln!("{flips} flips, {count} walks through what was mounted before: all equal");
    // The copy-up of the union works, and does not touch what is below.
    sandbox.shell("echo mine >union/workflows/flow.py; rm -r union/.agents/skills/moving; ! ls union/.agents/skills/moving 2>/dev/null");
    assert_eq!(sandbox.shell("cat union/workflows/flow.py bound/workflows/flow.py"), "mine\n0\n");
    assert_eq!(sandbox.shell("cat $VIEW/workflows/flow.py"), format!("{flips}\n"));
    sandbox.shell("umount union upper bound entry");
    mount.unmount();
}
