//! How old the kernel is, for what cannot be found out by trying it.

use nix::sys::utsname::uname;

/// Two numbers of a kernel's version.
pub type Version = (u32, u32);

/// The oldest kernel that is supported.
pub const OLDEST: Version = (5, 10);
/// The first kernel that reads files by itself (FUSE passthrough).
pub const PASSES_THROUGH: Version = (6, 9);
/// The first kernel on which another process can go on with a mount (`FUSE_NOTIFY_RESEND`).
const HANDS_OVER: Version = (6, 9);
/// What holds before that one.
pub const NO_HANDOVER: &str = "before Linux 6.9 no other process can go on with a mount";

/// The kernel's version, as it gives it.
pub fn release() -> String {
    let found = uname().ok();
    found.map(|found| found.release().to_string_lossy().into_owned()).unwrap_or_default()
}

/// The first two numbers of a version.
pub fn version(release: &str) -> Option<Version> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Whether another process can go on with a mount on this kernel.
pub fn hands_mounts_over() -> bool {
    version(&release()).is_some_and(|version| version >= HANDS_OVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version("6.18.44-fc-v782"), Some((6, 18)));
        assert_eq!(version("6.12.117+deb13-amd64"), Some((6, 12)));
        assert_eq!(version("strange"), None);
        assert!(version("5.9.1").unwrap() < OLDEST);
        assert!(version("6.1.0-50-amd64").unwrap() < HANDS_OVER);
        assert!(version("6.10").unwrap() > HANDS_OVER);
    }
}
