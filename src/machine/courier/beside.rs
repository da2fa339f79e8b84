//! A courier in a process of its own, beside a daemon that has no keeper.
//!
//! A daemon that is killed while a message waits would stay, half dead, and hold its connection open: those whose request was not answered
//! would wait for good, and with them the message. Here it only waits for a word from this process, and ends at once. This one has a
//! descriptor of its own of the connection (`FUSE_DEV_IOC_CLONE`, `include/uapi/linux/fuse.h`). So what the daemon has read and not
//! answered fails with the daemon's descriptor; what nobody has read is refused here until the message is through; and the connection
//! ends with this process. It needs no privileges for that, and no control file system.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Courier, carry};
use crate::machine::{descriptor, mount};

/// The name under which this program is started to be a courier.
const NAME: &str = "overlayfs-mount-courier";
/// The name that the kernel shows for it, which is that of all processes of ours.
const PROCESS_NAME: &str = "overlayfs-mount";
/// `FUSE_DEV_IOC_CLONE`: `_IOR(229, 0, uint32_t)`.
const CLONE: libc::Ioctl = nix::request_code_read!(229, 0, size_of::<u32>());
/// More than any request has: the kernel wants to see room for the largest write that was agreed on (16 MiB in the FUSE library).
const REQUEST_MAX: usize = 17 * 1024 * 1024;
/// How often it is looked whether the message is through, where no request comes.
const PACE_MS: u16 = 10;
/// Requests that want no answer (`FUSE_FORGET`, `FUSE_INTERRUPT`, `FUSE_BATCH_FORGET`, `fuse.h`).
const UNANSWERED: [u32; 3] = [2, 36, 42];

/// Starts a process that carries messages over the connection of a descriptor of `/dev/fuse`.
///
/// # Errors
/// It cannot be started, or not open the device.
pub fn start_beside(device: BorrowedFd<'_>) -> io::Result<Courier> {
    let (mut ours, theirs) = UnixStream::pair()?;
    let process = start(theirs)?;
    let courier = |stream| Courier { stream: Mutex::new(stream), process: Some(process) };
    let mut said = [0; 4];
    let started = descriptor::send(&ours, device).and_then(|()| ours.read_exact(&mut said));
    // Collects the process also where it failed.
    let courier = courier(ours);
    started.map(|()| courier)
}

/// The command, and with it the other end of the pair that it holds, goes before anything is waited for.
fn start(line: UnixStream) -> io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(NAME).env_clear().current_dir("/").process_group(0);
    command.stdin(Stdio::from(OwnedFd::from(line))).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn()
}

/// Whether these are the arguments of a process that [`start_beside`] has started.
pub fn is_meant(arguments: &[OsString]) -> bool {
    matches!(arguments, [name] if name == NAME)
}

/// Carries messages until whoever sends them has ended, and sees to it that what was under way ends too.
///
/// # Errors
/// Standard input is not what [`start_beside`] gives, or the device cannot be opened.
pub fn become_courier() -> io::Result<()> {
    fs::write("/proc/self/comm", PROCESS_NAME).unwrap_or_default();
    let mut line = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let served = descriptor::receive(&line)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let device = join(&served)?;
    drop(served);
    line.write_all(&[0; 4])?;
    let (words, messages) = (line.try_clone()?, device.try_clone()?);
    let carrying = move || {
        while carry(&words, &messages).is_ok() {}
        // Also where what was said made no sense.
        words.shutdown(Shutdown::Both).unwrap_or_default();
    };
    let carrying = thread::Builder::new().name("courier".into()).spawn(carrying)?;
    wait_for_end(&line)?;
    while !carrying.is_finished() {
        refuse_next(&device)?;
    }
    Ok(())
}

/// Another descriptor of the same connection, which holds no request of the first.
#[expect(unsafe_code, reason = "no crate offers this call safely")]
fn join(served: &OwnedFd) -> io::Result<File> {
    let device = File::from(mount::open_device().map_err(io::Error::other)?);
    let number = u32::try_from(served.as_raw_fd()).unwrap_or(u32::MAX);
    // SAFETY: the kernel reads four bytes at this address, which outlive the call.
    let outcome = unsafe { libc::ioctl(device.as_raw_fd(), CLONE, &raw const number) };
    Errno::result(outcome)?;
    fcntl(&device, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(device)
}

/// Waits until the other side is closed, whatever it still says.
fn wait_for_end(line: &UnixStream) -> io::Result<()> {
    loop {
        let mut polled = [PollFd::new(line.as_fd(), PollFlags::empty())];
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(1..) => return Ok(()),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Refuses a request, if one comes soon.
fn refuse_next(mut device: &File) -> io::Result<()> {
    let mut polled = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
    match poll(&mut polled, PollTimeout::from(PACE_MS)) {
        Ok(0) | Err(Errno::EINTR) => return Ok(()),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    // Never touched beyond what is read.
    let mut request = vec![0; REQUEST_MAX];
    let Ok(len) = device.read(&mut request) else {
        // It was taken back, or all is aborted and the message is through soon.
        thread::sleep(Duration::from_millis(1));
        return Ok(());
    };
    if let Some(refusal) = refusal(&request[..len]) {
        // Whoever asked may have gone away.
        device.write_all(&refusal).unwrap_or_default();
    }
    Ok(())
}

/// The answer `ENOTCONN` to a request (`struct fuse_in_header`, `struct fuse_out_header`, `fuse.h`); `None` if it wants none.
fn refusal(request: &[u8]) -> Option<[u8; 16]> {
    let operation = u32::from_ne_bytes(request.get(4..8)?.try_into().ok()?);
    if UNANSWERED.contains(&operation) {
        return None;
    }
    let mut answer = [0; 16];
    answer[..4].copy_from_slice(&16_u32.to_ne_bytes());
    answer[4..8].copy_from_slice(&(-libc::ENOTCONN).to_ne_bytes());
    answer[8..].copy_from_slice(request.get(8..16)?);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_refused_and_what_wants_no_answer_gets_none() {
        let mut request = [0_u8; 40];
        request[4..8].copy_from_slice(&1_u32.to_ne_bytes());
        request[8..16].copy_from_slice(&77_u64.to_ne_bytes());
        let answer = refusal(&request).unwrap();
        assert_eq!(answer[..4], 16_u32.to_ne_bytes());
        assert_eq!(answer[4..8], (-107_i32).to_ne_bytes());
        assert_eq!(answer[8..], 77_u64.to_ne_bytes());
        request[4..8].copy_from_slice(&42_u32.to_ne_bytes());
        assert_eq!(refusal(&request), None);
        assert_eq!(refusal(&request[..7]), None);
    }

    #[test]
    fn only_its_own_name_makes_a_courier() {
        assert!(is_meant(&[NAME.into()]));
        assert!(!is_meant(&["overlayfs-mount".into()]));
        assert!(!is_meant(&[NAME.into(), "mount".into()]));
    }
}
