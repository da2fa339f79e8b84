//! Hashing beside decoding: on a second core a large blob is there a third sooner.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use gix::hash::Hasher;

/// So many pieces may wait to be hashed.
const PIECES: usize = 4;

/// A hash that is computed by a thread of its own, where one can be had.
pub(super) enum Hashing {
    Beside { pieces: SyncSender<Vec<u8>>, thread: JoinHandle<Hasher> },
    Here(Hasher),
}

impl Hashing {
    /// Goes on with a hash.
    pub(super) fn beside(hash: Hasher) -> Self {
        let spare = hash.clone();
        let (pieces, received) = sync_channel::<Vec<u8>>(PIECES);
        let work = move || {
            let mut hash = hash;
            while let Ok(piece) = received.recv() {
                hash.update(&piece);
            }
            hash
        };
        match Builder::new().name("hash".into()).spawn(work) {
            Ok(thread) => Self::Beside { pieces, thread },
            Err(_) => Self::Here(spare),
        }
    }

    /// Takes the next bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            // The thread ends before its sender only by a panic, which `finish` finds.
            Self::Beside { pieces, .. } => pieces.send(bytes.to_vec()).unwrap_or_default(),
            Self::Here(hash) => hash.update(bytes),
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
