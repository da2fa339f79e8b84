//! Why a path shows what it shows, in words and as a document.

use serde::{Deserialize, Serialize};

use super::{GitDirectory, Snapshot, Source};
use crate::store::walk::{self, Walked};
use crate::union::explain::{Absence, EntryOrigin, Explanation, Hidden, explain};
use crate::union::name::{Name, RelPath};
use crate::union::source::SourceId;
use crate::union::surface::SurfaceId;

/// Why a path shows what it shows, or nothing. All paths are escaped text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplanationReport {
    /// The path that was asked about, in the view.
    pub path: String,
    /// What it shows.
    pub shows: Shows,
    /// The surface it is on; nothing elsewhere.
    pub surface: Option<String>,
    /// Where it comes from; nothing for merged directories and absence.
    pub winner: Option<WinnerReport>,
    /// The sources that show something in a merged directory, bottom first.
    pub contributors: Vec<String>,
    /// What is not shown, bottom first.
    pub hidden: Vec<HiddenBy>,
    /// Why nothing is there; nothing if something is.
    pub absence: Option<String>,
}

/// What a path shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shows {
    /// A directory that several sources may share.
    Directory,
    /// An entry, or a place in one.
    Entry,
    /// What `.overlay` has about the view itself.
    View,
    /// Nothing.
    Nothing,
}

/// Where what is shown comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WinnerReport {
    /// The source, as commands call it.
    pub source: String,
    /// Its ref as configured.
    #[serde(rename = "ref")]
    pub git_ref: Option<String>,
    /// Whether it is a live directory, which has no ref; nothing where only `.overlay` could be read, which tells no refs.
    #[serde(default, rename = "live")]
    pub is_live: Option<bool>,
    /// Its revision.
    pub revision: String,
    /// The entry, in the view.
    pub entry: String,
    /// The path in the source.
    pub source_path: String,
}

/// An entry that is hidden, by which other one, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HiddenBy {
    /// Where it would be, in the view.
    pub path: String,
    /// Its source.
    pub source: String,
    /// Where it is in its source.
    pub source_path: String,
    /// The path of the entry that hides it.
    pub by_path: String,
    /// The source of the entry that hides it.
    pub by_source: String,
    /// Why it does.
    pub reason: String,
}

impl ExplanationReport {
    /// Explains a path from a snapshot.
    pub fn of(snapshot: &Snapshot, path: &RelPath) -> Self {
        match in_overlay(path, &snapshot.id.to_string()) {
            Some(InOverlay::Current(inside)) => {
                Self { path: path.to_string(), ..Self::of(snapshot, &inside) }
            }
            Some(InOverlay::Told(report)) => *report,
            None => Self::of_view(snapshot, path),
        }
    }

    fn of_view(snapshot: &Snapshot, path: &RelPath) -> Self {
        let explanation = explain(&snapshot.stacks, &snapshot.surfaces, &snapshot.namespace, path);
        let words = Words { snapshot };
        let mut report = Self::nothing(path.to_string());
        match explanation {
            Explanation::Directory { surface, contributors, hidden } => {
                report.shows = Shows::Directory;
                report.surface = surface.map(|id| words.surface(id));
                report.contributors = contributors.into_iter().map(|id| words.source(id)).collect();
                report.hidden = hidden.iter().map(|hidden| words.hidden(hidden)).collect();
            }
            Explanation::Entry { winner, below, hidden } => {
                report.surface = winner.surface.map(|id| words.surface(id));
                report.hidden = hidden.iter().map(|hidden| words.hidden(hidden)).collect();
                report.absence = words.missing(&winner, &below);
                report.shows = if report.absence.is_some() { Shows::Nothing } else { Shows::Entry };
                report.winner = Some(words.winner(&winner, &below));
            }
            Explanation::Absent(absence) => {
                let (surface, reason, hidden) = words.absence(path, &absence);
                report.surface = surface;
                report.absence = Some(reason);
                report.hidden = hidden;
            }
        }
        report
    }

