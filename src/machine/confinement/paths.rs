//! The files that a process can open, by Landlock.
//!
//! A rule binds the directory that is there now, with all below it; a directory that takes its place later is another one.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

/// What the rules are written for. What an older kernel does not know of it is left out.
const WRITTEN_FOR: ABI = ABI::V7;
/// The first that lets a file be linked or renamed into another directory, as pins and `git` do.
const OLDEST: ABI = ABI::V2;

/// Where the programs and libraries of a machine are, and what says how it is set up.
const PROGRAMS: [&str; 12] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/opt",
    "/nix/store",
    "/gnu/store",
    "/etc",
    "/var/lib/ca-certificates",
];
/// What says how the machine is and how it finds others. The last are links on many machines.
const FACTS: [&str; 6] = [
    "/proc",
    "/sys/fs/cgroup",
    "/sys/devices/system/cpu",
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/localtime",
];
const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"];

/// The files that a process can open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paths {
    /// Read.
    pub read: BTreeSet<PathBuf>,
    /// Read, and linked into what is written. The kernel lets a file get no other name under which more is allowed, so it may be
    /// written to also here; nothing can be made or removed.
    pub lend: BTreeSet<PathBuf>,
    /// Read and written, made and removed.
    pub write: BTreeSet<PathBuf>,
    /// Read and executed.
    pub run: BTreeSet<PathBuf>,
    /// Devices that are read, written and controlled.
    pub control: BTreeSet<PathBuf>,
}

/// What every program needs that is executed: the machine's programs, libraries, facts and devices, and this program itself.
pub(super) fn for_programs() -> Paths {
    let mut paths = Paths::default();
    paths.read.extend(FACTS.iter().map(PathBuf::from));
    paths.control.extend(DEVICES.iter().map(PathBuf::from));
    paths.run.extend(PROGRAMS.iter().map(PathBuf::from));
    paths.run.insert("/proc/self/exe".into());
    let on_path = env::var_os("PATH").unwrap_or_default();
    paths.run.extend(env::split_paths(&on_path).filter(|path| path.is_absolute()));
    paths
}

/// The version of Landlock that the kernel has, at least, and that is enough. Changes nothing.
///
/// # Errors
/// There is none, or it is too old: in words.
pub fn abi() -> Result<i32, String> {
    let known = [ABI::V6, ABI::V5, ABI::V4, ABI::V3, OLDEST];
    let has = |abi: &ABI| can_be_made(*abi).is_ok();
    match known.into_iter().find(has) {
        Some(abi) => Ok(abi as i32),
        None => Err("there is no Landlock that lets files be linked between directories: the kernel is too old or set not to have it, or a filter of system calls hides it".to_owned()),
    }
}

/// Whether the kernel knows all that is asked of this version.
fn can_be_made(abi: ABI) -> Result<(), RulesetError> {
    let rules = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let rules = rules.handle_access(AccessFs::from_all(abi))?;
    let scopes = Scope::from_all(abi);
    let rules = if scopes.is_empty() { rules } else { rules.scope(scopes)? };
    rules.create().map(drop)
}

impl Paths {
    /// Lets this process open nothing else from now on; the version of Landlock that sees to it.
    pub(super) fn enforce(&self) -> Result<i32, String> {
        abi()?;
        let enforce = || {
            let mut rules = Ruleset::default()
                .set_compatibility(CompatLevel::BestEffort)
                .handle_access(AccessFs::from_all(WRITTEN_FOR))?
                .scope(Scope::from_all(WRITTEN_FOR))?
                .create()?;
            let read = AccessFs::ReadFile | AccessFs::ReadDir;
            let lend = read | AccessFs::Refer | AccessFs::WriteFile | AccessFs::Truncate;
            let made = AccessFs::MakeReg
                | AccessFs::MakeDir
                | AccessFs::MakeSym
                | AccessFs::MakeSock
                | AccessFs::MakeFifo
                | AccessFs::RemoveFile
                | AccessFs::RemoveDir;
            let control = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
            for (paths, access) in [
                (&self.read, read),
                (&self.lend, lend),
                (&self.write, lend | made),
                (&self.run, read | AccessFs::Execute),
                (&self.control, control),
            ] {
                for path in paths {
                    rules = allow(rules, path, access)?;
                }
            }
            rules.restrict_self()
        };
        match enforce() {
            Ok(status) => match status.landlock {
                LandlockStatus::Available { effective_abi, kernel_abi } => {
                    Ok(kernel_abi.unwrap_or(effective_abi as i32))
                }
                LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => {
                    Err("the kernel has no Landlock".to_owned())
                }
            },
            Err::<_, RulesetError>(error) => Err(error.to_string()),
        }
    }
}

/// What is not there, or not for this user, needs no rule.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(opened) = PathFd::new(path) else { return Ok(rules) };
    let is_directory = path.metadata().is_ok_and(|found| found.is_dir());
    let access = if is_directory { access } else { access & AccessFs::from_file(WRITTEN_FOR) };
    rules.add_rule(PathBeneath::new(opened, access))
}
