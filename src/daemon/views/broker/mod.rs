//! A process that mounts for a confined worker, and takes its word for nothing.
//!
//! A worker names a view, by its file, and a superblock, by its number. Where the view is to be seen this process reads in the file itself,
//! with what the command line says in its place. It goes through no directory that the worker may change, and binds nothing but what is of
//! a superblock of this daemon. So a worker that was taken over can put its own views where the operator wants them, and take them away.

mod open;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use tracing::warn;

use self::open::Open;
use crate::config::resolved::Config;
use crate::control::ControlError;
use crate::daemon::DaemonError;
use crate::daemon::views::ViewsPlan;
use crate::daemon::views::directory::{files_of, is_view};
use crate::daemon::views::group::is_for_others;
use crate::daemon::views::holdings::{Binding, BoundAs, Holdings};
use crate::daemon::views::parsed::Parsed;
use crate::daemon::views::reading::mountpoint_of;
use crate::daemon::views::requests::{DIED, Reply, Request, number_of};
use crate::machine::broker::{Line, outlast_signals};
use crate::machine::confinement;
use crate::machine::mountinfo::{Mount, MountTable};
use crate::machine::run_dir::RunDir;

/// Mounts for workers until nobody is left who could ask.
///
/// # Errors
/// This process cannot begin, or the line is broken.
pub fn run_broker(plan: &ViewsPlan, line: &Line) -> Result<(), DaemonError> {
    confinement::no_core_dumps();
    outlast_signals()?;
    let run_dir = RunDir::make()?;
    let mut broker = Broker::new(plan.clone(), run_dir.path(), run_dir.views(&plan.dir))?;
    broker.adopt()?;
    let failed = |error| DaemonError::Start { step: "speaking to the worker", error };
    while let Some(message) = line.receive().map_err(failed)? {
        let (id, (reply, device)) = match Request::parse(&message.bytes) {
            Some((id, request)) => (id, broker.answer(&request)),
            None => (number_of(&message.bytes).unwrap_or(DIED), (Reply::not_understood(), None)),
        };
        line.send(&reply.to_bytes(id), device.as_ref().map(AsFd::as_fd)).map_err(failed)?;
    }
    Ok(())
}

/// What tells a worker that who should have answered has died.
pub(in crate::daemon) fn died() -> Vec<u8> {
    Reply::Done.to_bytes(DIED)
}

/// So many different refusals are said in the log.
const SAID_MAX: usize = 1000;

/// What one knows.
struct Broker {
    plan: ViewsPlan,
    holdings: Holdings,
    directory: PathBuf,
    parsed: Parsed,
    open: Open,
    /// Whether other users may use a superblock, by its number, where this process has mounted it.
    for_others: HashMap<u64, bool>,
    /// What was refused, and is in the log.
    said: BTreeSet<String>,
}

/// Why nothing was done.
struct Refusal {
    message: String,
    cure: Option<String>,
    /// Whether no worker asks for that, as long as it is ours and the operator has not put things where they should not be.
    is_odd: bool,
}

impl From<DaemonError> for Refusal {
    fn from(error: DaemonError) -> Self {
        Self { message: error.to_string(), cure: error.cure(), is_odd: false }
    }
}

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Self {
        Self { message: error.to_string(), cure: error.cure(), is_odd: false }
    }
}

impl Broker {
    fn new(plan: ViewsPlan, run_dir: &Path, directory: PathBuf) -> Result<Self, DaemonError> {
        let holdings = Holdings::new(directory.clone())?;
        let (parsed, for_others, said) = Default::default();
        let open = Open::new(run_dir);
        Ok(Self { plan, holdings, directory, parsed, open, for_others, said })
    }

