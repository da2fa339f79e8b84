//! What can be told of a view without counting: it is looked up when somebody asks.

use std::collections::BTreeMap;

use super::metrics::{self, Page, float};
use crate::snapshot::Snapshot;
use crate::snapshot::status::{SourceCondition, ViewStatus};
use crate::view::View;

/// The requests of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requests {
    /// The kind.
    pub operation: &'static str,
    /// How many.
    pub count: u64,
    /// How many of them were answered with each error.
    pub errors: BTreeMap<&'static str, u64>,
}

/// The caches of decoded contents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlobCacheUse {
    /// Bytes in memory.
    pub memory_bytes: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Reads of what was held.
    pub hits: u64,
    /// Reads of what was not.
    pub misses: u64,
}

/// What the kernel asked for, and what it and we hold for that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Use {
    /// The requests.
    pub requests: Vec<Requests>,
    /// Files that the kernel was given before it asked for them.
    pub ahead: u64,
    /// How many nodes the kernel knows.
    pub nodes: u64,
    /// How many numbers the superblock has given out that has given out most.
    pub numbers: u64,
    /// What was decoded.
    pub blobs: BlobCacheUse,
}

/// Writes how many files of a directory of views are in each state.
pub fn write_views(page: &mut Page, by_state: &[(&'static str, usize)]) {
    let states =
        by_state.iter().map(|(state, count)| (vec![(*state).to_owned()], float(*count as u64)));
    page.each(&metrics::VIEWS, states);
}

/// Writes what a view shows. It names the sources of the view and no others.
pub fn write_view(page: &mut Page, view: &View) {
    let snapshot = view.snapshot();
    page.each(&metrics::REVISION, [(vec![snapshot.id.to_string()], 1.0)]);
    let since = snapshot.since.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    page.one(&metrics::REVISION_SINCE, since.as_secs_f64());
    write_sources(page, &snapshot);
    let stacks = || snapshot.surfaces.iter().zip(&snapshot.stacks);
    let shown = stacks().map(|(surface, stack)| (surface, stack.visible().count()));
    let shown = shown.map(|(surface, count)| (vec![surface.name.clone()], float(count as u64)));
    page.each(&metrics::ENTRIES, shown);
    let hidden = stacks().map(|(surface, stack)| {
        let count = stack.placed.len() - stack.visible().count();
        (vec![surface.name.clone()], float(count as u64))
    });
    page.each(&metrics::HIDDEN, hidden);
    page.one(&metrics::KEPT, float(view.kept_sets() as u64));
}

fn write_sources(page: &mut Page, snapshot: &Snapshot) {
    let status = ViewStatus::new(snapshot, false);
    let sources =
        || snapshot.sources.iter().map(|source| source.label.clone()).zip(&status.sources);
    let count = |is_counted: &dyn Fn(&crate::snapshot::status::SourceStatus) -> bool| {
        float(status.sources.iter().filter(|source| is_counted(source)).count() as u64)
    };
    let by_state = SourceCondition::ALL
        .map(|state| (vec![state.word().to_owned()], count(&|source| source.state == state)));
    page.each(&metrics::SOURCES, by_state);
    let infos = sources().map(|(label, source)| {
        let git_ref = source.git_ref.clone().unwrap_or_default();
        let revision = source.revision.clone().unwrap_or_default();
        (vec![label, git_ref, revision, source.visibility.clone()], 1.0)
    });
    page.each(&metrics::SOURCE, infos);
    let states = sources().flat_map(|(label, source)| {
        SourceCondition::ALL.map(|state| {
            let is_in_it = if source.state == state { 1.0 } else { 0.0 };
            (vec![label.clone(), state.word().to_owned()], is_in_it)
        })
    });
    page.each(&metrics::SOURCE_STATE, states);
    let pins = [("pinned", true), ("unpinned", false)].map(|(word, is_pinned)| {
        (vec![word.to_owned()], count(&|source| source.pinned == Some(is_pinned)))
    });
    page.each(&metrics::PINS, pins);
}

/// Writes what the kernel asked for, and what it and we hold for that.
pub fn write_use(page: &mut Page, used: &Use) {
    let Use { requests, ahead, nodes, numbers, blobs } = used;
    let operation = |of: &Requests| vec![of.operation.to_owned()];
    page.each(&metrics::REQUESTS, requests.iter().map(|of| (operation(of), float(of.count))));
    let errors = requests.iter().flat_map(|of| {
        let errors = of.errors.iter();
        errors.map(|(error, count)| {
            (vec![of.operation.to_owned(), (*error).to_owned()], float(*count))
        })
    });
    page.each(&metrics::REQUEST_ERRORS, errors);
    page.one(&metrics::AHEAD, float(*ahead));
    page.one(&metrics::NODES, float(*nodes));
    page.one(&metrics::NUMBERS, float(*numbers) / float(1 << 32));
    let bytes = [("memory", blobs.memory_bytes), ("disk", blobs.disk_bytes)];
    let bytes = bytes.map(|(place, bytes)| (vec![place.to_owned()], float(bytes)));
    page.each(&metrics::BLOB_BYTES, bytes);
    page.one(&metrics::BLOB_HITS, float(blobs.hits));
    page.one(&metrics::BLOB_MISSES, float(blobs.misses));
}
