//! Mounts that somebody else makes: `pass`, `--fuse-socket`, `--fuse-fd` and `/dev/fd/N`.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fixture::{Sandbox, can_mount, has_program, wait_for};

fn simple() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").skill("review", "base\n").commit();
    sandbox.configure("    - repo: acme/base", "");
    sandbox
}

/// A process that is ended with the test.
struct Ended(Option<Child>);

impl Ended {
    fn end(mut self) -> Option<i32> {
        let mut child = self.0.take().unwrap();
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
        child.wait().unwrap().code()
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // Whatever it mounted goes with it.
            kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
            child.wait().unwrap();
        }
    }
}

fn pass(sandbox: &Sandbox, arguments: &[&str]) -> Ended {
    let mut all = vec!["pass", "--socket", "door", "view"];
    all.extend(arguments);
    let child = sandbox.overlay(&all).stderr(Stdio::null()).spawn().unwrap();
    let ended = Ended(Some(child));
    wait_for("the socket", || sandbox.path("door").exists());
    ended
}

/// The words before a command that make it run as somebody without privileges.
const WITHOUT: [&str; 6] = [
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--bounding-set=-all",
    "--no-new-privs",
    "--",
];

fn serve_without_privileges(sandbox: &Sandbox) -> Ended {
    // The user may look into the sandbox and keep its state elsewhere.
    sandbox.shell("chmod 755 . && mkdir -p -m 777 theirs");
    let mut command = sandbox.command("setpriv");
    command.args(WITHOUT).arg(env!("CARGO_BIN_EXE_overlayfs-mount"));
    command.args(["mount", "-f", "--fuse-socket", "door"]);
    command.env("OVERLAYFS_MOUNT_RUN_DIR", sandbox.path("theirs/run"));
    Ended(Some(command.stderr(Stdio::null()).spawn().unwrap()))
}

fn skill(sandbox: &Sandbox) -> Option<String> {
    let output = sandbox.shell_output("cat view/.agents/skills/review/SKILL.md");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn pass_says_at_once_that_nothing_can_be_mounted() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.shell("touch file");
    for (at, what) in [
        ("file", "is not a directory"),
        ("file/below", "Not a directory"),
        ("/proc/none/view", "cannot be used"),
    ] {
        let said = sandbox.shell_output(&format!(
            "timeout 20 {} pass --socket door {at}",
            env!("CARGO_BIN_EXE_overlayfs-mount")
        ));
        let (status, said) = (said.status.code(), String::from_utf8_lossy(&said.stderr));
        assert_eq!(status, Some(1), "{at}: {said}");
        assert!(said.contains(what) && said.contains("cure: "), "{at}: {said}");
        assert!(!sandbox.path("door").exists(), "{at}: the socket stays");
    }
}

#[test]
fn a_daemon_without_privileges_serves_what_another_mounts() {
    if !can_mount() {
        return;
    }
    let sandbox = simple();
    let program = env!("CARGO_BIN_EXE_overlayfs-mount");
    let reachable = format!("setpriv --reuid=65534 --clear-groups test -x {program}");
    if !sandbox.shell_output(&reachable).status.success() {
        eprintln!("SKIPPED: another user may not execute {program}");
        return;
    }
    let passing = pass(&sandbox, &["--allow-uid=65534", "--allow-other"]);
    assert_eq!(sandbox.mounts(), Vec::<String>::new(), "nobody serves yet");
    let daemon = serve_without_privileges(&sandbox);
    wait_for("the view", || skill(&sandbox).is_some());
    let mounts = sandbox.mounts();
    assert!(
        mounts[0].contains("fuse.overlayfs-mount") && mounts[0].contains("user_id=65534"),
        "{mounts:?}"
    );
    assert!(mounts[0].contains("ro,nosuid,nodev"), "{mounts:?}");
    // What the sources do is shown.
    sandbox.existing("acme/base").skill("review", "second\n").commit();
    wait_for("the flip", || skill(&sandbox).is_some_and(|text| text.contains("second")));
    // The mount goes with its daemon, and another one may come, also after one was killed.
    assert_eq!(daemon.end(), Some(0));
    wait_for("the unmount", || sandbox.mounts().is_empty());
    let mut killed = serve_without_privileges(&sandbox);
    wait_for("the view", || skill(&sandbox).is_some());
    let mut child = killed.0.take().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("the unmount", || sandbox.mounts().is_empty());
    let mut daemon = serve_without_privileges(&sandbox);
    wait_for("the view", || skill(&sandbox).is_some());
    // And with the one who made it.
    assert_eq!(passing.end(), Some(0));
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
    assert!(!sandbox.path("door").exists() && !sandbox.view().exists());
    let status = daemon.0.take().unwrap().wait().unwrap();
    assert!(status.success(), "{status}");
}

