//! Wires the rooms together: start, readiness, signals, stop.
//!
//! The only place that knows all of them. A mount is made only when the first snapshot stands, and whatever fails on the way leaves
//! nothing mounted.

mod attach;
mod bounded_log;
mod configuration;
mod confines;
mod copy;
mod courier;
mod error;
mod fetch;
mod guard;
mod keeper;
mod kept_by;
mod log;
mod opening;
mod operator;
mod outcome;
mod signals;
mod start;
mod stop;
mod unheard;
mod update;
mod updates;
mod views;
mod vitals;

pub use attach::Given;
pub use configuration::config_stamp;
pub use error::DaemonError;
pub use keeper::{keep, keep_views};
pub use kept_by::KeptBy;
pub use log::{LogLines, LogTo, OwnLog, check_log_variable, start_log};
pub use start::{
    Audience, Plan, announce_to_systemd, remove_old_logs, run, run_for_keeper, run_given,
};
pub use stop::Stopped;
pub use views::{ViewsPlan, run_broker, run_views, run_views_for_keeper};
