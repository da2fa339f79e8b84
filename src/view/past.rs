//! What an earlier process of the same mount did: read from its journal.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;

use quick_cache::sync::Cache;
use std::sync::Arc;

use super::journal::{FORM, Journal, Record, Shown, What};
use super::nodes::Number;
use super::numbers::{self, Key};
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
    /// All blocks that were not given up, by their first number.
    blocks: Vec<Block>,
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
    offset: u64,
    size_bytes: u32,
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
            configurations: None,
            shown: Vec::new(),
            blocks: Vec::new(),
            end: u64::from(Number::ROOT.0) + 1,
            given: Given::default(),
            trees: Cache::new(TREES),
        };
        let mut reader = Records::new(&file)?;
        match reader.next()? {
            Some((_, Record::Started { form: FORM, started_secs })) => {
                past.started_secs = started_secs;
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
        for (key, (block, given, is_of_files)) in reading {
            past.blocks.push(block);
            let of = if is_of_files { &mut past.given.files } else { &mut past.given.places };
            of.push((Key::from_bytes(key), given));
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
                let block = Block { first, len, offset, size_bytes };
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
            | Record::Shown(_)
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
