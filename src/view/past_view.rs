//! What an earlier process of the same mount did for one view, and which files it left open.

use std::collections::HashMap;

use super::journal::{Record, ShownSet};
use super::nodes::Number;
use super::numbers::{self, NodeKey};
use super::superblock::ViewId;
use crate::union::revision::RevisionSetId;

/// So many sets that were shown are known by their id: more than are kept.
const SHOWN_MAX: usize = 2048;

/// A file that is open still, and that the kernel reads in one way for as long as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StillOpen {
    /// What the kernel reads it from by itself, as it numbers that; without one it asks.
    pub backing: Option<u32>,
    /// How often it is open; in doubt more often than it is.
    pub count: u64,
}

/// What an earlier process did for one view.
#[derive(Debug)]
pub struct PastView {
    pub(super) id: ViewId,
    pub(super) root: Number,
    pub(super) name: Vec<u8>,
    pub(super) note: Vec<u8>,
    /// The configuration's file as it was read first and last.
    pub(super) configurations: Option<(Vec<u8>, Vec<u8>)>,
    /// The sets that were shown, the present one last.
    pub(super) shown: Vec<ShownSet>,
    /// The names of the blocks of all that is not a file.
    pub(super) places: Vec<(NodeKey, numbers::Block)>,
}

impl StillOpen {
    /// True if that was the last.
    pub(super) fn close(&mut self) -> bool {
        self.count = self.count.saturating_sub(1);
        self.count == 0
    }
}

impl PastView {
    pub(super) fn new(id: ViewId, root: Number) -> Self {
        let (name, note, configurations, shown, places) = Default::default();
        Self { id, root, name, note, configurations, shown, places }
    }

    /// One of which nothing is known.
    pub(super) fn lost() -> Self {
        Self::new(ViewId::FIRST, Number::ROOT)
    }

    /// Its name in the superblock.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// What its daemon has noted last.
    pub fn note(&self) -> &[u8] {
        &self.note
    }

    /// The configuration's file as it was read first and last, if it came from one.
    pub fn configurations(&self) -> Option<&(Vec<u8>, Vec<u8>)> {
        self.configurations.as_ref()
    }

    /// The set that was shown last.
    pub fn shown(&self) -> Option<ShownSet> {
        self.shown.last().copied()
    }

    /// The places of sets in the order of snapshots.
    pub(super) fn serials(&self) -> HashMap<RevisionSetId, u64> {
        self.shown.iter().map(|shown| (RevisionSetId(shown.id), shown.serial)).collect()
    }

    /// The era since which a set can be read, if it was shown.
    pub(super) fn readable_since(&self, id: &RevisionSetId) -> Option<u32> {
        self.shown.iter().find(|shown| shown.id == id.0).map(|shown| shown.era)
    }

    /// The sets that were shown, by their places in the order of snapshots, and the era since which each can be read.
    pub(super) fn eras(&self) -> Vec<(u64, u32)> {
        self.shown.iter().map(|shown| (shown.serial, shown.era)).collect()
    }

    /// All that is written of it beside its numbers.
    pub(super) fn records(self, id: ViewId) -> Vec<Record> {
        let view = id.0;
        let mut records = Vec::new();
        if id != ViewId::FIRST || !self.name.is_empty() || !self.note.is_empty() {
            let (root, name, note) = (self.root.0, self.name, self.note);
            records.push(Record::Joined { view, root, name, note });
        }
        if let Some((first, last)) = self.configurations {
            records.extend([first, last].map(|text| Record::Configured { view, text }));
        }
        records.extend(self.shown.into_iter().map(|set| Record::Shown { view, set }));
        records
    }

    pub(super) fn show(&mut self, set: ShownSet) {
        // The same set may have been published again; a set may come back.
        self.shown.retain(|known| known.id != set.id);
        if self.shown.len() == SHOWN_MAX {
            self.shown.remove(0);
        }
        self.shown.push(set);
    }

    pub(super) fn configure(&mut self, text: Vec<u8>) {
        match &mut self.configurations {
            Some((_, last)) => *last = text,
            none @ None => *none = Some((text.clone(), text)),
        }
    }
}
