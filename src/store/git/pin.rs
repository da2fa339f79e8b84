//! A directory of our own that holds the objects of a repository as hard links, or copies of them, so that they stay when the repository
//! loses them.
//!
//! It is laid out as a bare repository without refs. The repository that lends the objects is only listed and read; its files get
//! one more name, outside of it. Alternates alone are no pin: the gc of a lender does not know its borrowers.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use thiserror::Error;

use super::Repository;
use super::copy::Copied;
use super::digest::short_digest;

/// At most so many object directories lend to one repository.
const LENDERS_MAX: usize = 64;
/// At most so many files are linked for one repository: mounting waits for it, and git itself packs
/// loose objects when there are 6,700.
const FILES_MAX: usize = 10_000;
/// How often a repository is listed at most, until a listing has nothing new.
const ROUNDS: usize = 6;
/// The files that every pin directory has, written once in the root and linked: `HEAD`, and a `config` for the kind of its object ids.
const TEMPLATES: [(&str, &str); 3] = [
    ("HEAD", "ref: refs/heads/none\n"),
    ("config-sha1", "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"),
    (
        "config-sha256",
        "[core]\n\trepositoryformatversion = 1\n\tbare = true\n[extensions]\n\tobjectformat = sha256\n",
    ),
];
/// Files of a pack in the order in which they are linked: whoever sees the index finds the rest.
const PACK_FILES: [&str; 3] = ["pack", "rev", "idx"];

/// Why objects could not be pinned.
#[derive(Debug, Error)]
pub enum PinError {
    /// Hard links do not cross file systems.
    #[error("the state directory and `{}` are on different file systems", .0.display())]
    OtherFileSystem(PathBuf),
    /// The repository's objects are spread over too many files.
    #[error("`{}` has more than {FILES_MAX} packs and loose objects", .0.display())]
    TooMany(PathBuf),
    /// The repository borrows objects in a way that cannot be followed.
    #[error("the alternates of `{}` cannot be followed: {problem}", place.display())]
    Alternates {
        /// The object directory that borrows.
        place: PathBuf,
        /// What failed.
        problem: String,
    },
    /// Something in the place of an object or a pack is no regular file.
    #[error("`{}` is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// Another program changed the repository all the time.
    #[error("`{}` did not hold still", .0.display())]
    Restless(PathBuf),
    /// What was linked does not hold what is to be served.
    #[error("what was linked is not complete: {0}")]
    Incomplete(String),
    /// The operating system refused.
    #[error("{step} `{}`: {error}", path.display())]
    Io {
        /// What was attempted.
        step: &'static str,
        /// Where.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
}

pub(super) fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PinError {
    move |error| PinError::Io { step, path: path.to_owned(), error }
}

/// The object directories of a repository: its own, and those that it borrows from.
#[derive(Debug)]
pub struct Lenders(Vec<PathBuf>);

impl Lenders {
    /// Finds them, alternates of alternates included.
    ///
    /// # Errors
    /// Alternates lead in a circle, nowhere, or to too many directories.
    pub fn of(repository: &Repository) -> Result<Self, PinError> {
        let own = repository.objects_dir().to_owned();
        let problem = |problem| PinError::Alternates { place: own.clone(), problem };
        if !own.join("info/alternates").exists() {
            return Ok(Self(vec![own]));
        }
        let borrowed = gix::odb::alternate::resolve(own.clone(), Path::new("/"));
        let mut all = borrowed.map_err(|error| problem(error.to_string()))?;
        all.retain(|dir| *dir != own);
        all.insert(0, own.clone());
        if all.len() > LENDERS_MAX {
            return Err(problem(format!("they are more than {LENDERS_MAX}")));
        }
        Ok(Self(all))
    }

    /// When packs came or went last, for each directory.
    pub fn stamps(&self) -> Vec<Option<SystemTime>> {
        let time = |dir: &PathBuf| dir.join("pack").metadata().and_then(|meta| meta.modified());
        self.0.iter().map(|dir| time(dir).ok()).collect()
    }

    /// Checks that hard links from all of them to a device are thinkable.
    ///
    /// # Errors
    /// One of them is on another device.
    pub fn expect_on(&self, device: u64) -> Result<(), PinError> {
        for dir in &self.0 {
            let found = dir.metadata().map_err(failed("looking at", dir))?.dev();
            if found != device {
                return Err(PinError::OtherFileSystem(dir.clone()));
            }
        }
        Ok(())
    }

