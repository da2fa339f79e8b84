//! Directories on disk, live ones and those of `.git`, told as plainly as possible: what `lstat` says of each name on the way.

use std::ffi::OsStr;
use std::fs::{self, Metadata, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::Mode;

use super::world::{Tree, bytes};
use crate::config::resolved::Links;
use crate::snapshot::Source;
use crate::store::dir::DirStore;
use crate::store::walk;
use crate::union::name::{Name, RelPath};
use crate::union::object::Kind;
use crate::view::sample::{path, source_of};

/// A directory that a source reads.
#[derive(Debug)]
pub(super) struct Place {
    root: PathBuf,
    store: Arc<DirStore>,
    pub(super) source: Arc<Source>,
}

/// Seconds since 1970 and nanoseconds.
pub(super) type Time = (i64, u32);

/// What changes on disk. Paths are positions in [`PATHS`], and behind these among those of what the kernel knows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    /// Writes into the file that is there, or a new one.
    Write(usize, u8),
    /// Puts another file in its place.
    Replace(usize, u8),
    Remove(usize),
    Directory(usize),
    Link(usize, &'static str),
    Fifo(usize),
    Mode(usize, bool),
    Rename(usize, usize),
    Exchange(usize, usize),
}

pub(super) const PATHS: [&str; 15] = [
    "skills",
    "skills/a",
    "skills/b",
    "skills/c",
    "skills/a/a",
    "skills/a/b",
    "skills/b/b",
    "skills/b/b/c",
    "skills/a/.git",
    "x",
    "x/a",
    "x/b",
    "x/b/a",
    "p",
    ".git",
];

/// What was found in a place.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) place: Arc<Place>,
    pub(super) path: RelPath,
    pub(super) kind: Kind,
    /// Tells it from what comes later to the same path: device, inode and when it was made.
    identity: (u64, u64, Option<SystemTime>),
}

impl Live {
    /// What tells it from all others.
    pub(super) fn what(&self) -> String {
        let kind = match self.kind {
            Kind::Directory => 'd',
            Kind::File { .. } => 'f',
            Kind::Link => 'l',
        };
        format!("live {:?} {} {kind} {:?}", self.place.source.key, self.path, self.identity)
    }

    fn is_same(&self, other: &Self) -> bool {
        self.what() == other.what()
    }

    /// What is on disk, if it is still this.
    fn metadata(&self) -> Option<Metadata> {
        let (now, metadata) = self.place.look(&self.path)?;
        self.is_same(&now).then_some(metadata)
    }

    /// Type, size and time; `None` if it is not there any more.
    pub(super) fn attr(&self) -> Option<(Kind, u64, Time)> {
        let metadata = self.metadata()?;
        let kind = kind_of(&metadata)?;
        let size = if kind.is_directory() { 0 } else { metadata.len() };
        Some((kind, size, (metadata.mtime(), u32::try_from(metadata.mtime_nsec()).unwrap())))
    }

    /// The bytes of a file or the target of a link; `None` if it is not there any more.
    pub(super) fn content(&self) -> Option<Vec<u8>> {
        let _is_there = self.metadata()?;
        let place = self.place.on_disk(&self.path);
        Some(match self.kind {
            Kind::Directory => Vec::new(),
            Kind::File { .. } => fs::read(place).unwrap(),
            Kind::Link => fs::read_link(place).unwrap().into_os_string().into_vec(),
        })
    }

    /// The names of a directory, sorted, and what is shown of them; `None` if it is none, or not there any more.
    pub(super) fn children(&self, links: Links) -> Option<Vec<(Vec<u8>, Option<Self>)>> {
        let _is_there = self.metadata().filter(Metadata::is_dir)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(self.place.on_disk(&self.path)).unwrap() {
            let name = entry.unwrap().file_name().into_vec();
            let at = self.path.join(&Name::new(&name).unwrap());
            if let Some((live, _)) = self.place.look(&at) {
                let is_shown = links == Links::All || self.stays(&live);
                found.push((name, is_shown.then_some(live)));
            }
        }
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        Some(found)
    }

