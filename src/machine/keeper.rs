//! The line between the keeper of a mount and the worker that serves it.
//!
//! The keeper mounts, holds the descriptor, and starts the worker: this program again, with the same arguments. Over a pair of sockets,
//! which the worker finds as its standard input, it hands over the descriptor and the file of the journal. When a worker dies, the next
//! one gets the same two. Each word on the line is one byte; the keeper reads nothing else that comes from a worker.

use std::env;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, fallocate};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::broker::{self, Line};
use super::courier::Courier;
use super::{MachineError, descriptor};

/// Set for a worker only: the number of its keeper, and whether it is the first.
pub(super) const MARKER: &str = "OVERLAYFS_MOUNT_WORKER_OF";

/// The exit status of a worker that lacks memory, threads or descriptors, as the next one may not (`EX_TEMPFAIL` of sysexits.h).
pub const LACKING: u8 = 75;

/// What a worker begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing: nothing is mounted yet.
    First,
    /// Nothing is mounted any more: nobody could go on with what was.
    Anew,
    /// What another one has served, and what was asked of that one and not answered.
    Next,
    /// The same, but what was not answered gets an error: workers have died of it.
    Refusing,
}

impl Turn {
    const ALL: [(&str, Self); 4] = [
        ("first", Self::First),
        ("anew", Self::Anew),
        ("next", Self::Next),
        ("refusing", Self::Refusing),
    ];

    pub(super) fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, turn)| *turn == self).map_or("", |(word, _)| *word)
    }

    fn of(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == word).map(|(_, turn)| *turn)
    }
}

/// What a worker says to its keeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// All is built: mount, and hand the mount over. From the first worker.
    Mount,
    /// Hand over the mount that there is. From a later one.
    Next,
    /// Hand over the journal of the mount that was given up. From a worker that begins anew.
    Past,
    /// The view can be read.
    Ready,
    /// The journal does not allow to go on: mount anew.
    Anew,
    /// Take the mount away and end.
    Stop,
    /// Have another worker take my place, from the program as it is on disk now.
    Replace,
    /// Keep this mount too, which is sent with it. From a worker that mounts by itself.
    Keep,
    /// Have another worker of my program take my place: the view needs files that are closed to me.
    Widen,
    /// Hand over my end of the broker's line.
    Broker,
}

impl Word {
    const ALL: [(u8, Self); 10] = [
        (b'M', Self::Mount),
        (b'N', Self::Next),
        (b'P', Self::Past),
        (b'R', Self::Ready),
        (b'A', Self::Anew),
        (b'S', Self::Stop),
        (b'U', Self::Replace),
        (b'W', Self::Widen),
        (b'K', Self::Keep),
        (b'B', Self::Broker),
    ];

    pub(super) fn byte(self) -> u8 {
        Self::ALL.iter().find(|(_, word)| *word == self).map_or(0, |(byte, _)| *byte)
    }

    pub(super) fn of(byte: u8) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == byte).map(|(_, word)| *word)
    }
}

/// What a keeper says to its worker, beside what it hands over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeeperAnswer {
    /// What was asked for was not done.
    Refused,
    /// The mount is about to be taken away.
    Stopping,
}

impl KeeperAnswer {
    const REFUSED: u8 = b'X';
    const STOPPING: u8 = b'T';

    pub(super) fn byte(self) -> u8 {
        match self {
            Self::Refused => Self::REFUSED,
            Self::Stopping => Self::STOPPING,
        }
    }

    pub(super) fn of(byte: u8) -> Option<Self> {
        match byte {
            Self::REFUSED => Some(Self::Refused),
            Self::STOPPING => Some(Self::Stopping),
            _ => None,
        }
    }
}

fn none() -> MachineError {
    failed("taking the mount over")(io::Error::other("the keeper handed none over"))
}

pub(super) fn failed(step: &'static str) -> impl Fn(io::Error) -> MachineError {
    move |error| MachineError::Keeper { step, error }
}

/// The keeper, as its worker sees it.
#[derive(Debug)]
pub struct Keeper {
    line: UnixStream,
    pid: u32,
    turn: Turn,
}

