//! Mounting, or taking what somebody else mounted; and taking a mount back where the start fails.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::{debug, info, warn};

use super::DaemonError;
use super::start::{Audience, Plan};
use super::stop::Mounter;
use crate::config::resolved::{AllowOther, Config, Origin};
use crate::fuse::Owner;
use crate::machine::mount::{MountRequest, mount, mount_over};
use crate::machine::mountinfo::MountTable;
use crate::machine::stale::{Liveness, abort_abandoned, detach, probe};
use crate::machine::{connections, descriptor, pass, read_ahead, user};

/// A mount that somebody else made: where its descriptor comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// It was inherited under this number.
    Number(i32),
    /// The privileged side mounts, and passes it over this socket.
    Socket(PathBuf),
}

/// The descriptor of a mount, and what has to be done about the mount in the end.
pub(super) struct Attached<'a> {
    pub(super) fd: OwnedFd,
    pub(super) mounter: Mounter,
    pub(super) undo: Option<Undo<'a>>,
}

impl Given {
    /// Takes what was mounted.
    pub(super) fn take<'a>(self) -> Result<Attached<'a>, DaemonError> {
        let (fd, mounter) = match self {
            Self::Number(number) => (descriptor::take(number)?, Mounter::Somebody),
            Self::Socket(socket) => {
                let (fd, side) = pass::fetch(&socket)?;
                (fd, Mounter::Passing(side))
            }
        };
        Ok(Attached { fd, mounter, undo: None })
    }
}

/// Mounts.
pub(super) fn attach(plan: &Plan) -> Result<Attached<'_>, DaemonError> {
    let request = request(plan);
    let mounted = match plan.audience {
        Audience::Everybody => mount(&request)?,
        Audience::OneCommand | Audience::Given => mount_over(&request)?,
    };
    let mounter = Mounter::Us(connection(&plan.mountpoint));
    Ok(Attached { fd: mounted.fd, mounter, undo: Some(Undo { mountpoint: &plan.mountpoint }) })
}

/// Takes the mount back unless all went well.
pub(super) struct Undo<'a> {
    mountpoint: &'a Path,
}

impl Undo<'_> {
    /// All went well.
    pub(super) fn disarm(self) {
        std::mem::forget(self);
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if let Err(error) = detach(self.mountpoint) {
            warn!(%error, "the mount could not be taken back");
        }
    }
}

fn request(plan: &Plan) -> MountRequest {
    let allow_other = match plan.config.mount.allow_other {
        AllowOther::Auto => user::may_allow_other(),
        AllowOther::Yes => true,
        AllowOther::No => false,
    };
    MountRequest {
        mountpoint: plan.mountpoint.clone(),
        source_name: source_name(&plan.config.origin),
        allow_other,
        default_permissions: true,
        forbids_execution: plan.forbids_execution,
        labels: plan.labels.clone(),
    }
}

/// What the kernel lists as the source of the mount.
pub(super) fn source_name(origin: &Origin) -> OsString {
    match origin {
        Origin::File(path) | Origin::Values(path) => path.clone().into_os_string(),
        Origin::CommandLine => OsString::from("overlayfs-mount"),
    }
}

/// Who owns every file of the view.
pub(super) fn owner(config: &Config) -> Owner {
    let (uid, gid) = user::effective_ids();
    Owner { uid: config.mount.uid.unwrap_or(uid), gid: config.mount.gid.unwrap_or(gid) }
}

/// The number by which the kernel knows the connection of the mount just made.
pub(super) fn connection(mountpoint: &Path) -> Option<u32> {
    let table = MountTable::read().ok()?;
    table.topmost_at(mountpoint).map(|mount| mount.minor)
}

/// Makes reads of large files fewer and larger, where that is allowed. Not before the handshake, in which the kernel sets its own.
pub(super) fn raise_read_ahead(connection: Option<u32>) {
    let Some(connection) = connection else { return };
    if let Err(error) = read_ahead::raise(connection) {
        debug!(%error, "the kernel reads ahead no further than by itself");
    }
}

/// Detaches a view of ours whose daemon has died. A second mount over it would succeed silently and hide it. The mounts that there are then.
pub(super) fn clear_stale(mountpoint: &Path) -> Result<MountTable, DaemonError> {
    loop {
        let table = MountTable::read()?;
        let Some(mount) = table.topmost_at(mountpoint).filter(|mount| mount.is_ours()) else {
            return Ok(table);
        };
        if abort_abandoned(mountpoint)? {
            warn!(mountpoint = %mountpoint.display(), "a mount was here whose daemon was killed and could not end: aborted");
            continue;
        }
        match probe(mountpoint, PROBE) {
            Liveness::Dead => {
                warn!(mountpoint = %mountpoint.display(), "a mount was here whose daemon has died: detached");
                detach(mountpoint)?;
            }
            // Taken by a daemon that lives: `mount` refuses with the cure.
            Liveness::Alive | Liveness::Silent | Liveness::Forbidden => {
                let waiting = connections::waiting(mount.minor);
                info!(mountpoint = %mountpoint.display(), ?waiting, "a view is mounted here already");
                return Ok(table);
            }
        }
    }
}

/// How long a mount that may be dead has for its answer.
const PROBE: Duration = Duration::from_secs(2);
