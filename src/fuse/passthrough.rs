//! Large files that the kernel reads by itself from the cache's files, without a request (FUSE passthrough,
//! `Documentation/filesystems/fuse/fuse-passthrough.rst`).
//!
//! While a file is open, all who have it open read it in the same way: through one backing, or by requests. The kernel refuses any other open
//! with EIO (`fuse_file_io_open`, `fs/fuse/iomode.c`). It gives up the backing before it sends us the last release.
//!
//! Locks: one, for the map of what is open; never over a decoding, a reply, or the closing of a backing.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fuser::{BackingId, FileHandle, FopenFlags, INodeNo, ReplyOpen};

use super::ask::ask;
use super::counts::Counts;
use super::waiting::Waiting;
use crate::view::{Journal, Number, StillOpen, View};

/// The handle of a file that is read by requests whoever else has it open.
const UNCOUNTED: FileHandle = FileHandle(0);
/// The handle of a file whose opens are counted.
const COUNTED: FileHandle = FileHandle(1);

/// How the kernel may be given files to read by itself.
#[derive(Debug, Clone, Default)]
pub struct Passthrough {
    /// How many file systems may lie on each other with this view at the top: 1, or 2 where the files themselves are on a stacked one.
    pub stack_depth: u32,
    /// Where it is written down what is open, for a process that takes the mount over: what the kernel was given stays with the connection.
    pub journal: Option<Arc<Journal>>,
    /// What a process that was killed has left open.
    pub left: Vec<(Number, StillOpen)>,
}

impl Passthrough {
    /// The depth of file systems, and what is open.
    pub(super) fn begin(self) -> (u32, Arc<OpenFiles>) {
        let Self { stack_depth, journal, left } = self;
        (stack_depth, Arc::new(OpenFiles::new(journal, &left)))
    }
}

/// The large files that are open.
#[derive(Debug)]
pub(super) struct OpenFiles {
    open: Mutex<Opens>,
    is_refused: AtomicBool,
    journal: Option<Arc<Journal>>,
}

#[derive(Debug, Default)]
struct Opens {
    by_number: HashMap<INodeNo, Open>,
    /// Backings of an earlier process that nobody needs any more. They are closed with the next open: only an answer to one can close them.
    spent: Vec<u32>,
}

#[derive(Debug)]
struct Open {
    read_by: ReadBy,
    count: u64,
}

/// How the kernel reads a file while it is open.
#[derive(Debug, Clone)]
enum ReadBy {
    /// From a backing.
    Backing(Arc<Backing>),
    /// From a backing that an earlier process opened, known by its number only: the next open adopts it.
    Inherited(u32),
    /// By sending requests.
    Requests,
}

/// The file that the kernel reads in place of ours; the kernel closes it when the value is dropped.
#[derive(Debug)]
struct Backing {
    id: BackingId,
    /// As the kernel numbers it.
    number: u32,
}

impl ReadBy {
    fn backing(&self) -> Option<u32> {
        match self {
            Self::Backing(backing) => Some(backing.number),
            Self::Inherited(number) => Some(*number),
            Self::Requests => None,
        }
    }
}

/// A release that is not answered yet. To be dropped after the answer: it writes the release down and closes the backing.
pub(super) struct Released<'a> {
    files: &'a OpenFiles,
    ino: INodeNo,
    _ended: Option<Open>,
}

impl Drop for Released<'_> {
    fn drop(&mut self) {
        // After the answer: one that is asked again must not count twice.
        if let Some((journal, number)) = self.files.journal.as_ref().zip(number(self.ino)) {
            journal.closed(number);
        }
    }
}

fn number(ino: INodeNo) -> Option<Number> {
    u32::try_from(ino.0).ok().map(Number)
}

impl OpenFiles {
    /// Goes on with what is open.
    fn new(journal: Option<Arc<Journal>>, left: &[(Number, StillOpen)]) -> Self {
        let open = left.iter().map(|(number, StillOpen { backing, count })| {
            let read_by = backing.map_or(ReadBy::Requests, ReadBy::Inherited);
            (INodeNo(u64::from(number.0)), Open { read_by, count: *count })
        });
        let open = Opens { by_number: open.collect(), spent: Vec::new() };
        Self { open: Mutex::new(open), is_refused: AtomicBool::default(), journal }
    }

