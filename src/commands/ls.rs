//! `ls`: the entries, each with its source, revision and what it hides.

use std::process::ExitCode;

use clap::Args;

use super::cli::ConfigArgs;
use super::failure::Failure;
use super::output::short;
use super::{input, output};
use crate::config::nearest::nearest;
use crate::snapshot::report::{EntriesReport, EntryReport};

/// Arguments of `ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Only this surface, as `skills` (`check` lists them)
    #[arg(value_name = "SURFACE")]
    pub surface: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Lists entries; mounts nothing.
pub(super) fn run(arguments: &LsArgs) -> Result<ExitCode, Failure> {
    let config = input::config(&arguments.config)?;
    let snapshot = input::snapshot(&config)?;
    let mut report = EntriesReport::of(&snapshot);
    if let Some(wanted) = &arguments.surface {
        let known: Vec<&str> =
            snapshot.surfaces.iter().map(|surface| surface.name.as_str()).collect();
        if !known.contains(&wanted.as_str()) {
            return Err(unknown_surface(wanted, &known));
        }
        report.entries.retain(|entry| entry.surface == *wanted);
    }
    if arguments.json {
        return output::json(&report);
    }
    let rows = report.entries.iter().map(row);
    let text = output::table(&["PATH", "SOURCE", "REVISION", "HIDES"], rows);
    output::write(text.as_bytes())
}

fn row(entry: &EntryReport) -> Vec<String> {
    let hides = entry.hides.iter().map(|hidden| {
        if hidden.path == entry.path {
            hidden.source.clone()
        } else {
            format!("{} ({})", hidden.source, hidden.path)
        }
    });
    vec![
        entry.path.clone(),
        entry.source.clone(),
        short(&entry.revision).to_owned(),
        hides.collect::<Vec<_>>().join(", "),
    ]
}

/// The failure for a surface that there is not.
pub(super) fn unknown_surface(wanted: &str, known: &[&str]) -> Failure {
    let cure = match nearest(wanted, known.iter().copied()) {
        Some(nearest) => format!("did you mean `{nearest}`? surfaces: {}", known.join(", ")),
        None => format!("use one of: {}", known.join(", ")),
    };
    Failure::usage(format!("there is no surface `{}`", wanted.escape_debug())).with_cure(cure)
}
