//! The operator's door: what a running daemon tells and is told, over a Unix socket; and, where that is asked for, what it counts, over HTTP.
//!
//! One request is one line of JSON, and so is its answer ([`protocol`]). Who may connect is root and the daemon's own user. What the answers
//! are made of is the daemon's matter: it implements [`server::Operator`]. Where the socket is, `machine::run_dir` says, and inside
//! `exec` `machine::inside`.

pub mod client;
pub mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod http;
pub mod metrics;
pub mod protocol;
pub mod server;
mod socket;
pub mod status;
pub mod tally;
pub mod view_metrics;

pub use error::ControlError;
