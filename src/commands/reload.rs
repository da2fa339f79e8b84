//! `reload`: returns when the new revision set is what every new look-up sees.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::failure::Failure;
use super::output::short;
use super::{output, status};
use crate::control::client;
use crate::control::protocol::{ChangeKind, ReloadReport};
use crate::machine::mountpoint;
use crate::machine::run_dir::RunDir;

/// Arguments of `reload`.
#[derive(Debug, Args)]
pub struct ReloadArgs {
    /// Where it is mounted (default: the only mount)
    #[arg(value_name = "MOUNTPOINT")]
    pub mountpoint: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// How long a reload may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// How many changes are named on a terminal.
const NAMED: usize = 50;

/// Reloads one view.
pub(super) fn run(arguments: &ReloadArgs) -> Result<ExitCode, Failure> {
    let path = match &arguments.mountpoint {
        Some(path) => mountpoint::resolve(path)?,
        None => the_only_one()?,
    };
    let Some(socket) = RunDir::find_socket(&path) else {
        // Says what is wrong.
        status::one(&path)?;
        return Err(Failure::new("the daemon has ended"));
    };
    let report = client::reload(&socket, PATIENCE)?;
    for warning in &report.warnings {
        Failure::new(warning).warn();
    }
    if arguments.json {
        return output::json(&report);
    }
    output::write(text(&report).map_err(Failure::new)?.as_bytes())
}

/// The mount point of the one view that is mounted.
pub(super) fn the_only_one() -> Result<PathBuf, Failure> {
    let all = status::every()?;
    match all.as_slice() {
        [one] => Ok(PathBuf::from(&one.mountpoint)),
        [] => Err(Failure::new("nothing is mounted").with_cure("overlayfs-mount mount")),
        _ => {
            let points: Vec<_> = all.iter().map(|one| one.mountpoint.as_str()).collect();
            Err(Failure::usage("several views are mounted")
                .with_cure(format!("name one of: {}", points.join(", "))))
        }
    }
}

fn text(report: &ReloadReport) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    match &report.previous {
        None => writeln!(text, "unchanged: {}", short(&report.revision))?,
        Some(previous) => writeln!(
            text,
            "{} -> {}: {} {} changed",
            short(previous),
            short(&report.revision),
            report.changed,
            if report.changed == 1 { "name" } else { "names" }
        )?,
    }
    for change in report.changes.iter().take(NAMED) {
        let mark = match change.change {
            ChangeKind::Appeared => '+',
            ChangeKind::Vanished => '-',
            ChangeKind::Changed => '~',
        };
        writeln!(text, "{mark} {}", change.path)?;
    }
    if report.changed > NAMED {
        writeln!(text, "and {} more", report.changed - NAMED.min(report.changes.len()))?;
    }
    Ok(text)
}
