//! `git`, started through this program: in between it confines itself to what one command of git's needs.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::paths::{Paths, for_programs};
use super::{KeptPrivileges, confine, is_off};
use crate::machine::MachineError;

/// The name under which this program is started to become git.
const NAME: &str = "overlayfs-mount-git";
/// The variables whose values are, or hold, paths that git or its programs read.
const NAMING_PATHS: [&str; 4] =
    ["SSL_CERT_FILE", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "GIT_SSH_COMMAND"];
/// Where the C library says that a user's keys are.
const KEYS: &str = ".ssh";

/// The start of a command that runs `program`, which can write below `writes` only, and read little more than that and `reads`.
pub fn launch(program: &Path, writes: &[PathBuf], reads: &[PathBuf]) -> Command {
    if is_off() {
        return Command::new(program);
    }
    let mut command = Command::new("/proc/self/exe");
    command.arg0(NAME).arg(writes.len().to_string()).args(writes);
    command.arg(reads.len().to_string()).args(reads).arg(program);
    command
}

/// A command that is to become git.
#[derive(Debug, PartialEq, Eq)]
pub struct Launched {
    writes: Vec<PathBuf>,
    reads: Vec<PathBuf>,
    program: OsString,
    arguments: Vec<OsString>,
}

/// Recognizes the arguments that [`launch`] gives.
pub fn recognize(arguments: &[OsString]) -> Option<Launched> {
    let (name, mut left) = arguments.split_first()?;
    if name != NAME {
        return None;
    }
    let mut paths = || {
        let (count, rest) = left.split_first()?;
        let count: usize = count.to_str()?.parse().ok()?;
        let found = rest.get(..count)?.iter().map(PathBuf::from).collect::<Vec<_>>();
        left = &rest[count..];
        Some(found)
    };
    let (writes, reads) = (paths()?, paths()?);
    let (program, arguments) = left.split_first()?;
    Some(Launched { writes, reads, program: program.clone(), arguments: arguments.to_vec() })
}

/// Becomes git, confined. Returns only if it cannot be executed.
pub fn become_git(launched: &Launched) -> MachineError {
    let mut paths = for_git();
    paths.write.extend(launched.writes.iter().cloned());
    paths.read.extend(launched.reads.iter().cloned());
    let program = Path::new(&launched.program);
    if let Some(directory) = program.parent().filter(|directory| directory.is_absolute()) {
        paths.run.insert(directory.to_owned());
    }
    // What it could not give up the worker has said of itself.
    confine(Ok(&paths), KeptPrivileges::default());
    let error = Command::new(program).args(&launched.arguments).exec();
    MachineError::Run { program: program.display().to_string(), step: "executing it", error }
}

/// What git needs that is not its repository: the machine's programs, and what the operator's environment has it and ssh read and run.
pub fn for_git() -> Paths {
    let mut paths = for_programs();
    for value in NAMING_PATHS.iter().filter_map(env::var_os) {
        paths.run.extend(absolute_paths_in(&value));
    }
    let home = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    paths.read.extend(home.map(|user| user.dir.join(KEYS)));
    paths
}

/// The words of a command that are paths, also after `=`.
fn absolute_paths_in(value: &OsStr) -> impl Iterator<Item = PathBuf> {
    let words = value.as_bytes().split(|byte| b" \t'\"=".contains(byte));
    let paths = words.filter(|word| word.starts_with(b"/"));
    paths.map(|word| PathBuf::from(OsStr::from_bytes(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_launched_is_recognized() {
        let command = launch(Path::new("git"), &["/w".into()], &["/r".into(), "/s".into()]);
        let mut arguments = vec![OsString::from(NAME)];
        arguments.extend(command.get_args().map(OsStr::to_owned));
        arguments.push("fetch".into());
        let launched = recognize(&arguments).unwrap();
        assert_eq!(launched.writes, [PathBuf::from("/w")]);
        assert_eq!(launched.reads, [PathBuf::from("/r"), PathBuf::from("/s")]);
        assert_eq!((launched.program, launched.arguments), ("git".into(), vec!["fetch".into()]));
        for wrong in
            [&["overlayfs-mount", "0", "0", "git"][..], &[NAME, "2", "/w"], &[NAME, "0", "0"]]
        {
            let wrong: Vec<OsString> = wrong.iter().map(OsString::from).collect();
            assert_eq!(recognize(&wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn paths_are_found_in_a_command() {
        let found =
            absolute_paths_in(OsStr::new("ssh -i '/k/id' -o UserKnownHostsFile=/k/known x/y"));
        assert_eq!(found.collect::<Vec<_>>(), [Path::new("/k/id"), Path::new("/k/known")]);
    }
}
