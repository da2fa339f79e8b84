//! What needs a process of its own: this test program, started again.

use super::*;
use crate::machine::background::{Launch, Ready, is_launched, launch};
use crate::machine::exit::Process;

/// The name by which the test program knows a test of this file.
fn own_test(name: &str) -> String {
    let (_crate, module) = module_path!().split_once("::").unwrap();
    format!("{module}::{name}")
}

/// Checks that a test program that was started again ran the test that it was to run.
fn assert_ran(output: &Output) {
    let said = String::from_utf8_lossy(&output.stdout);
    let is_run = output.status.success() && said.contains("running 1 test");
    assert!(is_run, "{said}{}", String::from_utf8_lossy(&output.stderr));
}

/// The name that a test binary gives to the test that only runs as a child of another.
const AS_USER: &str = "OVERLAYFS_MOUNT_TEST_AS_USER";

#[test]
fn an_ordinary_user_mounts_is_refused_while_busy_and_unmounts() {
    let Some(place) = Place::new() else { return };
    if !fusermount::candidates().iter().any(|candidate| candidate.is_setuid_root) {
        eprintln!("SKIPPED: no setuid fusermount3");
        return;
    }
    let dir = place.dir.path();
    std::os::unix::fs::chown(&place.path, Some(65534), Some(65534)).unwrap();
    // The test binary's own directory may be closed to others.
    copy_program(std::env::current_exe().unwrap(), &dir.join("test"));
    // A name space with a device that every user may open, whatever this machine's mode for it is.
    let script = "mknod device c 10 229 && chmod 666 device && mount --bind device /dev/fuse && \
        { mountpoint -q /sys/fs/fuse/connections || mount -t fusectl fusectl /sys/fs/fuse/connections; } && \
        exec setpriv --reuid 65534 --regid 65534 --clear-groups ./test --exact \"$0\" --nocapture";
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .arg(own_test("as_an_ordinary_user"))
        .env(AS_USER, &place.path)
        .current_dir(dir)
        .output()
        .unwrap();
    assert_ran(&output);
}

#[test]
fn as_an_ordinary_user() {
    let Some(path) = std::env::var_os(AS_USER).map(PathBuf::from) else { return };
    assert!(!user::has_sys_admin());
    let request = MountRequest {
        mountpoint: path.clone(),
        source_name: "/etc/x,y.yaml".into(),
        allow_other: false,
        default_permissions: true,
        forbids_execution: false,
        labels: Labels::default(),
    };
    if !user::user_allow_other() {
        let error = mount(&MountRequest { allow_other: true, ..request.clone() }).unwrap_err();
        assert!(error.cure().unwrap().contains("user_allow_other"), "{error}");
    }
    let NewMount { fd, via } = mount(&request).unwrap();
    assert_eq!(via, Via::Fusermount);
    let session = serve(fd);
    let table = MountTable::read().unwrap();
    assert_eq!(table.topmost_at(&path).unwrap().source, "/etc/x,y.yaml");
    let mut sleeper = Command::new("sleep").arg("60").current_dir(&path).spawn().unwrap();
    let error = unmount(&path, false).unwrap_err();
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    assert!(error.to_string().contains(&format!("sleep (pid {})", sleeper.id())), "{error}");
    unmount(&path, false).unwrap();
    drop(session);
    let NewMount { fd, .. } = mount(&request).unwrap();
    let connection = MountTable::read().unwrap().topmost_at(&path).unwrap().minor;
    assert_eq!(probe(&path, Duration::from_millis(50)), Liveness::Silent);
    let mut asking = Command::new("stat").arg(path.join("none")).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while connections::waiting(connection) == Some(0) {
        assert!(Instant::now() < deadline, "nobody comes to ask");
    }
    connections::abort(connection).unwrap();
    assert!(!asking.wait().unwrap().success());
    assert_eq!(probe(&path, PATIENCE), Liveness::Dead);
    abort(&path).unwrap();
    assert!(MountTable::read().unwrap().at(&path).next().is_none());
    drop(fd);
}

/// Set for the test that becomes a daemon: to the directory that it was started in.
const AS_DAEMON: &str = "OVERLAYFS_MOUNT_TEST_AS_DAEMON";

#[test]
fn a_daemon_keeps_nothing_of_its_caller() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    // Output ends only when the daemon has let go of the pipe, whose other ends are 1, 2 and 7.
    let script = "exec 7>&1; exec \"$0\" --exact \"$1\" --nocapture --test-threads 1";
    let started = Instant::now();
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .arg(own_test("as_launcher"))
        .env(AS_DAEMON, &path)
        .current_dir(&path)
        .output()
        .unwrap();
    assert!(started.elapsed() < Duration::from_secs(30));
    assert_ran(&output);
    let pid: u32 = fs::read_to_string(path.join("pid")).unwrap().parse().unwrap();
    let process = Process::open(pid).unwrap().expect("the daemon runs on");
    let read = |link: &str| fs::read_link(format!("/proc/{pid}/{link}")).unwrap();
    assert_eq!(read("cwd"), Path::new("/"));
    let held = || {
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let files = entries.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        files.filter(|file| file != Path::new("/dev/null")).collect::<Vec<_>>()
    };
    // What it said that it is ready by is closed a moment later.
    while !held().is_empty() {
        assert!(started.elapsed() < PATIENCE, "{:?}", held());
        std::thread::sleep(Duration::from_millis(5));
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    assert_eq!(stat.split(") ").last().unwrap().split(' ').nth(3), Some(&*pid.to_string()));
    assert!(stat.contains("(overlayfs-mount)"), "{stat}");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    process.wait(PATIENCE).unwrap();
}

#[test]
fn as_launcher() {
    let Some(path) = std::env::var_os(AS_DAEMON).map(PathBuf::from) else { return };
    if !is_launched() {
        let launched = launch().unwrap();
        assert!(matches!(launched, Launch::Ready(_)), "{launched:?}");
        return;
    }
    let ready = Ready::detach_self().unwrap();
    // The working directory is still the caller's.
    fs::write("pid", std::process::id().to_string()).unwrap();
    assert!(path.join("pid").exists());
    ready.announce().unwrap();
    std::thread::sleep(Duration::from_secs(20));
}

/// Set for the test that asks a mount: to its path.
const AS_ASKER: &str = "OVERLAYFS_MOUNT_TEST_AS_ASKER";

#[test]
fn who_has_asked_a_mount_that_never_answers_can_end() {
    let Some(place) = Place::new() else { return };
    let session = serve_as(Empty { is_mute: true }, place.mount());
    let mut asking = Command::new(std::env::current_exe().unwrap());
    asking.args(["--exact", &own_test("as_who_asks"), "--nocapture"]).env(AS_ASKER, &place.path);
    let mut asking = asking.spawn().unwrap();
    let ended = Process::open(asking.id()).unwrap().unwrap().wait(PATIENCE);
    abort(&place.path).unwrap();
    assert!(asking.wait().unwrap().success());
    ended.unwrap();
    drop(session);
}

#[test]
fn as_who_asks() {
    let Some(path) = std::env::var_os(AS_ASKER).map(PathBuf::from) else { return };
    assert_eq!(probe(&path, Duration::from_millis(50)), Liveness::Silent);
}
