//! Many views by one daemon: each file of a directory is the configuration of one, bound to its own mount point.
//!
//! One thread adds, renews and removes views, and waits for nothing but them; each view is kept up to date by a thread of its own. Views with the same
//! [`Traits`] share a superblock. A view that cannot be shown keeps no other from being shown.

mod base;
mod broker;
mod confined;
mod directory;
mod estate;
mod events;
mod group;
mod holdings;
mod look;
mod member;
mod note;
mod observed;
mod parsed;
mod privileged;
mod reading;
mod renewal;
mod requests;
mod resume;
mod show;
mod stop;

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::info;

use self::base::Base;
pub(super) use self::base::{superblock_at, take_all_away};
pub(super) use self::broker::died;
pub use self::broker::run_broker;
use self::confined::begin;
use self::directory::ViewFiles;
use self::estate::Estate;
use self::events::{Event, Events};
use self::group::Group;
use self::holdings::Holdings;
use self::member::{Leave, ShownView};
use self::observed::Roll;
use self::parsed::Parsed;
use self::privileged::{Asking, Privileged};
use self::resume::Left;
use super::DaemonError;
use super::fetch::{Fetchers, Fetching};
use super::kept_by::KeptBy;
use super::operator::{Doors, Trouble};
use super::start::{Plan, expect_room};
use super::stop::Stopped;
use crate::config::resolved::Overrides;
use crate::control::http::Address;
use crate::machine::confinement;
use crate::machine::keeper::Word;
use crate::machine::labels::Labels;
use crate::machine::{memory, user};
use crate::sync::watch::Notices;

/// What to serve.
#[derive(Debug, Clone)]
pub struct ViewsPlan {
    /// The directory with a configuration for each view, absolute, without links.
    pub dir: PathBuf,
    /// Whether nothing in the views may be executed.
    pub forbids_execution: bool,
    /// The labels that `SELinux` is to give the views.
    pub labels: Labels,
    /// Whether each view shows the set of its start for good.
    pub is_pinned: bool,
    /// Whether the kernel reads large files by itself.
    pub has_passthrough: bool,
    /// Where metrics and health are served; `None`: nowhere.
    pub metrics: Option<Address>,
    /// What the command line says in place of the configurations.
    pub overrides: Overrides,
}

/// How often the directory is looked at without a notice.
const TICK: Duration = Duration::from_secs(1);
/// How long after a notice there is a look: a file that is written over is empty for a moment.
const SETTLE: Duration = Duration::from_millis(20);
/// How long after a failure a view is tried again although its file did not change.
const RETRY: Duration = Duration::from_secs(2);
/// How often it is looked, at the start, whether what views lack is fetched.
const FETCH_PACE: Duration = Duration::from_millis(20);

/// Serves the views of a directory until a signal ends it. `ready` is called when all that can be shown are.
///
/// # Errors
/// This process may not mount, the directory is another daemon's, none of its views can be shown, or `ready` failed: then nothing is mounted.
pub fn run_views(
    plan: &ViewsPlan,
    ready: impl FnOnce() -> Result<(), DaemonError>,
) -> Result<Stopped, DaemonError> {
    serve_views(plan, None, ready)
}

/// As [`run_views`], for a keeper, which may have had another worker before.
///
/// # Errors
/// As there; or what another worker left cannot be gone on with.
pub fn run_views_for_keeper(
    plan: &ViewsPlan,
    keeper: KeptBy,
    keeps_output: bool,
) -> Result<Stopped, DaemonError> {
    let keeper = Arc::new(keeper);
    let outcome = serve_views(plan, Some(keeper.clone()), || keeper.ready(keeps_output));
    if matches!(outcome, Err(DaemonError::Resume { .. })) {
        keeper.say(Word::Anew);
    }
    outcome
}

fn serve_views(
    plan: &ViewsPlan,
    keeper: Option<Arc<KeptBy>>,
    ready: impl FnOnce() -> Result<(), DaemonError>,
) -> Result<Stopped, DaemonError> {
    if !user::has_sys_admin() {
        return Err(DaemonError::Unprivileged);
    }
    confinement::no_core_dumps();
    let mut parsed = Parsed::default();
    let (left, broker) = begin(plan, keeper.as_deref(), &mut parsed)?;
    memory::set_up();
    let left_by = left.as_deref().unwrap_or_default();
    let threads = if left.is_some() { Left::threads(left_by) } else { 0 };
    expect_room(threads, left_by.len())?;
    let events = Events::listen()?;
    let roll = Arc::<Roll>::default();
    // First of all: an address that cannot be had leaves nothing behind, and a long start can be observed.
    let http = observed::serve(plan.metrics.as_ref(), roll.clone())?;
    let base = Base::take(&plan.dir)?;
    let privileged = match broker {
        Some(line) => Privileged::Broker(Asking::new(line)),
        None => Privileged::Own(Holdings::new(base.path().to_owned())?),
    };
    let notices = Notices::start();
    let directory = ViewFiles::new(&plan.dir, notices.clone(), &events);
    let (estates, groups, retired, views) = Default::default();
    let (fetchers, behind, awaited) = Default::default();
    let (plan, is_resumed) = (plan.clone(), left.is_some());
    let (is_starting, have_mounts_moved) = (true, false);
    let mut daemon = Daemon {
        plan,
        base,
        privileged,
        directory,
        parsed,
        events,
        notices,
        estates,
        groups,
        retired,
        views,
        fetchers,
        behind,
        awaited,
        roll: roll.clone(),
        keeper,
        is_starting,
        have_mounts_moved,
    };
    let started = daemon.start(left).and_then(|()| ready());
    let started = started.and_then(|()| daemon.listen());
    if let Err(error) = started {
        match error {
            DaemonError::Resume { .. } => {}
            // As if it had been killed: another worker tries it.
            _ if is_resumed => mem::forget(daemon),
            _ => daemon.stop(),
        }
        return Err(error);
    }
    let stopped = daemon.serve_to_the_end();
    drop(http);
    stopped
}

