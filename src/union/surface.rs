//! Surfaces: named kinds of content, as rows of data.

use super::name::{Name, RelPath};

/// The position of a surface in the table of surfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SurfaceId(pub u32);

impl SurfaceId {
    /// The position as an index into the table.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What counts as an entry on a surface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryRule {
    /// Every direct child is an entry; its key is its name.
    Children,
    /// Directories with a marker are packages, keyed by their own name; every other child is an entry keyed by its path.
    Packages {
        /// The file whose presence makes a directory a package.
        marker: Name,
        /// The deepest level, from 1, at which a package is looked for. With 1 there are no categories.
        depth: u32,
    },
    /// A file appears as `NN-<owner>__<repo>.md`; of a directory every child is an entry under its own name.
    Prompts,
}

/// When a surface's directory is part of the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Always, even when empty.
    Always,
    /// Where at least one source that is shown configures a sub-directory for it.
    IfConfigured,
    /// Where it holds at least one entry.
    IfNotEmpty,
}

/// One row of the table of surfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surface {
    /// The name by which configuration and commands call it.
    pub name: String,
    /// Where it appears in the view; never the root.
    pub at: RelPath,
    /// The sub-directory of a source that says nothing else; `None` means off.
    pub subdir: Option<RelPath>,
    /// What counts as an entry.
    pub rule: EntryRule,
    /// When its directory is part of the view.
    pub presence: Presence,
    /// Names that are never shown directly in it.
    pub never_shown: Vec<Name>,
}
