//! What an earlier process of the same mount did: read from its journal.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use quick_cache::sync::Cache;

use super::journal::{FORM, Journal, Record, Shown, What};
use super::nodes::Number;
use super::numbers::{self, Key};
use super::records::{Appending, Place, Records, bytes_at, frame, framed, read_at};
use super::tree::Tree;
use crate::union::revision::RevisionSetId;

/// So many directories that were made again stay at hand for their children.
const TREES: usize = 1024;

/// What an earlier process of the same mount did.
#[derive(Debug)]
pub struct Past {
    file: File,
    /// When the view was first shown, in seconds since 1970.
    pub(super) started_secs: i64,
    handshake: Option<Handshake>,
    /// The configuration's file as it was read first and last.
    configurations: Option<(Vec<u8>, Vec<u8>)>,
    /// The sets that were shown, the present one last.
    shown: Vec<Shown>,
    /// All blocks that were not given up, by their first number. Locked while the file is read: their records may move.
    blocks: RwLock<Vec<Block>>,
    /// The first number that was never given out.
    end: u64,
    /// The names of the blocks, until a view takes them over.
    pub(super) given: Given,
    pub(super) trees: Cache<Number, Arc<Tree>>,
}

/// The blocks of numbers that were given out and not given up, of files and of all else.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub(super) files: Vec<(Key, numbers::Block)>,
    pub(super) places: Vec<(Key, numbers::Block)>,
}

/// So many sets that were shown are known by their id: more than are kept.
const SHOWN_MAX: usize = 2048;

/// The blocks of a journal, while it is read: where the record is, and whether they are of files.
type Reading = HashMap<[u8; 16], (Block, numbers::Block, bool)>;

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
    /// If it is of the directories in a directory, the first number of the files in that.
    files: u32,
    place: Place,
}

/// What is alive of a journal, written once more.
pub(super) struct Alive {
    /// Records with their lengths.
    pub(super) records: Vec<u8>,
    /// Where each record of a block was in the file, and where it is in `records`.
    places: HashMap<u64, u64>,
}

impl Past {
    /// Reads a journal from its beginning, and goes on with it.
    ///
    /// # Errors
    /// It cannot be read, or is of another version of this program.
    pub fn read(file: File) -> io::Result<(Self, Journal)> {
        let (past, span) = Self::of(&file)?;
        Ok((past, Journal::at(Appending::after(file, span)?)))
    }

