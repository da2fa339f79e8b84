//! What of this machine would stop a mount: checks, each with what was seen and the cure.

mod confinement;
mod site;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Serialize;

use super::mountinfo::MountTable;
use super::stale::{Liveness, probe};
use super::{MachineError, fusermount, kernel, mount, run_dir::RunDir, user};

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
    /// A check that was made.
    pub fn new(id: &'static str, title: &'static str, seen: CheckOutcome) -> Self {
        let CheckOutcome { outcome, evidence, cure } = seen;
        Self { id, title, outcome, evidence, cure }
    }
}

/// The outcome of a check before it has a name.
#[derive(Debug)]
pub struct CheckOutcome {
    outcome: Outcome,
    evidence: String,
    cure: Option<String>,
}

impl CheckOutcome {
    /// Nothing to do.
    pub fn ok(evidence: impl Into<String>) -> Self {
        Self { outcome: Outcome::Ok, evidence: evidence.into(), cure: None }
    }

    /// Mounting works without it.
    pub fn warn(evidence: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { outcome: Outcome::Warn, evidence: evidence.into(), cure: Some(cure.into()) }
    }

    /// A mount would fail.
    pub fn fail(evidence: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { outcome: Outcome::Fail, evidence: evidence.into(), cure: Some(cure.into()) }
    }
}

/// Looks at this machine. Changes nothing, and waits at most a second for each view that is mounted.
pub fn checks() -> Vec<Check> {
    vec![
        Check::new("kernel", "kernel version", kernel_version()),
        Check::new("proc", "/proc", proc()),
        Check::new("device", "/dev/fuse", device()),
        Check::new("privileges", "who may mount", privileges()),
        Check::new("no-new-privs", "whether setuid programs have an effect", no_new_privs()),
        Check::new("fusermount", "fusermount3", fusermount_program()),
        Check::new("allow-other", "mounting for other users", allow_other()),
        Check::new(
            "user-namespaces",
            "user name spaces (`exec` without root)",
            confinement::user_namespaces(),
        ),
        Check::new("apparmor", "AppArmor", confinement::apparmor()),
        Check::new("selinux", "SELinux", confinement::selinux()),
        Check::new("seccomp", "system calls that are filtered", confinement::seccomp()),
        Check::new("landlock", "closing files to a worker (Landlock)", confinement::landlock()),
        Check::new(
            "worker-filter",
            "closing system calls to a worker (seccomp)",
            confinement::worker_filter(),
        ),
        Check::new("takeover", "another process going on with a mount", confinement::takeover()),
        Check::new("features", "what the kernel has for us", confinement::features()),
        Check::new("passthrough", "large files read by the kernel itself", passthrough()),
        Check::new("run-dir", "run directory for control sockets", run_dir()),
        Check::new("connections", "control of FUSE connections", connections()),
        Check::new("stale", "views that are mounted", stale()),
        Check::new("git", "the git program (`sync`)", git()),
    ]
}

/// Looks at the place where a view is to be mounted.
pub fn checks_of(mountpoint: &Path) -> Vec<Check> {
    vec![
        Check::new("mount-point", "the mount point", site::mount_point(mountpoint)),
        Check::new("propagation", "who else sees a mount there", site::propagation(mountpoint)),
    ]
}

fn kernel_version() -> CheckOutcome {
    let release = kernel::release();
    match kernel::version(&release) {
        Some(version) if version < kernel::OLDEST => {
            CheckOutcome::fail(format!("Linux {release}"), "use Linux 5.10 or newer")
        }
        Some(_) => CheckOutcome::ok(format!("Linux {release}")),
        None => CheckOutcome::warn(format!("`{release}`"), "use Linux 5.10 or newer"),
    }
}

fn proc() -> CheckOutcome {
    match MountTable::read() {
        Ok(table) => {
            CheckOutcome::ok(format!("{} mounts in this name space", table.mounts().len()))
        }
        Err(error) => CheckOutcome::fail(error.to_string(), error.cure().unwrap_or_default()),
    }
}

/// `fusermount3` opens the device with the rights of the user who calls it, so this holds for ordinary users too.
fn device() -> CheckOutcome {
    let Err(error) = mount::open_device() else { return CheckOutcome::ok("can be opened") };
    let more = match fs::metadata("/dev/fuse") {
        Ok(found) => format!("mode {:04o} of user {}", found.mode() & 0o7777, found.uid()),
        Err(_) if has_filesystem("fuse") => {
            "the kernel has FUSE, so the device is not passed to this container".to_owned()
        }
        Err(_) => "the kernel has no FUSE, or its module is not loaded".to_owned(),
    };
    CheckOutcome::fail(format!("{error}; {more}"), error.cure().unwrap_or_default())
}

/// Whether the kernel knows a file system by now; a module may be loaded later.
fn has_filesystem(name: &str) -> bool {
    fs::read_to_string("/proc/filesystems")
        .is_ok_and(|text| text.lines().any(|line| line.split_whitespace().last() == Some(name)))
}

fn privileges() -> CheckOutcome {
    let (uid, _) = user::effective_ids();
    if user::has_sys_admin() {
        return CheckOutcome::ok(format!("user {uid} has CAP_SYS_ADMIN and mounts itself"));
    }
    CheckOutcome::ok(format!("user {uid} has no CAP_SYS_ADMIN and mounts through fusermount3"))
}

