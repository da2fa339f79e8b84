//! Capabilities, gaining more of them, and what a core dump would give away.

use std::collections::HashSet;

use caps::{CapSet, Capability};
use nix::sys::prctl;
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::machine::user;

/// What beyond reading and writing files as root does a worker keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeptPrivileges {
    /// It listens on a port below 1024.
    pub binds_low_port: bool,
    /// It lets the kernel read files by itself.
    pub passes_files_through: bool,
}

/// This process and all that it starts gain no privileges by executing a program.
pub(super) fn set_no_new_privs() -> Result<(), String> {
    prctl::set_no_new_privs().map_err(|error| error.to_string())
}

pub(super) fn has_no_new_privs() -> bool {
    user::has_no_new_privs()
}

/// The capabilities of this process, as `cap_dac_override`.
pub(super) fn held() -> Vec<String> {
    let held = caps::read(None, CapSet::Effective).unwrap_or_default();
    let mut names: Vec<_> = held.iter().map(|held| held.to_string().to_lowercase()).collect();
    names.sort();
    names
}

/// Drops all capabilities but those few, also from what a program that is executed could get back.
///
/// `CAP_DAC_OVERRIDE` stays where it was: who owns a cache is no obstacle for root, and a pack of somebody else's can be hard-linked.
/// Where files may be read and written Landlock decides.
pub(super) fn drop_all_but(kept: KeptPrivileges) -> Result<(), String> {
    let said = |error: caps::errors::CapsError| error.to_string();
    let held = caps::read(None, CapSet::Permitted).map_err(said)?;
    let mut wanted = HashSet::from([Capability::CAP_DAC_OVERRIDE]);
    if kept.binds_low_port {
        wanted.insert(Capability::CAP_NET_BIND_SERVICE);
    }
    if kept.passes_files_through {
        // The kernel asks for no less (`fuse_backing_open`, `fs/fuse/backing.c`).
        wanted.insert(Capability::CAP_SYS_ADMIN);
    }
    wanted.retain(|capability| held.contains(capability));
    let inherited: HashSet<_> = wanted
        .iter()
        .copied()
        .filter(|capability| *capability == Capability::CAP_DAC_OVERRIDE)
        .collect();
    // Kernels before 4.3 have none, and who has no ambient capabilities needs none cleared.
    caps::clear(None, CapSet::Ambient).unwrap_or_default();
    // Before the bounding set is empty: nothing can be added afterwards.
    caps::set(None, CapSet::Inheritable, &inherited).map_err(said)?;
    if held.contains(&Capability::CAP_SETPCAP) {
        caps::clear(None, CapSet::Bounding).map_err(said)?;
    }
    caps::set(None, CapSet::Effective, &wanted).map_err(said)?;
    caps::set(None, CapSet::Permitted, &wanted).map_err(said)
}

/// Nothing of this process's memory reaches a file when it dies, and nobody else of its user can read it while it lives.
pub fn no_core_dumps() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    // A lower limit is always allowed. Where the kernel pipes dumps to a program it does not look at the limit, but at the next.
    setrlimit(Resource::Core, none).unwrap_or_default();
    prctl::set_dumpable(false).unwrap_or_default();
}
