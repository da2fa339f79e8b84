//! A set that was written down is made again.

use std::io::ErrorKind;
use std::sync::Arc;

use super::record::{ContentRecord, EntryRecord, SetRecord, SourceRecord};
use crate::config::resolved::{Config, Links, Location, Mode, Pin, SourceSpec};
use crate::snapshot::{Fault, GitDirectory, Pinning, SharedPinning, Snapshot, Source, SourceState};
use crate::store::blobs::BlobCache;
use crate::store::dir::DirStore;
use crate::store::empty::EmptyStore;
use crate::store::git::{GitStore, Repository};
use crate::store::{Store, StoreError};
use crate::sync::build::merge::snapshot;
use crate::sync::build::{Built, id_at, with_git};
use crate::sync::history::WantedGit;
use crate::sync::layer::{self, Layers};
use crate::sync::shared::Shared;
use crate::union::namespace::Namespace;
use crate::union::object::{Object, Oid};
use crate::union::revision::{Revision, RevisionSetId};
use crate::union::source::{SourceId, Visibility};

/// Why the record is of no use.
const DAMAGED: &str = "its record is damaged";

/// A set that was made again.
pub(super) struct Recalled {
    pub(super) made: Snapshot,
    /// What of it the operating system could not read now; it may be there.
    pub(super) failure: Option<String>,
}

/// Makes the set of a record again. `like` says what records do not; `repositories` are those of its sources.
pub(super) fn recall(
    id: &RevisionSetId,
    record: &SetRecord,
    like: &Config,
    repositories: &[Option<Arc<Repository>>],
    shared: &Shared,
) -> Result<Recalled, String> {
    let config = config(record, like).ok_or(DAMAGED)?;
    let specs: Vec<_> = config.sources.iter().collect();
    let with_git = with_git(&config, &specs);
    let (mut built, mut failure) = (Built::default(), None);
    for ((position, source), spec) in record.sources.iter().enumerate().zip(&config.sources) {
        let repository = repositories.get(position).and_then(Option::as_ref);
        let again = RecalledSource { config: &config, spec, record: source, id: id_at(position) };
        let made = again.make(repository, &shared.blobs);
        let (mut source, layers, top) =
            made.map_err(|problem| format!("source `{}`: {problem}", source.label))?;
        let failed = layers.failure.as_ref();
        failure = failure.or_else(|| {
            failed.map(|failed| format!("source `{}`: {}", source.label, failed.problem))
        });
        if with_git.contains(&id_at(position)) {
            source.git_directory = git_directory(&source, shared);
        }
        built.add(source, layers, top);
    }
    let mut made = snapshot(&config, &specs, built);
    if made.id != *id {
        return Err("what can be read now is not what it was".to_owned());
    }
    made.namespace = Namespace::from_root(record.restore(made.namespace.root()).into());
    Ok(Recalled { made, failure })
}

/// The `.git` that a source had, as far as its history is kept.
fn git_directory(source: &Source, shared: &Shared) -> GitDirectory {
    let (Some(histories), Revision::Commit(commit)) = (&shared.histories, &source.revision) else {
        return GitDirectory::NotAsked;
    };
    histories.get_again(&WantedGit {
        name: &source.name,
        visibility: source.visibility,
        git_ref: source.git_ref.as_deref(),
        place: &source.place,
        commit: *commit,
        time_secs: source.time_secs,
        is_sha256: commit.as_bytes().len() == 32,
    })
}

/// The configuration of a record.
fn config(record: &SetRecord, like: &Config) -> Option<Config> {
    let mut config = like.clone();
    config.surfaces = record.surfaces()?;
    config.access = record.access()?;
    config.mount.shows_sources = record.shows_sources;
    config.mount.shows_git = record.shows_git;
    config.mount.links = if record.hides_leaving_links { Links::Inside } else { Links::All };
    config.sources = record.sources.iter().map(spec).collect::<Option<_>>()?;
    Some(config)
}

