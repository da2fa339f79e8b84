//! The worker that serves many views has given up what it does not need, and another process mounts for it.

use std::fs;
use std::os::unix::fs::symlink;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::confinement::assert_confined;
use crate::fixture::{Sandbox, can_take_over, wait_for};
use crate::keeper::runs;
use crate::views::{error_of, is_there, put, sandbox, serve_with, view};
use crate::views_keeper::{processes, replace};

const SUPERVISED: [&str; 1] = ["--supervised"];

fn status(sandbox: &Sandbox) -> serde_json::Value {
    serde_json::from_str(&sandbox.succeed(&["status", "at/one", "--json"])).unwrap()
}

fn log(sandbox: &Sandbox) -> String {
    fs::read_to_string(sandbox.path("log")).unwrap()
}

fn assert_both_confined(sandbox: &Sandbox) {
    let (worker, keeper) = processes(sandbox).unwrap();
    // CAP_DAC_OVERRIDE: root reads caches of others.
    assert_confined(worker.try_into().unwrap(), keeper.try_into().unwrap(), 1 << 1);
}

/// Who mounts for the workers of a keeper.
fn broker(keeper: i32) -> Option<i32> {
    let children = fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).ok()?;
    let is_it = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let has =
            |name: &[u8]| environment.split(|byte| *byte == 0).any(|entry| entry.starts_with(name));
        has(b"OVERLAYFS_MOUNT_BROKER_OF=") && !has(b"OVERLAYFS_MOUNT_WORKER_OF=")
    };
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(is_it)
}

/// Writes the configuration of a view of one directory.
fn live(sandbox: &Sandbox, name: &str, directory: &str) {
    let text = format!(
        "overlays: {{sources: [{{name: me/live, path: {}}}]}}\nrepoCache: {{path: ../repos}}\n\
         state: {{dir: ../state}}\nmount: {{at: ../at/{name}}}\n",
        sandbox.path(directory).display()
    );
    put(sandbox, name, &text);
}

#[test]
fn s121_the_worker_of_many_views_gives_up_what_it_does_not_need() {
    if !can_take_over() {
        return;
    }
    let sandbox = sandbox();
    view(&sandbox, "one", &["base"], "");
    view(&sandbox, "told", &["base"], "mount: {at: ../at/told, xattrs: true}\n");
    // A ref that leads out of the repository: without confinement it is followed.
    let id = sandbox.existing("acme/team").git(&["rev-parse", "HEAD"]);
    fs::write(sandbox.path("outside"), &id).unwrap();
    symlink(sandbox.path("outside"), sandbox.path("repos/acme/team/.git/refs/heads/out")).unwrap();
    view(&sandbox, "out", &["team"], "");
    sandbox.shell("sed -i 's/repo: acme.team/&, ref: out/' views/out.yaml");
    let mount = serve_with(&sandbox, &SUPERVISED);
    assert_both_confined(&sandbox);
    let told = status(&sandbox);
    assert!(told["confinement"]["landlock"].as_str().unwrap().starts_with("abi "), "{told}");
    assert_eq!(told["confinement"]["seccomp"], "filter", "{told}");
    let said = error_of(&sandbox, "out.yaml");
    assert!(said.contains("refs/heads/out"), "{said}");
    // Views come, change their place and go, and it is the same worker that serves them.
    let before = processes(&sandbox);
    view(&sandbox, "new", &["base", "team"], "");
    wait_for("a view that comes", || is_there(&sandbox, "at/new/tools"));
    view(&sandbox, "new", &["base"], "mount: {at: ../at/deep/down}\n");
    wait_for("its other place", || is_there(&sandbox, "at/deep/down/tools"));
    assert!(!sandbox.path("at/new").exists());
    fs::remove_file(sandbox.path("views/new.yaml")).unwrap();
    wait_for("its end", || !sandbox.path("at/deep").exists());
    assert_eq!(processes(&sandbox), before);
    // The next one is as confined, and takes away what the one before has bound.
    replace(&sandbox);
    assert_both_confined(&sandbox);
    let (worker, _) = processes(&sandbox).unwrap();
    kill(Pid::from_raw(worker), Signal::SIGSTOP).unwrap();
    fs::remove_file(sandbox.path("views/told.yaml")).unwrap();
    // Who is stopped is replaced.
    wait_for("the end of the view", || !sandbox.path("at/told").exists());
    assert!(!log(&sandbox).contains("goes on without it"), "{}", log(&sandbox));
    mount.end();
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
    assert!(!sandbox.path("at/one").exists(), "what was made for it goes with it");
}

