//! Large files that the kernel reads by itself from the cache's files, without a request (FUSE passthrough,
//! `Documentation/filesystems/fuse/fuse-passthrough.rst`).
//!
//! All who have a file open at one time go the same way, by the kernel with one backing or by requests: the kernel refuses anything else with
//! EIO (`fuse_file_io_open`, `fs/fuse/iomode.c`). It ends a way before it tells of the last release.
//!
//! Locks: one, for the map of what is open; never over a decoding, a reply, or the closing of a backing.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fuser::{BackingId, FileHandle, FopenFlags, INodeNo, ReplyOpen};

use super::counts::Counts;
use super::filesystem::ask;
use super::waiting::Waiting;
use crate::view::View;

/// The handle of a file that is read by requests whoever else has it open.
const UNCOUNTED: FileHandle = FileHandle(0);
/// The handle of a file whose opens are counted.
const COUNTED: FileHandle = FileHandle(1);

/// How the kernel may be given files to read by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passthrough {
    /// How many file systems may lie on each other with this view at the top: 1, or 2 where the files themselves are on a stacked one.
    pub stack_depth: u32,
}

/// The large files that are open.
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    by_number: Mutex<HashMap<INodeNo, Open>>,
    is_refused: AtomicBool,
}

#[derive(Debug)]
struct Open {
    way: Way,
    count: u64,
}

/// How the kernel reads a file while it is open.
#[derive(Debug, Clone)]
enum Way {
    Itself(Arc<BackingId>),
    Requests,
}

impl OpenFiles {
    /// Answers an open: at once, or where a large file has to be decoded before, from a thread of its own.
    pub(super) fn open(
        self: &Arc<Self>,
        view: &Arc<View>,
        counts: &Arc<Counts>,
        waiting: &Waiting,
        ino: INodeNo,
        reply: ReplyOpen,
    ) {
        if let Some(way) = self.again(ino) {
            return answer(&way, reply);
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
            Ok(file) => answer(&files.first(ino, file.as_ref(), &reply), reply),
            Err(errno) => {
                counts.open.failed(errno);
                reply.error(errno);
            }
        });
    }

    /// Counts a release. With the last one the backing goes.
    pub(super) fn release(&self, ino: INodeNo, handle: FileHandle) {
        if handle != COUNTED {
            return;
        }
        let mut open = self.lock();
        let Entry::Occupied(mut known) = open.entry(ino) else { return };
        known.get_mut().count -= 1;
        let ended = (known.get().count == 0).then(|| known.remove());
        drop(open);
        drop(ended);
    }

    /// The way of a file that is open, and one more on it.
    fn again(&self, ino: INodeNo) -> Option<Way> {
        let mut open = self.lock();
        let known = open.get_mut(&ino)?;
        known.count += 1;
        Some(known.way.clone())
    }

    /// Decides the way of a file, unless somebody else has meanwhile.
    fn first(&self, ino: INodeNo, file: Option<&File>, reply: &ReplyOpen) -> Way {
        let mut open = self.lock();
        let known = open.entry(ino).or_insert_with(|| {
            let backing = file.and_then(|file| self.backing(file, reply));
            Open { way: backing.map_or(Way::Requests, Way::Itself), count: 0 }
        });
        known.count += 1;
        known.way.clone()
    }

    fn backing(&self, file: &File, reply: &ReplyOpen) -> Option<Arc<BackingId>> {
        match reply.open_backing(file) {
            Ok(backing) => Some(Arc::new(backing)),
            Err(error) => {
                if !self.is_refused.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "the kernel does not take over large files: they are read by requests");
                }
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<INodeNo, Open>> {
        self.by_number.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was read stays in memory for the next who opens the file, and nobody is asked when it is closed.
fn by_requests() -> FopenFlags {
    FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH
}

fn answer(way: &Way, reply: ReplyOpen) {
    match way {
        // With `FOPEN_KEEP_CACHE` the kernel would refuse it.
        Way::Itself(backing) => {
            reply.opened_passthrough(COUNTED, FopenFlags::FOPEN_NOFLUSH, backing);
        }
        Way::Requests => reply.opened(COUNTED, by_requests()),
    }
}
