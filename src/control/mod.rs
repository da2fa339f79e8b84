//! The operator's door: what a running daemon tells and is told, over a Unix socket.
//!
//! One request is one line of JSON, and so is its answer ([`protocol`]). Who may connect is root and the daemon's own user. What the answers
//! are made of is the daemon's matter: it implements [`server::Operator`]. Where the socket is, `machine::run_dir` says.

pub mod client;
pub mod error;
pub mod protocol;
pub mod server;
pub mod status;

pub use error::ControlError;
