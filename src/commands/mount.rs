//! `mount`: returns when the view can be read, or says what failed and leaves nothing mounted.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use tracing::error;

use super::cli::{ConfigArgs, LogFormat};
use super::failure::Failure;
pub(super) use super::mount_options::Options;
use super::mount_options::{HELP, words};
use super::{input, views};
use crate::config::resolved::Config;
use crate::config::{self, ConfigError};
use crate::control::http::Address;
use crate::daemon::{self, Audience, DaemonError, Given, KeptBy, LogTo, OwnLog, Plan, Stopped};
use crate::machine::background::{self, Launch, ProcessSide};
use crate::machine::keeper::{Keeper, LACKING};
use crate::machine::run_dir::RunDir;
use crate::machine::{descriptor, mountpoint, passthrough};
use crate::sync::Stamp;

/// Arguments of `mount`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct MountArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Serve many views: each `*.yaml` of this directory is the configuration of one, at its `mount.at`
    #[arg(long, value_name = "DIR", conflicts_with_all = ["ConfigArgs", "mountpoint", "fuse_fd", "fuse_socket"])]
    pub views: Option<PathBuf>,
    /// Where to mount (default: `mount.at` of the configuration), or `/dev/fd/N` as for `--fuse-fd`
    #[arg(value_name = "MOUNTPOINT")]
    pub mountpoint: Option<PathBuf>,
    /// Serve a mount that was made already: its descriptor of /dev/fuse
    #[arg(long, value_name = "N", conflicts_with = "fuse_socket")]
    pub fuse_fd: Option<u16>,
    /// Serve a mount that `pass` makes: the path of its socket
    #[arg(long, value_name = "PATH")]
    pub fuse_socket: Option<PathBuf>,
    /// Stay in the foreground
    #[arg(short = 'f', long)]
    pub foreground: bool,
    /// Clone and fetch the sources into the repo cache while mounted
    #[arg(long)]
    pub sync: bool,
    /// Keep showing the revision set of the start: later changes are not followed
    #[arg(long)]
    pub pin: bool,
    /// Have a second process keep the mount: if the one that serves it dies, another takes over, and nobody gets an error
    #[arg(long, conflicts_with_all = ["fuse_fd", "fuse_socket"])]
    pub supervised: bool,
    /// Serve metrics and health over HTTP: PORT for this machine only, HOST:PORT or `[IPV6]:PORT`
    /// (default: `$OVERLAYFS_MOUNT_METRICS`, else nowhere)
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<Address>,
    /// Mount options, as mount(8) gives them.
    #[arg(short = 'o', long = "options", value_name = "OPT,...", help = HELP)]
    pub options: Vec<String>,
    /// Write the log to this file
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// What the log looks like: auto, text, json or journald
    #[arg(long, value_name = "KIND", value_enum, default_value_t = LogFormat::Auto, hide_possible_values = true)]
    pub log_format: LogFormat,
}

/// Mounts, in the foreground or behind a process that returns.
pub(super) fn run(arguments: &MountArgs) -> Result<ExitCode, Failure> {
    if let Some(dir) = &arguments.views {
        return views::run(arguments, dir);
    }
    if let Some(keeper) = Keeper::find()? {
        return work(arguments, keeper);
    }
    if arguments.foreground {
        let plan = plan(arguments)?;
        let log = start_log(&plan.mountpoint, arguments, true)?;
        return serve(arguments, &plan, log, || {
            daemon::announce_to_systemd();
            Ok(())
        });
    }
    // Wrong usage and configuration are said here, before anything is started.
    let plan = if background::is_launched() { plan_quietly(arguments)? } else { plan(arguments)? };
    let ready = match background::part(given_number(arguments))? {
        ProcessSide::Caller(Launch::Ready(_pid)) => return Ok(ExitCode::SUCCESS),
        ProcessSide::Caller(Launch::Failed(status)) => return Ok(ExitCode::from(status)),
        ProcessSide::Daemon(ready) => ready,
    };
    let log = start_log(&plan.mountpoint, arguments, false)?;
    serve(arguments, &plan, log, || ready.announce().map_err(DaemonError::from))
}

fn serve(
    arguments: &MountArgs,
    plan: &Plan,
    log: Option<OwnLog>,
    ready: impl FnOnce() -> Result<(), DaemonError>,
) -> Result<ExitCode, Failure> {
    let outcome = match given(arguments) {
        Some(given) => daemon::run_given(plan, given, ready),
        None if is_supervised(arguments) => daemon::keep(plan, || {
            ready()?;
            daemon::remove_old_logs();
            Ok(())
        }),
        None => daemon::run(plan, ready),
    };
    finish(outcome, log)
}

