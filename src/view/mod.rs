//! The file system without a protocol: look-up, attributes, listing, reading.
//!
//! Answers every request from the node it is about and, for the directories that change, from one snapshot loaded once.
//! Knows neither FUSE nor errno; [`crate::fuse`] carries requests here and answers back.
//!
//! Rules that hold: a number means one place and one object and is never given out again (`numbers`); a node lives exactly as long as the
//! kernel counts look-ups of it (`nodes`); below an entry of a git source nothing ever changes (`tree`).

mod attr;
mod blocks;
mod fence;
mod flip;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod git;
mod journal;
mod kept;
mod list;
mod lookup;
mod merged;
mod moment;
mod nodes;
mod numbers;
mod on_disk;
mod open;
mod overlay;
mod past;
mod past_view;
mod pieces;
mod position;
mod read;
mod reading;
mod records;
mod recover;
#[cfg(any(test, fuzzing))]
pub(crate) mod sample;
mod streams;
mod superblock;
mod sweep;
mod threads;
mod tree;
mod xattr;

#[cfg(test)]
mod come_and_go_tests;
#[cfg(all(test, shuttle))]
mod flip_tests;
#[cfg(test)]
mod live_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod recover_tests;
#[cfg(test)]
mod shrink_tests;
#[cfg(test)]
mod superblock_tests;
#[cfg(test)]
mod sweep_tests;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod workers_tests;

pub use attr::{Attr, Lifetime};
pub use fence::Answering;
pub use flip::{Keeping, Kernel};
pub use journal::{Journal, ShownSet};
pub use kept::{Archive, Kept};
pub use list::{Depth, Offered, Sink};
pub use lookup::Found;
pub use nodes::Number;
pub use open::{Settings, View};
pub use past::{Handshake, Past};
pub use past_view::{PastView, StillOpen};
pub use superblock::{Asked, Superblock};

use thiserror::Error;

use crate::store::StoreError;

/// Why the view has no answer.
#[derive(Debug, Error)]
pub enum ViewError {
    /// The node is not known, or what it stood for is gone for good.
    #[error("the file was removed or replaced")]
    Stale,
    /// A directory was expected.
    #[error("it is not a directory")]
    NotADirectory,
    /// A file was expected.
    #[error("it is a directory")]
    IsADirectory,
    /// A link was expected.
    #[error("it is not a symbolic link")]
    NotALink,
    /// The daemon may not read it.
    #[error("permission denied")]
    Denied,
    /// The name has more than 255 bytes.
    #[error("the name is longer than 255 bytes")]
    NameTooLong,
    /// There is no such extended attribute.
    #[error("there is no such attribute")]
    NoAttribute,
    /// Extended attributes are turned off for the whole view.
    #[error("attributes are turned off")]
    AttributesOff,
    /// A directory has more names than its offsets can tell apart.
    #[error("the directory has more than 524,286 names")]
    DirectoryTooLarge,
    /// No inode numbers are left.
    #[error("all inode numbers are used up; mount anew")]
    NumbersUsedUp,
    /// A set that was left cannot be made again.
    #[error("revision set `{id}`: {cause}")]
    Lost {
        /// The set.
        id: String,
        /// What of it cannot be read.
        cause: String,
    },
    /// The content cannot be read.
    #[error("source `{source_label}`: `{path}`: {cause}")]
    Unreadable {
        /// The source as commands call it.
        source_label: String,
        /// The path in the source, escaped.
        path: String,
        /// What failed.
        cause: StoreError,
    },
}
