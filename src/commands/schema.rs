//! `config schema`: the JSON Schema of the configuration file.

use std::process::ExitCode;

use super::failure::Failure;
use super::output;
use crate::config;

/// Prints the schema.
pub(super) fn run() -> Result<ExitCode, Failure> {
    output::json(&config::schema())
}
