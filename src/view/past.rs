//! What an earlier process of the same mount did: read from its journal.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::mem;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use quick_cache::sync::Cache;

use super::journal::{FORM, Journal, Record, What};
use super::nodes::Number;
use super::numbers::{self, NodeKey};
use super::past_view::{PastView, StillOpen};
use super::reading::{BlockRecord, Reading};
use super::records::{Appending, RecordPlace, Records, bytes_at, frame, framed, read_at};
use super::streams::{Begins, Begun, NOTED_MAX};
use super::superblock::ViewId;
use super::tree::Tree;
use crate::store::patience::patiently;

/// So many directories that were made again stay at hand for their children.
const TREES: usize = 1024;

/// What an earlier process of the same mount did.
#[derive(Debug)]
pub struct Past {
    file: File,
    /// When the superblock was first shown, in seconds since 1970.
    pub(super) started_secs: i64,
    handshake: Option<Handshake>,
    /// The views that have not left, until somebody takes them over; the only view is among them.
    views: BTreeMap<ViewId, PastView>,
    /// All blocks that were not given up, by their first number. Locked while the file is read: their records may move.
    blocks: RwLock<Vec<BlockRecord>>,
    /// The last view that there was.
    last_view: ViewId,
    /// The first number that was never given out.
    end: u64,
    /// The names of the blocks of files, until a view takes them over.
    pub(super) files: Vec<(NodeKey, numbers::Block)>,
    pub(super) trees: Cache<(ViewId, Number), Arc<Tree>>,
    /// The files that are open in a way that has to be gone on with.
    open: BTreeMap<Number, StillOpen>,
    /// The last era of the process that wrote it last.
    era: u32,
    /// The listings of live directories that were begun, by their view.
    listings: BTreeMap<ViewId, Begins>,
}

/// What the kernel and an earlier process agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// The first message of the kernel.
    pub request: Vec<u8>,
    /// The answer to it.
    pub reply: Vec<u8>,
}

/// What is known of a journal beside what it says.
struct Rest {
    /// By first number, the last era in which a block was in the set that was shown then, where that is known.
    leaving: HashMap<u32, u32>,
    /// Where its records begin and end.
    span: (u64, u64),
}

/// What is alive of a journal, written once more.
pub(super) struct Alive {
    /// Records with their lengths.
    pub(super) records: Vec<u8>,
    /// Where each record of a block was in the file, and where it is in `records`.
    places: HashMap<u64, u64>,
}

impl Past {
    /// Reads a journal from its beginning, and goes on with it. What keeps it from being read and may pass is waited for.
    ///
    /// # Errors
    /// It cannot be read, now and in a while, or is of another version of this program.
    pub fn read(file: File) -> io::Result<(Self, Journal)> {
        let (past, Rest { span, .. }) = patiently(|| Self::of(&file))?;
        Appending::after(file, span).map(|appending| (past, Journal::at(appending)))
    }

    fn new(file: &File) -> io::Result<Self> {
        Ok(Self {
            file: file.try_clone()?,
            started_secs: 0,
            handshake: None,
            views: BTreeMap::new(),
            blocks: RwLock::default(),
            last_view: ViewId::FIRST,
            end: u64::from(Number::ROOT.0) + 1,
            files: Vec::new(),
            trees: Cache::new(TREES),
            open: BTreeMap::new(),
            era: 0,
            listings: BTreeMap::new(),
        })
    }

