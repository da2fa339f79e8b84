//! Paths through links, as far as these stay inside the source.
//!
//! The rules are those of `path_resolution(7)` with the source's top as a wall instead of a root.

use super::{Store, StoreError};
use crate::union::name::{Name, RelPath};
use crate::union::object::{Kind, Object};

/// At most so many links are followed on one path, as the kernel does (`MAXSYMLINKS`, `namei.h`).
const LINKS_MAX: u32 = 40;

/// At most so many components are gone on one path, those of links included. Forty links of 4 KiB have twenty times as many, and whoever
/// writes a source decides how long each takes.
const STEPS_MAX: u32 = 4096;

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Walked {
    /// To an object inside the source that is no link.
    Found {
        /// The object.
        object: Object,
        /// Its path without links.
        real_path: RelPath,
    },
    /// To nothing: a component is missing or is below a file.
    Absent,
    /// Out of the source: a link on the way is absolute or climbs above the top, or the way is too long for that to be told.
    Leaves,
    /// Through more links than are followed.
    Loop,
}

/// Finds the object at a path without following any link; `None` if there is none.
///
/// # Errors
/// The store cannot read a directory on the way.
pub fn find(store: &dyn Store, path: &RelPath) -> Result<Option<Object>, StoreError> {
    let mut object = store.root()?;
    for name in path.names() {
        match store.lookup(&object, name.as_bytes()) {
            Ok(Some(found)) => object = found,
            Ok(None) | Err(StoreError::NotADirectory | StoreError::Gone) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(object))
}

/// Follows a path from the top of a source, links inside the source included, also as the last component.
///
/// # Errors
/// Something on the way cannot be read.
pub fn resolve(store: &dyn Store, path: &RelPath) -> Result<Walked, StoreError> {
    let mut walker = Walker::new(store)?;
    walker.push_path(path);
    walker.run()
}

/// True if a link in `directory` with this target leads out of its source. One that dangles inside, or turns in a circle,
/// does not; one that dangles and would lead out if what lacks were there does: a view has what its sources have not, as a `.git`. A
/// `directory` that is not there is taken as the top.
///
/// # Errors
/// Something on the way cannot be read.
pub fn leaves_source(
    store: &dyn Store,
    directory: &RelPath,
    target: &[u8],
) -> Result<bool, StoreError> {
    if target.starts_with(b"/") {
        return Ok(true);
    }
    let mut walker = Walker::new(store)?;
    walker.push_path(directory);
    match walker.run()? {
        Walked::Found { .. } | Walked::Absent => {}
        Walked::Leaves => return Ok(true),
        Walked::Loop => return Ok(false),
    }
    walker.pending.clear();
    walker.push_target(target);
    match walker.run()? {
        Walked::Leaves => Ok(true),
        Walked::Absent => Ok(walker.would_leave()),
        Walked::Found { .. } | Walked::Loop => Ok(false),
    }
}

struct Walker<'a> {
    store: &'a dyn Store,
    root: Object,
    /// The way from the top to where the walker stands.
    way: Vec<(Name, Object)>,
    /// The components that are still to go, the next one last.
    pending: Vec<Vec<u8>>,
    links: u32,
    steps: u32,
}

impl<'a> Walker<'a> {
    fn new(store: &'a dyn Store) -> Result<Self, StoreError> {
        let root = store.root()?;
        Ok(Self { store, root, way: Vec::new(), pending: Vec::new(), links: 0, steps: 0 })
    }

    fn push_path(&mut self, path: &RelPath) {
        self.pending.extend(path.names().iter().rev().map(|name| name.as_bytes().to_vec()));
    }

