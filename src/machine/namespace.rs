//! A user and mount name space of one's own, in which mounting needs no privileges.

use std::fs;
use std::io;

use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};

use super::{MachineError, user};

/// Enters a new user and mount name space with the same user and group numbers.
///
/// The process may then mount there, until it executes another program; what it mounts is seen by itself and its
/// children only. To be called while the process has one thread (unshare(2)). Groups other than the effective one count
/// for nobody inside; what they give access to stays accessible.
///
/// ```standalone_crate
/// use overlayfs_mount::machine::{namespace, user};
///
/// let ids = user::effective_ids();
/// match namespace::enter_user_and_mount_namespace() {
///     Ok(()) => assert!(user::has_sys_admin() && user::effective_ids() == ids),
///     Err(error) => println!("{error}; cure: {}", error.cure().unwrap()),
/// }
/// ```
///
/// # Errors
/// The kernel or a security module forbids it; then the process may be left inside and should end.
pub fn enter_user_and_mount_namespace() -> Result<(), MachineError> {
    let failed = |step| move |error| MachineError::Namespace { step, error };
    let (uid, gid) = user::effective_ids();
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .map_err(|error| failed("unshare")(io::Error::from(error)))?;
    // Without it a user who is not privileged outside may not write the map of groups (user_namespaces(7)).
    fs::write("/proc/self/setgroups", "deny").map_err(failed("/proc/self/setgroups"))?;
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))
        .map_err(failed("/proc/self/uid_map"))?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
        .map_err(failed("/proc/self/gid_map"))?;
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
        .map_err(|error| failed("making all mounts private")(io::Error::from(error)))
}
