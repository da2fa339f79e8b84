//! What of this machine would stop a mount: checks, each with what was seen and the cure.

use std::fs;
use std::time::Duration;

use serde::Serialize;

use super::mountinfo::MountTable;
use super::stale::{Liveness, probe};
use super::{MachineError, fusermount, mount, run_dir::RunDir, user};

/// The oldest kernel that is supported.
const KERNEL_MIN: (u32, u32) = (5, 10);

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Nothing to do.
    Ok,
    /// Something is not available, and mounting works without it.
    Warn,
    /// A mount would fail.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name in machine-readable output, which stays.
    pub id: &'static str,
    /// What was looked at.
    pub title: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// What was seen.
    pub evidence: String,
    /// What to do about it.
    pub cure: Option<String>,
}

impl Check {
    fn new(id: &'static str, title: &'static str, seen: Seen) -> Self {
        let Seen { outcome, evidence, cure } = seen;
        Self { id, title, outcome, evidence, cure }
    }
}

/// The outcome of a check before it has a name.
struct Seen {
    outcome: Outcome,
    evidence: String,
    cure: Option<String>,
}

impl Seen {
    fn ok(evidence: impl Into<String>) -> Self {
        Self { outcome: Outcome::Ok, evidence: evidence.into(), cure: None }
    }

    fn warn(evidence: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { outcome: Outcome::Warn, evidence: evidence.into(), cure: Some(cure.into()) }
    }

    fn fail(evidence: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { outcome: Outcome::Fail, evidence: evidence.into(), cure: Some(cure.into()) }
    }
}

/// Looks at this machine. Changes nothing, and waits at most a second for each view that is mounted.
pub fn checks() -> Vec<Check> {
    vec![
        Check::new("kernel", "kernel version", kernel()),
        Check::new("proc", "/proc", proc()),
        Check::new("device", "/dev/fuse", device()),
        Check::new("privileges", "who may mount", privileges()),
        Check::new("fusermount", "fusermount3", fusermount_program()),
        Check::new("allow-other", "mounting for other users", allow_other()),
        Check::new("user-namespaces", "user name spaces (`exec` without root)", user_namespaces()),
        Check::new("run-dir", "run directory for control sockets", run_dir()),
        Check::new("connections", "control of FUSE connections", connections()),
        Check::new("stale", "views that are mounted", stale()),
    ]
}

