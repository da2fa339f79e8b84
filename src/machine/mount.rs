//! Mounting: by the kernel's `mount(2)` with privileges, through `fusermount3` without.
//!
//! Either way there is a descriptor of `/dev/fuse` in the end, which a FUSE session is made from. `mount(2)` is called
//! with the type `fuse.overlayfs-mount`, so that both ways show the same type.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::MsFlags;

use super::labels::Labels;
use super::{FS_TYPE, MachineError, fusermount, lsm, mountpoint, user};

/// What to mount where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountRequest {
    /// The mount point, as [`mountpoint::resolve`] gave it.
    pub mountpoint: PathBuf,
    /// What the kernel lists as source of the mount: the configuration's path.
    pub source_name: OsString,
    /// Whether other users may use it.
    pub allow_other: bool,
    /// Whether the kernel checks permissions by mode, owner and group.
    pub default_permissions: bool,
    /// Whether nothing on it may be executed.
    pub forbids_execution: bool,
    /// The labels that `SELinux` is to give it.
    pub labels: Labels,
}

/// A mount that waits for its file system.
#[derive(Debug)]
pub struct NewMount {
    /// The descriptor over which the kernel speaks to the file system.
    pub fd: OwnedFd,
    /// Who mounted.
    pub via: Via,
}

/// Who mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// This process, by `mount(2)`.
    Kernel,
    /// The setuid program `fusermount3`.
    Fusermount,
}

/// Mounts. Until a FUSE session is made from the descriptor every access to the mount point waits.
///
/// Read-only, without setuid programs and without devices (S21).
///
/// # Errors
/// The mount point cannot be used (see [`mountpoint::check`]), or the kernel or `fusermount3` refused. Then nothing is mounted.
pub fn mount(request: &MountRequest) -> Result<NewMount, MachineError> {
    mountpoint::check(&request.mountpoint)?;
    mount_over(request)
}

/// As [`mount`], also where a view of ours is mounted already: that is hidden.
///
/// # Errors
/// The kernel or `fusermount3` refused, or this process cannot mount with these labels. Then nothing is mounted.
pub fn mount_over(request: &MountRequest) -> Result<NewMount, MachineError> {
    request.labels.check()?;
    if user::has_sys_admin() {
        Ok(NewMount { fd: mount_for(user::effective_ids(), request)?, via: Via::Kernel })
    } else {
        Ok(NewMount { fd: fusermount::mount(request)?, via: Via::Fusermount })
    }
}

/// The error for a mount that the kernel refused.
pub(super) fn refused(path: &Path, error: Errno) -> MachineError {
    let step = || format!("the kernel refused to mount on `{}`", path.display());
    lsm::refused(error, step, || MachineError::Mount { path: path.to_owned(), error })
}

/// Opens `/dev/fuse`.
///
/// # Errors
/// It is not there, or this process may not open it.
pub fn open_device() -> Result<OwnedFd, MachineError> {
    let opened = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    opened.map(OwnedFd::from).map_err(|error| MachineError::Device {
        error: Errno::from_raw(error.raw_os_error().unwrap_or_default()),
    })
}

/// Mounts by `mount(2)`, for the user and the group that will serve it.
///
/// # Errors
/// The kernel refused. Then nothing is mounted.
pub fn mount_for(ids: (u32, u32), request: &MountRequest) -> Result<OwnedFd, MachineError> {
    let fd = open_device()?;
    let options = data(fd.as_raw_fd(), ids, request);
    let mut flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    flags.set(MsFlags::MS_NOEXEC, request.forbids_execution);
    nix::mount::mount(
        Some(request.source_name.as_os_str()),
        &request.mountpoint,
        Some(FS_TYPE),
        flags,
        Some(options.as_str()),
    )
    .map_err(|error| match error {
        Errno::EINVAL if !request.labels.is_empty() => MachineError::Labelled {
            path: request.mountpoint.clone(),
            labels: request.labels.to_string(),
        },
        error => refused(&request.mountpoint, error),
    })?;
    Ok(fd)
}

/// What mount(2) is told beside its flags.
fn data(fd: RawFd, (uid, gid): (u32, u32), request: &MountRequest) -> String {
    let mut options = format!("fd={fd},rootmode=40000,user_id={uid},group_id={gid}");
    if request.default_permissions {
        options.push_str(",default_permissions");
    }
    if request.allow_other {
        options.push_str(",allow_other");
    }
    if !request.labels.is_empty() {
        options.push(',');
        options.push_str(&request.labels.to_string());
    }
    options
}

#[cfg(test)]
mod tests {
    use super::super::labels::Labelled;
    use super::*;

    #[test]
    fn s140_labels_are_told_to_the_kernel_in_quotes() {
        let mut labels = Labels::default();
        labels.set(Labelled::Everything, "u:object_r:t:s0:c1,c2".parse().unwrap());
        let request = MountRequest {
            mountpoint: "/mnt".into(),
            source_name: "/etc/overlays.yaml".into(),
            allow_other: true,
            default_permissions: true,
            forbids_execution: false,
            labels,
        };
        assert_eq!(
            data(5, (1, 2), &request),
            "fd=5,rootmode=40000,user_id=1,group_id=2,default_permissions,allow_other,context=\"u:object_r:t:s0:c1,c2\""
        );
        let request = MountRequest { labels: Labels::default(), ..request };
        assert!(data(5, (1, 2), &request).ends_with("default_permissions,allow_other"));
    }
}
