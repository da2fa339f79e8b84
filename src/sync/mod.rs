//! From the world to a snapshot: where sources are, what their refs say, what they hold.
//!
//! `locate` finds repositories, `resolve` finds commits, [`build`] lists the sources and has `union` merge them.
//! `wanted` says what the repo cache should hold, `fetch` asks remotes, `mirror` keeps one repository and [`cycle`] all.
//! Nothing here decides what hides what, and nothing below an entry is read. [`inspect`] is for `check` only.

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
pub mod pin;
mod pin_root;
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
