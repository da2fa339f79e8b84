//! Hashing beside decoding: on a second core a large blob is there a third sooner.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use gix::hash::Hasher;

/// So many pieces may wait to be hashed.
pub(in crate::store) const PIECES: usize = 4;

/// Bytes that several threads read without copying them: a part of a buffer.
#[derive(Clone)]
pub(in crate::store) struct Piece {
    buffer: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl Piece {
    /// A part of a buffer.
    pub(in crate::store) fn new(buffer: Arc<Vec<u8>>, range: Range<usize>) -> Self {
        Self { buffer, range }
    }

    pub(in crate::store) fn bytes(&self) -> &[u8] {
        &self.buffer[self.range.clone()]
    }

    /// Leaves out the first bytes.
    pub(in crate::store) fn skip(&mut self, len: usize) {
        self.range.start = (self.range.start + len).min(self.range.end);
    }
}

impl From<Vec<u8>> for Piece {
    fn from(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self::new(Arc::new(bytes), range)
    }
}

/// A hash that is computed by a thread of its own, where one can be had.
pub(super) enum Hashing {
    Beside { pieces: SyncSender<Piece>, thread: JoinHandle<Hasher> },
    Here(Hasher),
}

impl Hashing {
    /// Goes on with a hash.
    pub(super) fn beside(hash: Hasher) -> Self {
        let spare = hash.clone();
        let (pieces, received) = sync_channel::<Piece>(PIECES);
        let work = move || {
            let mut hash = hash;
            while let Ok(piece) = received.recv() {
                hash.update(piece.bytes());
            }
            hash
        };
        match Builder::new().name("hash".into()).spawn(work) {
            Ok(thread) => Self::Beside { pieces, thread },
            Err(_) => Self::Here(spare),
        }
    }

    /// Takes the next bytes.
    pub(super) fn update(&mut self, piece: Piece) {
        match self {
            // The thread ends before its sender only by a panic, which `finish` finds.
            Self::Beside { pieces, .. } => pieces.send(piece).unwrap_or_default(),
            Self::Here(hash) => hash.update(piece.bytes()),
        }
    }

    /// The hash of all of them; `None` if it could not be computed.
    pub(super) fn finish(self) -> Option<Hasher> {
        match self {
            Self::Beside { pieces, thread } => {
                drop(pieces);
                thread.join().ok()
            }
            Self::Here(hash) => Some(hash),
        }
    }
}
