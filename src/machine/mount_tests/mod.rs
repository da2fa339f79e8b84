//! Tests with the kernel. Whoever reads a mount is a child process; a guard detaches what a failed test leaves.

mod started_again;

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use fuser::{BackgroundSession, Config, Filesystem, Session, SessionACL};
use tempfile::TempDir;

use super::labels::Labels;
use super::mount::{MountRequest, NewMount, Via, mount};
use super::mountinfo::MountTable;
use super::stale::{Liveness, detach, probe};
use super::{
    MachineError, connections, fusermount, mountpoint,
    unmount::{abort, unmount},
    user,
};

const PATIENCE: Duration = Duration::from_secs(10);

/// Copies a program that is to be run. A child does: a descriptor of ours would go into what other threads start meanwhile, and
/// what somebody has open for writing cannot be run (ETXTBSY).
fn copy_program(from: impl AsRef<Path>, to: &Path) {
    assert!(Command::new("cp").arg(from.as_ref()).arg(to).status().unwrap().success());
}

/// A file system whose root is an empty directory; a mute one reads which name it is asked for and never answers.
struct Empty {
    is_mute: bool,
}

impl Filesystem for Empty {
    fn lookup(
        &self,
        _: &fuser::Request,
        _: fuser::INodeNo,
        _: &std::ffi::OsStr,
        reply: fuser::ReplyEntry,
    ) {
        if self.is_mute {
            return std::mem::forget(reply);
        }
        reply.error(fuser::Errno::ENOENT);
    }

    fn getattr(
        &self,
        _: &fuser::Request,
        ino: fuser::INodeNo,
        _: Option<fuser::FileHandle>,
        reply: fuser::ReplyAttr,
    ) {
        let time = std::time::SystemTime::UNIX_EPOCH;
        let attr = fuser::FileAttr {
            ino,
            size: 0,
            blocks: 0,
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind: fuser::FileType::Directory,
            perm: 0o755,
            nlink: 2,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        };
        reply.attr(&Duration::from_secs(1), &attr);
    }
}

/// A mount point that is cleared when the test ends, however it ends.
struct Place {
    path: PathBuf,
    dir: TempDir,
}

impl Place {
    fn new() -> Option<Self> {
        if std::env::var_os("OVERLAYFS_MOUNT_SKIP_FUSE").is_some() {
            eprintln!("SKIPPED: OVERLAYFS_MOUNT_SKIP_FUSE is set");
            return None;
        }
        assert!(
            user::has_sys_admin(),
            "mounting needs root here; OVERLAYFS_MOUNT_SKIP_FUSE=1 skips this"
        );
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        let path = mountpoint::resolve(&dir.path().join("view, one\\two")).unwrap();
        mountpoint::create_mountpoint(&path).unwrap();
        Some(Self { path, dir })
    }

    fn request(&self) -> MountRequest {
        MountRequest {
            mountpoint: self.path.clone(),
            source_name: "/etc/a b,c.yaml".into(),
            allow_other: true,
            default_permissions: true,
            forbids_execution: false,
            labels: Labels::default(),
        }
    }

    fn mount(&self) -> OwnedFd {
        let NewMount { fd, via } = mount(&self.request()).unwrap();
        assert_eq!(via, Via::Kernel);
        fd
    }

    fn serve(&self) -> BackgroundSession {
        serve(self.mount())
    }

    /// A child process that holds the mount by its working directory.
    fn sleeper(&self) -> Child {
        let mut command = Command::new("sleep");
        command.arg("60").current_dir(&self.path).stdin(Stdio::null()).spawn().unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        while MountTable::read().unwrap().topmost_at(&self.path).is_some() {
            detach(&self.path).unwrap();
        }
    }
}

fn serve(fd: OwnedFd) -> BackgroundSession {
    serve_as(Empty { is_mute: false }, fd)
}

fn serve_as(empty: Empty, fd: OwnedFd) -> BackgroundSession {
    Session::from_fd(empty, fd, SessionACL::All, Config::default()).unwrap().spawn().unwrap()
}

/// Whether a child process is told that a name is absent.
fn list(path: &Path) -> bool {
    let mut ls = Command::new("stat").arg(path.join("none")).stderr(Stdio::null()).spawn().unwrap();
    let status = ls.wait().unwrap();
    !status.success()
}

#[test]
fn a_kernel_mount_shows_our_type_source_and_flags_and_goes_away() {
    let Some(place) = Place::new() else { return };
    let session = place.serve();
    let table = MountTable::read().unwrap();
    let found = table.topmost_at(&place.path).unwrap();
    assert!(found.is_ours());
    assert_eq!(found.source, "/etc/a b,c.yaml");
    let options = found.options.to_str().unwrap().split(',').collect::<Vec<_>>();
    for option in ["ro", "nosuid", "nodev"] {
        assert!(options.contains(&option), "{options:?}");
    }
    assert!(list(&place.path));
    assert_eq!(probe(&place.path, PATIENCE), Liveness::Alive);
    assert_eq!(mountpoint::resolve(&place.path).unwrap(), place.path);
    assert!(matches!(mount(&place.request()), Err(MachineError::MountpointTaken { .. })));
    unmount(&place.path, false).unwrap();
    assert!(MountTable::read().unwrap().topmost_at(&place.path).is_none());
    assert!(matches!(unmount(&place.path, false), Err(MachineError::NotMounted { .. })));
    drop(session);
}

