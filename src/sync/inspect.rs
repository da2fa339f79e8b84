//! What in the served trees of git sources a user might miss or wonder about. Reads every tree: for `check` only.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::{fmt, fs};

use crate::snapshot::{GitDirectory, Snapshot};
use crate::store::git::Repository;
use crate::store::git::lfs::{POINTER_BYTES, Pointer};
use crate::store::{LeftOutReason, Store, StoreError};
use crate::union::name::RelPath;
use crate::union::namespace::{Directory, Item};
use crate::union::object::{Kind, Object};
use crate::union::revision::Revision;
use crate::union::source::SourceId;

/// So many places of each kind are named.
const PLACES_MAX: usize = 5;

/// So many names are looked at in one source.
const NAMES_MAX: u64 = 5_000_000;

/// How often something occurs in a source, and where first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occurrence {
    /// The source.
    pub source: SourceId,
    /// What occurs.
    pub kind: OccurrenceKind,
    /// How often; equal trees count once.
    pub count: u64,
    /// The first places, as text; names that are no text are escaped.
    pub places: Vec<String>,
}

/// What may occur in a git source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OccurrenceKind {
    /// A submodule, shown as an empty directory.
    Submodule,
    /// An LFS pointer, shown as the pointer.
    LfsPointer,
    /// A name that is not served.
    LeftOut(LeftOutReason),
    /// An object that cannot be read.
    Unreadable,
    /// The repository lacks the beginning of its history, and so does the `.git` that is shown.
    HistoryIsCut,
    /// The repository may lack objects of its history; without them no `.git` is shown.
    HistoryMayLack,
    /// The source has more names than are looked at.
    Unfinished,
}

/// Says in a few words what occurs.
impl fmt::Display for OccurrenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Submodule => f.write_str("submodule, shown as an empty directory"),
            Self::LfsPointer => f.write_str("LFS pointer, shown as the pointer"),
            Self::LeftOut(reason) => write!(f, "left out: {reason}"),
            Self::Unreadable => f.write_str("unreadable"),
            Self::HistoryIsCut => {
                f.write_str("its history ends where the repository's does, which is shallow")
            }
            Self::HistoryMayLack => f.write_str(
                "left out while an object of its history lacks: the repository is a partial clone",
            ),
            Self::Unfinished => f.write_str("not looked at any further"),
        }
    }
}

/// Walks the trees that the view serves of each git source, hidden entries included. Objects of more than `object_bytes` are not read.
pub fn inspect(snapshot: &Snapshot, object_bytes: u64) -> Vec<Occurrence> {
    let mut tops = Vec::new();
    whole_sources(snapshot.namespace.root(), &mut tops);
    let mut found = Vec::new();
    for (source, id) in snapshot.sources.iter().zip((0..).map(SourceId)) {
        match source.revision {
            Revision::Commit(_) => {}
            Revision::Listing(_) | Revision::Missing => continue,
        }
        let mut inspector = Inspector::new(source.store.as_ref(), object_bytes);
        if tops.contains(&id) {
            inspector.start(source.store.root());
        } else {
            let placed = snapshot.stacks.iter().flat_map(|stack| &stack.placed);
            for placed in placed.filter(|placed| placed.source == id) {
                inspector.meet(&placed.entry.source_path, &placed.entry.object);
            }
            inspector.run();
        }
        if matches!(source.git_directory, GitDirectory::NotMade)
            && let Some(git) = &source.git
        {
            inspector.history(&git.lender());
        }
        let kinds = inspector.found.into_iter();
        found.extend(kinds.map(|(kind, (count, places))| Occurrence {
            source: id,
            kind,
            count,
            places,
        }));
    }
    found
}

/// The sources that the namespace shows whole.
fn whole_sources(directory: &Directory, whole: &mut Vec<SourceId>) {
    for (_, item) in &directory.items {
        match item {
            Item::Directory(below) => whole_sources(below, whole),
            Item::Entry(shown) if shown.surface.is_none() => whole.push(shown.source),
            Item::Entry(_) => {}
        }
    }
}

