//! A configuration becomes a snapshot: all sources are opened and listed, and `union` merges what they offer.
//!
//! Only entry lists are read; how much lies below the entries makes no difference.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use super::digest::revision_set_id;
use super::error::{BuildError, SourceCause, SourceError};
use super::label::labels;
use super::layer::{self, Layers};
use super::locate::places;
use super::open::{Means, Opened, open, reopen, source_key};
use super::pin::Pins;
use super::shared::Shared;
use super::signals::{of_directory, of_places};
use crate::config::resolved::{Config, SourceSpec};
use crate::snapshot::{Finding, FindingKind, PinState, Pinning, Snapshot, Source, SourceState};
use crate::store::empty::EmptyStore;
use crate::union::name::RelPath;
use crate::union::namespace::{Layer, Namespace, Shown, Stack, last_of_each_name};
use crate::union::object::Object;
use crate::union::revision::Revision;
use crate::union::source::SourceId;
use crate::union::surface::{Presence, SurfaceId};

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
    let means = Means { shared, pins, last };
    let taken = in_parallel(&specs, |index, spec| {
        take(config, spec, id_at(index), open(config, spec, means), last)
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
    let id = revision_set_id(config, &built.sources, &specs);
    let stacks = stacks(config, built.entries);
    let namespace = namespace(config, &built.sources, &built.tops, &stacks);
    built.findings.sort();
    built.findings.dedup();
    let snapshot = Snapshot {
        id,
        since: SystemTime::now(),
        serial: 0,
        sources: built.sources,
        surfaces: config.surfaces.clone(),
        stacks,
        namespace,
        findings: built.findings,
        notes: Vec::new(),
        texts: OnceLock::new(),
    };
    Ok(Rebuilt { snapshot, stale: built.stale })
}

fn id_at(index: usize) -> SourceId {
    SourceId(u32::try_from(index).unwrap_or(u32::MAX))
}

/// A source that was opened and listed.
struct Taken {
    opened: Opened,
    layers: Layers,
    revision: Revision,
    top: Object,
}

/// Lists a source that was opened as it is, or else as it was, with the reason.
fn take(
    config: &Config,
    spec: &SourceSpec,
    source: SourceId,
    opened: Result<Opened, SourceCause>,
    last: Option<&Snapshot>,
) -> Result<(Taken, Option<SourceCause>), SourceCause> {
    let cause = match opened {
        Ok(opened) => {
            let known = last.and_then(|last| listed_before(config, spec, source, last, &opened));
            let taken = match known {
                Some(layers) => finish(config, opened, layers),
                None => list(config, spec, source, opened),
            };
            return taken.map(|taken| (taken, None));
        }
        Err(cause) => cause,
    };
    let Some((last, (id, opened))) =
        last.and_then(|last| Some((last, reopen(config, spec, last)?)))
    else {
        return Err(cause);
    };
    let taken = match last_layers(config, spec, source, last, id) {
        Some(layers) => finish(config, opened, layers),
        None => list(config, spec, source, opened),
    };
    taken.map(|taken| (taken, Some(cause)))
}

/// What a source that did not move offered in the last snapshot; nothing if part of it could not be read then.
fn listed_before(
    config: &Config,
    spec: &SourceSpec,
    source: SourceId,
    last: &Snapshot,
    opened: &Opened,
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
    })
}

fn list(
    config: &Config,
    spec: &SourceSpec,
    source: SourceId,
    mut opened: Opened,
) -> Result<Taken, SourceCause> {
    let store = opened.store.clone();
    let store = store.as_ref();
    let layers = layer::list(store, spec, source, &config.surfaces, config.mount.links);
    if opened.commit.is_none() {
        let entries = layers.entries.iter().map(Vec::as_slice);
        opened.signals = of_directory(&opened.place, spec, &config.surfaces, entries);
    }
    finish(config, opened, layers)
}

fn finish(config: &Config, opened: Opened, layers: Layers) -> Result<Taken, SourceCause> {
    let store = opened.store.as_ref();
    let revision = match opened.commit {
        Some(commit) => Ok(Revision::Commit(commit)),
        None => {
            layer::listing_digest(&layers, store, config.mount.shows_sources).map(Revision::Listing)
        }
    };
    match revision.and_then(|revision| Ok((revision, store.root()?))) {
        Ok((revision, top)) => Ok(Taken { opened, layers, revision, top }),
        Err(error) => Err(SourceCause::Directory {
            place: opened.place,
            problem: error.to_string(),
            is_absent: false,
        }),
    }
}

