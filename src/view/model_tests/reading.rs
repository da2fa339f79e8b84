//! Bytes of files and targets of links; and numbers that nothing has.

use super::driver::Driver;
use super::listing::Taken;
use super::world::{Thing, Tree, bytes};
use crate::union::object::Kind;
use crate::view::{Depth, Number, ViewError};

impl Driver {
    /// What can be read, and of which type it is; nothing of what is gone.
    fn content(&self, number: Number) -> (Option<Vec<u8>>, Kind) {
        let file = Kind::File { is_executable: false };
        match &self.known[&number].thing {
            Thing::Frozen { tree: Tree::File(content, _), .. } => (Some(bytes(*content)), file),
            Thing::Frozen { tree: Tree::Link(target), .. } => {
                (Some(target.as_bytes().to_vec()), Kind::Link)
            }
            Thing::Text { bytes, is_link: true } => (Some(bytes.to_vec()), Kind::Link),
            Thing::Text { bytes, is_link: false } => (Some(bytes.to_vec()), file),
            Thing::Live(live) => (live.content(), live.kind),
            Thing::Frozen { .. } | Thing::Merged { .. } | Thing::Overlay | Thing::Revisions => {
                (None, Kind::Directory)
            }
        }
    }

    pub(super) fn read(&self, number: Number, offset: u64, len: usize) {
        let (content, kind) = self.content(number);
        let answer = self.view.read(number, offset, len);
        if kind.is_directory() {
            return assert!(matches!(answer, Err(ViewError::IsADirectory)));
        }
        if kind == Kind::Link && matches!(self.known[&number].thing, Thing::Live(_)) {
            return assert!(matches!(answer, Err(ViewError::Unreadable { .. })), "{answer:?}");
        }
        let Some(content) = content else {
            return assert!(matches!(answer, Err(ViewError::Stale)), "{answer:?}");
        };
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let expected: Vec<_> = content.into_iter().skip(at).take(len).collect();
        assert_eq!(answer.unwrap(), expected);
        assert_eq!(self.view.read_at_hand(number, offset, len).unwrap(), Some(expected));
    }

    pub(super) fn read_link(&self, number: Number) {
        let (content, kind) = self.content(number);
        match (self.view.read_link(number), content) {
            (Ok(target), Some(content)) => assert_eq!((target, kind), (content, Kind::Link)),
            (Err(error), Some(_)) => assert_ne!(kind, Kind::Link, "{error}"),
            (answer, None) => {
                let is_stale = matches!(answer, Err(ViewError::Stale));
                assert_eq!(is_stale, kind == Kind::Link, "{answer:?}");
                assert!(answer.is_err());
            }
        }
    }

    pub(super) fn unknown(&self, number: Number) {
        if self.known.contains_key(&number) {
            return;
        }
        assert!(matches!(self.view.attr(number), Err(ViewError::Stale)));
        assert!(matches!(self.view.lookup(number, b"a"), Err(ViewError::Stale)));
        assert!(matches!(self.view.read(number, 0, 1), Err(ViewError::Stale)));
        assert!(matches!(self.view.read_link(number), Err(ViewError::Stale)));
        let mut taken = Taken { names: Vec::new(), room: 9 };
        let answer = self.view.list(number, 0, Depth::Attributes, &mut taken);
        assert!(matches!(answer, Err(ViewError::Stale)));
        self.view.forget(number, 1);
    }
}