    /// What a journal says, and where its records begin and end.
    fn of(file: &File) -> io::Result<(Self, (u64, u64))> {
        let damaged = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason.to_owned());
        let mut past = Self {
            file: file.try_clone()?,
            started_secs: 0,
            handshake: None,
            configurations: None,
            shown: Vec::new(),
            blocks: RwLock::default(),
            end: u64::from(Number::ROOT.0) + 1,
            given: Given::default(),
            trees: Cache::new(TREES),
        };
        let mut records = Records::new(file)?;
        match records.next()? {
            Some((_, Record::Started { form: FORM, started_secs, next })) => {
                past.started_secs = started_secs;
                past.end = past.end.max(next);
            }
            Some((_, Record::Started { form, .. })) => {
                return Err(damaged(&format!("its form is {form}, this program reads {FORM}")));
            }
            Some(_) | None => return Err(damaged("it has no beginning")),
        }
        let mut reading = Reading::new();
        while let Some((place, record)) = records.next()? {
            past.take(place, record, &mut reading);
        }
        let mut blocks = Vec::with_capacity(reading.len());
        for (key, (block, given, is_of_files)) in reading {
            blocks.push(block);
            let of = if is_of_files { &mut past.given.files } else { &mut past.given.places };
            of.push((Key::from_bytes(key), given));
        }
        blocks.sort_by_key(|block| block.first);
        past.blocks = RwLock::new(blocks);
        Ok((past, records.span()))
    }

    /// What is alive of a journal: all that a process has to know that reads it.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn alive(file: &File) -> io::Result<Alive> {
        let (past, _) = Self::of(file)?;
        let first = Record::Started { form: FORM, started_secs: past.started_secs, next: past.end };
        let mut records = framed(&first)?;
        if let Some(Handshake { request, reply }) = past.handshake {
            records.extend(framed(&Record::Handshake { request, reply })?);
        }
        if let Some((first, last)) = past.configurations {
            records.extend(framed(&Record::Configured { text: first })?);
            records.extend(framed(&Record::Configured { text: last })?);
        }
        for shown in past.shown {
            records.extend(framed(&Record::Shown(shown))?);
        }
        let mut places = HashMap::new();
        for block in past.blocks.into_inner().unwrap_or_else(PoisonError::into_inner) {
            places.insert(block.place.offset, (records.len() + size_of::<u32>()) as u64);
            records.extend(frame(&bytes_at(file, block.place)?)?);
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

    fn take(&mut self, place: Place, record: Record, reading: &mut Reading) {
        match record {
            Record::Started { .. } | Record::Again => {}
            Record::Configured { text } => match &mut self.configurations {
                Some((_, last)) => *last = text,
                none @ None => *none = Some((text.clone(), text)),
            },
            Record::Handshake { request, reply } => {
                self.handshake = Some(Handshake { request, reply });
            }
            Record::Given { key, first, len, what } => {
                self.end = self.end.max(u64::from(first) + u64::from(len));
                let given = numbers::Block::of_past(first, len, &what);
                let files = if let What::Directories { files, .. } = what { files } else { 0 };
                let block = Block { first, len, files, place };
                reading.insert(key, (block, given, what.is_of_files()));
            }
            Record::GivenUp { blocks } => {
                for (key, first) in blocks {
                    // It may have been given numbers anew before this was written.
                    if reading.get(&key).is_some_and(|(block, ..)| block.first == first) {
                        reading.remove(&key);
                    }
                }
            }
            Record::Shown(shown) => {
                // The same set may have been published again; a set may come back.
                self.shown.retain(|known| known.id != shown.id);
                if self.shown.len() == SHOWN_MAX {
                    self.shown.remove(0);
                }
                self.shown.push(shown);
            }
        }
    }

    /// What the kernel and the first process agreed on.
    pub fn handshake(&self) -> Option<&Handshake> {
        self.handshake.as_ref()
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

    /// The first number that was never given out.
    pub(super) fn next_number(&self) -> u64 {
        self.end
    }

    /// How many blocks are left.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.blocks.read().unwrap().len()
    }

    /// All that it says.
    #[cfg(any(test, fuzzing))]
    pub(super) fn told(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        let first = |block: &Block| Number(block.first);
        let numbers: Vec<_> =
            self.blocks.read().unwrap_or_else(PoisonError::into_inner).iter().map(first).collect();
        let whats: Vec<_> = numbers.into_iter().map(|number| (number, self.what(number))).collect();
        let agreed = (self.handshake.clone(), self.configurations.clone());
        (self.started_secs, agreed, self.shown.clone(), self.end, whats)
    }

    /// Whether an earlier process gave this number out.
    pub(super) fn has(&self, number: Number) -> bool {
        let blocks = self.blocks.read().unwrap_or_else(PoisonError::into_inner);
        block(&blocks, number).is_some()
    }

    /// What a number stands for: the first number of its block, and the block.
    pub(super) fn what(&self, number: Number) -> Option<(Number, What)> {
        let blocks = self.blocks.read().unwrap_or_else(PoisonError::into_inner);
        match read_at(&self.file, block(&blocks, number)?.place).ok()? {
            Record::Given { first, what, .. } => Some((Number(first), what)),
            Record::Started { .. }
            | Record::Handshake { .. }
            | Record::GivenUp { .. }
            | Record::Shown(_)
            | Record::Configured { .. }
            | Record::Again => None,
        }
    }

    /// The directories that have the files which begin with this number.
    pub(super) fn with_files(&self, first: Number) -> Vec<Number> {
        let blocks = self.blocks.read().unwrap_or_else(PoisonError::into_inner);
        let with = blocks.iter().filter(|block| block.files == first.0);
        let tree = |block: &Block| match read_at(&self.file, block.place) {
            Ok(Record::Given { what: What::Directories { tree, .. }, .. }) => Some(Number(tree)),
            Ok(_) | Err(_) => None,
        };
        with.filter_map(tree).collect()
    }
}

fn block(blocks: &[Block], number: Number) -> Option<&Block> {
    // Empty blocks share their first number with the next one.
    let after = blocks.partition_point(|block| block.first <= number.0);
    let holds = |block: &&Block| number.0 - block.first < block.len;
    blocks[..after].iter().rev().take_while(|block| block.len == 0 || holds(block)).find(holds)
}