struct Inspector<'a> {
    store: &'a dyn Store,
    object_bytes: u64,
    /// Directories that are still to be listed.
    pending: Vec<(RelPath, Object)>,
    seen: HashSet<Object>,
    names: u64,
    found: BTreeMap<OccurrenceKind, (u64, Vec<String>)>,
}

impl<'a> Inspector<'a> {
    fn new(store: &'a dyn Store, object_bytes: u64) -> Self {
        let (pending, seen, found) = (Vec::new(), HashSet::new(), BTreeMap::new());
        Self { store, object_bytes, pending, seen, names: 0, found }
    }

    /// Looks whether the repository has all that a `.git` is made of.
    fn history(&mut self, repository: &Repository) {
        let mut at_git = |kind| {
            self.found.insert(kind, (1, vec![".git".to_owned()]));
        };
        let shallow = fs::metadata(repository.common_dir().join("shallow"));
        if shallow.is_ok_and(|shallow| shallow.len() > 0) {
            at_git(OccurrenceKind::HistoryIsCut);
        }
        let packs = fs::read_dir(repository.objects_dir().join("pack")).into_iter().flatten();
        let is_promised = |name: OsString| name.as_encoded_bytes().ends_with(b".promisor");
        if packs.flatten().any(|file| is_promised(file.file_name())) {
            at_git(OccurrenceKind::HistoryMayLack);
        }
    }

    fn start(&mut self, root: Result<Object, StoreError>) {
        match root {
            Ok(root) => self.pending.push((RelPath::root(), root)),
            Err(error) => self.unreadable(&RelPath::root(), &error),
        }
        self.run();
    }

    fn run(&mut self) {
        while let Some((path, directory)) = self.pending.pop() {
            if !self.seen.insert(directory.clone()) {
                continue;
            }
            if self.names > NAMES_MAX {
                self.note(OccurrenceKind::Unfinished, path.to_string());
                return;
            }
            match self.store.list_with_left_out(&directory) {
                Ok((listed, left_out)) => {
                    self.names += (listed.len() + left_out.len()) as u64;
                    for left in left_out {
                        let place = format!("{path}/{}", left.name.escape_ascii());
                        self.note(OccurrenceKind::LeftOut(left.reason), place);
                    }
                    // From the last to the first, so that the first directory is the next to be listed.
                    for listed in listed.iter().rev() {
                        self.meet(&path.join(&listed.name), &listed.object);
                    }
                }
                Err(error) => self.unreadable(&path, &error),
            }
        }
    }

    fn meet(&mut self, path: &RelPath, object: &Object) {
        match (object, object.kind()) {
            (Object::Empty, _) => self.note(OccurrenceKind::Submodule, path.to_string()),
            (_, Kind::Directory) => {
                if !self.seen.contains(object) {
                    self.pending.push((path.clone(), object.clone()));
                }
            }
            (_, Kind::File { .. }) => match self.is_pointer(object) {
                Ok(true) => self.note(OccurrenceKind::LfsPointer, path.to_string()),
                Ok(false) => {}
                Err(error) => self.unreadable(path, &error),
            },
            (_, Kind::Link) => {
                if let Err(error) = self.store.read_link(object) {
                    self.unreadable(path, &error);
                }
            }
        }
    }

    fn is_pointer(&self, file: &Object) -> Result<bool, StoreError> {
        let size_bytes = self.store.attributes(file)?.size_bytes;
        if size_bytes > self.object_bytes {
            // An error, unless it is of LFS.
            self.store.read(file, 0, 1)?;
        }
        // The shortest pointer has its two fixed lines and a digit.
        if !(100..POINTER_BYTES).contains(&size_bytes) {
            return Ok(false);
        }
        Ok(Pointer::parse(&self.store.read(file, 0, usize::MAX)?).is_some())
    }

    fn unreadable(&mut self, path: &RelPath, error: &StoreError) {
        self.note(OccurrenceKind::Unreadable, format!("{path} ({error})"));
    }

    fn note(&mut self, kind: OccurrenceKind, place: String) {
        let (count, places) = self.found.entry(kind).or_default();
        *count += 1;
        if places.len() < PLACES_MAX {
            places.push(place);
        }
    }
}
