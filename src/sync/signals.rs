//! The files whose change says that a source may have moved, and a cheap look at them.
//!
//! A look is a few `stat` calls for each source; what it finds changed is resolved anew, so that a look that errs costs time and nothing else.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::resolved::SourceSpec;
use crate::store::git::Repository;
use crate::union::entries::Entry;
use crate::union::name::RelPath;
use crate::union::surface::{EntryRule, Surface};

/// The files that decide what a ref of a repository leads to; none for a full commit id, which leads to itself.
pub(super) fn of_repository(repository: &Repository, git_ref: Option<&str>) -> Vec<PathBuf> {
    let (git_dir, common_dir) = (repository.git_dir(), repository.common_dir());
    if git_ref.is_some_and(|git_ref| repository.is_full_id(git_ref)) {
        return Vec::new();
    }
    let head = git_dir.join("HEAD");
    let mut files = vec![common_dir.join("packed-refs")];
    if repository.has_reftable() {
        files.push(common_dir.join("reftable/tables.list"));
        files.push(git_dir.join("reftable/tables.list"));
    }
    if let Some(git_ref) = git_ref {
        // A full name or a name like `heads/main` is found below the last two only.
        let is_short = !git_ref.contains('/') && git_ref != "HEAD";
        let names = ["refs/remotes/origin", "refs/heads", "refs/tags", "refs", "."];
        let count = if is_short { 3 } else { names.len() };
        files.extend(names[..count].iter().map(|above| common_dir.join(above).join(git_ref)));
    } else {
        let text = fs::read_to_string(&head).unwrap_or_default();
        let branch = text.strip_prefix("ref:").map(str::trim).filter(|name| !name.is_empty());
        files.extend(branch.map(|name| common_dir.join(name)));
        files.push(head);
    }
    files
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
    PathBuf::from(std::ffi::OsString::from_vec(path.to_bytes()))
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
