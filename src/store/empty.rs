//! A store that holds nothing.

use super::{Attributes, Listed, Store, StoreError};
use crate::union::object::{Kind, Object};

/// Stands for a source that is missing or cannot be read: a directory without names.
#[derive(Debug, Clone, Copy, Default)]
pub struct EmptyStore;

/// The attributes of a directory in which nothing is shown.
pub(super) const EMPTY_DIRECTORY: Attributes =
    Attributes { kind: Kind::Directory, size_bytes: 0, modified: None };

impl Store for EmptyStore {
    fn root(&self) -> Result<Object, StoreError> {
        Ok(Object::Empty)
    }

    fn list(&self, directory: &Object) -> Result<Vec<Listed>, StoreError> {
        only_empty(directory).map(|()| Vec::new())
    }

    fn lookup(&self, directory: &Object, _name: &[u8]) -> Result<Option<Object>, StoreError> {
        only_empty(directory).map(|()| None)
    }

    fn attributes(&self, object: &Object) -> Result<Attributes, StoreError> {
        only_empty(object).map(|()| EMPTY_DIRECTORY)
    }

    fn read(&self, file: &Object, _offset: u64, _len: usize) -> Result<Vec<u8>, StoreError> {
        only_empty(file)?;
        Err(StoreError::IsADirectory)
    }

    fn read_link(&self, link: &Object) -> Result<Vec<u8>, StoreError> {
        only_empty(link)?;
        Err(StoreError::NotALink)
    }
}

fn only_empty(object: &Object) -> Result<(), StoreError> {
    match object {
        Object::Empty => Ok(()),
        Object::Frozen { .. } | Object::Live { .. } => Err(StoreError::Gone),
    }
}
