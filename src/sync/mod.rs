//! From the world to a snapshot: where sources are, what their refs say, what they hold.
//!
//! - Building: `locate` finds repositories, `resolve` finds commits, `open` opens stores, `layer` lists what they offer, and [`build`] has
//!   `union` merge it. `follow` and `beside` give a snapshot the times that it takes over from others.
//! - Noticing: `signals` names the files whose change says that a source may have moved, [`watch`] looks at them.
//! - Keeping: [`pin`] (in the directory of `pin_root`) what is served, `history` the `.git` that is shown, [`archive`] the sets that were left.
//! - The repo cache: `wanted` says what it should hold, [`fetch`] asks remotes, `mirror` keeps one repository and [`cycle`] all.
//! - [`reach`] names the files that a configuration leads to, for those who confine; [`inspect`] is for `check` only.
//!
//! Nothing here decides what hides what, and nothing below an entry is read.

pub mod archive;
mod beside;
pub mod build;
pub mod cycle;
#[cfg(test)]
mod cycle_tests;
mod digest;
mod error;
pub mod fetch;
mod follow;
mod history;
pub mod inspect;
mod label;
mod layer;
mod locate;
mod lock;
mod mirror;
mod open;
mod parallel;
pub mod pin;
mod pin_root;
#[cfg(test)]
mod pin_tests;
mod places;
pub mod reach;
mod ready;
mod repositories;
mod resolve;
mod shallow;
mod shared;
mod signals;
mod wanted;
pub mod watch;

pub use beside::beside;
pub use error::{BuildError, SourceCause, SourceError, Tried};
pub use follow::follow;
pub use history::Histories;
pub use label::labels;
pub use mirror::Moved;
pub use shared::Shared;
pub use signals::Stamp;
