//! `exec`: a command in a name space of its own where the view is mounted, as if it had been called itself.
//!
//! Three processes: this one stands for the command to whoever called; the daemon, started first, ends with it; the command is
//! its child. Only the first two may mount.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;

use super::cli::{ConfigArgs, LogFormat};
use super::failure::Failure;
use super::input;
use super::mount::{Options, plan_at};
use crate::config::resolved::Config;
use crate::daemon::{self, Audience, DaemonError, LogTo};
use crate::machine::background::{self, HowItWent, Leash, Ready};
use crate::machine::command::{self, Becoming, Running};
use crate::machine::site::{Site, enter_again};
use crate::machine::{inside, namespace, user};

/// Arguments of `exec`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: the command's, or 128 + signal; 125 not started, 126 not executable, 127 not found."
)]
pub struct ExecArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Where to mount (default: `mount.at` of the configuration); its parents need not exist
    #[arg(long, value_name = "DIR")]
    pub at: Option<PathBuf>,
    /// Mount options, as for `mount`
    #[arg(short = 'o', long = "options", value_name = "OPT,...")]
    pub options: Vec<String>,
    /// Write the log to this file (default: to journald where it runs, else nowhere)
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// The command with its arguments
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true)]
    pub command: Vec<OsString>,
}

/// The exit status if the command was not started; as that of env(1) and timeout(1).
const NOT_STARTED: u8 = 125;
/// How long the daemon has to end after the command.
const END: Duration = Duration::from_secs(10);

/// Whether arguments that are wrong were meant for `exec`.
pub(super) fn is_meant(arguments: &[OsString]) -> bool {
    arguments.get(1).is_some_and(|command| command == "exec")
}

/// Says what is wrong with the arguments. The exit status of usage may be the command's.
pub(super) fn wrong_usage(error: &clap::Error) -> ExitCode {
    error.print().unwrap_or_default();
    ExitCode::from(NOT_STARTED)
}

/// Becomes the command, in the process that was started for that.
pub(super) fn become_command(becoming: &Becoming) -> ExitCode {
    let (status, error) = command::become_program(becoming);
    Failure::from(error).with_status(status).report()
}

/// Runs the command and ends as it does.
pub(super) fn run(arguments: &ExecArgs) -> ExitCode {
    let outcome = if background::is_launched() { serve(arguments) } else { call(arguments) };
    outcome.unwrap_or_else(|failure| failure.with_status(NOT_STARTED).report())
}

/// The process that was called.
fn call(arguments: &ExecArgs) -> Result<ExitCode, Failure> {
    let directory = std::env::current_dir().ok();
    let site = {
        let options = Options::parse(&arguments.options)?;
        let config = input::config_with(&arguments.config, &options.overrides)?;
        let site = site(arguments, &config)?;
        // Everything that can be wrong is said before anything is started.
        plan_at(config, None, site.mountpoint.clone(), &options, Audience::OneCommand)?;
        site
    };
    let may_mount = user::has_sys_admin();
    if may_mount {
        namespace::enter_mount_namespace()?;
    } else {
        namespace::enter_user_and_mount_namespace()?;
    }
    site.prepare()?;
    let again = || directory.as_deref().map(Path::as_os_str).map(enter_again).unwrap_or_default();
    // A configuration that is named relative to the working directory is read there.
    again();
    // Without it the view works as well, and cannot be asked.
    let sockets = inside::with_another(&site.mountpoint).ok();
    let variable = sockets.as_deref().map(|sockets| (inside::VARIABLE, sockets));
    let handed_on = namespace::let_programs_mount()?;
    let leash = match background::launch_leashed(variable)? {
        HowItWent::Ready(leash) => leash,
        // It has said why, unless it was killed; then the status of its end is not the command's.
        HowItWent::Failed(_) => return Ok(ExitCode::from(NOT_STARTED)),
    };
    handed_on.take_back()?;
    again();
    let outcome = stand_for(&arguments.command, variable, &leash);
    let ended = leash.release(END);
    let status = outcome?;
    ended?;
    Ok(ExitCode::from(status))
}

/// Stands for the command until it ends.
fn stand_for(
    program: &[OsString],
    variable: Option<(&str, &OsStr)>,
    leash: &Leash,
) -> Result<u8, Failure> {
    let daemon = leash.pid();
    let status = Running::start(program, variable)?.wait(|ended| {
        if ended == daemon {
            let text = "overlayfs-mount: the daemon of this view has ended: what is not cached cannot be read\n";
            anstream::stderr().write_all(text.as_bytes()).unwrap_or_default();
        }
    })?;
    Ok(status)
}

fn site(arguments: &ExecArgs, config: &Config) -> Result<Site, Failure> {
    Ok(Site::find(arguments.at.as_deref().unwrap_or(&config.mount.at))?)
}

/// The daemon.
fn serve(arguments: &ExecArgs) -> Result<ExitCode, Failure> {
    let ready = Ready::detach_self()?;
    let options = Options::parse(&arguments.options)?;
    let seen = input::look(&arguments.config);
    let mut config = input::config_quietly(&arguments.config)?;
    options.overrides.apply(&mut config);
    let site = site(arguments, &config)?;
    let plan = plan_at(config, seen, site.mountpoint, &options, Audience::OneCommand)?;
    let file = arguments.log.as_ref().or(options.log.as_ref());
    let to = file.map_or(LogTo::JournalOrNowhere, |file| LogTo::File(file.clone()));
    input::start_log(&to, LogFormat::Auto)?;
    let new = missing(&plan.config.state.dir);
    let outcome = daemon::run(&plan, || {
        // The command or who stands for it has ended, in whatever way.
        let end = || kill(getpid(), Signal::SIGTERM).unwrap_or_default();
        ready.announce_on_leash(end).map_err(DaemonError::from)
    });
    for directory in new {
        // What somebody else has filled meanwhile stays.
        fs::remove_dir(directory).unwrap_or_default();
    }
    outcome?;
    Ok(ExitCode::SUCCESS)
}

/// The directories for state that are not there yet, the innermost first.
fn missing(state: &Path) -> Vec<PathBuf> {
    let inner = ["pins", "blobs"].map(|name| state.join(name));
    let inner = inner.into_iter().filter(|path| !path.exists());
    let outer = state.ancestors().take_while(|path| !path.exists()).map(Path::to_path_buf);
    inner.chain(outer).collect()
}
