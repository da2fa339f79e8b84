//! Sources: where layers come from.

use std::fmt;

use thiserror::Error;

use super::name::{Name, NameError, RelPath};

/// The position of a source in a revision set, from 0 at the bottom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u32);

impl SourceId {
    /// The position as an index into the list of sources.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A source's name of two components, shown as `owner/repo`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceName {
    /// The first component.
    pub owner: Name,
    /// The second component.
    pub repo: Name,
}

impl SourceName {
    /// Reads `owner/repo`.
    ///
    /// # Errors
    /// The text has not exactly two components, or one of them is no name.
    pub fn parse(text: &str) -> Result<Self, SourceNameError> {
        let (owner, repo) = text.split_once('/').ok_or(SourceNameError::Components)?;
        if repo.contains('/') {
            return Err(SourceNameError::Components);
        }
        Ok(Self { owner: Name::new(owner)?, repo: Name::new(repo)? })
    }

    /// The name as a path of two components.
    pub fn to_path(&self) -> RelPath {
        [self.owner.clone(), self.repo.clone()].into_iter().collect()
    }
}

/// Why a text is no [`SourceName`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SourceNameError {
    /// There are not exactly two components.
    #[error("has not exactly two components")]
    Components,
    /// A component is no name.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.repo)
    }
}

/// Who may see a source. Whatever is not public is private.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Visibility {
    /// Shown by public views too.
    Public,
    /// Shown only where `access` is `all`.
    Private,
}

impl fmt::Display for Visibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "public",
            Self::Private => "private",
        })
    }
}
