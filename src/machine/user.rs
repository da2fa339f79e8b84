//! Who this process is and what it may do.

use std::fs;
use std::path::Path;

use caps::{CapSet, Capability};

/// The user and group that files made by this process belong to.
pub fn effective_ids() -> (u32, u32) {
    (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
}

/// Whether this process holds `CAP_SYS_ADMIN`, in whatever user name space it is in: it may call `mount(2)`.
pub fn has_sys_admin() -> bool {
    caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).unwrap_or(false)
}

/// Whether this user has a name, as `fusermount3` wants it of who mounts. Where that cannot be known it is taken to have one.
pub fn has_name() -> bool {
    !matches!(nix::unistd::User::from_uid(nix::unistd::getuid()), Ok(None))
}

/// Whether this process is in the first user name space: there all users are mapped to themselves (`user_namespaces(7)`).
pub fn is_in_first_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Whether this process may make files in a directory.
pub fn may_write(directory: &Path) -> bool {
    nix::unistd::access(directory, nix::unistd::AccessFlags::W_OK).is_ok()
}

/// Whether this process is bound never to gain privileges, so that a setuid `fusermount3` has none.
pub fn has_no_new_privs() -> bool {
    fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| field(&status, "NoNewPrivs:").is_some_and(|value| value == "1"))
}

/// Whether a seccomp filter decides about this process's system calls.
pub fn is_filtered() -> bool {
    fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| field(&status, "Seccomp:").is_some_and(|value| value == "2"))
}

/// Whether `/etc/fuse.conf` lets every user mount with `allow_other`.
pub fn user_allow_other() -> bool {
    fs::read_to_string(Path::new("/etc/fuse.conf")).is_ok_and(|text| conf_allows_other(&text))
}

/// Whether this process may mount with `allow_other`.
pub fn may_allow_other() -> bool {
    has_sys_admin() || user_allow_other()
}

fn conf_allows_other(text: &str) -> bool {
    text.lines()
        .any(|line| line.split('#').next().is_some_and(|line| line.trim() == "user_allow_other"))
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_is_held_as_the_status_text_says() {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let held = u64::from_str_radix(field(&status, "CapEff:").unwrap(), 16).unwrap();
        assert_eq!(has_sys_admin(), held >> 21 & 1 == 1);
    }

    #[test]
    fn allow_other_counts_only_outside_comments() {
        assert!(conf_allows_other("# x\n  user_allow_other  # yes\n"));
        assert!(!conf_allows_other("#user_allow_other\nmount_max = 10\n"));
    }
}
