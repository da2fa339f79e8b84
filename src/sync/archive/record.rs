//! What is written down of a set, so that it can be made again: its inputs, and the times that it had.
//!
//! What lies in a git source is read from its commit again. Of a live source the entries are written down too: nothing else has them.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::bytes::Bytes;
use super::part::PartRecord;
use super::surface::SurfaceRecord;
use crate::config::resolved::{Access, Config, Links, Mode, SourceSpec};
use crate::snapshot::{Finding, FindingKind, Snapshot, Source};
use crate::store::git::lfs::LfsObjects;
use crate::union::entries::{Entry, EntryKey};
use crate::union::name::RelPath;
use crate::union::namespace::{Directory, Item, Shown};
use crate::union::object::{Identity, Kind, Object};
use crate::union::revision::Revision;
use crate::union::source::{SourceId, SourceName, Visibility};
use crate::union::surface::Surface;

/// The form of a record. One of another form is not read.
const FORM: u32 = 1;

/// A set, as it is written down.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SetRecord {
    form: u32,
    access: String,
    pub(super) shows_sources: bool,
    pub(super) shows_git: bool,
    pub(super) hides_leaving_links: bool,
    surfaces: Vec<SurfaceRecord>,
    pub(super) sources: Vec<SourceRecord>,
    /// Path, serial number of the snapshot since which it has been there, and time of each merged directory, the root first.
    directories: Vec<(Bytes, u64, i64)>,
    /// Position in the order of paths, and time, of each entry whose time is not its source's.
    times: Vec<(usize, i64)>,
}

/// A source of a set, as it is written down.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SourceRecord {
    owner: Bytes,
    repo: Bytes,
    pub(super) label: String,
    pub(super) git_ref: Option<String>,
    pub(super) is_public: bool,
    pub(super) is_live: bool,
    pub(super) place: Bytes,
    subdirs: Vec<Option<Bytes>>,
    pub(super) time_secs: i64,
    /// [`Source::key`].
    pub(super) key: Bytes,
    /// Whether all of it could be read.
    #[serde(default)]
    is_whole: bool,
    /// What it was shown with, where that was not all that its commit has.
    #[serde(default)]
    pub(super) part: Option<PartRecord>,
    pub(super) content: ContentRecord,
}

/// What a source was served from.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ContentRecord {
    /// A commit.
    Git {
        commit: Bytes,
        /// The key of the repository.
        repository: Bytes,
        /// The LFS objects that were served.
        lfs: Option<LfsRecord>,
    },
    /// A live directory: the digest of its entries, and these for each surface.
    Live { listing: Bytes, entries: Vec<Vec<EntryRecord>> },
    /// Nothing: it could not be read.
    Missing { error: String },
}

/// The directory of LFS objects, and the digest and size of each.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LfsRecord {
    dir: Bytes,
    sizes: Vec<(Bytes, u64)>,
}

impl LfsRecord {
    fn of(lfs: &LfsObjects) -> Self {
        let sizes = lfs.sizes().map(|(digest, size_bytes)| (Bytes(digest.to_vec()), size_bytes));
        Self { dir: Bytes::of_os(lfs.dir().as_os_str()), sizes: sizes.collect() }
    }

    pub(super) fn objects(&self) -> Option<LfsObjects> {
        let sizes =
            self.sizes.iter().map(|(digest, size_bytes)| Some((digest.array()?, *size_bytes)));
        Some(LfsObjects::exactly(self.dir.os_path(), sizes.collect::<Option<Vec<_>>>()?))
    }
}

/// An entry of a live source.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EntryRecord {
    path: Bytes,
    package: Option<Bytes>,
    source_path: Bytes,
    kind: char,
    device: u64,
    inode: u64,
    born_nanos: String,
}

