//! The security module that confines this process, where one does: what it forbids is refused with a word that says nothing of it.

use std::fmt;
use std::fs;

use nix::errno::Errno;

use super::selinux::{self, Mode};
use super::{FS_TYPE, MachineError};

/// A security module with rules for this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecurityModule {
    /// `AppArmor`, with the name and the mode of the profile.
    AppArmor(String),
    /// `SELinux`, with the context.
    SeLinux(String),
}

impl SecurityModule {
    /// The one that confines this process, as far as `/proc` and `/sys` say so.
    pub fn of_this_process() -> Option<Self> {
        let profile = fs::read_to_string("/proc/self/attr/apparmor/current").unwrap_or_default();
        Self::of(&profile, Mode::now(), &selinux::context())
    }

    fn of(profile: &str, mode: Mode, context: &str) -> Option<Self> {
        let profile = profile.trim_end();
        let is_free = ["", "unconfined"].contains(&profile)
            || ["(complain)", "(unconfined)"].iter().any(|mode| profile.ends_with(mode));
        if !is_free {
            return Some(Self::AppArmor(profile.to_owned()));
        }
        let decides = match mode {
            Mode::Enforcing | Mode::Unknown => !context.is_empty(),
            Mode::Off | Mode::Permissive => false,
        };
        decides.then(|| Self::SeLinux(context.to_owned()))
    }

    /// Whether what it forbids fails so.
    fn refuses_with(&self, error: Errno) -> bool {
        match (self, error) {
            // SELinux denies capabilities too.
            (_, Errno::EACCES) | (Self::SeLinux(_), Errno::EPERM) => true,
            (Self::SeLinux(_) | Self::AppArmor(_), _) => false,
        }
    }

    /// What lets this process mount.
    pub fn cure(&self) -> String {
        match self {
            Self::AppArmor(_) => format!(
                "allow `mount fstype={FS_TYPE},` in the profile (`dmesg | grep DENIED` shows what was denied; in a container \
                 `--security-opt apparmor=unconfined`, in Kubernetes `appArmorProfile: {{type: Unconfined}}`), or use `overlayfs-mount export`"
            ),
            Self::SeLinux(_) => {
                "allow it (`ausearch -m avc -ts recent` shows what was denied; in a container `--security-opt label=disable`, in Kubernetes `seLinuxOptions: {type: spc_t}`), or use \
                 `overlayfs-mount export`"
                    .to_owned()
            }
        }
    }

    /// The check of `doctor` that says more.
    pub fn check(&self) -> &'static str {
        match self {
            Self::AppArmor(_) => "apparmor",
            Self::SeLinux(_) => "selinux",
        }
    }
}

impl fmt::Display for SecurityModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AppArmor(profile) => {
                write!(f, "the AppArmor profile `{profile}` confines this process")
            }
            Self::SeLinux(context) => write!(f, "SELinux confines this process as `{context}`"),
        }
    }
}

/// The error for what the kernel refused, where a security module may have had it refuse.
pub(super) fn refused(
    error: Errno,
    step: impl FnOnce() -> String,
    otherwise: impl FnOnce() -> MachineError,
) -> MachineError {
    let module = SecurityModule::of_this_process().filter(|module| module.refuses_with(error));
    module.map_or_else(otherwise, |module| MachineError::Forbidden { step: step(), error, module })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_confines_is_told_from_who_only_looks_on() {
        let apparmor = |profile: &str| SecurityModule::of(profile, Mode::Off, profile);
        assert_eq!(
            apparmor("docker-default (enforce)\n"),
            Some(SecurityModule::AppArmor("docker-default (enforce)".to_owned()))
        );
        for free in ["", "unconfined\n", "flatpak (unconfined)\n", "mine (complain)\n"] {
            assert_eq!(apparmor(free), None, "{free}");
        }
        let context = "system_u:system_r:container_t:s0:c1,c2";
        let selinux = |mode| SecurityModule::of("", mode, context);
        let confined = Some(SecurityModule::SeLinux(context.to_owned()));
        assert_eq!(selinux(Mode::Enforcing), confined);
        // A container does not see whether it is enforced.
        assert_eq!(selinux(Mode::Unknown), confined);
        assert_eq!(selinux(Mode::Permissive), None);
        assert_eq!(selinux(Mode::Off), None);
    }

    #[test]
    fn what_selinux_forbids_may_fail_for_lack_of_a_capability() {
        let selinux = SecurityModule::SeLinux("u:r:t".to_owned());
        let apparmor = SecurityModule::AppArmor("docker-default (enforce)".to_owned());
        assert!(selinux.refuses_with(Errno::EACCES) && apparmor.refuses_with(Errno::EACCES));
        assert!(selinux.refuses_with(Errno::EPERM) && !apparmor.refuses_with(Errno::EPERM));
        assert!(!selinux.refuses_with(Errno::EINVAL));
    }

    #[test]
    fn what_a_module_forbids_names_it_and_its_cure() {
        let error = MachineError::Forbidden {
            step: "mounting on `/view`".to_owned(),
            error: Errno::EACCES,
            module: SecurityModule::AppArmor("docker-default (enforce)".to_owned()),
        };
        let said = error.to_string();
        assert!(said.contains("Permission denied") && said.contains("AppArmor"), "{said}");
        assert!(said.contains("`docker-default (enforce)`"), "{said}");
        let cure = error.cure().unwrap();
        assert!(cure.contains("mount fstype=fuse.overlayfs-mount"), "{cure}");
        assert_eq!(error.check(), Some("apparmor"));
    }
}
