//! What a process gives up before it looks at anything that comes from others: files, system calls, capabilities, its core.
//!
//! Everything here is for good, for this process and for all that it starts. What the kernel does not know is left out and said
//! ([`Confined`]): a mount works without it. Landlock binds a thread and those that it starts later, so all of this comes before the
//! first thread.

mod calls;
mod launch;
mod paths;
mod privileges;

use serde::Serialize;

pub use launch::for_git;
pub use launch::{Launched, become_git, launch, recognize};
pub use paths::{Paths, abi};
pub use privileges::{KeptPrivileges, no_core_dumps};

/// The variable with which an operator has a worker not confine itself.
pub const VARIABLE: &str = "OVERLAYFS_MOUNT_CONFINEMENT";
/// Its one value.
const OFF: &str = "off";
/// Before the reason why something is not.
const NONE: &str = "none: ";

/// What has come of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confined {
    /// `abi N`, or `none: ` and why.
    pub landlock: String,
    /// `filter`, or `none: ` and why.
    pub seccomp: String,
    /// Whether no program that it starts can gain privileges.
    pub no_new_privs: bool,
    /// The capabilities that it still has.
    pub capabilities: Vec<String>,
    /// What did not work, in words to act on.
    pub warnings: Vec<String>,
}

impl Confined {
    /// Whether it can open but few paths.
    pub fn is_bound_to_paths(&self) -> bool {
        !self.landlock.starts_with(NONE)
    }
}

/// Whether an operator wants no confinement.
pub fn is_off() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|value| value == OFF)
}

/// Confines this process to paths, unless there is a reason not to, and to capabilities. Has to come before it starts its first thread.
pub fn confine(paths: Result<&Paths, String>, kept: KeptPrivileges) -> Confined {
    let mut warnings = Vec::new();
    if is_off() {
        warnings.push(format!("{VARIABLE}={OFF}: the worker is not confined"));
        let none = || format!("{NONE}{VARIABLE}={OFF}");
        return Confined {
            landlock: none(),
            seccomp: none(),
            no_new_privs: privileges::has_no_new_privs(),
            capabilities: privileges::held(),
            warnings,
        };
    }
    let mut said = |what: &str, outcome: Result<String, String>| match outcome {
        Ok(seen) => seen,
        Err(why) => {
            warnings.push(format!("{what}: {why}; the worker goes on without it"));
            format!("{NONE}{why}")
        }
    };
    let bound = privileges::set_no_new_privs();
    said("no_new_privs", bound.map(|()| String::new()));
    let landlock = said("Landlock", paths.and_then(Paths::enforce).map(|abi| format!("abi {abi}")));
    said("capabilities", privileges::drop_all_but(kept).map(|()| String::new()));
    let seccomp = said("system calls", calls::filter().map(|()| "filter".to_owned()));
    Confined {
        landlock,
        seccomp,
        no_new_privs: privileges::has_no_new_privs(),
        capabilities: privileges::held(),
        warnings,
    }
}

/// Whether this machine can filter system calls as [`confine`] does; why not.
///
/// # Errors
/// In words.
pub fn can_filter() -> Result<(), String> {
    calls::is_available()
}
