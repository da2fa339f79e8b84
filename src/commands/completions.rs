//! `completions`: what a shell needs to complete our arguments.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::cli::Cli;
use super::failure::Failure;
use super::output;

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// Prints the script for a shell.
pub(super) fn run(arguments: &CompletionsArgs) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "overlayfs-mount", &mut script);
    if arguments.shell == Shell::Bash {
        // The hyphen of our name is spelt in two ways, and nothing is completed after a subcommand: <https://github.com/clap-rs/clap/issues/6421>.
        let text = String::from_utf8_lossy(&script);
        script = text.replace("overlayfs__subcmd__mount", "overlayfs__mount").into_bytes();
    }
    output::write(&script)
}
