//! What an update did, as operators are told.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use tracing::warn;

use crate::control::protocol::{CHANGES_MAX, ChangeKind, ChangeReport, ReloadReport};
use crate::snapshot::collisions::Collision;
use crate::snapshot::status::SourceNote;
use crate::snapshot::{Fault, Snapshot, Source, SourceState};
use crate::union::change::{Change, Side};

/// At most so many new collisions are told one by one.
const COLLISIONS_MAX: usize = 20;

/// What following a move came to.
pub(super) struct Followed {
    /// The report. Its warnings are about what is not well and stays so until somebody acts.
    pub(super) report: ReloadReport,
    /// What of it is told once for as long as it stays the same.
    pub(super) trouble: String,
    /// What is hidden since now, a sentence each. Told once.
    pub(super) collisions: Vec<String>,
}

impl Followed {
    /// All of it, for whoever asked for it.
    pub(super) fn whole(self) -> ReloadReport {
        let Self { mut report, collisions, trouble: _ } = self;
        report.warnings.extend(collisions);
        report
    }
}

/// Logs what is hidden since now, and tells it a sentence each; both within bounds.
pub(super) fn tell(collisions: &[Collision]) -> Vec<String> {
    let mut said = Vec::new();
    for collision in collisions.iter().take(COLLISIONS_MAX) {
        let Collision { path, source, hidden_path, hidden_source } = collision;
        warn!(%path, source, hidden = hidden_source, hidden_path = %hidden_path, "an entry hides another since now");
        said.push(collision.to_string());
    }
    if let Some(more @ 1..) = collisions.len().checked_sub(COLLISIONS_MAX) {
        warn!(more, "more entries hide others since now; `overlayfs-mount check` shows them");
        said.push(format!("and {more} more; `overlayfs-mount check` shows them"));
    }
    said
}

/// What of the sources' states a reader of `status.json` can see.
pub(super) fn states(snapshot: &Snapshot) -> Vec<&SourceState> {
    snapshot.sources.iter().map(|source| &source.state).collect()
}

/// True if the sources have the same `.git`, of two snapshots of one set.
pub(super) fn has_same_git(before: &Snapshot, next: &Snapshot) -> bool {
    let mut pairs = before.sources.iter().zip(&next.sources);
    pairs.all(|(before, next)| before.git_directory.is_same(&next.git_directory))
}

/// The sources that should have a `.git` and have none, a sentence each.
pub(super) fn without_git(snapshot: &Snapshot) -> Vec<String> {
    let left_out = snapshot.sources.iter().filter_map(|source| {
        let reason = source.git_directory.left_out()?;
        Some(format!("source `{}` has no `.git`: {reason}", source.label))
    });
    left_out.collect()
}

/// Since when each source is as it is: as before, unless its revision or what is wrong with it is another one.
pub(super) fn notes(
    before: &Snapshot,
    next: &Snapshot,
    stale: Vec<(usize, Fault)>,
) -> Vec<SourceNote> {
    // A cure names a line, which moves with what stands above it.
    let error = |fault: Option<&Fault>| fault.map(|fault| fault.error.clone());
    let mut stale: HashMap<_, _> = stale.into_iter().collect();
    let note = |(index, source): (usize, &Arc<Source>)| {
        let stale = stale.remove(&index);
        let old = before.sources.iter().zip(0..).find(|(old, _)| old.key == source.key);
        let since = old.and_then(|(old, position)| {
            let note = before.notes.get::<usize>(position);
            let is_same = old.revision == source.revision
                && old.state.word() == source.state.word()
                && old.state.error() == source.state.error()
                && error(note.and_then(|note| note.stale.as_ref())) == error(stale.as_ref());
            is_same.then(|| note.map_or(before.since, |note| note.since))
        });
        SourceNote { since: since.unwrap_or_else(SystemTime::now), stale }
    };
    next.sources.iter().enumerate().map(note).collect()
}

/// What `reload` answers.
pub(super) fn report(
    before: &Snapshot,
    now: &Snapshot,
    changes: &[Change],
    warnings: Vec<String>,
) -> ReloadReport {
    let first = changes.iter().take(CHANGES_MAX).map(|change| ChangeReport {
        path: change.path.to_string(),
        change: match (&change.before, &change.after) {
            (Side::Absent, _) => ChangeKind::Appeared,
            (_, Side::Absent) => ChangeKind::Vanished,
            (Side::Directory(_) | Side::Entry(_), Side::Directory(_) | Side::Entry(_)) => {
                ChangeKind::Changed
            }
        },
    });
    ReloadReport {
        revision: now.id.to_string(),
        previous: (now.id != before.id).then(|| before.id.to_string()),
        changed: changes.len(),
        changes: first.collect(),
        warnings,
    }
}
