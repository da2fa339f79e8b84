//! Mounting and unmounting.

use std::io::Read;
use std::process::Stdio;

use crate::fixture::{Sandbox, can_mount, has_program, wait_for};

fn simple() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").skill("review", "base\n").commit();
    sandbox.configure("    - repo: acme/base", "");
    sandbox
}

#[test]
fn s21_the_mount_shows_its_type_its_configuration_and_that_it_is_read_only() {
    if !can_mount() {
        return;
    }
    let sandbox = simple();
    let mount = sandbox.mount();
    let mounts = sandbox.mounts();
    assert_eq!(mounts.len(), 1, "{mounts:?}");
    let line = &mounts[0];
    let configuration = sandbox.path("overlays.yaml").canonicalize().unwrap();
    let expected = format!(" - fuse.overlayfs-mount {} ", configuration.display());
    assert!(line.contains(&expected), "{line}");
    let options = line.split(' ').nth(5).unwrap();
    for option in ["ro", "nosuid", "nodev"] {
        assert!(options.split(',').any(|known| known == option), "{line}");
    }
    assert!(line.contains("default_permissions"), "{line}");
    mount.unmount();
}

#[test]
fn a_pipe_on_the_callers_output_sees_its_end_when_mount_returns() {
    if !can_mount() {
        return;
    }
    let sandbox = simple();
    let mut child =
        sandbox.overlay(&["mount"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    // These return only when every copy of the pipes is closed.
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
    assert_eq!(said, "");
    let pid = sandbox.succeed(&["status", "view", "--json"]);
    let pid = serde_json::from_str::<serde_json::Value>(&pid).unwrap()["pid"].as_u64().unwrap();
    let cwd = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
    assert_eq!(cwd.to_str(), Some("/"));
    sandbox.succeed(&["unmount", "view"]);
    // Whoever adopts the orphan may take a moment to collect it; it must not run.
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "the daemon has ended: {state}");
    assert!(!sandbox.view().exists(), "the mount point that mount made is removed");
}

#[test]
fn the_daemon_has_nothing_of_its_caller() {
    if !can_mount() {
        return;
    }
    let sandbox = simple();
    // With an open file, and a signal put off that ends a daemon.
    let script = "exec 7<overlays.yaml; exec env --block-signal=TERM \"$0\" mount";
    let status = sandbox
        .command("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_overlayfs-mount")])
        .status()
        .unwrap();
    assert!(status.success());
    let pid = sandbox.succeed(&["status", "view", "--json"]);
    let pid = serde_json::from_str::<serde_json::Value>(&pid).unwrap()["pid"].as_u64().unwrap();
    let of_daemon = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
    for number in 0..3 {
        let place = format!("/proc/{pid}/fd/{number}");
        // It says that it is ready before it lets go of standard error.
        wait_for("the last descriptors of the caller to be gone", || {
            std::fs::read_link(&place).is_ok_and(|target| target.to_str() == Some("/dev/null"))
        });
    }
    for open in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        let target = std::fs::read_link(open.path()).unwrap_or_default();
        assert!(!target.ends_with("overlays.yaml"), "{}", open.path().display());
    }
    let status = of_daemon("status");
    let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    assert_eq!(value("SigBlk:"), Some("0000000000000000"), "{status}");
    assert_eq!(value("NSsid:"), Some(&*pid.to_string()), "{status}");
    assert_eq!(of_daemon("comm").trim(), "overlayfs-mount");
    sandbox.succeed(&["unmount", "view"]);
}

#[test]
fn a_busy_mount_is_refused_with_the_names_of_its_holders() {
    if !can_mount() {
        return;
    }
    let sandbox = simple();
    let mount = sandbox.mount();
    let mut holder =
        sandbox.command("sleep").arg("60").current_dir(sandbox.path("view/tools")).spawn().unwrap();
    let said = sandbox.fail(1, &["unmount", "view"]);
    assert!(said.contains("sleep") && said.contains(&holder.id().to_string()), "{said}");
    assert!(said.contains("cure: "), "{said}");
    holder.kill().unwrap();
    holder.wait().unwrap();
    mount.unmount();
}

#[test]
fn who_unmounts_from_a_shell_in_the_mount_is_no_holder() {
    if !can_mount() {
        return;
    }
    let sandbox = simple();
    let mount = sandbox.mount();
    // The program gets the shell's directory, its standard input and its open file.
    let script = format!(
        "cd $VIEW/tools; exec 7<$VIEW/.agents/skills/review/SKILL.md; {} unmount $VIEW <&7",
        env!("CARGO_BIN_EXE_overlayfs-mount")
    );
    let output = sandbox.shell_output(&script);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("sh (pid "), "{said}");
    assert!(!said.contains("overlayfs-mount (pid "), "{said}");
    // Alone it is nobody's.
    let script = script.replace("7<", "8<").replace("<&7", "<&8").replace("; /", "; exec /");
    let output = sandbox.shell_output(&script);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    drop(mount);
}

/// As `doctor` does with all views of the machine. Of thirty times some would be met in a look-up.
#[test]
fn who_looks_whether_a_view_answers_keeps_nobody_from_unmounting() {
    if !can_mount() || !has_program("python3", "apt-get install python3") {
        return;
    }
    let sandbox = simple();
    let looking = "import os, sys, time\n\
                   while os.path.isdir(os.path.dirname(sys.argv[1])):\n\
                   \x20   for i in range(5):\n\
                   \x20       try: os.lstat(f'{sys.argv[1]}/.{time.time_ns()}')\n\
                   \x20       except OSError: pass\n\
                   \x20   time.sleep(0.005)\n";
    let mut command = sandbox.command("python3");
    let mut looker = command.args(["-c", looking]).arg(sandbox.view()).spawn().unwrap();
    for _ in 0..30 {
        let mount = sandbox.mount();
        mount.unmount();
    }
    looker.kill().unwrap();
    looker.wait().unwrap();
}

