//! `diff`: which entries another configuration, or other refs, would change. Mounts nothing.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::cli::ConfigArgs;
use super::failure::{FAILED, Failure, USAGE};
use super::output::short;
use super::{input, output};
use crate::config::resolved::{Config, Mode, SourceSpec};
use crate::config::{self, nearest};
use crate::snapshot::difference::{DifferenceReport, EntryAt, SourceAt};
use crate::sync::build::build;
use crate::sync::{BuildError, Shared, labels};

/// Arguments of `diff`.
#[derive(Debug, Args)]
#[command(
    override_usage = "overlayfs-mount diff [OPTIONS] <--to <FILE>|--ref <SOURCE=REF>>",
    group(clap::ArgGroup::new("other").args(["to", "refs"])),
    after_help = "Exit status: 0 no entry would change, 1 some would, 2 anything else."
)]
pub struct DiffArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Compare with this configuration (a values file after `--values`)
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// Compare with this ref for one source; repeat it for more
    #[arg(long = "ref", value_name = "SOURCE=REF")]
    pub refs: Vec<String>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// The exit status if something would change.
const SOME: u8 = FAILED;

/// Compares what is configured with what would be: 0 if it is the same, 1 if not, 2 for all failures.
pub(super) fn run(arguments: &DiffArgs) -> Result<ExitCode, Failure> {
    compare(arguments).map_err(|failure| failure.with_status(USAGE))
}

fn compare(arguments: &DiffArgs) -> Result<ExitCode, Failure> {
    if arguments.to.is_none() && arguments.refs.is_empty() {
        return Err(Failure::usage("nothing is named that the configuration is to be compared with").with_cure(
            "name another configuration by `--to FILE`, or another ref by `--ref SOURCE=REF`; a mounted view follows its configuration by itself, and `reload` says what changes",
        ));
    }
    let before = input::config(&arguments.config)?;
    let after = match &arguments.to {
        Some(_) => input::config(&target(arguments))?,
        None => with_refs(before.clone(), &arguments.refs)?,
    };
    let before = input::snapshot(&before)?;
    let after =
        build(&after, &Shared::new(&after)).map_err(|error| asked_for(error, &arguments.refs))?;
    let report = DifferenceReport::of(&before, &after);
    if arguments.json {
        output::json(&report)?;
    } else {
        output::write(text(&report).map_err(Failure::new)?.as_bytes())?;
    }
    Ok(if report.entries.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(SOME) })
}

/// Says of a ref that an option asks for that it is the option's.
fn asked_for(mut error: BuildError, refs: &[String]) -> BuildError {
    for source in &mut error.sources {
        let of_option = |git_ref: &str| {
            refs.iter().filter_map(|text| text.split_once('=')).any(|(_, given)| given == git_ref)
        };
        if source.git_ref.as_deref().is_some_and(of_option) {
            "--ref".clone_into(&mut source.configured_at);
        }
    }
    error
}

/// The other configuration: a values file if the first one is.
fn target(arguments: &DiffArgs) -> ConfigArgs {
    let file = arguments.to.clone();
    if arguments.config.values.is_some() {
        ConfigArgs { values: file, ..ConfigArgs::default() }
    } else {
        ConfigArgs { config: file, ..ConfigArgs::default() }
    }
}

/// The configuration with other refs for some sources, each as `SOURCE=REF`.
fn with_refs(mut config: Config, refs: &[String]) -> Result<Config, Failure> {
    for text in refs {
        let (index, git_ref) = find(&config, text)?;
        // As in a configuration, no text is HEAD.
        if let Some(why) = config::ref_refusal(git_ref).filter(|_| !git_ref.is_empty()) {
            return Err(Failure::usage(format!("`--ref {text}`: `{git_ref}` {why}"))
                .with_cure("give a branch, a tag, a full ref name or a full commit id"));
        }
        let source = &mut config.sources[index];
        match source.mode {
            Mode::Git => source.git_ref = Some(git_ref.to_owned()).filter(|text| !text.is_empty()),
            Mode::Live => {
                return Err(Failure::usage(format!(
                    "`--ref {text}`: `{}` is served live and has no ref",
                    source.name
                ))
                .with_cure("compare with another file by `--to FILE`"));
            }
        }
    }
    Ok(config)
}

/// The position of the source that a text begins with, by label or by name, and the ref that follows the `=`.
fn find<'a>(config: &Config, text: &'a str) -> Result<(usize, &'a str), Failure> {
    let shown: Vec<&SourceSpec> = config.shown_sources().collect();
    let labels = labels(&shown);
    let after = |name: &str| text.strip_prefix(name)?.strip_prefix('=');
    let by_label = shown.iter().zip(&labels).find_map(|(spec, label)| Some((*spec, after(label)?)));
    let named = || shown.iter().filter_map(|spec| Some((*spec, after(&spec.name.to_string())?)));
    let found = match by_label {
        Some(found) => Some(found),
        None if named().count() == 1 => named().next(),
        None => None,
    };
    let (spec, git_ref) = found.ok_or_else(|| unknown(text, &labels))?;
    let index = config.sources.iter().position(|source| std::ptr::eq(source, spec));
    Ok((index.expect("a source of this configuration"), git_ref))
}

fn unknown(text: &str, labels: &[String]) -> Failure {
    let wanted = text.split('=').next().unwrap_or(text);
    let known = labels.join(", ");
    let nearest = nearest::nearest(wanted, labels.iter().map(String::as_str));
    let cure = match nearest {
        _ if labels.is_empty() => "list sources in the configuration".to_owned(),
        Some(nearest) => format!("did you mean `{nearest}=REF`? sources: {known}"),
        None => format!("write `SOURCE=REF` with one of: {known}"),
    };
    Failure::usage(format!("`--ref {text}`: no source has that name")).with_cure(cure)
}

fn text(report: &DifferenceReport) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    for change in &report.sources {
        let words = |at: &Option<SourceAt>| at.as_ref().map_or_else(|| "-".to_owned(), revision);
        let name = change.after.as_ref().or(change.before.as_ref()).map(|at| at.source.as_str());
        let (before, after) = (words(&change.before), words(&change.after));
        writeln!(text, "{}: {before} -> {after}", name.unwrap_or_default())?;
    }
    if report.entries.is_empty() {
        writeln!(text, "no entry would change")?;
        return Ok(text);
    }
    if !report.sources.is_empty() {
        text.push('\n');
    }
    let words = |at: &Option<EntryAt>| {
        let at = at.as_ref();
        at.map_or_else(|| "-".to_owned(), |at| format!("{} {}", at.source, short(&at.revision)))
    };
    let rows = report.entries.iter().map(|entry| {
        vec![
            entry.change.word().to_owned(),
            entry.path.clone(),
            words(&entry.before),
            words(&entry.after),
        ]
    });
    text.push_str(&output::table(&["CHANGE", "PATH", "BEFORE", "AFTER"], rows));
    Ok(text)
}

fn revision(at: &SourceAt) -> String {
    let git_ref = output::git_ref(at.git_ref.as_deref(), Some(at.is_live));
    format!("{git_ref} ({})", short(&at.revision))
}
