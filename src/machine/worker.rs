//! Workers, as their keeper sees them: starting them, hearing them, handing over the mount, and what becomes of them.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tracing::warn;

use super::broker::{self, Line};
use super::keeper::{KeeperAnswer, MARKER, Turn, Word, failed};
use super::{MachineError, courier, descriptor};

/// What systemd gives to the process that it started, which is the keeper.
const NOT_FOR_WORKERS: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
];

/// The most digits of the number that comes before [`Word::Keep`].
const DIGITS_MAX: usize = 10;

/// How to start workers.
#[derive(Debug)]
pub struct Workshop {
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    directory: PathBuf,
    /// Where the program was when this process started.
    place: PathBuf,
    /// A later program; without one it is the keeper's own.
    later: Option<File>,
    /// The one before that.
    before: Option<File>,
    /// Whether somebody mounts for them.
    has_broker: bool,
}

impl Workshop {
    /// Workers are this program, with the arguments of this process, in its directory; beyond its environment they have this.
    ///
    /// # Errors
    /// The kernel does not say where the program or its directory is.
    pub fn of_this_process(
        environment: Vec<(&'static str, OsString)>,
    ) -> Result<Self, MachineError> {
        let directory = env::current_dir().map_err(failed("the working directory"))?;
        let place = env::current_exe().map_err(failed("the place of the program"))?;
        let arguments = env::args_os().collect();
        let (later, before, has_broker) = (None, None, false);
        Ok(Self { arguments, environment, directory, place, later, before, has_broker })
    }

    /// Starts a worker.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self, turn: Turn) -> Result<Worker, MachineError> {
        self.start_program(self.later.as_ref(), turn)
    }

    /// Starts a worker from the program that stands now where this one stood, and returns that program.
    ///
    /// # Errors
    /// It is not there, or cannot be started.
    pub fn start_replaced(&self) -> Result<(Worker, File), MachineError> {
        let program = File::open(&self.place).map_err(failed("opening the program"))?;
        Ok((self.start_program(Some(&program), Turn::Next)?, program))
    }

    /// All later workers are this program.
    pub fn adopt(&mut self, program: File) {
        self.before = self.later.replace(program);
    }

    /// All later workers are the program that they were before the last was adopted.
    pub fn dismiss(&mut self) {
        self.later = self.before.take();
    }

    /// Starts who mounts for workers, at one end of a line. It stays the keeper's program.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_broker(&mut self, line: &Line) -> Result<Child, MachineError> {
        let starting = failed("starting the broker");
        let line = line.as_fd().try_clone_to_owned().map_err(&starting)?;
        let mut command = self.command("/proc/self/exe");
        let child = command.stdin(Stdio::from(line)).spawn().map_err(starting)?;
        self.has_broker = true;
        Ok(child)
    }

    /// This program again, with the arguments and in the directory of the keeper.
    fn command(&self, path: &str) -> Command {
        let mut arguments = self.arguments.iter();
        let mut command = Command::new(path);
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        command.args(arguments).env(broker::MARKER, std::process::id().to_string());
        for name in NOT_FOR_WORKERS {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if self.directory.is_dir() {
            command.current_dir(&self.directory);
        }
        command
    }

    fn start_program(&self, program: Option<&File>, turn: Turn) -> Result<Worker, MachineError> {
        let (ours, theirs) = UnixStream::pair().map_err(failed("making the line"))?;
        let path = match program {
            // The child looks it up before its descriptors are closed.
            Some(program) => format!("/proc/self/fd/{}", program.as_raw_fd()),
            None => "/proc/self/exe".to_owned(),
        };
        let mut command = self.command(&path);
        command.env(MARKER, format!("{}:{}", std::process::id(), turn.word()));
        if !self.has_broker {
            command.env_remove(broker::MARKER);
        }
        command.stdin(Stdio::from(OwnedFd::from(theirs)));
        let child = command.spawn().map_err(failed("starting the worker"))?;
        Ok(Worker { child, line: ours })
    }
}

/// A worker, as its keeper sees it.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    line: UnixStream,
}

/// A mount that a worker made, to be kept for the next one.
#[derive(Debug)]
pub struct ToKeep {
    /// The descriptor over which the kernel speaks.
    pub device: OwnedFd,
    /// The number by which the kernel knows the connection, as the worker says. Most kernels do not say it of a descriptor.
    pub connection: Option<u32>,
    /// The journal of its node numbers.
    pub journal: File,
}

