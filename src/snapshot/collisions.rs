//! Which entries hide others, and which of them did not before: that somebody's entry has vanished is news to them (S71).

use std::collections::HashSet;
use std::fmt;

use super::Snapshot;
use crate::union::name::RelPath;
use crate::union::source::SourceName;

/// An entry that hides another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collision {
    /// Where it is in the view.
    pub path: RelPath,
    /// Its source, as commands call it.
    pub source: String,
    /// Where the hidden one would be.
    pub hidden_path: RelPath,
    /// The source of the hidden one, as commands call it.
    pub hidden_source: String,
}

impl fmt::Display for Collision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, source, hidden_path, hidden_source } = self;
        write!(f, "`{path}` of `{source}` hides that of `{hidden_source}`")?;
        if hidden_path != path {
            write!(f, " at `{hidden_path}`")?;
        }
        Ok(())
    }
}

/// Tells a collision from all others, whatever the revisions of the sources: path and source of the winner, and of the hidden one.
type CollisionKey<'a> = ((RelPath, &'a SourceName), (RelPath, &'a SourceName));

/// The collisions of a snapshot, surface by surface.
fn all(snapshot: &Snapshot) -> impl Iterator<Item = (CollisionKey<'_>, Collision)> {
    let stacks = snapshot.surfaces.iter().zip(&snapshot.stacks);
    stacks.flat_map(move |(surface, stack)| {
        stack.placed.iter().flat_map(move |winner| {
            winner.hides.iter().map(move |position| {
                let hidden = &stack.placed[*position];
                let (above, below) =
                    (snapshot.source(winner.source), snapshot.source(hidden.source));
                let path = surface.at.concat(&winner.entry.path);
                let hidden_path = surface.at.concat(&hidden.entry.path);
                let collision = Collision {
                    path: path.clone(),
                    source: above.label.clone(),
                    hidden_path: hidden_path.clone(),
                    hidden_source: below.label.clone(),
                };
                (((path, &above.name), (hidden_path, &below.name)), collision)
            })
        })
    })
}

/// How many entries of a snapshot are hidden.
pub fn hidden_entries(snapshot: &Snapshot) -> usize {
    let placed = snapshot.stacks.iter().flat_map(|stack| &stack.placed);
    placed.filter(|placed| placed.hidden_by.is_some()).count()
}

/// The collisions of `next` that `before` did not have, each once.
pub fn new_collisions(before: &Snapshot, next: &Snapshot) -> Vec<Collision> {
    let mut known: HashSet<_> = all(before).map(|(key, _)| key).collect();
    let new = all(next).filter_map(|(key, collision)| known.insert(key).then_some(collision));
    new.collect()
}
