//! The doors: one file a subcommand, each a few calls into the rooms.
//!
//! Data goes to standard output, everything else to standard error.

mod check;
pub mod cli;
mod completions;
mod demo;
mod diff;
mod doctor;
mod env;
mod exec;
mod explain;
mod export;
mod failure;
mod helper;
mod input;
mod ls;
mod man;
mod mount;
mod output;
mod pass;
mod reload;
mod schema;
mod status;
mod sync;
mod unmount;
mod upgrade;
mod views;
mod wait;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use crate::machine;
use cli::{Cli, Command, ConfigCommand};
use failure::Failure;

/// Runs the program with the arguments of its process, the program's own name first.
pub fn run(arguments: &[OsString]) -> ExitCode {
    if let Some(becoming) = machine::command::recognize(arguments) {
        return exec::become_command(&becoming);
    }
    if let Some(launched) = machine::confinement::recognize(arguments) {
        return Failure::from(machine::confinement::become_git(&launched)).report();
    }
    if machine::courier::is_meant(arguments) {
        return machine::courier::become_courier()
            .map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    if let Some(helper) = helper::recognize(arguments) {
        return helper::run(helper);
    }
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) if exec::is_meant(arguments) && error.use_stderr() => {
            return exec::wrong_usage(&error);
        }
        Err(error) => error.exit(),
    };
    match dispatch(cli) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode, Failure> {
    match cli.command {
        Command::Mount(arguments) => mount::run(&arguments),
        Command::Unmount(arguments) => unmount::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Ls(arguments) => ls::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Diff(arguments) => diff::run(&arguments),
        Command::Export(arguments) => export::run(&arguments),
        Command::Reload(arguments) => reload::run(&arguments),
        Command::Upgrade(arguments) => upgrade::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Exec(arguments) => Ok(exec::run(&arguments)),
        Command::Pass(arguments) => pass::run(&arguments),
        Command::Env(arguments) => env::run(&arguments),
        Command::Wait(arguments) => wait::run(&arguments),
        Command::Sync(arguments) => sync::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Config(arguments) => match arguments.command {
            ConfigCommand::Schema => schema::run(),
        },
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Man(arguments) => man::run(&arguments),
    }
}
