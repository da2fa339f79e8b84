//! A flip: the next snapshot takes the place of the current one, for everybody at one instant (S58).
//!
//! The kernel keeps names and listings without end, so each that changes must be taken from it; and nobody may see the new set and then,
//! in something the kernel had kept, the old one. Hence the phases:
//!
//! 1. Names that differ are answered from the old set, to be kept not at all.
//! 2. A fence: answers given before that are with the kernel.
//! 3. Each such name is taken from the kernel, absence included. From now on nothing of the old set is kept under these names.
//! 4. The new snapshot is published in one step.
//! 5. A second fence, for listings of the old set; then each directory that changed loses its listing and attributes. One name of it is
//!    invalidated once more first: that takes the directory's lock, so that a listing being read is over.
//! 6. What nobody can come to any more is given up, now and then (`sweep`).
//!
//! Runs in one thread that answers no requests and holds no lock: the kernel may answer a notification only after a request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::View;
use super::kept::Kept;
use super::merged::merged_key;
use super::moment::{Moment, Touched};
use super::nodes::Number;
use super::overlay;
use crate::snapshot::Snapshot;
use crate::union::change::{Change, changes};
use crate::union::name::{Name, RelPath};
use crate::union::namespace::{Item, Shown};
use crate::union::revision::RevisionSetId;

/// What a flip needs of the kernel. Both wait until the kernel has done it; what it did not know is no error.
pub trait Kernel {
    /// Makes it forget what a name of a directory leads to, or that it leads to nothing.
    fn forget_name(&self, directory: Number, name: &[u8]);
    /// As [`Kernel::forget_name`], for several names.
    fn forget_names(&self, directory: Number, names: &[&Name]) {
        for name in names {
            self.forget_name(directory, name.as_bytes());
        }
    }
    /// Makes it forget the listing and the attributes of a directory.
    fn forget_listing(&self, directory: Number);
    /// Whether it knows a node of which an earlier process may have told it. True where that cannot be found out.
    fn knows(&self, number: Number) -> bool {
        let _ = number;
        true
    }
}

/// How long sets that were left are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping {
    /// At least so many, the current one included.
    pub sets: usize,
    /// And at least those that were left so recently.
    pub time: Duration,
}

/// So many of the sets that were left last stay in memory: streams that began before a flip go on in them.
const RECENT: usize = 2;

/// The most sets that are kept, however recently they were left: directory offsets can tell no more apart.
const SETS_MAX: usize = 1024;

impl View {
    /// Replaces the current snapshot by `next`, which follows it (`union::succession`). Returns the names that changed, sorted.
    ///
    /// Not to be called by two threads at once, nor by one that answers requests.
    pub fn flip(&self, next: Arc<Snapshot>, keeping: Keeping, kernel: &dyn Kernel) -> Vec<Change> {
        let moment = self.now.load();
        let before = moment.snapshot.clone();
        let is_same = |old: &Shown, new: &Shown| is_same(&before, &next, old, new);
        let changes = changes(&before.namespace, &next.namespace, is_same);
        let kept = keep(&moment, &next, keeping);
        let era = self.numbers.begin_era();
        for old in kept.iter().rev().skip(RECENT) {
            old.let_go(self.archive());
        }
        let touched = Arc::new(touched(&changes, &moment, &next, &kept));
        self.now.store(Moment {
            snapshot: before,
            kept: moment.kept.clone(),
            touched: Some(touched.clone()),
        });
        self.fence.wait();
        let by_directory = self.known_directories(&moment.snapshot, &touched);
        for (directory, names) in &by_directory {
            kernel.forget_names(*directory, names);
        }
        // Whoever comes next and knows of the set has to know this.
        self.numbers.note_leaving(era - 1, self.touch_leaving(&moment.snapshot, &changes, era - 1));
        let since = self.readable_since(&moment, &next, era);
        if let Some(journal) = &self.journal {
            journal.shown(&next, since);
        }
        let serial = next.serial;
        let oldest = oldest(&kept, serial);
        self.now.store(Moment { snapshot: next, kept: kept.into(), touched: None });
        self.fence.wait();
        self.numbers.published(serial, since, oldest);
        for (directory, names) in &by_directory {
            if let Some(name) = names.first() {
                kernel.forget_name(*directory, name.as_bytes());
            }
            kernel.forget_listing(*directory);
        }
        self.sweep_if_due(kernel);
        self.numbers.shrink_journal(self.past.as_deref());
        changes
    }

    /// Shows the sets that an earlier daemon kept too, oldest first. They are older than all that this view has left; what it shows was
    /// not left.
    ///
    /// Not to be called by two threads at once, nor by one that answers requests; the same holds of [`View::forget_kept`].
    pub fn restore(&self, mut earlier: Vec<Kept>, kernel: &dyn Kernel) {
        let moment = self.now.load();
        earlier.retain(|kept| kept.id() != moment.snapshot.id);
        let paths: Vec<_> = earlier.iter().map(|kept| overlay::revision_path(&kept.id())).collect();
        earlier.extend(moment.kept.iter().cloned());
        self.replace_kept(earlier, paths, kernel);
    }

