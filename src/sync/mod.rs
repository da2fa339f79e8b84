//! From the world to a snapshot: where sources are, what their refs say, what they hold.
//!
//! `locate` finds repositories, `resolve` finds commits, [`build`] lists the sources and has `union` merge them.
//! Nothing here decides what hides what, and nothing below an entry is read. [`inspect`] is for `check` only.

pub mod build;
mod digest;
mod error;
mod follow;
pub mod inspect;
mod label;
mod layer;
mod locate;
mod open;
mod resolve;
mod signals;

pub use error::{BuildError, SourceCause, SourceError, Tried};
pub use follow::follow;
pub use label::labels;
pub use signals::Stamp;
