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
    output::said(&text(&report).map_err(Failure::new)?)
}

/// The mount point of the one view that is mounted.
pub(super) fn the_only_one() -> Result<PathBuf, Failure> {
    let status::Answers { all, failures } = status::every()?;
    let points: Vec<_> = all.iter().map(|one| one.mountpoint.as_str()).collect();
    let name_one = format!("name one of: {}", points.join(", "));
    // It may be the one that is meant.
    if let Some(unasked) = failures.into_iter().next() {
        let failure = Failure::from(unasked);
        return Err(if all.is_empty() { failure } else { failure.with_cure(name_one) });
    }
    match points.as_slice() {
        [one] => Ok(PathBuf::from(one)),
        [] => Err(Failure::new("nothing is mounted").with_cure("overlayfs-mount mount")),
        _ => Err(Failure::usage("several views are mounted").with_cure(name_one)),
    }
}

fn text(report: &ReloadReport) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let revision = short(&report.revision);
    let names = if report.changed == 1 { "name" } else { "names" };
    match &report.previous {
        None if report.changed == 0 => writeln!(text, "unchanged: {revision}")?,
        // The same commits of a source that is named otherwise by now.
        None => writeln!(text, "{revision}: {} {names} changed", report.changed)?,
        Some(previous) => {
            let previous = short(previous);
            writeln!(text, "{previous} -> {revision}: {} {names} changed", report.changed)?;
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::ChangeReport;

    #[test]
    fn the_first_line_says_what_became_of_the_set_and_of_how_many_names() {
        let change = ChangeReport { path: "acme/base".to_owned(), change: ChangeKind::Changed };
        let (one, other) = ("1".repeat(64), "2".repeat(64));
        let said = |previous: Option<&String>, changes: &[ChangeReport]| {
            let report = ReloadReport {
                revision: other.clone(),
                previous: previous.cloned(),
                changed: changes.len(),
                changes: changes.to_vec(),
                warnings: Vec::new(),
            };
            text(&report).unwrap()
        };
        assert_eq!(said(None, &[]), "unchanged: 222222222222\n");
        let changes = [change];
        assert_eq!(said(None, &changes), "222222222222: 1 name changed\n~ acme/base\n");
        let moved = "111111111111 -> 222222222222: 1 name changed\n~ acme/base\n";
        assert_eq!(said(Some(&one), &changes), moved);
    }
}