/// Serves a mount for its keeper, which was started with the same arguments.
fn work(arguments: &MountArgs, keeper: Keeper) -> Result<ExitCode, Failure> {
    let is_heard = keeper.is_first() && !keeper.is_anew();
    let outcome = take_turn(arguments, keeper);
    if !is_heard {
        log_failure(&outcome, arguments, arguments.mountpoint.as_deref());
    }
    outcome
}

/// Logs why a worker that is to take over does not: nobody reads what it prints.
pub(super) fn log_failure(
    outcome: &Result<ExitCode, Failure>,
    arguments: &MountArgs,
    place: Option<&Path>,
) {
    let Err(failure) = outcome else { return };
    // It may have failed before it had a log. Where it has one this changes nothing.
    let _log = start_log(place.unwrap_or(Path::new("")), arguments, arguments.foreground).ok();
    let (error, cure) = (failure.message().trim_end(), failure.cure());
    error!(error, cure, "the worker cannot take over");
}

fn take_turn(arguments: &MountArgs, keeper: Keeper) -> Result<ExitCode, Failure> {
    let keeper = KeptBy::new(keeper);
    let mut now = None;
    // As the file says by now.
    let current = || {
        let seen = input::look(&arguments.config);
        let loaded = input::loaded_quietly(&arguments.config)?;
        Ok::<_, Failure>((complete(arguments, loaded.config, seen)?, loaded.text))
    };
    let earlier = keeper.earlier_configurations().map(|(first, last)| {
        let earlier = |text: &[u8]| {
            complete(arguments, input::loaded_earlier(&arguments.config, text)?.config, None)
        };
        Ok::<_, Failure>((earlier(&last)?.mounted_as(earlier(&first)?), last))
    });
    let (mut plan, text) = match earlier {
        None => current()?,
        // A file that is damaged, or about to be written, is no reason to lose the view.
        Some(earlier) if keeper.is_anew() => match current() {
            Ok((plan, text)) if !text.trim_ascii().is_empty() => (plan, text),
            Ok(_) | Err(_) => earlier?,
        },
        // As the worker before served it: what has changed since is followed from there.
        Some(earlier) => {
            // It will be followed from there: what it leads to by now is not to be closed.
            now = current().map(|(plan, _)| plan).ok();
            earlier?
        }
    };
    plan.audience = Audience::Given;
    // It is the keeper's, which ends later.
    let _log = start_log(&plan.mountpoint, arguments, arguments.foreground)?;
    keeper.confine(&plan, now.as_ref().map(|now| &now.config));
    finish_turn(daemon::run_for_keeper(&plan, keeper, &text, arguments.foreground))
}

/// What the end of a worker means for its exit status.
pub(super) fn finish_turn(outcome: Result<Stopped, DaemonError>) -> Result<ExitCode, Failure> {
    let is_momentary = outcome.as_ref().is_err_and(DaemonError::is_momentary);
    finish(outcome, None).map_err(
        |failure| {
            if is_momentary { failure.with_status(LACKING) } else { failure }
        },
    )
}

/// Whether a keeper is to go on where the process that serves the view dies.
pub(super) fn is_supervised(arguments: &MountArgs) -> bool {
    let is_option = || words(&arguments.options).any(|option| option == "supervised");
    arguments.supervised || is_option()
}

/// Where the descriptor of a mount that was made already comes from.
fn given(arguments: &MountArgs) -> Option<Given> {
    let socket = || arguments.fuse_socket.clone().map(Given::Socket);
    given_number(arguments).map(Given::Number).or_else(socket)
}

/// The number of the descriptor of a mount that was made already.
fn given_number(arguments: &MountArgs) -> Option<i32> {
    let in_place = || arguments.mountpoint.as_deref().and_then(descriptor::number_in);
    arguments.fuse_fd.map(i32::from).or_else(in_place)
}

/// What a daemon's end means for its exit status and its log.
pub(super) fn finish(
    outcome: Result<Stopped, DaemonError>,
    log: Option<OwnLog>,
) -> Result<ExitCode, Failure> {
    let end = match &outcome {
        Ok(Stopped::Unmounted | Stopped::Signal(_)) => OwnLog::end,
        Ok(Stopped::Worker(_)) | Err(_) => OwnLog::fail,
    };
    log.map(end);
    match outcome? {
        Stopped::Unmounted | Stopped::Signal(_) => Ok(ExitCode::SUCCESS),
        Stopped::Worker(code) => Ok(ExitCode::from(code)),
    }
}

