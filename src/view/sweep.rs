//! Gives up the numbers of what nobody can come to any more, so that memory does not grow with the number of flips (S111).
//!
//! A block of numbers is kept while one of these holds:
//!
//! - somebody asked for it since the oldest set that can be read was shown: whatever was found in a set that is kept is among these, or was
//!   in the current set since then, which a flip that takes it away notes;
//! - the current set has it, or one of which the kernel knows a directory, whether anybody asked or not;
//! - the kernel knows a node of it;
//! - it is of what a frozen directory holds, and that directory's own number is kept: so whoever holds a directory keeps all below it;
//! - it is of a directory above one that is kept, or the only one left with files that are: the next process comes to these through it;
//! - it is of what is live, and a directory that may hold it is kept and was not read (`on_disk`): what those hold that were counts as asked for.
//!
//! Requests that are under way hold numbers that the kernel does not know yet. They began after the current set was published, and a fence
//! lies between: so each block that they asked for was asked for too late to be given up, and all others are in directories that the
//! kernel knows. What is asked for while this runs is looked at once more under the lock that removes it.
//!
//! Of what an earlier process told the kernel is not known what it forgot before that process died: the kernel is asked. Nor is known what was
//! asked for then, but in the journal are the eras: of each set since when it can be read, of each block when it was given out and until when
//! the current set had it. Whatever can be found in a set that is kept was given out or was current since that one was shown.

use std::collections::HashSet;
use std::sync::Arc;

use super::View;
use super::blocks::{Block, Floors, Tie};
use super::flip::{Kernel, oldest};
use super::lookup::{entry_key, live_key};
use super::merged::Merged;
use super::nodes::Number;
use super::numbers::NodeKey;
use super::overlay;
use crate::snapshot::Snapshot;
use crate::store::walk;
use crate::union::change::{Change, Side};
use crate::union::name::Name;
use crate::union::namespace::{Directory, Item, Shown};
use crate::union::object::Object;

/// A block as it was when the sweep began.
struct Old {
    key: NodeKey,
    first: u32,
    len: u32,
    tie: Tie,
    is_kept: bool,
}

/// What directories hold whose numbers are kept.
#[derive(Default)]
struct InKept {
    /// The first numbers of the files in frozen directories.
    files: HashSet<u32>,
    /// What live directories are wherever they are shown.
    folders: HashSet<u32>,
}

impl InKept {
    /// Whether a block of files is in such a directory.
    fn has(&self, block: &Block) -> bool {
        self.files.contains(&block.first)
            || matches!(block.tie, Tie::In(folder) if self.folders.contains(&folder))
    }
}

/// Whether the kernel knows one of these numbers.
struct Known<'a> {
    /// Those that this process knows of, sorted.
    numbers: Vec<u32>,
    /// Numbers below were given out by an earlier process.
    past_end: u64,
    kernel: &'a dyn Kernel,
    /// The directories of which all that they have on disk was counted as asked for.
    read: HashSet<u32>,
}

impl Known<'_> {
    fn any(&self, first: u32, len: u32) -> bool {
        let after = self.numbers.partition_point(|number| *number < first);
        if self.numbers.get(after).is_some_and(|number| number - first < len) {
            return true;
        }
        let end = u64::from(first) + u64::from(len);
        end <= self.past_end
            && (first..first.saturating_add(len)).any(|n| self.kernel.knows(Number(n)))
    }
}

impl View {
    /// Gives up what nobody can come to any more, if there may be enough of it.
    pub(super) fn sweep_if_due(&self, kernel: &dyn Kernel) {
        let numbers = &self.numbers;
        let is_due = numbers.places.is_due() || numbers.is_alone() && numbers.all_files().is_due();
        // While a set can be read that was there from the beginning, nothing is old.
        if is_due && self.floor() > 0 {
            self.sweep(kernel);
        }
    }

    /// Gives up what nobody can come to any more; the files only if no other view has them too.
    ///
    /// Only after a flip, in its thread.
    pub(super) fn sweep(&self, kernel: &dyn Kernel) {
        self.sweep_since(Floors::all(self.floor()), kernel);
    }