struct Daemon {
    plan: ViewsPlan,
    base: Base,
    privileged: Privileged,
    directory: ViewFiles,
    /// The files that were looked at to confine this process, until each view is shown.
    parsed: Parsed,
    events: Events,
    notices: Option<Arc<Notices>>,
    /// By state directory.
    estates: HashMap<PathBuf, Estate>,
    groups: Vec<Group>,
    /// Superblocks without a view, while somebody holds them.
    retired: Vec<Group>,
    /// By file.
    views: BTreeMap<PathBuf, State>,
    fetchers: Fetchers,
    /// When the files are read again of views that are shown and are not as these say.
    behind: BTreeMap<PathBuf, Instant>,
    /// What is fetched for views that cannot be shown.
    awaited: BTreeMap<PathBuf, Fetching>,
    /// All views, for those who observe the daemon.
    roll: Arc<Roll>,
    /// Who has another worker go on, if anybody does.
    keeper: Option<Arc<KeptBy>>,
    is_starting: bool,
    /// Since it was last looked.
    have_mounts_moved: bool,
}

/// How a view of the directory is.
enum State {
    Shown(Box<ShownView>),
    Broken(Broken),
    /// Somebody unmounted it: it stays away until its file changes.
    Unmounted,
}

impl State {
    /// How it is shown.
    fn plan(&self) -> Option<&Plan> {
        match self {
            Self::Shown(shown) => Some(&shown.member().plan),
            Self::Broken(_) | Self::Unmounted => None,
        }
    }
}

/// A view that cannot be shown.
struct Broken {
    trouble: Trouble,
    retry_at: Instant,
    /// Nobody to be asked where there can be no control socket.
    _doors: Option<Doors>,
}

impl Daemon {
    /// Shows what can be shown.
    fn start(&mut self, left: Option<Vec<Left>>) -> Result<(), DaemonError> {
        let files = self.directory.read()?;
        let is_resumed = left.is_some();
        if let Some((left, keeper)) = left.zip(self.keeper.clone()) {
            self.resume(left, keeper.is_to_refuse())?;
            self.remember_unmounted(&files);
        } else {
            self.privileged.clear(&[])?;
        }
        self.look()?;
        self.await_first_fetch();
        self.is_starting = false;
        // From now on what was pinned before is of no use to anybody else.
        self.estates.values_mut().for_each(|estate| estate.left = Some([].into()));
        if is_resumed || self.shown() > 0 || self.views.is_empty() {
            return Ok(());
        }
        let problem = |(file, state): (&PathBuf, &State)| match state {
            State::Broken(broken) => {
                Some(format!("`{}`: {}", file.display(), broken.trouble.get().unwrap_or_default()))
            }
            State::Shown(_) | State::Unmounted => None,
        };
        let problems = self.views.iter().filter_map(problem).collect();
        Err(DaemonError::NoView { dir: self.plan.dir.clone(), problems })
    }

    /// Hears what the keeper says from now on.
    fn listen(&self) -> Result<(), DaemonError> {
        let roll = self.roll.clone();
        self.keeper.as_ref().map_or(Ok(()), |keeper| keeper.listen(move || roll.stop()))
    }

    /// Waits for what is fetched for the first time, where views lack it, and shows them.
    fn await_first_fetch(&mut self) {
        if self.awaited.is_empty() {
            return;
        }
        let wish = self.events.wish();
        let is_over = || self.awaited.values().all(Fetching::has_tried);
        while !is_over() && !wish.wait(FETCH_PACE) {}
        for file in self.awaited.keys().cloned().collect::<Vec<_>>() {
            self.renew(&file, None);
        }
        self.roll.set(&self.views);
    }

    fn shown(&self) -> usize {
        self.views.values().filter(|state| matches!(state, State::Shown(_))).count()
    }

    /// Serves until a signal asks for the end, and takes everything away then.
    fn serve_to_the_end(mut self) -> Result<Stopped, DaemonError> {
        self.roll.start();
        info!(dir = %self.plan.dir.display(), views = self.shown(), "serving");
        let served = self.serve();
        self.roll.stop();
        match served {
            Ok(signal) => {
                self.stop();
                Ok(Stopped::Signal(signal))
            }
            Err(error) => {
                // As if it had been killed: another worker goes on.
                mem::forget(self);
                Err(error)
            }
        }
    }

    /// Serves until a signal asks for the end.
    fn serve(&mut self) -> Result<i32, DaemonError> {
        let mut look_at = Instant::now() + TICK;
        loop {
            match self.events.next(look_at.saturating_duration_since(Instant::now())) {
                Some(Event::Signal(signal_hook::consts::SIGHUP)) => {
                    let files: Vec<_> = self.views.keys().cloned().collect();
                    for file in files {
                        // What goes wrong is in the log and in the status.
                        self.renew(&file, None);
                    }
                }
                Some(Event::Signal(signal)) => {
                    info!(signal, "stopping");
                    return Ok(signal);
                }
                Some(Event::Reload { file, answer }) => {
                    self.renew(&file, Some(answer));
                    self.roll.set(&self.views);
                }
                Some(Event::Reloaded(reloaded)) => self.reloaded(*reloaded),
                Some(Event::Mounts) => {
                    self.have_mounts_moved = true;
                    look_at = look_at.min(Instant::now() + SETTLE);
                }
                Some(Event::Look) => look_at = look_at.min(Instant::now() + SETTLE),
                None => {
                    self.look()?;
                    look_at = Instant::now() + TICK;
                }
            }
        }
    }
}