fn spec(record: &SourceRecord) -> Option<SourceSpec> {
    Some(SourceSpec {
        name: record.name()?,
        location: Location::Path(record.place.os_path()),
        mode: if record.is_live { Mode::Live } else { Mode::Git },
        git_ref: record.git_ref.clone(),
        visibility: if record.is_public { Visibility::Public } else { Visibility::Private },
        subdirs: record.subdirs()?,
        is_required: false,
        serves_lfs: false,
        pin: Pin::Auto,
        line: None,
    })
}

/// A source that is made again.
struct RecalledSource<'a> {
    config: &'a Config,
    spec: &'a SourceSpec,
    record: &'a SourceRecord,
    id: SourceId,
}

impl RecalledSource<'_> {
    /// The source, what it offers, and the directory at its top.
    fn make(
        &self,
        repository: Option<&Arc<Repository>>,
        blobs: &Arc<BlobCache>,
    ) -> Result<(Source, Layers, Object), String> {
        let unreadable = |error: StoreError| error.to_string();
        match &self.record.content {
            ContentRecord::Git { commit, lfs, .. } => {
                let commit = Oid::from_bytes(&commit.0).ok_or(DAMAGED)?;
                let repository = repository.ok_or("its repository is not there any more")?;
                let lfs = lfs.as_ref().map(|lfs| lfs.objects().ok_or(DAMAGED)).transpose()?;
                let git = GitStore::new(repository.clone(), commit, blobs.clone(), lfs);
                let git = Arc::new(git.map_err(unreadable)?);
                let mut layers = self.list(git.as_ref());
                if let Some(part) = &self.record.part {
                    part.confine(&mut layers, self.id);
                }
                let top = git.root().map_err(unreadable)?;
                let revision = Revision::Commit(commit);
                let source = self.source(revision, SourceState::Ready, git.clone(), Some(git))?;
                Ok((source, layers, top))
            }
            ContentRecord::Live { listing, entries } => {
                let entries = entries.iter().map(|of_surface| {
                    of_surface.iter().map(EntryRecord::entry).collect::<Option<Vec<_>>>()
                });
                let entries = entries.collect::<Option<Vec<_>>>().ok_or(DAMAGED)?;
                let (store, top) = self.directory().map_err(unreadable)?;
                let revision = Revision::Listing(listing.array().ok_or(DAMAGED)?);
                let source = self.source(revision, SourceState::Ready, store, None)?;
                Ok((source, Layers { entries, ..Layers::default() }, top))
            }
            ContentRecord::Missing { error } => {
                let state = SourceState::Missing(Fault { error: error.clone(), cure: None });
                let source = self.source(Revision::Missing, state, Arc::new(EmptyStore), None)?;
                Ok((source, Layers::default(), Object::Empty))
            }
        }
    }

    /// The live directory, and its top. One that is gone by now has nothing to show, and costs the set no more than that.
    fn directory(&self) -> Result<(Arc<dyn Store>, Object), StoreError> {
        match DirStore::open(&self.record.place.os_path()) {
            Ok(store) => {
                let top = store.root()?;
                Ok((Arc::new(store), top))
            }
            Err(StoreError::Io(error))
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok((Arc::new(EmptyStore), Object::Empty))
            }
            Err(error) => Err(error),
        }
    }

    fn list(&self, store: &dyn Store) -> Layers {
        layer::list(store, self.spec, self.id, &self.config.surfaces, self.config.mount.links)
    }

    fn source(
        &self,
        revision: Revision,
        state: SourceState,
        store: Arc<dyn Store>,
        git: Option<Arc<GitStore>>,
    ) -> Result<Source, String> {
        Ok(Source {
            name: self.spec.name.clone(),
            label: self.record.label.clone(),
            git_ref: self.spec.git_ref.clone(),
            is_live: self.record.is_live,
            place: self.record.place.os_path(),
            revision,
            visibility: self.spec.visibility,
            state,
            subdirs: self.spec.subdirs.clone(),
            time_secs: self.record.time_secs,
            key: self.record.key.array().ok_or(DAMAGED)?,
            store,
            signals: Vec::new(),
            pinning: SharedPinning::new(Pinning::NotAsked),
            git,
            git_directory: GitDirectory::NotAsked,
            unread: match &self.record.part {
                Some(part) => Some(part.unread().ok_or(DAMAGED)?),
                None => None,
            },
        })
    }
}
