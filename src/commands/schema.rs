//! `config schema`: the JSON Schema of the configuration file.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::output;
use crate::config;

/// Arguments of `config`.
#[derive(Debug, Args)]
pub struct ConfigCommandArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What `config` does.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the JSON Schema of the configuration file
    Schema,
}

/// Prints the schema.
pub(super) fn run() -> Result<ExitCode, Failure> {
    output::json(&config::schema())
}