impl SetRecord {
    /// Writes a set down. `config` is the one that it was built from.
    pub(super) fn of(snapshot: &Snapshot, config: &Config) -> Self {
        let mut record = Self {
            form: FORM,
            access: access_word(config.access).to_owned(),
            shows_sources: config.mount.shows_sources,
            shows_git: config.mount.shows_git,
            hides_leaving_links: config.mount.links == Links::Inside,
            surfaces: snapshot.surfaces.iter().map(SurfaceRecord::of).collect(),
            sources: Vec::new(),
            directories: Vec::new(),
            times: Vec::new(),
        };
        let sources = snapshot.sources.iter().zip(config.shown_sources()).zip((0..).map(SourceId));
        let written =
            sources.map(|((source, spec), id)| SourceRecord::of(snapshot, source, spec, id));
        record.sources = written.collect();
        let mut position = 0;
        record.put(snapshot, snapshot.namespace.root(), &[], &mut position);
        record
    }

    fn put(
        &mut self,
        snapshot: &Snapshot,
        directory: &Directory,
        path: &[u8],
        position: &mut usize,
    ) {
        self.directories.push((Bytes(path.to_vec()), directory.born, directory.time_secs));
        for (name, item) in &directory.items {
            match item {
                Item::Directory(below) => {
                    let path = [path, b"/", name.as_bytes()].concat();
                    self.put(snapshot, below, &path, position);
                }
                Item::Entry(shown) => {
                    if shown.time_secs != snapshot.source(shown.source).time_secs {
                        self.times.push((*position, shown.time_secs));
                    }
                    *position += 1;
                }
            }
        }
    }

    /// True if it can be read by this program.
    pub(super) fn has_known_form(&self) -> bool {
        self.form == FORM
    }

    /// Since when its root has been there, and the root's time.
    pub(super) fn root(&self) -> (u64, i64) {
        self.directories.first().map_or((0, 0), |(_, born, time_secs)| (*born, *time_secs))
    }

    pub(super) fn access(&self) -> Option<Access> {
        [Access::All, Access::Public, Access::None]
            .into_iter()
            .find(|access| access_word(*access) == self.access)
    }

    pub(super) fn surfaces(&self) -> Option<Vec<Surface>> {
        self.surfaces.iter().map(SurfaceRecord::surface).collect()
    }

    /// Puts the times back, and since when each directory has been there.
    pub(super) fn restore(&self, root: &Directory) -> Directory {
        let known =
            self.directories.iter().map(|(path, born, time)| (path.0.as_slice(), (*born, *time)));
        let times =
            Times { directories: known.collect(), entries: self.times.iter().copied().collect() };
        times.restore(root, &[], &mut 0)
    }
}

struct Times<'a> {
    directories: HashMap<&'a [u8], (u64, i64)>,
    entries: HashMap<usize, i64>,
}

impl Times<'_> {
    fn restore(&self, directory: &Directory, path: &[u8], position: &mut usize) -> Directory {
        let mut items = Vec::with_capacity(directory.items.len());
        for (name, item) in &directory.items {
            let item = match item {
                Item::Directory(below) => {
                    let path = [path, b"/", name.as_bytes()].concat();
                    Item::Directory(self.restore(below, &path, position).into())
                }
                Item::Entry(shown) => {
                    let time_secs = self.entries.get(position).copied();
                    *position += 1;
                    let time_secs = time_secs.unwrap_or(shown.time_secs);
                    let shown = Shown { time_secs, ..Shown::clone(shown) };
                    Item::Entry(shown.into())
                }
            };
            items.push((name.clone(), item));
        }
        let known = self.directories.get(path).copied();
        let (born, time_secs) = known.unwrap_or((directory.born, directory.time_secs));
        Directory { items, time_secs, born }
    }
}

fn access_word(access: Access) -> &'static str {
    match access {
        Access::All => "all",
        Access::Public => "public",
        Access::None => "none",
    }
}

/// Whether something of a source could not be read.
fn is_unreadable(snapshot: &Snapshot, id: SourceId) -> bool {
    let is_it = |finding: &Finding| {
        finding.source == id && matches!(finding.kind, FindingKind::Unreadable { .. })
    };
    snapshot.findings.iter().any(is_it)
}

