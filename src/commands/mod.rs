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
mod mount_options;
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

use clap::{Args, FromArgMatches, Parser};

use crate::machine;
use cli::{Cli, Command, ConfigCommand, MountArgs};
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
    let cli = match parse(arguments) {
        Ok(cli) => cli,
        Err(error) if exec::is_meant(arguments) && error.use_stderr() => {
            return exec::wrong_usage(&error);
        }
        Err(error) if error.use_stderr() => error.exit(),
        Err(error) => return output::help(&error).unwrap_or_else(|failure| failure.report()),
    };
    match dispatch(cli) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

/// Reads the arguments. The tree of all commands takes as long as some sources take to be opened, and is made only where it is needed.
fn parse(arguments: &[OsString]) -> Result<Cli, clap::Error> {
    match mount_alone(arguments) {
        Some(mount) => Ok(Cli { command: Command::Mount(mount) }),
        None => Cli::try_parse_from(arguments),
    }
}

/// The arguments of `mount`; `None` where they are another command's, ask for help, or something is wrong with them.
fn mount_alone(arguments: &[OsString]) -> Option<MountArgs> {
    let of_mount =
        arguments.get(1..).filter(|rest| rest.first().is_some_and(|name| name == "mount"))?;
    let command = MountArgs::augment_args(clap::Command::new("mount"));
    let matches = command.try_get_matches_from(of_mount).ok()?;
    MountArgs::from_arg_matches(&matches).ok()
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
        Command::Demo => demo::run(),
        Command::Config(arguments) => match arguments.command {
            ConfigCommand::Schema => schema::run(),
        },
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Man(arguments) => man::run(&arguments),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_alone_is_read_as_with_all_commands() {
        let lines = [
            "p mount",
            "p mount /view",
            "p mount -c a.yaml -f --supervised --log l --log-format json view",
            "p mount --source a/b --source c/d@main -o uid=5,noexec -o ro --pin --sync",
            "p mount --values v --metrics 127.0.0.1:9 --fuse-fd 3",
            "p mount --views dir -- view",
            "p mount -c",
            "p mount --nosuch",
            "p mount a b",
            "p mount --help",
            "p mount -h",
            "p mount --version",
            "p mounts",
            "p -V mount",
            "p check",
            "p unmount view",
            "p",
            "",
        ];
        for line in lines {
            let arguments: Vec<_> = line.split_ascii_whitespace().map(OsString::from).collect();
            let all = Cli::try_parse_from(&arguments).map(|cli| cli.command);
            let alone = mount_alone(&arguments).map(|mount| format!("{:?}", Command::Mount(mount)));
            let wanted = all.ok().filter(|command| matches!(command, Command::Mount(_)));
            assert_eq!(alone, wanted.map(|command| format!("{command:?}")), "{line}");
        }
    }
}