    fn stays(&self, child: &Self) -> bool {
        let target = child.content().filter(|_| child.kind == Kind::Link);
        target.is_none_or(|target| {
            !walk::leaves_source(self.place.store.as_ref(), &self.path, &target).unwrap()
        })
    }
}

fn kind_of(metadata: &Metadata) -> Option<Kind> {
    let kind = metadata.file_type();
    let is_executable = metadata.permissions().mode() & 0o100 != 0;
    match (kind.is_dir(), kind.is_file(), kind.is_symlink()) {
        (true, ..) => Some(Kind::Directory),
        (_, true, _) => Some(Kind::File { is_executable }),
        (.., true) => Some(Kind::Link),
        _ => None,
    }
}

impl Place {
    pub(super) fn new(root: &Path, name: &str, key: u8) -> Arc<Self> {
        let store = Arc::new(DirStore::open(root).unwrap());
        let source = source_of(name, key, store.clone());
        Arc::new(Self { root: root.to_owned(), store, source })
    }

    fn on_disk(&self, path: &RelPath) -> PathBuf {
        self.root.join(OsStr::from_bytes(&path.to_bytes()))
    }

    /// What is at a path, if nothing on the way is a link or hidden.
    pub(super) fn look(self: &Arc<Self>, path: &RelPath) -> Option<(Live, Metadata)> {
        let mut place = self.root.clone();
        let mut metadata = fs::symlink_metadata(&place).ok()?;
        for name in path.names() {
            if !metadata.is_dir() || name.as_bytes() == b".git" {
                return None;
            }
            place.push(OsStr::from_bytes(name.as_bytes()));
            metadata = fs::symlink_metadata(&place).ok()?;
        }
        let kind = kind_of(&metadata)?;
        let identity = (metadata.dev(), metadata.ino(), metadata.created().ok());
        let live = Live { place: self.clone(), path: path.clone(), kind, identity };
        Some((live, metadata))
    }

    /// Whether a path is in a directory that is there, and no link leads to it: only then it is safe to change it.
    fn is_inside(&self, path: &Path) -> bool {
        let mut above = path.ancestors().skip(1).take_while(|above| above.starts_with(&self.root));
        above.all(|above| fs::symlink_metadata(above).is_ok_and(|found| found.is_dir()))
    }

    /// Changes the disk; what cannot be done is left.
    pub(super) fn change(&self, change: Change, known: &[String]) {
        let at = |index: usize| {
            let known = known.get(index.wrapping_sub(PATHS.len()) % known.len().max(1));
            let fixed = PATHS[index % PATHS.len()];
            self.root.join(known.filter(|_| index >= PATHS.len()).map_or(fixed, String::as_str))
        };
        let (Change::Write(index, _)
        | Change::Replace(index, _)
        | Change::Remove(index)
        | Change::Directory(index)
        | Change::Link(index, _)
        | Change::Fifo(index)
        | Change::Mode(index, _)
        | Change::Rename(index, _)
        | Change::Exchange(index, _)) = change;
        let place = at(index);
        if !self.is_inside(&place) {
            return;
        }
        let done = match change {
            Change::Write(_, content) => write(&place, content),
            Change::Replace(_, content) => {
                let new = self.root.join("new");
                write(&new, content).and_then(|()| fs::rename(&new, &place)).or_else(|_| {
                    // A directory is in the place.
                    fs::remove_file(&new)
                })
            }
            Change::Remove(_) => fs::remove_dir_all(&place).or_else(|_| fs::remove_file(&place)),
            Change::Directory(_) => fs::create_dir(&place),
            Change::Link(_, target) => symlink(target, &place),
            Change::Fifo(_) => {
                nix::unistd::mkfifo(&place, Mode::S_IRWXU).map_err(std::io::Error::from)
            }
            Change::Mode(_, is_executable) => chmod(&place, is_executable),
            Change::Rename(_, to) if self.is_inside(&at(to)) => fs::rename(&place, at(to)),
            Change::Exchange(_, to) if self.is_inside(&at(to)) => {
                let flags = RenameFlags::RENAME_EXCHANGE;
                renameat2(AT_FDCWD, &place, AT_FDCWD, &at(to), flags).map_err(std::io::Error::from)
            }
            Change::Rename(..) | Change::Exchange(..) => Ok(()),
        };
        // What is in the way is up to what was done before.
        drop(done);
    }
}

