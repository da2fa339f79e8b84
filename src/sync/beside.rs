//! The first snapshot of a view beside others: what they show too it shows with the same times, so that the kernel caches it once (S90).

use std::collections::HashMap;
use std::sync::Arc;

use crate::snapshot::Snapshot;
use crate::union::name::RelPath;
use crate::union::namespace::{Directory, Item, Namespace, Shown};
use crate::union::object::Object;

/// What an entry is, times apart.
type EntryFingerprint = ([u8; 16], RelPath, Object);

/// Where another view shows the same set of the same sources, its snapshot; else `first` with the times that others show its entries with, where
/// they differ the latest.
pub fn beside(first: Snapshot, others: &[Arc<Snapshot>]) -> Arc<Snapshot> {
    if let Some(same) = others.iter().find(|other| is_same(&first, other)) {
        return same.clone();
    }
    let mut times: HashMap<EntryFingerprint, i64> = HashMap::new();
    for other in others {
        for (_, shown) in other.namespace.root().entries() {
            let time = times.entry(identity(other, shown)).or_insert(shown.time_secs);
            *time = shown.time_secs.max(*time);
        }
    }
    let root = with_times(&first, first.namespace.root(), &times);
    Arc::new(Snapshot { namespace: Namespace::from_root(root), ..first })
}

/// True if both are the same set, of sources at the same places.
fn is_same(one: &Snapshot, other: &Snapshot) -> bool {
    let described = |snapshot: &Snapshot| {
        let sources = snapshot.sources.iter();
        sources
            .map(|source| {
                (source.key, source.label.clone(), source.state.clone(), source.visibility)
            })
            .collect::<Vec<_>>()
    };
    one.id == other.id && described(one) == described(other)
}

fn identity(snapshot: &Snapshot, shown: &Shown) -> EntryFingerprint {
    let source = snapshot.source(shown.source);
    (source.key, shown.source_path.clone(), shown.object.clone())
}

fn with_times(
    snapshot: &Snapshot,
    directory: &Arc<Directory>,
    times: &HashMap<EntryFingerprint, i64>,
) -> Arc<Directory> {
    let items = directory.items.iter().map(|(name, item)| {
        let item = match item {
            Item::Directory(directory) => Item::Directory(with_times(snapshot, directory, times)),
            Item::Entry(shown) => match times.get(&identity(snapshot, shown)) {
                Some(time) if *time != shown.time_secs => {
                    Item::Entry(Arc::new(Shown { time_secs: *time, ..Shown::clone(shown) }))
                }
                Some(_) | None => Item::Entry(shown.clone()),
            },
        };
        (name.clone(), item)
    });
    let (time_secs, born) = (directory.time_secs, directory.born);
    Arc::new(Directory { items: items.collect(), time_secs, born })
}
