//! Blobs decoded piece by piece, from loose files and from packs that store them whole.
//!
//! The library decodes an object in memory as a whole. This reads the files piece by piece, with the library's parsers for the formats
//! (gitformat-pack(5)). Whatever is not found here, or is stored as a delta, is left to the library. Files are read and not mapped: so a pack
//! that is truncated is an error and not a signal, and what was read does not count as memory of the daemon.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gix::hash::{Kind as HashKind, ObjectId};
use gix::objs::Kind as GitKind;
use gix::odb::pack::{data, index};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use sirocco::Format;
use sirocco::inflate::Decoder;

use super::loose::{self, HEADER_BYTES};
use super::objects::{expect_kind, unreadable};
use super::repository::Repository;
use crate::store::StoreError;
use crate::store::blobs::{BlobOrigin, Draft, PIECES, Piece, Streamed};
use crate::union::object::Oid;

/// Encoded bytes are read in pieces of this size.
const INPUT_BYTES: usize = 128 << 10;
/// Decoded bytes are written in pieces of this size: where each begins at a multiple of it, the kernel keeps the file in large folios, which are read a
/// fifth faster than what pieces at odd places leave (Linux 6.18, ext4, 2026-11-30: 512 MiB in 20.6 ms in the place of 24.4; single pages 53.7).
const PIECE_BYTES: usize = 256 << 10;
/// How much of what was decoded last has to stand in the buffer before what is decoded next (RFC 1951, section 2).
const WINDOW_BYTES: usize = 32 << 10;
/// One for each piece that may wait to be hashed, one that is being hashed, and one that is being filled.
const BUFFERS: usize = PIECES + 2;

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
enum StoredBlob {
    Loose(File),
    /// The pack, at the beginning of the encoded bytes.
    Packed(File),
    /// As a delta of another object.
    Delta,
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

fn find_loose(directory: &Path, id: &ObjectId) -> io::Result<Option<StoredBlob>> {
    match File::open(loose::path_of(directory, &id.to_hex().to_string())) {
        Ok(file) => Ok(Some(StoredBlob::Loose(file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn find_packed(directory: &Path, id: &ObjectId) -> io::Result<Option<StoredBlob>> {
    let mut is_delta = false;
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
            Ok(StoredBlob::Delta) => is_delta = true,
            Ok(found) => return Ok(Some(found)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(is_delta.then_some(StoredBlob::Delta))
}

fn open_packed(path: &Path, offset: u64, hash: HashKind) -> io::Result<StoredBlob> {
    let mut pack = File::open(path)?;
    pack.seek(SeekFrom::Start(offset))?;
    let mut reader = BufReader::with_capacity(HEADER_BYTES, &pack);
    let entry = data::Entry::from_read(&mut reader, offset, hash.len_in_bytes())?;
    match entry.header {
        data::entry::Header::Blob => {
            pack.seek(SeekFrom::Start(entry.data_offset))?;
            Ok(StoredBlob::Packed(pack))
        }
        data::entry::Header::OfsDelta { .. } | data::entry::Header::RefDelta { .. } => {
            Ok(StoredBlob::Delta)
        }
        data::entry::Header::Commit | data::entry::Header::Tree | data::entry::Header::Tag => {
            Err(io::Error::other("it is not a blob"))
        }
    }
}

fn copy(found: StoredBlob, oid: &Oid, draft: &mut Draft) -> Result<Streamed, StoreError> {
    let (file, is_loose) = match found {
        StoredBlob::Loose(file) => (file, true),
        StoredBlob::Packed(file) => (file, false),
        StoredBlob::Delta => return Ok(Streamed::NotAStream),
    };
    advise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_SEQUENTIAL);
    let damaged = |error: io::Error| unreadable(oid, &error.to_string());
    let start = (&file).stream_position().map_err(damaged)?;
    // A header is decoded beside the first piece, not as a part of it.
    let header = if is_loose { draft.header().len() } else { 0 };
    let mut input = Inflated::new(BufReader::with_capacity(INPUT_BYTES, file), header);
    let mut piece = input.next().map_err(damaged)?;
    if is_loose && let Some(first) = &mut piece {
        let header = loose_header(first.bytes())
            .ok_or_else(|| unreadable(oid, "its loose file does not begin as that of a blob"))?;
        first.skip(header);
    }
    while let Some(decoded) = piece {
        draft.write(&decoded)?;
        piece = input.next().map_err(damaged)?;
    }
    // Nobody reads them again while the decoded blob is kept.
    let len = input.decoder.total_in();
    advise(input.encoded.get_ref(), start, len, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    Ok(Streamed::Whole)
}

/// Tells the kernel how a part of a file is read. Only an advice: it may be refused.
fn advise(file: impl AsFd, start: u64, len: u64, advice: PosixFadviseAdvice) {
    if let (Ok(start), Ok(len)) = (i64::try_from(start), i64::try_from(len)) {
        posix_fadvise(file, start, len, advice).unwrap_or_default();
    }
}

/// The length of a blob's header, the zero byte included. Its number is not read: the size is checked in the end.
fn loose_header(bytes: &[u8]) -> Option<usize> {
    let end = bytes.iter().take(HEADER_BYTES).position(|byte| *byte == 0)?;
    bytes.starts_with(b"blob ").then_some(end + 1)
}

/// The decoded bytes of a zlib stream, piece by piece: others read one while the next is filled. What follows the stream is not looked at.
struct Inflated {
    encoded: BufReader<File>,
    decoder: Box<Decoder>,
    buffers: [Arc<Vec<u8>>; BUFFERS],
    /// The buffer that was filled last.
    turn: usize,
    /// How much of it was; nothing before the first piece.
    filled: usize,
    /// Where the piece of this turn ends in it, at the latest.
    end: usize,
    is_done: bool,
}

impl Inflated {
    /// The first piece is so much longer than the others.
    fn new(encoded: BufReader<File>, header: usize) -> Self {
        let end = PIECE_BYTES + header.min(WINDOW_BYTES);
        let buffers = std::array::from_fn(|_| Arc::new(vec![0; WINDOW_BYTES + PIECE_BYTES]));
        let decoder = Box::new(Decoder::new(Format::Zlib));
        Self { encoded, decoder, buffers, turn: 0, filled: 0, end, is_done: false }
    }

    fn next(&mut self) -> io::Result<Option<Piece>> {
        if self.is_done {
            return Ok(None);
        }
        let start = self.turn_over();
        let Self { encoded, decoder, buffers, turn, filled, end, is_done } = self;
        let buffer = &mut Arc::make_mut(&mut buffers[*turn])[..*end];
        *filled = start;
        loop {
            let input = match encoded.fill_buf() {
                // A signal came in between, as it may on a network file system.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                input => input?,
            };
            let progress = decoder.decompress(input, buffer, input.is_empty())?;
            *filled += progress.output.len();
            *is_done = progress.done;
            let (is_full, consumed) = (progress.full, progress.consumed);
            encoded.consume(consumed);
            if *is_done || is_full {
                return Ok(Some(Piece::new(buffers[*turn].clone(), start..*filled)));
            }
        }
    }

    /// Goes on in the next buffer, and says where: behind the window, which it takes along.
    fn turn_over(&mut self) -> usize {
        let Some(window) = self.filled.checked_sub(WINDOW_BYTES) else { return 0 };
        let last = self.buffers[self.turn].clone();
        self.turn = (self.turn + 1) % BUFFERS;
        // It is not shared any more: more pieces than may wait have followed it.
        let buffer = Arc::make_mut(&mut self.buffers[self.turn]);
        buffer[window..self.filled].copy_from_slice(&last[window..self.filled]);
        self.decoder.make_room(buffer);
        self.end = buffer.len();
        WINDOW_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::git::fixture::Fixture;

    #[test]
    fn each_piece_begins_at_a_multiple_of_its_size() {
        let fixture = Fixture::new();
        let made = fixture.init("r", &["--bare"]);
        let id = made.blob(&vec![7; 700_000]);
        let header = "blob 700000\0".len();
        let file = File::open(loose::path_of(&made.path.join("objects"), &id)).unwrap();
        let mut input = Inflated::new(BufReader::new(file), header);
        let mut lens = Vec::new();
        while let Some(piece) = input.next().unwrap() {
            lens.push(piece.bytes().len());
        }
        assert_eq!(lens, [header + PIECE_BYTES, PIECE_BYTES, 700_000 - 2 * PIECE_BYTES]);
    }
}
