//! Why a path of the view shows what it shows, or nothing.
//!
//! Knows what was merged, not what lies below an entry: whether a path inside an entry exists, the store of its source says.

use std::collections::BTreeSet;
use std::fmt;

use super::entries::{Entry, EntryKey};
use super::name::RelPath;
use super::namespace::{Item, Namespace, Placed, Shown, Stack};
use super::source::SourceId;
use super::surface::{Surface, SurfaceId};

/// Why an entry of a later source hides one of an earlier source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HidingReason {
    /// Both stand at the same path.
    SamePath,
    /// Both are packages of the same name, at different paths (S8).
    SamePackage,
    /// The later entry stands above the earlier one (S9).
    Above,
    /// The later entry stands below the earlier one (S9).
    Below,
}

impl fmt::Display for HidingReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SamePath => "same name",
            Self::SamePackage => "package of the same name",
            Self::Above => "it stands above",
            Self::Below => "it stands below",
        })
    }
}

/// Why `later` would hide `earlier`; `None` if it would not.
///
/// Takes it as given that `later` is of a later source of the same surface. Two packages of one name of which one stands
/// above the other are [`HidingReason::SamePackage`].
pub fn hiding_reason(later: &Entry, earlier: &Entry) -> Option<HidingReason> {
    if later.path == earlier.path {
        return Some(HidingReason::SamePath);
    }
    match (&later.key, &earlier.key) {
        (EntryKey::Package(one), EntryKey::Package(other)) if one == other => {
            Some(HidingReason::SamePackage)
        }
        _ if starts_with(&earlier.path, &later.path) => Some(HidingReason::Above),
        _ if starts_with(&later.path, &earlier.path) => Some(HidingReason::Below),
        _ => None,
    }
}

fn starts_with(path: &RelPath, prefix: &RelPath) -> bool {
    path.names().starts_with(prefix.names())
}

/// An entry, by where it comes from and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryOrigin {
    /// Its source.
    pub source: SourceId,
    /// Its surface; `None` for a source that is shown whole.
    pub surface: Option<SurfaceId>,
    /// Where it stands in the view, or would stand if nothing hid it.
    pub path: RelPath,
    /// Where it stands in its source.
    pub source_path: RelPath,
}

/// An entry that is not shown on its surface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hidden {
    /// The entry.
    pub origin: EntryOrigin,
    /// The entry that hides it; it may be hidden itself.
    pub by: EntryOrigin,
    /// Why that hides it.
    pub reason: HidingReason,
}

/// Why a path of the view shows what it shows, or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Explanation {
    /// A merged directory.
    Directory {
        /// The surface it is on; `None` above the surfaces and for the directory of an owner.
        surface: Option<SurfaceId>,
        /// The sources that show at least one entry in it, bottom first.
        contributors: Vec<SourceId>,
        /// The entries at or below this path that are not shown, bottom first, each with the topmost that hides it.
        hidden: Vec<Hidden>,
    },
    /// An entry, or a place in one.
    Entry {
        /// The entry that is shown.
        winner: EntryOrigin,
        /// The components of the path below the entry; its source says whether that place exists.
        below: RelPath,
        /// The entries that the winner hides, bottom first.
        hidden: Vec<Hidden>,
    },
    /// Nothing.
    Absent(Absence),
}

impl Explanation {
    /// The path in the winner's source of what is shown; `None` if no single source is behind it.
    pub fn source_path(&self) -> Option<RelPath> {
        match self {
            Self::Entry { winner, below, .. } => Some(winner.source_path.concat(below)),
            Self::Directory { .. } | Self::Absent(_) => None,
        }
    }
}

/// Why a path shows nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absence {
    /// No surface and no source stands at, above or below the path.
    NoSuchPlace {
        /// The part of the path that exists.
        existing: RelPath,
    },
    /// The path is a surface, or leads to one, that is not part of the view because it holds nothing.
    NoSurface {
        /// The surface.
        surface: SurfaceId,
    },
    /// The name is one that its surface never shows (S17, S19).
    NeverShown {
        /// The surface.
        surface: SurfaceId,
    },
    /// No source has an entry at, above or below the path on its surface.
    NoEntry {
        /// The surface.
        surface: SurfaceId,
        /// The part of the path that exists, as a path in the view.
        existing: RelPath,
    },
    /// There are such entries, and all of them are hidden.
    Hidden {
        /// The surface.
        surface: SurfaceId,
        /// The entries at, above or below the path, bottom first, each with the topmost that hides it.
        hidden: Vec<Hidden>,
    },
}

/// Says why `path` shows what it shows.
///
/// `stacks` are in the order of `surfaces`. The path is one of the view's, without `.overlay`, which the union does not know.
pub fn explain(
    stacks: &[Stack],
    surfaces: &[Surface],
    namespace: &Namespace,
    path: &RelPath,
) -> Explanation {
    let places = Surfaces { stacks, surfaces };
    match namespace.resolve(path) {
        Some((Item::Entry(shown), below)) => places.entry(&shown, path, below),
        Some((Item::Directory(directory), _)) => {
            let shown = directory.entries();
            let contributors: BTreeSet<_> = shown.iter().map(|(_, shown)| shown.source).collect();
            let surface = places.of(path);
            Explanation::Directory {
                surface: surface.as_ref().map(|(id, _)| *id),
                contributors: contributors.into_iter().collect(),
                hidden: surface.map_or_else(Vec::new, |(id, rest)| {
                    places.hidden(id, |entry| starts_with(&entry.path, &rest))
                }),
            }
        }
        None => Explanation::Absent(places.absence(namespace, path)),
    }
}

