//! What confines this process: name spaces, security modules, filters, an old kernel.

use std::fs;

use nix::fcntl::{OpenHow, openat2};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::CheckOutcome;
use crate::machine::confinement;
use crate::machine::kernel;
use crate::machine::lsm::SecurityModule;
use crate::machine::namespace::{Obstacle, obstacles};
use crate::machine::selinux::{self, Mode};
use crate::machine::user;

fn known(check: &str) -> Option<Obstacle> {
    obstacles().into_iter().find(|obstacle| obstacle.check == check)
}

fn said(obstacle: Obstacle) -> CheckOutcome {
    CheckOutcome::warn(obstacle.seen, obstacle.cure)
}

pub(super) fn user_namespaces() -> CheckOutcome {
    if let Some(obstacle) = known("user-namespaces") {
        return said(obstacle);
    }
    let most = fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    CheckOutcome::ok(format!("nothing known forbids them; at most {}", most.trim()))
}

pub(super) fn apparmor() -> CheckOutcome {
    match (SecurityModule::of_this_process(), known("apparmor")) {
        (Some(module @ SecurityModule::AppArmor(_)), _) => may_forbid(&module),
        (_, Some(_)) if user::has_sys_admin() => {
            CheckOutcome::ok("restricts user name spaces, and this user needs none")
        }
        (_, Some(obstacle)) => said(obstacle),
        (_, None) => CheckOutcome::ok("confines nothing here"),
    }
}

pub(super) fn selinux() -> CheckOutcome {
    let context = selinux::context();
    match Mode::now() {
        Mode::Off => CheckOutcome::ok("is not enabled, and confines nothing here"),
        Mode::Permissive => CheckOutcome::ok("permissive: notes what its policy forbids"),
        Mode::Unknown => may_forbid(&SecurityModule::SeLinux(context)),
        Mode::Enforcing => {
            // A policy without levels has none in its contexts.
            let level = if context.split(':').count() > 3 { ":s0" } else { "" };
            let mounted = format!("system_u:object_r:fusefs_t{level}");
            let container = format!("system_u:system_r:container_t{level}");
            let reads = ["getattr", "open", "read"];
            enforced(
                context.clone(),
                selinux::allows(&context, &mounted, "filesystem", &["mount"]),
                selinux::allows(&container, &mounted, "file", &reads),
            )
        }
    }
}

/// What a policy that is enforced means for this process, and for containers that are to read what it mounts.
fn enforced(
    context: String,
    may_mount: Option<bool>,
    containers_may_read: Option<bool>,
) -> CheckOutcome {
    if may_mount != Some(true) {
        return may_forbid(&SecurityModule::SeLinux(context));
    }
    let said = format!("enforcing: this process, `{context}`, may mount");
    match containers_may_read {
        Some(true) => CheckOutcome::ok(format!(
            "{said}, and containers (`container_t`) may read what is mounted (`fusefs_t`)"
        )),
        None => CheckOutcome::ok(format!("{said}; its policy has no `container_t`")),
        Some(false) => CheckOutcome::warn(
            format!(
                "{said}, and containers (`container_t`) may not read what is mounted (`fusefs_t`)"
            ),
            "mount with `-o 'context=\"system_u:object_r:container_file_t:s0\"'`",
        ),
    }
}

/// A module says to no process what it would forbid.
fn may_forbid(module: &SecurityModule) -> CheckOutcome {
    CheckOutcome::warn(
        format!("{module}, and may forbid to mount"),
        format!("if mounting is refused, {}", module.cure()),
    )
}

pub(super) fn seccomp() -> CheckOutcome {
    match known("seccomp") {
        None => CheckOutcome::ok("none"),
        Some(_) if user::has_sys_admin() => CheckOutcome::ok(
            "a filter is in force; this user has CAP_SYS_ADMIN, with which they allow to mount",
        ),
        Some(obstacle) => said(obstacle),
    }
}

