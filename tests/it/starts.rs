//! Workers that cannot be started for a moment, or are about to be started when the end is asked for.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::control_group::{Controller, Group};
use crate::fatal::Traced;
use crate::fixture::{
    Sandbox, can_inject, can_mount, can_take_over, has_program, patience, wait_for,
};
use crate::keeper::{children, log, processes, runs, sample};
use crate::{views, views_keeper};

/// Has workers die by themselves, one after the other, until the next one is waited with for seconds.
fn die_until_it_is_waited(sandbox: &Sandbox, worker: impl Fn() -> Option<i32>) {
    const DEATHS: usize = 5;
    let mut last = 0;
    for death in 1..=DEATHS {
        wait_for("a worker", || worker().is_some_and(|worker| worker != last));
        last = worker().unwrap();
        kill(Pid::from_raw(last), Signal::SIGABRT).unwrap();
        wait_for("its death", || log(sandbox).matches("the worker has died").count() == death);
    }
}

#[test]
fn a_signal_that_comes_between_two_workers_ends_the_mount() {
    if !can_take_over() {
        return;
    }
    let sandbox = Sandbox::new();
    let mount = sample(&sandbox);
    let (_, keeper) = processes(&sandbox);
    die_until_it_is_waited(&sandbox, || {
        let status = crate::keeper::status(&sandbox)?;
        Some(crate::keeper::number(&status, "pid"))
    });
    kill(Pid::from_raw(keeper), Signal::SIGTERM).unwrap();
    wait_for("the end", || !runs(keeper));
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
    drop(mount);
}

#[test]
fn a_signal_that_comes_between_two_workers_of_many_views_ends_them() {
    if !can_take_over() || !nix::unistd::geteuid().is_root() {
        return;
    }
    let sandbox = views::two_alike();
    let serving = views::serve_with(&sandbox, &["--supervised"]);
    die_until_it_is_waited(&sandbox, || Some(views_keeper::processes(&sandbox)?.0));
    serving.end();
}

/// Lets some of the processes and threads that a process is about to start not be started, by their positions.
fn refuse_starts(sandbox: &Sandbox, keeper: i32, which: &str) -> Traced {
    let mut strace = Command::new("strace");
    strace.args(["-qq", "-o"]).arg(sandbox.path("trace"));
    let injected = format!("inject=clone,clone3,vfork:error=EAGAIN:when={which}");
    strace.args(["-e", &injected, "-p", &keeper.to_string()]);
    attached(&mut strace, keeper)
}

/// Starts strace(1), and waits until it has a process.
fn attached(strace: &mut Command, process: i32) -> Traced {
    let traced = Traced(strace.stderr(Stdio::null()).spawn().unwrap());
    let status = format!("/proc/{process}/status");
    wait_for("strace", || !fs::read_to_string(&status).unwrap().contains("TracerPid:\t0\n"));
    traced
}

#[test]
fn s95_a_worker_that_cannot_be_started_for_a_moment_is_started_soon() {
    if !can_inject() || !can_take_over() {
        return;
    }
    let sandbox = Sandbox::new();
    let mount = sample(&sandbox);
    // The process itself, the thread that hears it, and the one that carries its messages to the kernel. Each file is new to the kernel.
    for (which, file) in [
        ("1..2", ".agents/skills/plan/SKILL.md"),
        ("2", ".agents/skills/review/SKILL.md"),
        ("3", "acme/base/README.md"),
    ] {
        let (worker, keeper) = processes(&sandbox);
        let traced = refuse_starts(&sandbox, keeper, which);
        kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
        let read = sandbox.shell(&format!("cat $VIEW/{file}"));
        assert!(!read.is_empty(), "{which}: {}", log(&sandbox));
        wait_for("another worker", || crate::keeper::status(&sandbox).is_some());
        let (next, still) = processes(&sandbox);
        assert!(next != worker && still == keeper, "{which}");
        let trace = fs::read_to_string(sandbox.path("trace")).unwrap();
        assert!(trace.contains("(INJECTED)"), "{which}: {trace}");
        drop(traced);
    }
    mount.unmount();
}

/// Serves views with a broker: worker and keeper, and the broker.
fn serve_with_broker(sandbox: &Sandbox) -> (views::Serving<'_>, (i32, i32), i32) {
    let serving = views::serve_with(sandbox, &["--supervised"]);
    let (worker, keeper) = views_keeper::processes(sandbox).unwrap();
    let broker = children(keeper).into_iter().find(|child| *child != worker).unwrap();
    (serving, (worker, keeper), broker)
}

/// The view `later` comes, and worker and keeper are those that were.
fn a_view_comes(sandbox: &Sandbox, before: (i32, i32)) {
    wait_for("a view that comes", || {
        sandbox.shell_output("cat at/later/.agents/skills/review/SKILL.md").stdout == b"base\n"
    });
    assert_eq!(views_keeper::processes(sandbox), Some(before));
}

