//! What users meet when something else has gone wrong: a daemon that was stopped, a disk that is full, a directory that is gone.

use std::process::Stdio;

use crate::fixture::{Sandbox, can_mount, wait_for};
use crate::naming::signal;
use crate::views::{serve_with, view};

#[test]
fn s161_a_daemon_that_does_not_end_is_said_by_its_number_with_the_cure() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").skill("plan", "one\n").commit();
    sandbox.configure("    - {repo: acme/base, ref: main}", "");
    let mount = sandbox.mount();
    let pid = mount.pid();
    let many = crate::views::sandbox();
    view(&many, "one", &["base"], "");
    view(&many, "two", &["team"], "");
    let serving = serve_with(&many, &[]);
    let their = u32::try_from(serving.pid.as_raw()).unwrap();
    signal("-STOP", pid);
    signal("-STOP", their);
    let unmounting = [(&sandbox, "view"), (&many, "at/one")].map(|(sandbox, view)| {
        let mut command = sandbox.overlay(&["unmount", view]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    let [one, of_many] = unmounting.map(|child| {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        said
    });
    // What is to end need not be asked.
    many.succeed(&["unmount", "--lazy", "at/two"]);
    signal("-CONT", pid);
    signal("-CONT", their);
    let started = format!("`{}` is unmounted: process {pid} ", sandbox.view().display());
    assert!(one.contains(&started), "{one}");
    assert!(one.contains(&format!("cure: kill -CONT {pid}, if it was stopped")), "{one}");
    assert!(of_many.contains("at/one` is unmounted, and its daemon has not let go"), "{of_many}");
    assert!(of_many.contains(&format!("process {their} does not answer\n  cure: ")), "{of_many}");
    assert!(of_many.contains("ends its other views too"), "{of_many}");
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
    drop(mount);
    drop(serving);
}

#[test]
fn s50_status_calls_sources_by_their_labels() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = sandbox.repo("acme/base");
    repo.skill("plan", "one\n").commit();
    repo.git(&["branch", "next"]);
    sandbox.configure(
        "    - {repo: acme/base, ref: main}\n    - {repo: acme/base, ref: next}\n    - {repo: acme/base, ref: none, required: false}\n    - {repo: acme/base, ref: main, name: acme/other}",
        "",
    );
    let mount = sandbox.mount();
    let text = sandbox.succeed(&["status"]);
    for label in ["acme/base@main", "acme/base@next", "acme/base@none", "acme/other"] {
        assert!(text.contains(&format!("\n  {label} ")), "{label}: {text}");
    }
    assert!(text.contains("cure for `acme/base@none`: set `ref`"), "{text}");
    let status = sandbox.succeed(&["status", "view", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["sources"][1]["name"], "acme/base");
    assert_eq!(status["sources"][1]["label"], "acme/base@next");
    assert!(status["sources"][3]["label"].is_null(), "{status}");
    let mut asking = sandbox.overlay(&["explain", "view/acme/other"]);
    let asking = asking.env("OVERLAYFS_MOUNT_RUN_DIR", sandbox.path("none")).output().unwrap();
    let told = String::from_utf8(asking.stdout).unwrap();
    assert!(told.starts_with("acme/other comes from acme/other\n"), "{told}");
    mount.unmount();
    // A cache that cannot be written to is trouble of them all.
    sandbox.shell("mkdir repos/.overlayfs-mount-sync.lock");
    let mount = sandbox.mount_with(&["--sync"]);
    wait_for("the first round", || sandbox.succeed(&["status"]).matches(" stale ").count() == 3);
    mount.unmount();
}
