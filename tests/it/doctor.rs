//! `doctor`, and what errors refer to in it.

use std::collections::BTreeMap;
use std::process::Output;

use serde_json::Value;

use crate::fixture::{Sandbox, can_mount, has_program};
use crate::users::as_ordinary_user;

/// The checks of `doctor --json` by their ids.
fn checks(output: &Output) -> BTreeMap<String, Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!text.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let checks: Vec<Value> = serde_json::from_str(&text).unwrap();
    checks.into_iter().map(|check| (check["id"].as_str().unwrap().to_owned(), check)).collect()
}

fn assert_check(checks: &BTreeMap<String, Value>, id: &str, outcome: &str, evidence: &str) {
    let check = checks.get(id).unwrap();
    assert_eq!(check["outcome"], outcome, "{check}");
    assert!(check["evidence"].as_str().unwrap().contains(evidence), "{check}");
    assert_eq!(check["cure"].is_null(), outcome == "ok", "{check}");
}

#[test]
fn doctor_looks_at_mount_point_and_sources_of_the_configuration() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").skill("review", "base\n").commit();
    sandbox.configure("    - repo: acme/base", "");
    let doctor = || checks(&sandbox.overlay(&["doctor", "--json"]).output().unwrap());
    let found = doctor();
    assert_check(&found, "configuration", "ok", "");
    assert_check(&found, "sources", "ok", "1, all can be read");
    assert_check(&found, "mount-point", "ok", "will be made");
    let mount = sandbox.mount();
    assert_check(&doctor(), "mount-point", "warn", "is mounted on");
    mount.unmount();
    sandbox.configure("    - repo: acme/base\n    - {repo: acme/gone, required: false}", "");
    assert_check(&doctor(), "sources", "warn", "acme/gone");
    sandbox.configure("    - repo: acme/gone", "");
    assert_check(&doctor(), "sources", "fail", "acme/gone");
    let output = sandbox.overlay(&["doctor", "-c", "none.yaml", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_check(&checks(&output), "configuration", "fail", "none.yaml");
    sandbox.shell("mv overlays.yaml \"mine's.yaml\"");
    let output = sandbox.overlay(&["doctor", "-c", "mine's.yaml", "--json"]).output().unwrap();
    let cure = checks(&output)["sources"]["cure"].as_str().unwrap().to_owned();
    assert_eq!(cure, r"overlayfs-mount check -c 'mine'\''s.yaml'");
}

#[test]
fn a_missing_device_is_told_from_one_that_may_not_be_opened() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let program = env!("CARGO_BIN_EXE_overlayfs-mount");
    for (prepare, evidence, cure) in [
        (
            "mount -t tmpfs tmpfs /dev; mknod -m 666 /dev/null c 1 3",
            "No such file",
            "--device /dev/fuse",
        ),
        (
            "mount -t tmpfs -o nodev tmpfs /dev; mknod /dev/fuse c 10 229",
            "Permission denied",
            "chmod 0666",
        ),
    ] {
        let script = format!("{prepare}; exec {program} doctor --json");
        let mut command = sandbox.command("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-euc", &script]);
        let output = command.output().unwrap();
        if String::from_utf8_lossy(&output.stderr).contains("unshare:") {
            eprintln!("SKIPPED: no mount name space for the test");
            return;
        }
        let found = checks(&output);
        assert_check(&found, "device", "fail", evidence);
        assert!(found["device"]["cure"].as_str().unwrap().contains(cure), "{found:?}");
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn errors_of_a_mount_name_the_check_that_says_more() {
    if !can_mount() {
        return;
    }
    let script = r"
        mkdir -p source/tools
        export FUSERMOUNT_PATH=/nonexistent
        if ./overlayfs-mount mount --source ./source view 2>said; then exit 9; fi
        grep -q 'check `fusermount`' said
        if ./overlayfs-mount mount --source ./source /usr/none/view 2>said; then exit 9; fi
        grep -q 'check `mount-point`' said
        setpriv --no-new-privs ./overlayfs-mount doctor --json --source ./source || test $? = 1
    ";
    let sandbox = Sandbox::new();
    let Some(output) = as_ordinary_user(&sandbox, script) else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let found = checks(&output);
    assert_check(&found, "fusermount", "fail", "FUSERMOUNT_PATH");
    assert_check(&found, "no-new-privs", "fail", "no_new_privs is set");
    assert_check(&found, "features", "ok", "openat2");
}

/// As a container often runs: with a number and no name.
#[test]
fn a_user_without_a_name_cannot_mount_through_fusermount() {
    let program = env!("CARGO_BIN_EXE_overlayfs-mount");
    let sandbox = Sandbox::new();
    if !nix::unistd::geteuid().is_root() || !has_program("fusermount3", "apt-get install fuse3") {
        eprintln!("SKIPPED: only root can become another user");
        return;
    }
    // Where others may run it.
    sandbox.shell(&format!("chmod 755 .; cp {program} program"));
    let mut command = sandbox.command("setpriv");
    command.args(["--reuid", "54321", "--regid", "54321", "--clear-groups", "./program"]);
    let output = command.args(["doctor", "--json", "--source", "/usr"]).output().unwrap();
    let found = checks(&output);
    assert_check(&found, "fusermount", "fail", "user 54321 has no name");
    assert!(found["fusermount"]["cure"].as_str().unwrap().contains("/etc/passwd"), "{found:?}");
}

#[test]
fn a_filter_that_takes_system_calls_away_is_said_with_its_cure() {
    if !has_program("strace", "apt-get install strace") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox
        .shell("mkdir -p live/.agents/skills/plan; echo plan > live/.agents/skills/plan/SKILL.md");
    let filtered = |arguments: &[&str]| {
        // As a seccomp filter answers that does not know it, or cannot look into it.
        let mut command = sandbox.command("strace");
        command.args(["-f", "-qq", "-o", "trace", "-e", "trace=openat2"]);
        command.args(["-e", "inject=openat2:error=ENOSYS", env!("CARGO_BIN_EXE_overlayfs-mount")]);
        command.args(arguments).output().unwrap()
    };
    let output = filtered(&["check", "--source", "./live"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("/live`: the kernel does not answer openat2")
            && said.contains("`RestrictSUIDSGID=yes`"),
        "{said}"
    );
    assert_ne!(output.status.code(), Some(0), "{said}");
    let found = checks(&filtered(&["doctor", "--json"]));
    assert_check(&found, "features", "warn", "openat2");
    assert!(found["features"]["cure"].as_str().unwrap().contains("`RestrictSUIDSGID=`"));
}
