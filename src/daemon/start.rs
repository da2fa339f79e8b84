//! From a configuration to a view that can be read.

use std::path::PathBuf;
use std::sync::Arc;

use tracing::{info, warn};

use super::DaemonError;
use super::attach::{Attached, Given, attach, clear_stale, owner, raise_read_ahead};
use super::configuration::keep_mounted;
use super::courier;
use super::kept_by::KeptBy;
use super::opening::{OpenedView, Start, open};
use super::operator::{Doors, Seen};
use super::stop::{Ending, Stopped};
use super::update::{self, Following};
use super::vitals::{Mounted, Vitals};
use crate::config::resolved::{Config, Overrides};
use crate::config::why_empty;
use crate::control::http::Address;
use crate::fuse::{self, Agreed, Beginning, Serving};
use crate::machine::keeper::Word;
use crate::machine::labels::Labels;
use crate::machine::mountpoint::Claim;
use crate::machine::passthrough::StackDepth;
use crate::machine::run_dir::RunDir;
use crate::machine::{confinement, memory, threads};
use crate::snapshot::collisions::hidden_entries;
use crate::snapshot::{Fault, Snapshot};
use crate::sync::Stamp;
use crate::view::{Handshake, Superblock};

/// What to mount, and where.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The configuration.
    pub config: Config,
    /// The mount point, absolute, without links.
    pub mountpoint: PathBuf,
    /// Whether nothing in the view may be executed.
    pub forbids_execution: bool,
    /// The labels that `SELinux` is to give it.
    pub labels: Labels,
    /// Whether the view shows the set of its start for good.
    pub is_pinned: bool,
    /// What the command line says in place of the configuration, also after a reload.
    pub overrides: Overrides,
    /// How the configuration's file looked before it was read; `None` where what was read may not be what it holds.
    pub stamp: Option<Stamp>,
    /// Where metrics and health are served; `None`: nowhere.
    pub metrics: Option<Address>,
    /// Who sees the mount.
    pub audience: Audience,
    /// Whether the kernel reads large files by itself.
    pub passthrough: Option<StackDepth>,
    /// The directory of views that it is of, whose daemon reads its configuration; `None` if it is served alone.
    pub views: Option<PathBuf>,
}

/// Who sees a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Everybody in the name space of who asked for it: it can be found, asked and taken away.
    Everybody,
    /// One command with its children, in a name space of their own: its control socket is known to them only, it may hide another view at
    /// its place, and it ends at once.
    OneCommand,
    /// Whoever the one lets see it who mounted it for us: it is not ours to take away.
    Given,
}

