//! Sources that were listed become a snapshot.

use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Built, id_at};
use crate::config::resolved::{Config, SourceSpec};
use crate::snapshot::{Snapshot, Source};
use crate::sync::digest::revision_set_id;
use crate::union::entries::Entry;
use crate::union::name::RelPath;
use crate::union::namespace::{Layer, Namespace, Shown, Stack, last_of_each_name};
use crate::union::object::Object;
use crate::union::surface::{Presence, SurfaceId};

/// Merges what the sources offer.
pub(in crate::sync) fn snapshot(config: &Config, specs: &[&SourceSpec], built: Built) -> Snapshot {
    let Built { sources, entries, tops, mut findings, .. } = built;
    let id = revision_set_id(config, &sources, specs);
    let stacks = stacks(config, entries);
    let since = SystemTime::now();
    let namespace = namespace(config, &sources, &tops, &stacks, since);
    findings.sort();
    findings.dedup();
    Snapshot {
        id,
        since,
        serial: 0,
        sources,
        surfaces: config.surfaces.clone(),
        stacks,
        namespace,
        findings,
        notes: Vec::new(),
        texts: OnceLock::new(),
    }
}

fn now_secs(now: SystemTime) -> i64 {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn stacks(config: &Config, mut entries: Vec<Vec<Vec<Entry>>>) -> Vec<Stack> {
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
    since: SystemTime,
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
    // An empty directory is as old as the oldest source: no newer than what might have been in it. Live directories have no such time; where
    // there are no others it is that of the set: archives refuse what is older than 1980.
    let times = sources.iter().map(|source| source.time_secs).filter(|time| *time > 0);
    Namespace::new(shown, always, times.min().unwrap_or_else(|| now_secs(since)))
}
