//! What the log looks like.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::fixture::{Sandbox, can_mount, wait_for};

/// The lines of a log of JSON objects, each with the keys that are promised and no others.
fn objects(log: &str) -> Vec<Value> {
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    for line in &lines {
        let keys: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["fields", "level", "target", "timestamp"], "{line}");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
        assert!(line["fields"]["message"].is_string(), "{line}");
    }
    lines
}

fn has(lines: &[Value], level: &str, message: &str) -> bool {
    lines.iter().any(|line| line["level"] == level && line["fields"]["message"] == message)
}

#[test]
fn a_log_of_json_is_one_object_a_line() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").skill("review", "x\n").commit();
    sandbox
        .configure("    - repo: acme/base\n    - {repo: \"acme/go\\\"ne\", required: false}", "");
    let mount = sandbox.mount_with(&["--log", "log", "--log-format", "json"]);
    mount.unmount();
    let lines = objects(&fs::read_to_string(sandbox.path("log")).unwrap());
    assert!(has(&lines, "INFO", "mounted") && has(&lines, "INFO", "unmounted"), "{lines:?}");
    let missing = lines.iter().find(|line| line["level"] == "WARN").unwrap();
    assert_eq!(missing["fields"]["source"], "acme/go\"ne", "{missing}");
    // Without a file: in the foreground on standard error, else in the run directory.
    let foreground = "timeout 60 \"$1\" mount -f --log-format json 2>said & pid=$!
        until [ -e $VIEW/.overlay/revision ]; do sleep 0.01; done; kill -TERM $pid; wait $pid";
    let mut command = sandbox.command("sh");
    command.args(["-uc", foreground, "sh", env!("CARGO_BIN_EXE_overlayfs-mount")]);
    assert!(command.env("VIEW", sandbox.view()).status().unwrap().success());
    assert!(has(&objects(&fs::read_to_string(sandbox.path("said")).unwrap()), "INFO", "mounted"));
    let mount = sandbox.mount_with(&["--log-format", "json"]);
    let log = sandbox.shell("cat run/ours/*.log");
    assert!(has(&objects(&log), "INFO", "mounted"), "{log}");
    mount.unmount();
}

/// The logs that are in the run directory.
fn logs(sandbox: &Sandbox) -> String {
    sandbox.shell("cd run/ours; cat *.log 2>/dev/null || true")
}

#[test]
fn s112_a_log_without_a_warning_goes_with_its_mount() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = sandbox.repo("acme/base");
    repo.skill("review", "x\n").commit();
    for format in ["text", "json"] {
        for kept in [&[][..], &["--supervised"]] {
            let arguments = [kept, &["--log-format", format]].concat();
            sandbox.configure("    - repo: acme/base", "");
            let mount = sandbox.mount_with(&arguments);
            assert!(logs(&sandbox).contains("mounted"), "{arguments:?}");
            mount.unmount();
            assert_eq!(sandbox.shell("ls -A run/ours"), "", "{arguments:?}");
            // By a signal that asks for the end.
            let mount = sandbox.mount_with(&arguments);
            sandbox.shell(&format!("kill -TERM {}", mount.pid()));
            wait_for("the end", || sandbox.shell("ls -A run/ours").is_empty());
            // Who fails to start says why itself.
            sandbox.configure("    - repo: acme/gone", "");
            sandbox.fail(1, &[&["mount"][..], &arguments].concat());
            assert_eq!(sandbox.shell("ls -A run/ours"), "", "{arguments:?}");
            // With a warning it stays, and the next mount goes on in it.
            sandbox
                .configure("    - repo: acme/base\n    - {repo: acme/gone, required: false}", "");
            sandbox.mount_with(&arguments).unmount();
            assert!(logs(&sandbox).contains("a source is not served"), "{arguments:?}");
            sandbox.configure("    - repo: acme/base", "");
            sandbox.mount_with(&arguments).unmount();
            let log = logs(&sandbox);
            assert!(log.contains("a source is not served"), "{arguments:?}: {log}");
            assert!(log.matches("mounted").count() > 2, "{arguments:?}: {log}");
            fs::remove_dir_all(sandbox.path("run/ours")).unwrap();
        }
    }
    // Whoever is killed leaves it.
    let mount = sandbox.mount_with(&["--log-format", "text"]);
    sandbox.shell(&format!("kill -KILL {}", mount.pid()));
    assert!(logs(&sandbox).contains("mounted"));
    assert_eq!(sandbox.mounts().len(), 1);
}

#[test]
fn a_log_for_people_stays_what_it_was() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").skill("review", "x\n").commit();
    sandbox.configure("    - repo: acme/base", "");
    for format in ["auto", "text"] {
        sandbox.mount_with(&["--log", "log", "--log-format", format]).unmount();
        let log = fs::read_to_string(sandbox.path("log")).unwrap();
        assert!(
            log.contains("  INFO overlayfs_mount::daemon::start: mounted mountpoint=/"),
            "{log}"
        );
        fs::remove_file(sandbox.path("log")).unwrap();
    }
}

#[test]
fn journald_is_refused_where_it_cannot_be_had() {
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").skill("review", "x\n").commit();
    sandbox.configure("    - repo: acme/base", "");
    let said = sandbox.fail(2, &["mount", "--log", "log", "--log-format", "journald"]);
    assert!(said.contains("cannot go to a file and to journald\n  cure: leave out"), "{said}");
    if !Path::new("/run/systemd/journal/socket").exists() {
        for command in ["mount", "sync"] {
            let said = sandbox.fail(1, &[command, "--log-format", "journald"]);
            assert!(said.contains("the log cannot be written to journald: "), "{said}");
            assert!(said.contains("cure: take `--log-format json`"), "{said}");
        }
    }
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
}

#[test]
fn sync_says_what_it_does_as_a_log_too() {
    let sandbox = Sandbox::new();
    let remote = sandbox.repo("../remotes/base");
    remote.skill("review", "x\n").commit();
    let url = format!("file://{}", sandbox.path("remotes/base").display());
    sandbox.configure(
        &format!(
            "    - {{repo: acme/base, url: \"{url}\"}}\n    - {{repo: acme/gone, url: \"{url}-gone\"}}"
        ),
        "",
    );
    let said = sandbox.fail(1, &["sync", "--once", "--log-format", "json"]);
    let lines = objects(&said);
    let of = |source: &str| lines.iter().find(|line| line["fields"]["source"] == source).unwrap();
    assert_eq!(of("acme/base")["fields"]["message"], "fetched", "{said}");
    assert!(of("acme/base")["fields"]["outcome"].as_str().unwrap().starts_with("cloned at "));
    assert_eq!(of("acme/gone")["level"], "WARN", "{said}");
    assert!(of("acme/gone")["fields"]["cure"].is_string(), "{said}");
    let said = sandbox.fail(1, &["sync", "--once", "--log-format", "text"]);
    assert!(said.contains("  INFO fetched source=\"acme/base\" outcome=\"unchanged at "), "{said}");
}
