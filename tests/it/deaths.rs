//! A daemon without a keeper is killed: nobody waits in vain, and it can be started again at once.
//!
//! The short form runs with all tests. `OVERLAYFS_MOUNT_KILLS=100` makes it the long one.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fixture::{Mount, Sandbox, can_mount, has_program, needs_kernel, times, wait_for};
use crate::torn::{commit, first_revision};

/// Deaths of the short form.
const KILLS: u64 = 10;
const READERS: usize = 6;

fn number(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap())
}

fn sample(sandbox: &Sandbox) -> Mount<'_> {
    sandbox.repo("acme/base").skill("plan", "plan\n").commit();
    sandbox.configure("    - {repo: acme/base, ref: main}", "");
    sandbox.mount()
}

/// Stops so many of the threads of a process that answer the kernel, until what is returned is dropped and with it its standard input.
pub(crate) fn stop_threads(sandbox: &Sandbox, pid: u32, most: usize) -> Child {
    fs::write(sandbox.path("stopper.py"), include_str!("thread_stopper.py")).unwrap();
    let mut stopper = sandbox.command("python3");
    stopper.args(["stopper.py", &pid.to_string(), &most.to_string()]);
    let mut stopper = stopper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(stopper.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "stopped\n");
    stopper
}

/// A daemon whose message to the kernel waits for a reader that it does not answer.
struct Waiting {
    daemon: u32,
    courier: u32,
    reader: Child,
    _stopper: Child,
}

/// A process in a directory of the view. So the kernel knows the directory and those above it, whatever is dropped of what else it has cached:
/// only of what it knows is there a message that can wait.
struct Reader(Child);

impl Reader {
    fn in_directory(sandbox: &Sandbox) -> Self {
        let mut command = sandbox.command("sh");
        command.args(["-euc", "cd $VIEW/.agents/skills; echo there; read go; exec stat none"]);
        command.env("VIEW", sandbox.view()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "there\n");
        Self(child)
    }

    /// Has it look for a name of which the kernel knows nothing. It holds the directory's lock until it is answered.
    fn look_up(self) -> Child {
        let Self(mut child) = self;
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        let is_looking = || {
            let of = |name| fs::read_to_string(format!("/proc/{}/{name}", child.id()));
            of("comm").is_ok_and(|comm| comm == "stat\n")
                && of("wchan").is_ok_and(|place| place == "0" || place.contains("request_wait"))
        };
        wait_for("a reader that waits", is_looking);
        child
    }
}

fn wait_in_the_kernel(sandbox: &Sandbox, mount: &Mount<'_>) -> Waiting {
    let daemon = mount.pid();
    let reader = Reader::in_directory(sandbox);
    // From the first message on there is a courier: the kernel has to know something.
    assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/plan/SKILL.md"), "plan\n");
    sandbox.existing("acme/base").skill("plan", "other\n").commit();
    sandbox.succeed(&["reload", "view"]);
    assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/plan/SKILL.md"), "other\n");
    let couriers = children(daemon);
    assert_eq!(couriers.len(), 1, "{couriers:?}");
    let stopper = stop_threads(sandbox, daemon, 99);
    let reader = reader.look_up();
    sandbox.existing("acme/base").skill("new", "new\n").commit();
    wait_for("a message that waits", || {
        threads(couriers[0]).iter().any(|thread| is_waiting(thread))
    });
    Waiting { daemon, courier: couriers[0], reader, _stopper: stopper }
}

fn children(pid: u32) -> Vec<u32> {
    let is_child = |other: &u32| {
        let stat = fs::read_to_string(format!("/proc/{other}/stat")).unwrap_or_default();
        let rest = stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned()).unwrap_or_default();
        rest.split(' ').nth(1) == Some(&pid.to_string())
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(is_child).collect()
}

fn threads(pid: u32) -> Vec<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn is_waiting(thread: &std::path::Path) -> bool {
    fs::read_to_string(thread.join("stat")).is_ok_and(|stat| stat.contains(") D "))
}

fn state(pid: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").map(|(_, rest)| rest[..1].to_owned()).unwrap_or_default()
}

/// Mounts where the daemon was killed: there is one mount, and it shows the newest set.
fn mount_again(sandbox: &Sandbox) {
    sandbox.succeed(&["mount"]);
    assert_eq!(sandbox.mounts().len(), 1);
    assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/new/SKILL.md"), "new\n");
}

