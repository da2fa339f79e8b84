//! Processes that were killed and have not ended, because they wait in the kernel.
//!
//! A process that tells the kernel of a change may wait there for a request that it has to answer itself. Killed meanwhile, it holds its
//! connection open, and nobody is told that there will be no answer. Found by what `/proc` says: which connection a descriptor is of
//! (`fdinfo`, in newer kernels), and that SIGKILL is pending (`proc_pid_status(5)`).

use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// The bit of SIGKILL in a mask of signals.
const KILLED: u64 = 1 << (libc::SIGKILL - 1);

/// Whether a connection is held by processes that were killed, and by no other one that this process sees. False where that cannot be known.
pub fn is_abandoned(connection: u32) -> bool {
    let mut holders = holders(connection).peekable();
    holders.peek().is_some() && holders.all(|holder| holder.is_killed)
}

/// Whether the connection of this descriptor is held by a process that lives, other than these, as far as that can be known.
///
/// Its number alone does not say so: the kernel gives the numbers of mounts that are gone to others, while descriptors of those may still be held.
pub fn is_held_by_others(connection: u32, device: BorrowedFd<'_>, than: &[u32]) -> bool {
    let is_same = |holder: &ConnectionHolder| {
        let is_same = |number| is_same_file(device, holder.process, number).unwrap_or(true);
        holder.numbers.iter().copied().any(is_same)
    };
    let mut others = holders(connection).filter(|holder| !than.contains(&holder.process));
    others.any(|holder| !holder.is_killed && is_same(&holder))
}

/// Whether a descriptor of another process is of the same opening of the same file: kcmp(2). `None` where this process may not know.
#[expect(unsafe_code, reason = "no crate that is used here offers this call")]
fn is_same_file(device: BorrowedFd<'_>, process: u32, number: i32) -> Option<bool> {
    const KCMP_FILE: libc::c_long = 0;
    let (own, other) = (std::process::id(), process);
    let (device, number) = (device.as_raw_fd(), number);
    // SAFETY: kcmp(2) takes numbers only, and changes nothing.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, own, other, KCMP_FILE, device, number) };
    (order >= 0).then_some(order == 0)
}

struct ConnectionHolder {
    process: u32,
    /// Its descriptors of the connection.
    numbers: Vec<i32>,
    is_killed: bool,
}

fn holders(connection: u32) -> impl Iterator<Item = ConnectionHolder> {
    numbered(Path::new("/proc")).filter_map(move |process| {
        // The first thread of a dying process has often ended, and with that shows no descriptors.
        let mut threads = numbered(&process.join("task"));
        let (numbers, thread) =
            threads.find_map(|thread| Some((held(&thread, connection)?, thread)))?;
        let process = process.file_name()?.to_str()?.parse().ok()?;
        (!numbers.is_empty()).then(|| ConnectionHolder {
            process,
            numbers,
            is_killed: is_killed(&thread),
        })
    })
}

fn numbered(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let is_number =
        |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit);
    entries.filter(is_number).map(|entry| entry.path())
}

/// The descriptors of a connection that a thread holds; `None` if it shows no descriptors at all.
fn held(thread: &Path, connection: u32) -> Option<Vec<i32>> {
    let mut numbers = numbered(&thread.join("fd")).peekable();
    numbers.peek()?;
    let expected = format!("fuse_connection:\t{connection}");
    let of_it = |descriptor: PathBuf| {
        let is_device = fs::read_link(&descriptor).is_ok_and(|file| file == Path::new("/dev/fuse"));
        let number = descriptor.file_name()?.to_str()?;
        let info =
            is_device.then(|| fs::read_to_string(thread.join("fdinfo").join(number)))?.ok()?;
        info.lines().any(|line| line == expected).then(|| number.parse().ok())?
    };
    Some(numbers.filter_map(of_it).collect())
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
    use std::os::fd::AsFd;

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
        let device = fs::File::open("/dev/null").unwrap();
        assert!(!is_abandoned(u32::MAX) && !is_held_by_others(u32::MAX, device.as_fd(), &[]));
    }

    #[test]
    fn one_opening_of_a_file_is_another_than_the_next() {
        let open = || fs::File::open("/dev/null").unwrap();
        let (first, second) = (open(), open());
        let same = first.try_clone().unwrap();
        let is_same =
            |file: &fs::File| is_same_file(first.as_fd(), std::process::id(), file.as_raw_fd());
        assert_eq!((is_same(&same), is_same(&second)), (Some(true), Some(false)));
    }
}