fn kernel() -> Seen {
    let Ok(release) = fs::read_to_string("/proc/sys/kernel/osrelease") else {
        return Seen::warn("the kernel's version is not known", "mount -t proc proc /proc");
    };
    let release = release.trim();
    match version(release) {
        Some(version) if version < KERNEL_MIN => {
            Seen::fail(format!("Linux {release}"), "use Linux 5.10 or newer")
        }
        Some(_) => Seen::ok(format!("Linux {release}")),
        None => Seen::warn(format!("`{release}`"), "use Linux 5.10 or newer"),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn proc() -> Seen {
    match MountTable::read() {
        Ok(table) => Seen::ok(format!("{} mounts in this name space", table.mounts().len())),
        Err(error) => Seen::fail(error.to_string(), error.cure().unwrap_or_default()),
    }
}

/// `fusermount3` opens the device with the rights of the user who calls it, so this holds for ordinary users too.
fn device() -> Seen {
    match mount::open_device() {
        Ok(_) => Seen::ok("can be opened"),
        Err(error) => Seen::fail(error.to_string(), error.cure().unwrap_or_default()),
    }
}

fn privileges() -> Seen {
    let (uid, _) = user::effective_ids();
    if user::has_sys_admin() {
        return Seen::ok(format!("user {uid} has CAP_SYS_ADMIN and mounts itself"));
    }
    if user::has_no_new_privs() {
        return Seen::fail(
            format!(
                "user {uid} has no CAP_SYS_ADMIN, and no_new_privs keeps fusermount3 from having it"
            ),
            "allow privilege escalation (NoNewPrivileges=no, allowPrivilegeEscalation: true), or use `overlayfs-mount exec`",
        );
    }
    Seen::ok(format!("user {uid} has no CAP_SYS_ADMIN and mounts through fusermount3"))
}

fn fusermount_program() -> Seen {
    let candidates = fusermount::candidates();
    let is_needed = !user::has_sys_admin();
    let list = |candidates: &[fusermount::Fusermount]| {
        candidates
            .iter()
            .map(|found| found.program.display().to_string())
            .collect::<Vec<_>>()
            .join(", ")
    };
    match candidates.iter().position(|candidate| candidate.is_setuid_root) {
        Some(0) => Seen::ok(list(&candidates[..1])),
        Some(chosen) => Seen::warn(
            format!(
                "{} is setuid, but {} comes before it",
                list(&candidates[chosen..=chosen]),
                list(&candidates[..chosen])
            ),
            format!("export FUSERMOUNT_PATH={}", list(&candidates[chosen..=chosen])),
        ),
        None if !is_needed => Seen::ok("not needed: this user mounts itself"),
        None if candidates.is_empty() => {
            let error = MachineError::FusermountMissing;
            Seen::fail(error.to_string(), error.cure().unwrap_or_default())
        }
        None => Seen::fail(
            format!("{} is not owned by root and setuid", list(&candidates)),
            format!("chown root '{0}' && chmod u+s '{0}'", candidates[0].program.display()),
        ),
    }
}

fn allow_other() -> Seen {
    if user::may_allow_other() {
        Seen::ok("this user may mount for others")
    } else {
        Seen::warn(
            "`user_allow_other` is not in /etc/fuse.conf: only this user will see the view",
            "write `user_allow_other` into /etc/fuse.conf, as root",
        )
    }
}

fn user_namespaces() -> Seen {
    let read = |name: &str| {
        fs::read_to_string(format!("/proc/sys/{name}")).map(|text| text.trim().to_owned())
    };
    let forbidding = [
        ("user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"),
        ("kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile with `userns,`",
        ),
    ];
    if !std::path::Path::new("/proc/self/ns/user").exists() {
        return Seen::warn(
            "the kernel has no user name spaces",
            "use a kernel with CONFIG_USER_NS",
        );
    }
    for (name, forbidden, cure) in forbidding {
        if read(name).is_ok_and(|value| value == forbidden) {
            return Seen::warn(format!("/proc/sys/{name} is {forbidden}"), cure);
        }
    }
    Seen::ok("nothing known forbids them")
}

fn run_dir() -> Seen {
    match RunDir::make() {
        Ok(dir) => Seen::ok(dir.path().display().to_string()),
        Err(error) => Seen::warn(error.to_string(), error.cure().unwrap_or_default()),
    }
}

fn connections() -> Seen {
    if super::connections::is_control_mounted() {
        Seen::ok("/sys/fs/fuse/connections is mounted")
    } else {
        Seen::warn(
            "/sys/fs/fuse/connections is not mounted: a view that hangs cannot be aborted",
            "mount -t fusectl fusectl /sys/fs/fuse/connections",
        )
    }
}

fn stale() -> Seen {
    let Ok(table) = MountTable::read() else { return Seen::ok("none") };
    let mut dead = Vec::new();
    for mount in table.ours() {
        match probe(&mount.mountpoint, Duration::from_secs(1)) {
            Liveness::Dead | Liveness::Silent => dead.push(mount.mountpoint.display().to_string()),
            Liveness::Alive | Liveness::Forbidden => {}
        }
    }
    match dead.first() {
        None => Seen::ok(format!("{} mounted, all answer", table.ours().count())),
        Some(first) => Seen::warn(
            format!("nobody answers for {}", dead.join(", ")),
            format!("overlayfs-mount unmount --lazy '{first}'"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version("6.18.44-fc-v782"), Some((6, 18)));
        assert!(version("5.9.1").unwrap() < KERNEL_MIN);
        assert_eq!(version("strange"), None);
    }

    #[test]
    fn what_is_not_ok_has_a_cure_and_ids_are_unique() {
        let checks = checks();
        for check in &checks {
            assert_eq!(check.cure.is_none(), check.outcome == Outcome::Ok, "{check:?}");
        }
        let ids: std::collections::HashSet<_> = checks.iter().map(|check| check.id).collect();
        assert_eq!(ids.len(), checks.len());
    }
}
