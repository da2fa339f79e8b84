//! A configuration becomes a snapshot: all sources are opened and listed, and `union` merges what they offer.
//!
//! Only entry lists are read; how much lies below the entries makes no difference.

pub(super) mod merge;

use std::sync::Arc;

use super::error::{BuildError, SourceCause, SourceError};
use super::label::labels;
use super::layer::{self, Layers, ListingFailure};
use super::locate::places;
use super::open::{OpenedSource, OpenedWith, open, reopen, source_key};
use super::parallel::{in_parallel, threads_that_read};
use super::pin::Pins;
use super::shared::Shared;
use super::signals::{of_directory, of_places};
use crate::config::resolved::{Config, Mode, SourceSpec};
use crate::snapshot::{
    Finding, FindingKind, GitDirectory, Pinning, SharedPinning, Snapshot, Source, SourceState,
};
use crate::store::empty::EmptyStore;
use crate::union::name::RelPath;
use crate::union::namespace::{Stack, last_of_each_name};
use crate::union::object::Object;
use crate::union::revision::Revision;
use crate::union::source::SourceId;

/// Builds the snapshot of a configuration as its sources are now.
///
/// # Errors
/// Every required source that cannot be served, all at once.
pub fn build(config: &Config, shared: &Shared) -> Result<Snapshot, BuildError> {
    rebuild(config, shared, None, None).map(|rebuilt| rebuilt.snapshot)
}

/// A snapshot, and what of it could not be brought up to date.
#[derive(Debug)]
pub struct Rebuilt {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// The sources that are served at their last revision because they cannot be read anew, and why.
    pub stale: Vec<(SourceId, SourceError)>,
}

/// Builds the snapshot of a configuration as its sources are now. A git source that cannot be read keeps the revision that
/// it has in the `last` snapshot, if it is there (S66), and one that did not move is not read again. With `pins` git sources are pinned
/// where that can be had (S67).
///
/// # Errors
/// Every required source that cannot be served and was not served before, all at once.
pub fn rebuild(
    config: &Config,
    shared: &Shared,
    pins: Option<&Pins>,
    last: Option<&Snapshot>,
) -> Result<Rebuilt, BuildError> {
    let specs: Vec<&SourceSpec> = config.shown_sources().collect();
    let labels = labels(&specs);
    let with_git = with_git(config, &specs);
    let means = OpenedWith { shared, pins, last, with_git: &with_git };
    let taken = in_parallel(&specs, threads_that_read(specs.len()), |index, spec| {
        take(config, spec, id_at(index), open(config, spec, id_at(index), means), last)
    });
    let mut built = Built { last: last.map(|last| last.sources.clone()), ..Built::default() };
    for (((spec, label), taken), index) in specs.iter().zip(&labels).zip(taken).zip(0..) {
        let error = |cause| SourceError::new(label, spec, &config.origin, cause);
        match taken {
            Ok((taken, problem)) => {
                built.stale.extend(problem.map(|cause| (id_at(index), error(cause))));
                built.ready(spec, label, taken);
            }
            Err(cause) => built.failed(config, spec, id_at(index), error(cause)),
        }
    }
    if !built.errors.is_empty() {
        return Err(BuildError { sources: built.errors });
    }
    let stale = std::mem::take(&mut built.stale);
    let snapshot = merge::snapshot(config, &specs, built);
    Ok(Rebuilt { snapshot, stale })
}

/// The sources that are shown whole and with a `.git`: of each name the last.
pub(super) fn with_git(config: &Config, specs: &[&SourceSpec]) -> Vec<SourceId> {
    if !config.mount.shows_git || !config.mount.shows_sources {
        return Vec::new();
    }
    let names = specs.iter().enumerate().map(|(index, spec)| (id_at(index), &spec.name));
    last_of_each_name(names)
}

pub(super) fn id_at(index: usize) -> SourceId {
    SourceId(u32::try_from(index).unwrap_or(u32::MAX))
}

/// A source that was opened and listed.
struct Taken {
    opened: OpenedSource,
    layers: Layers,
    revision: Revision,
    top: Object,
    key: [u8; 16],
}