fn write(place: &Path, content: u8) -> std::io::Result<()> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut options = OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).custom_flags(flags).open(place)?;
    file.write_all(&bytes(content))
}

fn chmod(place: &Path, is_executable: bool) -> std::io::Result<()> {
    if !fs::symlink_metadata(place)?.is_file() {
        return Ok(());
    }
    fs::set_permissions(place, Permissions::from_mode(if is_executable { 0o755 } else { 0o644 }))
}

/// Puts a tree on disk.
pub(super) fn put(tree: &Tree, place: &Path) {
    match tree {
        Tree::File(content, is_executable) => {
            write(place, *content).unwrap();
            chmod(place, *is_executable).unwrap();
        }
        Tree::Link(target) => symlink(target, place).unwrap(),
        Tree::Submodule => {
            fs::create_dir(place).unwrap();
            fs::write(place.join(".git"), "secret").unwrap();
        }
        Tree::Directory(children) => {
            fs::create_dir_all(place).unwrap();
            for (name, child) in children {
                put(child, &place.join(name));
            }
        }
    }
}

/// What the sources' `.git` can be, for all sequences: nobody ever changes one.
#[derive(Debug)]
pub(super) struct Gits {
    _dir: tempfile::TempDir,
    places: Vec<Arc<Place>>,
}

/// So many can a revision have, one after the other, beside none.
pub(super) const GITS: usize = 2;
const REVISIONS: usize = 3;

impl Gits {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut places = Vec::new();
        for index in 0..2 * REVISIONS * GITS {
            let root = dir.path().join(index.to_string());
            fs::create_dir_all(root.join("objects/pack")).unwrap();
            fs::create_dir(root.join("refs")).unwrap();
            fs::write(root.join("HEAD"), format!("{index}\n")).unwrap();
            fs::write(root.join("objects/pack/pack-1.pack"), "pack").unwrap();
            fs::write(root.join("objects/pack/pack-2.pack"), format!("pack {index}")).unwrap();
            // One key for all of one source.
            let of = index / (REVISIONS * GITS);
            let key = 100 + u8::try_from(of).unwrap();
            places.push(Place::new(&root, &format!("o/{}", of + 1), key));
        }
        Self { _dir: dir, places }
    }

    /// That of a revision of a source, if it has one.
    pub(super) fn get(&self, source: usize, revision: usize, git: usize) -> Option<&Arc<Place>> {
        let git = git.checked_sub(1)?;
        self.places.get((source * REVISIONS + revision) * GITS + git)
    }
}

/// The top of a place.
pub(super) fn top(place: &Arc<Place>) -> Live {
    place.look(&RelPath::root()).unwrap().0
}

/// Bytes that tell the entries of a live directory from others: paths, types and which files they are.
pub(super) fn digest(place: &Arc<Place>) -> [u8; 8] {
    let mut found = top(place).what();
    for at in ["skills", "p"] {
        let Some((live, _)) = place.look(&path(at)) else { continue };
        found += &live.what();
        for (_, child) in live.children(Links::All).into_iter().flatten() {
            found += &child.map(|child| child.what()).unwrap_or_default();
        }
    }
    let mut digest = [0; 8];
    let whole = <sha2::Sha256 as sha2::Digest>::digest(found);
    digest.copy_from_slice(&whole[..8]);
    digest
}
