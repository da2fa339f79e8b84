//! From `-c`, `--values`, `--source` or nothing to a configuration and a snapshot.

use std::env;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use super::cli::{ConfigArgs, LogFormat};
use super::failure::Failure;
use crate::config::resolved::{Access, Config, Origin, Overrides};
use crate::config::{self, ConfigError, Environment, KeyPath, Loaded, Problem};
use crate::control::http::Address;
use crate::daemon::{self, LogLines, LogTo, OwnLog};
use crate::snapshot::Snapshot;
use crate::sync::build::build;
use crate::sync::{Shared, Stamp};

/// The configuration that the arguments name. Its warnings go to standard error.
pub(super) fn config(arguments: &ConfigArgs) -> Result<Config, Failure> {
    let Loaded { config, warnings, .. } = load(arguments)?;
    warn(&warnings);
    Ok(config)
}

/// As [`config()`], with what mount options say in its place. What they overrule is not warned of, and what they bring about is.
pub(super) fn config_with(
    arguments: &ConfigArgs,
    overrides: &Overrides,
) -> Result<Config, Failure> {
    let Loaded { mut config, mut warnings, .. } = load(arguments)?;
    overrides.apply(&mut config);
    let key = KeyPath::top("access");
    if overrides.access.is_some() {
        warnings.retain(|warning| warning.key != key);
    }
    warn(&warnings);
    if let (Some(access), Some((about, what, cure))) =
        (overrides.access, config::why_empty(&config))
        && about == key
    {
        let cure = if access == Access::None { "leave it out, or give `access=all`" } else { cure };
        Failure::new(format!("`-o access`: {what}")).with_cure(cure).warn();
    }
    Ok(config)
}

fn warn(warnings: &[Problem]) {
    let mut err = anstream::stderr().lock();
    for warning in warnings {
        writeln!(err, "{warning}").unwrap_or_default();
    }
}

/// As [`config()`], where the warnings were seen already.
pub(super) fn config_quietly(arguments: &ConfigArgs) -> Result<Config, Failure> {
    Ok(load(arguments)?.config)
}

/// As [`config_quietly`], with the file as it was read.
pub(super) fn loaded_quietly(arguments: &ConfigArgs) -> Result<Loaded, Failure> {
    Ok(load(arguments)?)
}

/// As [`loaded_quietly`], where the file held this earlier.
pub(super) fn loaded_earlier(arguments: &ConfigArgs, text: &[u8]) -> Result<Loaded, Failure> {
    let environment = Environment::of_process();
    Ok(config::load_text(&origin(arguments, &environment)?, text, &environment)?)
}

/// How the file that the arguments name looks. What changes after this, before it is read or later, is noticed; `None`: nothing is known
/// of it.
pub(super) fn look(arguments: &ConfigArgs) -> Option<Stamp> {
    let origin = origin(arguments, &Environment::of_process()).ok()?;
    Some(daemon::config_stamp(&origin))
}

/// As [`config_quietly`]; `None` if none is named and none is found.
pub(super) fn config_if_any(arguments: &ConfigArgs) -> Result<Option<Config>, Failure> {
    if !arguments.is_given() && config::discover(&Environment::of_process()).is_err() {
        return Ok(None);
    }
    config_quietly(arguments).map(Some)
}

fn load(arguments: &ConfigArgs) -> Result<Loaded, ConfigError> {
    let environment = Environment::of_process();
    if let Some(path) = &arguments.values {
        return config::load_values(path, &environment);
    }
    if let Some(path) = &arguments.config {
        return config::load_file(path, &environment);
    }
    if !arguments.sources.is_empty() {
        return config::from_sources(&arguments.sources, &environment);
    }
    config::load_file(&config::discover(&environment)?, &environment)
}

/// What [`load`] reads.
fn origin(arguments: &ConfigArgs, environment: &Environment) -> Result<Origin, ConfigError> {
    let absolute = |path: &Path| environment.cwd.join(path);
    if let Some(path) = &arguments.values {
        return Ok(Origin::Values(absolute(path)));
    }
    if let Some(path) = &arguments.config {
        return Ok(Origin::File(absolute(path)));
    }
    if !arguments.sources.is_empty() {
        return Ok(Origin::CommandLine);
    }
    Ok(Origin::File(absolute(&config::discover(environment)?)))
}

/// The snapshot of the configuration that the arguments name; mounts nothing.
pub(super) fn snapshot(config: &Config) -> Result<Arc<Snapshot>, Failure> {
    Ok(Arc::new(build(config, &Shared::new(config))?))
}

/// The variable that names where metrics are served, where no option does.
const METRICS: &str = "OVERLAYFS_MOUNT_METRICS";

/// Where metrics are served: as an option says, else as the environment says, else nowhere.
pub(super) fn metrics(option: Option<&Address>) -> Result<Option<Address>, Failure> {
    if option.is_some() {
        return Ok(option.cloned());
    }
    let Some(value) = env::var_os(METRICS).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let address = value.to_string_lossy().parse();
    address.map(Some).map_err(|error| Failure::usage(format!("{METRICS}: {error}")))
}

/// Starts the log of this process. Gives that of the daemon's own, where it is one.
pub(super) fn start_log(to: &LogTo, format: LogFormat) -> Result<Option<OwnLog>, Failure> {
    let lines = match format {
        LogFormat::Json => LogLines::Json,
        LogFormat::Auto | LogFormat::Text | LogFormat::Journald => LogLines::Text,
    };
    daemon::check_log_variable().map_err(|error| {
        Failure::usage(error)
            .with_cure("set a level (error, warn, info, debug, trace, off), or levels by module, as `info,overlayfs_mount::sync=debug`")
    })?;
    daemon::start_log(to, lines).map_err(|error| {
        let failure = Failure::new(format!("the log cannot be written to {to}: {error}"));
        failure.with_cure(match to {
            LogTo::Journal => "take `--log-format json` or `--log-format text`",
            LogTo::Stderr
            | LogTo::File(_)
            | LogTo::Own(_)
            | LogTo::JournalOr(_)
            | LogTo::JournalOrNowhere => "name another file with `--log FILE`",
        })
    })
}
