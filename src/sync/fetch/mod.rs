//! The `git` program as a child that asks remotes and fetches from them: docs/decisions says why it, and not a library.
//!
//! It sees a small environment, no configuration but ours, and a deadline that ends it with all that it started. The
//! access token is read from its file by the credential helper alone: it is in no argument, variable, log or error.

mod cause;
#[cfg(test)]
mod cause_tests;
mod child;
mod git;
mod pack;
mod remote;
mod said;
mod stop;

pub use cause::FetchCause;
pub(super) use child::ChildRun;
pub(super) use git::{Advertised, Git, HistoryDepth, LOOSE_MAX, PACKS_MAX};
pub use git::{GitLaunch, as_itself};
pub(super) use pack::Borrower;
pub use pack::PackCause;
pub(super) use remote::Remote;
pub use stop::Stop;
