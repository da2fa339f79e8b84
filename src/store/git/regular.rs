//! Finds what is no regular file where a repository should have one. Opening a pipe would wait for a writer that never comes.

use std::fs;
use std::path::{Path, PathBuf};

use super::Repository;

/// The files that are read to open a repository and its refs, below a git directory or the work tree around it.
const READ: [&str; 9] = [
    ".git",
    "HEAD",
    "commondir",
    "config",
    "config.worktree",
    "gitdir",
    "objects/info/alternates",
    "packed-refs",
    "shallow",
];

/// Whether there is something, behind links, that is neither a file nor a directory.
pub fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// The name of a file below one of these directories that cannot be read as one.
pub(super) fn find_special(directories: &[&Path]) -> Option<&'static str> {
    let is_any =
        |name: &&str| directories.iter().any(|directory| is_special(&directory.join(name)));
    READ.into_iter().find(|name| is_any(name))
}

impl Repository {
    /// The first path below the object directory where a loose object or a file of a pack should be, and is something else than a regular
    /// file; `None` if there is no such path.
    pub fn special_object(&self) -> Option<PathBuf> {
        let directories = fs::read_dir(self.objects_dir()).into_iter().flatten().flatten();
        let entries = directories.flat_map(|directory| {
            let name = directory.file_name();
            let is_loose = name.len() == 2 || name == "pack" || name == "info";
            is_loose.then(|| fs::read_dir(directory.path())).into_iter().flatten().flatten()
        });
        let mut special = entries.flatten().filter(|entry| {
            entry.file_type().is_ok_and(|kind| !kind.is_file()) && is_special(&entry.path())
        });
        special.next().map(|entry| entry.path())
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use crate::store::git::Repository;
    use crate::store::git::fixture::Fixture;
    use crate::store::git::oid;

    #[test]
    fn pipes_in_a_repository_are_errors_and_nobody_waits_for_them() {
        for name in super::READ.into_iter().filter(|name| *name != ".git") {
            let fixture = Fixture::new();
            let made = fixture.with_files("r", &[("file", "0")]);
            let pipe = made.path.join(".git").join(name);
            std::fs::remove_file(&pipe).unwrap_or_default();
            mkfifo(&pipe, Mode::S_IRWXU).unwrap();
            let said = Repository::open(&made.path).unwrap_err().to_string();
            assert_eq!(said, format!("`{name}` is not a regular file"));
        }
        let fixture = Fixture::new();
        let made = fixture.with_files("r", &[("file", "0")]);
        let repository = Repository::open(&made.path).unwrap();
        let id = "1".repeat(40);
        std::fs::create_dir_all(made.path.join(".git/objects/11")).unwrap();
        mkfifo(&made.path.join(".git/objects/11").join(&id[2..]), Mode::S_IRWXU).unwrap();
        let said = repository.commit(&oid(id.as_bytes()).unwrap()).unwrap_err().to_string();
        assert!(said.contains("not a regular file"), "{said}");
    }
}
