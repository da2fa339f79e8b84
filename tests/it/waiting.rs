//! `wait`: until the sources, or a mounted view, can be read.

use std::fs;
use std::process::{Child, Stdio};

use crate::fixture::{Sandbox, can_mount, wait_for};

/// `wait` in the background, whose standard error goes to `said` in the sandbox.
fn start(sandbox: &Sandbox, arguments: &[&str]) -> Child {
    let said = fs::File::create(sandbox.path("said")).unwrap();
    let mut command = sandbox.overlay(&["wait", "--timeout", "60s"]);
    command.args(arguments).stdout(Stdio::null()).stderr(said).spawn().unwrap()
}

fn wait_for_reason(sandbox: &Sandbox, part: &str) {
    let said = || fs::read_to_string(sandbox.path("said")).unwrap();
    wait_for(part, || said().contains("waiting: ") && said().contains(part));
}

#[test]
fn wait_ends_when_the_sources_can_be_read() {
    let sandbox = Sandbox::new();
    sandbox.configure(
        "    - {repo: acme/base, ref: v2}\n    - {repo: acme/gone, required: false}",
        "",
    );
    let mut waiting = start(&sandbox, &[]);
    wait_for_reason(&sandbox, "source `acme/base`: not found");
    let base = sandbox.repo("acme/base");
    base.skill("review", "x\n").commit();
    wait_for_reason(&sandbox, "ref `v2` is not in");
    assert!(waiting.try_wait().unwrap().is_none());
    base.git(&["branch", "v2"]);
    assert!(waiting.wait().unwrap().success());
}

#[test]
fn wait_fails_with_the_last_reason_and_its_cure() {
    let sandbox = Sandbox::new();
    sandbox.configure("    - repo: acme/base", "");
    let said = sandbox.fail(1, &["wait", "--timeout", "100ms"]);
    assert!(said.contains("error: not ready after 0.1 s: source `acme/base`: not found"), "{said}");
    assert!(said.contains("\n  cure: put it at"), "{said}");
    let said = sandbox.fail(1, &["wait", "--timeout", "0", "view"]);
    let view = sandbox.view().canonicalize().unwrap_or(sandbox.view());
    assert!(!said.contains("waiting: "), "{said}");
    assert!(said.contains(&format!("no view is mounted on `{}`", view.display())), "{said}");
    assert!(said.contains("cure: overlayfs-mount mount"), "{said}");
    // Wrong usage and wrong configuration are told at once.
    let said = sandbox.fail(2, &["wait", "--timeout", "soon"]);
    assert!(said.contains("write whole numbers with a unit"), "{said}");
    sandbox.fail(2, &["wait", "-c", "overlays.yaml", "view"]);
    fs::write(sandbox.path("overlays.yaml"), "acess: all\n").unwrap();
    let said = sandbox.fail(2, &["wait"]);
    assert!(said.contains("did you mean `access`"), "{said}");
}

#[test]
fn wait_ends_when_the_view_shows_a_revision_set() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let base = sandbox.repo("acme/base");
    base.skill("review", "one\n").commit();
    sandbox.configure("    - repo: acme/base", "");
    // What the next commit will be called is known from a view that showed it before.
    let mount = sandbox.mount();
    base.skill("review", "two\n").commit();
    sandbox.succeed(&["reload"]);
    let next = sandbox.shell("cat $VIEW/.overlay/revision").trim().to_owned();
    base.shell("git update-ref refs/heads/main main~1");
    sandbox.succeed(&["reload"]);
    let said = sandbox.fail(1, &["wait", "--timeout", "0", "view", "--revision", &next]);
    assert!(said.contains("shows revision set `") && said.contains("reload"), "{said}");
    let mut waiting = start(&sandbox, &["view", "--revision", &next[..16]]);
    wait_for_reason(&sandbox, "shows revision set");
    base.shell("git update-ref refs/heads/main HEAD@{1}");
    assert!(waiting.wait().unwrap().success());
    // Where the control socket cannot be found the view itself is asked.
    let mut elsewhere = sandbox.overlay(&["wait", "--timeout", "0", "view", "--revision", &next]);
    elsewhere.env("OVERLAYFS_MOUNT_RUN_DIR", sandbox.path("run/nowhere"));
    assert!(elsewhere.status().unwrap().success());
    for bad in ["", "1234567", "main", "../../etc/passwd"] {
        let said = sandbox.fail(2, &["wait", "view", "--revision", bad]);
        assert!(said.contains("hexadecimal digits"), "{said}");
    }
    mount.unmount();
}

#[test]
fn wait_ends_when_the_view_can_be_read() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").skill("review", "x\n").commit();
    sandbox.configure("    - repo: acme/base\n    - {repo: acme/gone, required: false}", "");
    let mut waiting = start(&sandbox, &["view"]);
    wait_for_reason(&sandbox, "no view is mounted");
    let mount = sandbox.mount();
    assert!(waiting.wait().unwrap().success());
    assert_eq!(sandbox.succeed(&["wait", "--timeout", "0", "view"]), "");
    // Where the control socket cannot be found the view itself is asked.
    let elsewhere = |arguments: &[&str]| {
        let mut command = sandbox.overlay(arguments);
        command.env("OVERLAYFS_MOUNT_RUN_DIR", sandbox.path("run/nowhere")).output().unwrap()
    };
    assert!(elsewhere(&["wait", "--timeout", "0", "view"]).status.success());
    // A dead one is not ready, though the kernel still shows what it has cached.
    let pid = mount.pid().to_string();
    sandbox.shell(&format!("kill -KILL {pid}"));
    let mut said = String::new();
    wait_for("the end of the daemon to be seen", || {
        let output = elsewhere(&["wait", "--timeout", "0", "view"]);
        said = String::from_utf8(output.stderr).unwrap();
        output.status.code() == Some(1)
    });
    assert!(said.contains("has lost its daemon"), "{said}");
    assert!(said.contains("cure: overlayfs-mount unmount --lazy"), "{said}");
}
