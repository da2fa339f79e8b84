//! A user and mount name space of one's own, in which mounting needs no privileges.

use std::fs;
use std::io;

use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};

use rustix::thread::{
    CapabilitySet, capabilities, configure_capability_in_ambient_set, set_capabilities,
};

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

/// Lets programs that this process starts mount, too: without it a user other than root loses the capability whenever a
/// program is executed (capabilities(7), ambient capabilities).
///
/// # Errors
/// The process does not hold `CAP_SYS_ADMIN` in its name space, or the kernel forbids it.
pub fn let_programs_mount() -> Result<(), MachineError> {
    let hand_on = || {
        let mut sets = capabilities(None)?;
        sets.inheritable |= CapabilitySet::SYS_ADMIN;
        set_capabilities(None, sets)?;
        configure_capability_in_ambient_set(CapabilitySet::SYS_ADMIN, true)
    };
    hand_on().map_err(|error: rustix::io::Errno| MachineError::Namespace {
        step: "keeping CAP_SYS_ADMIN",
        error: error.into(),
    })
}