#[test]
fn s123_a_broker_that_cannot_be_started_for_a_moment_is_started_soon() {
    if !can_inject() || !can_take_over() {
        return;
    }
    let sandbox = views::two_alike();
    let (serving, before, broker) = serve_with_broker(&sandbox);
    let traced = refuse_starts(&sandbox, before.1, "1..2");
    kill(Pid::from_raw(broker), Signal::SIGKILL).unwrap();
    wait_for("word of it", || log(&sandbox).contains("no broker could be started"));
    views::view(&sandbox, "later", &["base"], "");
    a_view_comes(&sandbox, before);
    drop(traced);
    serving.end();
}

#[test]
fn s123_the_death_of_a_broker_ends_the_wait_of_who_has_asked_it() {
    if !can_inject() || !can_take_over() {
        return;
    }
    let sandbox = views::two_alike();
    let (serving, before, broker) = serve_with_broker(&sandbox);
    let mut strace = Command::new("strace");
    strace.args(["-qq", "-o"]).arg(sandbox.path("trace"));
    // It has read what it is asked, and dies with its answer.
    strace.args(["-e", "inject=sendmsg:signal=KILL", "-p", &broker.to_string()]);
    let traced = attached(&mut strace, broker);
    views::view(&sandbox, "later", &["base"], "");
    wait_for("its death", || log(&sandbox).contains("the broker has died"));
    a_view_comes(&sandbox, before);
    drop(traced);
    serving.end();
}

/// Deaths of workers that counted as crashes although they never served.
fn early_crashes(sandbox: &Sandbox) -> usize {
    let (mut serves, mut crashes) = (true, 0);
    for line in log(sandbox).lines() {
        if line.contains("the worker has died") {
            crashes += usize::from(!serves && line.contains("cause=Itself"));
            serves = false;
        }
        serves |= line.contains("another worker serves the view");
    }
    crashes
}

#[test]
fn s95_a_worker_that_finds_no_memory_for_a_moment_is_followed_by_one_that_does() {
    if !can_take_over() || !has_program("prlimit", "apt-get install util-linux") {
        return;
    }
    let sandbox = Sandbox::new();
    let mount = sample(&sandbox);
    let (_, keeper) = processes(&sandbox);
    let limit = |bytes: &str| sandbox.shell(&format!("prlimit --pid {keeper} --as={bytes}:"));
    let of_keeper = fs::read_to_string(format!("/proc/{keeper}/status")).unwrap();
    let size = of_keeper.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let size: u64 = size.trim().trim_end_matches(" kB").parse().unwrap();
    let served = || log(&sandbox).matches("another worker serves the view").count();
    let mut lacked = 0;
    // What the next worker may have beside what the keeper has: for its threads, then for their buffers, then for more than both.
    for more in [500, 1_000, 2_000, 20_000, 40_000, 60_000, 80_000, 120_000] {
        let (before, lacking) = (served(), log(&sandbox).matches("cause=Lacking").count());
        let (worker, _) = processes(&sandbox);
        limit(&((size + more) * 1024).to_string());
        kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
        let has_lacked = || log(&sandbox).matches("cause=Lacking").count() > lacking;
        let cannot_start = || log(&sandbox).lines().last().unwrap().contains("could be started");
        wait_for("a worker, or none for want of memory", || {
            has_lacked() || served() > before || cannot_start()
        });
        lacked += u32::from(has_lacked());
        limit("unlimited");
        // One that has served and finds no memory for a request may have died of that.
        wait_for("another worker", || {
            served() > before && crate::keeper::status(&sandbox).is_some()
        });
        assert_eq!(early_crashes(&sandbox), 0, "{more}: {}", log(&sandbox));
    }
    assert!(lacked > 1, "{}", log(&sandbox));
    assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/plan/SKILL.md"), "plan\n");
    mount.unmount();
}

const PIDS: Controller = Controller {
    name: "pids",
    limits: [("/sys/fs/cgroup", "pids.max"), ("/sys/fs/cgroup/pids", "pids.max")],
};
/// More processes and threads than a worker has.
const MANY: u64 = 1000;

/// How many processes and threads there are in a group.
fn threads(group: &Group) -> u64 {
    fs::read_to_string(group.file("pids.current")).unwrap().trim().parse().unwrap()
}