    pub(super) fn nothing(path: String) -> Self {
        Self {
            path,
            shows: Shows::Nothing,
            surface: None,
            winner: None,
            contributors: Vec::new(),
            hidden: Vec::new(),
            absence: None,
        }
    }
}

/// A path at or below `.overlay`.
pub(super) enum InOverlay {
    /// It shows what the view shows at this path now.
    Current(RelPath),
    /// All that there is to say.
    Told(Box<ExplanationReport>),
}

/// What a path at or below `.overlay` is, of a view that shows `revision`; nothing for all other paths.
pub(super) fn in_overlay(path: &RelPath, revision: &str) -> Option<InOverlay> {
    let names: Vec<&[u8]> = path.names().iter().map(Name::as_bytes).collect();
    let mut report = ExplanationReport::nothing(path.to_string());
    match names.as_slice() {
        [b".overlay", b"revisions", id, _, ..] if *id == revision.as_bytes() => {
            return Some(InOverlay::Current(path.names().iter().skip(3).cloned().collect()));
        }
        [b".overlay", b"current", _, ..] => {
            return Some(InOverlay::Current(path.names().iter().skip(2).cloned().collect()));
        }
        // Of the sets that were left, only who serves them knows which are kept.
        [b".overlay"]
        | [
            b".overlay",
            b"current" | b"entries.json" | b"revision" | b"revisions" | b"status.json",
        ]
        | [b".overlay", b"revisions", _, ..] => report.shows = Shows::View,
        [b".overlay", ..] => {
            let reason = "`.overlay` has `current`, `entries.json`, `revision`, `revisions` and `status.json`";
            report.absence = Some(reason.to_owned());
        }
        _ => return None,
    }
    Some(InOverlay::Told(Box::new(report)))
}

/// Why a place at or below the `.git` of a source that is shown whole does not exist; `None` if it does.
fn missing_git(source: &Source, path: &RelPath) -> Option<String> {
    let label = &source.label;
    match &source.git_directory {
        GitDirectory::Shown(git) => {
            let below: RelPath = path.names().iter().skip(1).cloned().collect();
            match walk::find(git.store.as_ref(), &below) {
                Ok(Some(_)) => None,
                Ok(None) => Some(format!(
                    "the `.git` of source {label}, which is made for the view, has no `{below}`"
                )),
                Err(error) => Some(format!("source {label}: `{path}`: {error}")),
            }
        }
        GitDirectory::NotMade => not_made(source, path),
        GitDirectory::LeftOut { reason } => Some(format!("source {label} has no `.git`: {reason}")),
        GitDirectory::NotAsked => Some(format!(
            "no `.git` that source {label} may have is shown; with `mount.git` a repository has one that is made for the view"
        )),
    }
}

/// Why a place at or below a `.git` that a mount would make does not exist; `None` if it does. The names are those that `sync` gives it.
fn not_made(source: &Source, path: &RelPath) -> Option<String> {
    let label = &source.label;
    let names: Vec<&[u8]> = path.names().iter().skip(1).map(Name::as_bytes).collect();
    let is_there = match names.as_slice() {
        []
        | [b"HEAD" | b"config" | b"objects" | b"refs"]
        | [b"objects", b"info" | b"pack"]
        | [b"refs", b"heads" | b"tags"] => true,
        [b"shallow"] => {
            let git = source.git.as_ref();
            git.is_some_and(|git| git.lender().common_dir().join("shallow").exists())
        }
        [b"objects", b"pack", _] => {
            return Some(format!(
                "the packs of the `.git` of source {label} are made by a mount: ask with a path below its mount point"
            ));
        }
        _ => false,
    };
    let below: RelPath = path.names().iter().skip(1).cloned().collect();
    (!is_there).then(|| {
        format!("the `.git` of source {label}, which is made for the view, has no `{below}`")
    })
}

/// Whether there is a fifo, a socket or a device at a path of a source.
fn is_special(source: &Source, path: &RelPath) -> bool {
    let (Some(above), Some(name)) = (path.parent(), path.last()) else { return false };
    match walk::resolve(source.store.as_ref(), &above) {
        Ok(Walked::Found { object, .. }) => source.store.has_special_file(&object, name),
        Ok(Walked::Absent | Walked::Leaves | Walked::Loop) | Err(_) => false,
    }
}

