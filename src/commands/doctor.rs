//! `doctor`: what of this machine would stop a mount, each with its cure.

use std::fmt::Write;
use std::process::ExitCode;

use super::cli::DoctorArgs;
use super::failure::{FAILED, Failure};
use super::output;
use crate::machine::doctor::{self, Outcome};

/// Runs all checks; fails if one of them would stop a mount.
pub(super) fn run(arguments: &DoctorArgs) -> Result<ExitCode, Failure> {
    let checks = doctor::checks();
    if arguments.json {
        output::json(&checks)?;
    } else {
        let mut text = String::new();
        for check in &checks {
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
        output::write(text.as_bytes())?;
    }
    let has_failed = checks.iter().any(|check| check.outcome == Outcome::Fail);
    Ok(if has_failed { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}
