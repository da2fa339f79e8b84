//! Small loose objects, read by ourselves.
//!
//! The library maps the file of each object and unmaps it again. Unmapping interrupts every other processor on which this process runs, for
//! 20 us in a virtual machine: several threads that open repositories at once took longer than one (2026-11-30, 300 repositories without a
//! pack). Whatever is not as expected here is left to the library.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::objs::Kind as GitKind;
use gix::objs::decode::loose_header;
use sirocco::Format;
use sirocco::inflate::Decoder;

/// Larger files are left to the library.
const ENCODED_MAX: u64 = 64 << 10;
/// So are larger objects.
const DECODED_MAX: usize = 1 << 20;
/// The header is shorter than this: a type, a number and a zero byte.
pub(super) const HEADER_BYTES: usize = 64;

/// The file of a loose object below an object directory, whether it is there or not. `hex` is its id in hexadecimal digits.
pub(super) fn path_of(objects_dir: &Path, hex: &str) -> PathBuf {
    objects_dir.join(&hex[..2]).join(&hex[2..])
}

/// What stands in the place of a loose object.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LoosePlace {
    /// Nothing that can be read.
    Empty,
    /// A file, behind links.
    File(LooseFile),
    /// Something whose opening would wait: a pipe, a device.
    Special,
}

/// The file of a loose object.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LooseFile {
    path: PathBuf,
    len: u64,
}

impl LoosePlace {
    /// Looks at the place of an object below an object directory.
    pub(super) fn of(id: &ObjectId, objects_dir: &Path) -> Self {
        let path = path_of(objects_dir, &id.to_hex().to_string());
        match fs::metadata(&path) {
            Ok(found) if found.is_file() => Self::File(LooseFile { path, len: found.len() }),
            Ok(found) if !found.is_dir() => Self::Special,
            Ok(_) | Err(_) => Self::Empty,
        }
    }
}

impl LooseFile {
    /// The type and size that its header says.
    pub(super) fn header(&self) -> Option<(GitKind, u64)> {
        let mut encoded = [0; 2 * HEADER_BYTES];
        let mut file = File::open(&self.path).ok()?;
        let (mut len, mut decoded) = (0, [0; HEADER_BYTES]);
        while len < encoded.len() {
            match file.read(&mut encoded[len..]).ok()? {
                0 => break,
                more => len += more,
            }
        }
        let mut decoder = Box::new(Decoder::new(Format::Zlib));
        let decoded = decoder.decompress(&encoded[..len], &mut decoded, false).ok()?.output;
        let (kind, size_bytes, _) = loose_header(decoded).ok()?;
        Some((kind, size_bytes))
    }

    /// The type and bytes of a small object. Nobody has compared them with its id.
    pub(super) fn object(&self) -> Option<(GitKind, Vec<u8>)> {
        if self.len > ENCODED_MAX {
            return None;
        }
        let mut encoded = Vec::with_capacity(usize::try_from(self.len).ok()?.saturating_add(1));
        File::open(&self.path).ok()?.take(ENCODED_MAX).read_to_end(&mut encoded).ok()?;
        let mut bytes = sirocco::decompress(Format::Zlib, &encoded, DECODED_MAX).ok()?;
        let (kind, size_bytes, header) = loose_header(&bytes).ok()?;
        bytes.drain(..header);
        (bytes.len() as u64 == size_bytes).then_some((kind, bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::store::git::fixture::Fixture;
    use crate::store::git::oid;

    #[test]
    fn what_is_read_here_is_what_the_library_reads() {
        let fixture = Fixture::new();
        let text = "line of text\n".repeat(2000);
        let made = fixture.with_files("r", &[("small", "small\n"), ("text", &text), ("empty", "")]);
        let objects = made.path.join(".git/objects");
        let library = gix::open(&made.path).unwrap();
        let listed = made.git(&["rev-list", "--objects", "--no-object-names", "--all"]);
        assert_eq!(listed.lines().count(), 5, "a commit, a tree and three files: {listed}");
        for hex in listed.lines() {
            let id = ObjectId::from_hex(hex.as_bytes()).unwrap();
            let wanted = library.find_object(id).unwrap().detach();
            let LoosePlace::File(file) = LoosePlace::of(&id, &objects) else {
                panic!("{hex} is not loose")
            };
            assert_eq!(file.header().unwrap(), (wanted.kind, wanted.data.len() as u64));
            assert_eq!(file.object().unwrap(), (wanted.kind, wanted.data));
        }
    }

    #[test]
    fn what_is_cut_too_long_or_no_file_is_left_to_the_library() {
        let fixture = Fixture::new();
        let made = fixture.with_files("r", &[("file", "0")]);
        let objects = made.path.join(".git/objects");
        let id = made.git(&["rev-parse", "HEAD:file"]);
        let id = ObjectId::try_from(oid(id.trim().as_bytes()).unwrap().as_bytes()).unwrap();
        let LoosePlace::File(file) = LoosePlace::of(&id, &objects) else {
            panic!("it is not loose")
        };
        let whole = fs::read(&file.path).unwrap();
        fs::remove_file(&file.path).unwrap();
        assert_eq!(LoosePlace::of(&id, &objects), LoosePlace::Empty);
        for wrong in [&whole[..whole.len() - 1], &[&whole[..], b"more"].concat(), b"", b"text"] {
            fs::write(&file.path, wrong).unwrap();
            assert_eq!(file.object(), None, "{wrong:?}");
        }
        let long = LooseFile { len: ENCODED_MAX + 1, path: file.path.clone() };
        fs::write(&file.path, &whole).unwrap();
        assert_eq!(
            (long.object(), file.object().map(|(_, bytes)| bytes)),
            (None, Some(vec![b'0']))
        );
        fs::remove_file(&file.path).unwrap();
        symlink("/dev/null", &file.path).unwrap();
        assert_eq!(LoosePlace::of(&id, &objects), LoosePlace::Special);
    }
}