fn special(source: &Source, path: &RelPath) -> String {
    let label = &source.label;
    format!("`{path}` of source {label} is a fifo, a socket or a device, and these are never shown")
}

/// Puts names to positions.
struct Words<'a> {
    snapshot: &'a Snapshot,
}

impl Words<'_> {
    fn source(&self, id: SourceId) -> String {
        self.snapshot.source(id).label.clone()
    }

    fn surface(&self, id: SurfaceId) -> String {
        self.snapshot.surface(id).name.clone()
    }

    fn hidden(&self, hidden: &Hidden) -> HiddenBy {
        HiddenBy {
            path: hidden.origin.path.to_string(),
            source: self.source(hidden.origin.source),
            source_path: hidden.origin.source_path.to_string(),
            by_path: hidden.by.path.to_string(),
            by_source: self.source(hidden.by.source),
            reason: hidden.reason.to_string(),
        }
    }

    fn winner(&self, winner: &EntryOrigin, below: &RelPath) -> WinnerReport {
        let source = self.snapshot.source(winner.source);
        WinnerReport {
            source: source.label.clone(),
            git_ref: source.git_ref.clone(),
            is_live: Some(source.is_live),
            revision: source.revision.to_string(),
            entry: winner.path.to_string(),
            source_path: winner.source_path.concat(below).to_string(),
        }
    }

    /// Why the place below an entry does not exist; `None` if it does.
    fn missing(&self, winner: &EntryOrigin, below: &RelPath) -> Option<String> {
        if below.is_root() {
            return None;
        }
        let source = self.snapshot.source(winner.source);
        let path = winner.source_path.concat(below);
        if winner.surface.is_none() && below.first().is_some_and(|name| name.as_bytes() == b".git")
        {
            return missing_git(source, below);
        }
        match walk::find(source.store.as_ref(), &path) {
            Ok(Some(_)) => None,
            Ok(None) if is_special(source, &path) => Some(special(source, &path)),
            Ok(None) => Some(format!(
                "`{}` of source {} has no `{below}`; entries are shown whole, so that no other source can add it",
                winner.path, source.label
            )),
            Err(error) => Some(format!("source {}: `{path}`: {error}", source.label)),
        }
    }

    /// What stands at a path of a surface in a live source and is no entry.
    fn special_at(&self, surface: SurfaceId, path: &RelPath) -> Option<String> {
        let below = path.strip_prefix(&self.snapshot.surface(surface).at)?;
        let sources = self.snapshot.sources.iter().filter(|source| source.is_live).rev();
        let mut places = sources.filter_map(|source| {
            let subdir = source.subdirs.get(surface.index())?.as_ref()?;
            Some((source, subdir.concat(&below)))
        });
        let (source, place) = places.find(|(source, place)| is_special(source, place))?;
        Some(special(source, &place))
    }

    fn absence(
        &self,
        path: &RelPath,
        absence: &Absence,
    ) -> (Option<String>, String, Vec<HiddenBy>) {
        match absence {
            Absence::NoSuchPlace { existing } => (
                None,
                format!(
                    "no surface and no source is there; `{existing}` is the last part that exists"
                ),
                Vec::new(),
            ),
            Absence::NoSurface { surface } => (
                Some(self.surface(*surface)),
                "this surface holds nothing, and then it is not part of the view".into(),
                Vec::new(),
            ),
            Absence::NeverShown { surface } => {
                (Some(self.surface(*surface)), "this name is never shown".into(), Vec::new())
            }
            Absence::NoEntry { surface, existing } => (
                Some(self.surface(*surface)),
                self.special_at(*surface, path).unwrap_or_else(|| {
                    format!(
                        "no source has such an entry; `{existing}` is the last part that exists"
                    )
                }),
                Vec::new(),
            ),
            Absence::Hidden { surface, hidden } => (
                Some(self.surface(*surface)),
                "it is hidden".into(),
                hidden.iter().map(|hidden| self.hidden(hidden)).collect(),
            ),
        }
    }
}
