//! What `SELinux` says of itself: whether it is on, and what its policy allows.

use std::fs::{self, File};
use std::io::{Read, Write};

/// Whether `SELinux` decides here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The kernel has none, or it is off.
    Off,
    /// What its policy forbids is only noted.
    Permissive,
    /// What its policy forbids does not happen.
    Enforcing,
    /// It is on, and does not say more: containers do not see its file system.
    Unknown,
}

impl Mode {
    /// As the kernel says it.
    pub fn now() -> Self {
        let enforce = fs::read_to_string("/sys/fs/selinux/enforce").unwrap_or_default();
        Self::of(is_enabled(), &enforce)
    }

    fn of(is_enabled: bool, enforce: &str) -> Self {
        match (is_enabled, enforce.trim()) {
            (false, _) => Self::Off,
            (true, "0") => Self::Permissive,
            (true, "1") => Self::Enforcing,
            (true, _) => Self::Unknown,
        }
    }
}

/// Whether the kernel has `SELinux`, and it is on: then it knows its file system, also where that is not mounted.
pub fn is_enabled() -> bool {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    known.lines().any(|line| line.split_whitespace().last() == Some("selinuxfs"))
}

/// The context of this process; empty where nothing confines it.
pub fn context() -> String {
    let context = fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
    context.trim_end_matches(['\0', '\n']).to_owned()
}

/// Whether the policy allows all of these permissions; `None` where it does not say, or knows one of the names not.
///
/// By `/sys/fs/selinux/access`, as libselinux asks it (`security_compute_av(3)`).
pub fn allows(source: &str, target: &str, class: &str, permissions: &[&str]) -> Option<bool> {
    let number = |name: &str| {
        let text = fs::read_to_string(format!("/sys/fs/selinux/class/{class}/{name}")).ok()?;
        text.trim().parse::<u32>().ok()
    };
    let asked = permissions.iter().try_fold(0_u32, |asked, permission| {
        let position = number(&format!("perms/{permission}"))?.checked_sub(1)?;
        Some(asked | 1_u32.checked_shl(position)?)
    })?;
    let mut access = File::options().read(true).write(true).open("/sys/fs/selinux/access").ok()?;
    let question = format!("{source} {target} {}", number("index")?);
    access.write_all(question.as_bytes()).ok()?;
    let mut answer = String::new();
    access.read_to_string(&mut answer).ok()?;
    all_allowed(&answer, asked)
}

/// Whether an answer allows all that was asked: bits that are allowed come first, and last whether the domain is a permissive one.
fn all_allowed(answer: &str, asked: u32) -> Option<bool> {
    let mut numbers = answer.trim_end_matches('\0').split_whitespace();
    let allowed = u32::from_str_radix(numbers.next()?, 16).ok()?;
    let flags = numbers.nth(4).and_then(|flags| u32::from_str_radix(flags, 16).ok());
    Some(allowed & asked == asked || flags.is_some_and(|flags| flags & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_does_not_see_the_switch_is_not_taken_for_free() {
        assert_eq!(Mode::of(false, ""), Mode::Off);
        assert_eq!(Mode::of(true, "0"), Mode::Permissive);
        assert_eq!(Mode::of(true, "1"), Mode::Enforcing);
        assert_eq!(Mode::of(true, ""), Mode::Unknown);
    }

    #[test]
    fn an_answer_allows_what_is_in_its_bits_or_all_to_a_permissive_domain() {
        assert_eq!(all_allowed("13 ffffffff 0 ffffffff 9 0", 0x12), Some(true));
        assert_eq!(all_allowed("13 ffffffff 0 ffffffff 9 0", 0x16), Some(false));
        assert_eq!(all_allowed("0 ffffffff 0 ffffffff 9 1", 0x16), Some(true));
        assert_eq!(all_allowed("", 1), None);
        assert_eq!(allows("a:b:c", "d:e:f", "no-such-class", &["read"]), None);
    }
}