/// What a keeper hands over.
#[derive(Debug)]
pub struct Handed {
    /// The descriptor over which the kernel speaks.
    pub device: OwnedFd,
    /// The file of the journal: empty for the first worker.
    pub journal: File,
    /// Who writes to the kernel what may have to wait.
    pub courier: Courier,
}

impl Keeper {
    /// The keeper of this process, if it was started by one. Takes its line away from standard input, so that no program that is
    /// started later holds it.
    ///
    /// # Errors
    /// Standard input is not the line.
    pub fn find() -> Result<Option<Self>, MachineError> {
        let Ok(marker) = env::var(MARKER) else { return Ok(None) };
        let pid = nix::unistd::getppid();
        let of_keeper = marker.split_once(':').filter(|(keeper, _)| *keeper == pid.to_string());
        // Without one it was inherited by a program that was started by a worker.
        let Some(turn) = of_keeper.and_then(|(_, turn)| Turn::of(turn)) else { return Ok(None) };
        let line = io::stdin().as_fd().try_clone_to_owned().map_err(failed("taking the line"))?;
        let null = File::open("/dev/null").map_err(failed("/dev/null"))?;
        dup2_stdin(null).map_err(io::Error::from).map_err(failed("standard input"))?;
        let pid = u32::try_from(pid.as_raw()).unwrap_or_default();
        Ok(Some(Self { line: UnixStream::from(line), pid, turn }))
    }

    /// Whether this worker begins with nothing: no mount is there yet, or none any more.
    pub fn is_first(&self) -> bool {
        match self.turn {
            Turn::First | Turn::Anew => true,
            Turn::Next | Turn::Refusing => false,
        }
    }

    /// Whether there was a mount before, with which nobody could go on.
    pub fn is_anew(&self) -> bool {
        self.turn == Turn::Anew
    }

