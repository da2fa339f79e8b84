//! Labels of `SELinux`: what is said where a mount cannot have them. That it gets them is tried by `tests/kernels/run`, step `selinux`.

use std::fs;

use super::fixture::{Sandbox, can_mount};
use super::users::as_ordinary_user;

const OPTION: &str = "context=\"system_u:object_r:container_file_t:s0:c1,c2\"";

/// Whether this kernel has no `SELinux`. Where it has, the option is no error.
fn has_no_selinux() -> bool {
    let known = fs::read_to_string("/proc/filesystems").unwrap();
    let is_on = known.lines().any(|line| line.ends_with("selinuxfs"));
    if is_on {
        eprintln!("SKIPPED: SELinux is on in this kernel");
    }
    !is_on
}

#[test]
fn s141_a_kernel_without_selinux_mounts_nothing_with_a_label_and_says_why() {
    if !can_mount() || !has_no_selinux() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").skill("review", "base\n").commit();
    sandbox.configure("    - repo: acme/base", "");
    sandbox.shell("mkdir views && cp overlays.yaml views/a.yaml");
    let context = OPTION.split_once('=').unwrap().1;
    let root = OPTION.replace("context", "rootcontext");
    let calls: [(i32, Vec<&str>); 8] = [
        (1, vec!["mount", "-o", OPTION]),
        (1, vec!["mount", "-f", "-o", "noexec", "-o", &root]),
        (1, vec!["mount", "--supervised", "-o", OPTION]),
        (1, vec!["mount", "--views", "views", "-o", OPTION]),
        (1, vec!["mount", "--views", "views", "--supervised", "-o", OPTION]),
        (125, vec!["exec", "-o", OPTION, "--", "touch", "started"]),
        (1, vec!["pass", "--socket", "door", "--context", context, "view"]),
        // mount(8) as it calls a helper: it knows neither 1 for a failure nor the option.
        (32, vec!["./overlays.yaml", "view", "-o", OPTION]),
    ];
    for (status, call) in calls {
        let said = sandbox.fail(status, &call);
        assert!(said.contains("SELinux is not enabled in this kernel"), "{call:?}: {said}");
        assert!(said.contains("context=` is not possible"), "{call:?}: {said}");
        assert!(said.contains("cure: leave out `-o "), "{call:?}: {said}");
        assert!(said.contains("selinux=1"), "{call:?}: {said}");
        assert_eq!(sandbox.mounts(), Vec::<String>::new(), "{call:?}");
        assert!(!sandbox.path("started").exists() && !sandbox.path("door").exists(), "{call:?}");
        assert!(!sandbox.view().exists(), "{call:?}: a mount point was made");
    }
}

#[test]
fn s141_what_is_no_context_or_for_another_to_label_is_wrong_usage() {
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").skill("review", "base\n").commit();
    sandbox.configure("    - repo: acme/base", "");
    let unquoted = OPTION.replace('"', "");
    for (call, why) in [
        (vec!["mount", "-o", &unquoted], "mount option `c2` is not known"),
        (vec!["mount", "-o", "context=t"], "`t` is no context"),
        (vec!["mount", "-o", "defcontext=u:r:t:s0"], "`defcontext` means nothing"),
        (vec!["mount", "--fuse-fd", "7", "-o", OPTION], "is made by another process"),
        (vec!["pass", "--socket", "door", "--context", "t", "view"], "`t` is no context"),
    ] {
        let said = sandbox.fail(2, &call);
        assert!(said.contains(why), "{call:?}: {said}");
        assert!(call[0] == "pass" || said.contains("cure: "), "{call:?}: {said}");
    }
}

#[test]
fn s141_an_ordinary_user_gets_no_label_and_is_told_why() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    // A kernel that knows SELinux, as far as anybody can see.
    let script = r#"
        mkdir -p source/tools
        echo "nodev selinuxfs" > known
        unshare --user --mount --map-root-user sh -euc 'mount --bind known /proc/filesystems
            if ./overlayfs-mount mount --source ./source view -o "context=u:r:t:s0" 2>said; then exit 9; fi
            if ./overlayfs-mount exec --source ./source -o "context=u:r:t:s0" -- touch started 2>>said; then exit 9; fi'
        test "$(grep -c 'only root outside of user name spaces may label a mount' said)" = 2
        test "$(grep -c 'cure: mount as root, or leave out `-o context=`' said)" = 2
        ls
    "#;
    let Some(output) = as_ordinary_user(&sandbox, script) else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("unshare:") {
        eprintln!("SKIPPED: this machine has no user namespaces for users: {said}");
        return;
    }
    super::users::assert_says(&output, "fuse\nknown\noverlayfs-mount\nsaid\nsource\n");
}
