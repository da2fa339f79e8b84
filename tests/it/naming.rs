//! How views are found by who asks for them: beside others, by any name of the mount point, and where the daemon may not be asked.

use std::process::{Command, Output};

use crate::fixture::{Mount, Sandbox, can_mount};

/// A view of one source with a skill.
fn mounted(sandbox: &Sandbox) -> Option<Mount<'_>> {
    if !can_mount() {
        return None;
    }
    sandbox.repo("acme/base").skill("plan", "plan\n").package("tools/slack", "x").commit();
    sandbox.configure("    - repo: acme/base", "");
    Some(sandbox.mount())
}

pub(crate) fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

#[test]
fn s144_a_daemon_that_does_not_answer_keeps_no_other_from_being_shown() {
    let sandbox = Sandbox::new();
    let Some(mount) = mounted(&sandbox) else { return };
    sandbox.succeed(&["mount", "other"]);
    let pid = mount.pid();
    signal("-STOP", pid);
    let table = sandbox.overlay(&["status"]).output().unwrap();
    let json = sandbox.overlay(&["status", "--json"]).output().unwrap();
    let reload = sandbox.fail(1, &["reload"]);
    signal("-CONT", pid);
    let other = sandbox.path("other");
    assert!(reload.contains(&format!("cure: name one of: {}\n", other.display())), "{reload}");
    let (said, shown) =
        (String::from_utf8_lossy(&table.stderr), String::from_utf8_lossy(&table.stdout));
    assert_eq!(table.status.code(), Some(1), "{said}");
    assert!(shown.contains("/other  ready\n") && !shown.contains("/view  "), "{shown}");
    assert!(said.contains(&format!("the view on `{}`", sandbox.view().display())), "{said}");
    assert!(said.contains("has not answered\n  cure: "), "{said}");
    assert_eq!(json.status.code(), Some(1));
    let all: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 1, "{all}");
    sandbox.succeed(&["unmount", "other"]);
    mount.unmount();
}

#[test]
fn s144_a_run_directory_of_somebody_else_keeps_nobody_from_asking() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.shell("mkdir -p source/tools && echo content > source/tools/file");
    sandbox.configure("    - {path: source, name: me/source}", "");
    // A machine's own `/run` and `/tmp`, where anybody may make directories.
    let script = r#"
        cp "$PROGRAM" program
        mount -t tmpfs -o mode=0755 tmpfs /run
        mount --bind . /tmp
        cd /tmp
        mkdir overlayfs-mount-0
        chown 65534 overlayfs-mount-0
        trap 'umount -l view 2>/dev/null || true' EXIT
        ./program mount
        ./program status | head -n 1
        ./program status --check >/dev/null && echo ready
        ./program reload | cut -d: -f1
        ./program unmount view
        ./program status
    "#;
    let mut command = sandbox.command("timeout");
    command
        .args(["-s", "KILL", "60", "unshare", "--mount", "--propagation", "private"])
        .args(["sh", "-euc", script])
        .env("PROGRAM", env!("CARGO_BIN_EXE_overlayfs-mount"))
        .env_remove("OVERLAYFS_MOUNT_RUN_DIR");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("unshare failed") || said.contains("chown: ") {
        eprintln!("SKIPPED: only root can make a name space and a directory of somebody else");
        return;
    }
    let shown = String::from_utf8_lossy(&output.stdout);
    assert_eq!(shown, "/tmp/view  ready\nready\nunchanged\nnothing is mounted\n", "{said}");
}

