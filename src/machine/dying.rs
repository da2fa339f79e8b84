//! Processes that were killed and have not ended, because they wait in the kernel.
//!
//! A process that tells the kernel of a change may wait there for a request that it has to answer itself. Killed meanwhile, it holds its
//! connection open, and nobody is told that there will be no answer. Found by what `/proc` says: which connection a descriptor is of
//! (`fdinfo`, in newer kernels), and that SIGKILL is pending (`proc_pid_status(5)`).

use std::fs;
use std::path::{Path, PathBuf};

/// The bit of SIGKILL in a mask of signals.
const KILLED: u64 = 1 << (libc::SIGKILL - 1);

/// Whether a connection is held by processes that were killed, and by no other one that this process sees. False where that cannot be known.
pub fn is_abandoned(connection: u32) -> bool {
    let mut holders = holders(connection).peekable();
    holders.peek().is_some() && holders.all(|holder| holder.is_killed)
}

/// Whether a connection is held by a process that lives, other than these, as far as that can be known.
pub fn is_held_by_others(connection: u32, than: &[u32]) -> bool {
    holders(connection).any(|holder| !holder.is_killed && !than.contains(&holder.process))
}

struct Holder {
    process: u32,
    is_killed: bool,
}

fn holders(connection: u32) -> impl Iterator<Item = Holder> {
    numbered(Path::new("/proc")).filter_map(move |process| {
        // The first thread of a dying process has often ended, and with that shows no descriptors.
        let mut threads = numbered(&process.join("task"));
        let (is_held, thread) =
            threads.find_map(|thread| Some((holds(&thread, connection)?, thread)))?;
        let process = process.file_name()?.to_str()?.parse().ok()?;
        is_held.then(|| Holder { process, is_killed: is_killed(&thread) })
    })
}

fn numbered(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let is_number =
        |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit);
    entries.filter(is_number).map(|entry| entry.path())
}

/// Whether a thread holds a connection; `None` if it shows no descriptors.
fn holds(thread: &Path, connection: u32) -> Option<bool> {
    let mut numbers = numbered(&thread.join("fd")).peekable();
    numbers.peek()?;
    let expected = format!("fuse_connection:\t{connection}");
    let is_it = |descriptor: PathBuf| {
        let is_device = fs::read_link(&descriptor).is_ok_and(|file| file == Path::new("/dev/fuse"));
        let number = descriptor.file_name().unwrap_or_default();
        is_device
            && fs::read_to_string(thread.join("fdinfo").join(number))
                .is_ok_and(|info| info.lines().any(|line| line == expected))
    };
    Some(numbers.any(is_it))
}

fn is_killed(thread: &Path) -> bool {
    fs::read_to_string(thread.join("status")).is_ok_and(|status| says_killed(&status))
}

fn says_killed(status: &str) -> bool {
    status.lines().filter_map(|line| line.split_once(":\t")).any(|(key, value)| match key {
        "State" => value.starts_with(['Z', 'X']),
        "SigPnd" | "ShdPnd" => u64::from_str_radix(value, 16).is_ok_and(|mask| mask & KILLED != 0),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_killed_is_known_by_its_status() {
        let status =
            |state: &str, mask: &str| format!("Name:\tx\nState:\t{state}\nSigPnd:\t{mask}\n");
        assert!(says_killed(&status("D (disk sleep)", "0000000000000100")));
        assert!(says_killed(&status("Z (zombie)", "0000000000000000")));
        assert!(!says_killed(&status("D (disk sleep)", "0000000000004000")));
    }

    #[test]
    fn a_connection_that_nobody_holds_is_not_abandoned() {
        assert!(!is_abandoned(u32::MAX) && !is_held_by_others(u32::MAX, &[]));
    }
}