    /// Every file that holds objects, in the order in which they are to be linked.
    fn list(&self) -> Result<Vec<LentFile<'_>>, PinError> {
        let mut found = Vec::new();
        for dir in &self.0 {
            list_packs(dir, &mut found)?;
        }
        for dir in &self.0 {
            list_loose(dir, &mut found)?;
        }
        // Once more: what was packed after they were listed, and then removed before the loose objects were, is in none of the two.
        for dir in &self.0 {
            list_packs(dir, &mut found)?;
        }
        Ok(found)
    }
}

/// A file that holds objects.
struct LentFile<'a> {
    /// The object directory.
    dir: &'a Path,
    /// `pack`, or the first two digits.
    above: OsString,
    name: OsString,
}

impl LentFile<'_> {
    fn below(&self) -> PathBuf {
        Path::new(&self.above).join(&self.name)
    }

    fn key(&self) -> FileKey {
        file_key(&self.above, &self.name)
    }
}

/// Tells a file below an object directory from all others there. A digest, and not the path, since thousands are held for as long as the pin.
type FileKey = [u8; 16];

fn file_key(above: &OsStr, name: &OsStr) -> FileKey {
    short_digest(&[above.as_encoded_bytes(), b"/", name.as_encoded_bytes()])
}

/// The names in a directory that is there, with whether each is a regular file.
fn names(dir: &Path) -> Result<Vec<(OsString, bool)>, PinError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("listing", dir)(error)),
    };
    let name = |entry: io::Result<fs::DirEntry>| {
        let entry = entry?;
        let is_file = match entry.file_type() {
            Ok(kind) => kind.is_file(),
            // It has just gone; linking it will tell.
            Err(_) => true,
        };
        Ok((entry.file_name(), is_file))
    };
    entries.map(name).collect::<io::Result<_>>().map_err(failed("listing", dir))
}

fn list_packs<'a>(dir: &'a Path, found: &mut Vec<LentFile<'a>>) -> Result<(), PinError> {
    let packs = dir.join("pack");
    let files: std::collections::HashMap<_, _> = names(&packs)?.into_iter().collect();
    for name in files.keys() {
        let path = Path::new(name);
        let is_index = path.extension() == Some(OsStr::new("idx"))
            && name.as_encoded_bytes().starts_with(b"pack-");
        if !is_index || !files.contains_key(path.with_extension("pack").as_os_str()) {
            continue;
        }
        for extension in PACK_FILES {
            let name = path.with_extension(extension).into_os_string();
            match files.get(&name) {
                Some(true) => found.push(LentFile { dir, above: "pack".into(), name }),
                Some(false) => return Err(PinError::NotAFile(packs.join(name))),
                None => {}
            }
        }
    }
    expect_few(dir, found.len())
}

fn list_loose<'a>(dir: &'a Path, found: &mut Vec<LentFile<'a>>) -> Result<(), PinError> {
    let is_hex = |name: &OsStr, lengths: &[usize]| {
        let bytes = name.as_encoded_bytes();
        lengths.contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_hexdigit)
    };
    for (above, _) in names(dir)? {
        if !is_hex(&above, &[2]) {
            continue;
        }
        for (name, is_file) in names(&dir.join(&above))? {
            if !is_hex(&name, &[38, 62]) {
                continue;
            }
            if !is_file {
                return Err(PinError::NotAFile(dir.join(&above).join(name)));
            }
            found.push(LentFile { dir, above: above.clone(), name });
        }
        expect_few(dir, found.len())?;
    }
    Ok(())
}

fn expect_few(dir: &Path, files: usize) -> Result<(), PinError> {
    if files > FILES_MAX { Err(PinError::TooMany(dir.to_owned())) } else { Ok(()) }
}

/// What came of filling a pin directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// It holds all that the repository holds.
    Whole,
    /// It holds files that the repository has lost: a new one would take less of the disk.
    Outgrown,
}

/// A directory with the objects of one repository. Its removal is ordered when the value goes.
#[derive(Debug)]
pub struct PinDirectory {
    /// Nothing if it is not to be removed.
    pub(super) path: PathBuf,
    /// Where directories go that are not needed any more.
    removal: Sender<PathBuf>,
    /// Files below `objects`.
    linked: Mutex<HashSet<FileKey>>,
    /// How many objects are copies.
    copied: Copied,
}

