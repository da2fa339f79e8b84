//! A snapshot takes its place after another one of the same view.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::snapshot::Snapshot;
use crate::union::namespace::Shown;
use crate::union::succession::{Remembered, Succession};

/// Gives `next` its serial number and its time (those of `before` if it is the same set), and the times and identities that it takes over from `before` (S57).
pub fn follow(before: &Snapshot, mut next: Snapshot, remembered: &mut Remembered) -> Snapshot {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    next.serial = before.serial + u64::from(next.id != before.id);
    if next.id == before.id {
        next.since = before.since;
    }
    let is_same = |old: &Shown, new: &Shown| {
        old.object == new.object
            && old.source_path == new.source_path
            && before.source(old.source).key == next.source(new.source).key
            && before.git_directory(old).is_same(next.git_directory(new))
    };
    let mut succession = Succession {
        is_same: &is_same,
        now_secs: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        serial: next.serial,
        remembered,
    };
    let namespace = succession.follow(&before.namespace, &next.namespace);
    next.namespace = namespace;
    next
}
