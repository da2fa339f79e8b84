//! A source of which a part could not be read: what it was shown with is written down, and it is made again so.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::bytes::Bytes;
use crate::snapshot::{Finding, FindingKind, Snapshot, Source, Unread};
use crate::sync::layer::Layers;
use crate::union::name::RelPath;
use crate::union::source::SourceId;

/// What is said of it.
const UNREAD: &str = "a part could not be read when this set came";

/// What a source was shown with.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PartRecord {
    /// [`Unread::entries`].
    digest: Bytes,
    /// The paths of its entries on each surface.
    paths: Vec<Vec<Bytes>>,
}

impl PartRecord {
    /// Nothing where all of the source could be read.
    pub(super) fn of(snapshot: &Snapshot, source: &Source, id: SourceId) -> Option<Self> {
        let unread = source.unread?;
        let paths = snapshot.stacks.iter().map(|stack| {
            let placed = stack.placed.iter().filter(|placed| placed.source == id);
            placed.map(|placed| Bytes::of(&placed.entry.path)).collect()
        });
        Some(Self { digest: Bytes(unread.entries.to_vec()), paths: paths.collect() })
    }

    /// What the source was shown with; nothing if the record is damaged.
    pub(super) fn unread(&self) -> Option<Unread> {
        Some(Unread { entries: self.digest.array()?, may_pass: false })
    }

    /// Leaves out what was not shown: the kernel has been told that it is not there. Whoever looks next takes it for no more than a part.
    pub(super) fn confine(&self, layers: &mut Layers, source: SourceId) {
        let kind = FindingKind::Unreadable { error: UNREAD.to_owned() };
        layers.findings.push(Finding { source, path: RelPath::root(), kind });
        for (entries, shown) in layers.entries.iter_mut().zip(&self.paths) {
            let shown: HashSet<_> = shown.iter().map(|path| path.0.as_slice()).collect();
            entries.retain(|entry| shown.contains(Bytes::of(&entry.path).0.as_slice()));
        }
    }
}
