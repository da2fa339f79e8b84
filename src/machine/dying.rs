//! Processes that were killed and have not ended, because they wait in the kernel.
//!
//! A process that tells the kernel of a change may wait there for a request that it has to answer itself. Killed meanwhile, it holds its
//! connection open, and nobody is told that there will be no answer. Found by what `/proc` says: which connection a descriptor is of
//! (`fdinfo`, since Linux 6.18), and that SIGKILL is pending (`proc_pid_status(5)`).

use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::descriptor;

/// The bit of SIGKILL in a mask of signals.
const KILLED: u64 = 1 << (libc::SIGKILL - 1);

/// Whether a connection is held by processes that were killed, and by no other one that this process sees. False where that cannot be known.
pub fn is_abandoned(connection: u32) -> bool {
    let holds = |holder: &DeviceHolder| {
        let of_it = |held: &&Held| held.connection == Some(connection);
        let is_gone = |held: &Held| !holder.is_killed && has_ended(holder.process, held.number);
        holder.held.iter().filter(of_it).any(|held| !is_gone(held))
    };
    let mut holders = holders().filter(holds).peekable();
    holders.peek().is_some() && holders.all(|holder| holder.is_killed)
}

/// Whether the connection of this descriptor is held by a process that lives, other than these, as far as that can be known.
///
/// Its number alone does not say so: the kernel gives the numbers of mounts that are gone to others, while descriptors of those may still be held.
pub fn is_held_by_others(connection: u32, device: BorrowedFd<'_>, than: &[u32]) -> bool {
    let is_same = |holder: &DeviceHolder| {
        let may_be = |held: &&Held| held.connection.is_none_or(|known| known == connection);
        holder.held.iter().filter(may_be).any(|held| {
            let is_same = is_same_file(device, holder.process, held.number);
            is_same.unwrap_or(held.connection.is_some())
        })
    };
    let mut others = holders().filter(|holder| !than.contains(&holder.process));
    others.any(|holder| !holder.is_killed && is_same(&holder))
}

/// Whether a descriptor of `/dev/fuse` in another process is of a mount that is gone: the kernel gives its number to the next one. False where
/// this process may not know (`pidfd_getfd(2)`).
fn has_ended(process: u32, number: i32) -> bool {
    let process = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw);
    let copied = process.and_then(|process| {
        let process = pidfd_open(process, PidfdFlags::empty()).ok()?;
        pidfd_getfd(process, number, PidfdGetfdFlags::empty()).ok()
    });
    copied.is_some_and(|copied| descriptor::has_ended(&copied))
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

/// A process with descriptors of `/dev/fuse`.
struct DeviceHolder {
    process: u32,
    held: Vec<Held>,
    is_killed: bool,
}

/// A descriptor of `/dev/fuse`.
struct Held {
    number: i32,
    /// The connection that it is of, where the kernel says that.
    connection: Option<u32>,
}

fn holders() -> impl Iterator<Item = DeviceHolder> {
    numbered(Path::new("/proc")).filter_map(move |process| {
        // The first thread of a dying process has often ended, and with that shows no descriptors.
        let mut threads = numbered(&process.join("task"));
        let (held, thread) = threads.find_map(|thread| Some((held(&thread)?, thread)))?;
        let process = process.file_name()?.to_str()?.parse().ok()?;
        (!held.is_empty()).then(|| DeviceHolder { process, held, is_killed: is_killed(&thread) })
    })
}

fn numbered(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let is_number =
        |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit);
    entries.filter(is_number).map(|entry| entry.path())
}

/// The descriptors of `/dev/fuse` that a thread holds; `None` if it shows no descriptors at all.
fn held(thread: &Path) -> Option<Vec<Held>> {
    let mut descriptors = numbered(&thread.join("fd")).peekable();
    descriptors.peek()?;
    let held = |descriptor: PathBuf| {
        let is_device = fs::read_link(&descriptor).is_ok_and(|file| file == Path::new("/dev/fuse"));
        let number = is_device.then(|| descriptor.file_name()?.to_str())??;
        let info = fs::read_to_string(thread.join("fdinfo").join(number)).ok()?;
        let number = number.parse().ok()?;
        Some(Held { number, connection: descriptor::connection_in(&info) })
    };
    Some(descriptors.filter_map(held).collect())
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
