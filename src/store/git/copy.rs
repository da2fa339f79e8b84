//! Copies of the objects that a commit needs, for where hard links cannot be had, or are not wanted.
//!
//! Objects are written loose, what a tree names before the tree: a tree that is there has all that is below it, so that the next commit
//! costs what it changed. What is not there or damaged is left out, and is asked of the repository itself if anybody reads it; what cannot be
//! read at the moment is waited for.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use gix::objs::{Kind as GitKind, Write};
use gix::odb::loose;

use super::Repository;
use super::lfs::{LfsObjects, POINTER_BYTES, Pointer};
use super::loose::path_of;
use super::pin::{PinDirectory, PinError, failed};
use super::tree;
use crate::store::StoreError;
use crate::store::patience::{PATIENCE, patiently_until};
use crate::union::object::{Kind, Object, Oid};

/// A directory is outgrown when it holds this many times the objects of its first commit, and [`FEW`] more.
const GROWTH: usize = 2;
/// So that small repositories are not copied anew all the time.
const FEW: usize = 1000;

/// How many objects were copied into a directory.
#[derive(Debug, Default)]
pub(super) struct Copied {
    first: AtomicUsize,
    all: AtomicUsize,
}

impl PinDirectory {
    /// Copies what it lacks of a commit, and of the LFS objects that this commit names. False if it was stopped.
    ///
    /// # Errors
    /// The commit cannot be read, or nothing can be written.
    pub fn copy(
        &self,
        from: &Repository,
        commit: &Oid,
        lfs: Option<&LfsObjects>,
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<bool, PinError> {
        let objects = self.path().join("objects");
        let hash = from.object_hash();
        let to = loose::Store::at(objects.clone(), hash);
        let lfs_to = self.lfs_dir();
        let mut copy = Copy { from, to, objects, lfs, lfs_to, is_stopped, count: 0 };
        let is_done = match copy.commit(commit) {
            // Whatever failed, nobody waits for it any more.
            Err(_) if is_stopped() => false,
            copied => copied?,
        };
        let counts = self.copied();
        counts.all.fetch_add(copy.count, Ordering::Relaxed);
        // Only the first copy finds a zero here.
        counts.first.compare_exchange(0, copy.count, Ordering::Relaxed, Ordering::Relaxed).ok();
        Ok(is_done)
    }

    /// True if most of what it holds is of commits that came before: a new one would take less of the disk.
    pub fn is_outgrown(&self) -> bool {
        let count = |of: &AtomicUsize| of.load(Ordering::Relaxed);
        count(&self.copied().all) > GROWTH * count(&self.copied().first) + FEW
    }

    /// Links the LFS objects that a repository holds. What it has pruned meanwhile is passed over.
    ///
    /// # Errors
    /// One of them cannot be linked.
    pub fn link_lfs(&self, lfs: &LfsObjects) -> Result<(), PinError> {
        for (from, below) in lfs.files() {
            let to = self.lfs_dir().join(below);
            if to.exists() {
                continue;
            }
            make_above(&to)?;
            match fs::hard_link(&from, &to) {
                Err(error) if error.kind() == ErrorKind::CrossesDevices => {
                    return Err(PinError::OtherFileSystem(from));
                }
                outcome => outcome.or_else(unless_moot).map_err(failed("linking", &from))?,
            }
        }
        Ok(())
    }
}

/// One copy on its way.
struct Copy<'a> {
    from: &'a Repository,
    to: loose::Store,
    objects: PathBuf,
    lfs: Option<&'a LfsObjects>,
    lfs_to: PathBuf,
    is_stopped: &'a dyn Fn() -> bool,
    count: usize,
}

/// What is still to be done; the last is next.
enum CopyStep {
    /// Copy what is below a tree, and then itself.
    Tree(Oid),
    /// Write a tree; all that is below it is there.
    Write(Oid, Vec<u8>),
}

