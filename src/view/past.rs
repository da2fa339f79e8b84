//! What an earlier process of the same mount did: read from its journal.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::mem;
use std::os::unix::fs::FileExt;

use quick_cache::sync::Cache;
use std::sync::Arc;

use super::journal::{FORM, Journal, Record, Shown, What};
use super::nodes::Number;
use super::numbers::{self, Key};
use super::superblock::ViewId;
use super::tree::Tree;
use crate::union::revision::RevisionSetId;

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
    /// All blocks that were not given up, by their first number.
    blocks: Vec<Block>,
    /// The first number that was never given out.
    end: u64,
    /// The names of the blocks of files, until a view takes them over.
    pub(super) files: Vec<(Key, numbers::Block)>,
    pub(super) trees: Cache<(ViewId, Number), Arc<Tree>>,
    /// The files that are open in a way that has to be gone on with.
    open: BTreeMap<Number, StillOpen>,
}

/// A file that is open still, and that the kernel reads in one way for as long as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StillOpen {
    /// What the kernel reads it from by itself, as it numbers that; without one it asks.
    pub backing: Option<u32>,
    /// How often it is open; in doubt more often than it is.
    pub count: u64,
}

/// What an earlier process did for one view.
#[derive(Debug)]
pub struct PastView {
    pub(super) id: ViewId,
    pub(super) root: Number,
    name: Vec<u8>,
    note: Vec<u8>,
    /// The configuration's file as it was read first and last.
    configurations: Option<(Vec<u8>, Vec<u8>)>,
    /// The sets that were shown, the present one last.
    shown: Vec<Shown>,
    /// The names of the blocks of all that is not a file.
    pub(super) places: Vec<(Key, numbers::Block)>,
}

impl StillOpen {
    /// True if that was the last.
    fn close(&mut self) -> bool {
        self.count = self.count.saturating_sub(1);
        self.count == 0
    }
}

impl PastView {
    fn new(id: ViewId, root: Number) -> Self {
        let (name, note, configurations, shown, places) = Default::default();
        Self { id, root, name, note, configurations, shown, places }
    }

    /// One of which nothing is known.
    pub(super) fn lost() -> Self {
        Self::new(ViewId::FIRST, Number::ROOT)
    }

    /// Its name in the superblock.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// What its daemon has noted last.
    pub fn note(&self) -> &[u8] {
        &self.note
    }

    /// The configuration's file as it was read first and last, if it came from one.
    pub fn configurations(&self) -> Option<&(Vec<u8>, Vec<u8>)> {
        self.configurations.as_ref()
    }

    /// The set that was shown last.
    pub fn shown(&self) -> Option<Shown> {
        self.shown.last().copied()
    }

    /// The places of sets in the order of snapshots.
    pub(super) fn serials(&self) -> HashMap<RevisionSetId, u64> {
        self.shown.iter().map(|shown| (RevisionSetId(shown.id), shown.serial)).collect()
    }

    fn show(&mut self, set: Shown) {
        // The same set may have been published again; a set may come back.
        self.shown.retain(|known| known.id != set.id);
        if self.shown.len() == SHOWN_MAX {
            self.shown.remove(0);
        }
        self.shown.push(set);
    }

    fn configure(&mut self, text: Vec<u8>) {
        match &mut self.configurations {
            Some((_, last)) => *last = text,
            none @ None => *none = Some((text.clone(), text)),
        }
    }
}

/// So many sets that were shown are known by their id: more than are kept.
const SHOWN_MAX: usize = 2048;

/// What stands for a view where a block is of files, which all views have in common.
const FILES: u32 = u32::MAX;

/// The blocks of a journal, while it is read, by name and view: where the record is, and the block.
type Reading = HashMap<([u8; 16], u32), (Block, numbers::Block)>;

/// What the kernel and an earlier process agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// The first message of the kernel.
    pub request: Vec<u8>,
    /// The answer to it.
    pub reply: Vec<u8>,
}

/// Where the record of a block of numbers is.
#[derive(Debug, Clone, Copy)]
struct Block {
    first: u32,
    len: u32,
    offset: u64,
    size_bytes: u32,
    /// The view that gave it out.
    view: ViewId,
    is_of_files: bool,
}

