//! Reading what is below a visible entry, within bounds.

use super::{LintKind, Visit};
use crate::store::walk::{self, Walked};
use crate::store::{Store, StoreError};
use crate::union::name::RelPath;
use crate::union::object::{Kind, Object};

/// No `SKILL.md`, workflow or `pyproject.toml` has more bytes than this.
const FILE_BYTES_MAX: u64 = 1 << 20;

impl Visit<'_> {
    pub(super) fn store(&self) -> &dyn Store {
        self.snapshot.source(self.placed.source).store.as_ref()
    }

    /// The object at a path of the entry's source, links inside the source followed; `None` where nothing is.
    pub(super) fn follow(&self, source_path: &RelPath) -> Result<Option<Object>, LintKind> {
        match walk::resolve(self.store(), source_path).map_err(|error| unreadable(&error))? {
            Walked::Found { object, .. } => Ok(Some(object)),
            Walked::Absent | Walked::Leaves | Walked::Loop => Ok(None),
        }
    }

    /// The text of a file at a path of the entry's source; `None` where no file is. What is no UTF-8 is replaced.
    pub(super) fn text(&self, source_path: &RelPath) -> Result<Option<String>, LintKind> {
        match self.follow(source_path)? {
            Some(object) if object.kind().is_file() => self.content(&object).map(Some),
            Some(_) | None => Ok(None),
        }
    }

    fn content(&self, file: &Object) -> Result<String, LintKind> {
        let read = |error: StoreError| unreadable(&error);
        let size_bytes = self.store().attributes(file).map_err(read)?.size_bytes;
        if size_bytes > FILE_BYTES_MAX {
            return Err(LintKind::TooLarge { size_bytes });
        }
        let len = usize::try_from(FILE_BYTES_MAX).unwrap_or(usize::MAX);
        let bytes = self.store().read(file, 0, len).map_err(read)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Whether the entry is a directory, itself or through links inside its source.
    pub(super) fn is_directory(&self) -> Result<bool, LintKind> {
        let entry = &self.placed.entry;
        match entry.object.kind() {
            Kind::Directory => Ok(true),
            Kind::File { .. } => Ok(false),
            Kind::Link => {
                let object = self.follow(&entry.source_path)?;
                Ok(object.is_some_and(|object| object.kind().is_directory()))
            }
        }
    }
}

pub(super) fn unreadable(error: &StoreError) -> LintKind {
    LintKind::Unreadable { error: error.to_string() }
}
