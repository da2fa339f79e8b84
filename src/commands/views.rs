//! `mount --views`: many views by one daemon.

use std::path::Path;
use std::process::ExitCode;

use super::failure::Failure;
use super::input;
use super::mount::{
    MountArgs, Options, finish, finish_turn, is_supervised, log_failure, start_log,
};
use crate::daemon::{self, DaemonError, KeptBy, OwnLog, ViewsPlan};
use crate::machine::background::{self, Launch, ProcessSide};
use crate::machine::broker;
use crate::machine::keeper::Keeper;

/// Serves the views of a directory, in the foreground or behind a process that returns.
pub(super) fn run(arguments: &MountArgs, dir: &Path) -> Result<ExitCode, Failure> {
    if let Some(line) = broker::find()? {
        let plan = plan(arguments, dir)?;
        let _log = start_log(&plan.dir, arguments, arguments.foreground)?;
        if !arguments.foreground {
            broker::let_go_of_output()?;
        }
        daemon::run_broker(&plan, &line)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(keeper) = Keeper::find()? {
        let is_first = keeper.is_first();
        let outcome = work(arguments, dir, keeper);
        if !is_first {
            log_failure(&outcome, arguments, Some(dir));
        }
        return outcome;
    }
    if arguments.foreground {
        let plan = plan(arguments, dir)?;
        let log = start_log(&plan.dir, arguments, true)?;
        return serve(arguments, &plan, log, || {
            daemon::announce_to_systemd();
            daemon::remove_old_logs();
            Ok(())
        });
    }
    let plan = plan(arguments, dir)?;
    let ready = match background::part(None)? {
        ProcessSide::Caller(Launch::Ready(_pid)) => return Ok(ExitCode::SUCCESS),
        ProcessSide::Caller(Launch::Failed(status)) => return Ok(ExitCode::from(status)),
        ProcessSide::Daemon(ready) => ready,
    };
    let log = start_log(&plan.dir, arguments, false)?;
    serve(arguments, &plan, log, || {
        ready.announce()?;
        daemon::remove_old_logs();
        Ok(())
    })
}

fn work(arguments: &MountArgs, dir: &Path, keeper: Keeper) -> Result<ExitCode, Failure> {
    let plan = plan(arguments, dir)?;
    // It is the keeper's, which ends later.
    let _log = start_log(&plan.dir, arguments, arguments.foreground)?;
    let keeper = KeptBy::new(keeper);
    finish_turn(daemon::run_views_for_keeper(&plan, keeper, arguments.foreground))
}

fn serve(
    arguments: &MountArgs,
    plan: &ViewsPlan,
    log: Option<OwnLog>,
    ready: impl FnOnce() -> Result<(), DaemonError>,
) -> Result<ExitCode, Failure> {
    let outcome = if is_supervised(arguments) {
        daemon::keep_views(plan, ready)
    } else {
        daemon::run_views(plan, ready)
    };
    finish(outcome, log)
}

fn plan(arguments: &MountArgs, dir: &Path) -> Result<ViewsPlan, Failure> {
    let options = Options::parse(&arguments.options)?;
    let unusable = |what: &dyn std::fmt::Display| {
        Failure::usage(format!("directory of views `{}`: {what}", dir.display()))
            .with_cure("name a directory with a configuration for each view")
    };
    let dir = dir.canonicalize().map_err(|error| unusable(&error))?;
    if !dir.is_dir() {
        return Err(unusable(&"it is not a directory"));
    }
    let metrics = input::metrics(arguments.metrics.as_ref().or(options.metrics.as_ref()))?;
    let Options { mut overrides, forbids_execution, is_pinned, has_passthrough, labels, .. } =
        options;
    labels.check()?;
    overrides.is_synced = arguments.sync.then_some(true);
    let is_pinned = is_pinned || arguments.pin;
    Ok(ViewsPlan { dir, forbids_execution, labels, is_pinned, has_passthrough, metrics, overrides })
}
