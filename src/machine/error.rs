//! The one error of this room: what failed on this machine, where, and the cure.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;
use thiserror::Error;

use super::holders::Holder;
use super::labels::Lack;
use super::lsm::SecurityModule;
use super::namespace::Obstacle;

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
    /// A mount cannot have the labels that were asked for.
    #[error("`-o {option}=` is not possible: {}", .lack.text())]
    Label {
        /// The option.
        option: &'static str,
        /// What is lacking.
        lack: Lack,
    },
    /// The kernel refused the mount with its labels.
    #[error("the kernel refused to mount on `{}` with `{labels}`: Invalid argument", .path.display())]
    Labelled {
        /// The mount point.
        path: PathBuf,
        /// The labels.
        labels: String,
    },
    /// The kernel refused because a security module forbids it, as far as can be seen.
    #[error("{step}: {}: {module}", .error.desc())]
    Forbidden {
        /// What was refused.
        step: String,
        /// Why.
        error: Errno,
        /// The module.
        module: SecurityModule,
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
    /// The kernel would not be allowed to read files by itself.
    #[error("`-o passthrough` is not possible: {lack}")]
    Passthrough {
        /// What is lacking.
        lack: &'static str,
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
    #[error(
        "process {pid} has not ended: it may be held in another mount name space, or through a bind mount"
    )]
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
    #[error("a user and mount name space cannot be entered: {step}: {}{}", .error.desc(), seen(.obstacle.as_ref()))]
    Namespace {
        /// The step that failed.
        step: &'static str,
        /// Why.
        error: Errno,
        /// What is known to forbid it.
        obstacle: Option<Obstacle>,
    },
    /// The directories above a mount point cannot be made in a name space of our own.
    #[error("`{}` cannot be made in this name space: {step}: {}", .path.display(), .error.desc())]
    Site {
        /// The mount point.
        path: PathBuf,
        /// The step that failed.
        step: String,
        /// Why.
        error: Errno,
    },
    /// A descriptor that was given to us cannot be served.
    #[error("{origin}: {reason}")]
    Descriptor {
        /// Where it came from.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The socket over which a descriptor is passed cannot be used.
    #[error("socket `{}`: {step}: {error}", .path.display())]
    Pass {
        /// The socket.
        path: PathBuf,
        /// The step that failed.
        step: &'static str,
        /// Why.
        error: io::Error,
    },
    /// A program cannot be run in place of this one.
    #[error("`{program}` cannot be run: {step}: {error}")]
    Run {
        /// The program.
        program: String,
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
    /// The keeper of a mount and its worker do not come together.
    #[error("keeper and worker: {step}: {error}")]
    Keeper {
        /// The step that failed.
        step: &'static str,
        /// Why.
        error: io::Error,
    },
}

fn seen(obstacle: Option<&Obstacle>) -> String {
    obstacle.map(|obstacle| format!(" ({})", obstacle.seen)).unwrap_or_default()
}
