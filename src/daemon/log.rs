//! Where the log goes: standard error, a file, or journald.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt as text};

/// The variable that sets what is logged, as `info` or `overlayfs_mount::sync=debug`.
const LOG_VARIABLE: &str = "OVERLAYFS_MOUNT_LOG";

/// Where the log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTo {
    /// Standard error, for a process in the foreground.
    Stderr,
    /// A file, appended to.
    File(PathBuf),
    /// journald where it runs, else this file.
    JournalOr(PathBuf),
    /// journald where it runs, else nowhere.
    Journal,
}

impl fmt::Display for LogTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stderr => f.write_str("standard error"),
            Self::Journal => f.write_str("journald"),
            Self::File(path) | Self::JournalOr(path) => write!(f, "`{}`", path.display()),
        }
    }
}

/// Where journald listens (`systemd-journald.service(8)`).
const JOURNAL: &str = "/run/systemd/journal/socket";

/// Starts the log of this process.
///
/// # Errors
/// The file cannot be written to.
pub fn start_log(to: &LogTo) -> io::Result<()> {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    match to {
        LogTo::Stderr => {
            let is_terminal = io::stderr().is_terminal();
            let layer = text::layer().with_writer(io::stderr).with_ansi(is_terminal);
            start(registry.with(layer.with_target(false)))
        }
        LogTo::File(path) => start(registry.with(file_layer(path)?)),
        LogTo::Journal => match journal() {
            Some(layer) => start(registry.with(layer)),
            None => Ok(()),
        },
        LogTo::JournalOr(path) => match journal() {
            Some(layer) => start(registry.with(layer)),
            None => start(registry.with(file_layer(path)?)),
        },
    }
}

fn start(subscriber: impl SubscriberInitExt) -> io::Result<()> {
    subscriber.try_init().map_err(io::Error::other)
}

fn journal() -> Option<tracing_journald::Layer> {
    if !Path::new(JOURNAL).exists() {
        return None;
    }
    tracing_journald::layer().ok().map(|layer| layer.with_field_prefix(None))
}

type FileLayer<S> =
    text::Layer<S, text::format::DefaultFields, text::format::Format, Mutex<std::fs::File>>;

type Filtered = tracing_subscriber::layer::Layered<EnvFilter, Registry>;

fn file_layer(path: &Path) -> io::Result<FileLayer<Filtered>> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    Ok(text::layer().with_writer(Mutex::new(file)).with_ansi(false))
}
