//! From a configuration to a view that can be read.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info, warn};

use super::DaemonError;
use super::fetch::Fetching;
use super::operator::Doors;
use super::stop::{Ending, Stopped};
use super::update;
use crate::config::resolved::{AllowOther, Config, Origin, Overrides};
use crate::fuse::{self, Owner};
use crate::machine::mount::{MountRequest, mount};
use crate::machine::mountinfo::MountTable;
use crate::machine::mountpoint::{create_mountpoint, remove_mountpoint};
use crate::machine::stale::{Liveness, detach, probe};
use crate::machine::{connections, read_ahead, user};
use crate::snapshot::Snapshot;
use crate::store::blobs::BlobCache;
use crate::sync::Stamp;
use crate::sync::build::{blob_cache, rebuild};
use crate::sync::pin::Pins;
use crate::view::{Settings, View};

/// What to mount, and where.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The configuration.
    pub config: Config,
    /// The mount point, absolute, without links.
    pub mountpoint: PathBuf,
    /// Whether nothing in the view may be executed.
    pub forbids_execution: bool,
    /// What the command line says in place of the configuration, also after a reload.
    pub overrides: Overrides,
    /// How the configuration's file looked before it was read.
    pub stamp: Stamp,
}

impl Plan {
    /// How the file of a configuration looks now.
    pub fn stamp_of(config: &Config) -> Stamp {
        update::config_stamp(&config.origin)
    }
}

/// How long a mount that may be dead has for its answer.
const PROBE: Duration = Duration::from_secs(2);

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
    let ending = Ending::listen()?;
    // Goes last, and all pins with it: nobody reads them any more.
    let pins = Arc::new(Pins::open(&plan.config.state.dir));
    let caches = Caches { blobs: blob_cache(&plan.config), pins: pins.clone() };
    let (snapshot, fetching) = first(&plan.config, &caches)?;
    let snapshot = Arc::new(snapshot);
    let settings =
        Settings { links: plan.config.mount.links, has_xattrs: plan.config.mount.has_xattrs };
    let view = Arc::new(View::new(snapshot, settings));
    clear_stale(&plan.mountpoint)?;
    let made = create_mountpoint(&plan.mountpoint)?;
    let parts = Parts { view, caches, fetching };
    let outcome = serve(plan, parts, ending, ready);
    remove_mountpoint(&made);
    drop(pins);
    outcome
}

/// The first snapshot: from what the cache has; where a source is missing and the cache is ours to keep, from what a first round brings.
fn first(config: &Config, caches: &Caches) -> Result<(Snapshot, Option<Fetching>), DaemonError> {
    let start = || Fetching::start(config.clone());
    let build = || {
        let rebuilt = rebuild(config, caches.blobs.clone(), None, None)?;
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
    pub(super) blobs: Arc<BlobCache>,
    pub(super) pins: Arc<Pins>,
}

/// What is there before anything is mounted.
struct Parts {
    view: Arc<View>,
    caches: Caches,
    fetching: Option<Fetching>,
}

fn serve(
    plan: &Plan,
    parts: Parts,
    ending: Ending,
    ready: impl FnOnce() -> Result<(), DaemonError>,
) -> Result<Stopped, DaemonError> {
    let Parts { view, caches, fetching } = parts;
    let request = request(plan);
    let mounted = mount(&request)?;
    let connection = connection(&plan.mountpoint);
    let undo = Undo { mountpoint: &plan.mountpoint };
    let served = fuse::serve(view.clone(), mounted.fd, owner(&plan.config))?;
    raise_read_ahead(&plan.mountpoint);
    let (updates, updating) =
        update::start(plan, view.clone(), caches, served.kernel.clone(), fetching)?;
    let doors = Doors::open(plan, view.clone(), served.counts.clone(), updates.clone())?;
    ready()?;
    undo.disarm();
    announce(plan, &view.snapshot());
    let stopped = ending.wait(plan, served, connection, &updates);
    drop((doors, updates));
    if updating.join().is_err() {
        warn!("the thread that kept the view up to date had panicked");
    }
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

fn owner(config: &Config) -> Owner {
    let (uid, gid) = user::effective_ids();
    Owner { uid: config.mount.uid.unwrap_or(uid), gid: config.mount.gid.unwrap_or(gid) }
}

/// The number by which the kernel knows the connection of the mount just made.
fn connection(mountpoint: &Path) -> Option<u32> {
    let table = MountTable::read().ok()?;
    table.topmost_at(mountpoint).map(|mount| mount.minor)
}

/// Makes reads of large files fewer and larger, where that is allowed. Not before the handshake, in which the kernel sets its own.
fn raise_read_ahead(mountpoint: &Path) {
    let Some(mount) =
        MountTable::read().ok().and_then(|table| table.topmost_at(mountpoint).cloned())
    else {
        return;
    };
    if let Err(error) = read_ahead::raise(&mount) {
        debug!(%error, "the kernel reads ahead no further than by itself");
    }
}

/// Detaches a view of ours whose daemon has died. A second mount over it would succeed silently and hide it.
fn clear_stale(mountpoint: &Path) -> Result<(), DaemonError> {
    loop {
        let table = MountTable::read()?;
        let Some(mount) = table.topmost_at(mountpoint).filter(|mount| mount.is_ours()) else {
            return Ok(());
        };
        match probe(mountpoint, PROBE) {
            Liveness::Dead => {
                warn!(mountpoint = %mountpoint.display(), "a mount was here whose daemon has died: detached");
                detach(mountpoint)?;
            }
            // Taken by a daemon that lives: `mount` refuses with the cure.
            Liveness::Alive | Liveness::Silent | Liveness::Forbidden => {
                let waiting = connections::waiting(mount.minor);
                info!(mountpoint = %mountpoint.display(), ?waiting, "a view is mounted here already");
                return Ok(());
            }
        }
    }
}

fn announce(plan: &Plan, snapshot: &Snapshot) {
    if snapshot.sources.is_empty() {
        warn!("no sources: the view is empty");
    }
    for source in &snapshot.sources {
        if let Some(error) = source.state.error() {
            warn!(source = %source.label, state = source.state.word(), error, "a source is not served");
        }
    }
    info!(
        mountpoint = %plan.mountpoint.display(),
        revision = %snapshot.id,
        sources = snapshot.sources.len(),
        "mounted"
    );
}