#[test]
fn s103_a_daemon_that_is_killed_while_a_message_waits_leaves_nobody_waiting() {
    if !can_mount() || !has_program("python3", "apt-get install python3") {
        return;
    }
    let sandbox = Sandbox::new();
    let mount = sample(&sandbox);
    let mut waiting = wait_in_the_kernel(&sandbox, &mount);
    kill(number(waiting.daemon), Signal::SIGKILL).unwrap();
    let killed = Instant::now();
    wait_for("the reader's end", || waiting.reader.try_wait().unwrap().is_some());
    assert!(!waiting.reader.wait().unwrap().success());
    eprintln!("the reader was told after {} ms", killed.elapsed().as_millis());
    let courier = || state(waiting.courier);
    wait_for("the end of the courier", || matches!(courier().as_str(), "" | "Z"));
    let read = sandbox.shell_output("cat $VIEW/.agents/skills/new/SKILL.md");
    assert!(String::from_utf8_lossy(&read.stderr).contains("not connected"), "{read:?}");
    mount_again(&sandbox);
    mount.unmount();
}

#[test]
fn s103_a_message_of_the_dead_is_found_by_the_next_mount_and_by_unmount() {
    needs_kernel((6, 18), "`/proc` says which connection a descriptor is of");
    if !can_mount() || !has_program("python3", "apt-get install python3") {
        return;
    }
    for next in ["mount", "unmount"] {
        let sandbox = Sandbox::new();
        let mount = sample(&sandbox);
        all_die_and_are_found(&sandbox, mount, next);
    }
}

/// The kernel gives the number of a mount that is gone to another one, also while a descriptor of the first is held.
#[test]
fn s103_a_descriptor_of_a_mount_that_is_gone_hides_no_message_of_the_dead() {
    needs_kernel((6, 18), "`/proc` says which connection a descriptor is of");
    if !can_mount() || !has_program("python3", "apt-get install python3") {
        return;
    }
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("holder.py"), include_str!("old_numbers.py")).unwrap();
    let mut holder = sandbox.command("python3");
    let holder = holder.arg("holder.py").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = holder.spawn().unwrap();
    let mut held = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut held).unwrap();
    let held: Vec<&str> = held.split_whitespace().collect();
    let mut mount = sample(&sandbox);
    let number = || sandbox.shell("mountpoint -d $VIEW").trim().replace("0:", "");
    // Others may take the numbers that are free, and give them back.
    wait_for("the number of one that is gone", || {
        let is_one = held.contains(&number().as_str());
        if !is_one {
            sandbox.succeed(&["unmount", "view"]);
            mount = sandbox.mount();
        }
        is_one
    });
    all_die_and_are_found(&sandbox, mount, "mount");
    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
}

/// All that belongs to a mount is killed at once, as the end of a container does it, and who waits for it is told by what comes next.
fn all_die_and_are_found(sandbox: &Sandbox, mount: Mount<'_>, next: &str) {
    let mut waiting = wait_in_the_kernel(sandbox, &mount);
    for pid in [waiting.courier, waiting.daemon] {
        kill(number(pid), Signal::SIGKILL).unwrap();
    }
    wait_for("the end of the daemon", || matches!(state(waiting.daemon).as_str(), "" | "Z"));
    assert!(waiting.reader.try_wait().unwrap().is_none(), "for this test");
    if next == "mount" {
        mount_again(sandbox);
    }
    mount.unmount();
    wait_for("the reader's end", || waiting.reader.try_wait().unwrap().is_some());
    assert!(!waiting.reader.wait().unwrap().success(), "{next}");
}

#[test]
fn s104_what_was_killed_is_started_again_and_read_at_once() {
    if !can_mount() || !has_program("python3", "apt-get install python3") {
        return;
    }
    let kills = times("OVERLAYFS_MOUNT_KILLS", KILLS);
    let sandbox = Sandbox::new();
    let repo = first_revision(&sandbox);
    let mount = sandbox.mount();
    fs::write(sandbox.path("reader.py"), include_str!("heedless_reader.py")).unwrap();
    let read = || {
        let mut command = sandbox.command("python3");
        command.arg("reader.py").arg(sandbox.view()).arg("end").stdout(Stdio::piped());
        command.spawn().unwrap()
    };
    let readers: Vec<_> = (0..READERS).map(|_| read()).collect();
    let mut longest = Duration::ZERO;
    for revision in 2..=kills + 1 {
        let id = commit(&repo, revision);
        let daemon = mount.pid();
        repo.git(&["update-ref", "refs/heads/main", &id]);
        // Somewhere in the look, the flip, or after it.
        for _ in 0..revision * 7 % 20 {
            drop(Command::new("true").status());
        }
        kill(number(daemon), Signal::SIGKILL).unwrap();
        let killed = Instant::now();
        sandbox.succeed(&["mount"]);
        let right = format!("{revision}\n");
        assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/skill-00/SKILL.md"), right);
        longest = longest.max(killed.elapsed());
        assert_eq!(sandbox.mounts().len(), 1);
    }
    fs::write(sandbox.path("end"), "").unwrap();
    let met: Vec<_> =
        readers.into_iter().map(|reader| reader.wait_with_output().unwrap()).collect();
    let met: Vec<_> = met
        .iter()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .collect();
    eprintln!(
        "{kills} of {kills} readable again, the last after {} ms at most; errors met meanwhile: {met:?}",
        longest.as_millis()
    );
    mount.unmount();
}
