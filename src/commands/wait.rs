//! `wait`: until the sources can be read, or until a view is mounted and can be read. For init containers and startup probes.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::cli::ConfigArgs;
use super::failure::Failure;
use super::input;
use super::output::short;
use crate::config;
use crate::control::client;
use crate::machine::mountinfo::MountTable;
use crate::machine::mountpoint;
use crate::machine::run_dir::RunDir;
use crate::machine::stale::{Liveness, probe};
use crate::snapshot::status::ViewState;

/// Arguments of `wait`.
#[derive(Debug, Args)]
#[command(after_help = "Exit status: 0 ready, 1 not ready in time, 2 usage or configuration.")]
pub struct WaitArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Wait for the view that is mounted there, and not for the sources
    #[arg(value_name = "MOUNTPOINT", conflicts_with_all = ["config", "values", "sources"])]
    pub mountpoint: Option<PathBuf>,
    /// Wait until the view shows this revision set: its id, or the first digits of it
    // What is required is not asked for where what conflicts with it is given.
    #[arg(long, value_name = "ID", requires = "mountpoint", conflicts_with_all = ["config", "values", "sources"], value_parser = revision)]
    pub revision: Option<String>,
    /// How long to wait; `0` looks once
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time)]
    pub timeout: Duration,
}

/// Eight hexadecimal digits or more tell one set from all others.
fn revision(text: &str) -> Result<String, String> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if (8..=64).contains(&text.len()) && text.bytes().all(is_digit) {
        return Ok(text.to_owned());
    }
    Err("give 8 to 64 lower-case hexadecimal digits, as `status` and `.overlay/revision` print them".to_owned())
}

fn time(text: &str) -> Result<Duration, String> {
    config::duration(text).ok_or_else(|| config::DURATION_CURE.to_owned())
}

/// The first pause between two attempts; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long a mount has for one answer.
const PROBE: Duration = Duration::from_secs(5);
/// How long one attempt has even where the time to wait is shorter, so that `--timeout 0` can look once.
const ATTEMPT_MIN: Duration = Duration::from_secs(5);

/// What is tried until it succeeds.
type Attempt = Arc<dyn Fn() -> Result<(), Failure> + Send + Sync>;

/// Waits, and fails with the last reason when the time is over.
pub(super) fn run(arguments: &WaitArgs) -> Result<ExitCode, Failure> {
    let attempt: Attempt = if let Some(path) = arguments.mountpoint.clone() {
        let revision = arguments.revision.clone();
        Arc::new(move || expect_mounted(&path, revision.as_deref()))
    } else {
        // Wrong configuration gets no better by waiting.
        let config = input::config(&arguments.config)?;
        Arc::new(move || input::snapshot(&config).map(drop))
    };
    until(arguments.timeout, &attempt)
}

fn until(timeout: Duration, attempt: &Attempt) -> Result<ExitCode, Failure> {
    let deadline = Instant::now() + timeout;
    let mut pause = PAUSE;
    let mut said = String::new();
    loop {
        let Err(failure) = bounded(attempt, deadline) else { return Ok(ExitCode::SUCCESS) };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(failure.within(format!("not ready after {} s", timeout.as_secs_f32())));
        }
        if said != failure.message() {
            failure.message().clone_into(&mut said);
            // Who waits is told why, once for each reason; that nobody listens changes nothing.
            writeln!(anstream::stderr(), "waiting: {said}").unwrap_or_default();
        }
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// One attempt in a thread of its own, which is left behind if it hangs.
fn bounded(attempt: &Attempt, deadline: Instant) -> Result<(), Failure> {
    let attempt = attempt.clone();
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("attempt".into())
        // The receiver may have gone away.
        .spawn(move || sender.send(attempt()).unwrap_or_default())
        .map_err(Failure::new)?;
    let patience = deadline.saturating_duration_since(Instant::now()).max(ATTEMPT_MIN);
    receiver.recv_timeout(patience).unwrap_or_else(|error| {
        Err(match error {
            RecvTimeoutError::Timeout => Failure::new("there is no answer")
                .with_cure("overlayfs-mount doctor; a mount that hangs goes with `overlayfs-mount unmount --lazy`"),
            RecvTimeoutError::Disconnected => Failure::new("the attempt ended without a result"),
        })
    })
}

/// Checks that a view is mounted on a path, can be read, and shows the revision set that is waited for. Its daemon is asked; where this
/// process may not ask it, the view itself.
fn expect_mounted(path: &Path, revision: Option<&str>) -> Result<(), Failure> {
    let path = mountpoint::resolve(path)?;
    let table = MountTable::read()?;
    let Some(mount) = table.topmost_at(&path).filter(|mount| mount.is_ours()) else {
        return Err(Failure::new(format!("no view is mounted on `{}`", path.display()))
            .with_cure(format!("overlayfs-mount mount '{}'", path.display())));
    };
    if let Some(Ok(status)) = RunDir::find_socket(&path).map(|socket| client::status(&socket)) {
        match status.state {
            ViewState::Ready | ViewState::Degraded => {
                return expect_revision(&path, &status.revision, revision);
            }
            ViewState::Broken => {
                let why = status.error.unwrap_or_default();
                return Err(Failure::new(format!("the view on `{}`: {why}", path.display())));
            }
            ViewState::Stopping => {
                return Err(Failure::new(format!("the view on `{}` is stopping", path.display()))
                    .with_cure(format!("overlayfs-mount mount '{}'", path.display())));
            }
        }
    }
    // A bind mount of a part of the view has no `.overlay`.
    let is_whole = mount.part() == Path::new("");
    let shown = revision_in(&path, is_whole)?;
    expect_revision(&path, &shown, revision)
}

/// Checks that the revision set that a view shows is the one that is waited for. Without one any will do.
fn expect_revision(path: &Path, shown: &str, revision: Option<&str>) -> Result<(), Failure> {
    match revision {
        Some(revision) if !shown.starts_with(revision) => Err(Failure::new(format!(
            "the view on `{}` shows revision set `{}`",
            path.display(),
            short(shown)
        ))
        .with_cure(format!("overlayfs-mount reload '{}'", path.display()))),
        Some(_) | None => Ok(()),
    }
}

/// The revision set that a view itself says it shows; empty where only a part of the view is mounted.
fn revision_in(path: &Path, is_whole: bool) -> Result<String, Failure> {
    let failed = |what: &str| {
        Failure::new(format!("the view on `{}` {what}", path.display())).with_cure(format!(
            "overlayfs-mount unmount --lazy '{0}'; overlayfs-mount mount '{0}'",
            path.display()
        ))
    };
    match probe(path, PROBE) {
        Liveness::Alive if is_whole => match fs::read(path.join(".overlay/revision")) {
            Ok(text) if !text.is_empty() => {
                Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
            }
            Ok(_) => Err(failed("shows no revision set")),
            Err(error) => Err(failed(&format!("cannot be read: {error}"))),
        },
        Liveness::Alive => Ok(String::new()),
        Liveness::Dead => Err(failed("has lost its daemon")),
        Liveness::Silent => Err(failed("does not answer")),
        Liveness::Forbidden => {
            Err(Failure::new(format!("the view on `{}` is closed to this user", path.display()))
                .with_cure("ask as the user who mounted, or mount with `allowOther: true`"))
        }
    }
}
