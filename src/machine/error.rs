//! The one error of this room: what failed on this machine, where, and the cure.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;
use thiserror::Error;

use super::holders::Holder;

/// What this machine did not do.
#[derive(Debug, Error)]
pub enum MachineError {
    /// `/dev/fuse` cannot be opened.
    #[error("`/dev/fuse` cannot be opened: {}", .error.desc())]
    Device {
        /// Why.
        error: Errno,
    },
    /// The mount point does not exist.
    #[error("mount point `{}` does not exist", .path.display())]
    MountpointMissing {
        /// The mount point.
        path: PathBuf,
    },
    /// The mount point is something else than a directory.
    #[error("mount point `{}` is not a directory", .path.display())]
    MountpointNotADirectory {
        /// The mount point.
        path: PathBuf,
    },
    /// One of our mounts is there already.
    #[error("a view of `{origin}` is already mounted on `{}`", .path.display())]
    MountpointTaken {
        /// The mount point.
        path: PathBuf,
        /// The source that the kernel shows for the mount that is there.
        origin: String,
    },
    /// The mount point, or a directory above it, cannot be used or made.
    #[error("mount point `{}` cannot be used: {error}", .path.display())]
    MountpointUnusable {
        /// The mount point or the directory above it.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The kernel refused the mount.
    #[error("the kernel refused to mount on `{}`: {}", .path.display(), .error.desc())]
    Mount {
        /// The mount point.
        path: PathBuf,
        /// Why.
        error: Errno,
    },
    /// Mounting without privileges needs a program that is not there.
    #[error("`fusermount3` was found neither in `FUSERMOUNT_PATH` nor on `PATH`")]
    FusermountMissing,
    /// `fusermount3` cannot be run or talked to.
    #[error("`{}` cannot be used: {error}", .program.display())]
    FusermountUnusable {
        /// The program.
        program: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// `fusermount3` refused.
    #[error("`{}` refused `{}`: {message}", .program.display(), .path.display())]
    Fusermount {
        /// The program.
        program: PathBuf,
        /// The mount point.
        path: PathBuf,
        /// What it wrote to its standard error, or how it ended.
        message: String,
    },
    /// No mount of ours is at the path.
    #[error("no view is mounted on `{}`", .path.display())]
    NotMounted {
        /// The path.
        path: PathBuf,
    },
    /// The mount is in use.
    #[error("`{}` is in use{}", .path.display(), super::holders::list(.holders))]
    Busy {
        /// The mount point.
        path: PathBuf,
        /// Who holds it, as far as this user may see.
        holders: Vec<Holder>,
    },
    /// The kernel refused to unmount.
    #[error("the kernel refused to unmount `{}`: {}", .path.display(), .error.desc())]
    Unmount {
        /// The mount point.
        path: PathBuf,
        /// Why.
        error: Errno,
    },
    /// The mount was unmounted and is still there.
    #[error("`{}` is still mounted", .path.display())]
    StillMounted {
        /// The mount point.
        path: PathBuf,
    },
    /// A process did not end in time.
    #[error("process {pid} has not ended")]
    StillRunning {
        /// The process.
        pid: u32,
    },
    /// A process cannot be waited for.
    #[error("process {pid} cannot be waited for: {error}")]
    Wait {
        /// The process.
        pid: u32,
        /// Why.
        error: io::Error,
    },
    /// The kernel's control files of FUSE connections are not there.
    #[error(
        "FUSE connection {connection} cannot be aborted: `/sys/fs/fuse/connections` is not mounted"
    )]
    NoConnectionControl {
        /// The device minor of the mount.
        connection: u32,
    },
    /// A FUSE connection cannot be aborted.
    #[error("FUSE connection {connection} cannot be aborted: `{}`: {error}", .path.display())]
    Abort {
        /// The device minor of the mount.
        connection: u32,
        /// The control file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The run directory cannot be made, read or trusted.
    #[error("run directory `{}`: {reason}", .path.display())]
    RunDir {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of `/proc` cannot be read.
    #[error("`{path}` cannot be read: {error}")]
    Proc {
        /// The file.
        path: &'static str,
        /// Why.
        error: io::Error,
    },
    /// A user and mount name space cannot be entered.
    #[error("a user and mount name space cannot be entered: {step}: {error}")]
    Namespace {
        /// The step that failed.
        step: &'static str,
        /// Why.
        error: io::Error,
    },
    /// The process in the background cannot be started or cannot leave its caller.
    #[error("cannot go into the background: {step}: {error}")]
    Background {
        /// The step that failed.
        step: &'static str,
        /// Why.
        error: io::Error,
    },
}

impl MachineError {
    /// What to do about it, in words to act on.
    pub fn cure(&self) -> Option<String> {
        let cure = match self {
            Self::Device { error } => device_cure(*error).to_owned(),
            Self::MountpointMissing { path } => format!("mkdir -p '{}'", path.display()),
            Self::MountpointNotADirectory { .. } | Self::MountpointUnusable { .. } => {
                "name a directory of yours as mount point".to_owned()
            }
            Self::MountpointTaken { path, .. } => {
                format!("overlayfs-mount unmount '{}'", path.display())
            }
            Self::Mount { error: Errno::EPERM, .. } => {
                "in a container add CAP_SYS_ADMIN and allow `mount` (seccomp, AppArmor), or use \
                 `overlayfs-mount exec` or `export`"
                    .to_owned()
            }
            Self::Mount { error: Errno::ENODEV, .. } => "modprobe fuse".to_owned(),
            Self::FusermountMissing => {
                "install the package fuse3, or mount as root with CAP_SYS_ADMIN, or use `overlayfs-mount exec`"
                    .to_owned()
            }
            Self::FusermountUnusable { .. } => {
                "set FUSERMOUNT_PATH to a fusermount3 that may be executed".to_owned()
            }
            Self::Fusermount { message, path, .. } => fusermount_cure(message, path),
            Self::NotMounted { .. } => "overlayfs-mount status lists what is mounted".to_owned(),
            Self::Busy { path, holders } if holders.is_empty() => format!(
                "run as root to see who holds it, or `overlayfs-mount unmount --lazy '{}'`",
                path.display()
            ),
            Self::Busy { path, .. } => format!(
                "end these processes or leave the directory, or `overlayfs-mount unmount --lazy '{}'`",
                path.display()
            ),
            Self::Unmount { error: Errno::EPERM, .. } => {
                "unmount as the user who mounted, or as root".to_owned()
            }
            Self::StillMounted { path } => {
                format!("overlayfs-mount unmount --lazy '{}'", path.display())
            }
            Self::StillRunning { pid } => format!("kill -TERM {pid}"),
            Self::NoConnectionControl { .. } => {
                "mount -t fusectl fusectl /sys/fs/fuse/connections".to_owned()
            }
            Self::Abort { .. } => "abort as root, or as the user who mounted".to_owned(),
            Self::RunDir { path, .. } => format!(
                "make `{}` a directory of yours with mode 0700, or set OVERLAYFS_MOUNT_RUN_DIR",
                path.display()
            ),
            Self::Proc { .. } => "mount -t proc proc /proc".to_owned(),
            Self::Namespace { .. } => "allow user name spaces (sysctl user.max_user_namespaces, \
                 kernel.apparmor_restrict_unprivileged_userns=0), or use `overlayfs-mount export`"
                .to_owned(),
            Self::Background { .. } => "run in the foreground with `-f`".to_owned(),
            Self::Mount { .. } | Self::Unmount { .. } => "overlayfs-mount doctor".to_owned(),
            Self::Wait { .. } => return None,
        };
        Some(cure)
    }
}

/// What helps when `/dev/fuse` cannot be opened.
fn device_cure(error: Errno) -> &'static str {
    match error {
        Errno::ENOENT => "modprobe fuse; in a container pass the device (--device /dev/fuse)",
        Errno::ENODEV | Errno::ENXIO => "modprobe fuse",
        Errno::EACCES => "chmod 0666 /dev/fuse as root, or mount as root",
        Errno::EPERM => {
            "the device cgroup forbids it: pass the device (--device /dev/fuse, a device plugin) or run privileged"
        }
        _ => "overlayfs-mount doctor",
    }
}

fn fusermount_cure(message: &str, path: &std::path::Path) -> String {
    if message.contains("allow_other") {
        "write `user_allow_other` into /etc/fuse.conf, or set `allowOther: false`".to_owned()
    } else if message.contains("has no write access") {
        format!("mount on a directory of yours: `{}` is not writable for you", path.display())
    } else if message.contains("/dev/fuse: Permission denied") {
        device_cure(Errno::EACCES).to_owned()
    } else if message.contains("peration not permitted") {
        "fusermount3 has to be owned by root and setuid, and no_new_privs must be off; in a container add \
         CAP_SYS_ADMIN, or use `overlayfs-mount exec` or `export`"
            .to_owned()
    } else {
        "overlayfs-mount doctor".to_owned()
    }
}
