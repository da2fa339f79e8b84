//! A worker that runs and answers nobody is replaced; one that is slow is not.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::deaths::stop_threads;
use crate::fixture::{Mount, Sandbox, can_mount, has_program, wait_for};
use crate::views::{is_there, serve_with, view};
use crate::views_keeper::processes;

/// How long nobody has to be answered here, in seconds.
const HANG_SECS: u64 = 2;

fn sample(sandbox: &Sandbox) -> Mount<'_> {
    sandbox.repo("acme/base").skill("plan", "plan\n").commit();
    sandbox.configure("    - {repo: acme/base, ref: main}", "");
    let mut command = sandbox.overlay(&["mount", "--supervised", "--log", "log"]);
    sandbox.mount_by(command.env("OVERLAYFS_MOUNT_HANG_SECS", HANG_SECS.to_string()))
}

fn log(sandbox: &Sandbox) -> String {
    std::fs::read_to_string(sandbox.path("log")).unwrap()
}

#[test]
fn s105_a_worker_that_answers_nobody_is_replaced_and_readers_go_on() {
    if !can_mount() || !has_program("python3", "apt-get install python3") {
        return;
    }
    let sandbox = Sandbox::new();
    let mount = sample(&sandbox);
    let worker = mount.pid();
    let mut stopper = stop_threads(&sandbox, worker, 99);
    // Asks, waits for the next worker, and gets its answer.
    assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/plan/SKILL.md"), "plan\n");
    assert_ne!(mount.pid(), worker);
    assert!(log(&sandbox).contains("the worker answers nobody"), "{}", log(&sandbox));
    stopper.kill().unwrap();
    stopper.wait().unwrap();
    mount.unmount();
}

#[test]
fn s105_a_worker_of_many_views_that_answers_nobody_is_replaced() {
    if !can_mount() || !has_program("python3", "apt-get install python3") {
        return;
    }
    let sandbox = crate::views::sandbox();
    view(&sandbox, "one", &["base"], "");
    view(&sandbox, "told", &["team"], "mount: {at: ../at/told, xattrs: true}\n");
    let mut command = sandbox.overlay(&["mount", "--views", "views", "--supervised"]);
    command.args(["--log", "log"]).env("OVERLAYFS_MOUNT_HANG_SECS", HANG_SECS.to_string());
    let mount = sandbox.mount_by(&mut command);
    let (worker, keeper) = processes(&sandbox).unwrap();
    let mut stopper = stop_threads(&sandbox, worker.try_into().unwrap(), 99);
    let cat = |name: &str| sandbox.shell(&format!("cat at/{name}/.agents/skills/review/SKILL.md"));
    assert_eq!((cat("one"), cat("told")), ("base\n".to_owned(), "team\n".to_owned()));
    let (next, still) = processes(&sandbox).unwrap();
    assert!(next != worker && still == keeper);
    assert!(log(&sandbox).contains("the worker answers nobody"), "{}", log(&sandbox));
    stopper.kill().unwrap();
    stopper.wait().unwrap();
    kill(Pid::from_raw(keeper), Signal::SIGTERM).unwrap();
    wait_for("the end", || !crate::keeper::runs(keeper));
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
    drop(mount);
}

/// The kernel gives the number of a connection that has ended to the next one.
#[test]
fn s105_a_worker_whose_views_came_after_others_had_gone_is_replaced() {
    if !can_mount() || !has_program("python3", "apt-get install python3") {
        return;
    }
    let sandbox = crate::views::sandbox();
    view(&sandbox, "one", &["base"], "");
    let mut command = sandbox.overlay(&["mount", "--views", "views", "--supervised"]);
    command.args(["--log", "log"]).env("OVERLAYFS_MOUNT_HANG_SECS", HANG_SECS.to_string());
    let mount = sandbox.mount_by(&mut command);
    let (_, keeper) = processes(&sandbox).unwrap();
    std::fs::remove_file(sandbox.path("views/one.yaml")).unwrap();
    wait_for("the end of the first", || sandbox.mounts().is_empty());
    view(&sandbox, "one", &["team"], "mount: {at: ../at/one, xattrs: true}\n");
    let cat = || sandbox.shell_output("cat at/one/.agents/skills/review/SKILL.md").stdout;
    wait_for("the next", || cat() == b"team\n" && processes(&sandbox).is_some());
    let (worker, _) = processes(&sandbox).unwrap();
    let mut stopper = stop_threads(&sandbox, worker.try_into().unwrap(), 99);
    // New to the kernel.
    assert!(!sandbox.shell("cat at/one/.overlay/revision").is_empty());
    wait_for("word of the next worker", || {
        processes(&sandbox).is_some_and(|(next, still)| next != worker && still == keeper)
    });
    stopper.kill().unwrap();
    stopper.wait().unwrap();
    kill(Pid::from_raw(keeper), Signal::SIGTERM).unwrap();
    wait_for("the end", || !crate::keeper::runs(keeper));
    drop(mount);
}

