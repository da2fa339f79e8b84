//! Leaving the caller: the process starts itself again, and the copy becomes the daemon.
//!
//! There is no fork in a process with threads. The caller's side is [`launch`], the daemon's is [`Ready`]. The daemon's standard
//! input is, at first, the writing end of a pipe on which it says that it is ready; its standard error is the caller's until then.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};

use nix::sys::stat::{Mode, umask};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};

use super::MachineError;

/// Set for the daemon only, to the number of the process that started it.
const MARKER: &str = "OVERLAYFS_MOUNT_LAUNCHED_BY";
/// The name that the kernel shows for the daemon: at most 15 bytes.
const PROCESS_NAME: &str = "overlayfs-mount";
const READY: u8 = b'R';

/// How a launch ended, seen from the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Launch {
    /// The daemon is ready, and its number is this.
    Ready(u32),
    /// The daemon has ended with this exit code, after it said why on standard error; or it was killed, and the code is 128 + signal.
    Failed(u8),
}

fn failed(step: &'static str) -> impl Fn(io::Error) -> MachineError {
    move |error| MachineError::Background { step, error }
}

/// Whether this process was started by [`launch`].
pub fn is_launched() -> bool {
    let parent = nix::unistd::getppid().to_string();
    env::var(MARKER).is_ok_and(|marker| marker == parent)
}

/// Starts this program again with the same arguments and waits until it is ready or has ended.
///
/// # Errors
/// It cannot be started or waited for.
pub fn launch() -> Result<Launch, MachineError> {
    let mut arguments = env::args_os();
    // The program itself, also after its file was replaced.
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments);
    launch_command(command)
}

fn launch_command(mut command: Command) -> Result<Launch, MachineError> {
    let (mut reader, writer) = io::pipe().map_err(failed("pipe"))?;
    command.env(MARKER, std::process::id().to_string()).stdin(writer).stdout(Stdio::null());
    let mut child = command.spawn().map_err(failed("starting the daemon"))?;
    // The command holds the writing end, and with it open the end of the daemon would not be seen.
    drop(command);
    let mut said = [0_u8; 1];
    match reader.read_exact(&mut said) {
        Ok(()) if said[0] == READY => Ok(Launch::Ready(child.id())),
        Ok(()) | Err(_) => {
            let status = child.wait().map_err(failed("waiting for the daemon"))?;
            Ok(Launch::Failed(exit_code(status)))
        }
    }
}

/// The exit code for a status: that of the process, or 128 + the signal that ended it. Never 0.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0).unwrap_or(1)
}

/// The daemon's duty to say that it is ready. Without it, when the process ends, the caller knows that it failed.
#[derive(Debug)]
pub struct Ready {
    channel: File,
}

impl Ready {
    /// Leaves the caller's session and closes all of its descriptors but standard error. To be called first of all, before
    /// any file is opened; the working directory stays until [`Ready::announce`], so that relative paths mean what the caller meant.
    ///
    /// # Errors
    /// The kernel refused, or `/proc` is not mounted.
    pub fn detach_self() -> Result<Self, MachineError> {
        let channel = io::stdin().as_fd().try_clone_to_owned().map_err(failed("standard input"))?;
        // Programs that are started later must not hold the channel open.
        dup2_stdin(null(false)?).map_err(io::Error::from).map_err(failed("standard input"))?;
        close_inherited(&channel)?;
        setsid().map_err(io::Error::from).map_err(failed("setsid"))?;
        umask(Mode::from_bits_truncate(0o022));
        // A name for people (`ps`, the holders of a mount); without it the process works as well.
        fs::write("/proc/self/comm", PROCESS_NAME).unwrap_or_default();
        Ok(Self { channel: File::from(channel) })
    }

    /// Tells the caller that the daemon is ready, and lets go of the caller's last descriptors and its directory.
    ///
    /// # Errors
    /// The caller is not there any more: nobody wants the daemon, which should undo what it did and end. Or the kernel refused.
    pub fn announce(mut self) -> Result<(), MachineError> {
        env::set_current_dir("/").map_err(failed("chdir"))?;
        self.channel.write_all(&[READY]).map_err(failed("telling the caller"))?;
        drop(self.channel);
        let null = null(true)?;
        dup2_stdout(&null).map_err(io::Error::from).map_err(failed("standard output"))?;
        dup2_stderr(&null).map_err(io::Error::from).map_err(failed("standard error"))
    }

    /// Gives up. The caller is told by the end of this process, which must follow, with an exit code other than 0.
    pub fn fail(self) {
        drop(self);
    }
}

fn null(is_writable: bool) -> Result<File, MachineError> {
    let opened = OpenOptions::new().read(true).write(is_writable).open("/dev/null");
    opened.map_err(failed("/dev/null"))
}

/// Closes all descriptors from 3 on but `kept`.
fn close_inherited(kept: &OwnedFd) -> Result<(), MachineError> {
    use std::os::fd::AsRawFd;
    let entries = fs::read_dir("/proc/self/fd").map_err(failed("/proc/self/fd"))?;
    let numbers: Vec<RawFd> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2 && *number != kept.as_raw_fd())
        .collect();
    for number in numbers {
        // The descriptor of the listing itself is among them and closed already.
        nix::unistd::close(number).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn readiness_and_failure_reach_the_caller() {
        let started = Instant::now();
        let launched = launch_command(shell("printf R >&0; exec 0>&-; sleep 0.1")).unwrap();
        assert!(matches!(launched, Launch::Ready(_)));
        assert_eq!(launch_command(shell("exit 3")).unwrap(), Launch::Failed(3));
        assert_eq!(launch_command(shell("kill -9 $$")).unwrap(), Launch::Failed(137));
        assert_eq!(launch_command(shell("exit 0")).unwrap(), Launch::Failed(1));
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn only_a_child_of_the_launcher_is_launched() {
        assert!(!is_launched());
        let script = format!("test \"${MARKER}\" = $PPID && printf R >&0");
        assert!(matches!(launch_command(shell(&script)).unwrap(), Launch::Ready(_)));
    }
}
