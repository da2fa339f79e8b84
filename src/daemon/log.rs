//! Where the log goes, standard error, a file, or journald; and what its lines look like.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::fmt as lines;
use tracing_subscriber::layer::{Identity, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use super::bounded_log::BoundedLog;

/// The variable that sets what is logged, as `info` or `overlayfs_mount::sync=debug`.
const LOG_VARIABLE: &str = "OVERLAYFS_MOUNT_LOG";

/// Where the log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTo {
    /// Standard error, for a process in the foreground.
    Stderr,
    /// A file, appended to.
    File(PathBuf),
    /// A file of the daemon's own, appended to, which goes with it ([`OwnLog`]).
    Own(PathBuf),
    /// journald.
    Journal,
    /// journald where it runs, else this file of the daemon's own.
    JournalOr(PathBuf),
    /// journald where it runs, else nowhere.
    JournalOrNowhere,
}

impl fmt::Display for LogTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stderr => f.write_str("standard error"),
            Self::Journal | Self::JournalOrNowhere => f.write_str("journald"),
            Self::File(path) | Self::Own(path) | Self::JournalOr(path) => {
                write!(f, "`{}`", path.display())
            }
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

/// A log in the run directory. It is locked for as long as a process may write to it, so that nobody takes it away meanwhile.
#[derive(Debug)]
pub struct OwnLog {
    path: PathBuf,
    file: File,
}

impl OwnLog {
    /// Opens a log, or makes it (S112).
    fn open(path: &Path) -> io::Result<Self> {
        loop {
            let file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
            // Whoever takes it away holds the lock alone, and only for that.
            file.lock_shared()?;
            if file.metadata()?.nlink() > 0 {
                return Ok(Self { path: path.to_owned(), file });
            }
        }
    }

    /// Takes the log away with the mount whose end is in order, unless it holds a warning or an error, or another daemon writes to it. Nothing
    /// is to be logged afterwards.
    pub fn end(self) {
        let is_read = |file: File| BufReader::new(file).lines().map_while(Result::ok);
        let Ok(mut lines) = File::open(&self.path).map(is_read) else { return };
        if !lines.any(|line| says_trouble(&line)) {
            self.remove();
        }
    }

    /// Takes the log of a daemon that failed away if it says nothing: who started it was told why.
    pub fn fail(self) {
        if self.file.metadata().is_ok_and(|found| found.len() == 0) {
            self.remove();
        }
    }

    fn remove(&self) {
        if self.file.try_lock().is_ok() {
            fs::remove_file(&self.path).unwrap_or_default();
        }
    }
}

/// Whether a line of a log, in whichever form, is a warning or an error.
pub(super) fn says_trouble(line: &str) -> bool {
    let level = if line.starts_with('{') {
        let object = serde_json::from_str::<serde_json::Value>(line).unwrap_or_default();
        object["level"].as_str().map(str::to_owned)
    } else {
        line.split_whitespace().nth(1).map(str::to_owned)
    };
    level.is_some_and(|level| level == "WARN" || level == "ERROR")
}

/// What the variable has logged, `info` if it is not set or empty.
fn filter() -> Result<EnvFilter, String> {
    let Some(value) = std::env::var_os(LOG_VARIABLE).filter(|value| !value.is_empty()) else {
        return Ok(EnvFilter::new("info"));
    };
    let text = value.to_string_lossy();
    let refused = |why: &str| format!("{LOG_VARIABLE}=`{text}`: {why}");
    // A single word that is no level would be taken for a module, of which there is none, and all others would be silent.
    let is_known =
        |word: &str| word.contains(['=', ':', '[', '_']) || word.parse::<LevelFilter>().is_ok();
    if let Some(word) =
        text.split(',').map(str::trim).find(|word| !word.is_empty() && !is_known(word))
    {
        return Err(refused(&format!("`{word}` is no level")));
    }
    EnvFilter::try_new(&text).map_err(|error| refused(&error.to_string()))
}

/// Whether the variable that sets what is logged can be read.
///
/// # Errors
/// It holds something else than levels, or levels by module.
pub fn check_log_variable() -> Result<(), String> {
    filter().map(drop)
}

/// Starts the log of this process. Gives that of the daemon's own, where it is one.
///
/// # Errors
/// The file cannot be written to, or journald is asked for and does not run.
pub fn start_log(to: &LogTo, lines: LogLines) -> io::Result<Option<OwnLog>> {
    let filter = filter().unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    let mut own = None;
    let layer = layer(to, lines, &mut own)?;
    registry.with(layer).try_init().map_err(io::Error::other)?;
    Ok(own)
}

type BoxedLayer<S> = Box<dyn Layer<S> + Send + Sync>;

fn layer<S>(to: &LogTo, lines: LogLines, own: &mut Option<OwnLog>) -> io::Result<BoxedLayer<S>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    match to {
        LogTo::Stderr => Ok(to_stderr(lines)),
        LogTo::Journal => to_journal(),
        LogTo::JournalOr(path) if Path::new(JOURNAL).exists() => {
            to_journal().or_else(|_| to_own(path, lines, own))
        }
        LogTo::File(path) => {
            // A fifo that nobody reads would be waited for, by a daemon that nobody sees yet.
            let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
            let file =
                OpenOptions::new().create(true).append(true).custom_flags(flags).open(path)?;
            Ok(to_file(file, lines))
        }
        LogTo::Own(path) | LogTo::JournalOr(path) => to_own(path, lines, own),
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

fn to_own<S>(path: &Path, lines: LogLines, own: &mut Option<OwnLog>) -> io::Result<BoxedLayer<S>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let log = OwnLog::open(path)?;
    let layer = to_file(BoundedLog::new(log.file.try_clone()?, lines), lines);
    *own = Some(log);
    Ok(layer)
}

fn to_file<S>(file: impl Write + Send + 'static, lines: LogLines) -> BoxedLayer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = lines::layer().with_writer(Mutex::new(file)).with_ansi(false);
    match lines {
        LogLines::Text => layer.boxed(),
        LogLines::Json => layer.json().with_current_span(false).with_span_list(false).boxed(),
    }
}

fn to_journal<S>() -> io::Result<BoxedLayer<S>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    Ok(tracing_journald::layer()?.with_field_prefix(None).boxed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_known_in_every_form() {
        let trouble = [
            "2026-11-30T05:51:24.1Z  WARN overlayfs_mount::daemon: x",
            "2026-11-30T05:51:24.1Z ERROR overlayfs_mount::daemon: x",
            r#"{"timestamp":"2026","level":"WARN","fields":{"message":"x"},"target":"t"}"#,
        ];
        assert!(trouble.into_iter().all(says_trouble));
        let good = [
            "2026-11-30T05:51:24.1Z  INFO overlayfs_mount::daemon: WARN",
            r#"{"timestamp":"2026","level":"INFO","fields":{"message":"WARN"},"target":"t"}"#,
            "{",
            "",
        ];
        assert!(!good.into_iter().any(says_trouble));
    }

    #[test]
    fn s112_a_log_that_another_daemon_writes_to_stays() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("log");
        let (first, second) = (OwnLog::open(&path).unwrap(), OwnLog::open(&path).unwrap());
        first.end();
        assert!(path.exists());
        second.end();
        assert!(!path.exists());
    }
}