fn plan(arguments: &MountArgs) -> Result<Plan, Failure> {
    let overrides = Options::parse(&arguments.options)?.overrides;
    let seen = input::look(&arguments.config);
    complete(arguments, input::config_with(&arguments.config, &overrides)?, seen)
}

/// As [`plan`], for the process whose caller has seen the warnings already.
fn plan_quietly(arguments: &MountArgs) -> Result<Plan, Failure> {
    let seen = input::look(&arguments.config);
    complete(arguments, input::config_quietly(&arguments.config)?, seen)
}

/// Applies mount options and finds the real mount point. `seen` is how the configuration's file looked before.
fn complete(
    arguments: &MountArgs,
    mut config: Config,
    seen: Option<Stamp>,
) -> Result<Plan, Failure> {
    let mut options = Options::parse(&arguments.options)?;
    options.overrides.is_synced = arguments.sync.then_some(true);
    options.overrides.apply(&mut config);
    options.is_pinned |= arguments.pin;
    options.metrics = input::metrics(arguments.metrics.as_ref().or(options.metrics.as_ref()))?;
    let named =
        arguments.mountpoint.as_deref().filter(|path| descriptor::number_in(path).is_none());
    let wanted = named.unwrap_or(&config.mount.at);
    if given(arguments).is_some() {
        options.expect_no_labels()?;
        // Where it is mounted is another's business, and may be another name space: here it is a name.
        let mountpoint = std::path::absolute(wanted).map_err(|error| {
            Failure::new(format!("mount point `{}`: {error}", wanted.display()))
        })?;
        let mountpoint = mountpoint.components().collect();
        return plan_at(config, seen, mountpoint, &options, Audience::Given);
    }
    let mountpoint = mountpoint::resolve(wanted)?;
    plan_at(config, seen, mountpoint, &options, Audience::Everybody)
}

/// What to mount, where the mount point is known.
pub(super) fn plan_at(
    mut config: Config,
    stamp: Option<Stamp>,
    mountpoint: PathBuf,
    options: &Options,
    audience: Audience,
) -> Result<Plan, Failure> {
    let problems = match audience {
        Audience::Everybody | Audience::OneCommand => {
            config::check_real_mountpoint(&config, &mountpoint)
        }
        Audience::Given => Vec::new(),
    };
    if !problems.is_empty() {
        return Err(ConfigError { problems }.into());
    }
    match audience {
        Audience::Everybody | Audience::OneCommand => options.labels.check()?,
        Audience::Given => {}
    }
    config.mount.at.clone_from(&mountpoint);
    let allowed = || passthrough::allowed(&config.state.dir);
    let passthrough = options.has_passthrough.then(allowed).transpose()?;
    Ok(Plan {
        config,
        mountpoint,
        forbids_execution: options.forbids_execution,
        labels: options.labels.clone(),
        is_pinned: options.is_pinned,
        overrides: options.overrides,
        stamp,
        metrics: options.metrics.clone(),
        audience,
        passthrough,
        views: None,
    })
}

/// Where the log goes. journald writes no files.
fn log_to(
    mountpoint: &Path,
    arguments: &MountArgs,
    options: &Options,
    is_foreground: bool,
) -> Result<LogTo, Failure> {
    let file = arguments.log.as_ref().or(options.log.as_ref());
    match (file, arguments.log_format) {
        (Some(_), LogFormat::Journald) => {
            Err(Failure::usage("the log cannot go to a file and to journald")
                .with_cure("leave out `--log`, or take `--log-format json`"))
        }
        (Some(path), LogFormat::Auto | LogFormat::Text | LogFormat::Json) => {
            Ok(LogTo::File(path.clone()))
        }
        (None, LogFormat::Journald) => Ok(LogTo::Journal),
        (None, _) if is_foreground => Ok(LogTo::Stderr),
        (None, LogFormat::Auto) => Ok(LogTo::JournalOr(RunDir::make()?.log(mountpoint))),
        (None, LogFormat::Text | LogFormat::Json) => {
            Ok(LogTo::Own(RunDir::make()?.log(mountpoint)))
        }
    }
}

/// Starts the log of a mount point.
pub(super) fn start_log(
    mountpoint: &Path,
    arguments: &MountArgs,
    is_foreground: bool,
) -> Result<Option<OwnLog>, Failure> {
    let options = Options::parse(&arguments.options)?;
    let to = log_to(mountpoint, arguments, &options, is_foreground)?;
    input::start_log(&to, arguments.log_format)
}