    /// Answers an open: at once, or where a large file has to be decoded before, from a thread of its own.
    pub(super) fn open(
        self: &Arc<Self>,
        view: &Arc<View>,
        counts: &Arc<Counts>,
        waiting: &Waiting,
        ino: INodeNo,
        reply: ReplyOpen,
    ) {
        self.close_spent(&reply);
        if let Some(read_by) = self.again(ino, &reply) {
            return self.answer(ino, &read_by, reply);
        }
        match ask(view, ino, View::has_kept_file) {
            Ok(true) => {}
            Ok(false) => return reply.opened(UNCOUNTED, by_requests()),
            Err(errno) => {
                counts.open.failed(errno);
                return reply.error(errno);
            }
        }
        let (files, view, counts) = (self.clone(), view.clone(), counts.clone());
        waiting.run(move || match ask(&view, ino, View::kept_file) {
            Ok(file) => files.answer(ino, &files.first(ino, file.as_ref(), &reply), reply),
            Err(errno) => {
                counts.open.failed(errno);
                reply.error(errno);
            }
        });
    }

    /// Counts a release. With the last one the backing goes, once it is answered.
    pub(super) fn release(&self, ino: INodeNo, handle: FileHandle) -> Option<Released<'_>> {
        if handle != COUNTED {
            return None;
        }
        let mut open = self.lock();
        let Entry::Occupied(mut known) = open.by_number.entry(ino) else { return None };
        known.get_mut().count -= 1;
        let ended = (known.get().count == 0).then(|| known.remove());
        if let Some(Open { read_by: ReadBy::Inherited(number), .. }) = &ended {
            open.spent.push(*number);
        }
        drop(open);
        Some(Released { files: self, ino, _ended: ended })
    }

    /// Counts one more open of a file that is open already, and says how it is read; `None` if it is not open.
    fn again(&self, ino: INodeNo, reply: &ReplyOpen) -> Option<ReadBy> {
        let mut open = self.lock();
        let known = open.by_number.get_mut(&ino)?;
        known.count += 1;
        if let ReadBy::Inherited(number) = known.read_by {
            known.read_by = ReadBy::Backing(Arc::new(adopt(number, reply)));
        }
        Some(known.read_by.clone())
    }

    /// Counts the first open of a file, and decides how it is read, unless another open has decided that meanwhile.
    fn first(&self, ino: INodeNo, file: Option<&File>, reply: &ReplyOpen) -> ReadBy {
        if let Some(read_by) = self.again(ino, reply) {
            return read_by;
        }
        let mut open = self.lock();
        let known = open.by_number.entry(ino).or_insert_with(|| {
            let backing = file.and_then(|file| self.backing(file, reply));
            Open { read_by: backing.map_or(ReadBy::Requests, ReadBy::Backing), count: 0 }
        });
        known.count += 1;
        known.read_by.clone()
    }

    fn backing(&self, file: &File, reply: &ReplyOpen) -> Option<Arc<Backing>> {
        match reply.open_backing(file) {
            // The journal needs the number, which the library gives only to a new owner.
            Ok(backing) => Some(Arc::new(adopt(backing.into_raw(), reply))),
            Err(error) => {
                if !self.is_refused.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "the kernel does not take over large files: they are read by requests");
                }
                None
            }
        }
    }

    /// Writes the open down, and answers it.
    fn answer(&self, ino: INodeNo, read_by: &ReadBy, reply: ReplyOpen) {
        if let Some((journal, number)) = self.journal.as_ref().zip(number(ino)) {
            journal.opened(number, read_by.backing());
        }
        match read_by {
            // With `FOPEN_KEEP_CACHE` the kernel would refuse it.
            ReadBy::Backing(backing) => {
                reply.opened_passthrough(COUNTED, FopenFlags::FOPEN_NOFLUSH, &backing.id);
            }
            ReadBy::Inherited(_) | ReadBy::Requests => reply.opened(COUNTED, by_requests()),
        }
    }

    fn close_spent(&self, reply: &ReplyOpen) {
        let spent = std::mem::take(&mut self.lock().spent);
        for number in spent {
            drop(adopt(number, reply));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Opens> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes over the backing that the kernel knows by this number; it is closed when the value is dropped.
#[expect(unsafe_code, reason = "the FUSE library lets go of a number in no other way")]
fn adopt(number: u32, reply: &ReplyOpen) -> Backing {
    // SAFETY: the number was given out by the kernel for this connection, to this process or to one before it that has ended, and nobody
    // closed it; no other value is of it, since it is taken out of where it was.
    let id = unsafe { reply.wrap_backing(number) };
    Backing { id, number }
}

/// What was read stays in memory for the next who opens the file, and nobody is asked when it is closed.
fn by_requests() -> FopenFlags {
    FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH
}