impl Taken {
    /// Why a part of it may lack, if that is so.
    fn failure(&self) -> Option<SourceCause> {
        let ListingFailure { problem, is_momentary } = self.layers.failure.as_ref()?;
        let (problem, is_momentary) = (problem.clone(), *is_momentary);
        let place = self.opened.place.clone();
        Some(match self.opened.commit {
            Some(commit) => {
                let git_ref = commit.to_string();
                SourceCause::Unreadable { git_ref, place, problem, is_momentary }
            }
            None => SourceCause::Directory { place, problem, is_absent: false, is_momentary },
        })
    }
}

/// Lists a source that was opened as it is, or else as it was, with the reason.
fn take(
    config: &Config,
    spec: &SourceSpec,
    source: SourceId,
    opened: Result<OpenedSource, SourceCause>,
    last: Option<&Snapshot>,
) -> Result<(Taken, Option<SourceCause>), SourceCause> {
    let (part, cause) = match opened {
        Ok(opened) => {
            let known = last.and_then(|last| listed_before(config, spec, source, last, &opened));
            let taken = match known {
                Some(layers) => finish(config, spec, opened, layers),
                None => list(config, spec, source, opened),
            };
            match taken.map(|taken| (taken.failure(), taken)) {
                Ok((None, taken)) => return Ok((taken, None)),
                Ok((Some(cause), taken)) => (Some(taken), cause),
                Err(cause) => (None, cause),
            }
        }
        Err(cause) => (None, cause),
    };
    // It is shown as it was: nobody is to take a part of it for the whole.
    if let Some(last) = last
        && let Some((id, opened)) = reopen(config, spec, last, cause.is_momentary())
    {
        let taken = match last_layers(config, spec, source, last, id) {
            Some(layers) => finish(config, spec, opened, layers),
            None => list(config, spec, source, opened),
        };
        let taken = taken?;
        return taken.failure().map_or(Ok((taken, Some(cause))), Err);
    }
    // Nobody has seen the whole of it. Of a commit a part is shown, of a directory nothing.
    match part.filter(|part| part.opened.commit.is_some()) {
        Some(part) => Ok((part, None)),
        None => Err(cause),
    }
}

/// What a source that did not move offered in the last snapshot; nothing if part of it could not be read then.
fn listed_before(
    config: &Config,
    spec: &SourceSpec,
    source: SourceId,
    last: &Snapshot,
    opened: &OpenedSource,
) -> Option<Layers> {
    let before = last.sources.get(source.index())?;
    let (Some(old), Some(new)) = (&before.git, &opened.git) else { return None };
    let is_same = Arc::ptr_eq(old, new) && before.name == spec.name;
    let is_whole = |finding: &Finding| match finding.kind {
        FindingKind::Unreadable { .. } => finding.source != source,
        FindingKind::SubdirIsAFile | FindingKind::SubdirLeavesSource => true,
    };
    let is_known = is_same && last.findings.iter().all(is_whole);
    is_known.then(|| last_layers(config, spec, source, last, source)).flatten()
}

/// What a source offered in the last snapshot, where that is what it would offer now: for when its trees cannot be read either.
fn last_layers(
    config: &Config,
    spec: &SourceSpec,
    source: SourceId,
    last: &Snapshot,
    id: SourceId,
) -> Option<Layers> {
    // Prompts are named by position.
    let is_same =
        id == source && last.source(id).subdirs == spec.subdirs && last.surfaces == config.surfaces;
    let of_source = |stack: &Stack| {
        let placed = stack.placed.iter().filter(|placed| placed.source == id);
        placed.map(|placed| placed.entry.clone()).collect()
    };
    is_same.then(|| Layers {
        entries: last.stacks.iter().map(of_source).collect(),
        findings: last.findings.iter().filter(|finding| finding.source == id).cloned().collect(),
        failure: None,
    })
}

fn list(
    config: &Config,
    spec: &SourceSpec,
    source: SourceId,
    mut opened: OpenedSource,
) -> Result<Taken, SourceCause> {
    let store = opened.store.clone();
    let store = store.as_ref();
    let layers = layer::list(store, spec, source, &config.surfaces, config.mount.links);
    if opened.commit.is_none() {
        let entries = layers.entries.iter().map(Vec::as_slice);
        opened.signals = of_directory(&opened.place, spec, &config.surfaces, entries);
    }
    finish(config, spec, opened, layers)
}