/// Has workers find room for one thread more each time, and asks from inside a directory that is held all the time for a name that nobody was
/// asked for before.
fn lack_threads(
    (sandbox, group): (&Sandbox, &Group),
    directory: &str,
    processes: &dyn Fn() -> Option<(i32, i32)>,
) {
    let mut holder = sandbox.command("timeout");
    holder.arg(patience().as_secs().to_string()).arg("sh");
    holder.env("LC_ALL", "C").current_dir(sandbox.path(directory));
    holder.args(["-c", "while read name; do stat \"$name\" 2>&1; done"]);
    let mut holder = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(holder.stdout.take().unwrap()).lines();
    let mut asked = holder.stdin.take().unwrap();
    let mut lacked = 0;
    for room in 0..16 {
        let (worker, keeper) = processes().unwrap();
        let own = fs::read_dir(format!("/proc/{worker}/task")).unwrap().count();
        let trouble = || {
            let log = log(sandbox);
            log.matches("the worker has died").count() + log.matches("no worker could be").count()
        };
        let before = trouble();
        group.set(threads(group) - u64::try_from(own).unwrap() + room);
        kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
        let serves = || processes().is_some_and(|(next, _)| next != worker);
        wait_for("another worker, or one that lacks something", || {
            trouble() > before + 1 || serves()
        });
        lacked += u32::from(trouble() > before + 1);
        group.set(MANY);
        wait_for("another worker", serves);
        assert_eq!(processes().unwrap().1, keeper);
        writeln!(asked, "absent-{room}").unwrap();
        let said = said.next().unwrap().unwrap();
        let expected = format!("'absent-{room}': No such file or directory");
        assert!(said.ends_with(&expected), "{room}: {said}\n{}", log(sandbox));
    }
    drop(asked);
    assert!(holder.wait().unwrap().code().is_some() && lacked > 4, "{lacked}: {}", log(sandbox));
}

#[test]
fn s120_views_stay_where_a_worker_cannot_start_its_threads_for_a_moment() {
    if !can_take_over() || !nix::unistd::geteuid().is_root() {
        return;
    }
    let Some(group) = Group::make("views", &PIDS) else { return };
    let sandbox = views::two_alike();
    let program = env!("CARGO_BIN_EXE_overlayfs-mount");
    let words = "mount --views views --log log --supervised";
    let script = group.enter(&format!("exec {program} {words}"));
    let serving = views::serve_by(&sandbox, sandbox.command("sh").args(["-euc", &script]));
    let directory = "at/one/.agents/skills";
    lack_threads((&sandbox, &group), directory, &|| views_keeper::processes(&sandbox));
    serving.end();
}

#[test]
fn s95_a_worker_that_cannot_start_its_threads_for_a_moment_is_followed_by_one_that_can() {
    if !can_take_over() || !nix::unistd::geteuid().is_root() {
        return;
    }
    let Some(group) = Group::make("view", &PIDS) else { return };
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").skill("plan", "plan\n").commit();
    sandbox.configure("    - repo: acme/base", "");
    let program = env!("CARGO_BIN_EXE_overlayfs-mount");
    let script = group.enter(&format!("exec {program} mount --supervised --log log"));
    let mount = sandbox.mount_by(sandbox.command("sh").args(["-euc", &script]));
    lack_threads((&sandbox, &group), "view/.agents/skills", &|| {
        let status = crate::keeper::status(&sandbox)?;
        let number = |key| crate::keeper::number(&status, key);
        Some((number("pid"), number("supervisor_pid")))
    });
    mount.unmount();
}

#[test]
fn s115_a_state_directory_that_cannot_be_had_for_a_moment_is_waited_for() {
    if !can_inject() || !can_take_over() {
        return;
    }
    let sandbox = Sandbox::new();
    let mount = sample(&sandbox);
    let sets = sandbox.shell("find \"$PWD\"/state/pins -name sets");
    // The directory of the sets is looked at, opened and listed, and the first of its files is looked at.
    for failing in [
        "statx:error=ENOMEM:when=1",
        "openat:error=EMFILE:when=1",
        "getdents64:error=EIO:when=1",
        "statx:error=ENOMEM:when=2",
    ] {
        let (worker, keeper) = processes(&sandbox);
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o"]).arg(sandbox.path("trace")).args(["-P", sets.trim()]);
        strace.args(["-e", &format!("inject={failing}"), "-p", &keeper.to_string()]);
        let traced = attached(&mut strace, keeper);
        kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
        let next = || Some(crate::keeper::number(&crate::keeper::status(&sandbox)?, "pid"));
        wait_for("another worker", || next().is_some_and(|next| next != worker));
        drop(traced);
        let trace = fs::read_to_string(sandbox.path("trace")).unwrap();
        assert!(trace.contains("(INJECTED)"), "{failing}: {trace}");
        assert!(!log(&sandbox).contains("made anew"), "{failing}: {}", log(&sandbox));
    }
    mount.unmount();
}

#[test]
fn s148_a_mount_that_waits_for_sets_that_were_left_hears_that_it_is_to_end() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = sandbox.repo("acme/base");
    repo.skill("plan", "plan\n").commit();
    sandbox.configure("    - {repo: acme/base}", "");
    let mount = sandbox.mount();
    repo.skill("plan", "other\n").commit();
    sandbox.succeed(&["reload", "view"]);
    mount.unmount();
    // What is not answered, as by a file server that hangs.
    sandbox.shell("for set in $(find state/pins -name '*.json'); do rm $set; mkfifo $set; done");
    let mut serving = sandbox.overlay(&["mount", "-f", "--log", "log"]).spawn().unwrap();
    wait_for("the mount", || !sandbox.mounts().is_empty());
    let pid = Pid::from_raw(i32::try_from(serving.id()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    wait_for("its end", || sandbox.mounts().is_empty());
    kill(pid, Signal::SIGKILL).unwrap();
    serving.wait().unwrap();
}
