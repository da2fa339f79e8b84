//! Blobs decoded piece by piece, from loose files and from packs that store them whole.
//!
//! The library decodes an object in memory as a whole; this reads the files by its means for the formats (gitformat-pack(5)). Whatever is
//! not found here or is stored as a difference is left to the library. Files are read, not mapped: a pack that is cut
//! is an error and not a signal, and what was read does not count as memory of the daemon.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use gix::hash::{Kind as HashKind, ObjectId};
use gix::objs::Kind as GitKind;
use gix::odb::pack::{data, index};
use gix::zlib::Decompress;

use super::repository::{Repository, expect_kind, unreadable};
use crate::store::StoreError;
use crate::store::blobs::{BlobOrigin, Draft, Streamed};
use crate::union::object::Oid;

/// Encoded bytes are read in pieces of this size.
const INPUT_BYTES: usize = 128 << 10;
/// Decoded bytes are written in pieces of this size.
const OUTPUT_BYTES: usize = 256 << 10;
/// The header of a loose object is shorter than this: a type, a number and a zero byte.
const HEADER_BYTES: usize = 64;

impl BlobOrigin for Repository {
    fn size(&self, oid: &Oid) -> Result<u64, StoreError> {
        let (kind, size_bytes) = self.header(oid)?;
        expect_kind(oid, kind, GitKind::Blob).map(|()| size_bytes)
    }

    fn bytes(&self, oid: &Oid) -> Result<Vec<u8>, StoreError> {
        self.object(oid, GitKind::Blob)
    }

    fn stream(&self, oid: &Oid, draft: &mut Draft) -> Result<Streamed, StoreError> {
        let stream = || self.stream_here(oid, draft);
        let outcome = catch_unwind(AssertUnwindSafe(stream));
        outcome.unwrap_or_else(|_| Err(unreadable(oid, "it cannot be decoded")))
    }
}

/// Where a blob is stored.
enum Found {
    Loose(File),
    /// The pack, at the beginning of the encoded bytes.
    Packed(File),
    /// As a difference to another object.
    Difference,
}

impl Repository {
    fn stream_here(&self, oid: &Oid, draft: &mut Draft) -> Result<Streamed, StoreError> {
        let id = ObjectId::try_from(oid.as_bytes());
        let id = id.map_err(|error| unreadable(oid, &error.to_string()))?;
        let mut failure = None;
        for directory in self.object_directories() {
            // One that is repacked at this moment may have gone from where it was found: the library looks again.
            for find in [find_packed, find_loose] {
                let found = match find(&directory, &id) {
                    Ok(Some(found)) => found,
                    Ok(None) => continue,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => {
                        failure = Some(StoreError::from(error));
                        continue;
                    }
                };
                match copy(found, oid, draft) {
                    Ok(Streamed::Whole) => return Ok(Streamed::Whole),
                    Ok(Streamed::NotAStream) => return Ok(Streamed::NotAStream),
                    Err(error) if draft.has_failed() => return Err(error),
                    // Another copy of it may be unharmed.
                    Err(error) => failure = Some(error),
                }
                draft.begin_again()?;
            }
        }
        failure.map_or(Ok(Streamed::NotAStream), Err)
    }

    /// Its object directory, those it borrows from, and of a pin also those of the repository that it was made of.
    fn object_directories(&self) -> Vec<PathBuf> {
        let own = self.objects_dir().to_owned();
        let borrowed = gix::odb::alternate::resolve(own.clone(), Path::new("/"));
        let mut directories = vec![own];
        directories.extend(borrowed.unwrap_or_default());
        if let Some(lender) = self.lender() {
            directories.extend(lender.object_directories());
        }
        directories
    }
}

fn find_loose(directory: &Path, id: &ObjectId) -> io::Result<Option<Found>> {
    let hex = id.to_hex().to_string();
    match File::open(directory.join(&hex[..2]).join(&hex[2..])) {
        Ok(file) => Ok(Some(Found::Loose(file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn find_packed(directory: &Path, id: &ObjectId) -> io::Result<Option<Found>> {
    let mut is_difference = false;
    for entry in fs::read_dir(directory.join("pack"))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "idx") {
            continue;
        }
        // One that is damaged is no obstacle to the others.
        let Ok(index) = index::File::at(&path, id.kind()) else { continue };
        let Some(position) = index.lookup(id) else { continue };
        let offset = index.pack_offset_at_index(position);
        match open_packed(&path.with_extension("pack"), offset, id.kind()) {
            Ok(Found::Difference) => is_difference = true,
            Ok(found) => return Ok(Some(found)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(is_difference.then_some(Found::Difference))
}

fn open_packed(path: &Path, offset: u64, hash: HashKind) -> io::Result<Found> {
    let mut pack = File::open(path)?;
    pack.seek(SeekFrom::Start(offset))?;
    let mut reader = BufReader::with_capacity(HEADER_BYTES, &pack);
    let entry = data::Entry::from_read(&mut reader, offset, hash.len_in_bytes())?;
    match entry.header {
        data::entry::Header::Blob => {
            pack.seek(SeekFrom::Start(entry.data_offset))?;
            Ok(Found::Packed(pack))
        }
        data::entry::Header::OfsDelta { .. } | data::entry::Header::RefDelta { .. } => {
            Ok(Found::Difference)
        }
        data::entry::Header::Commit | data::entry::Header::Tree | data::entry::Header::Tag => {
            Err(io::Error::other("it is not a blob"))
        }
    }
}

fn copy(found: Found, oid: &Oid, draft: &mut Draft) -> Result<Streamed, StoreError> {
    let (file, is_loose) = match found {
        Found::Loose(file) => (file, true),
        Found::Packed(file) => (file, false),
        Found::Difference => return Ok(Streamed::NotAStream),
    };
    // Only an advice.
    let sequential = nix::fcntl::PosixFadviseAdvice::POSIX_FADV_SEQUENTIAL;
    nix::fcntl::posix_fadvise(&file, 0, 0, sequential).unwrap_or_default();
    let mut input = Inflated {
        encoded: BufReader::with_capacity(INPUT_BYTES, Uninterrupted(file)),
        state: Decompress::new(),
    };
    let damaged = |error: io::Error| unreadable(oid, &error.to_string());
    let mut piece = vec![0; OUTPUT_BYTES];
    let mut filled = input.read(&mut piece).map_err(damaged)?;
    let mut start = 0;
    if is_loose {
        start = loose_header(&piece[..filled])
            .ok_or_else(|| unreadable(oid, "its loose file does not begin as that of a blob"))?;
    }
    while filled > 0 {
        draft.write(&piece[start..filled])?;
        start = 0;
        filled = input.read(&mut piece).map_err(damaged)?;
    }
    Ok(Streamed::Whole)
}

/// The length of a blob's header, the zero byte included. Its number is not read: the size is checked in the end.
fn loose_header(bytes: &[u8]) -> Option<usize> {
    let end = bytes.iter().take(HEADER_BYTES).position(|byte| *byte == 0)?;
    bytes.starts_with(b"blob ").then_some(end + 1)
}

/// The decoded bytes of a zlib stream. What follows it is not looked at.
struct Inflated {
    encoded: BufReader<Uninterrupted>,
    state: Decompress,
}

/// A file that is read again where a signal came in between, as it may on a network file system: the decoder takes that for damage.
struct Uninterrupted(File);

impl Read for Uninterrupted {
    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

impl Read for Inflated {
    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        gix::zlib::stream::inflate::read(&mut self.encoded, &mut self.state, piece)
    }
}
