//! What two snapshots show differently, entry by entry, in words and as a document.
//!
//! Positions of sources mean something in their own snapshot only: which source of one is which of the other is decided here.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::{Snapshot, Source};
use crate::union::change::{Side, changes};
use crate::union::name::RelPath;
use crate::union::namespace::Shown;
use crate::union::source::SourceId;

/// The difference of two snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DifferenceReport {
    /// The revision set before.
    pub before: String,
    /// The revision set after.
    pub after: String,
    /// The sources that come, go or have another revision, bottom first, those that go last.
    pub sources: Vec<SourceChange>,
    /// The entries that differ, sorted by path.
    pub entries: Vec<EntryChange>,
}

/// A source that is not the same in both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceChange {
    /// What it was; nothing for one that comes.
    pub before: Option<SourceAt>,
    /// What it is; nothing for one that goes.
    pub after: Option<SourceAt>,
}

/// A source at a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceAt {
    /// What commands call it.
    pub source: String,
    /// Its ref as configured.
    #[serde(rename = "ref")]
    pub git_ref: Option<String>,
    /// Whether it is a live directory, which has no ref.
    #[serde(rename = "live")]
    pub is_live: bool,
    /// Its revision.
    pub revision: String,
}

/// What happens to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryChangeKind {
    /// There was none at its path.
    Appears,
    /// There is none any more.
    Vanishes,
    /// Another source shows it.
    Winner,
    /// The same source shows something else.
    Content,
}

impl EntryChangeKind {
    /// The word for it, as in the document.
    pub fn word(self) -> &'static str {
        match self {
            Self::Appears => "appears",
            Self::Vanishes => "vanishes",
            Self::Winner => "winner",
            Self::Content => "content",
        }
    }
}

/// An entry that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EntryChange {
    /// Where it is in the view, escaped.
    pub path: String,
    /// The surface it is on; nothing for a source that is shown whole.
    pub surface: Option<String>,
    /// What happens to it.
    pub change: EntryChangeKind,
    /// What was shown.
    pub before: Option<EntryAt>,
    /// What is shown.
    pub after: Option<EntryAt>,
}

/// What shows an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EntryAt {
    /// The source, as commands call it.
    pub source: String,
    /// The revision of that source.
    pub revision: String,
    /// Where the entry is in the source, escaped.
    pub source_path: String,
    /// The git object's id; nothing for a live directory.
    pub object: Option<String>,
}

impl DifferenceReport {
    /// Compares two snapshots.
    pub fn of(before: &Snapshot, after: &Snapshot) -> Self {
        let pairs = Pairs::of(&before.sources, &after.sources);
        let is_same = |one: &Shown, other: &Shown| {
            pairs.are_one(one.source, other.source) && one.object == other.object
        };
        let mut entries = Vec::new();
        for change in changes(&before.namespace, &after.namespace, is_same) {
            let (old, new) =
                (flat(&change.path, &change.before), flat(&change.path, &change.after));
            let mut paths: BTreeMap<&RelPath, (Option<&Shown>, Option<&Shown>)> = BTreeMap::new();
            for (path, shown) in &old {
                paths.entry(path).or_default().0 = Some(shown);
            }
            for (path, shown) in &new {
                paths.entry(path).or_default().1 = Some(shown);
            }
            entries.extend(paths.into_iter().filter_map(|(path, (old, new))| {
                let change = kind(&pairs, old, new)?;
                let surface = new.map(|new| (after, new)).or(old.map(|old| (before, old)));
                let surface = surface.and_then(|(snapshot, shown)| {
                    Some(snapshot.surface(shown.surface?).name.clone())
                });
                let (old, new) =
                    (old.map(|shown| entry(before, shown)), new.map(|shown| entry(after, shown)));
                let path = path.to_string();
                Some(EntryChange { path, surface, change, before: old, after: new })
            }));
        }
        Self {
            before: before.id.to_string(),
            after: after.id.to_string(),
            sources: sources(before, after, &pairs),
            entries,
        }
    }
}

fn kind(pairs: &Pairs, old: Option<&Shown>, new: Option<&Shown>) -> Option<EntryChangeKind> {
    match (old, new) {
        (None, None) => None,
        (None, Some(_)) => Some(EntryChangeKind::Appears),
        (Some(_), None) => Some(EntryChangeKind::Vanishes),
        (Some(old), Some(new)) if !pairs.are_one(old.source, new.source) => {
            Some(EntryChangeKind::Winner)
        }
        (Some(old), Some(new)) => (old.object != new.object).then_some(EntryChangeKind::Content),
    }
}

/// The entries on one side of a change, each with its path in the view.
fn flat(path: &RelPath, side: &Side) -> Vec<(RelPath, Arc<Shown>)> {
    match side {
        Side::Absent => Vec::new(),
        Side::Entry(shown) => vec![(path.clone(), shown.clone())],
        Side::Directory(directory) => {
            let entries = directory.entries().into_iter();
            entries.map(|(below, shown)| (path.concat(&below), shown.clone())).collect()
        }
    }
}

fn entry(snapshot: &Snapshot, shown: &Shown) -> EntryAt {
    let source = snapshot.source(shown.source);
    EntryAt {
        source: source.label.clone(),
        revision: source.revision.to_string(),
        source_path: shown.source_path.to_string(),
        object: shown.object.oid().map(ToString::to_string),
    }
}

fn sources(before: &Snapshot, after: &Snapshot, pairs: &Pairs) -> Vec<SourceChange> {
    let mut changed = Vec::new();
    for (index, new) in after.sources.iter().enumerate() {
        let old = pairs.before.iter().position(|partner| *partner == Some(index));
        let old = old.map(|old| &before.sources[old]);
        if old.is_none_or(|old| old.revision != new.revision) {
            changed.push(SourceChange { before: old.map(|old| at(old)), after: Some(at(new)) });
        }
    }
    for (old, partner) in before.sources.iter().zip(&pairs.before) {
        if partner.is_none() {
            changed.push(SourceChange { before: Some(at(old)), after: None });
        }
    }
    changed
}

fn at(source: &Source) -> SourceAt {
    SourceAt {
        source: source.label.clone(),
        git_ref: source.git_ref.clone(),
        is_live: source.is_live,
        revision: source.revision.to_string(),
    }
}

/// Which source of one snapshot is which of the other.
struct Pairs {
    /// For each source before its position after.
    before: Vec<Option<usize>>,
}

impl Pairs {
    /// Pairs sources by key, and what is left by name and place (another ref is no other source), and what is left then by name. Each
    /// source is paired once, in order, so that a repository that is listed twice stays two sources.
    fn of(before: &[Arc<Source>], after: &[Arc<Source>]) -> Self {
        let rules: [fn(&Source, &Source) -> bool; 3] = [
            |one, other| one.key == other.key,
            |one, other| one.name == other.name && one.place == other.place,
            |one, other| one.name == other.name,
        ];
        let mut pairs = vec![None; before.len()];
        let mut is_taken = vec![false; after.len()];
        for rule in rules {
            for (old, pair) in before.iter().zip(&mut pairs).filter(|(_, pair)| pair.is_none()) {
                let mut free = after.iter().enumerate().filter(|(index, _)| !is_taken[*index]);
                *pair = free.find(|(_, new)| rule(old, new)).map(|(index, _)| index);
                if let Some(index) = *pair {
                    is_taken[index] = true;
                }
            }
        }
        Self { before: pairs }
    }

    /// True if a source before and one after are a pair.
    fn are_one(&self, before: SourceId, after: SourceId) -> bool {
        self.before.get(before.index()).copied().flatten() == Some(after.index())
    }
}