impl PinDirectory {
    /// Writes the files that all pin directories directly below `root` share: a link costs a tenth of a new file.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn prepare(root: &Path) -> io::Result<()> {
        // Those of an earlier daemon are the same and are left: writing over a file has the disk written when it is closed.
        TEMPLATES.iter().try_for_each(|(name, content)| {
            let path = root.join(name);
            match fs::read(&path) {
                Ok(found) if found == content.as_bytes() => Ok(()),
                Ok(_) | Err(_) => fs::write(&path, content),
            }
        })
    }

    /// Makes an empty one directly below a root that was prepared, for objects with ids of `id_len` bytes.
    ///
    /// # Errors
    /// The directory is there already, or cannot be made.
    pub fn create(
        root: &Path,
        name: &str,
        id_len: usize,
        removal: Sender<PathBuf>,
    ) -> Result<Self, PinError> {
        let path = root.join(name);
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        builder.create(&path).map_err(failed("creating", &path))?;
        let made = Self { path, removal, linked: Mutex::default(), copied: Copied::default() };
        for name in ["objects", "refs"] {
            builder.create(made.path.join(name)).map_err(failed("creating", &made.path))?;
        }
        let config = if id_len == 32 { "config-sha256" } else { "config-sha1" };
        for (from, to) in [(config, "config"), ("HEAD", "HEAD")] {
            let to = made.path.join(to);
            fs::hard_link(root.join(from), &to).map_err(failed("linking", &to))?;
        }
        Ok(made)
    }

    /// Takes one over that an earlier daemon made.
    ///
    /// # Errors
    /// It cannot be listed.
    pub fn adopt(path: PathBuf, removal: Sender<PathBuf>) -> Result<Self, PinError> {
        let objects = path.join("objects");
        let mut linked = HashSet::new();
        for (above, is_file) in names(&objects)? {
            if !is_file && (above == "pack" || above.len() == 2) {
                let files = names(&objects.join(&above))?;
                linked.extend(files.into_iter().map(|(name, _)| file_key(&above, &name)));
            }
        }
        Ok(Self { path, removal, linked: Mutex::new(linked), copied: Copied::default() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where LFS objects are in it.
    pub fn lfs_dir(&self) -> PathBuf {
        self.path.join("lfs/objects")
    }

    pub(super) fn copied(&self) -> &Copied {
        &self.copied
    }

    /// Links what it lacks of a repository, which may change meanwhile.
    ///
    /// # Errors
    /// A file cannot be linked, or the repository does not hold still.
    pub fn fill(&self, lenders: &Lenders) -> Result<Filled, PinError> {
        let mut linked = self.linked.lock().unwrap_or_else(PoisonError::into_inner);
        let had_any = !linked.is_empty();
        for round in 0..ROUNDS {
            let listed = lenders.list()?;
            if had_any && round == 0 {
                let present: HashSet<_> = listed.iter().map(LentFile::key).collect();
                if !linked.is_subset(&present) {
                    return Ok(Filled::Outgrown);
                }
            }
            let mut is_still = true;
            for lent in &listed {
                if linked.contains(&lent.key()) {
                    continue;
                }
                is_still = false;
                if self.link(lent, &lent.below())? {
                    linked.insert(lent.key());
                }
            }
            // An object that is packed meanwhile is missed where its pack came after the packs were listed: what holds
            // still for a whole round holds everything.
            if is_still {
                return Ok(Filled::Whole);
            }
        }
        Err(PinError::Restless(lenders.0[0].clone()))
    }

    /// Links one file; false if it is gone.
    fn link(&self, lent: &LentFile<'_>, below: &Path) -> Result<bool, PinError> {
        let (from, to) = (lent.dir.join(below), self.path.join("objects").join(below));
        let mut outcome = fs::hard_link(&from, &to);
        if outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            let above = self.path.join("objects").join(&lent.above);
            match DirBuilder::new().mode(0o700).create(&above) {
                Ok(()) => outcome = fs::hard_link(&from, &to),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed("creating", &above)(error)),
            }
        }
        match outcome {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) if error.kind() == ErrorKind::CrossesDevices => {
                Err(PinError::OtherFileSystem(lent.dir.to_owned()))
            }
            Err(error) => Err(failed("linking", &from)(error)),
        }
    }
}

impl Drop for PinDirectory {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.path);
        if path != Path::new("") {
            // Without a receiver the daemon is stopping, and removes all of them at once.
            self.removal.send(path).unwrap_or_default();
        }
    }
}