    /// Makes the kernel forget sets that were left, and forgets them: for when the view may no longer show what they show.
    pub fn forget_kept(&self, is_forbidden: impl Fn(&RevisionSetId) -> bool, kernel: &dyn Kernel) {
        let moment = self.now.load();
        let (left, kept): (Vec<_>, Vec<_>) =
            moment.kept.iter().cloned().partition(|kept| is_forbidden(&kept.id()));
        let left = left.iter().map(Kept::id).filter(|id| *id != moment.snapshot.id);
        let paths: Vec<_> = left.map(|id| overlay::revision_path(&id)).collect();
        self.replace_kept(kept, paths, kernel);
    }

    /// Keeps these sets from now on, and makes the kernel forget what it knows of these paths.
    fn replace_kept(&self, kept: Vec<Kept>, paths: Vec<RelPath>, kernel: &dyn Kernel) {
        let snapshot = self.now.load().snapshot.clone();
        self.now.store(Moment { snapshot: snapshot.clone(), kept: kept.into(), touched: None });
        self.fence.wait();
        for (directory, names) in self.known_directories(&snapshot, &Touched::new(paths)) {
            kernel.forget_names(directory, &names);
            kernel.forget_listing(directory);
        }
    }

    /// The era since which the next set can be read: this one, unless it was left and comes back while it can still be read.
    fn readable_since(&self, moment: &Moment, next: &Snapshot, era: u32) -> u32 {
        let current = (moment.snapshot.id, Some(moment.snapshot.serial));
        let kept = moment.kept.iter().map(|kept| (kept.id(), kept.serial()));
        let mut same = kept.chain([current]).filter(|(id, _)| *id == next.id);
        let before = same.find(|(_, serial)| *serial != Some(next.serial));
        before.map_or(era, |(_, serial)| self.numbers.shown_since(serial))
    }

    /// The touched names by the directory that holds them, as far as the kernel knows the directory: of others it knows no names.
    fn known_directories<'a>(
        &self,
        before: &Snapshot,
        touched: &'a Touched,
    ) -> BTreeMap<Number, Vec<&'a Name>> {
        let mut by_directory: BTreeMap<Number, Vec<&Name>> = BTreeMap::new();
        let mut last: Option<(RelPath, Option<Number>)> = None;
        for path in touched.paths() {
            let (Some(parent), Some(name)) = (path.parent(), path.last()) else { continue };
            let number = match &last {
                Some((known, number)) if *known == parent => *number,
                Some(_) | None => self.known_directory(before, &parent),
            };
            if let Some(number) = number {
                by_directory.entry(number).or_default().push(name);
            }
            last = Some((parent, number));
        }
        by_directory
    }

    /// The number of a directory that can change, if the kernel knows it.
    pub(super) fn known_directory(&self, before: &Snapshot, path: &RelPath) -> Option<Number> {
        let key = match before.namespace.resolve(path) {
            _ if path.is_root() => return Some(self.seat.root),
            _ if *path == overlay::path() => overlay::key(),
            _ if *path == overlay::revisions_path() => overlay::revisions_key(),
            Some((Item::Directory(directory), _)) => merged_key(None, path, directory.born),
            Some((Item::Entry(_), _)) | None => return None,
        };
        self.numbers.known(key).filter(|number| self.may_be_known(*number))
    }
}

/// True if an entry that stands at one path in both snapshots is the same: source, place there, object and time.
fn is_same(before: &Snapshot, next: &Snapshot, old: &Shown, new: &Shown) -> bool {
    old.object == new.object
        && old.time_secs == new.time_secs
        && old.source_path == new.source_path
        && before.source(old.source).key == next.source(new.source).key
        && before.git_directory(old).is_same(next.git_directory(new))
}

/// The sets that are kept once `next` is current.
fn keep(moment: &Moment, next: &Snapshot, keeping: Keeping) -> Vec<Kept> {
    let now = Instant::now();
    let mut kept = moment.kept.to_vec();
    // The same set may be published again, with other notes about its sources.
    if moment.snapshot.serial != next.serial {
        kept.push(Kept::leaving(moment.snapshot.clone()));
    }
    let is_spare = |kept: &Kept, len: usize| {
        len > SETS_MAX || (len >= keeping.sets && now.duration_since(kept.left) >= keeping.time)
    };
    while kept.first().is_some_and(|oldest| is_spare(oldest, kept.len())) {
        kept.remove(0);
    }
    kept
}

/// The place in the order of snapshots of the oldest set that can be read; none if another mount left it.
pub(super) fn oldest(kept: &[Kept], current: u64) -> Option<u64> {
    kept.iter().map(Kept::serial).chain([Some(current)]).min().flatten()
}

/// All names that lead elsewhere after the flip: those of the namespace, and those of `.overlay`.
fn touched(changes: &[Change], moment: &Moment, next: &Snapshot, kept: &[Kept]) -> Touched {
    let changed = changes.iter().map(|change| change.path.clone());
    let after: Vec<_> = kept.iter().map(Kept::id).chain([next.id]).collect();
    let before = moment.ids();
    let appeared = after.iter().filter(|id| !before.contains(id));
    let vanished = before.iter().filter(|id| !after.contains(id));
    let revisions = appeared.chain(vanished).map(overlay::revision_path);
    Touched::new(changed.chain(overlay::text_paths()).chain(revisions))
}
