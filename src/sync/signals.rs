//! The files whose change says that a source may have moved, and a cheap look at them.
//!
//! A look is a few `stat` calls for each source; what it finds changed is resolved anew, so that a look that errs costs time and nothing else.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use super::resolve::{SYMBOLIC_MAX, candidates};
use crate::config::resolved::SourceSpec;
use crate::store::git::Repository;
use crate::union::entries::Entry;
use crate::union::name::RelPath;
use crate::union::surface::{EntryRule, Surface};

/// The longest file of a ref that is looked into, in bytes.
const REF_BYTES_MAX: u64 = 4096;

/// The files that decide what a ref of a repository leads to; none for a full commit id, which leads to itself.
pub(super) fn of_repository(repository: &Repository, git_ref: Option<&str>) -> Vec<PathBuf> {
    let (git_dir, common_dir) = (repository.git_dir(), repository.common_dir());
    if git_ref.is_some_and(|git_ref| repository.is_full_id(git_ref)) {
        return Vec::new();
    }
    let mut files = vec![common_dir.join("packed-refs")];
    if repository.has_reftable() {
        files.push(common_dir.join("reftable/tables.list"));
        files.push(git_dir.join("reftable/tables.list"));
    }
    // Also those that are not there: a ref that comes may hide the one that was found.
    let names = git_ref.map(candidates).unwrap_or_default();
    let mut refs: Vec<_> = names.iter().map(|name| common_dir.join(name)).collect();
    if git_ref.is_none_or(|git_ref| git_ref == "HEAD") {
        // That of a linked work tree is its own.
        refs.push(git_dir.join("HEAD"));
    }
    // One may name another, which moves without it.
    let named = refs.iter().flat_map(|file| named(common_dir, file)).collect::<Vec<_>>();
    files.extend(refs.into_iter().chain(named));
    files
}

/// The file by which a work tree says where its git directory is, where that is elsewhere.
pub(super) fn git_file(place: &Path) -> Option<PathBuf> {
    let file = place.join(".git");
    fs::metadata(&file).is_ok_and(|found| found.is_file()).then_some(file)
}

/// The refs that the file of a symbolic ref leads to, one after the other.
fn named(common_dir: &Path, file: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut next = file.to_owned();
    while files.len() < SYMBOLIC_MAX
        && let Some(name) = symbolic(&next)
    {
        next = common_dir.join(name);
        files.push(next.clone());
    }
    files
}

/// The name that the file of a symbolic ref has, if it leads nowhere else. Other refs are shorter than what is read; what is no regular file
/// is not read.
fn symbolic(file: &Path) -> Option<PathBuf> {
    let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(file).ok()?;
    if !opened.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    opened.take(REF_BYTES_MAX).read_to_end(&mut text).ok()?;
    let name = text.strip_prefix(b"ref:")?.trim_ascii();
    let name = PathBuf::from(OsString::from_vec(name.to_vec()));
    let is_below = name.components().all(|part| matches!(part, Component::Normal(_)));
    (is_below && name.file_name().is_some()).then_some(name)
}

/// The directories whose entries decide the layers of a live source: those of its sub-directories, and where a marker may appear those of
/// its packages and categories.
pub(super) fn of_directory<'a>(
    root: &Path,
    spec: &SourceSpec,
    surfaces: &[Surface],
    layers: impl Iterator<Item = &'a [Entry]>,
) -> Vec<PathBuf> {
    let mut files = vec![root.to_owned()];
    for ((surface, subdir), entries) in surfaces.iter().zip(&spec.subdirs).zip(layers) {
        let Some(subdir) = subdir else { continue };
        let top = root.join(to_path(subdir));
        if matches!(surface.rule, EntryRule::Packages { .. }) {
            let mut below: Vec<_> = entries
                .iter()
                .flat_map(|entry| {
                    let names = entry.path.names();
                    (1..=names.len()).map(|len| names[..len].iter().cloned().collect::<RelPath>())
                })
                .collect();
            below.sort();
            below.dedup();
            files.extend(below.iter().map(|path| top.join(to_path(path))));
        }
        files.push(top);
    }
    files
}

/// The places at which a source that is missing may appear.
pub(super) fn of_places(places: impl IntoIterator<Item = PathBuf>) -> Vec<PathBuf> {
    let inside = |place: PathBuf| [place.join("HEAD"), place.join(".git/HEAD"), place];
    places.into_iter().flat_map(inside).collect()
}

fn to_path(path: &RelPath) -> PathBuf {
    PathBuf::from(OsString::from_vec(path.to_bytes()))
}

/// What a look at a file saw: enough to tell that it was written, replaced or removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamp(Option<FileLook>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileLook {
    file: (u64, u64),
    size_bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Looks at a file, through links.
    pub fn of(path: &Path) -> Self {
        Self(fs::metadata(path).ok().map(|found| FileLook {
            file: (found.dev(), found.ino()),
            size_bytes: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }))
    }

    /// Only which file it is, whatever becomes of its content.
    pub(super) fn which(path: &Path) -> Option<(u64, u64)> {
        Self::of(path).0.map(|seen| seen.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::git::fixture::Fixture;

    #[test]
    fn s60_every_file_that_a_ref_may_be_in_is_looked_at() {
        let fixture = Fixture::new();
        let made = fixture.with_files("r", &[("file", "0")]);
        let repository = Repository::open(&made.path).unwrap();
        for git_ref in ["main", "origin", "origin/main", "heads/main", "refs/heads/main", "HEAD"] {
            let files = of_repository(&repository, Some(git_ref));
            for name in candidates(git_ref) {
                let file = repository.common_dir().join(&name);
                assert!(files.contains(&file), "`{git_ref}` may be `{name}`: {files:?}");
            }
        }
    }

    #[test]
    fn a_stamp_tells_a_file_from_a_later_one_and_from_none() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        let absent = Stamp::of(&file);
        fs::write(&file, "one").unwrap();
        let one = Stamp::of(&file);
        assert_ne!(one, absent);
        assert_eq!(one, Stamp::of(&file));
        let beside = directory.path().join("beside");
        fs::write(&beside, "two").unwrap();
        fs::rename(&beside, &file).unwrap();
        assert_ne!(one, Stamp::of(&file));
    }
}
