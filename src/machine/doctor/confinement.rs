//! What confines this process: name spaces, security modules, filters, an old kernel.

use std::fs;

use nix::fcntl::{OpenHow, openat2};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::CheckOutcome;
use crate::machine::confinement;
use crate::machine::kernel;
use crate::machine::lsm::SecurityModule;
use crate::machine::namespace::{Obstacle, obstacles};
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
    match SecurityModule::of_this_process() {
        Some(module @ SecurityModule::SeLinux(_)) => may_forbid(&module),
        Some(SecurityModule::AppArmor(_)) | None => CheckOutcome::ok("confines nothing here"),
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