fn finish(
    config: &Config,
    spec: &SourceSpec,
    opened: OpenedSource,
    layers: Layers,
) -> Result<Taken, SourceCause> {
    let store = opened.store.as_ref();
    let revision = match (opened.commit, opened.listing) {
        (Some(commit), _) => Ok(Revision::Commit(commit)),
        (None, Some(listing)) => Ok(Revision::Listing(listing)),
        (None, None) => {
            layer::listing_digest(&layers, store, config.mount.shows_sources).map(Revision::Listing)
        }
    };
    match revision.and_then(|revision| Ok((revision, store.root()?))) {
        Ok((revision, top)) => {
            let key = source_key(spec, &opened.place, store);
            Ok(Taken { opened, layers, revision, top, key })
        }
        Err(error) => Err(SourceCause::Directory {
            place: opened.place,
            problem: error.to_string(),
            is_absent: false,
            is_momentary: error.is_momentary(),
        }),
    }
}

/// What of a snapshot grows source by source.
#[derive(Default)]
pub(super) struct Built {
    /// The sources of the snapshot before.
    last: Option<Vec<Arc<Source>>>,
    sources: Vec<Arc<Source>>,
    /// For each source its entries on each surface.
    entries: Vec<Vec<Vec<crate::union::entries::Entry>>>,
    /// For each source the directory at its top.
    tops: Vec<Object>,
    findings: Vec<Finding>,
    errors: Vec<SourceError>,
    stale: Vec<(SourceId, SourceError)>,
}

impl Built {
    fn ready(&mut self, spec: &SourceSpec, label: &str, taken: Taken) {
        let Taken { opened, layers, revision, top, key } = taken;
        // A live directory is shown whole or not at all.
        let unread = opened.commit.and_then(|_| layer::unread(&layers));
        let source = Source {
            name: spec.name.clone(),
            label: label.to_owned(),
            git_ref: spec.git_ref.clone(),
            is_live: spec.mode == Mode::Live,
            place: opened.place.clone(),
            revision,
            visibility: spec.visibility,
            state: SourceState::Ready,
            subdirs: spec.subdirs.clone(),
            time_secs: opened.time_secs,
            key,
            store: opened.store,
            signals: opened.signals,
            pinning: SharedPinning::new(opened.pinning),
            git: opened.git,
            git_directory: opened.git_directory,
            unread,
        };
        self.add(source, layers, top);
    }

    /// Takes a source with what it offers and the directory at its top. Where the snapshot before has one that is the same in all, both
    /// share it.
    pub(super) fn add(&mut self, source: Source, layers: Layers, top: Object) {
        self.entries.push(layers.entries);
        self.findings.extend(layers.findings);
        self.tops.push(top);
        let position = self.sources.len();
        let before = self.last.as_ref().and_then(|last| last.get(position));
        let same = before.filter(|before| before.is_same(&source)).cloned();
        if let Some(same) = &same {
            same.pinning.set(source.pinning.get());
        }
        self.sources.push(same.unwrap_or_else(|| Arc::new(source)));
    }

    fn failed(&mut self, config: &Config, spec: &SourceSpec, id: SourceId, error: SourceError) {
        let place = places(config, spec).into_iter().next().unwrap_or_default();
        let mut before = self.last.iter().flatten();
        let was_shown =
            before.any(|source| source.name == spec.name && source.state == SourceState::Ready);
        let state = error.state();
        let kind = FindingKind::Unreadable { error: error.cause.to_string() };
        let findings = vec![Finding { source: id, path: RelPath::root(), kind }];
        let layers = Layers { findings, ..Layers::default() };
        let source = Source {
            name: spec.name.clone(),
            label: error.label.clone(),
            git_ref: spec.git_ref.clone(),
            is_live: spec.mode == Mode::Live,
            place: place.clone(),
            revision: Revision::Missing,
            visibility: spec.visibility,
            state,
            subdirs: spec.subdirs.clone(),
            time_secs: 0,
            key: source_key(spec, &place, &EmptyStore),
            store: Arc::new(EmptyStore),
            signals: of_places(places(config, spec)),
            pinning: SharedPinning::new(Pinning::NotAsked),
            git: None,
            git_directory: GitDirectory::NotAsked,
            unread: None,
        };
        self.add(source, layers, Object::Empty);
        // What is shown is not taken away for what may pass.
        if spec.is_required || error.is_momentary() && was_shown {
            self.errors.push(error);
        }
    }
}

#[cfg(test)]
mod tests;
