//! The file of a journal: where it begins, then records.
//!
//! Eight bytes say where reading begins, least significant first. Eight more say below which number all may have been given out, whatever the
//! records say: they are in the file from its beginning, so that a full disk takes them. Each record is its length in four such bytes, then as many bytes of
//! postcard. Records are appended, never changed. A process may be killed between any two system calls, and in the middle of writing a record:
//! one that is cut short is the last, and is cut off.
//!
//! When most of a file is dead, what is alive is appended as the content of one more record, [`Record::Again`]; then the first bytes are
//! made to point into it, and what was before is given back to the disk. Killed before that, its successor reads over it.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use nix::fcntl::{FallocateFlags, fallocate};

use super::journal::Record;
use crate::store::patience::patiently;

/// Where the first record of a new file is, in bytes.
pub(super) const HEADER: u64 = 16;
/// Where the file says which numbers may have been given out.
const GIVEN_AT: u64 = 8;

/// Where a record is: offset and size in bytes, without the length that stands before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordPlace {
    pub(super) offset: u64,
    pub(super) size_bytes: u32,
}

/// A record with its length before it.
///
/// # Errors
/// It is longer than four bytes can say.
pub(super) fn framed(record: &Record) -> io::Result<Vec<u8>> {
    frame(&postcard::to_allocvec(record).map_err(io::Error::other)?)
}

/// The bytes of a record with their length before them.
///
/// # Errors
/// There are more than four bytes can say.
pub(super) fn frame(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    Ok([&len.to_le_bytes()[..], bytes].concat())
}

/// The record at a place.
pub(super) fn read_at(file: &File, place: RecordPlace) -> io::Result<Record> {
    decode(&bytes_at(file, place)?)
}

/// The bytes of the record at a place.
pub(super) fn bytes_at(file: &File, place: RecordPlace) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; place.size_bytes as usize];
    file.read_exact_at(&mut bytes, place.offset)?;
    Ok(bytes)
}

fn number_at(file: &File, offset: u64) -> io::Result<u64> {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(u64::from_le_bytes(bytes))
}

fn decode(bytes: &[u8]) -> io::Result<Record> {
    postcard::from_bytes(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Cuts a file off, if it is longer: what it has of the disk beyond its end goes with that, else it stays.
fn cut(file: &File, end: u64) -> io::Result<()> {
    if file.metadata()?.len() == end { Ok(()) } else { file.set_len(end) }
}

/// A file at its end. One process has it at a time.
#[derive(Debug)]
pub(super) struct Appending {
    file: File,
    begin: u64,
    end: u64,
}

impl Appending {
    /// Begins in an empty file.
    pub(super) fn begin(file: File) -> io::Result<Self> {
        file.write_all_at(&[HEADER.to_le_bytes(), [0; 8]].concat(), 0)?;
        Ok(Self { file, begin: HEADER, end: HEADER })
    }

    /// Goes on where reading came to its end; what follows was cut short, and is cut off.
    pub(super) fn after(file: File, (begin, end): (u64, u64)) -> io::Result<Self> {
        patiently(|| cut(&file, end))?;
        Ok(Self { file, begin, end })
    }

    /// Bytes from the first record that is read to the end.
    pub(super) fn size_bytes(&self) -> u64 {
        self.end - self.begin
    }

    /// The file, to be read only.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Appends records with their lengths; all of them or none.
    pub(super) fn append(&mut self, framed: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all_at(framed, self.end) {
            // Half a record would make all that follow unreadable.
            cut(&self.file, self.end)?;
            return Err(error);
        }
        self.end += framed.len() as u64;
        Ok(())
    }

    /// Says that all numbers below this one may have been given out. It needs no room.
    pub(super) fn may_have_given(&self, end: u64) -> io::Result<()> {
        self.file.write_all_at(&end.to_le_bytes(), GIVEN_AT)
    }

    /// Appends records with their lengths, and begins with them from now on. `moved` is told where the first of them is, before those from before are gone.
    pub(super) fn begin_again(
        &mut self,
        records: &[u8],
        moved: impl FnOnce(u64),
    ) -> io::Result<()> {
        let mark = postcard::to_allocvec(&Record::Again).map_err(io::Error::other)?;
        let begin = self.end + (size_of::<u32>() + mark.len()) as u64;
        self.append(&frame(&[&mark[..], records].concat())?)?;
        self.file.write_all_at(&begin.to_le_bytes(), 0)?;
        self.begin = begin;
        moved(begin);
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let dead = libc::off_t::try_from(begin - HEADER).map_err(io::Error::other)?;
        // A disk that cannot take them back keeps them.
        let _kept_by_the_disk = fallocate(&self.file, hole, HEADER.cast_signed(), dead);
        Ok(())
    }
}

/// The records of a file, in order.
pub(super) struct Records<'a> {
    reader: BufReader<&'a File>,
    begin: u64,
    /// All numbers below this one may have been given out.
    given: u64,
    /// Where the last whole record ends.
    end: u64,
    len: u64,
}

impl<'a> Records<'a> {
    /// # Errors
    /// The file cannot be read, or does not say where it begins.
    pub(super) fn new(file: &'a File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        let (begin, given) = (number_at(file, 0)?, number_at(file, GIVEN_AT)?);
        if begin < HEADER || begin > len {
            let reason = "it has no beginning, or another program wrote it";
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        let mut reader = BufReader::with_capacity(1 << 20, file);
        reader.seek(SeekFrom::Start(begin))?;
        Ok(Self { reader, begin, given, end: begin, len })
    }

    /// The number below which all may have been given out, also those of which no record is.
    pub(super) fn given(&self) -> u64 {
        self.given
    }

    /// Where the first record begins, and the last whole one ends that was read.
    pub(super) fn span(&self) -> (u64, u64) {
        (self.begin, self.end)
    }

    /// The next record, and its place. `None` at the end, or before one that was cut short.
    pub(super) fn next(&mut self) -> io::Result<Option<(RecordPlace, Record)>> {
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
        let record = decode(&bytes)?;
        self.end = offset + u64::from(size_bytes);
        Ok(Some((RecordPlace { offset, size_bytes }, record)))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::*;

    #[test]
    fn the_room_that_a_journal_has_ahead_stays_with_it() {
        let file = File::from(memfd_create(c"journal", MFdFlags::MFD_CLOEXEC).unwrap());
        fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, 64 << 10).unwrap();
        let room = file.metadata().unwrap().blocks();
        let mut appending = Appending::begin(file.try_clone().unwrap()).unwrap();
        appending.append(&framed(&Record::Again).unwrap()).unwrap();
        let span = (HEADER, appending.end);
        drop(Appending::after(file.try_clone().unwrap(), span).unwrap());
        assert_eq!(
            (file.metadata().unwrap().len(), file.metadata().unwrap().blocks()),
            (span.1, room)
        );
        // What was cut short is cut off all the same.
        file.write_all_at(b"half", span.1).unwrap();
        drop(Appending::after(file.try_clone().unwrap(), span).unwrap());
        assert_eq!(file.metadata().unwrap().len(), span.1);
    }
}