/// Whether a worker of a supervised mount can be kept to the files that it needs.
pub(super) fn landlock() -> CheckOutcome {
    match confinement::abi() {
        Ok(abi) if !kernel::hands_mounts_over() => CheckOutcome::warn(
            format!("abi {abi} at least, and only for `git`: {}", kernel::NO_HANDOVER),
            "use Linux 6.9 or newer",
        ),
        Ok(abi) => CheckOutcome::ok(format!("abi {abi} at least")),
        Err(why) => CheckOutcome::warn(
            format!("{why}: a worker can open what its user can"),
            "use Linux 6.9 or newer with `landlock` in the kernel parameter `lsm=`; in a container let its filter allow `landlock_*`",
        ),
    }
}

/// What `--supervised` promises of the death of a worker.
pub(super) fn takeover() -> CheckOutcome {
    if kernel::hands_mounts_over() {
        return CheckOutcome::ok("possible");
    }
    CheckOutcome::warn(
        format!(
            "{}: if the worker of a supervised mount dies, the view is mounted anew, and who holds the old one gets errors",
            kernel::NO_HANDOVER
        ),
        "use Linux 6.9 or newer",
    )
}

/// Whether a worker of a supervised mount can be kept from system calls that it does not need.
pub(super) fn worker_filter() -> CheckOutcome {
    match confinement::can_filter() {
        Ok(()) => CheckOutcome::ok("available"),
        Err(why) => CheckOutcome::warn(
            format!("{why}: a worker can make every system call"),
            "use a kernel with CONFIG_SECCOMP_FILTER, on x86-64, aarch64 or riscv64",
        ),
    }
}

/// What needs a kernel of a certain age, or a filter that knows it: tried, since versions say nothing of either.
pub(super) fn features() -> CheckOutcome {
    let mut missing = Vec::new();
    let root = std::path::Path::new("/");
    if openat2(nix::fcntl::AT_FDCWD, root, OpenHow::new()).is_err() {
        missing.push("openat2 (live directories and `--views` cannot be served)");
    }
    let own = i32::try_from(std::process::id()).ok().and_then(Pid::from_raw);
    if own.is_none_or(|own| pidfd_open(own, PidfdFlags::empty()).is_err()) {
        missing.push("pidfd_open (`unmount` and `exec` cannot wait for a daemon)");
    }
    if missing.is_empty() {
        return CheckOutcome::ok("openat2, pidfd_open");
    }
    CheckOutcome::warn(
        format!("missing: {}", missing.join(", ")),
        "use Linux 5.10 or newer, and a seccomp profile that knows these system calls; in a systemd unit no `RestrictSUIDSGID=`, which takes openat2 away",
    )
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;

    #[test]
    fn s142_what_containers_may_read_under_selinux_is_told_with_its_cure() {
        let context = "unconfined_u:unconfined_r:unconfined_t:s0";
        let said = |may_mount, may_read| enforced(context.to_owned(), may_mount, may_read);
        let fine = said(Some(true), Some(true));
        assert_eq!((fine.outcome, fine.cure), (Outcome::Ok, None));
        assert!(fine.evidence.contains("containers (`container_t`) may read"));
        let closed = said(Some(true), Some(false));
        assert_eq!(closed.outcome, Outcome::Warn);
        assert!(closed.evidence.contains("may not read what is mounted (`fusefs_t`)"));
        let cure = closed.cure.unwrap();
        assert!(cure.contains("context=\"system_u:object_r:container_file_t:s0\""), "{cure}");
        assert_eq!(said(Some(true), None).outcome, Outcome::Ok);
        // Where it may not mount, or nobody says whether it may, that comes first.
        for may_mount in [Some(false), None] {
            let forbidden = said(may_mount, Some(true));
            assert_eq!(forbidden.outcome, Outcome::Warn);
            assert!(forbidden.evidence.contains(context), "{}", forbidden.evidence);
        }
    }
}