impl Copy<'_> {
    fn commit(&mut self, commit: &Oid) -> Result<bool, PinError> {
        let tree = self.from.commit(commit).map_err(incomplete)?.tree;
        let mut steps = vec![CopyStep::Tree(tree)];
        while let Some(step) = steps.pop() {
            if (self.is_stopped)() {
                return Ok(false);
            }
            match step {
                CopyStep::Tree(oid) => self.open(oid, &mut steps)?,
                CopyStep::Write(oid, bytes) => self.write(&oid, GitKind::Tree, &bytes)?,
            }
        }
        let bytes = self.from.object(commit, GitKind::Commit).map_err(incomplete)?;
        self.write(commit, GitKind::Commit, &bytes)?;
        Ok(true)
    }

    fn open(&mut self, oid: Oid, steps: &mut Vec<CopyStep>) -> Result<(), PinError> {
        // LFS objects may have come since a tree was copied.
        if self.lfs.is_none() && self.has(&oid) {
            return Ok(());
        }
        let Some(bytes) = self.read(&oid, GitKind::Tree)? else { return Ok(()) };
        let listed = tree::decode(&bytes, oid.as_bytes().len());
        steps.push(CopyStep::Write(oid, bytes));
        let Ok((listed, _)) = listed else { return Ok(()) };
        for listed in listed {
            match listed.object {
                Object::Frozen { kind: Kind::Directory, oid } => steps.push(CopyStep::Tree(oid)),
                Object::Frozen { kind: Kind::File { .. } | Kind::Link, oid } => self.blob(&oid)?,
                Object::Empty | Object::Live { .. } => {}
            }
        }
        Ok(())
    }

    fn blob(&mut self, oid: &Oid) -> Result<(), PinError> {
        let has = self.has(oid);
        let is_small = || match self.from.header(oid) {
            Ok((_, size_bytes)) => size_bytes < POINTER_BYTES,
            Err(error) => error.is_momentary(),
        };
        if has && (self.lfs.is_none() || !is_small()) {
            return Ok(());
        }
        let Some(bytes) = self.read(oid, GitKind::Blob)? else { return Ok(()) };
        if let Some(lfs) = self.lfs
            && let Some(pointer) = Pointer::parse(&bytes).filter(|pointer| lfs.holds(pointer))
        {
            self.lfs(lfs, &pointer)?;
        }
        if has { Ok(()) } else { self.write(oid, GitKind::Blob, &bytes) }
    }

    /// The bytes of an object; nothing where they cannot be had from the repository.
    fn read(&self, oid: &Oid, kind: GitKind) -> Result<Option<Vec<u8>>, PinError> {
        let until = Instant::now() + PATIENCE;
        let may_pass = |error: &StoreError| error.is_momentary() && !(self.is_stopped)();
        match patiently_until(until, may_pass, || self.from.object(oid, kind)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_momentary() => Err(incomplete(error)),
            Err(_) => Ok(None),
        }
    }

    fn lfs(&self, lfs: &LfsObjects, pointer: &Pointer) -> Result<(), PinError> {
        let (from, below) = lfs.file(pointer);
        let to = self.lfs_to.join(below);
        if to.exists() {
            return Ok(());
        }
        make_above(&to)?;
        let unfinished = to.with_extension("new");
        let copied = fs::copy(&from, &unfinished).and_then(|_| fs::rename(&unfinished, &to));
        copied.or_else(unless_moot).map_err(failed("copying", &from))
    }

    fn has(&self, oid: &Oid) -> bool {
        path_of(&self.objects, &oid.to_string()).exists()
    }

    fn write(&mut self, oid: &Oid, kind: GitKind, bytes: &[u8]) -> Result<(), PinError> {
        if self.has(oid) {
            return Ok(());
        }
        self.to.write_buf(kind, bytes).map_err(|cause| {
            // What the system said is below what the library says.
            let said = cause
                .downcast_any_ref::<io::Error>()
                .map_or(cause.to_string(), io::Error::to_string);
            failed("copying an object into", &self.objects)(io::Error::other(said))
        })?;
        self.count += 1;
        Ok(())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to `map_err`")]
fn incomplete(error: StoreError) -> PinError {
    PinError::Incomplete(error.to_string())
}

fn make_above(file: &Path) -> Result<(), PinError> {
    let Some(above) = file.parent() else { return Ok(()) };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(above);
    made.map_err(failed("creating", above))
}

/// Passes an error on unless the file that was to be kept has gone, or is kept already.
fn unless_moot(error: io::Error) -> io::Result<()> {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::AlreadyExists => Ok(()),
        _ => Err(error),
    }
}