impl ToKeep {
    /// Takes what comes with the word, and writes from now on what the worker has for the kernel.
    fn receive(line: &UnixStream, connection: Option<u32>) -> io::Result<Self> {
        let receive =
            || descriptor::receive(line)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into());
        let (device, journal) = (receive()?, File::from(receive()?));
        let messages: io::Result<OwnedFd> = receive();
        descriptor::expect_device(&device, "descriptor from the worker")
            .map_err(io::Error::other)?;
        courier::serve(UnixStream::from(messages?), device.try_clone()?)?;
        Ok(Self { device, connection, journal })
    }
}

/// What became of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It runs.
    Runs,
    /// It was stopped, as by SIGSTOP.
    Stopped,
    /// It has ended with this exit code.
    Ended(i32),
    /// This signal has killed it.
    Killed(i32),
}

impl Worker {
    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Calls `hear` for each word that it says, in a thread of its own, with the mount that came with it.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn listen(
        &self,
        hear: impl Fn(Word, Option<ToKeep>) + Send + 'static,
    ) -> Result<(), MachineError> {
        let mut line = self.line.try_clone().map_err(failed("listening to the worker"))?;
        let listening = move || {
            let (mut byte, mut number) = ([0; 1], String::new());
            while line.read_exact(&mut byte).is_ok() {
                match Word::of(byte[0]) {
                    Some(Word::Keep) => match ToKeep::receive(&line, number.parse().ok()) {
                        Ok(mount) => hear(Word::Keep, Some(mount)),
                        Err(error) => warn!(%error, "a mount could not be taken to be kept"),
                    },
                    Some(word) => hear(word, None),
                    None if byte[0].is_ascii_digit() && number.len() < DIGITS_MAX => {
                        number.push(byte[0].into());
                        continue;
                    }
                    None => {}
                }
                number.clear();
            }
        };
        let thread = thread::Builder::new().name("worker".into()).spawn(listening);
        thread.map(drop).map_err(failed("starting a thread"))
    }

    /// Hands over the mount and its journal.
    ///
    /// # Errors
    /// It is gone.
    pub fn hand(&self, device: impl AsFd, journal: impl AsFd) -> Result<(), MachineError> {
        let hand = || {
            let courier = courier::start(device.as_fd().try_clone_to_owned()?)?;
            descriptor::send(&self.line, device)?;
            descriptor::send(&self.line, journal)?;
            descriptor::send(&self.line, courier)
        };
        hand().map_err(failed("handing the mount over"))
    }

    /// Hands over its end of the broker's line.
    pub fn hand_line(&self, line: &Line) {
        // If it is gone it needs none.
        descriptor::send(&self.line, line).unwrap_or_default();
    }

    /// Hands over the journal of a mount that was given up, if there is one.
    pub fn hand_past(&self, journal: Option<&File>) {
        match journal.map(|journal| descriptor::send(&self.line, journal)) {
            // If it is gone it needs none.
            Some(sent) => sent.unwrap_or_default(),
            None => self.end_of_mounts(),
        }
    }

    /// Says that all was handed over.
    pub fn end_of_mounts(&self) {
        // If it is gone it needs none.
        (&self.line).write_all(b"E").unwrap_or_default();
    }

    /// Tells it something.
    pub fn tell(&self, answer: KeeperAnswer) {
        // If it is gone it needs no answer.
        (&self.line).write_all(&[answer.byte()]).unwrap_or_default();
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        // It may have ended.
        kill(self.number(), signal).unwrap_or_default();
    }

    /// What has become of it. Once it has ended this must not be asked again.
    pub fn fate(&self) -> Fate {
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED | WaitPidFlag::WCONTINUED;
        fate(waitpid(self.number(), Some(flags)))
    }

    /// Kills it, and waits until it has ended.
    pub fn end(self) {
        self.signal(Signal::SIGKILL);
        while let Err(Errno::EINTR) = waitpid(self.number(), None) {}
    }

    fn number(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }
}

fn fate(status: nix::Result<WaitStatus>) -> Fate {
    match status {
        Ok(WaitStatus::Exited(_, code)) => Fate::Ended(code),
        Ok(WaitStatus::Signaled(_, signal, _)) => Fate::Killed(signal as i32),
        Ok(WaitStatus::Stopped(..)) => Fate::Stopped,
        Ok(_) | Err(Errno::EINTR) => Fate::Runs,
        // Somebody else has collected it.
        Err(_) => Fate::Ended(1),
    }
}
