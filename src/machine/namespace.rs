//! A user and mount name space of one's own, in which mounting needs no privileges.

use std::fs;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};

use rustix::thread::{
    CapabilitySet, capabilities, configure_capability_in_ambient_set, set_capabilities,
};

use super::{MachineError, lsm, user};

/// Enters a new user and mount name space with the same user and group numbers.
///
/// The process may then mount there, until it executes another program; what it mounts is seen by itself and its
/// children only. To be called while the process has one thread (unshare(2)). Groups other than the effective one count
/// for nobody inside; what they give access to stays accessible. What is mounted outside later is seen inside.
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
    let (uid, gid) = user::effective_ids();
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .map_err(|error| failed("unshare", error))?;
    let write = |path: &'static str, text: String| {
        fs::write(path, text).map_err(|error| {
            failed(path, Errno::from_raw(error.raw_os_error().unwrap_or_default()))
        })
    };
    // Without it a user who is not privileged outside may not write the map of groups (user_namespaces(7)).
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    write("/proc/self/gid_map", format!("{gid} {gid} 1"))?;
    keep_mounts_inside()
}

/// Enters a new mount name space, where this process may mount already: nothing about its user changes.
///
/// # Errors
/// The kernel or a security module forbids it.
pub fn enter_mount_namespace() -> Result<(), MachineError> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|error| failed("unshare", error))?;
    keep_mounts_inside()
}

/// Nothing that is mounted inside is seen outside.
fn keep_mounts_inside() -> Result<(), MachineError> {
    let flags = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
        .map_err(|error| failed("keeping mounts inside", error))
}

fn failed(step: &'static str, error: Errno) -> MachineError {
    let words = || format!("a user and mount name space cannot be entered: {step}");
    lsm::refused(error, words, || {
        let obstacle = obstacles().into_iter().next();
        MachineError::Namespace { step, error, obstacle }
    })
}

/// Whether programs that this process starts keep the right to mount although their user is not root.
#[derive(Debug)]
pub struct HandedOn {
    inheritable: CapabilitySet,
}

/// Lets programs that this process starts mount, too: without it a user other than root loses the capability whenever a
/// program is executed (capabilities(7), ambient capabilities).
///
/// # Errors
/// The process does not hold `CAP_SYS_ADMIN` in its name space, or the kernel forbids it.
pub fn let_programs_mount() -> Result<HandedOn, MachineError> {
    let hand_on = || {
        let mut sets = capabilities(None)?;
        let inheritable = sets.inheritable;
        sets.inheritable |= CapabilitySet::SYS_ADMIN;
        set_capabilities(None, sets)?;
        configure_capability_in_ambient_set(CapabilitySet::SYS_ADMIN, true)?;
        Ok(HandedOn { inheritable })
    };
    hand_on().map_err(|error: rustix::io::Errno| {
        failed("keeping CAP_SYS_ADMIN", Errno::from_raw(error.raw_os_error()))
    })
}

impl HandedOn {
    /// Takes it back for the programs that are started from now on.
    ///
    /// # Errors
    /// The kernel forbids it.
    pub fn take_back(self) -> Result<(), MachineError> {
        let take_back = || {
            configure_capability_in_ambient_set(CapabilitySet::SYS_ADMIN, false)?;
            let mut sets = capabilities(None)?;
            sets.inheritable = self.inheritable;
            set_capabilities(None, sets)
        };
        take_back().map_err(|error: rustix::io::Errno| {
            failed("giving up CAP_SYS_ADMIN", Errno::from_raw(error.raw_os_error()))
        })
    }
}

/// Something that keeps users without privileges from having user name spaces: what was seen, which check of `doctor` says so, and the cure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Obstacle {
    /// The check of `doctor`.
    pub check: &'static str,
    /// What was seen.
    pub seen: &'static str,
    /// What to do about it.
    pub cure: &'static str,
}

/// What is known to forbid user name spaces: a file, the content that forbids, and what it means.
const FORBIDDING: [(&str, &str, Obstacle); 3] = [
    (
        "/proc/sys/user/max_user_namespaces",
        "0",
        Obstacle {
            check: "user-namespaces",
            seen: "user.max_user_namespaces is 0",
            cure: "sysctl user.max_user_namespaces=10000",
        },
    ),
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        Obstacle {
            check: "user-namespaces",
            seen: "kernel.unprivileged_userns_clone is 0",
            cure: "sysctl kernel.unprivileged_userns_clone=1",
        },
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        Obstacle {
            check: "apparmor",
            seen: "kernel.apparmor_restrict_unprivileged_userns is 1: AppArmor takes all capabilities in a user name space",
            cure: "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or give the program an AppArmor profile with `userns,`",
        },
    ),
];

/// What keeps a user name space from being of use, as far as it can be seen without trying; what is surest comes first.
pub fn obstacles() -> Vec<Obstacle> {
    let mut found = Vec::new();
    if !Path::new("/proc/self/ns/user").exists() {
        found.push(Obstacle {
            check: "user-namespaces",
            seen: "the kernel has no user name spaces, or /proc is not mounted",
            cure: "use a kernel with CONFIG_USER_NS",
        });
    }
    let forbids = |(file, forbidden, _): &&(&str, &str, Obstacle)| {
        fs::read_to_string(file).is_ok_and(|text| text.trim() == *forbidden)
    };
    found.extend(FORBIDDING.iter().filter(forbids).map(|(_, _, obstacle)| *obstacle));
    if user::is_filtered() {
        found.push(Obstacle {
            check: "seccomp",
            seen: "a seccomp filter is in force, as in most containers",
            cure: "allow unshare and mount (a seccomp profile of your own, or `--security-opt seccomp=unconfined`)",
        });
    }
    found
}
