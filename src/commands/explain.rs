//! `explain`: why a path shows what it shows, or nothing.

use std::fmt::Write;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::de::DeserializeOwned;

use super::cli::ConfigArgs;
use super::failure::Failure;
use super::output::short;
use super::{input, output};
use crate::control::client;
use crate::machine::mountinfo::MountTable;
use crate::machine::mountpoint;
use crate::machine::run_dir::RunDir;
use crate::machine::stale::{Liveness, probe};
use crate::snapshot::explanation::{ExplanationReport, Shows};
use crate::snapshot::told::{Seen, Told};
use crate::union::name::RelPath;

/// How long a view has to answer that no daemon spoke for.
const PROBE: Duration = Duration::from_secs(1);

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// A path in the view, or a path below a mount
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Explains a path of the view that the configuration describes, or a path below a mount.
pub(super) fn run(arguments: &ExplainArgs) -> Result<ExitCode, Failure> {
    // Without a configuration that is named a path is first what a shell would complete.
    let typed = if arguments.config.is_given() {
        arguments.path.clone()
    } else {
        std::path::absolute(&arguments.path).map_err(Failure::new)?
    };
    let report = match below_mount(&typed)? {
        Some(report) => report,
        None => from_config(arguments)?,
    };
    if arguments.json {
        return output::json(&report);
    }
    output::said(&text(&report).map_err(Failure::new)?)
}

fn from_config(arguments: &ExplainArgs) -> Result<ExplanationReport, Failure> {
    let path = &arguments.path;
    let config = input::config(&arguments.config)?;
    // A path below the configured mount point is meant as one in the view, mounted or not.
    let inside = path.strip_prefix(&config.mount.at).unwrap_or(path);
    let snapshot = input::snapshot(&config)?;
    Ok(ExplanationReport::of(&snapshot, &view_path(inside)?))
}

fn view_path(path: &Path) -> Result<RelPath, Failure> {
    if path.as_os_str().is_empty() {
        return Ok(RelPath::root());
    }
    RelPath::parse(path.as_os_str().as_bytes()).map_err(|error| {
        Failure::usage(format!("`{}` {error}", path.display()))
            .with_cure("give a path relative to the root of the view, or one below its mount point")
    })
}

/// The explanation of an absolute path below a mount of ours: from its daemon, or where that may not be asked from `.overlay`.
fn below_mount(path: &Path) -> Result<Option<ExplanationReport>, Failure> {
    if !path.is_absolute() {
        return Ok(None);
    }
    let table = MountTable::read()?;
    let path = &mountpoint::through_links(&table, path);
    let Some(mount) = table.find(path).filter(|mount| mount.is_ours()) else { return Ok(None) };
    let point = &mount.mountpoint;
    let below = path.strip_prefix(point).unwrap_or(Path::new(""));
    // A bind mount of a part of the view starts below its root.
    let inside = view_path(&mount.part().join(below))?;
    let asked = RunDir::find_socket(point).map(|socket| {
        let answer = client::explain(&socket, &inside.to_bytes())?;
        serde_json::from_value(answer).map_err(Failure::new)
    });
    match asked {
        Some(Ok(report)) => Ok(Some(report)),
        Some(Err(_)) | None => from_overlay(point, &inside, below).map(Some),
    }
}

/// What can be said without the daemon, of a path `below` the mount point that is `inside` the view.
fn from_overlay(
    mountpoint: &Path,
    inside: &RelPath,
    below: &Path,
) -> Result<ExplanationReport, Failure> {
    let at = mountpoint.display();
    let failed = |what: &dyn std::fmt::Display| {
        Failure::new(format!("the view on `{at}` {what}"))
            .with_cure("name the configuration with `-c FILE` and a path relative to the view")
    };
    // Whoever reads a view that nobody serves may wait for ever.
    match probe(mountpoint, PROBE) {
        Liveness::Alive | Liveness::Forbidden => {}
        Liveness::Dead => return Err(failed(&"has lost its daemon")),
        Liveness::Silent => return Err(failed(&"does not answer")),
    }
    let told = Told {
        entries: read(&mountpoint.join(".overlay/entries.json")).map_err(|error| failed(&error))?,
        status: read(&mountpoint.join(".overlay/status.json")).map_err(|error| failed(&error))?,
    };
    let seen = match fs::symlink_metadata(mountpoint.join(below)) {
        Ok(found) if found.is_dir() => Seen::Directory,
        Ok(_) => Seen::Other,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Seen::Nothing
        }
        Err(error) => return Err(failed(&format_args!("cannot be read: {error}"))),
    };
    Ok(told.explain(inside, seen))
}

/// A document of `.overlay`, or what to say of the view.
fn read<T: DeserializeOwned>(file: &Path) -> Result<T, String> {
    let failed =
        |error: &dyn std::fmt::Display| format!("cannot be read: `{}`: {error}", file.display());
    let text = fs::read(file).map_err(|error| failed(&error))?;
    serde_json::from_slice(&text).map_err(|error| failed(&error))
}

fn text(report: &ExplanationReport) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let path = &report.path;
    match (report.shows, &report.winner, &report.absence) {
        (Shows::Nothing, _, Some(reason)) => writeln!(text, "{path} shows nothing: {reason}")?,
        (Shows::Nothing, _, None) => writeln!(text, "{path} shows nothing")?,
        (Shows::Directory, _, _) => {
            write!(text, "{path} is a merged directory")?;
            match report.contributors.as_slice() {
                [] => writeln!(text, "; no source shows anything in it")?,
                sources => writeln!(text, " of {}", sources.join(", "))?,
            }
        }
        (Shows::Entry, Some(winner), _) => {
            writeln!(text, "{path} comes from {}", winner.source)?;
            writeln!(
                text,
                "  ref       {}",
                output::git_ref(winner.git_ref.as_deref(), winner.is_live)
            )?;
            writeln!(text, "  revision  {}", short(&winner.revision))?;
            writeln!(text, "  path      {}", winner.source_path)?;
            if winner.entry != *path {
                writeln!(text, "  entry     {}", winner.entry)?;
            }
        }
        (Shows::Entry, None, _) => writeln!(text, "{path} is shown")?,
        (Shows::View, _, _) => {
            writeln!(text, "{path} is part of `.overlay`, which tells about the view itself")?;
        }
    }
    if let Some(surface) = &report.surface {
        writeln!(text, "  surface   {surface}")?;
    }
    for hidden in &report.hidden {
        writeln!(
            text,
            "  hidden    {} of {} ({}), by {} of {}: {}",
            hidden.path,
            hidden.source,
            hidden.source_path,
            hidden.by_path,
            hidden.by_source,
            hidden.reason
        )?;
    }
    Ok(text)
}
