//! One source from its configuration to a store at a revision.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::digest::Fields;
use super::error::{SourceCause, Tried};
use super::history::WantedGit;
use super::locate::{Located, PRIVATE, is_refused, locate, places, untold};
use super::pin::{Pins, unless_id};
use super::resolve::{leads_to, resolve};
use super::shared::Shared;
use super::signals::{git_file, of_repository};
use crate::config::resolved::{Config, Location, Mode, Pin, SourceSpec};
use crate::snapshot::{GitDirectory, Pinning, Snapshot, Source, SourceState};
use crate::store::dir::DirStore;
use crate::store::git::lfs::LfsObjects;
use crate::store::git::{Commit, GitStore, Repository};
use crate::store::is_momentary;
use crate::store::{Store, StoreError};
use crate::union::object::Oid;
use crate::union::revision::Revision;
use crate::union::source::SourceId;

/// So often a ref is followed that moves while its commit is pinned; then what it led to last is served as far as it can be read.
const RESOLVED_AT_MOST: usize = 4;

/// A source that can be read.
#[derive(Debug)]
pub(super) struct OpenedSource {
    pub(super) store: Arc<dyn Store>,
    /// The commit; `None` for a live directory.
    pub(super) commit: Option<Oid>,
    /// The digest of the entry lists of a live directory that is shown as it was.
    pub(super) listing: Option<[u8; 32]>,
    pub(super) time_secs: i64,
    /// The place as it was looked for.
    pub(super) place: PathBuf,
    /// The files whose change says that it may have moved.
    pub(super) signals: Vec<PathBuf>,
    /// Whether it is pinned.
    pub(super) pinning: Pinning,
    /// Its git store, where it has one.
    pub(super) git: Option<Arc<GitStore>>,
    /// The `.git` that it has where it is shown whole.
    pub(super) git_directory: GitDirectory,
}

/// What a source is opened with.
#[derive(Clone, Copy)]
pub(super) struct OpenedWith<'a> {
    pub(super) shared: &'a Shared,
    /// Where what it serves is pinned, if that is asked for.
    pub(super) pins: Option<&'a Pins>,
    /// The snapshot before, whose stores are used again where they serve the same.
    pub(super) last: Option<&'a Snapshot>,
    /// The sources that are shown whole and with a `.git`, by position.
    pub(super) with_git: &'a [SourceId],
}

/// Opens a source.
pub(super) fn open(
    config: &Config,
    spec: &SourceSpec,
    id: SourceId,
    means: OpenedWith<'_>,
) -> Result<OpenedSource, SourceCause> {
    match (spec.mode, &spec.location) {
        (Mode::Git, Location::Repo { .. } | Location::Path(_)) => open_git(config, spec, id, means),
        (Mode::Live, Location::Path(path)) => open_directory(config, path),
        (Mode::Live, Location::Repo { .. }) => {
            let located = locate(config, spec, &means.shared.repositories)?;
            let work_dir = located.repository.work_dir();
            let Some(work_dir) = work_dir else {
                return Err(SourceCause::NoWorkTree { place: located.place });
            };
            open_directory(config, work_dir)
        }
    }
}

