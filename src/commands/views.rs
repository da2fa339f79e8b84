//! `mount --views`: many views by one daemon.

use std::path::Path;
use std::process::ExitCode;

use super::cli::MountArgs;
use super::failure::Failure;
use super::mount::{Options, finish, is_supervised, start_log};
use crate::daemon::{self, ViewsPlan};
use crate::machine::background::{self, Launch, Side};

/// Serves the views of a directory, in the foreground or behind a process that returns.
pub(super) fn run(arguments: &MountArgs, dir: &Path) -> Result<ExitCode, Failure> {
    if arguments.foreground {
        let plan = plan(arguments, dir)?;
        let log = start_log(&plan.dir, arguments, true)?;
        let outcome = daemon::run_views(&plan, || {
            daemon::announce_to_systemd();
            daemon::remove_old_logs();
            Ok(())
        });
        return finish(outcome, log);
    }
    let plan = plan(arguments, dir)?;
    let ready = match background::part(None)? {
        Side::Caller(Launch::Ready(_pid)) => return Ok(ExitCode::SUCCESS),
        Side::Caller(Launch::Failed(status)) => return Ok(ExitCode::from(status)),
        Side::Daemon(ready) => ready,
    };
    let log = start_log(&plan.dir, arguments, false)?;
    let outcome = daemon::run_views(&plan, || {
        ready.announce()?;
        daemon::remove_old_logs();
        Ok(())
    });
    finish(outcome, log)
}

fn plan(arguments: &MountArgs, dir: &Path) -> Result<ViewsPlan, Failure> {
    let options = Options::parse(&arguments.options)?;
    let is_alone = options.is_pinned || options.metrics.is_some() || options.has_passthrough;
    if is_alone || is_supervised(arguments) {
        let message =
            "`--views` takes none of `-o pin`, `-o metrics`, `-o passthrough` and `-o supervised`";
        return Err(Failure::usage(message).with_cure(
            "leave it out; a view of its own takes them: `overlayfs-mount mount -c FILE`",
        ));
    }
    let unusable =
        |error| Failure::usage(format!("directory of views `{}`: {error}", dir.display()));
    let dir = dir.canonicalize().map_err(unusable)?;
    if !dir.is_dir() {
        return Err(Failure::usage(format!("`{}` is not a directory", dir.display()))
            .with_cure("name a directory with a configuration for each view"));
    }
    let Options { overrides, forbids_execution, .. } = options;
    Ok(ViewsPlan { dir, forbids_execution, overrides })
}