    /// Whether what the worker before has not answered gets an error.
    pub fn is_to_refuse(&self) -> bool {
        self.turn == Turn::Refusing
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Asks for the mount, and waits for it.
    ///
    /// # Errors
    /// The keeper could not mount, and has said so itself; or it is gone.
    pub fn ask(&self) -> Result<Handed, MachineError> {
        self.say(if self.is_first() { Word::Mount } else { Word::Next })?;
        self.handed()?.pop().ok_or_else(none)
    }

    /// Asks for all mounts that were kept, and waits for them.
    ///
    /// # Errors
    /// The keeper is gone.
    pub fn ask_all(&self) -> Result<Vec<Handed>, MachineError> {
        self.say(Word::Next)?;
        self.handed()
    }

    /// Asks for the journal of the mount that was given up.
    ///
    /// # Errors
    /// The keeper is gone.
    pub fn past(&self) -> Result<Option<File>, MachineError> {
        self.say(Word::Past)?;
        let journal = descriptor::receive(&self.line).map_err(failed("taking the journal"))?;
        Ok(journal.map(File::from))
    }

    fn handed(&self) -> Result<Vec<Handed>, MachineError> {
        let receive = || descriptor::receive(&self.line).map_err(failed("taking the mount over"));
        let mut handed = Vec::new();
        while let Some(device) = receive()? {
            descriptor::expect_device(&device, "descriptor from the keeper")?;
            let journal = File::from(receive()?.ok_or_else(none)?);
            let courier = Courier::new(UnixStream::from(receive()?.ok_or_else(none)?));
            handed.push(Handed { device, journal, courier });
        }
        Ok(handed)
    }

    /// Who mounts for this worker, if the keeper has somebody for that.
    ///
    /// # Errors
    /// The keeper is gone.
    pub fn broker(&self) -> Result<Option<Line>, MachineError> {
        if !broker::is_there() {
            return Ok(None);
        }
        self.say(Word::Broker)?;
        let line = descriptor::receive(&self.line).map_err(failed("asking for the broker"))?;
        Ok(Some(Line::new(line.ok_or_else(none)?)))
    }

    /// Has a mount kept that this worker made, with the number by which the kernel knows it, and its journal. Returns who writes to the
    /// kernel what may have to wait.
    ///
    /// # Errors
    /// The keeper is gone.
    pub fn keep(
        &self,
        device: impl AsFd,
        connection: Option<u32>,
        journal: impl AsFd,
    ) -> Result<Courier, MachineError> {
        let keep = || {
            let (ours, theirs) = UnixStream::pair()?;
            // In digits, which are no words: who knows nothing of them passes over them.
            let number = connection.map(|connection| connection.to_string()).unwrap_or_default();
            (&self.line).write_all(number.as_bytes())?;
            (&self.line).write_all(&[Word::Keep.byte()])?;
            descriptor::send(&self.line, device)?;
            descriptor::send(&self.line, journal)?;
            descriptor::send(&self.line, theirs)?;
            Ok(Courier::new(ours))
        };
        keep().map_err(failed("having a mount kept"))
    }

    /// Says a word.
    ///
    /// # Errors
    /// The keeper is gone.
    pub fn say(&self, word: Word) -> Result<(), MachineError> {
        (&self.line).write_all(&[word.byte()]).map_err(failed("speaking to the keeper"))
    }

    /// Says that the view can be read. Lets go of the caller's output, unless that is to be kept.
    ///
    /// # Errors
    /// The keeper is gone.
    pub fn ready(&self, keeps_output: bool) -> Result<(), MachineError> {
        self.say(Word::Ready)?;
        if keeps_output {
            return Ok(());
        }
        env::set_current_dir("/").map_err(failed("chdir"))?;
        let null = OpenOptions::new().write(true).open("/dev/null").map_err(failed("/dev/null"))?;
        dup2_stdout(&null).map_err(io::Error::from).map_err(failed("standard output"))?;
        dup2_stderr(&null).map_err(io::Error::from).map_err(failed("standard error"))
    }

    /// Calls `hear` for all that the keeper says from now on, and `gone` when it has ended. In a thread of its own.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn listen(
        &self,
        hear: impl Fn(KeeperAnswer) + Send + 'static,
        gone: impl FnOnce() + Send + 'static,
    ) -> Result<(), MachineError> {
        let mut line = self.line.try_clone().map_err(failed("listening to the keeper"))?;
        let listening = move || {
            let mut byte = [0; 1];
            while line.read_exact(&mut byte).is_ok() {
                if let Some(answer) = KeeperAnswer::of(byte[0]) {
                    hear(answer);
                }
            }
            gone();
        };
        let thread = thread::Builder::new().name("keeper".into()).spawn(listening);
        thread.map(drop).map_err(failed("starting a thread"))
    }
}

/// A journal has room for so much, whatever else fills the disk.
const JOURNAL_BYTES: i64 = 64 << 10;

/// A file for a journal, which is gone with its last descriptor: in `directory`, or in memory where that has no room for it.
///
/// # Errors
/// Neither can be had.
pub fn journal_file(directory: &Path) -> Result<File, MachineError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    let file = options.custom_flags(OFlag::O_TMPFILE.bits()).open(directory);
    let file = file.and_then(|file| {
        match fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, JOURNAL_BYTES) {
            Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(file),
            Err(error) => Err(error.into()),
        }
    });
    let file = file.or_else(|_| memfd_create(c"journal", MFdFlags::MFD_CLOEXEC).map(File::from));
    file.map_err(io::Error::from).map_err(failed("making a journal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_heard_as_it_was_said() {
        for (byte, word) in Word::ALL {
            assert_eq!((word.byte(), Word::of(byte)), (byte, Some(word)));
        }
        for answer in [KeeperAnswer::Refused, KeeperAnswer::Stopping] {
            assert_eq!(
                (KeeperAnswer::of(answer.byte()), Word::of(answer.byte())),
                (Some(answer), None)
            );
        }
    }

    #[test]
    fn a_journal_has_no_name() {
        use std::io::Seek;
        let dir = tempfile::tempdir().unwrap();
        for directory in [dir.path(), Path::new("/nowhere")] {
            let mut file = journal_file(directory).unwrap();
            file.write_all(b"one").unwrap();
            file.rewind().unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "one");
        }
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn this_process_has_no_keeper() {
        assert!(Keeper::find().unwrap().is_none());
    }
}