    /// Gives up what is live and gone from the disk, if there may be enough of it: also where nothing flips for long.
    ///
    /// Only in the thread that flips.
    pub fn sweep_live_if_due(&self, kernel: &dyn Kernel) {
        self.pieces.forget_old();
        let numbers = &self.numbers;
        let of_files = || numbers.is_alone() && numbers.all_files().is_live_due();
        if numbers.places.is_live_due() || of_files() {
            let floors = Floors { frozen: None, live: self.begin_live([self]) };
            self.sweep_since(floors, kernel);
            self.numbers.shrink_journal(self.past.as_deref());
        }
    }

    /// Begins an era, and waits for the requests of these views that began before: the kernel knows by then what they found.
    fn begin_live<'a>(&self, views: impl IntoIterator<Item = &'a Self>) -> u32 {
        let era = self.numbers.begin_era();
        views.into_iter().for_each(|view| view.fence.wait());
        era
    }

    fn sweep_since(&self, floors: Floors, kernel: &dyn Kernel) {
        let mut read = HashSet::new();
        let numbers = self.touch_what_is_there(&mut read);
        let past_end = self.past.as_ref().map_or(0, |past| past.next_number());
        let known = Known { numbers, past_end, kernel, read };
        let (mut places, in_kept) = self.old_places(&known, floors);
        let is_alone = self.numbers.is_alone();
        let files = if is_alone { self.old_files(&known, &in_kept, floors) } else { Vec::new() };
        self.keep_ways(&mut places, &in_kept, &files);
        let mut given_up = self.numbers.places.remove(given_up(&places), floors);
        if is_alone {
            given_up.extend(self.numbers.all_files().remove(files, floors));
        }
        self.numbers.note_given_up(&given_up);
    }

    /// Gives up files that no view of a superblock can come to any more, if there may be enough of them. This one stands before the views,
    /// and for what is held of views that are gone.
    pub(super) fn sweep_files(&self, views: &[Arc<Self>], kernel: &dyn Kernel) {
        let files = self.numbers.all_files();
        let (is_due, is_live_due) = (files.is_due(), files.is_live_due());
        if views.is_empty() || !is_due && !is_live_due {
            return;
        }
        let all = views.iter().map(AsRef::as_ref).chain([self]);
        let live = is_live_due.then(|| self.begin_live(all));
        let floor_of = |view: &Self| {
            let floor = view.floor();
            Floors { frozen: is_due.then_some(floor), live: live.unwrap_or(floor) }
        };
        let floors: Vec<_> = views.iter().map(|view| floor_of(view)).collect();
        let mut read = HashSet::new();
        for view in views {
            view.touch_what_is_there(&mut read);
        }
        let past_end = self.past.as_ref().map_or(0, |past| past.next_number());
        let known = Known { numbers: self.nodes.known().0, past_end, kernel, read };
        // This view never flips: it gives nothing up.
        let (_, mut in_kept) = self.old_places(&known, Floors::all(0));
        for (view, floor) in views.iter().zip(&floors) {
            let (_, in_view) = view.old_places(&known, *floor);
            in_kept.files.extend(in_view.files);
            in_kept.folders.extend(in_view.folders);
        }
        let frozen = floors.iter().filter_map(|floors| floors.frozen).min();
        let live = floors.iter().map(|floors| floors.live).min().unwrap_or(0);
        let floors = Floors { frozen, live };
        let files = self.old_files(&known, &in_kept, floors);
        self.numbers.note_given_up(&self.numbers.all_files().remove(files, floors));
    }

    /// The era before which nobody has asked for anything that a set has that can be read.
    fn floor(&self) -> u32 {
        let moment = self.now.load();
        self.numbers.floor(oldest(&moment.kept, moment.snapshot.serial))
    }

    /// Counts all as asked for that somebody can come to by its name, now or below a directory that he holds. Returns what the kernel knows;
    /// `read` gets the directories of which all on disk was counted.
    fn touch_what_is_there(&self, read: &mut HashSet<u32>) -> Vec<u32> {
        let moment = self.now.load();
        let era = self.numbers.era();
        let (files, places) = overlay::keys(&moment);
        for key in &files {
            let _has_one = self.numbers.all_files().touch(key, era);
        }
        for key in &places {
            let _has_one = self.numbers.places.touch(key, era);
        }
        self.touch(&moment.snapshot, None, era, read);
        self.touch(&moment.snapshot, Some(&moment.snapshot), era, read);
        let (numbers, sets) = self.nodes.known();
        for set in sets {
            self.touch(&set, Some(&set), era, read);
        }
        numbers
    }

    /// Counts directories and entries of a set as asked for, at the place of the view or where sets are kept.
    fn touch(
        &self,
        snapshot: &Snapshot,
        pin: Option<&Arc<Snapshot>>,
        era: u32,
        read: &mut HashSet<u32>,
    ) {
        self.touch_on_disk(snapshot, pin, era, read);
        let (pin, directory) = (pin.cloned(), snapshot.namespace.root().clone());
        let root = Merged { pin, born: directory.born, ..Merged::root(self.seat.clone()) };
        let _numbers = self.touch_below(snapshot, vec![(root, directory)], era);
    }

    /// Counts what a flip takes away as asked for until the end of this era: so long it can be found, and from then on while `before` is kept. Returns
    /// the first numbers of what has some.
    pub(super) fn touch_leaving(
        &self,
        before: &Snapshot,
        changes: &[Change],
        era: u32,
    ) -> Vec<u32> {
        let (mut found, mut left) = (Vec::new(), Vec::new());
        for change in changes {
            let (Some(path), Some(name)) = (change.path.parent(), change.path.last()) else {
                continue;
            };
            let above = Merged { path, ..Merged::root(self.seat.clone()) };
            match &change.before {
                Side::Absent => {}
                Side::Directory(directory) => {
                    left.push((above.child(above.parent, name, directory.born), directory.clone()));
                }
                Side::Entry(shown) => {
                    found.extend(self.touch_entry(before, &above, name, shown, era));
                }
            }
        }
        found.extend(self.touch_below(before, left, era));
        found
    }

    /// Counts directories, and all directories and entries below them, as asked for. Returns the first numbers of what has some.
    fn touch_below(
        &self,
        snapshot: &Snapshot,
        mut left: Vec<(Merged, Arc<Directory>)>,
        era: u32,
    ) -> Vec<u32> {
        let mut found = Vec::new();
        while let Some((merged, directory)) = left.pop() {
            found.extend(self.numbers.places.touch(&merged.key(), era));
            for (name, item) in &directory.items {
                match item {
                    Item::Directory(below) => {
                        let merged = merged.child(merged.parent, name, below.born);
                        left.push((merged, below.clone()));
                    }
                    Item::Entry(shown) => {
                        found.extend(self.touch_entry(snapshot, &merged, name, shown, era));
                    }
                }
            }
        }
        found
    }

    fn touch_entry(
        &self,
        snapshot: &Snapshot,
        merged: &Merged,
        name: &Name,
        shown: &Shown,
        era: u32,
    ) -> Option<u32> {
        let source = snapshot.source(shown.source);
        if let Object::Live { kind, .. } = &shown.object {
            if kind.is_directory() {
                return None;
            }
            // It may be another one by now.
            let found = walk::find(source.store.as_ref(), &shown.source_path);
            let found = found.unwrap_or_else(|_| Some(shown.object.clone()))?;
            let key = live_key(source, &shown.source_path, &found, 0);
            return self.numbers.all_files().touch(&key, era);
        }
        let path = merged.numbered_path(shown).join(name);
        let key = entry_key(source, &path, shown);
        let is_directory = shown.object.kind().is_directory();
        let of = if is_directory { &self.numbers.places } else { self.numbers.all_files() };
        of.touch(&key, era)
    }

    /// All blocks of what is not a file, and what is in directories that are kept.
    fn old_places(&self, known: &Known<'_>, floors: Floors) -> (Vec<Old>, InKept) {
        let mut places = Vec::new();
        self.numbers.places.each(|key, block| {
            let (key, first, len, tie) = (*key, block.first, block.len, block.tie);
            places.push(Old { key, first, len, tie, is_kept: !floors.is_old(block) });
        });
        // A directory has its number before what it holds.
        places.sort_unstable_by_key(|old| (old.first, old.len));
        let mut in_kept = InKept::default();
        for index in 0..places.len() {
            let (above, old) = places.split_at_mut(index);
            let old = &mut old[0];
            let is_above_kept = match old.tie {
                Tie::Free => false,
                Tie::In(_) | Tie::Forever => true,
                Tie::Tree { tree, .. } => self.is_kept(above, tree),
                Tie::Live { above: number, .. } => {
                    !known.read.contains(&number) && self.is_kept(above, number)
                }
            };
            old.is_kept = old.is_kept || is_above_kept || known.any(old.first, old.len);
            match old.tie {
                Tie::Tree { files, .. } if old.is_kept => {
                    in_kept.files.insert(files);
                }
                Tie::Live { folder, .. } if old.is_kept && !known.read.contains(&old.first) => {
                    in_kept.folders.insert(folder);
                }
                Tie::Tree { .. } | Tie::Live { .. } | Tie::Free | Tie::In(_) | Tie::Forever => {}
            }
        }
        (places, in_kept)
    }

    /// Whether the number of a directory is kept; `places` are those with lower numbers.
    fn is_kept(&self, places: &[Old], number: u32) -> bool {
        let is_root = Number(number) == self.seat.root || Number(number) == Number::ROOT;
        is_root || holder(places, number).is_some_and(|index| places[index].is_kept)
    }

    /// Keeps what leads to the numbers that are kept: the next process makes a node again from the directory that holds it, and that one from
    /// the one above it. Files can be in several; one that is kept is enough.
    fn keep_ways(&self, places: &mut [Old], in_kept: &InKept, files: &[(NodeKey, u32)]) {
        let given_up: HashSet<_> = files.iter().map(|(key, _)| *key).collect();
        let mut alone = HashSet::new();
        self.numbers.all_files().each(|key, block| {
            if !in_kept.has(block) && !given_up.contains(key) {
                alone.insert(block.first);
            }
        });
        for old in places.iter_mut() {
            if let Tie::Tree { files, .. } = old.tie
                && alone.remove(&files)
            {
                old.is_kept = true;
            }
        }
        for index in (0..places.len()).rev() {
            let (above, old) = places.split_at_mut(index);
            if let Tie::Live { above: number, .. } | Tie::Tree { tree: number, .. } = old[0].tie
                && old[0].is_kept
                && let Some(index) = holder(above, number)
            {
                above[index].is_kept = true;
            }
        }
    }

    /// Files that nobody can come to: in none of the directories that are kept, asked for by none and not known to the kernel.
    fn old_files(
        &self,
        known: &Known<'_>,
        in_kept: &InKept,
        floors: Floors,
    ) -> Vec<(NodeKey, u32)> {
        let mut old = Vec::new();
        self.numbers.all_files().each(|key, block| {
            let is_free = floors.is_old(block) && block.tie != Tie::Forever;
            if is_free && !in_kept.has(block) {
                old.push((*key, block.first, block.len));
            }
        });
        old.retain(|(_, first, len)| !known.any(*first, *len));
        old.into_iter().map(|(key, first, _)| (key, first)).collect()
    }
}

/// The block that has a number, among some that are sorted by their first numbers.
fn holder(places: &[Old], number: u32) -> Option<usize> {
    let after = places.partition_point(|old| old.first <= number);
    let holds = |old: &Old| number - old.first < old.len;
    let below = places[..after].iter().enumerate().rev();
    let mut below = below.take_while(|(_, old)| old.len == 0 || holds(old));
    below.find(|(_, old)| holds(old)).map(|(index, _)| index)
}

fn given_up(blocks: &[Old]) -> Vec<(NodeKey, u32)> {
    blocks.iter().filter(|old| !old.is_kept).map(|old| (old.key, old.first)).collect()
}