#[test]
fn a_busy_mount_is_refused_with_the_name_of_its_holder() {
    let Some(place) = Place::new() else { return };
    let session = place.serve();
    let mut sleeper = place.sleeper();
    let error = unmount(&place.path, false).unwrap_err();
    let message = error.to_string();
    let expected = format!("sleep (pid {}): working directory", sleeper.id());
    assert!(message.contains(&expected), "{message}");
    assert!(error.cure().unwrap().contains("--lazy"));
    unmount(&place.path, true).unwrap();
    assert!(MountTable::read().unwrap().at(&place.path).next().is_none());
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    drop(session);
}

#[test]
fn an_open_directory_is_a_holder_too() {
    let Some(place) = Place::new() else { return };
    let session = place.serve();
    let script = "exec 9<\"$0\"; cd /; echo ready; exec sleep 60";
    let mut holder = Command::new("sh")
        .args(["-c", script])
        .arg(&place.path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0_u8; 5];
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut ready).unwrap();
    let holders = super::holders::find(&place.path, PATIENCE);
    holder.kill().unwrap();
    holder.wait().unwrap();
    let found = holders.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(found.contains(&format!("(pid {}): open file", holder.id())), "{found}");
    drop(session);
}

/// A file system in memory, for what an empty view cannot show.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(path: PathBuf) -> Self {
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("test"), &path, Some("tmpfs"), flags, None::<&str>).unwrap();
        Self(path)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
}

#[test]
fn a_program_that_runs_its_mapping_and_a_mount_inside_are_holders() {
    let Some(place) = Place::new() else { return };
    let outer = Tmpfs::mount(place.path.clone());
    fs::create_dir(place.path.join("inner")).unwrap();
    let inner = Tmpfs::mount(place.path.join("inner"));
    let program = place.path.join("a program");
    copy_program("/bin/sleep", &program);
    // A name that only begins like the mount point's is not in it.
    let beside = PathBuf::from(format!("{}-beside", place.path.display()));
    fs::create_dir(&beside).unwrap();
    let mut command = Command::new(&program);
    let mut running = command.arg("60").current_dir(&beside).spawn().unwrap();
    let holders = super::holders::find(&place.path, PATIENCE);
    running.kill().unwrap();
    running.wait().unwrap();
    drop((inner, outer));
    let mut found: Vec<_> = holders.iter().map(ToString::to_string).collect();
    found.sort();
    let (pid, path) = (running.id(), place.path.display());
    assert_eq!(
        found,
        [
            format!("a program (pid {pid}): mapped file `{path}/a program`"),
            format!("a program (pid {pid}): program `{path}/a program`"),
            format!("mount `{path}/inner`"),
        ]
    );
}

#[test]
fn a_stale_mount_is_seen_and_detached() {
    let Some(place) = Place::new() else { return };
    drop(place.mount());
    assert!(mountpoint::create_mountpoint(&place.path).unwrap().is_empty());
    assert_eq!(probe(&place.path, PATIENCE), Liveness::Dead);
    assert!(matches!(mount(&place.request()), Err(MachineError::MountpointTaken { .. })));
    detach(&place.path).unwrap();
    assert!(MountTable::read().unwrap().at(&place.path).next().is_none());
}

#[test]
fn a_silent_mount_is_given_up_aborted_and_detached() {
    let Some(place) = Place::new() else { return };
    let fd = place.mount();
    assert_eq!(probe(&place.path, Duration::from_millis(50)), Liveness::Silent);
    let mut asking = Command::new("stat");
    let asking = asking.arg(place.path.join("none")).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    let stat = format!("/proc/{}/stat", asking.id());
    // Before the file system has said hello a request waits so that only the end of the process ends it: `D`.
    while !fs::read_to_string(&stat).unwrap().contains("(stat) D") {
        assert!(Instant::now() < deadline, "it does not come to ask");
    }
    abort(&place.path).unwrap();
    assert!(MountTable::read().unwrap().at(&place.path).next().is_none());
    assert!(!asking.wait_with_output().unwrap().status.success());
    drop(fd);
}

#[test]
fn fusermount_gives_a_descriptor_that_serves_and_says_why_it_refuses() {
    let Some(place) = Place::new() else { return };
    if fusermount::find().is_err() {
        eprintln!("SKIPPED: no fusermount3");
        return;
    }
    let session = serve(fusermount::mount(&place.request()).unwrap());
    let table = MountTable::read().unwrap();
    let found = table.topmost_at(&place.path).unwrap();
    assert!(found.is_ours(), "{found:?}");
    assert_eq!(found.source, "/etc/a b,c.yaml");
    assert!(list(&place.path));
    fusermount::unmount(&place.path, false).unwrap();
    drop(session);
    let mut request = place.request();
    request.mountpoint = place.path.join("none");
    let error = fusermount::mount(&request).unwrap_err();
    assert!(error.to_string().contains("No such file"), "{error}");
}
