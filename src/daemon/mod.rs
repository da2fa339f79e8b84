//! Wires the rooms together: start, readiness, signals, stop.
//!
//! The only place that knows all of them. A mount is made only when the first snapshot stands, and whatever fails on the way leaves
//! nothing mounted.

mod configuration;
mod copy;
mod error;
mod fetch;
mod log;
mod operator;
mod outcome;
mod place;
mod start;
mod stop;
mod update;
mod views;
mod vitals;

pub use error::DaemonError;
pub use log::{LogLines, LogTo, start_log};
pub use start::{Audience, Given, Plan, announce_to_systemd, run, run_given};
pub use stop::Stopped;
pub use views::{ViewsPlan, run_views};