fn open_git(
    config: &Config,
    spec: &SourceSpec,
    id: SourceId,
    means: OpenedWith<'_>,
) -> Result<OpenedSource, SourceCause> {
    let located = locate(config, spec, &means.shared.repositories)?;
    let git_ref = spec.git_ref.as_deref();
    let mut signals = of_repository(&located.repository, git_ref);
    signals.extend(git_file(&located.place));
    if spec.serves_lfs {
        signals.push(located.repository.common_dir().join("lfs/objects"));
    }
    let has_git = means.with_git.contains(&id);
    if has_git {
        signals.push(located.repository.common_dir().join("shallow"));
    }
    let lfs = spec.serves_lfs.then(|| LfsObjects::scan(located.repository.common_dir()));
    let lfs = lfs.transpose().map_err(|error| unreadable(spec, &located, &error.into()))?;
    let Resolved { oid, commit, repository, mut pinning, is_whole } =
        resolve_and_pin(spec, &located, lfs.as_ref(), means.pins)?;
    let pinned = repository.clone();
    let used =
        means.last.and_then(|last| used_before(last, &located.repository, &oid, lfs.as_ref()));
    let store = if let Some(store) = used {
        if is_whole || store.repository().pin().is_none() {
            store.adopt(repository);
        } else if matches!(pinning, Pinning::Unpinned { .. }) {
            pinning = Pinning::Pinned;
        }
        store
    } else {
        let store = GitStore::new(repository, oid, means.shared.blobs.clone(), lfs);
        Arc::new(store.map_err(|error| unreadable(spec, &located, &error))?)
    };
    let asked = WantedGit {
        name: &spec.name,
        visibility: spec.visibility,
        git_ref,
        place: &located.place,
        commit: oid,
        time_secs: commit.time_secs,
        is_sha256: located.repository.id_len() == 32,
    };
    let git_directory = match &means.shared.histories {
        Some(histories) if has_git => histories.get(&asked, &[&pinned, &located.repository]),
        None if has_git => GitDirectory::NotMade,
        Some(_) | None => GitDirectory::NotAsked,
    };
    Ok(OpenedSource {
        git_directory,
        git: Some(store.clone()),
        store,
        commit: Some(oid),
        listing: None,
        time_secs: commit.time_secs,
        place: located.place,
        signals,
        pinning,
    })
}

/// The commit of a source, and where it is read from.
struct Resolved {
    oid: Oid,
    commit: Commit,
    repository: Arc<Repository>,
    pinning: Pinning,
    /// Whether that is a pin which holds all of the commit.
    is_whole: bool,
}

/// Finds the commit of a source and pins it; once more if its ref has moved meanwhile, since what is left of the first may be gone then.
fn resolve_and_pin(
    spec: &SourceSpec,
    located: &Located,
    lfs: Option<&LfsObjects>,
    pins: Option<&Pins>,
) -> Result<Resolved, SourceCause> {
    let lent = &located.repository;
    let git_ref = spec.git_ref.as_deref();
    let mut left = RESOLVED_AT_MOST;
    loop {
        let (oid, commit) = resolve(lent, &located.place, git_ref)?;
        let has_moved = Cell::new(false);
        let is_named = || {
            has_moved.set(!leads_to(lent, &located.place, git_ref, &oid));
            !has_moved.get()
        };
        let is_named = unless_id(lent, git_ref, &is_named);
        let (repository, pinning) = match (pins, spec.pin) {
            (Some(pins), Pin::Auto) => pins.pin(lent, &oid, lfs, is_named),
            (Some(pins), Pin::Copy) => pins.copied(lent, &oid, lfs),
            (None, Pin::Copy) => (lent.clone(), Pinning::Awaited),
            (None, Pin::Auto) => (lent.clone(), Pinning::NotAsked),
        };
        left -= 1;
        if !has_moved.get() || left == 0 {
            let is_whole = pinning == Pinning::Pinned && !has_moved.get();
            return Ok(Resolved { oid, commit, repository, pinning, is_whole });
        }
    }
}

fn unreadable(spec: &SourceSpec, located: &Located, error: &StoreError) -> SourceCause {
    SourceCause::Unreadable {
        git_ref: spec.git_ref.as_deref().unwrap_or("HEAD").to_owned(),
        place: located.place.clone(),
        problem: error.to_string(),
        is_momentary: error.is_momentary(),
    }
}

/// The store of the snapshot before that serves the same commit of the same repository, with the same LFS objects.
fn used_before(
    last: &Snapshot,
    repository: &Arc<Repository>,
    commit: &Oid,
    lfs: Option<&LfsObjects>,
) -> Option<Arc<GitStore>> {
    let stores = last.sources.iter().filter_map(|source| source.git.as_ref());
    let mut same = stores.filter(|store| {
        store.commit() == *commit && Arc::ptr_eq(&store.lender(), repository) && store.lfs() == lfs
    });
    same.next().cloned()
}