    /// Knows what one before has bound, which has died.
    fn adopt(&mut self) -> Result<(), DaemonError> {
        let table = MountTable::read()?;
        let ours: Vec<_> = self.holdings.superblocks()?.into_iter().map(|(_, one)| one).collect();
        if ours.is_empty() {
            return Ok(());
        }
        let wanted: HashMap<_, _> = files_of(&self.plan.dir)?
            .into_iter()
            .filter_map(|file| {
                let (config, _) = self.parsed.load(&self.plan, &file).ok()?;
                Some((mountpoint_of(&config, &table).ok()?, file))
            })
            .collect();
        let mut known = BTreeSet::new();
        let is_bound = |mount: &&Mount| {
            ours.contains(&mount.minor) && !mount.mountpoint.starts_with(&self.directory)
        };
        let (at_home, elsewhere): (Vec<_>, Vec<_>) =
            table.ours().filter(is_bound).partition(|mount| wanted.contains_key(&mount.mountpoint));
        for mount in at_home.into_iter().chain(elsewhere) {
            // Without a name the superblock has one view.
            let name = mount.root.strip_prefix("/").ok().filter(|name| is_view(name));
            let file = name.map(|name| self.plan.dir.join(name));
            let Some(file) = file.or_else(|| wanted.get(&mount.mountpoint).cloned()) else {
                continue;
            };
            if known.insert(file.clone()) {
                let bound = BoundAs { mount_id: mount.id, made: Vec::new() };
                self.holdings.adopt(&file, &mount.mountpoint, bound);
            }
        }
        Ok(())
    }

    fn answer(&mut self, request: &Request) -> (Reply, Option<OwnedFd>) {
        let mut device = None;
        let outcome = match request {
            Request::Clear { but } => {
                self.holdings.clear(but).map_err(Refusal::from).map(|()| None)
            }
            Request::Mount { number, name } => self.mount(*number, name).map(|mounted| {
                device = Some(mounted);
                None
            }),
            Request::Bind { number, name, at } => self.bind(*number, name, at).map(Some),
            Request::Unbind { name } => self.file(name).map(|file| {
                self.holdings.unbind(&file);
                None
            }),
            Request::TakeAway { number } => {
                self.for_others.remove(number);
                self.holdings.take_away(*number).map_err(Refusal::from).map(|()| None)
            }
            Request::Abort { connection } => {
                self.holdings.abort(*connection).map_err(Refusal::from).map(|()| None)
            }
        };
        let reply = match outcome {
            Ok(None) => Reply::Done,
            Ok(Some(bound)) => Reply::Bound(bound),
            Err(Refusal { message, cure, is_odd }) => {
                // It is asked for again and again.
                if is_odd && self.said.len() < SAID_MAX && self.said.insert(message.clone()) {
                    warn!("refused to a worker: {message}");
                }
                Reply::Refused { message, cure }
            }
        };
        (reply, device)
    }

    fn mount(&mut self, number: u64, name: &OsStr) -> Result<OwnedFd, Refusal> {
        let (_, config) = self.read(name, &mounts()?)?;
        let is_for_others = is_for_others(&config);
        let device = self.holdings.mount(number, &self.plan, is_for_others)?;
        self.for_others.insert(number, is_for_others);
        Ok(device)
    }

    fn bind(&mut self, number: u64, name: &OsStr, said: &Path) -> Result<BoundAs, Refusal> {
        let table = mounts()?;
        let (file, config) = self.read(name, &table)?;
        self.open.expect_mountpoint(&config.mount.at, &table)?;
        let at = mountpoint_of(&config, &table)?;
        if at != said {
            let (at, said) = (at.display(), said.display());
            return Err(refused(format_args!("its mount point is `{at}`, not `{said}`")));
        }
        if self.for_others.get(&number).is_some_and(|known| *known != is_for_others(&config)) {
            return Err(refused("its superblock has another `mount.allowOther`"));
        }
        let directory = (!config.mount.has_xattrs).then_some(name);
        Ok(self.holdings.bind(Binding { file: &file, number, directory, at: &at })?)
    }

    /// Reads the configuration of a view, if it is the operator's.
    fn read(&mut self, name: &OsStr, table: &MountTable) -> Result<(PathBuf, Config), Refusal> {
        let file = self.file(name)?;
        self.open.learn(&self.plan, &mut self.parsed);
        self.open.expect_file(&file, table)?;
        let (config, _) = self.parsed.load(&self.plan, &file)?;
        Ok((file, config))
    }

    /// The file of a view of this directory.
    fn file(&self, name: &OsStr) -> Result<PathBuf, Refusal> {
        let file = self.plan.dir.join(name);
        let is_here = file.file_name() == Some(name) && file.parent() == Some(&self.plan.dir);
        if is_here && is_view(&file) {
            return Ok(file);
        }
        let (name, directory) = (name.display(), self.plan.dir.display());
        Err(refused(format_args!("`{name}` is no file of `{directory}`")))
    }
}

fn mounts() -> Result<MountTable, DaemonError> {
    Ok(MountTable::read()?)
}

fn refused(message: impl fmt::Display) -> Refusal {
    Refusal { message: message.to_string(), cure: None, is_odd: true }
}
