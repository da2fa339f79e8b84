//! Git LFS: pointers, and the objects that a repository holds for them.
//!
//! The form of a pointer is fixed by `docs/spec.md` of git-lfs, the layout of the objects by its `docs/man/git-lfs-config`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::store::is_momentary;
use crate::union::hex::Hex;

/// Pointers are shorter than this, in bytes.
pub const POINTER_BYTES: u64 = 1024;

/// What an LFS pointer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pointer {
    /// The SHA-256 digest of the object.
    pub digest: [u8; 32],
    /// Its size.
    pub size_bytes: u64,
}

impl Pointer {
    /// Reads a pointer; `None` if the bytes are none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() as u64 >= POINTER_BYTES {
            return None;
        }
        let mut lines = std::str::from_utf8(bytes).ok()?.lines();
        if lines.next()? != "version https://git-lfs.github.com/spec/v1" {
            return None;
        }
        let (mut digest, mut size_bytes) = (None, None);
        for line in lines {
            match line.split_once(' ')? {
                ("oid", value) => digest = Some(digest_of(value.strip_prefix("sha256:")?)?),
                ("size", value) => size_bytes = Some(value.parse().ok()?),
                _ => {}
            }
        }
        Some(Self { digest: digest?, size_bytes: size_bytes? })
    }
}

fn digest_of(hex: &str) -> Option<[u8; 32]> {
    super::commit::oid(hex.as_bytes())?.as_bytes().try_into().ok()
}

/// The LFS objects that a repository held when it was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LfsObjects {
    dir: PathBuf,
    sizes: BTreeMap<[u8; 32], u64>,
}

impl LfsObjects {
    /// Looks at the objects of the repository whose common directory this is. What cannot be read is not there.
    ///
    /// # Errors
    /// What is there cannot be told at the moment.
    pub fn scan(common_dir: &Path) -> io::Result<Self> {
        let dir = common_dir.join("lfs/objects");
        let mut sizes = BTreeMap::new();
        for file in files_below(&dir, 2)? {
            let Some(name) = file.file_name().and_then(|name| name.to_str()) else { continue };
            let Some(digest) = digest_of(name) else { continue };
            let Some(metadata) = now(fs::symlink_metadata(&file))? else { continue };
            if metadata.is_file() && file == path_of(&dir, &digest) {
                sizes.insert(digest, metadata.len());
            }
        }
        Ok(Self { dir, sizes })
    }

    /// True if the object that the pointer names is there in its size.
    pub fn holds(&self, pointer: &Pointer) -> bool {
        self.sizes.get(&pointer.digest) == Some(&pointer.size_bytes)
    }

    /// Opens an object: where it is pinned, else in the repository.
    ///
    /// # Errors
    /// It was removed or cannot be read.
    pub fn open(&self, pointer: &Pointer, pin: Option<&Path>) -> io::Result<File> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
        let open = |dir: &Path| {
            let mut options = fs::OpenOptions::new();
            options.read(true).custom_flags(flags).open(path_of(dir, &pointer.digest))
        };
        match pin.map(open) {
            Some(Ok(file)) => Ok(file),
            Some(Err(_)) | None => open(&self.dir),
        }
    }

    /// Where an object is, and what that is below the directory of all.
    pub(super) fn file(&self, pointer: &Pointer) -> (PathBuf, PathBuf) {
        (path_of(&self.dir, &pointer.digest), path_of(Path::new(""), &pointer.digest))
    }

    /// As [`file`](Self::file), of all that are there.
    pub(super) fn files(&self) -> impl Iterator<Item = (PathBuf, PathBuf)> {
        let both = |digest| (path_of(&self.dir, digest), path_of(Path::new(""), digest));
        self.sizes.keys().map(both)
    }

    /// A digest of which objects are there.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for (digest, size_bytes) in &self.sizes {
            hash.update(digest);
            hash.update(size_bytes.to_be_bytes());
        }
        hash.finalize().into()
    }

    /// Exactly these objects of a directory, with their sizes in bytes.
    pub fn exactly(dir: PathBuf, sizes: impl IntoIterator<Item = ([u8; 32], u64)>) -> Self {
        Self { dir, sizes: sizes.into_iter().collect() }
    }

    /// Where they are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The digest and the size in bytes of each, sorted.
    pub fn sizes(&self) -> impl Iterator<Item = (&[u8; 32], u64)> {
        self.sizes.iter().map(|(digest, size_bytes)| (digest, *size_bytes))
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }
}

fn path_of(dir: &Path, digest: &[u8; 32]) -> PathBuf {
    let hex = Hex(digest).to_string();
    dir.join(&hex[..2]).join(&hex[2..4]).join(&hex)
}

fn files_below(dir: &Path, levels: u32) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in now(fs::read_dir(dir))?.into_iter().flatten() {
        let Some(entry) = now(entry)? else { continue };
        match levels.checked_sub(1) {
            Some(levels) => files.extend(files_below(&entry.path(), levels)?),
            None => files.push(entry.path()),
        }
    }
    Ok(files)
}

/// Nothing where it cannot be read, unless that may pass.
fn now<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Err(error) if is_momentary(&error) => Err(error),
        read => Ok(read.ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pointers_are_pointers() {
        let oid = "ab".repeat(32);
        let text =
            format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 12\n");
        let pointer = Pointer::parse(text.as_bytes()).unwrap();
        assert_eq!((pointer.digest, pointer.size_bytes), ([0xab; 32], 12));
        for bad in [
            text.replace("v1", "v9"),
            text.replace("sha256", "md5"),
            text.replace("size 12", "size x"),
            text.replace("size 12\n", ""),
            text.replace("ab", "a"),
            text.clone() + &"x y\n".repeat(300),
            String::new(),
        ] {
            assert_eq!(Pointer::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
