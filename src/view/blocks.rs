//! Blocks of numbers, by what they were given to: what each lives by, and when a sweep is worth its time.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use dashmap::DashMap;

use super::journal::What;
use super::numbers::NodeKey;

/// What the numbers of a block live by, beside being asked for and being known to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tie {
    /// By nothing.
    Free,
    /// They are the directories in the frozen directory of this number; its files are the block that begins with the other, or none if that is 0.
    Tree { tree: u32, files: u32 },
    /// It is a live directory in the directory of this number; `folder` is what it is wherever it is shown.
    Live { above: u32, folder: u32 },
    /// It is a live file in the live directory that is this wherever it is shown.
    In(u32),
    /// Nobody knows where else it may be found.
    Forever,
}

impl Tie {
    /// Whether what has it is on disk for as long as the disk says so.
    pub(super) fn is_live(self) -> bool {
        matches!(self, Self::Live { .. } | Self::In(_))
    }

    pub(super) fn of(what: &What) -> Self {
        match what {
            What::Directories { tree, files } => Self::Tree { tree: *tree, files: *files },
            What::Git { tree, folder } => Self::Live { above: *tree, folder: *folder },
            What::Live { folder: 0, .. } if what.is_of_files() => Self::Forever,
            What::Live { folder, .. } if what.is_of_files() => Self::In(*folder),
            What::Live { parent, folder, .. } => Self::Live { above: *parent, folder: *folder },
            What::Overlay
            | What::Revisions
            | What::Text { .. }
            | What::Merged { .. }
            | What::Entry { .. }
            | What::Files { .. } => Self::Free,
        }
    }
}

/// The numbers that one key has.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) first: u32,
    pub(super) len: u32,
    pub(super) tie: Tie,
    /// The era in which it was asked for last.
    asked: AtomicU32,
}

/// There is one for each directory that was listed: it is kept small.
const _: () = assert!(size_of::<(NodeKey, Block)>() <= 40);

impl Block {
    pub(super) fn new(first: u32, len: u32, tie: Tie, era: u32) -> Self {
        Self { first, len, tie, asked: AtomicU32::new(era) }
    }

    /// One of an earlier process, given out in this era.
    pub(super) fn of_past(first: u32, len: u32, what: &What, era: u32) -> Self {
        Self::new(first, len, Tie::of(what), era)
    }

    /// Counts as asked for in this era, and in all before.
    pub(super) fn touch(&self, era: u32) {
        if self.asked.load(Ordering::Relaxed) < era {
            self.asked.fetch_max(era, Ordering::Relaxed);
        }
    }

    /// The era in which it was asked for last.
    pub(super) fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

/// One table of blocks.
#[derive(Debug)]
pub(super) struct Blocks {
    pub(super) by_key: DashMap<NodeKey, Block>,
    /// So many make a sweep worth its time.
    due: AtomicUsize,
    /// How many are of what is live.
    live: AtomicUsize,
    /// So many of these make a sweep of what is live worth its time.
    live_due: AtomicUsize,
}

/// The eras before which blocks count as old.
#[derive(Debug, Clone, Copy)]
pub(super) struct Floors {
    /// Of what is frozen or merged; nothing of it is looked at if there is none.
    pub(super) frozen: Option<u32>,
    /// Of what is live: whether it can be found the disk says, not a set that is kept.
    pub(super) live: u32,
}

impl Floors {
    /// The same era for all.
    pub(super) fn all(floor: u32) -> Self {
        Self { frozen: Some(floor), live: floor }
    }

    /// Whether a block was asked for too long ago to be kept for that.
    pub(super) fn is_old(self, block: &Block) -> bool {
        let floor = if block.tie.is_live() { Some(self.live) } else { self.frozen };
        floor.is_some_and(|floor| block.asked() < floor)
    }
}

/// So many keys never need a sweep.
const FEW: usize = 4096;

impl Blocks {
    pub(super) fn new(known: Vec<(NodeKey, Block)>) -> Self {
        // How many of an earlier process nobody can come to is not known.
        let due = AtomicUsize::new(FEW.max(known.len()));
        let live = known.iter().filter(|(_, block)| block.tie.is_live()).count();
        let (live, live_due) = (AtomicUsize::new(live), AtomicUsize::new(FEW.max(live)));
        Self { by_key: known.into_iter().collect(), due, live, live_due }
    }

    /// Whether what is live has doubled since the last sweep.
    pub(super) fn is_live_due(&self) -> bool {
        self.live.load(Ordering::Relaxed) >= self.live_due.load(Ordering::Relaxed)
    }

    /// Whether it has doubled since the last sweep.
    pub(super) fn is_due(&self) -> bool {
        self.by_key.len() >= self.due.load(Ordering::Relaxed)
    }

    /// Counts as asked for, if it has a number; returns the first one.
    pub(super) fn touch(&self, key: &NodeKey, era: u32) -> Option<u32> {
        let block = self.by_key.get(key)?;
        block.touch(era);
        Some(block.first)
    }

    /// Counts one more that was given out.
    pub(super) fn given(&self, block: &Block) {
        if block.tie.is_live() {
            self.live.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Hands all blocks over, one after the other. Not to be called by who uses the table in `each`.
    pub(super) fn each(&self, mut each: impl FnMut(&NodeKey, &Block)) {
        self.by_key.iter().for_each(|block| each(block.key(), block.value()));
    }

    /// Removes those of these that nobody asked for since these eras began; returns them.
    pub(super) fn remove(
        &self,
        keys: impl IntoIterator<Item = (NodeKey, u32)>,
        floors: Floors,
    ) -> Vec<(NodeKey, u32)> {
        let is_old = |_: &NodeKey, block: &Block| floors.is_old(block);
        let mut removed: Vec<_> = keys.into_iter().collect();
        let mut live = 0;
        removed.retain(|(key, _)| {
            let gone = self.by_key.remove_if(key, is_old);
            live += usize::from(gone.as_ref().is_some_and(|(_, block)| block.tie.is_live()));
            gone.is_some()
        });
        let live_left = self.live.fetch_sub(live, Ordering::Relaxed) - live;
        self.live_due.store(FEW.max(live_left * 2), Ordering::Relaxed);
        let left = self.by_key.len();
        if self.by_key.capacity() / 4 > left {
            self.by_key.shrink_to_fit();
        }
        // What was not looked at does not count as kept.
        if floors.frozen.is_some() {
            self.due.store(FEW.max(left * 2), Ordering::Relaxed);
        }
        removed
    }

    #[cfg(test)]
    pub(super) fn make_due(&self) {
        self.due.store(0, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }
}
