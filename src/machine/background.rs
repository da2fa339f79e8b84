//! Leaving the caller: the process starts itself again, and the copy becomes the daemon.
//!
//! There is no fork in a process with threads. The caller's side is [`launch`], the daemon's is [`Ready`]. The daemon's standard
//! input is, at first, the writing end of a pipe on which it says that it is ready; its standard error is the caller's until then.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};

use super::MachineError;
use super::exit::Process;

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
    let (mut child, mut reader) = start(ourselves())?;
    match outcome(&mut child, &mut reader)? {
        None => Ok(Launch::Ready(child.id())),
        Some(code) => Ok(Launch::Failed(code)),
    }
}

/// A daemon that ends when this goes away, in whatever way: also when this process is killed.
#[derive(Debug)]
pub struct Leash {
    child: Child,
    process: Option<Process>,
    /// The daemon sees when nobody can read any more what it says.
    reader: PipeReader,
}

/// How the launch of a daemon on a leash ended.
#[derive(Debug)]
pub enum HowItWent {
    /// It is ready.
    Ready(Leash),
    /// As [`Launch::Failed`].
    Failed(u8),
}

/// As [`launch`], for a daemon that is not to live longer than this process and has one variable more.
///
/// # Errors
/// It cannot be started or waited for.
pub fn launch_leashed(variable: Option<(&str, &OsStr)>) -> Result<HowItWent, MachineError> {
    let mut command = ourselves();
    command.envs(variable);
    let (mut child, mut reader) = start(command)?;
    match outcome(&mut child, &mut reader)? {
        None => {
            let process = Process::open(child.id())?;
            Ok(HowItWent::Ready(Leash { child, process, reader }))
        }
        Some(code) => Ok(HowItWent::Failed(code)),
    }
}

impl Leash {
    /// The number of the daemon's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets the daemon end and waits for that; after `patience` it is killed.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn release(self, patience: Duration) -> Result<(), MachineError> {
        let Self { mut child, process, reader } = self;
        drop(reader);
        if process.is_some_and(|process| process.wait(patience).is_err()) {
            child.kill().map_err(failed("killing the daemon"))?;
        }
        // Somebody else in this process may have collected it already.
        drop(child.wait());
        Ok(())
    }
}

/// This program with its own arguments.
fn ourselves() -> Command {
    let mut arguments = env::args_os();
    // The program itself, also after its file was replaced.
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments);
    command
}

fn start(mut command: Command) -> Result<(Child, PipeReader), MachineError> {
    let (reader, writer) = io::pipe().map_err(failed("pipe"))?;
    command.env(MARKER, std::process::id().to_string()).stdin(writer).stdout(Stdio::null());
    // With the command goes the writing end that it holds; with that open the end of the daemon would not be seen.
    let child = command.spawn().map_err(failed("starting the daemon"))?;
    Ok((child, reader))
}

/// Waits until the daemon is ready, or has ended: then its exit code.
fn outcome(child: &mut Child, reader: &mut PipeReader) -> Result<Option<u8>, MachineError> {
    let mut said = [0_u8; 1];
    match reader.read_exact(&mut said) {
        Ok(()) if said[0] == READY => Ok(None),
        Ok(()) | Err(_) => {
            let status = child.wait().map_err(failed("waiting for the daemon"))?;
            Ok(Some(exit_code(status)))
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
        Self::detach_self_but(None)
    }

    /// As [`Ready::detach_self`], with one descriptor that stays open.
    ///
    /// # Errors
    /// As there.
    pub fn detach_self_but(kept: Option<RawFd>) -> Result<Self, MachineError> {
        let channel = io::stdin().as_fd().try_clone_to_owned().map_err(failed("standard input"))?;
        // Programs that are started later must not hold the channel open.
        dup2_stdin(null(false)?).map_err(io::Error::from).map_err(failed("standard input"))?;
        close_inherited(&[Some(channel.as_raw_fd()), kept])?;
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
    pub fn announce(self) -> Result<(), MachineError> {
        self.tell().map(drop)
    }

    /// As [`Ready::announce`]; then `abandoned` is called, in a thread, when the caller has let go of its [`Leash`] or has ended.
    ///
    /// # Errors
    /// As there, or no thread can be started.
    pub fn announce_on_leash(
        self,
        abandoned: impl FnOnce() + Send + 'static,
    ) -> Result<(), MachineError> {
        let channel = self.tell()?;
        let waiting = thread::Builder::new().name("leash".into()).spawn(move || {
            // A pipe without readers is in error for its writer, and that needs not be asked for.
            let mut polled = [PollFd::new(channel.as_fd(), PollFlags::empty())];
            while matches!(poll(&mut polled, PollTimeout::NONE), Ok(0) | Err(Errno::EINTR)) {}
            abandoned();
        });
        waiting.map(drop).map_err(failed("starting a thread"))
    }

    fn tell(mut self) -> Result<File, MachineError> {
        env::set_current_dir("/").map_err(failed("chdir"))?;
        self.channel.write_all(&[READY]).map_err(failed("telling the caller"))?;
        let null = null(true)?;
        dup2_stdout(&null).map_err(io::Error::from).map_err(failed("standard output"))?;
        dup2_stderr(&null).map_err(io::Error::from).map_err(failed("standard error"))?;
        Ok(self.channel)
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
fn close_inherited(kept: &[Option<RawFd>]) -> Result<(), MachineError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn launch_command(command: Command) -> Launch {
        let (mut child, mut reader) = start(command).unwrap();
        match outcome(&mut child, &mut reader).unwrap() {
            None => Launch::Ready(child.id()),
            Some(code) => Launch::Failed(code),
        }
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn readiness_and_failure_reach_the_caller() {
        let started = Instant::now();
        let launched = launch_command(shell("printf R >&0; exec 0>&-; sleep 0.1"));
        assert!(matches!(launched, Launch::Ready(_)));
        assert_eq!(launch_command(shell("exit 3")), Launch::Failed(3));
        assert_eq!(launch_command(shell("kill -9 $$")), Launch::Failed(137));
        assert_eq!(launch_command(shell("exit 0")), Launch::Failed(1));
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn only_a_child_of_the_launcher_is_launched() {
        assert!(!is_launched());
        let script = format!("test \"${MARKER}\" = $PPID && printf R >&0");
        assert!(matches!(launch_command(shell(&script)), Launch::Ready(_)));
    }
}
