//! A journal of the numbers that were given out, for a process that goes on where this one was killed.
//!
//! The kernel keeps node numbers for as long as a mount lives, and asks the next process about them. So each block of numbers is written
//! down, with what it stands for, before the kernel is told of it; [`super::past`] reads it, and [`super::records`] is the file. A record
//! that a kill has cut short is the last, and its numbers never reached the kernel.
//!
//! Locks: one, around each append, and around writing what is alive anew.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use super::nodes::Number;
use super::past::Past;
use super::records::{Appending, framed};
use super::streams::Begun;
use super::superblock::ViewId;
use crate::snapshot::Snapshot;
use crate::union::name::RelPath;
use crate::union::object::{Identity, Kind, Object, Oid};

/// The form of a journal, and of all that a process tells the kernel and the next one is asked about: the offsets of listings too. One of
/// another form is not read.
pub(super) const FORM: u32 = 7;

/// A journal shorter than this is not written anew.
const SMALL_BYTES: u64 = 1 << 20;

/// So many numbers are passed over at once where their records cannot be written.
const PASSED_OVER: u64 = 1 << 16;

/// A text longer than this is not written down: it can be written again from its set.
const TEXT_MAX: usize = 16 * 1024;

/// One thing that the next process has to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Record {
    /// The first: the form, when the view was first shown, in seconds since 1970, and the first number that was not given out before.
    Started { form: u32, started_secs: i64, next: u64 },
    /// The first message of the kernel, and the answer to it.
    Handshake { request: Vec<u8>, reply: Vec<u8> },
    /// A view gave numbers out, in an era.
    Given { view: u32, era: u32, key: [u8; 16], first: u32, len: u32, what: What },
    /// The blocks that begin with these numbers could be found in the present set until the end of this era.
    Leaving { era: u32, blocks: Vec<u32> },
    /// A view shows a set from now on.
    Shown { view: u32, set: ShownSet },
    /// The file of a view's configuration held this when it was read.
    Configured { view: u32, text: Vec<u8> },
    /// These keys have these blocks no longer: nobody can come to what they stand for.
    GivenUp { view: u32, blocks: Vec<([u8; 16], u32)> },
    /// A view is there, at a place that may be another one than before, with what its daemon has to know of it.
    Joined { view: u32, root: u32, name: Vec<u8>, note: Vec<u8> },
    /// A view has left.
    Left { view: u32 },
    /// A file was opened once more, and the kernel reads it by itself from what it knows by this number; without one it asks.
    Opened { number: u32, backing: Option<u32> },
    /// A file that was opened so was closed once.
    Closed { number: u32 },
    /// Somebody has begun to list a live directory, and is to go on: the tag of the listing, and the digests of its names.
    Listed { view: u32, directory: u32, tag: u64, names: Vec<u64> },
    /// What was alive is written once more in the rest of this record; whoever comes to it on his way has read that already.
    Again,
}

/// A set that was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownSet {
    /// Its id.
    pub id: [u8; 32],
    /// Its place in the order of snapshots.
    pub serial: u64,
    /// When it was built, in nanoseconds since 1970.
    pub since_nanos: u64,
    /// The era since which it can be read.
    pub(super) era: u32,
}

impl ShownSet {
    fn of(snapshot: &Snapshot, era: u32) -> Self {
        let since = snapshot.since.duration_since(UNIX_EPOCH).unwrap_or_default();
        let since_nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        Self { id: snapshot.id.0, serial: snapshot.serial, since_nanos, era }
    }

    /// When it was built.
    pub fn since(&self) -> SystemTime {
        UNIX_EPOCH + std::time::Duration::from_nanos(self.since_nanos)
    }
}

/// What numbers stand for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum What {
    /// `.overlay`.
    Overlay,
    /// `.overlay/revisions`.
    Revisions,
    /// A file or link of `.overlay`, unless it is long.
    Text { is_link: bool, bytes: Option<Vec<u8>> },
    /// A merged directory, and the set that it is pinned to.
    Merged { path: Vec<u8>, parent: u32, born: u64, pin: Option<[u8; 32]> },
    /// An entry of a git source.
    Entry {
        source: [u8; 16],
        parent: u32,
        path: Vec<u8>,
        object: Thing,
        time_secs: i64,
        is_whole: bool,
    },
    /// A file, directory or link of a live source. `folder` is the directory itself, or the one that it is in, wherever that is shown; 0 if that cannot be told.
    Live { source: [u8; 16], parent: u32, path: Vec<u8>, object: Thing, folder: u32 },
    /// The files and links of the frozen directory of this number, and of each with the same files, wherever it is shown.
    Files { tree: u32 },
    /// The `.git` in the frozen directory of this number; `folder` as for what is live.
    Git { tree: u32, folder: u32 },
    /// The directories in the frozen directory of this number, and the first number of the files in it, 0 if there are none.
    Directories { tree: u32, files: u32 },
}