/// The surfaces with their stacks.
struct Surfaces<'a> {
    stacks: &'a [Stack],
    surfaces: &'a [Surface],
}

impl<'a> Surfaces<'a> {
    fn ids(&self) -> impl Iterator<Item = (SurfaceId, &'a Surface)> {
        (0..).map(SurfaceId).zip(self.surfaces)
    }

    /// The surface that a path is on, with the path on it; the innermost, should there be several.
    fn of(&self, path: &RelPath) -> Option<(SurfaceId, RelPath)> {
        self.ids()
            .filter_map(|(id, surface)| Some((id, path.strip_prefix(&surface.at)?)))
            .min_by_key(|(_, rest)| rest.names().len())
    }

    fn stack(&self, surface: SurfaceId) -> &'a [Placed] {
        self.stacks.get(surface.index()).map_or(&[], |stack| stack.placed.as_slice())
    }

    fn origin(&self, surface: SurfaceId, placed: &Placed) -> EntryOrigin {
        EntryOrigin {
            source: placed.source,
            surface: Some(surface),
            path: self.surfaces[surface.index()].at.concat(&placed.entry.path),
            source_path: placed.entry.source_path.clone(),
        }
    }

    /// `earlier` as hidden by `later`; `None` if that does not hide it.
    fn hides(&self, surface: SurfaceId, later: &Placed, earlier: &Placed) -> Option<Hidden> {
        Some(Hidden {
            origin: self.origin(surface, earlier),
            by: self.origin(surface, later),
            reason: hiding_reason(&later.entry, &earlier.entry)?,
        })
    }

    /// The hidden entries of a surface that `is_asked_for`, each with the topmost that hides it.
    fn hidden(&self, surface: SurfaceId, is_asked_for: impl Fn(&Entry) -> bool) -> Vec<Hidden> {
        let stack = self.stack(surface);
        let hidden = stack.iter().filter(|placed| is_asked_for(&placed.entry));
        hidden
            .filter_map(|placed| self.hides(surface, stack.get(placed.hidden_by?)?, placed))
            .collect()
    }

    fn entry(&self, shown: &Shown, path: &RelPath, below: RelPath) -> Explanation {
        let above = path.names().len() - below.names().len();
        let winner = EntryOrigin {
            source: shown.source,
            surface: shown.surface,
            path: path.names()[..above].iter().cloned().collect(),
            source_path: shown.source_path.clone(),
        };
        let hidden = shown.surface.map_or_else(Vec::new, |id| self.hidden_by(id, &winner));
        Explanation::Entry { winner, below, hidden }
    }

    /// What the shown entry of this origin hides, also where a still later entry hides it too.
    fn hidden_by(&self, surface: SurfaceId, winner: &EntryOrigin) -> Vec<Hidden> {
        let stack = self.stack(surface);
        let at = &self.surfaces[surface.index()].at;
        let position = stack.iter().rposition(|placed| {
            placed.hidden_by.is_none()
                && placed.source == winner.source
                && winner.path.strip_prefix(at).as_ref() == Some(&placed.entry.path)
        });
        let Some(position) = position else { return Vec::new() };
        let later = &stack[position];
        let earlier = stack[..position].iter().filter(|placed| placed.source != later.source);
        earlier.filter_map(|placed| self.hides(surface, later, placed)).collect()
    }

    fn absence(&self, namespace: &Namespace, path: &RelPath) -> Absence {
        let existing = deepest_existing(namespace, path);
        let Some((surface, rest)) = self.of(path) else {
            let below = self.ids().find(|(_, surface)| starts_with(&surface.at, path));
            return match below {
                Some((surface, _)) => Absence::NoSurface { surface },
                None => Absence::NoSuchPlace { existing },
            };
        };
        let Some(first) = rest.first() else { return Absence::NoSurface { surface } };
        let is_git = rest.names().iter().any(|name| name.as_bytes() == b".git");
        if is_git || self.surfaces[surface.index()].never_shown.contains(first) {
            return Absence::NeverShown { surface };
        }
        let hidden = self.hidden(surface, |entry| {
            starts_with(&entry.path, &rest) || starts_with(&rest, &entry.path)
        });
        if hidden.is_empty() {
            Absence::NoEntry { surface, existing }
        } else {
            Absence::Hidden { surface, hidden }
        }
    }
}

/// The longest prefix of `path` that resolves.
fn deepest_existing(namespace: &Namespace, path: &RelPath) -> RelPath {
    let mut existing = path.clone();
    while namespace.resolve(&existing).is_none() {
        match existing.parent() {
            Some(parent) => existing = parent,
            None => break,
        }
    }
    existing
}
