//! Files become configurations.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::check::{UnknownKeys, check};
use super::compat::{RawValues, resolve_values};
use super::environment::Environment;
use super::key_path::KeyPath;
use super::problem::{ConfigError, Problem, Severity};
use super::raw::RawConfig;
use super::report::Report;
use super::resolve::resolve;
use super::resolved::{Config, Origin};
use super::yaml;

/// The most bytes that a configuration may have.
const MAX_BYTES: u64 = 4 << 20;

/// A configuration that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// What someone should look at all the same.
    pub warnings: Vec<Problem>,
    /// The file as it was read; empty if it came from no file.
    pub text: Vec<u8>,
}

/// Reads a file in our own format.
///
/// A relative `path` is relative to `env.cwd`; relative paths in the file are relative to the file.
///
/// # Errors
/// Tells every problem that the file has, with its line.
pub fn load_file(path: &Path, env: &Environment) -> Result<Loaded, ConfigError> {
    let mut report = Report::new(Some(path));
    let absolute = env.cwd.join(path);
    let Some(bytes) = read(&absolute, &mut report) else { return refused(report) };
    own_format(&bytes, absolute, env, report)
}

/// Reads a Helm values file of the platform; keys that are not ours are ignored.
///
/// # Errors
/// Tells every problem that the keys have which are read, with its line.
pub fn load_values(path: &Path, env: &Environment) -> Result<Loaded, ConfigError> {
    let mut report = Report::new(Some(path));
    let absolute = env.cwd.join(path);
    let Some(bytes) = read(&absolute, &mut report) else { return refused(report) };
    values_format(&bytes, absolute, env, report)
}

/// Reads the bytes of a configuration's file, which [`load_text`] takes.
///
/// # Errors
/// It cannot be read, or is too large for a configuration.
pub fn read_file(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let mut report = Report::new(Some(path));
    read(path, &mut report).map_or_else(|| refused(report), Ok)
}

/// Reads what a configuration file held earlier, as if it still stood there.
///
/// # Errors
/// As for the file.
pub fn load_text(origin: &Origin, text: &[u8], env: &Environment) -> Result<Loaded, ConfigError> {
    match origin {
        Origin::File(path) => own_format(text, path.clone(), env, Report::new(Some(path))),
        Origin::Values(path) => values_format(text, path.clone(), env, Report::new(Some(path))),
        Origin::CommandLine => refused(Report::new(None)),
    }
}

/// The configuration file that counts when no option names one: `$OVERLAYFS_MOUNT_CONFIG`, else the first that exists of
/// `./overlays.yaml`, the user's and the machine's.
///
/// # Errors
/// None exists; tells all that were tried.
pub fn discover(env: &Environment) -> Result<PathBuf, ConfigError> {
    if let Some(path) = &env.config {
        return Ok(path.clone());
    }
    let candidates = env.config_candidates();
    if let Some(found) = candidates.iter().find(|path| path.exists()) {
        return Ok(found.clone());
    }
    let mut report = Report::new(None);
    let tried: Vec<String> =
        candidates.iter().map(|path| format!("`{}`", path.display())).collect();
    report.error(
        &KeyPath::default(),
        format!(
            "there is no configuration file; tried: `$OVERLAYFS_MOUNT_CONFIG` (not set), {}",
            tried.join(", ")
        ),
        "name one with `-c FILE`, a values file with `--values FILE`, or sources with `--source SPEC`",
    );
    refused(report)
}

/// The JSON Schema of a file in our own format: what editors take, and what files are checked against.
pub fn schema() -> Value {
    RawConfig::schema().clone()
}

/// What a kind of file is read as. Its schema is made once: that takes longer than reading a file with it.
trait Format: DeserializeOwned {
    fn schema() -> &'static Value;
}

impl Format for RawConfig {
    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema_of::<RawConfig>);
        &SCHEMA
    }
}

impl Format for RawValues {
    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema_of::<RawValues>);
        &SCHEMA
    }
}

/// The content of a file in our own format that stands at `absolute`.
pub(super) fn own_format(
    bytes: &[u8],
    absolute: PathBuf,
    env: &Environment,
    mut report: Report,
) -> Result<Loaded, ConfigError> {
    let Some(raw) = typed::<RawConfig>(bytes, UnknownKeys::Refused, &mut report) else {
        return refused(report);
    };
    let base = directory_of(&absolute);
    let config = resolve(&raw, Origin::File(absolute), &base, env, &mut report);
    Ok(Loaded { warnings: report.finish()?, config, text: bytes.to_vec() })
}

/// The content of a values file that stands at `absolute`.
pub(super) fn values_format(
    bytes: &[u8],
    absolute: PathBuf,
    env: &Environment,
    mut report: Report,
) -> Result<Loaded, ConfigError> {
    let Some(raw) = typed::<RawValues>(bytes, UnknownKeys::Ignored, &mut report) else {
        return refused(report);
    };
    let base = directory_of(&absolute);
    let config = resolve_values(raw, Origin::Values(absolute), &base, env, &mut report);
    Ok(Loaded { warnings: report.finish()?, config, text: bytes.to_vec() })
}

fn directory_of(file: &Path) -> PathBuf {
    file.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned)
}

fn schema_of<T: JsonSchema>() -> Value {
    schemars::schema_for!(T).to_value()
}

/// The bytes as written types, without what does not fit; `None` where nothing can be read. Problems go to `report`.
fn typed<T: Format>(bytes: &[u8], unknown: UnknownKeys, report: &mut Report) -> Option<T> {
    let tree = yaml::compose(bytes, report)?;
    let value = check(&tree, T::schema(), unknown, report);
    report.set_tree(tree);
    match serde_json::from_value(value) {
        Ok(raw) => Some(raw),
        Err(_) if report.has_errors() => None,
        Err(error) => {
            // The schema and the types come from one definition; where they differ all the same, no line is known.
            let cure = "compare the file with `overlayfs-mount config schema`";
            report.error(&KeyPath::default(), error.to_string(), cure);
            None
        }
    }
}

fn read(path: &Path, report: &mut Report) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let outcome = open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map(|length| length as u64);
    let (what, cure) = match outcome {
        Ok(length) if length <= MAX_BYTES => return Some(bytes),
        Ok(_) => (
            format!("is larger than {} MiB", MAX_BYTES >> 20),
            "name the configuration file, not another one",
        ),
        Err(error) => (format!("cannot be read: {error}"), cure_of(&error)),
    };
    report.add(Severity::Error, None, KeyPath::default(), what, cure.to_owned());
    None
}

/// Opens a regular file. Others are refused: the daemon reads the file again when its caller has gone, and a pipe would be empty by then.
/// Never waits.
fn open(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let file_type = file.metadata()?.file_type();
    if file_type.is_dir() {
        Err(io::ErrorKind::IsADirectory.into())
    } else if file_type.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::Unsupported, "not a regular file"))
    }
}

fn cure_of(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "create the file, or name another one",
        io::ErrorKind::PermissionDenied => {
            "make the file and its directories readable for the user who mounts"
        }
        io::ErrorKind::IsADirectory => "name a file in that directory",
        io::ErrorKind::Unsupported => {
            "write it into a file: it is read more than once, which a pipe or a device does not allow"
        }
        _ => "name another file",
    }
}

/// The error that a report without a configuration ends in.
fn refused<T>(report: Report) -> Result<T, ConfigError> {
    match report.finish() {
        Err(error) => Err(error),
        Ok(problems) => Err(ConfigError { problems }),
    }
}