    fn push_target(&mut self, target: &[u8]) {
        self.pending.extend(target.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec));
    }

    fn here(&self) -> &Object {
        self.way.last().map_or(&self.root, |(_, object)| object)
    }

    fn run(&mut self) -> Result<Walked, StoreError> {
        while let Some(component) = self.pending.pop() {
            self.steps += 1;
            if self.steps > STEPS_MAX {
                return Ok(Walked::Leaves);
            }
            if let Some(end) = self.step(&component)? {
                self.pending.push(component);
                return Ok(end);
            }
        }
        let real_path = self.way.iter().map(|(name, _)| name.clone()).collect();
        Ok(Walked::Found { object: self.here().clone(), real_path })
    }

    /// True if the rest of the way leads out, where each name that lacks is taken for a directory.
    fn would_leave(&self) -> bool {
        let mut depth = self.way.len();
        self.pending.iter().rev().any(|component| match component.as_slice() {
            b"" | b"." => false,
            b".." => {
                let is_top = depth == 0;
                depth = depth.saturating_sub(1);
                is_top
            }
            _ => {
                depth += 1;
                false
            }
        })
    }

    /// Goes one component; `Some` if the walk ends there.
    fn step(&mut self, component: &[u8]) -> Result<Option<Walked>, StoreError> {
        if !self.here().kind().is_directory() {
            return Ok(Some(Walked::Absent));
        }
        match component {
            b"" | b"." => return Ok(None),
            b".." => return Ok(self.way.pop().is_none().then_some(Walked::Leaves)),
            _ => {}
        }
        let Ok(name) = Name::new(component) else { return Ok(Some(Walked::Absent)) };
        let Some(object) = self.store.lookup(self.here(), component)? else {
            return Ok(Some(Walked::Absent));
        };
        if object.kind() != Kind::Link {
            self.way.push((name, object));
            return Ok(None);
        }
        self.links += 1;
        if self.links > LINKS_MAX {
            return Ok(Some(Walked::Loop));
        }
        let target = self.store.read_link(&object)?;
        if target.starts_with(b"/") {
            return Ok(Some(Walked::Leaves));
        }
        self.push_target(&target);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;

    fn store() -> MemoryStore {
        MemoryStore::builder()
            .file("a/b/file", "x")
            .link("in", "a/b")
            .link("a/up", "../in/./file")
            .link("dangling", "a/nothing/../../..")
            .link("absolute", "/a/b")
            .link("climbs", "a/../../x")
            .link("circle", "circle")
            .link("one", "two")
            .link("two", "one")
            .link("a/b/out", "../../..")
            .link("through-file", "a/b/file/..")
            .link("slash", "a/b/")
            .link("file-slash", "a/b/file/")
            .submodule("module")
            .build()
    }

    fn walk(path: &str) -> Walked {
        resolve(&store(), &RelPath::parse(path).unwrap()).unwrap()
    }

    #[test]
    fn links_inside_are_followed_and_never_out() {
        for (path, real) in [
            (".", "."),
            ("a/b/file", "a/b/file"),
            ("in", "a/b"),
            ("in/file", "a/b/file"),
            ("a/up", "a/b/file"),
            ("slash/file", "a/b/file"),
            ("module", "module"),
        ] {
            let Walked::Found { real_path, .. } = walk(path) else { panic!("{path}") };
            assert_eq!(real_path.to_string(), real, "{path}");
        }
        for (path, end) in [
            ("nothing", Walked::Absent),
            ("dangling", Walked::Absent),
            ("through-file", Walked::Absent),
            ("file-slash", Walked::Absent),
            ("module/x", Walked::Absent),
            ("absolute/file", Walked::Leaves),
            ("climbs", Walked::Leaves),
            ("a/b/out", Walked::Leaves),
            ("circle", Walked::Loop),
            ("one/x", Walked::Loop),
        ] {
            assert_eq!(walk(path), end, "{path}");
        }
    }

    #[test]
    fn targets_are_judged_from_their_directory() {
        for (directory, target, leaves) in [
            (".", "a", false),
            (".", "..", true),
            ("a", "..", false),
            ("a", "../..", true),
            ("a/b", "../../in/../../..", true),
            ("a/b", "../../in/../..", false),
            ("a/b", "nothing/../../..", false),
            ("a/b", "nothing/../../../..", true),
            (".", ".git/..", false),
            (".", ".git/../..", true),
            ("a/b", "file/../../../..", true),
            (".", "/", true),
            (".", "circle", false),
            (".", "absolute", true),
            ("in", "../..", false),
            ("in", "../../..", true),
        ] {
            let path = RelPath::parse(directory).unwrap();
            let answer = leaves_source(&store(), &path, target.as_bytes()).unwrap();
            assert_eq!(answer, leaves, "`{target}` in `{directory}`");
        }
    }

    #[test]
    fn s24_a_way_that_is_too_long_is_taken_to_leave() {
        let round = |times: usize, end: &str| "a/../".repeat(times) + end;
        let mut builder = MemoryStore::builder().file("a/file", "x").link("link40", "a/file");
        // Each goes round and comes to the next one: the kernel follows all.
        for link in 1..40 {
            let next = round(800, &format!("link{}", link + 1));
            builder = builder.link(&format!("link{link}"), &next);
        }
        let store = builder.build();
        let leaves = |target: &str| leaves_source(&store, &RelPath::root(), target.as_bytes());
        assert!(!leaves("link38").unwrap());
        assert!(leaves("link1").unwrap());
        assert_eq!(resolve(&store, &RelPath::parse("link1").unwrap()).unwrap(), Walked::Leaves);
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let store = MemoryStore::builder().file("a/b", "").unreadable("a").build();
        assert!(resolve(&store, &RelPath::parse("a/b").unwrap()).is_err());
        assert!(leaves_source(&store, &RelPath::root(), b"a/b").is_err());
    }
}