#[test]
fn s105_a_keeper_that_cannot_notice_a_hang_says_so() {
    if !can_mount() || !has_program("strace", "apt-get install strace") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").skill("plan", "plan\n").commit();
    sandbox.configure("    - {repo: acme/base, ref: main}", "");
    let mount = sandbox.guard();
    let mut strace = sandbox.command("strace");
    strace.args(["-f", "-qq", "-o", "trace", "-e", "trace=unshare"]);
    strace.args(["-e", "inject=unshare:error=EPERM", env!("CARGO_BIN_EXE_overlayfs-mount")]);
    let mut strace = strace.args(["mount", "-f", "--supervised", "--log", "log"]).spawn().unwrap();
    wait_for("the warning", || {
        let log = std::fs::read_to_string(sandbox.path("log")).unwrap_or_default();
        log.contains("WARN")
            && log.contains("answers nobody will not be replaced")
            && log.contains("os error 1")
    });
    mount.unmount();
    assert!(strace.wait().unwrap().success());
    assert_eq!(log(&sandbox).matches("will not be replaced").count(), 1, "{}", log(&sandbox));
}

#[test]
fn s105_a_worker_that_answers_somebody_is_left_alone() {
    if !can_mount() || !has_program("python3", "apt-get install python3") {
        return;
    }
    let sandbox = Sandbox::new();
    let mount = sample(&sandbox);
    let worker = mount.pid();
    let threads = std::fs::read_dir(format!("/proc/{worker}/task")).unwrap().flatten();
    let answer = |thread: &std::fs::DirEntry| {
        std::fs::read_to_string(thread.path().join("comm"))
            .is_ok_and(|name| name.starts_with("fuser-"))
    };
    let all = threads.filter(answer).count();
    let mut stopper = stop_threads(&sandbox, worker, all - 1);
    let begun = Instant::now();
    let mut read = 0;
    wait_for("twice the time", || {
        let name = format!("stat $VIEW/.agents/skills/none-{read} || cat $VIEW/.overlay/revision");
        assert!(sandbox.shell_output(&name).status.success());
        read += 1;
        begun.elapsed() > Duration::from_secs(2 * HANG_SECS)
    });
    assert_eq!(mount.pid(), worker, "{}", log(&sandbox));
    stopper.kill().unwrap();
    stopper.wait().unwrap();
    mount.unmount();
}

/// The threads of a process that ask a mount whether anybody answers.
fn asking(process: i32) -> usize {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
    let name = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("comm"));
    threads.filter_map(|thread| name(thread).ok()).filter(|name| name.trim() == "asking").count()
}

#[test]
fn s105_nobody_asks_superblocks_that_are_gone() {
    const TIMES: usize = 4;
    if !can_mount() {
        return;
    }
    let sandbox = crate::views::sandbox();
    view(&sandbox, "one", &["base"], "");
    let serving = serve_with(&sandbox, &["--supervised"]);
    let keeper = serving.pid.as_raw();
    wait_for("the first to be asked", || asking(keeper) == 1);
    let come = || {
        view(&sandbox, "told", &["team"], "mount: {at: ../at/told, xattrs: true}\n");
        wait_for("a superblock that comes", || is_there(&sandbox, "at/told/.overlay/revision"));
    };
    for _ in 0..TIMES {
        come();
        std::fs::remove_file(sandbox.path("views/told.yaml")).unwrap();
        wait_for("its end", || !is_there(&sandbox, "at/told/.overlay/revision"));
    }
    come();
    wait_for("two to be asked", || asking(keeper) == 2);
    serving.end();
}