impl SourceRecord {
    fn of(snapshot: &Snapshot, source: &Source, spec: &SourceSpec, id: SourceId) -> Self {
        let content = match (&source.revision, &source.git) {
            (Revision::Commit(commit), Some(git)) => ContentRecord::Git {
                commit: Bytes(commit.as_bytes().to_vec()),
                repository: Bytes(git.repository().key().to_vec()),
                lfs: git.lfs().map(LfsRecord::of),
            },
            (Revision::Listing(listing), _) => {
                let layers = snapshot.stacks.iter().map(|stack| {
                    let placed = stack.placed.iter().filter(|placed| placed.source == id);
                    placed.filter_map(|placed| EntryRecord::of(&placed.entry)).collect()
                });
                ContentRecord::Live { listing: Bytes(listing.to_vec()), entries: layers.collect() }
            }
            (Revision::Commit(_) | Revision::Missing, _) => {
                let error = source.state.error().unwrap_or_default().to_owned();
                ContentRecord::Missing { error }
            }
        };
        Self {
            owner: Bytes::of_name(&source.name.owner),
            repo: Bytes::of_name(&source.name.repo),
            label: source.label.clone(),
            git_ref: source.git_ref.clone(),
            is_public: source.visibility == Visibility::Public,
            is_live: spec.mode == Mode::Live,
            place: Bytes::of_os(source.place.as_os_str()),
            subdirs: source.subdirs.iter().map(|subdir| subdir.as_ref().map(Bytes::of)).collect(),
            time_secs: source.time_secs,
            key: Bytes(source.key.to_vec()),
            is_whole: !is_unreadable(snapshot, id),
            part: PartRecord::of(snapshot, source, id),
            content,
        }
    }

    /// Whether a set that was made again lacks what could be read of this source, then.
    pub(super) fn lacks(&self, made: &Snapshot, id: SourceId) -> bool {
        self.is_whole && is_unreadable(made, id)
    }

    /// Its sub-directory on each surface.
    pub(super) fn subdirs(&self) -> Option<Vec<Option<RelPath>>> {
        let path = |subdir: &Option<Bytes>| match subdir {
            Some(subdir) => subdir.path().map(Some),
            None => Some(None),
        };
        self.subdirs.iter().map(path).collect()
    }

    /// Its name, if it is one.
    pub(super) fn name(&self) -> Option<SourceName> {
        Some(SourceName { owner: self.owner.name()?, repo: self.repo.name()? })
    }
}

impl EntryRecord {
    fn of(entry: &Entry) -> Option<Self> {
        let (kind, identity) = match &entry.object {
            Object::Live { kind, file } => (kind_letter(*kind), file.identity),
            Object::Empty => ('e', Identity { device: 0, inode: 0, born_nanos: 0 }),
            Object::Frozen { .. } => return None,
        };
        let package = match &entry.key {
            EntryKey::Package(name) => Some(Bytes::of_name(name)),
            EntryKey::Path => None,
        };
        Some(Self {
            path: Bytes::of(&entry.path),
            package,
            source_path: Bytes::of(&entry.source_path),
            kind,
            device: identity.device,
            inode: identity.inode,
            born_nanos: identity.born_nanos.to_string(),
        })
    }

    pub(super) fn entry(&self) -> Option<Entry> {
        let source_path = self.source_path.path()?;
        let object = match kind_of(self.kind) {
            Some(kind) => {
                let born_nanos = self.born_nanos.parse().ok()?;
                let identity = Identity { device: self.device, inode: self.inode, born_nanos };
                Object::live(kind, source_path.clone(), identity)
            }
            None => Object::Empty,
        };
        let key = match &self.package {
            Some(name) => EntryKey::Package(name.name()?),
            None => EntryKey::Path,
        };
        Some(Entry { path: self.path.path()?, key, source_path, object })
    }
}

fn kind_letter(kind: Kind) -> char {
    match kind {
        Kind::Directory => 'd',
        Kind::File { is_executable: false } => 'f',
        Kind::File { is_executable: true } => 'x',
        Kind::Link => 'l',
    }
}

fn kind_of(letter: char) -> Option<Kind> {
    let kinds = [
        Kind::Directory,
        Kind::File { is_executable: false },
        Kind::File { is_executable: true },
        Kind::Link,
    ];
    kinds.into_iter().find(|kind| kind_letter(*kind) == letter)
}