#[test]
fn what_two_killed_processes_left_is_replaced() {
    if !can_mount() {
        return;
    }
    let sandbox = simple();
    let serve = || {
        let mut command = sandbox.overlay(&["mount", "-f", "--fuse-socket", "door", "./view/"]);
        let daemon = Ended(Some(command.stderr(Stdio::null()).spawn().unwrap()));
        // A dead mount still shows what the kernel has kept: its daemon is asked.
        sandbox.succeed(&["wait", "--timeout", "20s", "view"]);
        sandbox.succeed(&["status", "view"]);
        daemon
    };
    let mut both = [pass(&sandbox, &[]), serve()];
    for child in &mut both {
        let mut child = child.0.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(sandbox.mounts().len(), 1, "nobody has unmounted");
    // The socket is left as well.
    let passing = pass(&sandbox, &[]);
    wait_for("a new socket", || UnixStream::connect(sandbox.path("door")).is_ok());
    let daemon = serve();
    assert_eq!(sandbox.mounts().len(), 1);
    assert_eq!(passing.end(), Some(0));
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
    let mut daemon = daemon;
    assert!(daemon.0.take().unwrap().wait().unwrap().success());
}

#[test]
fn nothing_is_passed_to_others_and_nothing_of_theirs_is_read() {
    if !can_mount() {
        return;
    }
    let sandbox = simple();
    let passing = pass(&sandbox, &["--allow-uid=65534"]);
    let said = sandbox.fail(1, &["mount", "--fuse-socket", "door"]);
    assert!(
        said.contains("without passing a descriptor") && said.contains("--allow-uid"),
        "{said}"
    );
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
    let mut stream = UnixStream::connect(sandbox.path("door")).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    assert_eq!(passing.end(), Some(0));
    let said = sandbox.fail(1, &["mount", "--fuse-socket", "door"]);
    assert!(said.contains("door") && said.contains("cure: start `overlayfs-mount pass"), "{said}");
}

/// Opens the device, mounts it, and executes the rest with the descriptor under the number 9.
const MOUNTER: &str = r#"
import ctypes, os, sys
fd = os.open("/dev/fuse", os.O_RDWR)
os.dup2(fd, 9); os.close(fd)
os.makedirs("view", exist_ok=True)
libc = ctypes.CDLL(None, use_errno=True)
options = b"fd=9,rootmode=40000,user_id=0,group_id=0,default_permissions"
if libc.mount(b"x", b"view", b"fuse.overlayfs-mount", 7, options): raise OSError(ctypes.get_errno(), "mount")
os.execv(sys.argv[1], sys.argv[1:])
"#;

#[test]
fn a_descriptor_that_was_mounted_already_is_served() {
    if !can_mount() || !has_program("python3", "apt-get install python3") {
        return;
    }
    let sandbox = simple();
    let program = env!("CARGO_BIN_EXE_overlayfs-mount");
    for arguments in [&["mount", "--fuse-fd", "9", "view"][..], &["mount", "/dev/fd/9"]] {
        let mut command = sandbox.command("python3");
        let output = command.args(["-c", MOUNTER, program]).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        assert!(skill(&sandbox).unwrap().contains("base"), "{arguments:?}");
        assert!(sandbox.succeed(&["status", "view"]).contains("ready"));
        sandbox.succeed(&["unmount", "view"]);
        assert_eq!(sandbox.mounts(), Vec::<String>::new());
    }
    let said = sandbox.fail(1, &["mount", "--fuse-fd", "99"]);
    assert!(said.contains("descriptor 99") && said.contains("cure: "), "{said}");
    let said = sandbox.shell_output(&format!("{program} mount /dev/fd/5 5</dev/null"));
    assert!(
        String::from_utf8_lossy(&said.stderr).contains("is not one of `/dev/fuse`"),
        "{said:?}"
    );
}
