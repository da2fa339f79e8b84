//! Which files of this machine a configuration leads to, so that all others can be closed to who serves it.
//!
//! Everything is named by its real path, and only what is there. A repository is more than its directory: its `.git` may be elsewhere,
//! a linked work tree shares another's, and objects may be borrowed from others without end.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::locate::places;
use crate::config::resolved::{Config, Location, Mode, Origin};

/// How many repositories may borrow from each other in a row.
const LENDERS_MAX: usize = 8;
/// The directory by which a volume of the platform shows a set of files: a link that is replaced.
const VOLUME: &str = "..data";

/// The files that a configuration leads to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// What is read.
    pub read: BTreeSet<PathBuf>,
    /// Repositories: what they have is read, and linked into the state directory.
    pub lend: BTreeSet<PathBuf>,
    /// What is written.
    pub write: BTreeSet<PathBuf>,
}

impl Reach {
    /// The files that a configuration leads to.
    pub fn of(config: &Config) -> Self {
        let mut reach = Self::default();
        match &config.origin {
            Origin::File(file) | Origin::Values(file) => reach.file(file),
            Origin::CommandLine => {}
        }
        reach.write(&config.state.dir);
        if config.repo_cache.is_synced {
            reach.write(&config.repo_cache.path);
            reach.file(&config.repo_cache.token_file);
        } else {
            reach.lend(&config.repo_cache.path);
        }
        for source in config.shown_sources() {
            for place in places(config, source) {
                match source.mode {
                    Mode::Git => repository(&place, &mut reach.lend, 0),
                    Mode::Live => reach.read(&place),
                }
            }
            if let Location::Repo { url: Some(url), .. } = &source.location
                && config.repo_cache.is_synced
            {
                reach.read.extend(local_remote(url));
            }
        }
        reach
    }

    /// The file of a configuration alone.
    pub fn of_file(file: &Path) -> Self {
        let mut reach = Self::default();
        reach.file(file);
        reach
    }

    /// Adds what another leads to.
    pub fn extend(&mut self, other: Self) {
        let Self { read, lend, write } = other;
        self.read.extend(read);
        self.lend.extend(lend);
        self.write.extend(write);
    }

    fn read(&mut self, path: &Path) {
        self.read.extend(path.canonicalize());
    }

    fn lend(&mut self, path: &Path) {
        self.lend.extend(path.canonicalize());
    }

    fn write(&mut self, path: &Path) {
        self.write.extend(path.canonicalize());
    }

    /// A file; of a volume of the platform the whole, since its files are replaced.
    fn file(&mut self, path: &Path) {
        match path.parent().filter(|directory| directory.join(VOLUME).exists()) {
            Some(volume) => self.read(volume),
            None => self.read(path),
        }
    }
}

/// What is read of a remote that is a repository of this machine; nothing of others.
pub(super) fn local_remote(url: &str) -> BTreeSet<PathBuf> {
    let path = url.strip_prefix("file://").unwrap_or(url);
    let mut parts = BTreeSet::new();
    if path.starts_with('/') {
        repository(Path::new(path), &mut parts, 0);
    }
    parts
}

/// A repository and all that it refers to.
fn repository(place: &Path, parts: &mut BTreeSet<PathBuf>, lenders: usize) {
    let Ok(place) = place.canonicalize() else { return };
    parts.insert(place.clone());
    let git_dir = place.join(".git");
    let git_dir = match named(&git_dir, b"gitdir: ", &place) {
        Some(elsewhere) => elsewhere,
        None if git_dir.is_dir() => git_dir,
        None => place,
    };
    let common = named(&git_dir.join("commondir"), b"", &git_dir).unwrap_or(git_dir.clone());
    // Any of these may be a link.
    for part in [
        git_dir.clone(),
        git_dir.join("HEAD"),
        common.clone(),
        common.join("refs"),
        common.join("packed-refs"),
        common.join("objects"),
        common.join("objects/pack"),
        common.join("config"),
    ] {
        parts.extend(part.canonicalize());
    }
    borrowed(&common.join("objects"), parts, lenders);
}

/// The objects that a directory of objects borrows.
fn borrowed(objects: &Path, parts: &mut BTreeSet<PathBuf>, lenders: usize) {
    let Ok(text) = fs::read(objects.join("info/alternates")) else { return };
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let lender = objects.join(as_path(line));
        if let Ok(lender) = lender.canonicalize()
            && parts.insert(lender.clone())
            && lenders < LENDERS_MAX
        {
            borrowed(&lender, parts, lenders + 1);
        }
    }
}

/// The path that a small file names, after `prefix`, from `base`.
fn named(file: &Path, prefix: &[u8], base: &Path) -> Option<PathBuf> {
    if !file.is_file() {
        return None;
    }
    let text = fs::read(file).ok()?;
    Some(base.join(as_path(text.strip_prefix(prefix)?.trim_ascii_end())))
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn git(directory: &Path, arguments: &[&str]) {
        let mut git = Command::new("git");
        git.current_dir(directory).env("GIT_CONFIG_GLOBAL", "/dev/null");
        git.args(["-c", "user.name=test", "-c", "user.email=test@localhost"]);
        let output = git.args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    #[test]
    fn all_parts_of_a_repository_are_found_wherever_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().canonicalize().unwrap().join(name);
        fs::create_dir(at("lender")).unwrap();
        git(&at("lender"), &["init", "--quiet", "--initial-branch=main"]);
        git(&at("lender"), &["commit", "--quiet", "--allow-empty", "--message=test"]);
        git(directory.path(), &["clone", "--quiet", "--shared", "lender", "borrower"]);
        git(&at("borrower"), &["worktree", "add", "--quiet", "../linked"]);
        fs::rename(at("lender/.git/objects"), at("objects")).unwrap();
        std::os::unix::fs::symlink(at("objects"), at("lender/.git/objects")).unwrap();

        let mut parts = BTreeSet::new();
        repository(&at("linked"), &mut parts, 0);
        for part in ["linked", "borrower/.git/worktrees/linked", "borrower/.git", "objects"] {
            assert!(parts.contains(&at(part)), "{part}: {parts:?}");
        }
        assert!(!parts.contains(&at("lender")), "{parts:?}");
        assert!(
            local_remote(&format!("file://{}", at("lender").display())).contains(&at("objects"))
        );
        assert!(local_remote("https://git.example/a").is_empty());
    }

    #[test]
    fn repositories_that_lend_each_other_come_to_an_end() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().canonicalize().unwrap().join(name);
        for (name, lender) in [("a", "../../b/objects"), ("b", "../../a/objects")] {
            fs::create_dir_all(at(name).join("objects/info")).unwrap();
            fs::write(at(name).join("objects/info/alternates"), format!("{lender}\n/none\n"))
                .unwrap();
        }
        let mut parts = BTreeSet::new();
        repository(&at("a"), &mut parts, 0);
        assert!(parts.contains(&at("b/objects")), "{parts:?}");
    }
}