#[test]
fn s145_a_view_is_found_by_every_name_of_its_mount_point() {
    let sandbox = Sandbox::new();
    let Some(mount) = mounted(&sandbox) else { return };
    sandbox.shell("ln -s view link; mkdir other");
    for name in ["view", "view/", "./view//", "link", "link/", "other/../view/", "view/../link"] {
        let status = sandbox.succeed(&["status", name]);
        assert!(status.contains("/view  ready\n"), "{name}: {status}");
        assert!(sandbox.succeed(&["reload", name]).starts_with("unchanged"), "{name}");
        sandbox.succeed(&["wait", name, "--timeout", "0"]);
        let path = format!("{name}/.agents/skills/plan/SKILL.md");
        let said = sandbox.succeed(&["explain", &path]);
        assert!(said.starts_with(".agents/skills/plan/SKILL.md comes from acme/base\n"), "{said}");
    }
    sandbox.succeed(&["unmount", "view/"]);
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
    drop(mount);
    // No directory is made that another name would lead to.
    let said = sandbox.fail(1, &["mount", "none/../elsewhere"]);
    assert!(said.contains("none") && said.contains("cure: "), "{said}");
    assert!(!sandbox.path("none").exists() && !sandbox.path("elsewhere").exists());
}

/// As somebody who may not ask the daemon.
fn outside(sandbox: &Sandbox, arguments: &[&str]) -> Output {
    let mut command = sandbox.overlay(arguments);
    command.env("OVERLAYFS_MOUNT_RUN_DIR", sandbox.path("none")).output().unwrap()
}

#[test]
fn s44_who_sees_only_the_view_is_told_what_is_there_and_what_is_not() {
    let sandbox = Sandbox::new();
    let Some(mount) = mounted(&sandbox) else { return };
    let explain = |path: &str| {
        let output = outside(&sandbox, &["explain", &format!("view/{path}")]);
        assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    for (path, first) in [
        ("", ". is a merged directory of acme/base"),
        ("workflows", "workflows is a merged directory; no source shows anything in it"),
        ("acme", "acme is a merged directory of acme/base"),
        ("acme/base/tools", "acme/base/tools comes from acme/base"),
        (".overlay/current/acme/base", ".overlay/current/acme/base comes from acme/base"),
        ("tools/slack/pyproject.toml", "tools/slack/pyproject.toml comes from acme/base"),
    ] {
        assert_eq!(explain(path).lines().next(), Some(first));
        assert_eq!(
            sandbox.succeed(&["explain", &format!("view/{path}")]).lines().next(),
            Some(first)
        );
    }
    for path in ["acme/base/none", "tools/slack/none", "tools/none", "none"] {
        let first = format!("{path} shows nothing: ");
        assert!(explain(path).starts_with(&first), "{path}: {}", explain(path));
        assert!(sandbox.succeed(&["explain", &format!("view/{path}")]).starts_with(&first));
    }
    // Nobody waits for a daemon that does not answer.
    let pid = mount.pid();
    signal("-STOP", pid);
    let output = outside(&sandbox, &["explain", "view/tools/slack"]);
    signal("-CONT", pid);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("does not answer") && said.contains("cure: "), "{said}");
    mount.unmount();
}

#[test]
fn s50_who_sees_only_the_view_calls_sources_as_all_others_do() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let base = sandbox.repo("acme/base");
    base.skill("plan", "one\n").commit();
    base.git(&["branch", "next"]);
    sandbox.configure(
        "    - {repo: acme/base, ref: main}\n    - {repo: acme/base, ref: next}\n    \
         - {repo: acme/gone, required: false}",
        "",
    );
    let mount = sandbox.mount();
    let shown = sandbox.succeed(&["status", "view"]);
    assert!(shown.contains("acme/base@main") && shown.contains("acme/base@next"), "{shown}");
    for path in ["acme", "acme/base", "acme/base/.agents", "acme/gone", ".agents/skills/plan"] {
        let path = format!("view/{path}");
        let document = |text: &[u8]| -> serde_json::Value { serde_json::from_slice(text).unwrap() };
        let asked = document(sandbox.succeed(&["explain", "--json", &path]).as_bytes());
        let seen = document(&outside(&sandbox, &["explain", "--json", &path]).stdout);
        assert_eq!(seen["contributors"], asked["contributors"], "{path}");
        for key in ["source", "revision", "entry", "source_path"] {
            assert_eq!(seen["winner"][key], asked["winner"][key], "{path}");
        }
    }
    mount.unmount();
}
