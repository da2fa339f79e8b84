//! Where the log goes, standard error, a file, or journald; and what its lines look like.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt as lines;
use tracing_subscriber::layer::{Identity, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// The variable that sets what is logged, as `info` or `overlayfs_mount::sync=debug`.
const LOG_VARIABLE: &str = "OVERLAYFS_MOUNT_LOG";

/// Where the log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTo {
    /// Standard error, for a process in the foreground.
    Stderr,
    /// A file, appended to.
    File(PathBuf),
    /// journald.
    Journal,
    /// journald where it runs, else this file.
    JournalOr(PathBuf),
    /// journald where it runs, else nowhere.
    JournalOrNowhere,
}

impl fmt::Display for LogTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stderr => f.write_str("standard error"),
            Self::Journal | Self::JournalOrNowhere => f.write_str("journald"),
            Self::File(path) | Self::JournalOr(path) => write!(f, "`{}`", path.display()),
        }
    }
}

/// What a line looks like. journald has fields of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLines {
    /// For people.
    Text,
    /// One object with the keys `timestamp`, `level`, `fields` and `target`; the message is the field `message`.
    Json,
}

/// Where journald listens (`systemd-journald.service(8)`).
const JOURNAL: &str = "/run/systemd/journal/socket";

/// Starts the log of this process.
///
/// # Errors
/// The file cannot be written to, or journald is asked for and does not run.
pub fn start_log(to: &LogTo, lines: LogLines) -> io::Result<()> {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    registry.with(layer(to, lines)?).try_init().map_err(io::Error::other)
}

type BoxedLayer<S> = Box<dyn Layer<S> + Send + Sync>;

fn layer<S>(to: &LogTo, lines: LogLines) -> io::Result<BoxedLayer<S>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    match to {
        LogTo::Stderr => Ok(to_stderr(lines)),
        LogTo::Journal => to_journal(),
        LogTo::JournalOr(path) if Path::new(JOURNAL).exists() => {
            to_journal().or_else(|_| to_file(path, lines))
        }
        LogTo::File(path) | LogTo::JournalOr(path) => to_file(path, lines),
        LogTo::JournalOrNowhere if Path::new(JOURNAL).exists() => {
            to_journal().or_else(|_| Ok(Identity::new().boxed()))
        }
        LogTo::JournalOrNowhere => Ok(Identity::new().boxed()),
    }
}

fn to_stderr<S>(lines: LogLines) -> BoxedLayer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = lines::layer().with_writer(io::stderr);
    match lines {
        LogLines::Text => layer.with_ansi(io::stderr().is_terminal()).with_target(false).boxed(),
        LogLines::Json => layer.json().with_current_span(false).with_span_list(false).boxed(),
    }
}

fn to_file<S>(path: &Path, lines: LogLines) -> io::Result<BoxedLayer<S>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let layer = lines::layer().with_writer(Mutex::new(file)).with_ansi(false);
    Ok(match lines {
        LogLines::Text => layer.boxed(),
        LogLines::Json => layer.json().with_current_span(false).with_span_list(false).boxed(),
    })
}

fn to_journal<S>() -> io::Result<BoxedLayer<S>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    Ok(tracing_journald::layer()?.with_field_prefix(None).boxed())
}
