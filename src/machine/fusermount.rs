//! The setuid program `fusermount3`, by which a user without privileges mounts and unmounts.
//!
//! The descriptor of the mount comes back over a socket, whose number the program finds in `_FUSE_COMMFD` (fusermount3(1)).

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::mount::MountRequest;
use super::{FS_SUBTYPE, MachineError, descriptor};

/// How long the program may take: it does nothing but a few system calls.
const PATIENCE: Duration = Duration::from_secs(30);

/// What it reads before it unmounts. Installers make this file; images for containers often lack it.
pub(super) const MTAB: &str = "/etc/mtab";
/// What to do where that is missing.
pub(super) const MTAB_CURE: &str = "ln -s ../proc/self/mounts /etc/mtab, as root";

/// What helps a user without a name.
pub(super) const NAME_CURE: &str = "give this user a line in /etc/passwd, mount as one who has it, or use `overlayfs-mount exec`, which needs none";

const NAMES: [&str; 2] = ["fusermount3", "fusermount"];

/// The program and what is known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fusermount {
    /// Where it is.
    pub program: PathBuf,
    /// Whether it belongs to root and is setuid; one that is not can do nothing for an ordinary user.
    pub is_setuid_root: bool,
}

/// All programs of that name, in the order in which they are found: `FUSERMOUNT_PATH` alone if it is set, else those on `PATH`.
pub fn candidates() -> Vec<Fusermount> {
    let look_at = |program: PathBuf| {
        let found = program.metadata().ok().filter(std::fs::Metadata::is_file)?;
        if found.mode() & 0o111 == 0 {
            return None;
        }
        let is_setuid_root = found.uid() == 0 && found.mode() & 0o4000 != 0;
        Some(Fusermount { program, is_setuid_root })
    };
    if let Some(program) = env::var_os("FUSERMOUNT_PATH").filter(|path| !path.is_empty()) {
        return look_at(program.into()).into_iter().collect();
    }
    let path = env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
    let directories: Vec<_> = env::split_paths(&path).filter(|path| path.is_absolute()).collect();
    NAMES
        .iter()
        .flat_map(|name| directories.iter().map(move |directory| directory.join(name)))
        .filter_map(look_at)
        .collect()
}

/// The program to use: the first one that is setuid, since some machines have one that is not first on `PATH`.
///
/// # Errors
/// There is none.
pub fn find() -> Result<Fusermount, MachineError> {
    let mut candidates = candidates();
    let chosen = candidates.iter().position(|candidate| candidate.is_setuid_root).unwrap_or(0);
    if candidates.is_empty() {
        return Err(MachineError::FusermountMissing);
    }
    Ok(candidates.swap_remove(chosen))
}

/// Mounts, and returns the descriptor over which the kernel speaks to the file system.
///
/// # Errors
/// There is no such program, or it refused; then with what it said.
pub fn mount(request: &MountRequest) -> Result<OwnedFd, MachineError> {
    let Fusermount { program, .. } = find()?;
    let unusable = |error| MachineError::FusermountUnusable { program: program.clone(), error };
    let (ours, theirs) = UnixStream::pair().map_err(unusable)?;
    ours.set_read_timeout(Some(PATIENCE)).map_err(unusable)?;
    let mut child = Command::new(&program)
        .arg("-o")
        .arg(options(request))
        .arg("--")
        .arg(&request.mountpoint)
        // Its standard input is the socket: the one descriptor that can be handed over without unsafe code.
        .env("_FUSE_COMMFD", "0")
        .env("LC_ALL", "C")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(unusable)?;
    let received = descriptor::receive(&ours);
    if received.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
        // Not reaped on failure: it cannot be killed, and waiting would be for ever.
        child.kill().map_err(unusable)?;
    }
    let output = child.wait_with_output().map_err(unusable)?;
    match received {
        Ok(Some(fd)) => Ok(fd),
        Ok(None) => Err(refusal(&program, &request.mountpoint, &output)),
        Err(error) => Err(unusable(error)),
    }
}

/// Unmounts; `lazy` detaches a mount that is in use.
///
/// # Errors
/// There is no such program, or it refused; then with what it said.
pub fn unmount(path: &Path, lazy: bool) -> Result<(), MachineError> {
    let Fusermount { program, .. } = find()?;
    let mut command = Command::new(&program);
    command.arg("-u").args(lazy.then_some("-z")).arg("--").arg(path);
    let output =
        command.env("LC_ALL", "C").stdin(Stdio::null()).output().map_err(|error| {
            MachineError::FusermountUnusable { program: program.clone(), error }
        })?;
    if output.status.success() { Ok(()) } else { Err(refusal(&program, path, &output)) }
}

fn refusal(program: &Path, path: &Path, output: &Output) -> MachineError {
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().map(str::trim).filter(|line| !line.is_empty());
    let message = said.collect::<Vec<_>>().join("; ");
    let message = if message.is_empty() { output.status.to_string() } else { message };
    MachineError::Fusermount { program: program.to_owned(), path: path.to_owned(), message }
}

fn options(request: &MountRequest) -> OsString {
    let mut options = b"ro,nosuid,nodev,fsname=".to_vec();
    options.extend(escape(&request.source_name));
    options.extend(format!(",subtype={FS_SUBTYPE}").bytes());
    if request.default_permissions {
        options.extend(b",default_permissions");
    }
    if request.allow_other {
        options.extend(b",allow_other");
    }
    if request.forbids_execution {
        options.extend(b",noexec");
    }
    OsString::from_vec(options)
}

/// Puts a backslash before what would end an option.
fn escape(name: &OsStr) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(name.len());
    for &byte in name.as_bytes() {
        if matches!(byte, b',' | b'\\') {
            escaped.push(b'\\');
        }
        escaped.push(byte);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::labels::Labels;

    /// What is said to cure what fusermount3 says.
    fn cure(message: &str) -> Option<String> {
        let (program, path) = ("/usr/bin/fusermount3".into(), "/view".into());
        MachineError::Fusermount { program, path, message: message.into() }.cure()
    }

    #[test]
    fn a_missing_mtab_has_its_cure() {
        let cure = cure("fusermount3: failed to open /etc/mtab: No such file or directory");
        assert_eq!(cure.as_deref(), Some(MTAB_CURE));
    }

    #[test]
    fn a_user_without_a_name_is_told_what_needs_none() {
        let cure = cure("/usr/bin/fusermount3: could not determine username");
        assert_eq!(cure.as_deref(), Some(NAME_CURE));
    }

    #[test]
    fn a_view_of_another_user_is_not_cured_by_a_link() {
        let cure = cure("fusermount3: entry for /view not found in /etc/mtab");
        assert_eq!(cure.as_deref(), Some("unmount as the user who mounted, or as root"));
    }

    #[test]
    fn options_escape_what_would_end_them() {
        let request = MountRequest {
            mountpoint: "/mnt".into(),
            source_name: "/etc/a,b\\c.yaml".into(),
            allow_other: true,
            default_permissions: true,
            forbids_execution: false,
            labels: Labels::default(),
        };
        assert_eq!(
            options(&request),
            "ro,nosuid,nodev,fsname=/etc/a\\,b\\\\c.yaml,subtype=overlayfs-mount,default_permissions,allow_other"
        );
    }
}