impl What {
    /// Whether it is of files, which have the same numbers wherever they are shown.
    pub(super) fn is_of_files(&self) -> bool {
        let is_file = |object: &Thing| match object {
            Thing::Frozen { kind, .. } | Thing::Live { kind, .. } => *kind != Form::Directory,
            Thing::Empty => false,
        };
        match self {
            Self::Files { .. } | Self::Text { .. } => true,
            Self::Entry { object, .. } | Self::Live { object, .. } => is_file(object),
            Self::Overlay
            | Self::Revisions
            | Self::Merged { .. }
            | Self::Git { .. }
            | Self::Directories { .. } => false,
        }
    }

    pub(super) fn text(is_link: bool, bytes: &[u8]) -> Self {
        Self::Text { is_link, bytes: (bytes.len() <= TEXT_MAX).then(|| bytes.to_vec()) }
    }
}

/// An object, written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Thing {
    Frozen { kind: Form, oid: Vec<u8> },
    Empty,
    Live { kind: Form, path: Vec<u8>, device: u64, inode: u64, born_nanos: i128 },
}

/// The type of an object, written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Form {
    Directory,
    File,
    Program,
    Link,
}

impl From<Kind> for Form {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Directory => Self::Directory,
            Kind::File { is_executable: false } => Self::File,
            Kind::File { is_executable: true } => Self::Program,
            Kind::Link => Self::Link,
        }
    }
}

impl From<Form> for Kind {
    fn from(form: Form) -> Self {
        match form {
            Form::Directory => Self::Directory,
            Form::File => Self::File { is_executable: false },
            Form::Program => Self::File { is_executable: true },
            Form::Link => Self::Link,
        }
    }
}

impl Thing {
    pub(super) fn of(object: &Object) -> Self {
        match object {
            Object::Frozen { kind, oid } => {
                Self::Frozen { kind: (*kind).into(), oid: oid.as_bytes().to_vec() }
            }
            Object::Empty => Self::Empty,
            Object::Live { kind, file } => Self::Live {
                kind: (*kind).into(),
                path: file.path.to_bytes(),
                device: file.identity.device,
                inode: file.identity.inode,
                born_nanos: file.identity.born_nanos,
            },
        }
    }

    /// The object, if that is what was written.
    pub(super) fn object(&self) -> Option<Object> {
        match self {
            Self::Frozen { kind, oid } => {
                Some(Object::Frozen { kind: (*kind).into(), oid: Oid::from_bytes(oid)? })
            }
            Self::Empty => Some(Object::Empty),
            Self::Live { kind, path, device, inode, born_nanos } => {
                let identity = Identity { device: *device, inode: *inode, born_nanos: *born_nanos };
                Some(Object::live((*kind).into(), path_of(path)?, identity))
            }
        }
    }
}

/// A path that was written down; no bytes and `.` are the root.
pub(super) fn path_of(bytes: &[u8]) -> Option<RelPath> {
    if bytes.is_empty() { Some(RelPath::root()) } else { RelPath::parse(bytes).ok() }
}

/// What one view writes in the journal of its superblock.
#[derive(Debug, Clone)]
pub(super) struct ViewJournal {
    pub(super) journal: Arc<Journal>,
    pub(super) view: ViewId,
}

impl ViewJournal {
    /// Writes down which set is shown from now on, and the era since which it can be read.
    pub(super) fn shown(&self, snapshot: &Snapshot, era: u32) {
        let set = ShownSet::of(snapshot, era);
        self.journal.note(&Record::Shown { view: self.view.0, set });
    }

    /// Writes down what numbers stand for, and the era in which they were given out.
    pub(super) fn given(&self, era: u32, key: [u8; 16], first: u32, len: u32, what: What) {
        let given = Record::Given { view: self.view.0, era, key, first, len, what };
        self.journal.note_numbers(&given, u64::from(first) + u64::from(len));
    }

    /// Writes down what the present set has until the end of an era, and the next one has not.
    pub(super) fn leaving(&self, era: u32, blocks: Vec<u32>) {
        self.journal.note(&Record::Leaving { era, blocks });
    }

    /// Writes down a listing that somebody has begun.
    pub(super) fn listed(&self, begun: &Begun) {
        self.journal.note(&begun.record(self.view));
    }

    /// Writes down what has its numbers no longer.
    pub(super) fn given_up(&self, blocks: Vec<([u8; 16], u32)>) {
        self.journal.note(&Record::GivenUp { view: self.view.0, blocks });
    }

