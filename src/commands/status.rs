//! `status`: what is mounted, from which revisions, and what is wrong.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::failure::{FAILED, Failure};
use super::output::{self, short};
use crate::control::ControlError;
use crate::control::client;
use crate::control::status::{Confinement, Status};
use crate::machine::inside;
use crate::machine::mountinfo::MountTable;
use crate::machine::mountpoint;
use crate::machine::run_dir::RunDir;
use crate::machine::stale::{Liveness, probe};
use crate::snapshot::status::{SourceStatus, ViewState};
use crate::union::name::Printable;

/// How long a mount has to answer that no daemon spoke for.
const PROBE: Duration = Duration::from_secs(1);

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Where it is mounted (default: every mount)
    #[arg(value_name = "MOUNTPOINT")]
    pub mountpoint: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// Exit 1 unless everything is ready
    #[arg(long)]
    pub check: bool,
}

/// What the daemons answered that this user may ask.
#[derive(Default)]
pub(super) struct Answers {
    /// The views.
    pub(super) all: Vec<Status>,
    /// The daemons that could not be asked.
    pub(super) failures: Vec<Unasked>,
}

/// A daemon that could not be asked.
pub(super) struct Unasked {
    socket: PathBuf,
    /// The mount that it serves, where that is known.
    mountpoint: Option<PathBuf>,
    error: ControlError,
}

impl From<Unasked> for Failure {
    fn from(unasked: Unasked) -> Self {
        let failure = Self::from(unasked.error);
        match unasked.mountpoint {
            Some(path) => failure.within(format!("the view on `{}`", path.display())),
            None => failure,
        }
    }
}

