//! `exec`: a command in a name space of its own, as root and as an ordinary user.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fixture::{Sandbox, can_mount, has_program, wait_for};
use crate::users::{as_ordinary_user, assert_says};

fn simple() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").skill("review", "base\n").commit();
    sandbox.configure("    - repo: acme/base", "");
    sandbox
}

/// What is left of a sandbox's own is what was there before.
fn assert_nothing_left(sandbox: &Sandbox) {
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
    for name in ["view", "state", "run/ours"] {
        assert!(!sandbox.path(name).exists(), "`{name}` is left");
    }
}

#[test]
fn the_exit_status_is_the_commands() {
    if !can_mount() {
        return;
    }
    let sandbox = simple();
    let status = |arguments: &[&str]| {
        let mut all = vec!["exec"];
        all.extend(arguments);
        let output = sandbox.overlay(&all).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(status(&["--", "true"]), (Some(0), String::new()));
    assert_eq!(status(&["sh", "-c", "exit 7"]), (Some(7), String::new()));
    assert_eq!(status(&["--", "sh", "-c", "kill -TERM $$"]), (Some(143), String::new()));
    assert_eq!(status(&["--", "sh", "-c", "kill -KILL $$"]), (Some(137), String::new()));
    let (code, said) = status(&["--", "no-such-program"]);
    assert_eq!(code, Some(127), "{said}");
    assert!(said.contains("`no-such-program` cannot be run"), "{said}");
    let (code, said) = status(&["--", "./overlays.yaml"]);
    assert_eq!(code, Some(126), "{said}");
    for wrong in [&["-c", "none.yaml", "--", "true"][..], &["--none", "--", "true"], &[]] {
        let (code, said) = status(wrong);
        assert_eq!(code, Some(125), "{wrong:?}: {said}");
        assert!(said.contains("error: "), "{wrong:?}: {said}");
    }
    fs::write(sandbox.path("file"), "").unwrap();
    let (code, said) = status(&["--at", "file/below", "--", "true"]);
    assert_eq!(code, Some(125), "{said}");
    assert!(said.contains("is not a directory") && said.contains("cure: "), "{said}");
    assert_nothing_left(&sandbox);
}

#[test]
fn the_command_keeps_what_its_caller_gave_it() {
    if !can_mount() {
        return;
    }
    let sandbox = simple();
    fs::create_dir(sandbox.path("below")).unwrap();
    let said = sandbox.shell(
        r#"
        cd below
        PROGRAM=$(command -v "$0" || true)
        echo kept >../seven
        exec 7<../seven 8>../eight
        printf input | WITH='a b' "$OVERLAY" exec -c ../overlays.yaml -- sh -euc '
            cat; echo; echo "$WITH"; cat <&7; echo eight >&8; pwd; id -u; id -G
            ps -o pgid= -p $$ | tr -d " " >group; ps -o pgid= -p $PPID | tr -d " " | cmp - group
            env | grep -c LAUNCHED || true
            grep -c . /proc/self/mountinfo >/dev/null
            cat ../view/.agents/skills/review/SKILL.md
        '
        cat ../eight
        "#
        .replace("$OVERLAY", env!("CARGO_BIN_EXE_overlayfs-mount"))
        .as_str(),
    );
    let ids = sandbox.shell("id -u; id -G");
    let below = sandbox.path("below").canonicalize().unwrap();
    let skill = fs::read_to_string(sandbox.path("repos/acme/base/.agents/skills/review/SKILL.md"));
    let expected =
        format!("input\na b\nkept\n{}\n{ids}0\n{}eight\n", below.display(), skill.unwrap());
    assert_eq!(said, expected);
    assert_nothing_left(&sandbox);
}

/// Starts a shell script in the view; returns when it has said `ready`.
fn start(sandbox: &Sandbox, script: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut command = sandbox.overlay(&["exec", "--", "sh", "-c", script]);
    // A group of its own: what is sent to the group of the tests must not count.
    let mut child = command.process_group(0).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    (child, output)
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

#[test]
fn signals_reach_the_command_once() {
    if !can_mount() {
        return;
    }
    let sandbox = simple();
    for signal in [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGWINCH,
    ] {
        let name = signal.as_str().trim_start_matches("SIG");
        let script = format!(
            "trap 'echo got; n=1' {name}; echo ready; while [ -z \"$n\" ]; do sleep 0.02; done; exit 9"
        );
        let (mut child, mut output) = start(&sandbox, &script);
        kill(pid(&child), signal).unwrap();
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        assert_eq!((rest.as_str(), child.wait().unwrap().code()), ("got\n", Some(9)), "{signal}");
    }
    let (mut child, _output) = start(&sandbox, "echo ready; exec sleep 60");
    kill(pid(&child), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert_nothing_left(&sandbox);
}

#[test]
fn ignored_signals_stay_ignored() {
    if !can_mount() {
        return;
    }
    let sandbox = simple();
    let program = env!("CARGO_BIN_EXE_overlayfs-mount");
    let script = format!(
        "trap '' HUP CHLD; {program} exec -- sh -c 'kill -HUP $$ $PPID; echo on; exit 3' || echo $?"
    );
    assert_eq!(sandbox.shell(&script), "on\n3\n");
    assert_nothing_left(&sandbox);
}

#[test]
fn a_key_of_the_terminal_reaches_the_command_once() {
    if !can_mount() || !has_program("script", "apt-get install bsdutils") {
        return;
    }
    let sandbox = simple();
    let script = "trap \"echo got\" INT; test -t 0 && echo ready; \
                  for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.05; done; echo end";
    let inner = format!("{} exec -- sh -c '{script}'", env!("CARGO_BIN_EXE_overlayfs-mount"));
    let mut command = sandbox.command("script");
    command.args(["-qec", &inner, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line.trim_end(), "ready");
    let mut keys = child.stdin.take().unwrap();
    keys.write_all(b"\x03").unwrap();
    keys.flush().unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    drop(keys);
    child.wait().unwrap();
    assert_eq!(rest.matches("got").count(), 1, "{rest}");
    assert!(rest.contains("end"), "{rest}");
    assert_nothing_left(&sandbox);
}

/// The numbers of all processes with a child's number in their ancestry or working for it, as `/proc` has them.
fn children(parent: u32) -> Vec<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

fn runs(pid: u32) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !(state.is_empty() || state.contains(") Z "))
}

#[test]
fn nothing_is_left_when_it_is_killed() {
    if !can_mount() {
        return;
    }
    let sandbox = simple();
    let (mut child, _output) = start(&sandbox, "echo ready; exec sleep 60");
    let all = children(child.id());
    assert_eq!(all.len(), 2, "the daemon and the command: {all:?}");
    assert!(sandbox.view().exists());
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("the end of daemon and command", || !all.iter().any(|pid| runs(*pid)));
    assert_nothing_left(&sandbox);
}

#[test]
fn what_the_command_left_behind_finds_nothing_any_more() {
    if !can_mount() {
        return;
    }
    let sandbox = simple();
    let program = env!("CARGO_BIN_EXE_overlayfs-mount");
    let script = format!(
        r#"
        mkdir view
        {program} exec -- sh -c '
            (cd view/.agents; touch "$HOME/held"
             while [ -e "$VIEW/.agents" ]; do sleep 0.02; done; ls -A "$VIEW"
             # The daemon ends a moment later, and with it what is held and not cached.
             n=0; while ls skills/no-such-name-$n 2>&1 | grep -q "No such file"; do n=$((n + 1)); sleep 0.02; done
             touch "$HOME/done") &
            while [ ! -e "$HOME/held" ]; do sleep 0.02; done
            exit 4' || echo "$?"
        while [ ! -e "$HOME/done" ]; do sleep 0.02; done
        ls -A view
        "#
    );
    assert_eq!(sandbox.shell(&script), "4\n");
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
}

#[test]
fn a_commit_is_shown_inside() {
    if !can_mount() {
        return;
    }
    let sandbox = simple();
    let script = "echo ready; while ! grep -qs second view/.agents/skills/review/SKILL.md; do sleep 0.05; done; exit 5";
    let (mut child, _output) = start(&sandbox, script);
    sandbox.existing("acme/base").skill("review", "second\n").commit();
    assert_eq!(child.wait().unwrap().code(), Some(5));
    assert_nothing_left(&sandbox);
}

#[test]
fn views_nest_and_hide_the_one_at_their_place() {
    if !can_mount() {
        return;
    }
    let sandbox = simple();
    sandbox.repo("acme/team").skill("plan", "team\n").commit();
    let program = env!("CARGO_BIN_EXE_overlayfs-mount");
    let inner =
        format!("{program} exec --source repos/acme/team --at view -- ls view/.agents/skills");
    let mount = sandbox.mount();
    let script = format!(
        "{program} exec -- sh -c 'ls view/.agents/skills; {inner}; ls view/.agents/skills'; ls view/.agents/skills"
    );
    assert_eq!(sandbox.shell(&script), "review\nplan\nreview\nreview\n");
    mount.unmount();
}

#[test]
fn two_at_one_new_place_do_not_take_it_from_each_other() {
    if !can_mount() {
        return;
    }
    let sandbox = simple();
    let (mut first, _output) = start(&sandbox, "echo ready; exec sleep 60");
    let script =
        "echo ready; read line; cat view/.agents/skills/review/SKILL.md >/dev/null && echo read";
    let mut command = sandbox.overlay(&["exec", "--", "sh", "-c", script]);
    let mut second = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(second.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    kill(pid(&first), Signal::SIGTERM).unwrap();
    first.wait().unwrap();
    second.stdin.take().unwrap().write_all(b"\n").unwrap();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\nread\n");
    assert!(second.wait().unwrap().success());
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
}

#[test]
fn s113_the_views_of_exec_are_asked_inside_and_by_nobody_else() {
    if !can_mount() {
        return;
    }
    let sandbox = simple();
    sandbox.repo("acme/team").skill("plan", "team\n").commit();
    let sources = r#""$OVERLAY" status "$@" | grep -o "^  [a-z]*/[a-z]*""#;
    fs::write(sandbox.path("sources"), sources).unwrap();
    let script = r#"
        "$OVERLAY" exec -- sh -euc '
            "$OVERLAY" status | grep -o " ready$"
            sh sources view
            "$OVERLAY" explain view/.agents/skills/review | grep -o "comes from .*"
            "$OVERLAY" reload | cut -c 1-9
            (cd repos/acme/base; git rm -qr .agents; git commit -qm gone)
            "$OVERLAY" reload view >/dev/null; test -e view/.agents/skills/review || echo gone
            # Another view inside: both are known, by their places.
            "$OVERLAY" exec --source repos/acme/team --at other -- sh -euc "sh sources other; sh sources view"
            env -u OVERLAYFS_MOUNT_EXEC_SOCKETS "$OVERLAY" status view 2>&1 | grep -o "has to keep.*SOCKETS"
            # Another user.
            if test "$(id -u)" = 0; then
                cp "$OVERLAY" "$OUTSIDE/program"; cd /
                setpriv --reuid 1 --regid 1 --clear-groups "$OUTSIDE/program" status 2>&1 | grep -o "closed to this user" || true
            fi
            "$OVERLAY" status | grep -c " ready$"
            echo "$OVERLAYFS_MOUNT_EXEC_SOCKETS" >"$HOME/left"'
        "$OVERLAY" status
        OVERLAYFS_MOUNT_EXEC_SOCKETS=$(cat "$HOME/left") "$OVERLAY" status
    "#;
    let outside = tempfile::tempdir().unwrap();
    fs::set_permissions(outside.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = sandbox.command("timeout");
    command.args(["60", "sh", "-euc", script]).env("OUTSIDE", outside.path());
    let output = command.env("OVERLAY", env!("CARGO_BIN_EXE_overlayfs-mount")).output().unwrap();
    let stranger = if nix::unistd::geteuid().is_root() { "closed to this user\n" } else { "" };
    let expected = format!(
        " ready\n  acme/base\ncomes from acme/base\nunchanged\ngone\n  local/team\n  acme/base\n\
         has to keep its OVERLAYFS_MOUNT_EXEC_SOCKETS\n{stranger}1\nnothing is mounted\nnothing is mounted\n"
    );
    assert_says(&output, &expected);
    assert_nothing_left(&sandbox);
}

#[test]
fn s113_an_ordinary_user_asks_the_view_inside_too() {
    if !can_mount() {
        return;
    }
    let script = r#"
        mkdir -p source/tools && echo content > source/tools/file
        /tmp/overlayfs-mount exec --source /tmp/source --at /usr/agent/github -- sh -euc '
            /tmp/overlayfs-mount status /usr/agent/github | grep -o " ready$"
            /tmp/overlayfs-mount explain /usr/agent/github/tools/file | grep -o "comes from.*"
            /tmp/overlayfs-mount reload | cut -c 1-9'
        ls -A /tmp
    "#;
    user_says(
        script,
        " ready\ncomes from local/source\nunchanged\nfuse\noverlayfs-mount\nsource\n",
    );
}

/// Fails with 77 where users have no user name spaces.
const NEED_NAMESPACES: &str =
    "if ! unshare --user --mount true 2>said; then cat said >&2; exit 77; fi; rm -f said\n";

/// Runs a script as an ordinary user; `false`, loudly, where this machine does not let it.
fn user_says(script: &str, expected: &str) -> bool {
    let sandbox = Sandbox::new();
    let script = format!("{NEED_NAMESPACES}{script}");
    let Some(output) = as_ordinary_user(&sandbox, &script) else { return false };
    if output.status.code() == Some(77) {
        eprintln!("SKIPPED: this machine has no user namespaces for users");
        return false;
    }
    assert_says(&output, expected);
    true
}

#[test]
fn an_ordinary_user_needs_no_home_no_fusermount_and_no_parent_of_the_mount_point() {
    if !can_mount() {
        return;
    }
    // `/usr` cannot be written to, and the working directory lies in what is replaced.
    let script = r"
        export FUSERMOUNT_PATH=/nonexistent
        mkdir -p source/tools && echo content > source/tools/file
        ls -A /usr >before
        cd /usr/share
        /tmp/overlayfs-mount exec --source /tmp/source --at /usr/agent/github -- sh -euc '
            pwd; id -u; id -g; grep CapEff /proc/self/status
            cat /usr/agent/github/tools/file
            ls -A /usr | grep -vx agent | cmp - /tmp/before
            ls -d ../agent
            test -x /usr/bin/env && env true
            if touch /usr/x 2>/dev/null; then echo written; fi
            echo more >/tmp/mine
        '
        ls -d /usr/agent 2>/dev/null || echo gone
        cat /tmp/mine
        ls -A /tmp
    ";
    let expected = "/usr/share\n65534\n65534\nCapEff:\t0000000000000000\ncontent\n../agent\ngone\nmore\n\
                    before\nfuse\nmine\noverlayfs-mount\nsource\n";
    user_says(script, expected);
}

#[test]
fn an_ordinary_user_gets_a_mount_point_below_a_root_without_its_directory() {
    if !can_mount() {
        return;
    }
    let script = r#"
        mkdir -p source/tools && echo content > source/tools/file
        ls -A / >before
        awk '{print $5}' /proc/self/mountinfo | grep -v ^/tmp/ | sort -u >mounts
        /tmp/overlayfs-mount exec --source ./source --at /overlayfs-mount-it/a/b -- sh -euc '
            pwd
            cat /overlayfs-mount-it/a/b/tools/file
            ls -A / | grep -vx overlayfs-mount-it | cmp - before
            awk "{print \$5}" /proc/self/mountinfo | sort -u >inside
            comm -23 mounts inside
            echo more >mine
            # Again, in what was made, and below another name.
            ./overlayfs-mount exec --source ./source --at /overlayfs-mount-it/a/b -- \
                ./overlayfs-mount exec --source ./source --at /overlayfs-mount-it2/c -- \
                cat /overlayfs-mount-it/a/b/tools/file /overlayfs-mount-it2/c/tools/file
        '
        cat mine
        ls -d /overlayfs-mount-it* 2>/dev/null || echo gone
        ls -A
    "#;
    let expected = "/tmp\ncontent\ncontent\ncontent\nmore\ngone\nbefore\nfuse\ninside\nmine\nmounts\noverlayfs-mount\nsource\n";
    user_says(script, expected);
}

#[test]
fn what_forbids_a_name_space_is_said_with_its_cure() {
    if !can_mount() {
        return;
    }
    let sandbox = simple();
    let program = env!("CARGO_BIN_EXE_overlayfs-mount");
    // Root of a name space in which no further one may be made, without any capability.
    let script = format!(
        "echo 0 > /proc/sys/user/max_user_namespaces; \
         exec setpriv --bounding-set -all --inh-caps -all {program} exec -- true"
    );
    let output = sandbox.command("unshare").args(["-Ur", "sh", "-euc", &script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.starts_with("unshare") || said.contains("setpriv:") {
        eprintln!("SKIPPED: {said}");
        return;
    }
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(said.contains("unshare: ") && said.contains("user.max_user_namespaces is 0"), "{said}");
    assert!(said.contains("cure: sysctl user.max_user_namespaces"), "{said}");
    assert!(!Path::new(&sandbox.view()).exists());
}

#[test]
fn root_gets_a_mount_point_below_what_is_read_only_and_without_cap_sys_admin() {
    if !can_mount() {
        return;
    }
    let sandbox = simple();
    let program = env!("CARGO_BIN_EXE_overlayfs-mount");
    let script = format!(
        r"
        mkdir -p fixed/there; echo kept >fixed/file; ln -s file fixed/link
        mount --bind fixed fixed; mount -o remount,bind,ro fixed
        mount -t tmpfs tmpfs fixed/there; cd fixed/there
        {program} exec -c ../../overlays.yaml --at ../a/b -- sh -euc '
            pwd; cat ../file ../link; echo written >new; cat ../a/b/.overlay/revision | wc -c; ls ..'
        cat new; ls ..
        cd ../..
        # As root of most containers: a user name space is made, and root stays root.
        setpriv --bounding-set -sys_admin --inh-caps -all {program} exec --at new/place -- sh -euc '
            id -u; id -g; cat new/place/.agents/skills/review/SKILL.md >/dev/null; stat -c %u overlays.yaml'
        ls -d new 2>/dev/null || echo gone
        "
    );
    let mut command = sandbox.command("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-euc", &script]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("unshare:") {
        eprintln!("SKIPPED: {said}");
        return;
    }
    let there = sandbox.path("fixed/there").canonicalize().unwrap();
    let expected = format!(
        "{}\nkept\nkept\n65\na\nfile\nlink\nthere\nwritten\nfile\nlink\nthere\n0\n0\n0\ngone\n",
        there.display()
    );
    assert_says(&output, &expected);
}