    /// Writes down how a configuration's file was read.
    pub(super) fn configured(&self, text: &[u8]) {
        self.journal.note(&Record::Configured { view: self.view.0, text: text.to_vec() });
    }

    /// Writes down where the view is.
    pub(super) fn joined(&self, root: Number, name: &[u8], note: &[u8]) {
        let (name, note) = (name.to_vec(), note.to_vec());
        let (view, root) = (self.view.0, root.0);
        let joined = Record::Joined { view, root, name, note };
        self.journal.note_numbers(&joined, u64::from(root) + 1);
    }

    /// Writes down that the view has left.
    pub(super) fn left(&self) {
        self.journal.note(&Record::Left { view: self.view.0 });
    }
}

/// The journal of one superblock.
#[derive(Debug)]
pub struct Journal {
    file: Mutex<Growing>,
    has_failed: AtomicBool,
}

#[derive(Debug)]
struct Growing {
    appending: Appending,
    /// From so many bytes on it is worth while to look for what is dead.
    due_bytes: u64,
    /// The next process gives out no number below this one, whatever is written of them.
    passed_over: u64,
}

impl Journal {
    /// Begins a journal in an empty file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn begin(file: File) -> io::Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let started_secs = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let journal = Self::at(Appending::begin(file)?);
        journal.write(&Record::Started { form: FORM, started_secs, next: 0 })?;
        Ok(journal)
    }

    /// Goes on with one that was read.
    pub(super) fn at(appending: Appending) -> Self {
        let growing = Growing { appending, due_bytes: SMALL_BYTES, passed_over: 0 };
        Self { file: Mutex::new(growing), has_failed: AtomicBool::new(false) }
    }

    /// Writes down what the kernel and this process have agreed on.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn agreed(&self, request: &[u8], reply: &[u8]) -> io::Result<()> {
        self.write(&Record::Handshake { request: request.to_vec(), reply: reply.to_vec() })
    }

    /// Writes down that the kernel is about to be told how it may read a file, once more: from what it knows by a number, or by requests.
    pub fn opened(&self, number: Number, backing: Option<u32>) {
        self.note(&Record::Opened { number: number.0, backing });
    }

    /// Writes down that the kernel has said once that such a file was closed, and knows that this is known.
    pub fn closed(&self, number: Number) {
        self.note(&Record::Closed { number: number.0 });
    }

    /// Writes something down; false if it cannot be written. That costs those who hold it when this process is killed, and nobody else.
    pub(super) fn note(&self, record: &Record) -> bool {
        let written = self.write(record);
        let has_failed = self.has_failed.swap(written.is_err(), Ordering::Relaxed);
        match written {
            Err(error) if !has_failed => {
                warn!(%error, "the journal of node numbers cannot be written: what is opened now is lost to its users if this process is killed");
                false
            }
            written => written.is_ok(),
        }
    }

    /// Writes something down with numbers below `end`. If it cannot be written the next process gives none of these out all the same, nor some
    /// that come after them (S155).
    fn note_numbers(&self, record: &Record, end: u64) {
        if self.note(record) {
            return;
        }
        let mut growing = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let next = (end / PASSED_OVER + 1) * PASSED_OVER;
        if end > growing.passed_over && growing.appending.may_have_given(next).is_ok() {
            growing.passed_over = next;
        }
    }

    fn write(&self, record: &Record) -> io::Result<()> {
        let framed = framed(record)?;
        self.file.lock().unwrap_or_else(PoisonError::into_inner).appending.append(&framed)
    }

    /// Gives what is dead back to the disk, once there may be as much of it as of what is alive. `past` is what was read of this journal.
    ///
    /// Who gives a number out meanwhile waits.
    pub(super) fn shrink_if_due(&self, past: Option<&Past>) {
        let mut growing = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if growing.appending.size_bytes() < growing.due_bytes {
            return;
        }
        match shrink(&mut growing.appending, past) {
            Ok(()) => debug!(bytes = growing.appending.size_bytes(), "the journal is written anew"),
            Err(error) => debug!(%error, "the journal cannot be written anew, and grows"),
        }
        growing.due_bytes = SMALL_BYTES.max(growing.appending.size_bytes() * 2);
    }

    /// Gives what is dead back to the disk.
    #[cfg(any(test, fuzzing))]
    pub(super) fn shrink(&self, past: Option<&Past>) -> io::Result<()> {
        let mut growing = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        shrink(&mut growing.appending, past)
    }
}

fn shrink(appending: &mut Appending, past: Option<&Past>) -> io::Result<()> {
    let alive = Past::alive(appending.file())?;
    appending.begin_again(&alive.records, |begin| {
        if let Some(past) = past {
            past.moved(&alive, begin);
        }
    })
}
