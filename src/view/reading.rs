//! The blocks of a journal, while it is read.

use std::collections::HashMap;
use std::mem;

use super::journal::What;
use super::numbers;
use super::records::RecordPlace;
use super::superblock::ViewId;
use crate::union::revision::RevisionSetId;

/// What stands for a view where a block is of files, which all views have in common.
const FILES: u32 = u32::MAX;

/// Where the record of a block of numbers is.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockRecord {
    pub(super) first: u32,
    pub(super) len: u32,
    /// If it is of the directories in a directory, the first number of the files in that.
    pub(super) files: u32,
    pub(super) place: RecordPlace,
    /// The view that gave it out.
    pub(super) view: ViewId,
    pub(super) is_of_files: bool,
}

impl BlockRecord {
    /// A block of which a view wrote down at this place what it is.
    pub(super) fn of(
        given: &numbers::Block,
        what: &What,
        place: RecordPlace,
        view: ViewId,
    ) -> Self {
        let (first, len) = (given.first, given.len);
        let files = if let What::Directories { files, .. } = what { *files } else { 0 };
        Self { first, len, files, place, view, is_of_files: what.is_of_files() }
    }
}

/// What a block is pinned to.
enum Pin {
    None,
    /// It is of a merged directory of this set.
    To(RevisionSetId),
    /// It is of an entry in the merged directory of this number, which may be pinned.
    Above(u32),
}

impl Pin {
    fn of(what: &What) -> Self {
        match what {
            What::Merged { pin: Some(id), .. } => Self::To(RevisionSetId(*id)),
            What::Entry { parent, .. } => Self::Above(*parent),
            What::Merged { pin: None, .. }
            | What::Overlay
            | What::Revisions
            | What::Text { .. }
            | What::Live { .. }
            | What::Files { .. }
            | What::Git { .. }
            | What::Directories { .. } => Self::None,
        }
    }
}

/// What is known of the blocks of a journal while it is read.
#[derive(Default)]
pub(super) struct Reading {
    /// By name and view.
    blocks: HashMap<([u8; 16], u32), (BlockRecord, numbers::Block, Pin)>,
    /// By first number, the last era in which a block was in the set that was shown then, where that is known.
    leaving: HashMap<u32, u32>,
}

impl Reading {
    /// Numbers were given out.
    pub(super) fn given(
        &mut self,
        key: [u8; 16],
        what: &What,
        block: BlockRecord,
        given: numbers::Block,
    ) {
        let of = if block.is_of_files { FILES } else { block.view.0 };
        self.blocks.insert((key, of), (block, given, Pin::of(what)));
    }

    /// Blocks could be found in the set that was shown until the end of this era.
    pub(super) fn leaving(&mut self, era: u32, blocks: Vec<u32>) {
        self.leaving.extend(blocks.into_iter().map(|first| (first, era)));
    }

    /// Numbers were given up.
    pub(super) fn given_up(&mut self, view: u32, blocks: Vec<([u8; 16], u32)>) {
        for (key, first) in blocks {
            for of in [view, FILES] {
                // It may have been given numbers anew before this was written.
                let known = self.blocks.get(&(key, of));
                if known.is_some_and(|(block, ..)| block.first == first) {
                    self.blocks.remove(&(key, of));
                }
            }
        }
    }

    /// All blocks, each as it was asked for last as far as that is known: when it was given out, or until when what it is of could be found. `since` says
    /// when a set was shown first.
    pub(super) fn take_blocks(
        &mut self,
        since: impl Fn(&RevisionSetId, ViewId) -> Option<u32>,
    ) -> Vec<([u8; 16], BlockRecord, numbers::Block)> {
        let pinned = self.blocks.values().filter_map(|(block, _, pin)| match pin {
            Pin::To(set) => Some((block.first, *set)),
            Pin::None | Pin::Above(_) => None,
        });
        let pinned: HashMap<_, _> = pinned.collect();
        let blocks = mem::take(&mut self.blocks).into_iter();
        let blocks = blocks.map(|((key, _), (block, given, pin))| {
            let leaving = self.leaving.get(&block.first).copied();
            let set = match &pin {
                Pin::None => None,
                Pin::To(set) => Some(set),
                Pin::Above(number) => pinned.get(number),
            };
            // A set that came back may have numbers from when it was there before.
            let pinned = set.and_then(|set| since(set, block.view));
            for era in leaving.into_iter().chain(pinned) {
                given.touch(era);
            }
            (key, block, given)
        });
        blocks.collect()
    }

    /// By first number, the last era in which a block was in the set that was shown then.
    pub(super) fn into_leaving(self) -> HashMap<u32, u32> {
        self.leaving
    }
}
