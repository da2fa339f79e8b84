//! Leaving the caller: the process becomes two, and the new one becomes the daemon.
//!
//! Where there is one thread, [`part`] forks. There is no fork in a process with threads, nor for a daemon that begins elsewhere than its caller is: the process
//! starts itself again. The daemon's side is [`Ready`]. It says that it is ready over a pipe, whose writing end is, at first, the standard input of one that was
//! started again; its standard error is the caller's until then.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};

use super::MachineError;
use super::exit::Process;
use super::inherited::{close_but, null};
use super::memory;

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

/// Which of the two processes this is.
#[derive(Debug)]
pub enum ProcessSide {
    /// The one that was called.
    Caller(Launch),
    /// The new one.
    Daemon(Ready),
}

/// Becomes two processes. The caller's returns when the daemon's is ready or has ended; the daemon's has left its caller, as [`Ready`] says, with everything that was
/// read before, and one descriptor that stays open.
///
/// # Errors
/// No process can be started or waited for, or the daemon's cannot leave its caller.
pub fn part(kept: Option<RawFd>) -> Result<ProcessSide, MachineError> {
    if is_launched() {
        return Ready::detach_self_but(kept).map(ProcessSide::Daemon);
    }
    if !is_single_threaded() {
        return launch().map(ProcessSide::Caller);
    }
    let (mut reader, writer) = io::pipe().map_err(failed("pipe"))?;
    // What the copy writes to is copied page by page, with all other processors told of it once it has threads: what nobody uses is made anew instead.
    memory::give_back();
    match copy_self()? {
        None => {
            drop(reader);
            // As in a program that is started anew: the caller may have been told to ignore a signal, hardly to put one off.
            let unblocked = SigSet::empty().thread_set_mask();
            unblocked.map_err(io::Error::from).map_err(failed("signal mask"))?;
            let null = null(true)?;
            dup2_stdout(null).map_err(io::Error::from).map_err(failed("standard output"))?;
            Ready::detach(OwnedFd::from(writer), kept).map(ProcessSide::Daemon)
        }
        Some(daemon) => {
            drop(writer);
            let pid = daemon.as_raw().unsigned_abs();
            let code = outcome(&mut reader, || status_of(daemon))?;
            Ok(ProcessSide::Caller(code.map_or(Launch::Ready(pid), Launch::Failed)))
        }
    }
}

/// Whether the thread that asks is the only one. Nobody else can start another meanwhile.
fn is_single_threaded() -> bool {
    // `.`, `..` and a directory for each thread (proc(5)).
    fs::metadata("/proc/self/task").is_ok_and(|tasks| tasks.nlink() == 3)
}

/// Copies this process, which must have one thread; in the copy `None`.
#[expect(unsafe_code, reason = "forking is safe where there is one thread")]
fn copy_self() -> Result<Option<Pid>, MachineError> {
    // SAFETY: no other thread holds a lock, of the allocator say, that nobody would release in the copy: there is none, `part` has looked.
    match unsafe { fork() }.map_err(io::Error::from).map_err(failed("fork"))? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// Waits for the end of a copy.
fn status_of(copy: Pid) -> io::Result<u8> {
    loop {
        match waitpid(copy, None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(failure(Some(code))),
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                return Ok(failure(Some(128 + signal as i32)));
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
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
    let code = outcome(&mut reader, || child.wait().map(exit_code))?;
    Ok(code.map_or(Launch::Ready(child.id()), Launch::Failed))
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
    match outcome(&mut reader, || child.wait().map(exit_code))? {
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

/// Waits until the daemon is ready, or has ended: then its exit code, for which `wait` waits.
fn outcome(
    reader: &mut PipeReader,
    wait: impl FnOnce() -> io::Result<u8>,
) -> Result<Option<u8>, MachineError> {
    let mut said = [0_u8; 1];
    match reader.read_exact(&mut said) {
        Ok(()) if said[0] == READY => Ok(None),
        Ok(()) | Err(_) => wait().map(Some).map_err(failed("waiting for the daemon")),
    }
}

/// The exit code for a status: that of the process, or 128 + the signal that ended it. Never 0.
fn exit_code(status: ExitStatus) -> u8 {
    failure(status.code().or_else(|| status.signal().map(|signal| 128 + signal)))
}

/// The exit code of a daemon that was never ready.
fn failure(code: Option<i32>) -> u8 {
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
        Self::detach(channel, kept)
    }

    fn detach(channel: OwnedFd, kept: Option<RawFd>) -> Result<Self, MachineError> {
        // Programs that are started later must not hold the channel open.
        dup2_stdin(null(false)?).map_err(io::Error::from).map_err(failed("standard input"))?;
        close_but(&[Some(channel.as_raw_fd()), kept])?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn launch_command(command: Command) -> Launch {
        let (mut child, mut reader) = start(command).unwrap();
        let code = outcome(&mut reader, || child.wait().map(exit_code)).unwrap();
        code.map_or(Launch::Ready(child.id()), Launch::Failed)
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
    fn the_end_of_a_copy_is_told_as_that_of_a_program() {
        let ended = |script: &str| {
            let mut child = shell(script).spawn().unwrap();
            let code = status_of(Pid::from_raw(child.id().cast_signed())).unwrap();
            assert!(child.wait().is_err(), "it is collected already");
            code
        };
        assert_eq!([ended("exit 3"), ended("kill -9 $$"), ended("exit 0")], [3, 137, 1]);
    }

    #[test]
    fn a_process_with_threads_is_not_copied() {
        // The harness has one for each test.
        thread::spawn(|| assert!(!is_single_threaded())).join().unwrap();
    }

    #[test]
    fn only_a_child_of_the_launcher_is_launched() {
        assert!(!is_launched());
        let script = format!("test \"${MARKER}\" = $PPID && printf R >&0");
        assert!(matches!(launch_command(shell(&script)), Launch::Ready(_)));
    }
}