    /// What a journal says.
    fn of(file: &File) -> io::Result<(Self, Rest)> {
        let damaged = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason.to_owned());
        let mut past = Self::new(file)?;
        let mut records = Records::new(file)?;
        match records.next()? {
            Some((_, Record::Started { form: FORM, started_secs, next })) => {
                past.started_secs = started_secs;
                past.end = past.end.max(next).max(records.given());
                past.views.insert(ViewId::FIRST, PastView::new(ViewId::FIRST, Number::ROOT));
            }
            Some((_, Record::Started { form, .. })) => {
                return Err(damaged(&format!("its form is {form}, this program reads {FORM}")));
            }
            Some(_) | None => return Err(damaged("it has no beginning")),
        }
        let mut reading = Reading::default();
        while let Some((place, record)) = records.next()? {
            past.take(place, record, &mut reading);
        }
        let leaving = past.sort(reading);
        Ok((past, Rest { leaving, span: records.span() }))
    }

    /// Takes what was read to where it is looked for. What a view that has left showed and is not a file is nobody's. Returns the last eras of blocks.
    fn sort(&mut self, mut reading: Reading) -> HashMap<u32, u32> {
        let read = reading.take_blocks(|set, view| self.views.get(&view)?.readable_since(set));
        let mut blocks = Vec::with_capacity(read.len());
        for (key, block, given) in read {
            let named = (NodeKey::from_bytes(key), given);
            if block.is_of_files {
                self.files.push(named);
            } else if let Some(view) = self.views.get_mut(&block.view) {
                view.places.push(named);
            } else {
                continue;
            }
            blocks.push(block);
        }
        blocks.sort_by_key(|block| block.first);
        self.blocks = RwLock::new(blocks);
        reading.into_leaving()
    }

    /// What is alive of a journal: all that a process has to know that reads it.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn alive(file: &File) -> io::Result<Alive> {
        let (past, Rest { leaving, .. }) = Self::of(file)?;
        let started_secs = past.started_secs;
        let mut records = framed(&Record::Started { form: FORM, started_secs, next: past.end })?;
        let mut add = |record: &Record| framed(record).map(|framed| records.extend(framed));
        if let Some(Handshake { request, reply }) = past.handshake {
            add(&Record::Handshake { request, reply })?;
        }
        for left in [ViewId::FIRST, past.last_view] {
            if !past.views.contains_key(&left) {
                add(&Record::Left { view: left.0 })?;
            }
        }
        for (id, view) in past.views {
            view.records(id).iter().try_for_each(&mut add)?;
        }
        for (number, StillOpen { backing, count }) in past.open {
            let opened = Record::Opened { number: number.0, backing };
            (0..count).try_for_each(|_| add(&opened))?;
        }
        for (view, begins) in &past.listings {
            begins.iter().try_for_each(|begun| add(&begun.record(*view)))?;
        }
        let (mut places, mut last_eras) = (HashMap::new(), BTreeMap::<u32, Vec<u32>>::new());
        for block in past.blocks.into_inner().unwrap_or_else(PoisonError::into_inner) {
            places.insert(block.place.offset, (records.len() + size_of::<u32>()) as u64);
            records.extend(frame(&bytes_at(file, block.place)?)?);
            if let Some(era) = leaving.get(&block.first) {
                last_eras.entry(*era).or_default().push(block.first);
            }
        }
        for (era, blocks) in last_eras {
            records.extend(framed(&Record::Leaving { era, blocks })?);
        }
        Ok(Alive { records, places })
    }

    /// What is alive begins at `begin` of the file now. What is not is forgotten.
    pub(super) fn moved(&self, alive: &Alive, begin: u64) {
        let mut blocks = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
        blocks.retain_mut(|block| {
            let place = alive.places.get(&block.place.offset);
            place.is_some_and(|offset| {
                block.place.offset = begin + offset;
                true
            })
        });
        blocks.shrink_to_fit();
    }

    fn take(&mut self, place: RecordPlace, record: Record, reading: &mut Reading) {
        match record {
            Record::Started { .. } | Record::Again => {}
            Record::Configured { view, text } => self.with(view, |view| view.configure(text)),
            Record::Shown { view, set } => {
                self.era = self.era.max(set.era);
                self.with(view, |view| view.show(set));
            }
            Record::Leaving { era, blocks } => {
                self.era = self.era.max(era);
                reading.leaving(era, blocks);
            }
            Record::Handshake { request, reply } => {
                self.handshake = Some(Handshake { request, reply });
            }
            Record::Given { view, era, key, first, len, what } => {
                self.end = self.end.max(u64::from(first) + u64::from(len));
                self.era = self.era.max(era);
                let view = ViewId(view);
                self.last_view = self.last_view.max(view);
                let given = numbers::Block::of_past(first, len, &what, era);
                reading.given(key, &what, BlockRecord::of(&given, &what, place, view), given);
            }
            Record::GivenUp { view, blocks } => reading.given_up(view, blocks),
            Record::Joined { view, root, name, note } => {
                self.end = self.end.max(u64::from(root) + 1);
                let id = ViewId(view);
                self.last_view = self.last_view.max(id);
                let new = || PastView::new(id, Number(root));
                let known = self.views.entry(id).or_insert_with(new);
                (known.name, known.note) = (name, note);
            }
            Record::Opened { number, backing } => {
                let new = StillOpen { backing, count: 0 };
                let known = self.open.entry(Number(number)).or_insert(new);
                (known.backing, known.count) = (backing, known.count + 1);
            }
            Record::Closed { number } => {
                let known = self.open.get_mut(&Number(number));
                if known.is_some_and(StillOpen::close) {
                    self.open.remove(&Number(number));
                }
            }
            Record::Left { view } => {
                self.last_view = self.last_view.max(ViewId(view));
                self.views.remove(&ViewId(view));
                self.listings.remove(&ViewId(view));
            }
            Record::Listed { view, directory, tag, names } => {
                let (directory, names) = (Number(directory), names.into());
                let begins = self.listings.entry(ViewId(view)).or_default();
                begins.push(Begun { directory, tag, names }, NOTED_MAX);
            }
        }
    }

    fn with(&mut self, view: u32, change: impl FnOnce(&mut PastView)) {
        if let Some(view) = self.views.get_mut(&ViewId(view)) {
            change(view);
        }
    }

    /// What the kernel and the first process agreed on.
    pub fn handshake(&self) -> Option<&Handshake> {
        self.handshake.as_ref()
    }

    /// The files that are open in a way that has to be gone on with.
    pub fn still_open(&self) -> Vec<(Number, StillOpen)> {
        self.open.iter().map(|(number, open)| (*number, *open)).collect()
    }

    /// The only view.
    pub fn only(&self) -> Option<&PastView> {
        self.views.get(&ViewId::FIRST)
    }

    /// The views, to be gone on with: those that were added, or the one at the root.
    pub fn views(&self) -> impl Iterator<Item = &PastView> {
        self.views.values().filter(|view| !view.name.is_empty())
    }

    /// Takes a view over.
    pub(super) fn remove(&mut self, view: ViewId) -> Option<PastView> {
        self.views.remove(&view)
    }

    /// Takes all views over.
    pub(super) fn remove_all(&mut self) -> Vec<PastView> {
        mem::take(&mut self.views).into_values().collect()
    }

    /// The last number of a view that was given out.
    pub(super) fn last_view(&self) -> ViewId {
        self.last_view
    }

    /// The view that gave a number out, and whether it is a file's.
    pub(super) fn view(&self, number: Number) -> Option<(ViewId, bool)> {
        block(&self.blocks(), number).map(|block| (block.view, block.is_of_files))
    }

    /// All numbers of what a view showed and is not a file.
    pub(super) fn places(&self, view: ViewId) -> Vec<Number> {
        let blocks = self.blocks();
        let blocks = blocks.iter().filter(|block| block.view == view && !block.is_of_files);
        let numbers = |block: &BlockRecord| block.first..block.first.saturating_add(block.len);
        blocks.flat_map(numbers).map(Number).collect()
    }

    fn blocks(&self) -> RwLockReadGuard<'_, Vec<BlockRecord>> {
        self.blocks.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The listings of live directories that were begun in a view.
    pub(super) fn listings(&self, view: ViewId) -> impl Iterator<Item = &Begun> {
        self.listings.get(&view).into_iter().flat_map(Begins::iter)
    }

    /// The last era of the process that wrote it last.
    pub(super) fn era(&self) -> u32 {
        self.era
    }

    /// The first number that was never given out.
    pub(super) fn next_number(&self) -> u64 {
        self.end
    }

    /// How many blocks are left.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.blocks().len()
    }

    /// All that it says.
    #[cfg(any(test, fuzzing))]
    pub(super) fn told(&self) -> impl PartialEq + Clone + std::fmt::Debug + use<> {
        let numbers: Vec<_> = self.blocks().iter().map(|block| Number(block.first)).collect();
        let whats: Vec<_> = numbers.into_iter().map(|number| (number, self.what(number))).collect();
        let views = self.views.iter().map(|(id, view)| {
            let (name, note) = (view.name.clone(), view.note.clone());
            (*id, view.root, name, note, view.configurations.clone(), view.shown.clone())
        });
        let views: Vec<_> = views.collect();
        let places = self.views.values().flat_map(|view| &view.places).chain(&self.files);
        let mut asked: Vec<_> = places.map(|(_, block)| (block.first, block.asked())).collect();
        asked.sort_unstable();
        let listings =
            self.listings.iter().flat_map(|(view, all)| all.iter().map(|one| (*view, one.clone())));
        let listings: Vec<_> = listings.collect();
        let whole =
            (self.started_secs, self.handshake.clone(), self.end, self.last_view, asked, listings);
        (whole, views, self.open.clone(), whats)
    }

    /// Whether an earlier process gave this number out.
    pub(super) fn has(&self, number: Number) -> bool {
        let blocks = self.blocks();
        block(&blocks, number).is_some()
    }

    /// What a number stands for: the first number of its block, and the block.
    pub(super) fn what(&self, number: Number) -> Option<(Number, What)> {
        let blocks = self.blocks();
        match read_at(&self.file, block(&blocks, number)?.place).ok()? {
            Record::Given { first, what, .. } => Some((Number(first), what)),
            Record::Started { .. }
            | Record::Handshake { .. }
            | Record::GivenUp { .. }
            | Record::Leaving { .. }
            | Record::Listed { .. }
            | Record::Shown { .. }
            | Record::Configured { .. }
            | Record::Joined { .. }
            | Record::Left { .. }
            | Record::Opened { .. }
            | Record::Closed { .. }
            | Record::Again => None,
        }
    }

    /// The directories that have the files which begin with this number.
    pub(super) fn with_files(&self, first: Number) -> Vec<Number> {
        let blocks = self.blocks();
        let with = blocks.iter().filter(|block| block.files == first.0);
        let tree = |block: &BlockRecord| match read_at(&self.file, block.place) {
            Ok(Record::Given { what: What::Directories { tree, .. }, .. }) => Some(Number(tree)),
            Ok(_) | Err(_) => None,
        };
        with.filter_map(tree).collect()
    }
}

fn block(blocks: &[BlockRecord], number: Number) -> Option<&BlockRecord> {
    // Empty blocks share their first number with the next one.
    let after = blocks.partition_point(|block| block.first <= number.0);
    let holds = |block: &&BlockRecord| number.0 - block.first < block.len;
    blocks[..after].iter().rev().take_while(|block| block.len == 0 || holds(block)).find(holds)
}
