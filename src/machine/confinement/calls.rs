//! System calls that neither a worker nor `git` has a use for: refused, in all threads and in all that they start.
//!
//! A list of what is denied, not of what is allowed: `git`, `ssh` and the libraries of a machine that we do not know use what they
//! like, and a call that is missing from a list of allowed ones would be found by an operator.

use std::collections::BTreeMap;

use libc::{c_long, c_ulong};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// Answered with EPERM.
const DENIED: &[c_long] = &[
    // Mounts and name spaces: the keeper mounts.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // Ways around the checks of paths, and parts of the kernel in which much goes wrong.
    libc::SYS_open_by_handle_at,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_fanotify_init,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // The machine.
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_personality,
];

/// What of a process `clone` could make anew.
const NEW_NAME_SPACES: c_long = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as c_long;

/// Calls of the x32 interface of x86-64 have their own numbers, and the same architecture.
#[cfg(target_arch = "x86_64")]
const INTERFACES: [c_long; 2] = [0, 0x4000_0000];
#[cfg(not(target_arch = "x86_64"))]
const INTERFACES: [c_long; 1] = [0];

/// Filters the calls of this process and of all that it starts.
pub(super) fn filter() -> Result<(), String> {
    // What a later one answers counts if it is more severe; EPERM and ENOSYS are alike, and no call is in both.
    for program in programs()? {
        seccompiler::apply_filter_all_threads(&program).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Whether there could be a filter. Changes nothing.
pub(super) fn is_available() -> Result<(), String> {
    programs()?;
    // Without a filter in the kernel `/proc` has no word of it.
    match std::fs::read_to_string("/proc/self/status") {
        Ok(status) if status.lines().any(|line| line.starts_with("Seccomp:")) => Ok(()),
        Ok(_) | Err(_) => Err("the kernel does not filter system calls".to_owned()),
    }
}

fn programs() -> Result<[BpfProgram; 2], String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|_| format!("no filter is written for {}", std::env::consts::ARCH))?;
    let said = |error: seccompiler::BackendError| error.to_string();
    let mut denied: BTreeMap<c_long, Vec<SeccompRule>> = BTreeMap::new();
    for interface in INTERFACES {
        denied.extend(DENIED.iter().map(|call| (call | interface, Vec::new())));
        denied.insert(libc::SYS_clone | interface, new_name_spaces().map_err(said)?);
        let push_into_terminal = argument(1, SeccompCmpOp::Eq, libc::TIOCSTI).map_err(said)?;
        denied.insert(libc::SYS_ioctl | interface, vec![push_into_terminal]);
    }
    // Its flags are in memory, where a filter cannot see them. The C library then takes `clone`.
    let unknown = INTERFACES.map(|interface| (libc::SYS_clone3 | interface, Vec::new()));
    Ok([
        program(denied, libc::EPERM, arch).map_err(said)?,
        program(unknown.into_iter().collect(), libc::ENOSYS, arch).map_err(said)?,
    ])
}

fn program(
    rules: BTreeMap<c_long, Vec<SeccompRule>>,
    errno: i32,
    arch: TargetArch,
) -> Result<BpfProgram, seccompiler::BackendError> {
    let refused = SeccompAction::Errno(errno.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, refused, arch)?.try_into()
}

fn argument(
    number: u8,
    operation: SeccompCmpOp,
    value: c_ulong,
) -> Result<SeccompRule, seccompiler::BackendError> {
    let condition = SeccompCondition::new(number, SeccompCmpArgLen::Dword, operation, value)?;
    SeccompRule::new(vec![condition])
}

/// One rule for each flag: a condition compares all bits of its mask.
fn new_name_spaces() -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let bits = (0..c_long::BITS).map(|bit| 1_u64 << bit);
    let flags = bits.filter(|bit| NEW_NAME_SPACES.cast_unsigned() & bit != 0);
    flags.map(|flag| argument(0, SeccompCmpOp::MaskedEq(flag), flag)).collect()
}