impl Plan {
    /// The same with what only a new mount can change, as a plan before had it, whose configuration was read at another time.
    #[must_use]
    pub fn mounted_as(mut self, before: Self) -> Self {
        self.config = keep_mounted(&before.config, self.config, &mut Vec::new());
        Self { stamp: None, mountpoint: before.mountpoint, ..self }
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
    run_on(plan, Way::Mount, ready)
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
    run_on(plan, Way::Given(given), ready)
}

/// As [`run`], on the mount of a keeper, which may have had another worker before. `text` is the configuration's file as it was read.
///
/// # Errors
/// As there; or what another worker left cannot be gone on with.
pub fn run_for_keeper(
    plan: &Plan,
    keeper: KeptBy,
    text: &[u8],
    keeps_output: bool,
) -> Result<Stopped, DaemonError> {
    let keeper = Arc::new(keeper);
    keeper.remember(text);
    run_on(plan, Way::Kept(keeper.clone()), || keeper.ready(keeps_output))
}

/// How a view comes to its mount.
enum Way {
    Mount,
    Given(Given),
    Kept(Arc<KeptBy>),
}

/// The threads of a worker beside those that answer the kernel: for signals, notices, updates, the control socket and one who asks there, the
/// keeper, pins that are let go of, and the end.
const OTHER_THREADS: usize = 8;

/// Expects room for the threads of a worker that takes a mount over, and memory for those of so many sessions: one with fewer of them would
/// lose some of what there is.
pub(super) fn expect_room(threads: usize, sessions: usize) -> Result<(), DaemonError> {
    let failed = |error| DaemonError::Start { step: "starting the threads of a worker", error };
    threads::expect_room(threads, &fuse::buffers(sessions)).map_err(failed)
}

fn run_on(
    plan: &Plan,
    way: Way,
    ready: impl FnOnce() -> Result<(), DaemonError>,
) -> Result<Stopped, DaemonError> {
    // A command inherits what this process has, and a dump of its core is its own matter.
    if plan.audience != Audience::OneCommand {
        confinement::no_core_dumps();
    }
    memory::set_up();
    if matches!(&way, Way::Kept(keeper) if !keeper.is_first() || keeper.is_anew()) {
        expect_room(fuse::threads() + OTHER_THREADS, 1)?;
    }
    let ending = Ending::listen()?;
    // First of all: an address that cannot be had leaves nothing behind, and a long start can be observed.
    let vitals = Arc::new(Vitals::default());
    let http = vitals.serve(plan.metrics.as_ref())?;
    let keeper = match &way {
        Way::Kept(keeper) => Some(keeper.as_ref()),
        Way::Mount | Way::Given(_) => None,
    };
    let opened = open(plan, &vitals, keeper, &ending.wish())?;
    // Goes last, when nobody reads pins any more.
    let pins = opened.caches.pins.clone();
    if plan.audience == Audience::Everybody {
        clear_stale(&plan.mountpoint)?;
    }
    let claim = match &way {
        Way::Given(_) | Way::Kept(_) => None,
        Way::Mount => Some(Claim::make(&plan.mountpoint)?),
    };
    let outcome = serve(plan, way, opened, (ending, vitals), ready);
    if let Some(claim) = claim {
        claim.release();
    }
    // It knows the view, and with it what is pinned.
    drop(http);
    drop(pins);
    outcome
}

fn serve(
    plan: &Plan,
    way: Way,
    opened: OpenedView,
    (ending, vitals): (Ending, Arc<Vitals>),
    ready: impl FnOnce() -> Result<(), DaemonError>,
) -> Result<Stopped, DaemonError> {
    let OpenedView { view, caches, fetching, begun } = opened;
    let (pins, blobs) = (caches.pins.clone(), caches.shared.blobs.clone());
    let is_resumed = begun.is_resumed();
    let courier = begun.courier();
    let (Attached { fd, mounter, undo }, beginning) = begin(plan, way, &begun)?;
    let (keeper, connection) = (mounter.keeper(), mounter.connection());
    let courier = courier.or_else(|| courier::beside(&fd));
    let passthrough = plan.passthrough.map(|StackDepth(depth)| begun.passthrough(depth));
    let serving = Serving { owner: owner(&plan.config), passthrough, beginning, courier };
    let served = fuse::serve(Arc::new(Superblock::only(view.clone())), fd, serving);
    let served = served.map_err(DaemonError::from).inspect_err(|error| {
        if let Some(keeper) = keeper.as_ref().filter(|_| is_resumed) {
            give_up(keeper, error);
        }
    })?;
    let kernel = served.kernel.clone();
    let follow =
        Following { caches, fetching, is_resumed, keeper: keeper.clone(), wish: ending.wish() };
    let (updates, updating) = update::start(plan, view.clone(), follow, kernel, vitals.clone())?;
    let counts = served.counts.clone();
    let asked = updates.clone();
    let reload = Box::new(move || asked.reload());
    let seen = Seen::new(plan, view.clone(), counts.clone(), vitals.clone(), keeper.clone());
    let doors = match plan.audience {
        Audience::Everybody | Audience::Given => Some(Doors::open(&plan.mountpoint, seen, reload)?),
        Audience::OneCommand => Doors::open_inside(&plan.mountpoint, seen, reload),
    };
    let (session, alive) = (served.alive.clone(), updating.alive);
    vitals.mounted(Mounted { view: view.clone(), counts, blobs, session, updating: alive });
    if let Some(keeper) = &keeper {
        let vitals = vitals.clone();
        keeper.listen(move || vitals.stop())?;
    }
    // Said first: whoever is told that it is ready looks into the log.
    if is_resumed {
        let revision = view.snapshot().id;
        info!(mountpoint = %plan.mountpoint.display(), %revision, "took the mount over");
    } else {
        announce(plan, &view.snapshot());
    }
    ready()?;
    let is_ours = undo.is_some();
    if let Some(undo) = undo {
        undo.disarm();
    }
    // Nobody waits for what follows: whoever was told lists directories and reads small files first.
    if is_ours {
        raise_read_ahead(connection);
    }
    if plan.audience != Audience::OneCommand && keeper.is_none() {
        remove_old_logs();
    }
    let wish = ending.wish();
    let stopped = ending.wait(plan, served, mounter, &updates, &vitals);
    drop(doors);
    // Whoever packs a history would be waited for.
    wish.set();
    updates.end();
    if updating.thread.join().is_err() {
        warn!("the thread that kept the view up to date had panicked");
    }
    // Nothing has been dropped yet that is to be found by the next daemon.
    pins.keep();
    stopped
}

/// Has the mount made anew where no worker can go on with it.
fn give_up(keeper: &KeptBy, error: &DaemonError) {
    // The next worker may have what lacks now.
    if !error.is_momentary() {
        warn!("the mount cannot be taken over: {error}");
        keeper.say(Word::Anew);
    }
}

/// Removes logs of others that nobody needs any more.
pub fn remove_old_logs() {
    if let Ok(run_dir) = RunDir::make() {
        run_dir.remove_old_logs();
    }
}

/// The mount of a way, and where its session begins.
fn begin<'a>(
    plan: &'a Plan,
    way: Way,
    begun: &'a Start,
) -> Result<(Attached<'a>, Beginning<'a>), DaemonError> {
    Ok(match (way, begun) {
        (Way::Kept(keeper), Start::First { device, journal, .. }) => {
            (keeper.attached(device)?, Beginning::Recorded(journal))
        }
        (Way::Kept(keeper), Start::Again { device, agreed, .. }) => {
            let Handshake { request, reply } = agreed;
            let agreed = Agreed { request, reply, is_to_refuse: keeper.is_to_refuse() };
            (keeper.attached(device)?, Beginning::TakenOver(agreed))
        }
        (Way::Given(given), _) => (given.take()?, Beginning::First),
        (Way::Mount | Way::Kept(_), _) => (attach(plan)?, Beginning::First),
    })
}

/// Says what is served.
pub(super) fn announce(plan: &Plan, snapshot: &Snapshot) {
    if let Some((_, why, cure)) = why_empty(&plan.config) {
        warn!(mountpoint = %plan.mountpoint.display(), why, cure, "the view is empty");
    }
    for source in &snapshot.sources {
        if let Some(Fault { error, cure }) = source.state.fault() {
            let state = source.state.word();
            warn!(source = %source.label, state, error, cure, "a source is not served");
        }
        if let Some(reason) = source.git_directory.left_out() {
            warn!(source = %source.label, reason, "a source has no `.git`");
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
