//! From a configuration to a view that can be read.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::{info, warn};

use super::DaemonError;
use super::configuration::config_stamp;
use super::copy::Copying;
use super::fetch::Fetching;
use super::operator::{Doors, Seen};
use super::place::{clear_stale, connection, raise_read_ahead};
use super::stop::{Ending, Reins, Stopped};
use super::update;
use super::vitals::{Mounted, Vitals};
use crate::config::resolved::{AllowOther, Config, Origin, Overrides};
use crate::control::http::Address;
use crate::fuse::{self, Owner};
use crate::machine::mount::{MountRequest, mount, mount_over};
use crate::machine::mountpoint::Claim;
use crate::machine::stale::detach;
use crate::machine::{descriptor, pass, user};
use crate::snapshot::Snapshot;
use crate::snapshot::collisions::hidden_entries;
use crate::store::git::Repository;
use crate::sync::archive::Archive;
use crate::sync::build::rebuild;
use crate::sync::pin::Pins;
use crate::sync::watch::Notices;
use crate::sync::{Shared, Stamp};
use crate::view::{self, Settings, Superblock, View};

/// What to mount, and where.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The configuration.
    pub config: Config,
    /// The mount point, absolute, without links.
    pub mountpoint: PathBuf,
    /// Whether nothing in the view may be executed.
    pub forbids_execution: bool,
    /// Whether the view shows the set of its start for good.
    pub is_pinned: bool,
    /// What the command line says in place of the configuration, also after a reload.
    pub overrides: Overrides,
    /// How the configuration's file looked before it was read.
    pub stamp: Stamp,
    /// Where metrics and health are served; `None`: nowhere.
    pub metrics: Option<Address>,
    /// Who sees the mount.
    pub audience: Audience,
    /// The directory of views that it is of, whose daemon reads its configuration; `None` if it is served alone.
    pub views: Option<PathBuf>,
}

/// Who sees a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Everybody in the name space of who asked for it: it can be found, asked and taken away.
    Everybody,
    /// One command with its children, in a name space of their own: no control socket, it may hide another view at its place,
    /// and it ends at once.
    OneCommand,
    /// Whoever the one lets see it who mounted it for us: it is not ours to take away.
    Given,
}

/// A mount that somebody else made: where its descriptor comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// It was inherited under this number.
    Number(i32),
    /// The privileged side mounts, and passes it over this socket.
    Socket(PathBuf),
}

impl Plan {
    /// How the file of a configuration looks now.
    pub fn stamp_of(config: &Config) -> Stamp {
        config_stamp(&config.origin)
    }
}

/// Tells systemd, where it started us, that the view can be read.
pub fn announce_to_systemd() {
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        warn!(%error, "systemd was not told that the view is ready");
    }
}

/// Serves a view until it is unmounted or a signal ends it. `ready` is called when it can be read.
///
/// # Errors
/// A required source cannot be read, this machine does not let us mount, or `ready` failed: then nothing is mounted.
pub fn run(
    plan: &Plan,
    ready: impl FnOnce() -> Result<(), DaemonError>,
) -> Result<Stopped, DaemonError> {
    run_on(plan, None, ready)
}

/// As [`run`], on a mount that somebody else made.
///
/// # Errors
/// As there.
pub fn run_given(
    plan: &Plan,
    given: Given,
    ready: impl FnOnce() -> Result<(), DaemonError>,
) -> Result<Stopped, DaemonError> {
    run_on(plan, Some(given), ready)
}

