//! A git repository of whatever form, opened so that nothing but its own files decides what it says.

use std::fmt::{self, Display};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use gix::odb::store::init::Slots;
use thiserror::Error;

use super::again::{Again, momentary};
use super::bases::Bases;
use super::commit::oid as parse_oid;
use super::digest::short_digest;
use super::objects::unreadable;
use super::pin::PinDirectory;
use super::regular::find_special;
use crate::store::blobs::{OBJECT_BYTES, WHOLE_BYTES_MAX};
use crate::store::{StoreError, is_momentary};
use crate::union::object::Oid;

/// For how many packs an open repository has room: for this many at least, or for twice as many as it has. That cannot grow later. A slot
/// costs 360 bytes, used or not, which are written when the repository is opened. git itself repacks at 50 packs.
const SLOTS: Slots = Slots::AsNeededByDiskState { multiplier: 2.0, minimum: SLOTS_MIN };
const SLOTS_MIN: usize = 80;
/// How long after a pin could not be opened that is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// An open repository: a checkout, a bare one, a mirror, or a linked work tree.
pub struct Repository {
    pub(super) inner: gix::ThreadSafeRepository,
    key: [u8; 16],
    /// The largest object that is read.
    object_bytes: u64,
    /// How many packs it had when it was opened.
    packs: usize,
    /// The pin, if the repository is read from one.
    pub(super) pin: Option<Pinned>,
    /// Handles of the library that nobody uses at present. Only one thread may use a handle at a time, and a new one costs 10 us and a buffer
    /// of 48 KiB to inflate with.
    pub(super) idle: Mutex<Vec<gix::Repository>>,
    pub(super) bases: Bases,
    pub(super) again: Again,
}

/// A pin that is read in the place of a repository.
#[derive(Debug)]
pub(super) struct Pinned {
    /// Its objects, which go with the last reader.
    directory: PinDirectory,
    /// The repository itself, for what the pin lacks: a partial clone gets objects later. None until it is found again after a restart.
    lender: ArcSwapOption<Repository>,
}

/// Why a directory could not be opened as a repository.
#[derive(Debug, Clone, Error)]
#[error("{said}")]
pub struct OpenError {
    said: String,
    /// Whether it may pass by itself.
    pub is_momentary: bool,
}

impl OpenError {
    fn lasting(said: impl Into<String>) -> Self {
        Self { said: said.into(), is_momentary: false }
    }
}

