//! The files of `.overlay`: the snapshot about itself, without anything of this machine (S41).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Snapshot;
use super::status::ViewStatus;
use crate::union::name::Name;
use crate::union::namespace::{Placed, Stack};
use crate::union::surface::Surface;

/// `entries.json`, and `ls --json`: every visible entry.
#[derive(Debug, Serialize, Deserialize)]
pub struct EntriesReport {
    /// The revision set.
    pub revision: String,
    /// The entries, surface by surface.
    pub entries: Vec<EntryReport>,
}

/// A visible entry.
#[derive(Debug, Serialize, Deserialize)]
pub struct EntryReport {
    /// Where it is in the view, escaped.
    pub path: String,
    /// The surface it is on.
    pub surface: String,
    /// The source it comes from, as commands call it.
    pub source: String,
    /// The revision of that source.
    pub revision: String,
    /// Where it is in the source, escaped.
    pub source_path: String,
    /// The git object's id; nothing for a live directory.
    pub object: Option<String>,
    /// What it hides, bottom first.
    pub hides: Vec<HiddenReport>,
}

/// An entry that is hidden.
#[derive(Debug, Serialize, Deserialize)]
pub struct HiddenReport {
    /// Where it would be in the view, escaped.
    pub path: String,
    /// The source it comes from.
    pub source: String,
    /// Where it is in the source, escaped.
    pub source_path: String,
}

/// Writes all files, sorted by name.
pub(super) fn write(snapshot: &Snapshot) -> Vec<(Name, Arc<[u8]>)> {
    let mut revision = snapshot.id.to_string();
    revision.push('\n');
    [
        ("entries.json", json(&EntriesReport::of(snapshot))),
        ("revision", revision.into_bytes()),
        ("status.json", json(&ViewStatus::public(snapshot))),
    ]
    .into_iter()
    .map(|(name, text)| (Name::new(name).expect("a fixed name"), text.into()))
    .collect()
}

fn json(document: &impl Serialize) -> Vec<u8> {
    let mut text =
        serde_json::to_vec_pretty(document).expect("plain structures of text always serialize");
    text.push(b'\n');
    text
}

impl EntriesReport {
    /// All visible entries of a snapshot.
    pub fn of(snapshot: &Snapshot) -> Self {
        let surfaces = snapshot.surfaces.iter().zip(&snapshot.stacks);
        let entries = surfaces.flat_map(|(surface, stack)| {
            let mut visible: Vec<_> = stack.visible().collect();
            visible.sort_by(|one, other| one.entry.path.cmp(&other.entry.path));
            visible.into_iter().map(|placed| entry(snapshot, surface, stack, placed))
        });
        Self { revision: snapshot.id.to_string(), entries: entries.collect() }
    }
}

fn entry(snapshot: &Snapshot, surface: &Surface, stack: &Stack, placed: &Placed) -> EntryReport {
    let source = snapshot.source(placed.source);
    let hides = placed.hides.iter().map(|position| {
        let hidden = &stack.placed[*position];
        HiddenReport {
            path: surface.at.concat(&hidden.entry.path).to_string(),
            source: snapshot.source(hidden.source).label.clone(),
            source_path: hidden.entry.source_path.to_string(),
        }
    });
    EntryReport {
        path: surface.at.concat(&placed.entry.path).to_string(),
        surface: surface.name.clone(),
        source: source.label.clone(),
        revision: source.revision.to_string(),
        source_path: placed.entry.source_path.to_string(),
        object: placed.entry.object.oid().map(ToString::to_string),
        hides: hides.collect(),
    }
}