fn run_on(
    plan: &Plan,
    given: Option<Given>,
    ready: impl FnOnce() -> Result<(), DaemonError>,
) -> Result<Stopped, DaemonError> {
    let ending = Ending::listen()?;
    // First of all: an address that cannot be had leaves nothing behind, and a long start can be observed.
    let vitals = Arc::new(Vitals::default());
    let http = vitals.serve(plan.metrics.as_ref())?;
    // Goes last, when nobody reads pins any more.
    // What one command sees is kept for nobody.
    let keeps_for_next = plan.audience != Audience::OneCommand;
    let of_mount = keeps_for_next.then_some(plan.mountpoint.as_path());
    let pins = Arc::new(Pins::open(&plan.config.state.dir, of_mount));
    let shared = Arc::new(Shared::new(&plan.config));
    let archive = Archive::open(&pins, None, &plan.config, shared.clone()).map(Arc::new);
    let copying = Arc::new(Copying::start(pins.clone())?);
    let caches = Caches {
        shared,
        pins: pins.clone(),
        copying,
        notices: Notices::start(),
        archive: archive.clone(),
        left: None,
    };
    let (snapshot, fetching) = first(&plan.config, &caches, &vitals)?;
    let snapshot = Arc::new(snapshot);
    let settings =
        Settings { links: plan.config.mount.links, has_xattrs: plan.config.mount.has_xattrs };
    let archive = archive.map(|archive| archive as Arc<dyn view::Archive>);
    let view = Arc::new(View::with_archive(snapshot, settings, archive));
    if plan.audience == Audience::Everybody {
        clear_stale(&plan.mountpoint)?;
    }
    let claim = match &given {
        Some(_) => None,
        None => Some(Claim::make(&plan.mountpoint)?),
    };
    let parts = Parts { view, caches, fetching, vitals, given };
    let outcome = serve(plan, parts, ending, ready);
    if let Some(claim) = claim {
        claim.release();
    }
    // It knows the view, and with it what is pinned.
    drop(http);
    drop(pins);
    outcome
}

/// The first snapshot: from what the cache has; where a source is missing and the cache is ours to keep, from what a first round brings.
fn first(
    config: &Config,
    caches: &Caches,
    vitals: &Vitals,
) -> Result<(Snapshot, Option<Fetching>), DaemonError> {
    let start = || Fetching::start(config.clone(), vitals.rounds.get_or_init(Arc::default).clone());
    let build = || {
        let rebuilt = rebuild(config, &caches.shared, None, None)?;
        Ok(rebuilt.snapshot)
    };
    let is_synced = config.repo_cache.is_synced;
    match build() {
        Ok(snapshot) => Ok((snapshot, is_synced.then(start).transpose()?)),
        Err(error) if !is_synced => Err(DaemonError::Build(error)),
        Err(_) => {
            let fetching = start()?;
            fetching.round(config.clone());
            let snapshot = build().map_err(|error| {
                let problems = fetching.problems().into_iter();
                let problems =
                    problems.map(|(source, problem)| format!("source `{source}`: {problem}"));
                DaemonError::Unfetched { error, problems: problems.collect() }
            })?;
            Ok((snapshot, Some(fetching)))
        }
    }
}

/// What all snapshots of a mount share.
pub(super) struct Caches {
    pub(super) shared: Arc<Shared>,
    pub(super) pins: Arc<Pins>,
    pub(super) copying: Arc<Copying>,
    pub(super) notices: Option<Arc<Notices>>,
    /// Sets that were left, where there is room for them on disk.
    pub(super) archive: Option<Arc<Archive>>,
    /// What was pinned before, where somebody has looked at it already.
    pub(super) left: Option<Arc<[Arc<Repository>]>>,
}

/// What is there before anything is mounted.
struct Parts {
    view: Arc<View>,
    caches: Caches,
    fetching: Option<Fetching>,
    vitals: Arc<Vitals>,
    given: Option<Given>,
}

/// The descriptor of a mount, and what has to be done about the mount in the end.
struct Attached<'a> {
    fd: OwnedFd,
    connection: Option<u32>,
    undo: Option<Undo<'a>>,
    keeper: Option<UnixStream>,
}

/// Mounts, unless that was done.
fn attach(plan: &Plan, given: Option<Given>) -> Result<Attached<'_>, DaemonError> {
    if let Some(given) = given {
        let (fd, keeper) = match given {
            Given::Number(number) => (descriptor::take(number)?, None),
            Given::Socket(socket) => {
                let (fd, keeper) = pass::fetch(&socket)?;
                (fd, Some(keeper))
            }
        };
        return Ok(Attached { fd, connection: None, undo: None, keeper });
    }
    let request = request(plan);
    let mounted = match plan.audience {
        Audience::Everybody => mount(&request)?,
        Audience::OneCommand | Audience::Given => mount_over(&request)?,
    };
    Ok(Attached {
        fd: mounted.fd,
        connection: connection(&plan.mountpoint),
        undo: Some(Undo { mountpoint: &plan.mountpoint }),
        keeper: None,
    })
}

