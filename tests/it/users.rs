//! Ordinary users: through `fusermount3`, and in a user namespace where there is none.

use std::process::Output;

use crate::fixture::{Sandbox, can_mount, has_program, is_long};

/// Runs before the script, as root in a mount name space of its own: a `/tmp` that goes away, and a device that everybody may open.
const PREPARE: &str = r#"
mkdir shared
mount -t tmpfs -o mode=1777,dev tmpfs shared
mknod -m 666 shared/fuse c 10 229
mount --bind shared/fuse /dev/fuse
cp "$PROGRAM" shared/overlayfs-mount
mount --bind shared /tmp
cd /tmp
echo prepared >&2
exec setpriv --reuid 65534 --regid 65534 --clear-groups sh -euc "$SCRIPT"
"#;

/// Runs a shell script as a user without privileges; `None`, loudly, where this cannot be done.
pub(crate) fn as_ordinary_user(sandbox: &Sandbox, script: &str) -> Option<Output> {
    let mut command = sandbox.command("timeout");
    command
        .args([
            "-s",
            "KILL",
            if is_long() { "900" } else { "60" },
            "unshare",
            "--mount",
            "--propagation",
            "private",
        ])
        .args(["sh", "-euc", PREPARE])
        .env("PROGRAM", env!("CARGO_BIN_EXE_overlayfs-mount"))
        .env("SCRIPT", script)
        .env("TMPDIR", "/tmp")
        .env_remove("HOME")
        .env_remove("XDG_RUNTIME_DIR")
        .env_remove("OVERLAYFS_MOUNT_RUN_DIR");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("prepared") {
        return Some(output);
    }
    eprintln!("SKIPPED: this machine lets the test become no other user: {said}");
    None
}

pub(crate) fn assert_says(output: &Output, expected: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{said}");
}

/// Runs a script as an ordinary user with a source of one file at hand, and compares what it prints; nothing, loudly, without `fusermount3`.
fn assert_mounts_by_fusermount(script: &str, expected: &str) {
    if !can_mount() {
        return;
    }
    let begin = r#"
        command -v fusermount3 >/dev/null || { echo "SKIPPED: no fusermount3" >&2; exit 77; }
        mkdir source source/tools && echo content > source/tools/file
    "#;
    let sandbox = Sandbox::new();
    let Some(output) = as_ordinary_user(&sandbox, &format!("{begin}{script}")) else { return };
    if output.status.code() == Some(77) {
        eprintln!("SKIPPED: `fusermount3` is not installed: apt-get install fuse3");
        return;
    }
    assert_says(&output, expected);
}

#[test]
fn an_ordinary_user_mounts_through_fusermount_without_home_or_session() {
    let script = r#"
        ./overlayfs-mount mount --source ./source view
        cat view/tools/file
        stat -c '%u %a' view/tools/file
        ./overlayfs-mount status view >/dev/null
        ./overlayfs-mount status view --check --json | grep -o '"mountpoint": .*"'
        # Only where root allowed it may others see it.
        if ! grep -qx user_allow_other /etc/fuse.conf; then
            if ./overlayfs-mount mount --source ./source other -o allow_other 2>said; then exit 9; fi
            grep -q 'cure: .*user_allow_other' said
        fi
        ./overlayfs-mount unmount view
        ls
    "#;
    let expected = "content\n65534 644\n\"mountpoint\": \"/tmp/view\"\nfuse\noverlayfs-mount\n\
                    overlayfs-mount-65534\noverlayfs-mount-state-65534\nsaid\nsource\n";
    assert_mounts_by_fusermount(script, expected);
}

#[test]
fn s128_a_user_without_a_home_has_a_state_directory_beside_the_run_directory() {
    // With a log of its own nothing is asked of the run directory before the state directory is made.
    let script = r"
        ./overlayfs-mount mount --log log --source ./source view
        cat view/tools/file
        ./overlayfs-mount status view >/dev/null
        ./overlayfs-mount unmount view
        stat -c '%n %a' overlayfs-mount-*
        ls overlayfs-mount-state-65534
    ";
    let expected = "content\noverlayfs-mount-65534 700\noverlayfs-mount-state-65534 755\npins\n";
    assert_mounts_by_fusermount(script, expected);
}

#[test]
fn the_demo_runs_in_a_user_namespace_where_there_is_no_fusermount() {
    if !can_mount() {
        return;
    }
    let script = r"
        if ! unshare --user --mount true 2>said; then cat said >&2; exit 77; fi
        rm said
        FUSERMOUNT_PATH=/nonexistent ./overlayfs-mount demo
        # A fusermount3 that is not setuid helps nobody.
        cp /bin/false fusermount3
        FUSERMOUNT_PATH=/tmp/fusermount3 ./overlayfs-mount demo
        ls
    ";
    let sandbox = Sandbox::new();
    let Some(output) = as_ordinary_user(&sandbox, script) else { return };
    if output.status.code() == Some(77) {
        let said = String::from_utf8_lossy(&output.stderr);
        eprintln!("SKIPPED: this machine has no user namespaces for users: {said}");
        return;
    }
    assert_says(&output, "fuse\nfusermount3\noverlayfs-mount\n");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.matches("in a user namespace of its own").count(), 2, "{said}");
}

#[test]
fn s26_what_an_ordinary_user_copied_he_can_replace() {
    if !can_mount() || !has_program("python3", "apt-get install python3") {
        return;
    }
    let sandbox = Sandbox::new();
    let nobody = "chmod 0777 .; exec setpriv --reuid 65534 --regid 65534 --clear-groups";
    if !sandbox.shell_output(&format!("{nobody} true")).status.success() {
        eprintln!("SKIPPED: only root can become another user");
        return;
    }
    let base = sandbox.repo("acme/base");
    base.skill("review", "text\n").script(".agents/skills/review/run.sh", "#!/bin/sh\n").commit();
    sandbox.configure("    - repo: acme/base", "allowOther: true");
    let mount = sandbox.mount();
    let script = r#"
        skills=$VIEW/.agents/skills
        cp -r $skills copied && echo changed > copied/review/SKILL.md && rm -r copied
        for i in 1 2; do
            python3 -Bc 'import shutil, sys; shutil.copytree(sys.argv[1], "again", symlinks=True)' $skills
            tar -C $skills -c . | tar -C again -x && rm -r again
        done
        cd $skills/review && stat -c %a . SKILL.md run.sh
        if test -w . || test -w SKILL.md; then exit 9; fi
    "#;
    let seen = sandbox.shell(&format!("{nobody} sh -euc '{}'", script.replace('\'', "'\\''")));
    assert_eq!(seen, "755\n644\n755\n");
    mount.unmount();
}