/// Prints the status of one mount or of all.
pub(super) fn run(arguments: &StatusArgs) -> Result<ExitCode, Failure> {
    let answers = match &arguments.mountpoint {
        Some(path) => Answers { all: vec![one(path)?], ..Answers::default() },
        None => every()?,
    };
    let (all, failures) = (&answers.all, answers.failures);
    match (&arguments.mountpoint, arguments.json) {
        (Some(_), true) => output::json(&all[0])?,
        (None, true) => output::json(all)?,
        (_, false) if all.is_empty() && !failures.is_empty() => ExitCode::SUCCESS,
        (_, false) => output::said(&text(all).map_err(Failure::new)?)?,
    };
    // Their daemons cannot say it themselves.
    let dead = if arguments.mountpoint.is_none() { dead(all, &failures)? } else { Vec::new() };
    for path in &dead {
        let shown = path.display();
        Failure::new(format!("`{shown}` is mounted, and nobody answers for it"))
            .with_cure(format!(
                "overlayfs-mount mount, or overlayfs-mount unmount --lazy '{shown}'"
            ))
            .warn();
    }
    let is_ready = dead.is_empty()
        && !all.is_empty()
        && all.iter().all(|status| status.state == ViewState::Ready);
    let has_failed = !failures.is_empty();
    for unasked in failures {
        Failure::from(unasked).report();
    }
    let is_bad = has_failed || arguments.check && !is_ready;
    Ok(if is_bad { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

/// The views that are mounted, whose daemon has left its socket and does not speak, and that do not answer themselves.
fn dead(all: &[Status], failures: &[Unasked]) -> Result<Vec<PathBuf>, Failure> {
    let table = MountTable::read()?;
    let mut paths: Vec<_> = table.ours().map(|mount| mount.mountpoint.clone()).collect();
    paths.sort();
    paths.dedup();
    paths.retain(|path| {
        !all.iter().any(|status| Path::new(&status.mountpoint) == path.as_path())
            && !failures.iter().any(|unasked| unasked.mountpoint.as_ref() == Some(path))
            && RunDir::find_socket(path).is_some()
            && matches!(probe(path, PROBE), Liveness::Dead | Liveness::Silent)
    });
    Ok(paths)
}

/// Asks the daemon of a mount point.
pub(super) fn one(path: &Path) -> Result<Status, Failure> {
    let path = mountpoint::resolve(path)?;
    let Some(socket) = RunDir::find_socket(&path) else { return Err(nobody(&path)?) };
    Ok(client::status(&socket)?)
}

/// The failure for a mount point that no daemon speaks for.
fn nobody(path: &Path) -> Result<Failure, Failure> {
    let table = MountTable::read()?;
    Ok(match table.topmost_at(path).filter(|mount| mount.is_ours()) {
        Some(_) => Failure::new(format!("`{}` is mounted, and no daemon of yours speaks for it", path.display()))
            .with_cure("ask as the user who mounted, or read `.overlay/status.json` below it; a command of `exec` has to keep its OVERLAYFS_MOUNT_EXEC_SOCKETS; a dead mount goes with `overlayfs-mount unmount --lazy`"),
        None => match table.find(path).filter(|mount| mount.is_ours()) {
            Some(mount) => {
                let (path, at) = (path.display(), mount.mountpoint.display());
                Failure::new(format!("`{path}` is no mount point: it lies in the view on `{at}`"))
                    .with_cure(format!("name the mount point: `{at}`"))
            }
            None => Failure::new(format!("no view is mounted on `{}`", path.display()))
                .with_cure("overlayfs-mount mount"),
        },
    })
}

/// Asks every daemon that this user may ask, those of the views around this process first. One that left its socket behind is passed over,
/// and so is a run directory that cannot be trusted while another one can: anybody may make one in `/tmp`.
pub(super) fn every() -> Result<Answers, Failure> {
    let mut sockets = inside::sockets();
    // A command in a view needs no run directory.
    let mut is_any_trusted = !sockets.is_empty();
    let mut untrusted = None;
    for run_dir in RunDir::all() {
        match run_dir.sockets() {
            Ok(more) => {
                is_any_trusted = true;
                sockets.extend(more);
            }
            Err(error) => untrusted = untrusted.or(Some(error)),
        }
    }
    if let Some(error) = untrusted.filter(|_| !is_any_trusted) {
        return Err(error.into());
    }
    let mut answers = Answers::default();
    for (socket, answer) in client::all(&sockets) {
        match answer {
            Ok(status) => answers.all.push(status),
            Err(ControlError::NoDaemon { .. }) => {}
            Err(error) => {
                let (socket, mountpoint) = (socket.to_owned(), None);
                answers.failures.push(Unasked { socket, mountpoint, error });
            }
        }
    }
    if !answers.failures.is_empty() {
        name_mounts(&mut answers.failures)?;
    }
    Ok(answers)
}

/// Finds the mounts of the daemons that could not be asked.
fn name_mounts(failures: &mut [Unasked]) -> Result<(), Failure> {
    for mount in MountTable::read()?.ours() {
        let socket = RunDir::find_socket(&mount.mountpoint);
        for unasked in
            failures.iter_mut().filter(|unasked| socket.as_ref() == Some(&unasked.socket))
        {
            unasked.mountpoint = Some(mount.mountpoint.clone());
        }
    }
    Ok(())
}

fn text(all: &[Status]) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    if all.is_empty() {
        writeln!(text, "nothing is mounted")?;
    }
    for status in all {
        writeln!(text, "{}  {}", Printable(&status.mountpoint), status.state.word())?;
        let config = status.config.as_deref().unwrap_or("--source");
        writeln!(text, "  configuration  {}", Printable(config))?;
        if let Some(error) = &status.error {
            for line in error.lines() {
                let line = line.strip_prefix("error: ").unwrap_or(line);
                writeln!(text, "  error          {}", Printable(line))?;
            }
        }
        if status.state == ViewState::Broken {
            writeln!(text, "  process        {}", status.pid)?;
            continue;
        }
        writeln!(text, "  revision set   {} since {}", short(&status.revision), status.since)?;
        writeln!(text, "  process        {}", status.pid)?;
        if let Some(confinement) = &status.confinement {
            writeln!(text, "  confined       {}", confined(confinement))?;
        }
        for (option, label) in &status.labels {
            writeln!(text, "  SELinux        {option}={}", Printable(label))?;
        }
        writeln!(text)?;
        let rows = status.sources.iter().map(row);
        let headings = ["SOURCE", "REF", "REVISION", "VISIBILITY", "STATE", "PINNED", "ERROR"];
        for line in output::table(&headings, rows).lines() {
            writeln!(text, "  {line}")?;
        }
        if let Some(reason) = &status.no_large_files_because {
            writeln!(text, "  {}", Printable(reason))?;
        }
        for source in &status.sources {
            if let Some(cure) = &source.cure {
                writeln!(text, "  cure for `{}`: {}", source.called(), Printable(cure))?;
            }
            if let Some(reason) = &source.unpinned_because {
                writeln!(text, "  `{}` is not pinned: {reason}", source.called())?;
            }
            if let Some(reason) = &source.no_git_because {
                writeln!(text, "  `{}` has no `.git`: {reason}", source.called())?;
            }
        }
    }
    Ok(text)
}

fn row(source: &SourceStatus) -> Vec<String> {
    let pinned = source.pinned.map_or("-", |is_pinned| if is_pinned { "yes" } else { "no" });
    let error = source.error.as_ref();
    vec![
        source.called().to_owned(),
        output::git_ref(source.git_ref.as_deref(), Some(source.is_live)).to_owned(),
        source.revision.as_deref().map_or("-", short).to_owned(),
        source.visibility.clone(),
        source.state.word().to_owned(),
        pinned.to_owned(),
        error.map_or_else(String::new, |error| format!("since {}: {error}", source.since)),
    ]
}

fn confined(confinement: &Confinement) -> String {
    let Confinement { landlock, seccomp, no_new_privs, capabilities } = confinement;
    let capabilities = match capabilities.as_slice() {
        [] => "none".to_owned(),
        held => held.join(", "),
    };
    let privileges = if *no_new_privs { "yes" } else { "no" };
    let (landlock, seccomp) = (Printable(landlock), Printable(seccomp));
    format!(
        "Landlock {landlock}; seccomp {seccomp}; no_new_privs {privileges}; capabilities {capabilities}"
    )
}
