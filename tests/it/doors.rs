//! What users meet when something else has gone wrong: a daemon that was stopped, a disk that is full, a directory that is gone.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;

use crate::fixture::{Sandbox, can_mount, wait_for};
use crate::naming::signal;
use crate::views::{serve_with, view};

#[test]
fn s150_a_daemon_that_does_not_end_is_said_by_its_number_with_the_cure() {
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
        move || {
            let output = command.output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{said}");
            said
        }
    });
    let [one, of_many] = unmounting.map(thread::spawn).map(|asking| asking.join().unwrap());
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

#[test]
fn s152_a_working_directory_that_was_removed_is_said_and_no_other_is_taken_for_it() {
    let sandbox = Sandbox::new();
    let absolute = sandbox.path("overlays.yaml");
    sandbox.configure("    - {path: /etc, name: me/etc}", "");
    let program = env!("CARGO_BIN_EXE_overlayfs-mount");
    let gone = |arguments: &str| {
        let script = format!("mkdir gone; cd gone; rmdir ../gone; exec {program} {arguments}");
        let output = sandbox.shell_output(&script);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for (arguments, status) in [
        ("check", 2),
        ("check -c overlays.yaml", 2),
        // There is such a directory in the root.
        ("check --source ./etc", 2),
        ("mount --source ./etc view", 2),
        ("exec --source ./etc -- true", 125),
        ("explain tools", 1),
        ("unmount view", 1),
        ("status view", 1),
        ("wait --timeout 0 view", 1),
        ("man --into manual", 1),
    ] {
        let (code, said) = gone(arguments);
        assert_eq!(code, Some(status), "{arguments}: {said}");
        assert!(said.starts_with("error: "), "{arguments}: {said}");
        let note = "note: the working directory was removed, and relative paths lead nowhere\n  cure: cd to one";
        assert!(said.contains(note), "{arguments}: {said}");
    }
    let (code, said) = gone(&format!("check -c {}", absolute.display()));
    assert_eq!((code, said.as_str()), (Some(0), ""));
}

#[test]
fn s153_output_that_cannot_be_written_is_a_failure_and_a_reader_that_left_is_none() {
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").skill("plan", "one\n").commit();
    sandbox.configure("    - {repo: acme/base, ref: main}", "");
    for arguments in [
        "--version",
        "--help",
        "mount --help",
        "completions bash",
        "man",
        "config schema",
        "check",
        "check --json",
        "ls",
        "explain tools",
        "env",
        "status",
        "doctor --json",
    ] {
        let program = env!("CARGO_BIN_EXE_overlayfs-mount");
        let output = sandbox.shell_output(&format!("{program} {arguments} >/dev/full"));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments}: {said}");
        assert!(said.starts_with("error: writing the output: No space left"), "{said}");
        assert!(said.contains("\n  cure: "), "{said}");
        let left = format!("{{ {program} {arguments}; echo $? >status; }} | :; cat status");
        let output = sandbox.shell_output(&left);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.stdout.as_slice(), said.as_str()), (&b"0\n"[..], ""), "{arguments}");
    }
}

#[test]
fn s154_a_demo_that_a_signal_ends_leaves_nothing() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.shell("mkdir tmp");
    let is_gone = |pid: u32| {
        // The daemon of the demo has its directory in its arguments.
        let of_demo = format!("{}/tmp/overlayfs-mount-demo-", sandbox.path("").display());
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let arguments = |entry: fs::DirEntry| fs::read(entry.path().join("cmdline")).ok();
        let mut arguments = processes.filter_map(arguments);
        let runs = arguments.any(|all| String::from_utf8_lossy(&all).contains(&of_demo));
        assert!(!runs, "something of demo {pid} runs");
        assert_eq!(sandbox.mounts(), Vec::<String>::new());
        assert_eq!(fs::read_dir(sandbox.path("tmp")).unwrap().count(), 0);
    };
    // As a terminal sends it: to all of the process group.
    for (signal, number, to_all) in [("-TERM", 15, false), ("-INT", 2, true), ("-HUP", 1, true)] {
        for moment in ["git repositories", "overlays.yaml", "The union", "tools/slack", "pushes"] {
            let mut command = sandbox.overlay(&["demo"]);
            command.env("TMPDIR", sandbox.path("tmp")).process_group(0);
            let mut demo = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
            let pid = demo.id();
            let mut said = BufReader::new(demo.stderr.take().unwrap());
            let mut line = String::new();
            while !line.contains(moment) {
                line.clear();
                assert_ne!(said.read_line(&mut line).unwrap(), 0, "{moment}");
            }
            let to = if to_all { format!("-{pid}") } else { pid.to_string() };
            assert!(Command::new("kill").args([signal, "--", &to]).status().unwrap().success());
            let mut rest = String::new();
            said.read_to_string(&mut rest).unwrap();
            let status = demo.wait().unwrap();
            assert!(
                matches!(status.code(), Some(code) if code == 128 + number || code == 0),
                "{status}: {rest}"
            );
            is_gone(pid);
        }
    }
}