fn open_directory(config: &Config, path: &Path) -> Result<OpenedSource, SourceCause> {
    let is_refused = is_refused(config, path).map_err(|error| SourceCause::Directory {
        place: path.to_owned(),
        problem: untold(&error),
        is_absent: false,
        is_momentary: is_momentary(&error),
    })?;
    if is_refused {
        let tried = vec![Tried { path: path.to_owned(), problem: PRIVATE.to_owned() }];
        return Err(SourceCause::Private { tried, public: None });
    }
    let opened = DirStore::open(path).and_then(|store| {
        let root = store.root()?;
        store.list(&root).map(|_| store)
    });
    let store = opened.map_err(|error| match error {
        StoreError::NoOpenat2 => SourceCause::NoOpenat2 { place: path.to_owned() },
        error => SourceCause::Directory {
            place: path.to_owned(),
            problem: error.to_string(),
            is_momentary: error.is_momentary(),
            is_absent: std::fs::metadata(path)
                .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound),
        },
    })?;
    let (place, signals) = (path.to_owned(), Vec::new());
    let (store, pinning) = (Arc::new(store), Pinning::NotAsked);
    let git_directory = GitDirectory::NotAsked;
    Ok(OpenedSource {
        store,
        commit: None,
        listing: None,
        time_secs: 0,
        place,
        signals,
        pinning,
        git: None,
        git_directory,
    })
}

/// Finds a source in the last snapshot, for when it cannot be read anew: the same source at the same place, which the view
/// may still show. A live directory that is not required only where what keeps it from being read may pass: else it is not what it was.
pub(super) fn reopen(
    config: &Config,
    spec: &SourceSpec,
    last: &Snapshot,
    is_momentary: bool,
) -> Option<(SourceId, OpenedSource)> {
    let is_same = |source: &Source| {
        source.name == spec.name
            && source.git_ref == spec.git_ref
            && source.visibility == spec.visibility
            && source.state == SourceState::Ready
    };
    let sources = last.sources.iter().zip((0..).map(SourceId));
    sources.filter(|(source, _)| is_same(source)).find_map(|(source, id)| {
        let (commit, listing) = match (&source.revision, spec.mode) {
            (Revision::Commit(commit), Mode::Git) => (Some(*commit), None),
            (Revision::Listing(listing), Mode::Live) if is_momentary || spec.is_required => {
                (None, Some(*listing))
            }
            (Revision::Commit(_), Mode::Live)
            | (Revision::Listing(_) | Revision::Missing, Mode::Git | Mode::Live) => return None,
        };
        let mut places = places(config, spec).into_iter();
        let place = places.find(|place| *place == source.place)?;
        let is_refused = is_refused(config, &place).unwrap_or(true);
        if is_refused || source.store.lfs_digest().is_some() && !spec.serves_lfs {
            return None;
        }
        let (store, time_secs) = (source.store.clone(), source.time_secs);
        let (signals, pinning) = (source.signals.clone(), source.pinning.get());
        let (git, git_directory) = (source.git.clone(), source.git_directory.clone());
        let opened = OpenedSource {
            store,
            commit,
            listing,
            time_secs,
            place,
            signals,
            pinning,
            git,
            git_directory,
        };
        Some((id, opened))
    })
}

/// Tells a source from all others that a view may ever show. The LFS objects count too: the same pointer has other bytes
/// when its object has come.
pub(super) fn source_key(spec: &SourceSpec, place: &Path, store: &dyn Store) -> [u8; 16] {
    let real = place.canonicalize().unwrap_or_else(|_| place.to_owned());
    let mut fields = Fields::new("overlayfs-mount source 1");
    fields.bytes(spec.name.owner.as_bytes());
    fields.bytes(spec.name.repo.as_bytes());
    fields.bytes(real.as_os_str().as_encoded_bytes());
    fields.optional(spec.git_ref.as_deref().map(str::as_bytes));
    fields.number(match spec.mode {
        Mode::Git => 0,
        Mode::Live => 1,
    });
    fields.optional(store.lfs_digest().as_ref().map(<[u8; 32]>::as_slice));
    let mut key = [0; 16];
    key.copy_from_slice(&fields.finish()[..16]);
    key
}
