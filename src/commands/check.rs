//! `check`: configuration, sources, revisions, what hides what; mounts nothing.

use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::cli::ConfigArgs;
use super::failure::{FAILED, Failure};
use super::output::{Lines, short};
use super::{input, output};
use crate::config::resolved::{Config, Origin};
use crate::lint;
use crate::snapshot::report::{EntriesReport, EntryReport};
use crate::snapshot::{Snapshot, SourceState};
use crate::sync::inspect;
use crate::union::name::Printable;
use crate::union::source::SourceId;

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Look into skills, workflows and tools for what fails where they are used; exit 1 if there is any
    #[arg(long)]
    pub lint: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Serialize)]
struct CheckReport {
    config: String,
    revision: String,
    sources: Vec<CheckedSource>,
    surfaces: Vec<SurfaceReport>,
    hides: Vec<EntryReport>,
    findings: Vec<FindingReport>,
    /// Nothing without `--lint`.
    lints: Option<Vec<LintReport>>,
}

#[derive(Serialize)]
struct CheckedSource {
    name: String,
    #[serde(rename = "ref")]
    git_ref: Option<String>,
    #[serde(rename = "live")]
    is_live: bool,
    revision: String,
    visibility: String,
    state: &'static str,
    place: String,
    error: Option<String>,
    cure: Option<String>,
}

#[derive(Serialize)]
struct SurfaceReport {
    name: String,
    at: String,
    entries: usize,
    hidden: usize,
}

#[derive(Serialize)]
struct FindingReport {
    source: String,
    what: String,
    count: u64,
    places: Vec<String>,
}

#[derive(Serialize)]
struct LintReport {
    path: String,
    source: String,
    what: String,
    cure: String,
}

/// Checks everything that a mount would need.
pub(super) fn run(arguments: &CheckArgs) -> Result<ExitCode, Failure> {
    let config = input::config(&arguments.config)?;
    let snapshot = input::snapshot(&config)?;
    let mut report = report(&config, &snapshot);
    report.lints = arguments.lint.then(|| lints(&snapshot));
    if arguments.json {
        output::json(&report)?;
    } else {
        output::write(text(&report).map_err(Failure::new)?.as_bytes())?;
    }
    let is_clean = report.lints.is_none_or(|lints| lints.is_empty());
    Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn lints(snapshot: &Snapshot) -> Vec<LintReport> {
    let lints = lint::lint(snapshot).into_iter().map(|lint| LintReport {
        path: lint.path.to_string(),
        source: snapshot.source(lint.source).label.clone(),
        what: lint.kind.to_string(),
        cure: lint.kind.cure(),
    });
    lints.collect()
}

fn report(config: &Config, snapshot: &Snapshot) -> CheckReport {
    let label = |id| snapshot.source(id).label.clone();
    // Why a source is not served is said with the source.
    let is_served = |id: SourceId| snapshot.source(id).state == SourceState::Ready;
    let served = snapshot.findings.iter().filter(|finding| is_served(finding.source));
    let findings = served.map(|finding| FindingReport {
        source: label(finding.source),
        places: vec![finding.path.to_string()],
        count: 1,
        what: finding.kind.to_string(),
    });
    let occurrences =
        inspect::inspect(snapshot, config.state.object_bytes).into_iter().map(|occurrence| {
            FindingReport {
                source: label(occurrence.source),
                places: occurrence.places,
                count: occurrence.count,
                what: occurrence.kind.to_string(),
            }
        });
    let mut hides = EntriesReport::of(snapshot).entries;
    hides.retain(|entry| !entry.hides.is_empty());
    CheckReport {
        config: origin(&config.origin),
        revision: snapshot.id.to_string(),
        sources: sources(snapshot),
        surfaces: surfaces(snapshot),
        hides,
        findings: findings.chain(occurrences).collect(),
        lints: None,
    }
}

fn origin(origin: &Origin) -> String {
    match origin {
        Origin::File(path) | Origin::Values(path) => path.display().to_string(),
        Origin::CommandLine => String::from("--source"),
    }
}

fn sources(snapshot: &Snapshot) -> Vec<CheckedSource> {
    let reports = snapshot.sources.iter().map(|source| CheckedSource {
        name: source.label.clone(),
        git_ref: source.git_ref.clone(),
        is_live: source.is_live,
        revision: source.revision.to_string(),
        visibility: source.visibility.to_string(),
        state: source.state.word(),
        place: source.place.display().to_string(),
        error: source.state.error().map(str::to_owned),
        cure: source.state.fault().and_then(|fault| fault.cure.clone()),
    });
    reports.collect()
}

fn surfaces(snapshot: &Snapshot) -> Vec<SurfaceReport> {
    let rows = snapshot.surfaces.iter().zip(&snapshot.stacks);
    let reports = rows.map(|(surface, stack)| {
        let entries = stack.visible().count();
        SurfaceReport {
            name: surface.name.clone(),
            at: surface.at.to_string(),
            entries,
            hidden: stack.placed.len() - entries,
        }
    });
    reports.collect()
}

fn text(report: &CheckReport) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    writeln!(text, "configuration  {}", Printable(&report.config))?;
    writeln!(text, "revision set   {}\n", report.revision)?;
    let rows = report.sources.iter().map(|source| {
        vec![
            source.name.clone(),
            output::git_ref(source.git_ref.as_deref(), Some(source.is_live)).to_owned(),
            short(&source.revision).to_owned(),
            source.visibility.clone(),
            source.state.to_owned(),
            source.place.clone(),
        ]
    });
    let headings = ["SOURCE", "REF", "REVISION", "VISIBILITY", "STATE", "PLACE"];
    text.push_str(&output::table(&headings, rows));
    text.push('\n');
    let rows = report.surfaces.iter().map(|surface| {
        vec![
            surface.name.clone(),
            surface.at.clone(),
            surface.entries.to_string(),
            surface.hidden.to_string(),
        ]
    });
    text.push_str(&output::table(&["SURFACE", "AT", "ENTRIES", "HIDDEN"], rows));
    for entry in &report.hides {
        for hidden in &entry.hides {
            write!(text, "\n{} of {} hides that of {}", entry.path, entry.source, hidden.source)?;
            if hidden.path != entry.path {
                write!(text, " at {}", hidden.path)?;
            }
        }
    }
    if !report.hides.is_empty() {
        text.push('\n');
    }
    remarks(&mut text, report)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// What an operator should know, each on lines of its own.
fn remarks(text: &mut String, report: &CheckReport) -> std::fmt::Result {
    for source in &report.sources {
        if let Some(error) = &source.error {
            write!(text, "\nwarning: {}", Lines(error))?;
            if let Some(cure) = &source.cure {
                write!(text, "\n  cure: {}", Printable(cure))?;
            }
        }
    }
    for finding in &report.findings {
        let places = finding.places.join(", ");
        write!(text, "\nnote: source {}: {}", finding.source, Printable(&places))?;
        if finding.count > finding.places.len() as u64 {
            write!(text, " and {} more", finding.count - finding.places.len() as u64)?;
        }
        write!(text, ": {}", Printable(&finding.what))?;
    }
    for lint in report.lints.iter().flatten() {
        write!(
            text,
            "\nlint: {} of {}: {}\n  cure: {}",
            lint.path,
            lint.source,
            Printable(&lint.what),
            Printable(&lint.cure)
        )?;
    }
    Ok(())
}