#[test]
fn a_dead_mount_is_replaced_and_can_be_unmounted() {
    if !can_mount() {
        return;
    }
    let sandbox = simple();
    let first = sandbox.mount();
    kill(first.pid());
    let output = sandbox.shell_output("cat \"$VIEW/.agents/skills/review/SKILL.md\"");
    assert!(!output.status.success());
    // Mounting again replaces it.
    sandbox.succeed(&["mount"]);
    assert_eq!(sandbox.mounts().len(), 1);
    assert_eq!(sandbox.shell("cat \"$VIEW/.agents/skills/review/SKILL.md\""), "base\n");
    kill(first.pid());
    first.unmount();
}

fn kill(pid: u32) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    wait_for("the daemon is gone", || nix::sys::signal::kill(pid, None).is_err());
}

#[test]
fn a_second_mount_on_the_same_place_is_refused() {
    if !can_mount() {
        return;
    }
    let sandbox = simple();
    let mount = sandbox.mount();
    let said = sandbox.fail(1, &["mount"]);
    assert!(said.contains("view") && said.contains("cure: "), "{said}");
    assert_eq!(sandbox.mounts().len(), 1);
    mount.unmount();
}

#[test]
fn a_foreground_mount_ends_on_sigterm_and_leaves_nothing() {
    if !can_mount() {
        return;
    }
    let sandbox = simple();
    let mut child = sandbox.overlay(&["mount", "-f"]).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the mount", || !sandbox.mounts().is_empty());
    wait_for("the view", || {
        sandbox.shell_output("cat \"$VIEW/.agents/skills/review/SKILL.md\"").stdout == b"base\n"
    });
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
}

#[test]
fn the_mount_helpers_grammar_mounts_too() {
    if !can_mount() {
        return;
    }
    let sandbox = simple();
    std::fs::create_dir(sandbox.view()).unwrap();
    let configuration = sandbox.path("overlays.yaml");
    let configuration = configuration.to_str().unwrap();
    let mount = sandbox.mount_helper(&[
        configuration,
        "view",
        "-o",
        "rw,sync,lazytime,_netdev,x-systemd.automount,noexec,allow_other",
    ]);
    assert_eq!(sandbox.shell("cat \"$VIEW/.agents/skills/review/SKILL.md\""), "base\n");
    assert!(sandbox.mounts()[0].contains("noexec"), "{:?}", sandbox.mounts());
    mount.unmount();
    let output = sandbox.overlay(&[configuration, "view", "-o", "allow_otter"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("allow_otter"));
}

#[test]
fn s25_writing_of_any_kind_gives_erofs() {
    if !can_mount() {
        return;
    }
    let sandbox = simple();
    let mount = sandbox.mount();
    for script in [
        "echo x > \"$VIEW/new\"",
        "echo x > \"$VIEW/.agents/skills/review/SKILL.md\"",
        "mkdir \"$VIEW/tools/new\"",
        "rm \"$VIEW/.agents/skills/review/SKILL.md\"",
        "rmdir \"$VIEW/tools\"",
        "chmod 777 \"$VIEW/tools\"",
        "mv \"$VIEW/tools\" \"$VIEW/other\"",
        "ln -s x \"$VIEW/tools/link\"",
        "touch -c \"$VIEW/tools\"",
    ] {
        let output = sandbox.shell_output(script);
        assert!(!output.status.success(), "{script}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("Read-only file system"), "{script}: {said}");
    }
    // Programs that ask first are told so too, whatever the permission bits say.
    sandbox.shell("test ! -w \"$VIEW\"; test ! -w \"$VIEW/.agents/skills/review/SKILL.md\"");
    mount.unmount();
}

#[test]
fn s1_nothing_is_mounted_when_a_required_source_is_missing() {
    if !can_mount() {
        return;
    }
    let sandbox = simple();
    sandbox.configure("    - repo: acme/base\n    - repo: acme/gone", "");
    let said = sandbox.fail(1, &["mount"]);
    assert!(said.contains("acme/gone") && said.contains("cure: "), "{said}");
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
    assert!(!sandbox.view().exists());
}

#[test]
fn names_with_control_characters_reach_no_terminal() {
    if !can_mount() {
        return;
    }
    let sandbox = simple();
    let point = sandbox.path("a\n\u{1b}[31mb");
    let point = point.to_str().unwrap();
    let mount = sandbox.mount_with(&[point]);
    for arguments in [&["status"][..], &["status", point]] {
        let text = sandbox.succeed(arguments);
        assert!(text.contains("a\\x0a\\x1b[31mb") && !text.contains('\u{1b}'), "{text}");
    }
    let said = sandbox.fail(1, &["mount", point]);
    assert!(!said.contains('\u{1b}'), "{said}");
    sandbox.succeed(&["unmount", point]);
    drop(mount);
}

#[test]
fn a_view_of_which_something_is_bound_elsewhere_is_in_use() {
    if !can_mount() || !nix::unistd::geteuid().is_root() {
        return;
    }
    let sandbox = simple();
    let mount = sandbox.mount();
    sandbox.shell(
        "mkdir bound; mount --bind $VIEW/.overlay/revisions/$(cat $VIEW/.overlay/revision) bound",
    );
    let said = sandbox.fail(1, &["unmount", "view"]);
    assert!(said.contains("is in use by bind mount `"), "{said}");
    assert!(said.contains("cure: ") && said.contains("unmount what is named"), "{said}");
    // It is as it was.
    assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/review/SKILL.md"), "base\n");
    sandbox.shell("umount bound");
    mount.unmount();
}