fn serve(
    plan: &Plan,
    parts: Parts,
    ending: Ending,
    ready: impl FnOnce() -> Result<(), DaemonError>,
) -> Result<Stopped, DaemonError> {
    let Parts { view, caches, fetching, given, vitals } = parts;
    let (pins, blobs) = (caches.pins.clone(), caches.shared.blobs.clone());
    let Attached { fd, connection, undo, keeper } = attach(plan, given)?;
    let served = fuse::serve(Arc::new(Superblock::only(view.clone())), fd, owner(&plan.config))?;
    if undo.is_some() {
        raise_read_ahead(&plan.mountpoint);
    }
    let kernel = served.kernel.clone();
    let (updates, updating) =
        update::start(plan, view.clone(), caches, kernel, fetching, vitals.clone())?;
    let counts = served.counts.clone();
    let doors = match plan.audience {
        Audience::Everybody | Audience::Given => {
            let updates = updates.clone();
            let reload = Box::new(move || updates.reload());
            let seen = Seen::new(plan, view.clone(), counts.clone(), vitals.clone());
            Some(Doors::open(&plan.mountpoint, seen, reload)?)
        }
        Audience::OneCommand => None,
    };
    let (session, alive) = (served.alive.clone(), updating.alive);
    vitals.mounted(Mounted { view: view.clone(), counts, blobs, session, updating: alive });
    ready()?;
    if let Some(undo) = undo {
        undo.disarm();
    }
    announce(plan, &view.snapshot());
    let stopped = ending.wait(plan, served, Reins { connection, keeper }, &updates, &vitals);
    drop(doors);
    updates.end();
    if updating.thread.join().is_err() {
        warn!("the thread that kept the view up to date had panicked");
    }
    // Nothing has been dropped yet that is to be found by the next daemon.
    pins.keep();
    stopped
}

/// Takes the mount back unless all went well.
struct Undo<'a> {
    mountpoint: &'a Path,
}

impl Undo<'_> {
    fn disarm(self) {
        std::mem::forget(self);
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if let Err(error) = detach(self.mountpoint) {
            warn!(%error, "the mount could not be taken back");
        }
    }
}

fn request(plan: &Plan) -> MountRequest {
    let allow_other = match plan.config.mount.allow_other {
        AllowOther::Auto => user::may_allow_other(),
        AllowOther::Yes => true,
        AllowOther::No => false,
    };
    MountRequest {
        mountpoint: plan.mountpoint.clone(),
        source_name: source_name(&plan.config.origin),
        allow_other,
        default_permissions: true,
        forbids_execution: plan.forbids_execution,
    }
}

/// What the kernel lists as the source of the mount.
pub(super) fn source_name(origin: &Origin) -> OsString {
    match origin {
        Origin::File(path) | Origin::Values(path) => path.clone().into_os_string(),
        Origin::CommandLine => OsString::from("overlayfs-mount"),
    }
}

/// Who owns every file of a view.
pub(super) fn owner(config: &Config) -> Owner {
    let (uid, gid) = user::effective_ids();
    Owner { uid: config.mount.uid.unwrap_or(uid), gid: config.mount.gid.unwrap_or(gid) }
}

pub(super) fn announce(plan: &Plan, snapshot: &Snapshot) {
    if snapshot.sources.is_empty() {
        warn!("no sources: the view is empty");
    }
    for source in &snapshot.sources {
        if let Some(error) = source.state.error() {
            warn!(source = %source.label, state = source.state.word(), error, "a source is not served");
        }
    }
    let hidden = hidden_entries(snapshot);
    if hidden > 0 {
        info!(
            hidden,
            "entries of later sources hide earlier ones; `overlayfs-mount check` shows them"
        );
    }
    info!(
        mountpoint = %plan.mountpoint.display(),
        revision = %snapshot.id,
        sources = snapshot.sources.len(),
        "mounted"
    );
}
