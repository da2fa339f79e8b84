//! FUSE connections, as the kernel's control file system shows them (`Documentation/filesystems/fuse.rst`).

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::MachineError;

const CONNECTIONS: &str = "/sys/fs/fuse/connections";

/// Aborts a connection, given the device minor of its mount: all requests under way and all later ones fail.
///
/// # Errors
/// The control file system is not mounted, there is no such connection, or this user may not abort it.
pub fn abort(connection: u32) -> Result<(), MachineError> {
    let path = control_file(connection, "abort");
    match fs::write(&path, "1") {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_control_mounted() => {
            Err(MachineError::NoConnectionControl { connection })
        }
        Err(error) => Err(MachineError::Abort { connection, path, error }),
    }
}

/// What tells a connection from a later one with its number; `None` where that cannot be known.
pub fn identity(connection: u32) -> Option<u64> {
    fs::metadata(control_file(connection, "abort")).ok().map(|found| found.ino())
}

/// The number of requests that wait for an answer; `None` where that cannot be known.
pub fn waiting(connection: u32) -> Option<u64> {
    fs::read_to_string(control_file(connection, "waiting")).ok()?.trim().parse().ok()
}

/// Whether connections can be seen: the control file system is mounted where it is expected.
pub fn is_control_mounted() -> bool {
    super::mountinfo::MountTable::read().is_ok_and(|table| {
        table.topmost_at(Path::new(CONNECTIONS)).is_some_and(|mount| mount.fs_type == "fusectl")
    })
}

fn control_file(connection: u32, name: &str) -> PathBuf {
    Path::new(CONNECTIONS).join(connection.to_string()).join(name)
}
