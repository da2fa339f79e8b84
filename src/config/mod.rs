//! One file becomes one [`resolved::Config`], or all problems that it has.
//!
//! Knows YAML, the platform's values and environment, defaults and messages. Opens no repository and mounts nothing.
//!
//! The way of a file: `yaml` keeps every value's line, `check` holds the tree against the schema of the types in `raw`
//! (and `compat`, for the platform's values), `resolve` adds defaults and rules. Each step reports all that it finds
//! and hands on what is sound, so that one run tells everything.

mod check;
mod command_line;
mod compat;
mod environment;
#[cfg(test)]
mod fixture;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod git_ref;
mod git_url;
mod key_path;
mod load;
pub mod nearest;
mod problem;
mod raw;
mod report;
mod resolve;
pub mod resolved;
#[cfg(any(test, fuzzing))]
mod sample;
mod sources;
mod surfaces;
#[cfg(test)]
mod tests;
mod units;
mod yaml;

pub use command_line::from_sources;
pub use environment::{CONFIG_VARIABLE, Environment};
pub use git_ref::refusal as ref_refusal;
pub use git_url::Transport;
pub use key_path::{KeyPath, Step};
pub use load::{Loaded, discover, load_file, load_text, load_values, read_file, schema};
pub use problem::{ConfigError, Problem, Severity};
pub use resolve::{check_mountpoint, check_real_mountpoint, why_empty};
pub use units::{DURATION_CURE, duration};