impl Repository {
    /// As [`Repository::open_within`], with the limit that holds where nobody sets one.
    ///
    /// # Errors
    /// As there.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_within(path, OBJECT_BYTES)
    }

    /// Opens the repository at a path: its work tree, its git directory, or a bare one. Objects of more than `object_bytes` are not read.
    ///
    /// Foreign ownership is no obstacle. Environment, system and user configuration are not read.
    ///
    /// # Errors
    /// There is no repository, or its configuration cannot be read.
    pub fn open_within(path: &Path, object_bytes: u64) -> Result<Self, OpenError> {
        // Each place is looked at once: that is nine system calls.
        let below = path.join(".git");
        let mut looked_at = vec![path];
        looked_at.extend(below.is_dir().then_some(below.as_path()));
        expect_files(&looked_at)?;
        let opened = catch_unwind(AssertUnwindSafe(|| options(object_bytes).open(path)));
        let inner = match opened {
            Ok(Ok(inner)) => inner,
            Ok(Err(error)) => {
                let is_momentary = momentary(&error).is_some();
                return Err(OpenError { said: words(&error), is_momentary });
            }
            Err(_) => return Err(OpenError::lasting("its configuration cannot be understood")),
        };
        // These may be elsewhere, as those of a linked work tree are.
        let mut elsewhere = vec![inner.git_dir()];
        elsewhere.extend(inner.common_dir.as_deref());
        elsewhere.retain(|directory| !looked_at.contains(directory));
        expect_files(&elsewhere)?;
        expect_configuration(&inner)?;
        let place = real(inner.objects_dir());
        let key = short_digest(&[place.as_os_str().as_encoded_bytes()]);
        let packs = count_packs(inner.objects_dir());
        let (idle, bases, again) = (Mutex::default(), Bases::new(), Again::within(object_bytes));
        Ok(Self { inner, key, object_bytes, packs, pin: None, idle, bases, again })
    }

    /// Opens a repository by the objects of its pin. What these lack is looked for in the repository itself.
    ///
    /// # Errors
    /// The pin cannot be read.
    pub fn open_pinned(lender: Arc<Self>, directory: PinDirectory) -> Result<Self, OpenError> {
        let opened = Self::open_within(directory.path(), lender.object_bytes)?;
        let pinned = opened.of_pin(directory, lender.key);
        pinned.set_lender(lender);
        Ok(pinned)
    }

    fn of_pin(self, directory: PinDirectory, key: [u8; 16]) -> Self {
        let lender = ArcSwapOption::empty();
        Self { key, pin: Some(Pinned { directory, lender }), ..self }
    }

    /// Opens a pin that an earlier daemon has left and whose repository is not known yet. `key` is that of the repository, `object_bytes` as for
    /// [`Repository::open_within`]. What keeps it from being read and may pass is waited for; if it does not, the pin stays for the next daemon.
    ///
    /// # Errors
    /// The pin cannot be read.
    pub fn open_left(
        directory: PinDirectory,
        key: [u8; 16],
        object_bytes: u64,
        patience: Duration,
    ) -> Result<Self, OpenError> {
        let until = Instant::now() + patience;
        loop {
            match Self::open_within(directory.path(), object_bytes) {
                Ok(opened) => return Ok(opened.of_pin(directory, key)),
                Err(error) if !error.is_momentary => return Err(error),
                Err(error) if Instant::now() >= until => {
                    directory.leave();
                    return Err(error);
                }
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    /// Looks in this repository for what the pin lacks, from now on. A repository that is itself read from a pin is not taken: a chain of
    /// lenders might not end.
    pub fn set_lender(&self, lender: Arc<Self>) {
        if let Some(pin) = self.pin.as_ref().filter(|_| lender.pin.is_none()) {
            pin.lender.store(Some(lender));
        }
    }

    /// The pin, if it is read from one.
    pub fn pin(&self) -> Option<&PinDirectory> {
        self.pin.as_ref().map(|pin| &pin.directory)
    }

    /// The repository that the pin was made of; `None` if there is no pin, or its repository is not known yet.
    pub fn lender(&self) -> Option<Arc<Self>> {
        self.pin.as_ref().and_then(|pin| pin.lender.load_full())
    }

    /// Checks that a commit and the tree at its top are here, and not only in the repository that a pin was made of.
    ///
    /// # Errors
    /// One of them is not, or cannot be read.
    pub fn expect_here(&self, commit: &Oid) -> Result<(), StoreError> {
        let tree = self.commit(commit)?.tree;
        for oid in [commit, &tree] {
            let found = self.ask_here(oid, |_| None, gix::Repository::find_header)?;
            found.ok_or_else(|| unreadable(oid, "it is not in the pin"))?;
        }
        Ok(())
    }

    /// The largest object that is decoded in memory.
    pub(super) fn whole_bytes(&self) -> u64 {
        self.object_bytes.min(WHOLE_BYTES_MAX)
    }

    /// Its own git directory; of a linked work tree the one below `worktrees`.
    pub fn git_dir(&self) -> &Path {
        self.inner.git_dir()
    }

    /// The git directory that it shares with its linked work trees.
    pub fn common_dir(&self) -> &Path {
        self.inner.common_dir.as_deref().unwrap_or_else(|| self.inner.git_dir())
    }

    /// Its work tree, if it has one.
    pub fn work_dir(&self) -> Option<&Path> {
        self.inner.work_dir()
    }

    /// Where its objects are.
    pub fn objects_dir(&self) -> &Path {
        self.inner.objects_dir()
    }

    /// Whether all packs that it has by now can be known to it; else it has to be opened anew.
    pub fn has_room_for_packs(&self) -> bool {
        count_packs(self.objects_dir()) <= SLOTS_MIN.max(self.packs * 2) / 4 * 3
    }

    /// Tells it from every other repository: a digest of where its objects really are.
    pub fn key(&self) -> [u8; 16] {
        self.key
    }

    /// The length of its object ids: 20 or 32 bytes.
    pub fn id_len(&self) -> usize {
        self.object_hash().len_in_bytes()
    }

    /// Whether a text is a full object id of this repository's kind.
    pub fn is_full_id(&self, text: &str) -> bool {
        parse_oid(text.as_bytes()).is_some_and(|id| id.as_bytes().len() == self.id_len())
    }

    /// True if its refs are in a reftable, which only the `git` program reads.
    pub fn has_reftable(&self) -> bool {
        self.common_dir().join("reftable").is_dir()
    }

    /// The kind of its object ids. It is asked of the store: a handle of the library costs 10 us and touches 48 KiB.
    pub(super) fn object_hash(&self) -> gix::hash::Kind {
        self.inner.objects.object_hash()
    }

    /// A handle of the library for one thread.
    pub fn to_thread_local(&self) -> gix::Repository {
        self.inner.to_thread_local()
    }

    /// Whether a commit is another one or comes from it, as far as its `newer_max` nearest say.
    pub fn comes_from(&self, commit: &Oid, other: &Oid, newer_max: usize) -> bool {
        if commit == other {
            return true;
        }
        let library = self.to_thread_local();
        let id = |oid: &Oid| gix::ObjectId::try_from(oid.as_bytes());
        let (Ok(commit), Ok(other)) = (id(commit), id(other)) else { return false };
        // What it is asked about was written by others.
        let found = catch_unwind(AssertUnwindSafe(|| {
            let walk = library.rev_walk([commit]).all().ok()?;
            walk.take(newer_max).map_while(Result::ok).find(|newer| newer.id == other)
        }));
        found.is_ok_and(|found| found.is_some())
    }

    /// Its loose and packed refs, without a handle for objects.
    pub fn refs(&self) -> gix::refs::file::Store {
        self.inner.refs.clone()
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Repository").field(&self.git_dir()).finish()
    }
}

/// How repositories are opened: nothing but their own files decides what they say, and an object with more bytes than this is not decoded in memory.
pub(super) fn options(object_bytes: u64) -> gix::open::Options {
    let whole_bytes = object_bytes.min(WHOLE_BYTES_MAX);
    let overrides = [
        "core.useReplaceRefs=false".to_owned(),
        "core.deltaBaseCacheLimit=0".to_owned(),
        format!("gitoxide.objects.allocLimit={whole_bytes}"),
    ];
    gix::open::Options::isolated()
        .with(gix::sec::Trust::Full)
        .object_store_slots(SLOTS)
        .config_overrides(overrides)
}

/// Checks that nothing below these directories would be waited for.
fn expect_files(directories: &[&Path]) -> Result<(), OpenError> {
    let special = find_special(directories);
    special
        .map_or(Ok(()), |name| Err(OpenError::lasting(format!("`{name}` is not a regular file"))))
}

/// Checks that the configuration was read: the library takes one that it cannot read for an empty one, and with that long ids for short ones.
fn expect_configuration(opened: &gix::ThreadSafeRepository) -> Result<(), OpenError> {
    let configuration = opened.to_thread_local();
    let configuration = configuration.config_snapshot();
    let is_own = |source| source == gix::config::Source::Local;
    if configuration.plumbing().sections().any(|section| is_own(section.meta().source)) {
        return Ok(());
    }
    let begins_section = |line: &[u8]| line.trim_ascii_start().starts_with(b"[");
    let said = |error: &dyn Display| format!("its configuration cannot be read: {error}");
    match fs::read(opened.common_dir.as_deref().unwrap_or(opened.git_dir()).join("config")) {
        Err(error) if is_momentary(&error) => {
            Err(OpenError { said: said(&error), is_momentary: true })
        }
        // By now it can be.
        Ok(text) if text.split(|byte| *byte == b'\n').any(begins_section) => {
            Err(OpenError { said: said(&"try again"), is_momentary: true })
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

fn count_packs(objects_dir: &Path) -> usize {
    let files = fs::read_dir(objects_dir.join("pack")).into_iter().flatten().flatten();
    files.filter(|file| file.file_name().as_encoded_bytes().ends_with(b".idx")).count()
}

/// What the library says, on one line.
pub(super) fn words(error: &impl Display) -> String {
    let text = error.to_string();
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(": ")
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}
