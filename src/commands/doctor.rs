//! `doctor`: what of this machine, and of the configuration if there is one, would stop a mount, each with its cure.

use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;

use super::cli::ConfigArgs;
use super::failure::{FAILED, Failure};
use super::{input, output};
use crate::machine::doctor::{self, Check, CheckOutcome, Outcome};

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Runs all checks; fails if one of them would stop a mount.
pub(super) fn run(arguments: &DoctorArgs) -> Result<ExitCode, Failure> {
    let mut checks = doctor::checks();
    checks.extend(of_configuration(arguments));
    if arguments.json {
        output::json(&checks)?;
    } else {
        output::write(text(&checks)?.as_bytes())?;
    }
    let has_failed = checks.iter().any(|check| check.outcome == Outcome::Fail);
    Ok(if has_failed { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

fn text(checks: &[Check]) -> Result<String, Failure> {
    let mut text = String::new();
    for check in checks {
        let word = match check.outcome {
            Outcome::Ok => "ok  ",
            Outcome::Warn => "warn",
            Outcome::Fail => "FAIL",
        };
        writeln!(text, "{word}  {}: {}", check.id, check.evidence).map_err(Failure::new)?;
        if let Some(cure) = &check.cure {
            writeln!(text, "      cure: {cure}").map_err(Failure::new)?;
        }
    }
    Ok(text)
}

/// The configuration that the arguments name, or that is found: it, its mount point and its sources. None is no failure.
fn of_configuration(arguments: &DoctorArgs) -> Vec<Check> {
    let named = |seen| Check::new("configuration", "the configuration", seen);
    let config = match input::config_if_any(&arguments.config) {
        Ok(Some(config)) => config,
        Ok(None) => {
            let cure = "name one with `-c FILE`, `--values FILE` or `--source SPEC`";
            return vec![named(CheckOutcome::warn(
                "there is none: mount point and sources are not looked at",
                cure,
            ))];
        }
        Err(failure) => {
            let cure = failure.cure().map_or_else(|| check(arguments), str::to_owned);
            return vec![named(CheckOutcome::fail(failure.message(), cure))];
        }
    };
    let mut checks = vec![named(CheckOutcome::ok("can be read"))];
    checks.extend(doctor::checks_of(&config.mount.at));
    checks.push(Check::new("sources", "the sources", sources(&config, check(arguments))));
    checks
}

/// How to look at what the same arguments name.
fn check(arguments: &DoctorArgs) -> String {
    format!("overlayfs-mount check{}", arguments.config.as_typed())
}

fn sources(config: &crate::config::resolved::Config, check: String) -> CheckOutcome {
    let snapshot = match input::snapshot(config) {
        Ok(snapshot) => snapshot,
        Err(failure) => return CheckOutcome::fail(failure.message(), check),
    };
    let bad: Vec<_> = snapshot
        .sources
        .iter()
        .filter_map(|source| Some(format!("{}: {}", source.label, source.state.error()?)))
        .collect();
    if bad.is_empty() {
        CheckOutcome::ok(format!("{}, all can be read", snapshot.sources.len()))
    } else {
        CheckOutcome::warn(bad.join("; "), check)
    }
}
