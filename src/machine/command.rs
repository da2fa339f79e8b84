//! Running a program as if it were this process: in its process group, with its descriptors, its signals and its end.
//!
//! The caller's side is [`Running`]. The program's side is [`become_program`]: this program again, which sets up what only the
//! process itself can, and then becomes the other one. In between signals wait: none is lost and none ends the wrong process.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, getppid};

use super::MachineError;

/// The name under which this program is started to become another one.
const NAME: &str = "overlayfs-mount-becomes";
/// The program cannot be executed; as in a shell.
pub const NOT_EXECUTABLE: u8 = 126;
/// The program was not found; as in a shell.
pub const NOT_FOUND: u8 = 127;

/// The signals that somebody may send to this process and mean the program. Those that stop a process are left as they are: a terminal
/// sends them to the whole group.
const FORWARDED: [Signal; 11] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGALRM,
    Signal::SIGVTALRM,
    Signal::SIGIO,
    Signal::SIGPWR,
];
/// Said of a signal that the kernel sent by itself (sigaction(2), `si_code`), as for a key of the terminal: the group has it already.
const SI_KERNEL: i32 = 0x80;

/// A program that runs.
#[derive(Debug)]
pub struct Running {
    pid: Pid,
    signals: SignalFd,
}

impl Running {
    /// Starts a program with everything that this process has and one variable more, in its process group. From now on signals to this process
    /// are the program's; it is killed when this process is.
    ///
    /// # Errors
    /// The kernel refused. That the program cannot be run is said by its exit status.
    pub fn start(
        program: &[OsString],
        variable: Option<(&str, &OsStr)>,
    ) -> Result<Self, MachineError> {
        let failed = |step| {
            move |error: io::Error| MachineError::Run {
                program: program
                    .first()
                    .map_or_else(String::new, |name| name.display().to_string()),
                step,
                error,
            }
        };
        // Who started us may ignore this signal, and then nothing would be left to wait for (wait(2)).
        signal_hook::flag::register(libc::SIGCHLD, Arc::new(AtomicBool::new(false)))
            .map_err(failed("waiting for its end"))?;
        let taken: SigSet = FORWARDED.into_iter().chain([Signal::SIGCHLD]).collect();
        let before =
            SigSet::thread_get_mask().map_err(io::Error::from).map_err(failed("signals"))?;
        taken.thread_block().map_err(io::Error::from).map_err(failed("signals"))?;
        let signals = SignalFd::with_flags(&taken, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
        let signals = signals.map_err(io::Error::from).map_err(failed("signals"))?;
        let freed: Vec<_> = taken
            .iter()
            .filter(|signal| !before.contains(*signal))
            .map(|signal| (signal as i32).to_string())
            .collect();
        let child = Command::new("/proc/self/exe")
            .arg0(NAME)
            .arg(getpid().to_string())
            .arg(freed.join(","))
            .args(program)
            .envs(variable)
            .spawn()
            .map_err(failed("starting a process"))?;
        let pid = i32::try_from(child.id()).map(Pid::from_raw);
        let pid = pid.map_err(io::Error::other).map_err(failed("starting a process"))?;
        Ok(Self { pid, signals })
    }

    /// Passes signals on until the program ends, and returns its exit status, or 128 + the signal that ended it. Of every other child that
    /// ends meanwhile `other_ended` is told its number.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn wait(self, mut other_ended: impl FnMut(u32)) -> Result<u8, MachineError> {
        let failed = |step| {
            move |error: Errno| MachineError::Run {
                program: format!("process {}", self.pid),
                step,
                error: error.into(),
            }
        };
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, status)) if pid == self.pid => {
                    return Ok(u8::try_from(status).unwrap_or(u8::MAX));
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == self.pid => {
                    return Ok(u8::try_from(128 + signal as i32).unwrap_or(u8::MAX));
                }
                Ok(WaitStatus::StillAlive) => {
                    let mut polled = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
                    match poll(&mut polled, PollTimeout::NONE) {
                        Ok(_) | Err(Errno::EINTR) => {}
                        Err(error) => return Err(failed("signals")(error)),
                    }
                    self.pass_on().map_err(failed("signals"))?;
                }
                Ok(ended) => {
                    if let Some(pid) = ended.pid().and_then(|pid| u32::try_from(pid.as_raw()).ok())
                    {
                        other_ended(pid);
                    }
                }
                Err(Errno::EINTR) => {}
                Err(error) => return Err(failed("waiting for its end")(error)),
            }
        }
    }

    /// Passes on what has come.
    fn pass_on(&self) -> Result<(), Errno> {
        while let Some(came) = self.signals.read_signal()? {
            let signal = i32::try_from(came.ssi_signo).ok().map(Signal::try_from);
            let Some(Ok(signal)) = signal else { continue };
            if signal != Signal::SIGCHLD && came.ssi_code != SI_KERNEL {
                match kill(self.pid, signal) {
                    // It may have become another user's.
                    Ok(()) | Err(Errno::ESRCH | Errno::EPERM) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

/// What this process is to become.
#[derive(Debug)]
pub struct Becoming {
    parent: Pid,
    freed: SigSet,
    program: Vec<OsString>,
}

/// Recognizes the arguments that [`Running::start`] gives.
pub fn recognize(arguments: &[OsString]) -> Option<Becoming> {
    let [name, parent, freed, program @ ..] = arguments else { return None };
    if name != NAME || program.is_empty() {
        return None;
    }
    let numbers = freed.to_str()?.split(',').filter(|number| !number.is_empty());
    let signals = numbers.map(|number| Signal::try_from(number.parse::<i32>().ok()?).ok());
    Some(Becoming {
        parent: Pid::from_raw(parent.to_str()?.parse().ok()?),
        freed: signals.collect::<Option<SigSet>>()?,
        program: program.to_vec(),
    })
}

/// Becomes the program. Returns only if it cannot be run: with the exit status and why.
pub fn become_program(becoming: &Becoming) -> (u8, MachineError) {
    let [program, arguments @ ..] = becoming.program.as_slice() else {
        return (NOT_FOUND, not_run(OsStr::new(""), "reading its name", Errno::ENOENT.into()));
    };
    // Whoever kills the process that stands for the program means the program.
    let bound =
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    if let Err(error) = bound {
        return (NOT_EXECUTABLE, not_run(program, "prctl", error.into()));
    }
    if getppid() != becoming.parent {
        return (NOT_EXECUTABLE, not_run(program, "who wanted it has ended", Errno::ESRCH.into()));
    }
    if let Err(error) = becoming.freed.thread_unblock() {
        return (NOT_EXECUTABLE, not_run(program, "signals", error.into()));
    }
    let error = Command::new(program).args(arguments).exec();
    let status = match error.kind() {
        io::ErrorKind::NotFound => NOT_FOUND,
        _ => NOT_EXECUTABLE,
    };
    let step = if status == NOT_FOUND && is_there(program) {
        "its interpreter is missing"
    } else {
        "executing it"
    };
    (status, not_run(program, step, error))
}

/// Whether a program that is named by a path is a file all the same: then what its first line names is not there.
fn is_there(program: &OsStr) -> bool {
    program.as_bytes().contains(&b'/') && PathBuf::from(program).exists()
}

fn not_run(program: &OsStr, step: &'static str, error: io::Error) -> MachineError {
    MachineError::Run { program: program.display().to_string(), step, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn only_our_own_arguments_are_recognized() {
        let becoming = recognize(&words(&[NAME, "7", "1,15", "ls", "-l"])).unwrap();
        assert_eq!(becoming.parent, Pid::from_raw(7));
        assert!(
            becoming.freed.contains(Signal::SIGHUP) && becoming.freed.contains(Signal::SIGTERM)
        );
        assert_eq!(becoming.program, words(&["ls", "-l"]));
        assert!(recognize(&words(&[NAME, "7", "", "ls"])).is_some());
        for wrong in
            [&["overlayfs-mount", "7", "1", "ls"][..], &[NAME, "7", "1"], &[NAME, "7", "x", "ls"]]
        {
            assert!(recognize(&words(wrong)).is_none(), "{wrong:?}");
        }
    }
}
