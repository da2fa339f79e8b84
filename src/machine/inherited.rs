//! What a process gets from its caller without asking: open descriptors and a working directory. Each may hold a mount.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::RawFd;

use nix::unistd::dup2_stdin;

use super::MachineError;

fn failed(step: &'static str) -> impl Fn(io::Error) -> MachineError {
    move |error| MachineError::Background { step, error }
}

/// `/dev/null`, open for reading, or for both.
pub(super) fn null(is_writable: bool) -> Result<File, MachineError> {
    let opened = OpenOptions::new().read(true).write(is_writable).open("/dev/null");
    opened.map_err(failed("/dev/null"))
}

/// Has this process hold no mount, as far as the kernel allows it; what is left is found among the holders. To be called before any file is
/// opened; relative paths mean something else afterwards.
pub fn let_go() {
    drop(null(false).map(dup2_stdin));
    drop(close_but(&[]));
    env::set_current_dir("/").unwrap_or_default();
}

/// Closes all descriptors from 3 on but `kept`.
pub(super) fn close_but(kept: &[Option<RawFd>]) -> Result<(), MachineError> {
    let entries = fs::read_dir("/proc/self/fd").map_err(failed("/proc/self/fd"))?;
    let numbers: Vec<RawFd> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2 && !kept.contains(&Some(*number)))
        .collect();
    for number in numbers {
        // The descriptor of the listing itself is among them and closed already.
        nix::unistd::close(number).unwrap_or_default();
    }
    Ok(())
}