#[test]
fn s121_what_a_view_newly_leads_to_is_served_by_another_worker() {
    if !can_take_over() {
        return;
    }
    let sandbox = sandbox();
    view(&sandbox, "one", &["base"], "");
    for name in ["first", "second"] {
        let skill = sandbox.path(format!("live/{name}/.agents/skills/{name}"));
        fs::create_dir_all(&skill).unwrap();
        fs::write(skill.join("SKILL.md"), name).unwrap();
    }
    let mount = serve_with(&sandbox, &SUPERVISED);
    let seen = || sandbox.shell("stat -c '%d %i' at/one at/one/.agents/skills/review/SKILL.md");
    let (inodes, before) = (seen(), processes(&sandbox).unwrap());
    live(&sandbox, "live", "live/first");
    wait_for("the view", || is_there(&sandbox, "at/live/.agents/skills/first/SKILL.md"));
    let after = processes(&sandbox).unwrap();
    assert!(after.0 != before.0 && after.1 == before.1, "{before:?} {after:?}");
    live(&sandbox, "live", "live/second");
    wait_for("the other directory", || {
        is_there(&sandbox, "at/live/.agents/skills/second/SKILL.md")
    });
    assert_ne!(processes(&sandbox).unwrap().0, after.0);
    assert_both_confined(&sandbox);
    assert_eq!(seen(), inodes, "nobody else notices");
    assert!(!log(&sandbox).contains("has died"), "{}", log(&sandbox));
    mount.end();
}

#[test]
fn s122_a_view_in_reach_of_the_worker_is_not_shown_unless_nothing_is_closed() {
    if !can_take_over() {
        return;
    }
    let sandbox = sandbox();
    view(&sandbox, "one", &["base"], "");
    view(&sandbox, "over", &["base"], "mount: {at: ../at/one/tools}\n");
    // It is out of reach, but not the way to it.
    fs::create_dir_all(sandbox.path("state")).unwrap();
    symlink(sandbox.path("at"), sandbox.path("state/link")).unwrap();
    symlink(sandbox.path("state/link"), sandbox.path("elsewhere")).unwrap();
    view(&sandbox, "through", &["base"], "mount: {at: ../elsewhere/through}\n");
    let mount = serve_with(&sandbox, &SUPERVISED);
    for name in ["over.yaml", "through.yaml"] {
        wait_for("word of it", || error_of(&sandbox, name).contains("is in reach of the process"));
    }
    mount.end();
    fs::remove_file(sandbox.path("views/over.yaml")).unwrap();
    let mut command = sandbox.overlay(&["mount", "--views", "views", "--supervised"]);
    let mount = sandbox.mount_by(command.env("OVERLAYFS_MOUNT_CONFINEMENT", "off"));
    let told = status(&sandbox);
    assert!(told["confinement"]["landlock"].as_str().unwrap().starts_with("none: "), "{told}");
    assert!(is_there(&sandbox, "at/through/tools"));
    let (_, keeper) = processes(&sandbox).unwrap();
    kill(Pid::from_raw(keeper), Signal::SIGTERM).unwrap();
    wait_for("the end", || !runs(keeper));
    drop(mount);
}

#[test]
fn s123_a_broker_that_dies_is_replaced_and_the_last_one_outlives_the_keeper() {
    if !can_take_over() {
        return;
    }
    let sandbox = sandbox();
    view(&sandbox, "one", &["base"], "");
    view(&sandbox, "two", &["base"], "");
    view(&sandbox, "told", &["base"], "mount: {at: ../at/told, xattrs: true}\n");
    let mount = serve_with(&sandbox, &SUPERVISED);
    let (worker, keeper) = processes(&sandbox).unwrap();
    let first = broker(keeper).unwrap();
    // What ends a daemon is not for it.
    kill(Pid::from_raw(first), Signal::SIGTERM).unwrap();
    kill(Pid::from_raw(first), Signal::SIGINT).unwrap();
    view(&sandbox, "three", &["base"], "");
    wait_for("a view that comes", || is_there(&sandbox, "at/three/tools"));
    assert_eq!(broker(keeper), Some(first));
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    wait_for("another one", || broker(keeper).is_some_and(|next| next != first));
    // It knows what the one before has bound.
    for name in ["two", "told"] {
        fs::remove_file(sandbox.path(format!("views/{name}.yaml"))).unwrap();
        wait_for("the end of a view", || !is_there(&sandbox, &format!("at/{name}/tools")));
    }
    view(&sandbox, "four", &["team"], "");
    wait_for("a view that comes", || is_there(&sandbox, "at/four/tools"));
    assert_eq!(processes(&sandbox), Some((worker, keeper)), "nobody else was replaced");
    let last = broker(keeper).unwrap();
    kill(Pid::from_raw(keeper), Signal::SIGKILL).unwrap();
    wait_for("the keeper's end", || !runs(keeper));
    assert_eq!(sandbox.shell("cat at/four/.agents/skills/review/SKILL.md"), "team\n");
    kill(Pid::from_raw(worker), Signal::SIGTERM).unwrap();
    wait_for("the end", || !runs(worker) && !runs(last));
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
    assert!(!sandbox.path("at/four").exists(), "what was made for it goes with it");
    drop(mount);
}
