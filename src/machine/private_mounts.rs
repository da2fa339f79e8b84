//! File systems that are mounted in a directory which no other user can reach, each below its number, to be bound from there.
//!
//! Who serves them may write into the directory, and answers what is looked up in them, and may not be trusted with that. So nothing here
//! goes through a link, and what is bound is of the file system that is meant.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, umount2};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::MachineError;
use super::bind::keep_apart;
use super::keeper::failed;
use super::mount::{MountRequest, mount_over, refused};
use super::mountinfo::MountTable;

/// How long who serves may take to say that a directory is there.
const PATIENCE: Duration = Duration::from_secs(10);

/// The mounts in a directory.
#[derive(Debug)]
pub struct PrivateMounts {
    directory: PathBuf,
}

/// One that appears at another place too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountCopy {
    /// The number of the mount there.
    pub mount_id: u64,
    /// By which the kernel knows the file system.
    pub connection: u32,
}

impl PrivateMounts {
    /// Those in a directory, which may have some.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where one is.
    pub fn place(&self, number: u64) -> PathBuf {
        self.directory.join(number.to_string())
    }

    /// The numbers and connections of all that there are.
    pub fn all(&self, table: &MountTable) -> Vec<(u64, u32)> {
        let number = |path: &Path| path.strip_prefix(&self.directory).ok()?.to_str()?.parse().ok();
        let numbered = |mount: &super::mountinfo::Mount| {
            let number = number(&mount.mountpoint)?;
            (self.place(number) == mount.mountpoint).then_some((number, mount.minor))
        };
        table.ours().filter_map(numbered).collect()
    }

    /// Mounts below a new number. `request` has no mount point yet.
    ///
    /// # Errors
    /// The number is taken, or the kernel refused. Then nothing is mounted.
    pub fn mount(&self, number: u64, mut request: MountRequest) -> Result<OwnedFd, MachineError> {
        let path = self.place(number);
        let refuse =
            |error: rustix::io::Errno| refused(&path, Errno::from_raw(error.raw_os_error()));
        let directory = self.open()?;
        let name = number.to_string();
        rustix::fs::mkdirat(&directory, &name, Mode::RWXU).map_err(refuse)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mount = || {
            let place =
                rustix::fs::openat(&directory, &name, flags, Mode::empty()).map_err(refuse)?;
            // By its descriptor: its name may be another directory's by now.
            request.mountpoint = descriptor_path(&place);
            let mounted = mount_over(&request).map_err(|error| match error {
                MachineError::Mount { error, .. } | MachineError::Forbidden { error, .. } => {
                    refused(&path, error)
                }
                MachineError::Labelled { labels, .. } => {
                    MachineError::Labelled { path: path.clone(), labels }
                }
                error => error,
            })?;
            keep_apart(&inside(&directory, number))?;
            Ok(mounted.fd)
        };
        let mut mount = mount;
        mount().inspect_err(|_| self.detach(number).unwrap_or_default())
    }

    /// Makes one appear at another place too: all of it, or the directory of this name in it.
    ///
    /// # Errors
    /// There is no such directory, it is of another file system, or the kernel refused.
    pub fn bind(
        &self,
        number: u64,
        name: Option<&OsStr>,
        at: &Path,
    ) -> Result<MountCopy, MachineError> {
        let mut from = OsString::from(number.to_string());
        if let Some(name) = name {
            from.push("/");
            from.push(name);
        }
        let path = self.directory.join(&from);
        let refuse = |path: &Path, error: rustix::io::Errno| {
            refused(path, Errno::from_raw(error.raw_os_error()))
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let directory = self.open()?;
        let (sender, found) = mpsc::sync_channel(1);
        // Who serves it may die before it answers, and whoever comes next may need us first.
        let asking = move || {
            let found = rustix::fs::openat2(&directory, &from, flags, Mode::empty(), resolve);
            sender.send(found).unwrap_or_default();
        };
        let asked = thread::Builder::new().name("binding".into()).spawn(asking);
        asked.map_err(failed("starting a thread"))?;
        let found = found.recv_timeout(PATIENCE).unwrap_or(Err(rustix::io::Errno::TIMEDOUT));
        let found = found.map_err(|error| refuse(&path, error))?;
        let connection = MountTable::read()?
            .topmost_at(&self.place(number))
            .filter(|mount| mount.is_ours())
            .map(|mount| mount.minor)
            .filter(|connection| device(&found) == Some(*connection))
            .ok_or_else(|| MachineError::NotMounted { path: self.place(number) })?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = open_tree(&found, "", flags).map_err(|error| refuse(&path, error))?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&tree, "", CWD, at, flags).map_err(|error| refuse(at, error))?;
        let mount_id = match mount_id(&tree) {
            Some(mount_id) => Some(mount_id),
            None => MountTable::read()?.topmost_at(at).map(|mount| mount.id),
        };
        let mount_id = mount_id.ok_or_else(|| MachineError::NotMounted { path: at.to_owned() })?;
        Ok(MountCopy { mount_id, connection })
    }

    /// Takes one away, also while it is in use, and removes its directory.
    ///
    /// # Errors
    /// Nothing of ours is mounted there, or the kernel refused.
    pub fn detach(&self, number: u64) -> Result<(), MachineError> {
        let directory = self.open()?;
        let path = self.place(number);
        let table = MountTable::read()?;
        let is_mounted = table.topmost_at(&path).is_some_and(super::mountinfo::Mount::is_ours);
        let outcome = if is_mounted {
            let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
            umount2(&inside(&directory, number), flags)
                .map_err(|error| MachineError::Unmount { path: path.clone(), error })
        } else {
            Err(MachineError::NotMounted { path })
        };
        rustix::fs::unlinkat(&directory, number.to_string(), AtFlags::REMOVEDIR)
            .unwrap_or_default();
        outcome
    }

    /// Removes the directories on which nothing is mounted, but these.
    pub fn sweep(&self, but: &[&Path]) {
        let Ok(directory) = self.open() else { return };
        let directory = descriptor_path(&directory);
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if !but.contains(&self.directory.join(&name).as_path()) {
                fs::remove_dir(directory.join(name)).unwrap_or_default();
            }
        }
    }

    fn open(&self) -> Result<File, MachineError> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_DIRECTORY;
        let mut options = OpenOptions::new();
        let opened = options.read(true).custom_flags(flags.bits()).open(&self.directory);
        opened.map_err(|error: io::Error| MachineError::RunDir {
            path: self.directory.clone(),
            reason: error.to_string(),
        })
    }
}

/// The number of the mount that a descriptor is of, its file system not being asked; `None` before Linux 5.8.
fn mount_id(tree: &OwnedFd) -> Option<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let found = rustix::fs::statx(tree, "", flags, StatxFlags::MNT_ID).ok()?;
    StatxFlags::from_bits_retain(found.stx_mask)
        .contains(StatxFlags::MNT_ID)
        .then_some(found.stx_mnt_id)
}

/// A way to what a descriptor is of, whatever has become of its name.
fn descriptor_path(descriptor: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_fd().as_raw_fd()))
}

fn inside(directory: &File, number: u64) -> PathBuf {
    descriptor_path(directory).join(number.to_string())
}

/// The minor number of a file's device, of which its file system is not asked; `None` where the kernel does not say it, or for no FUSE.
fn device(file: &OwnedFd) -> Option<u32> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let found = rustix::fs::statx(file, "", flags, StatxFlags::empty()).ok()?;
    (found.stx_dev_major == 0).then_some(found.stx_dev_minor)
}