/// What of a snapshot grows source by source.
#[derive(Default)]
struct Built {
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
        let Taken { opened, layers, revision, top } = taken;
        self.entries.push(layers.entries);
        self.findings.extend(layers.findings);
        self.tops.push(top);
        self.push(Source {
            name: spec.name.clone(),
            label: label.to_owned(),
            git_ref: spec.git_ref.clone(),
            place: opened.place.display().to_string(),
            revision,
            visibility: spec.visibility,
            state: SourceState::Ready,
            subdirs: spec.subdirs.clone(),
            time_secs: opened.time_secs,
            key: source_key(spec, &opened.place, opened.store.as_ref()),
            store: opened.store,
            signals: opened.signals,
            pinning: PinState::new(opened.pinning),
            git: opened.git,
        });
    }

    /// Takes a source, or the one of the snapshot before that is the same in all: many sets share it.
    fn push(&mut self, source: Source) {
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
        let state = error.state();
        let kind = FindingKind::Unreadable { error: error.cause.to_string() };
        self.findings.push(Finding { source: id, path: RelPath::root(), kind });
        self.entries.push(Vec::new());
        self.tops.push(Object::Empty);
        self.push(Source {
            name: spec.name.clone(),
            label: error.label.clone(),
            git_ref: spec.git_ref.clone(),
            place: place.display().to_string(),
            revision: Revision::Missing,
            visibility: spec.visibility,
            state,
            subdirs: spec.subdirs.clone(),
            time_secs: 0,
            key: source_key(spec, &place, &EmptyStore),
            store: Arc::new(EmptyStore),
            signals: of_places(places(config, spec)),
            pinning: PinState::new(Pinning::NotAsked),
            git: None,
        });
        if spec.is_required {
            self.errors.push(error);
        }
    }
}

fn stacks(config: &Config, mut entries: Vec<Vec<Vec<crate::union::entries::Entry>>>) -> Vec<Stack> {
    let mut stacks = Vec::with_capacity(config.surfaces.len());
    for surface in 0..config.surfaces.len() {
        let layers = entries.iter_mut().enumerate().map(|(index, of_source)| Layer {
            source: id_at(index),
            entries: of_source.get_mut(surface).map(std::mem::take).unwrap_or_default(),
        });
        stacks.push(Stack::merge(layers.collect()));
    }
    stacks
}

fn namespace(
    config: &Config,
    sources: &[Arc<Source>],
    tops: &[Object],
    stacks: &[Stack],
) -> Namespace {
    let mut shown = Vec::new();
    if config.mount.shows_sources {
        let names = sources.iter().enumerate().map(|(index, source)| (id_at(index), &source.name));
        for id in last_of_each_name(names) {
            let source = &sources[id.index()];
            shown.push((
                source.name.to_path(),
                Shown {
                    source: id,
                    surface: None,
                    source_path: RelPath::root(),
                    object: tops[id.index()].clone(),
                    time_secs: source.time_secs,
                },
            ));
        }
    }
    let mut always = Vec::new();
    for (index, (surface, stack)) in config.surfaces.iter().zip(stacks).enumerate() {
        let is_configured =
            sources.iter().any(|source| matches!(source.subdirs.get(index), Some(Some(_))));
        match surface.presence {
            Presence::Always => always.push(surface.at.clone()),
            Presence::IfConfigured if is_configured => always.push(surface.at.clone()),
            Presence::IfConfigured | Presence::IfNotEmpty => {}
        }
        shown.extend(stack.visible().map(|placed| {
            let entry = &placed.entry;
            let shown = Shown {
                source: placed.source,
                surface: Some(SurfaceId(u32::try_from(index).unwrap_or(u32::MAX))),
                source_path: entry.source_path.clone(),
                object: entry.object.clone(),
                time_secs: sources[placed.source.index()].time_secs,
            };
            (surface.at.concat(&entry.path), shown)
        }));
    }
    // An empty directory is as old as the oldest source: no newer than what might have been in it.
    let times = sources.iter().map(|source| source.time_secs).filter(|time| *time > 0);
    Namespace::new(shown, always, times.min().unwrap_or(0))
}

/// Does the same with each item on as many threads as make sense, and gives the results in the items' order.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(usize, &T) -> R + Sync) -> Vec<R> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = (cores * 2).min(items.len());
    if threads <= 1 {
        return items.iter().enumerate().map(|(index, item)| work(index, item)).collect();
    }
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return done };
            done.push((index, work(index, item)));
        }
    };
    let mut results: Vec<(usize, R)> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let join = |handle: std::thread::ScopedJoinHandle<'_, Vec<(usize, R)>>| {
            handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        handles.into_iter().flat_map(join).collect()
    });
    results.sort_unstable_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests;