impl Past {
    /// Reads a journal from its beginning, and goes on with it.
    ///
    /// # Errors
    /// It cannot be read, or is of another version of this program.
    pub fn read(file: File) -> io::Result<(Self, Journal)> {
        let damaged = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason.to_owned());
        let mut past = Self {
            file: file.try_clone()?,
            started_secs: 0,
            handshake: None,
            views: BTreeMap::new(),
            blocks: Vec::new(),
            end: u64::from(Number::ROOT.0) + 1,
            files: Vec::new(),
            trees: Cache::new(TREES),
            open: BTreeMap::new(),
        };
        let mut reader = Records::new(&file)?;
        match reader.next()? {
            Some((_, Record::Started { form: FORM, started_secs })) => {
                past.started_secs = started_secs;
                let first = PastView::new(ViewId::FIRST, Number::ROOT);
                past.views.insert(ViewId::FIRST, first);
            }
            Some((_, Record::Started { form, .. })) => {
                return Err(damaged(&format!("its form is {form}, this program reads {FORM}")));
            }
            Some(_) | None => return Err(damaged("it has no beginning")),
        }
        let mut reading = Reading::new();
        while let Some((place, record)) = reader.next()? {
            past.take(place, record, &mut reading);
        }
        for ((key, _), (block, given)) in reading {
            past.blocks.push(block);
            let named = (Key::from_bytes(key), given);
            if block.is_of_files {
                past.files.push(named);
            } else if let Some(view) = past.views.get_mut(&block.view) {
                view.places.push(named);
            }
        }
        past.blocks.sort_by_key(|block| block.first);
        let end = reader.end;
        // What a kill has cut short.
        file.set_len(end)?;
        Ok((past, Journal::at(file, end)))
    }

    fn take(&mut self, (offset, size_bytes): (u64, u32), record: Record, reading: &mut Reading) {
        match record {
            Record::Started { .. } => {}
            Record::Configured { view, text } => self.with(view, |view| view.configure(text)),
            Record::Shown { view, set } => self.with(view, |view| view.show(set)),
            Record::Handshake { request, reply } => {
                self.handshake = Some(Handshake { request, reply });
            }
            Record::Given { view, key, first, len, what } => {
                self.end = self.end.max(u64::from(first) + u64::from(len));
                let given = numbers::Block::of_past(first, len, &what);
                let (is_of_files, view) = (what.is_of_files(), ViewId(view));
                let block = Block { first, len, offset, size_bytes, view, is_of_files };
                let of = if is_of_files { FILES } else { view.0 };
                reading.insert((key, of), (block, given));
            }
            Record::GivenUp { view, blocks } => {
                for (key, first) in blocks {
                    for of in [view, FILES] {
                        // It may have been given numbers anew before this was written.
                        let known = reading.get(&(key, of));
                        if known.is_some_and(|(block, _)| block.first == first) {
                            reading.remove(&(key, of));
                        }
                    }
                }
            }
            Record::Joined { view, root, name, note } => {
                self.end = self.end.max(u64::from(root) + 1);
                let id = ViewId(view);
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
            Record::Left { view } => drop(self.views.remove(&ViewId(view))),
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
        let of_blocks = self.blocks.iter().map(|block| block.view);
        self.views.keys().copied().chain(of_blocks).max().unwrap_or(ViewId::FIRST)
    }

    /// The view that gave a number out, and whether it is a file's.
    pub(super) fn view(&self, number: Number) -> Option<(ViewId, bool)> {
        self.block(number).map(|block| (block.view, block.is_of_files))
    }

    /// All numbers of what a view showed and is not a file.
    pub(super) fn places(&self, view: ViewId) -> impl Iterator<Item = Number> {
        let blocks =
            self.blocks.iter().filter(move |block| block.view == view && !block.is_of_files);
        blocks.flat_map(|block| (block.first..block.first.saturating_add(block.len)).map(Number))
    }

    /// The first number that was never given out.
    pub(super) fn next_number(&self) -> u64 {
        self.end
    }

    /// How many blocks are left.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether an earlier process gave this number out.
    pub(super) fn has(&self, number: Number) -> bool {
        self.block(number).is_some()
    }

    /// What a number stands for: the first number of its block, and the block.
    pub(super) fn what(&self, number: Number) -> Option<(Number, What)> {
        let block = self.block(number)?;
        let mut bytes = vec![0; block.size_bytes as usize];
        self.file.read_exact_at(&mut bytes, block.offset).ok()?;
        match postcard::from_bytes(&bytes).ok()? {
            Record::Given { first, what, .. } => Some((Number(first), what)),
            Record::Started { .. }
            | Record::Handshake { .. }
            | Record::GivenUp { .. }
            | Record::Shown { .. }
            | Record::Joined { .. }
            | Record::Left { .. }
            | Record::Opened { .. }
            | Record::Closed { .. }
            | Record::Configured { .. } => None,
        }
    }

    fn block(&self, number: Number) -> Option<&Block> {
        // Empty blocks share their first number with the next one.
        let after = self.blocks.partition_point(|block| block.first <= number.0);
        let holds = |block: &&Block| number.0 - block.first < block.len;
        self.blocks[..after]
            .iter()
            .rev()
            .take_while(|block| block.len == 0 || holds(block))
            .find(holds)
    }
}

/// The records of a journal, in order.
struct Records<'a> {
    reader: BufReader<&'a File>,
    /// Where the last whole record ends.
    end: u64,
    len: u64,
}

impl<'a> Records<'a> {
    fn new(file: &'a File) -> io::Result<Self> {
        use std::io::Seek;
        let len = file.metadata()?.len();
        let mut reader = BufReader::with_capacity(1 << 20, file);
        reader.rewind()?;
        Ok(Self { reader, end: 0, len })
    }

    /// The next record, and its place: offset and size in bytes. `None` at the end, or before one that was cut short.
    fn next(&mut self) -> io::Result<Option<((u64, u32), Record)>> {
        let mut size = [0; 4];
        if self.end + 4 > self.len {
            return Ok(None);
        }
        self.reader.read_exact(&mut size)?;
        let size_bytes = u32::from_le_bytes(size);
        let offset = self.end + 4;
        if offset + u64::from(size_bytes) > self.len {
            return Ok(None);
        }
        let mut bytes = vec![0; size_bytes as usize];
        self.reader.read_exact(&mut bytes)?;
        let record = postcard::from_bytes(&bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.end = offset + u64::from(size_bytes);
        Ok(Some(((offset, size_bytes), record)))
    }
}
