//! What a worker writes down of each view for the one that comes after it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where a view is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    /// The file of its configuration.
    pub(super) file: PathBuf,
    /// Its mount point.
    pub(super) at: PathBuf,
    /// Where its superblock is mounted.
    pub(super) place: PathBuf,
    /// Whether it was bound to its mount point.
    pub(super) is_bound: bool,
    /// The directories that were made for that, the outermost first.
    pub(super) made: Vec<PathBuf>,
}

impl Note {
    /// As it is written: no path has a byte 0.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let bound: &[u8] = if self.is_bound { b"bound" } else { b"" };
        let paths = [&self.file, &self.at, &self.place].map(|path| bytes(path));
        let made = self.made.iter().map(|path| bytes(path));
        paths.into_iter().chain([bound]).chain(made).collect::<Vec<_>>().join(&0)
    }

    /// What was written.
    pub(super) fn parse(written: &[u8]) -> Option<Self> {
        let mut fields = written.split(|byte| *byte == 0);
        let mut path = || fields.next().map(|bytes| PathBuf::from(OsStr::from_bytes(bytes)));
        let (file, at, place) = (path()?, path()?, path()?);
        let is_bound = !fields.next()?.is_empty();
        let made = fields.map(|bytes| PathBuf::from(OsStr::from_bytes(bytes))).collect();
        Some(Self { file, at, place, is_bound, made })
    }
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        for (is_bound, made) in [(false, vec![]), (true, vec!["/a".into(), "/a/b".into()])] {
            let (file, at, place) = ("/v/x.yaml".into(), "/a/b".into(), "/run/1".into());
            let note = Note { file, at, place, is_bound, made };
            assert_eq!(Note::parse(&note.to_bytes()), Some(note));
        }
        assert_eq!(Note::parse(b"/v/x.yaml\0/a"), None);
    }
}