fn no_new_privs() -> CheckOutcome {
    match (user::has_no_new_privs(), user::has_sys_admin()) {
        (false, _) => CheckOutcome::ok("setuid programs have an effect"),
        (true, true) => {
            CheckOutcome::ok("no_new_privs is set, and this user needs no setuid program")
        }
        (true, false) => CheckOutcome::fail(
            "no_new_privs is set: fusermount3 has no privileges",
            "allow privilege escalation (NoNewPrivileges=no, allowPrivilegeEscalation: true), or use `overlayfs-mount exec`",
        ),
    }
}

fn git() -> CheckOutcome {
    let mut command = Command::new("git");
    match command.arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output() {
        Ok(output) if output.status.success() => {
            CheckOutcome::ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        }
        Ok(_) | Err(_) => CheckOutcome::warn(
            "`git` cannot be run: nothing can be cloned or fetched",
            "install git, for example with `apt-get install git`",
        ),
    }
}

fn fusermount_program() -> CheckOutcome {
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
        Some(_) if is_needed && !Path::new(fusermount::MTAB).exists() => CheckOutcome::warn(
            format!("{} is missing: fusermount3 mounts, and cannot unmount", fusermount::MTAB),
            fusermount::MTAB_CURE,
        ),
        Some(_) if is_needed && !user::has_name() => CheckOutcome::fail(
            format!("user {} has no name, and fusermount3 wants one", user::effective_ids().0),
            fusermount::NAME_CURE,
        ),
        Some(0) => CheckOutcome::ok(list(&candidates[..1])),
        Some(chosen) => CheckOutcome::warn(
            format!(
                "{} is setuid, but {} comes before it",
                list(&candidates[chosen..=chosen]),
                list(&candidates[..chosen])
            ),
            format!("export FUSERMOUNT_PATH={}", list(&candidates[chosen..=chosen])),
        ),
        None if !is_needed => CheckOutcome::ok("not needed: this user mounts itself"),
        None if candidates.is_empty() => {
            let error = MachineError::FusermountMissing;
            CheckOutcome::fail(error.to_string(), error.cure().unwrap_or_default())
        }
        None => CheckOutcome::fail(
            format!("{} is not owned by root and setuid", list(&candidates)),
            format!("chown root '{0}' && chmod u+s '{0}'", candidates[0].program.display()),
        ),
    }
}

fn allow_other() -> CheckOutcome {
    if user::may_allow_other() {
        CheckOutcome::ok("this user may mount for others")
    } else {
        CheckOutcome::warn(
            "`user_allow_other` is not in /etc/fuse.conf: only this user will see the view",
            "write `user_allow_other` into /etc/fuse.conf, as root",
        )
    }
}

/// What is asked of the state directory when a view is mounted is left out: here it is not known.
fn passthrough() -> CheckOutcome {
    if kernel::version(&kernel::release()).is_some_and(|version| version < kernel::PASSES_THROUGH) {
        return CheckOutcome::warn(
            "this kernel is too old for `-o passthrough`",
            "use Linux 6.9 or newer, or do without `-o passthrough`",
        );
    }
    match super::passthrough::allowed(Path::new("/")) {
        Ok(_) => CheckOutcome::ok("`-o passthrough` is possible"),
        Err(error) => CheckOutcome::warn(error.to_string(), error.cure().unwrap_or_default()),
    }
}

fn run_dir() -> CheckOutcome {
    match RunDir::make() {
        Ok(dir) => CheckOutcome::ok(dir.path().display().to_string()),
        Err(error) => CheckOutcome::warn(error.to_string(), error.cure().unwrap_or_default()),
    }
}

fn connections() -> CheckOutcome {
    if super::connections::is_control_mounted() {
        CheckOutcome::ok("/sys/fs/fuse/connections is mounted")
    } else {
        CheckOutcome::warn(
            "/sys/fs/fuse/connections is not mounted: a view that hangs cannot be aborted",
            "mount -t fusectl fusectl /sys/fs/fuse/connections",
        )
    }
}

fn stale() -> CheckOutcome {
    let Ok(table) = MountTable::read() else { return CheckOutcome::ok("none") };
    let mut dead = Vec::new();
    for mount in table.ours() {
        match probe(&mount.mountpoint, Duration::from_secs(1)) {
            Liveness::Dead | Liveness::Silent => dead.push(mount.mountpoint.display().to_string()),
            Liveness::Alive | Liveness::Forbidden => {}
        }
    }
    match dead.first() {
        None => CheckOutcome::ok(format!("{} mounted, all answer", table.ours().count())),
        Some(first) => CheckOutcome::warn(
            format!("nobody answers for {}", dead.join(", ")),
            format!("overlayfs-mount unmount --lazy '{first}'"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ok_has_a_cure_and_ids_are_unique() {
        let dir = tempfile::tempdir().unwrap();
        let mut checks = checks();
        checks.extend(checks_of(&dir.path().join("a/b")));
        for check in &checks {
            assert_eq!(check.cure.is_none(), check.outcome == Outcome::Ok, "{check:?}");
        }
        let ids: std::collections::HashSet<_> = checks.iter().map(|check| check.id).collect();
        assert_eq!(ids.len(), checks.len());
        // What errors refer to is there.
        for id in [
            "device",
            "fusermount",
            "privileges",
            "mount-point",
            "stale",
            "apparmor",
            "selinux",
            "seccomp",
        ] {
            assert!(ids.contains(id), "{id}");
        }
    }
}
