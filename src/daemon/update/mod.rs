//! Keeps a view up to date: looks for what moved, builds the next snapshot beside the current one, and flips.
//!
//! One thread, which answers no request of the kernel and holds no lock (see `view::flip`). Others ask it over a channel.

mod beginning;
mod reload;
mod retry;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use self::reload::{Fetch, Standing};
use self::retry::Retry;
use super::DaemonError;
use super::configuration::{config_file, config_stamp};
use super::fetch::{Fetching, Problems};
use super::guard::{guarded, survived};
use super::kept_by::{KeptBy, widen};
use super::opening::Caches;
use super::outcome::{Followed, has_same_git, notes, report, states, tell, without_git};
use super::start::{Audience, Plan};
use super::updates::{Requests, UpdateRequest, Updates, Updating, updates};
use super::vitals::Vitals;
use crate::config::resolved::{Config, Overrides};
use crate::control::ControlError;
use crate::fuse::KernelCache;
use crate::machine::memory;
use crate::snapshot::collisions::new_collisions;
use crate::snapshot::{Fault, Snapshot};
use crate::sync::build::{Rebuilt, rebuild};
use crate::sync::fetch::Stop;
use crate::sync::watch::{Stamps, Watch, look};
use crate::sync::{Stamp, follow};
use crate::union::change::Change;
use crate::union::succession::Remembered;
use crate::view::{Keeping, View};

/// How often sources and configuration are looked at where the kernel gives notice of changes.
const TICK: Duration = Duration::from_secs(1);
/// How often where it does not.
const TICK_WITHOUT_NOTICES: Duration = Duration::from_millis(250);
/// How long after a notice there is a look: what changes one thing often changes another at once.
const SETTLE: Duration = Duration::from_millis(20);
/// How often it is looked, while the sets that were left are taken over, whether somebody asks for the end.
const TAKING_PACE: Duration = Duration::from_millis(20);
/// Notices that come all the time lead to a look this often.
const PACE: Duration = Duration::from_millis(50);
/// How long after a history could not be packed it is tried again.
const RETRY_GIT: Duration = Duration::from_secs(61);
/// How long after a configuration could not be followed it is tried again.
const RETRY_BEHIND: Duration = Duration::from_secs(2);
/// At least so many sets stay readable below `.overlay/revisions`, the current one included.
pub(super) const KEPT_SETS: usize = 8;

/// What a view is kept up to date with.
pub(super) struct Following {
    pub(super) caches: Caches,
    /// Who fetches, where the repo cache is ours to keep.
    pub(super) fetching: Option<Fetching>,
    /// Whether a worker before has served the view.
    pub(super) is_resumed: bool,
    /// Who has another worker take over where this one is confined to less than is needed.
    pub(super) keeper: Option<Arc<KeptBy>>,
    /// The wish to end: who has it waits for nothing.
    pub(super) wish: Stop,
}

/// Starts the thread that keeps a view up to date.
pub(super) fn start(
    plan: &Plan,
    view: Arc<View>,
    following: Following,
    kernel: KernelCache,
    vitals: Arc<Vitals>,
) -> Result<(Updates, Updating), DaemonError> {
    let Following { caches, fetching, is_resumed, keeper, wish } = following;
    let stop = Stop::default();
    let (updates, requests, notice) = updates(stop.clone());
    let notices = caches.notices.clone();
    let watch = Watch::start(notices, config_file(&plan.config.origin), notice);
    let first = view.snapshot();
    let retry = Retry::first(&first, is_resumed);
    let archive = caches.archive.as_ref().filter(|_| !is_resumed);
    let has_left = archive.is_some_and(|archive| archive.has_others(&first.id));
    let (taking, taken) = mpsc::channel();
    let taking = has_left.then_some(taking);
    let is_ours = plan.audience != Audience::Given || keeper.is_some();
    let mut updater = Updater {
        place: is_ours.then(|| plan.mountpoint.clone()),
        config: plan.config.clone(),
        overrides: plan.overrides,
        is_pinned: plan.is_pinned,
        is_resumed,
        follows_file: plan.views.is_none(),
        keeper,
        view,
        caches,
        kernel,
        fetching,
        problems: Problems::new(),
        stop,
        watch,
        looked_at: Instant::now(),
        remembered: Remembered::default(),
        config_stamp: plan.stamp,
        retry,
        standing: Standing::Follows,
        stuck: None,
        signals: None,
        last_said: String::new(),
        vitals,
        most_nodes: 0,
    };
    let stamps = updater.look();
    updater.watch.compare(stamps.clone(), stamps);
    updater.vitals.tally.looked();
    let life = Arc::new(());
    let alive = Arc::downgrade(&life);
    let thread = thread::Builder::new()
        .name("update".into())
        .spawn(move || {
            updater.run(&requests, taking);
            // Goes with the thread, also by a panic.
            drop(life);
        })
        .map_err(|error| DaemonError::Start { step: "starting a thread", error })?;
    // Nothing is sent: it ends when the sets that were left are there, or nobody takes them over.
    let is_taking = || matches!(taken.recv_timeout(TAKING_PACE), Err(RecvTimeoutError::Timeout));
    while is_taking() && !wish.is_set() {}
    Ok((updates, Updating { thread, alive }))
}

struct Updater {
    config: Config,
    /// The mount point; `None` where another process has mounted, perhaps in another name space.
    place: Option<PathBuf>,
    overrides: Overrides,
    /// Whether the view shows the set of its start for good.
    is_pinned: bool,
    /// Whether a worker before has served the view.
    is_resumed: bool,
    /// Whether it looks at the configuration's file itself.
    follows_file: bool,
    /// Who has another worker take over where this one is confined to less than is needed.
    keeper: Option<Arc<KeptBy>>,
    view: Arc<View>,
    caches: Caches,
    kernel: KernelCache,
    /// Who fetches, where the repo cache is ours to keep.
    fetching: Option<Fetching>,
    /// What could not be fetched when the current snapshot was published.
    problems: Problems,
    /// Asks what takes long to end early.
    stop: Stop,
    remembered: Remembered,
    /// How it looked when it was read last; `None` where that is not known.
    config_stamp: Option<Stamp>,
    watch: Watch,
    looked_at: Instant,
    /// When to try again what failed.
    retry: Retry,
    standing: Standing,
    /// Why the last set could not be built, as `status` says it.
    stuck: Option<String>,
    /// What is looked at since the last update: also where that brought the same set, a ref may lead there by another branch.
    signals: Option<Vec<PathBuf>>,
    /// What the log said last about failures.
    last_said: String,
    /// Who counts what is done here.
    vitals: Arc<Vitals>,
    /// The most nodes that the kernel knew at a look since memory was given back for those that it forgot.
    most_nodes: usize,
}

/// For fewer nodes memory is not given back.
const MANY_NODES: usize = 4096;

impl Updater {
    /// Until nobody asks any more. `taking` is let go of once what the last daemon left is there, where somebody waits for that.
    fn run(&mut self, requests: &Requests, taking: Option<Sender<()>>) {
        let is_awaited = taking.is_some();
        if is_awaited {
            self.restore_left();
            drop(taking);
        }
        self.watch.listen();
        // What happened before there were notices is found by the first look.
        let mut next = self.looked_at + SETTLE;
        // Whoever mounted looks into the view now. What nobody waits for comes after that, and before what is asked for.
        let mut asked = (!self.is_resumed).then(|| requests.wait(next));
        if self.is_resumed {
            self.view.settle(&self.kernel);
        } else if !is_awaited {
            self.restore_left();
        }
        self.pin_first();
        self.keep_first();
        loop {
            let retry_at = self.retry.when().map(|at| at.max(self.looked_at + PACE));
            let until = retry_at.map_or(next, |at| at.min(next));
            match asked.take().unwrap_or_else(|| requests.wait(until)) {
                Ok(UpdateRequest::Reload(answer)) => {
                    let outcome = guarded(|| self.reload_asked()).map(Followed::whole);
                    answer(outcome);
                }
                Ok(UpdateRequest::Look) => {
                    next = next.min((Instant::now() + SETTLE).max(self.looked_at + PACE));
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.tick();
                    survived("giving numbers up", || self.view.sweep_live_if_due(&self.kernel));
                    self.give_back_what_was_forgotten();
                    self.looked_at = Instant::now();
                    next = self.looked_at + self.pause();
                }
                Ok(UpdateRequest::End) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Gives memory back once the kernel has forgotten half of the nodes that it knew.
    fn give_back_what_was_forgotten(&mut self) {
        let known = self.view.known_nodes();
        self.most_nodes = self.most_nodes.max(known);
        if self.most_nodes >= MANY_NODES && known <= self.most_nodes / 2 {
            self.view.shrink();
            memory::give_back();
            self.most_nodes = known;
        }
    }

    /// How long there is no look without a notice.
    fn pause(&self) -> Duration {
        if self.watch.has_notices() { TICK } else { TICK_WITHOUT_NOTICES }
    }

    /// Looks whether anything moved, and follows it.
    fn tick(&mut self) {
        if self.is_pinned {
            self.vitals.tally.looked();
            return;
        }
        let stamp = Some(config_stamp(&self.config.origin));
        let has_config_moved = self.follows_file && stamp != self.config_stamp;
        let is_retry = self.retry.when().is_some_and(|at| Instant::now() >= at);
        let has_news = self.fetch_problems() != self.problems;
        if !has_config_moved && !is_retry && !has_news && !self.watch.has_moved() {
            self.vitals.tally.looked();
            return;
        }
        self.config_stamp = stamp;
        let outcome = if has_config_moved {
            guarded(|| self.reload(Fetch::Now))
        } else if is_retry && self.standing == Standing::Behind {
            self.catch_up()
        } else {
            let outcome = guarded(|| self.update());
            self.say_if_stuck(outcome.as_ref().err());
            outcome
        };
        if self.standing == Standing::Behind {
            self.retry.within(RETRY_BEHIND);
        }
        let said = match &outcome {
            Ok(followed) => followed.trouble.clone(),
            Err(error) => error.to_string(),
        };
        // What goes on failing is said once.
        if said != self.last_said {
            match &outcome {
                Ok(_) if said.is_empty() => info!("all sources can be read again"),
                Ok(followed) => warn!("{}", followed.report.warnings.join("\n")),
                Err(error) => warn!(%error, cure = error.cure(), "the view stays as it is"),
            }
            self.last_said = said;
        }
    }

    /// Has `status` say why the view stays as it is, until it moves again. What is said of the configuration counts before.
    fn say_if_stuck(&mut self, error: Option<&ControlError>) {
        let said = self.vitals.misconfigured_because();
        if said.is_none() || said == self.stuck {
            self.stuck = error.map(ControlError::with_cure);
            self.vitals.misconfigured(self.stuck.clone());
        }
    }

    fn fetch_problems(&self) -> Problems {
        self.fetching.as_ref().map(Fetching::problems).unwrap_or_default()
    }

    /// Looks at everything that says that a source may have moved.
    fn look(&self) -> Stamps {
        if let Some(signals) = &self.signals {
            return look(signals);
        }
        let snapshot = self.view.snapshot();
        look(snapshot.sources.iter().flat_map(|source| &source.signals))
    }

    /// Builds the next snapshot, and flips if it differs.
    fn update(&mut self) -> Result<Followed, ControlError> {
        widen(self.keeper.as_deref(), &self.config);
        // Looked at first: what moves while the snapshot is built is seen at the next look.
        let stamps = self.look();
        let before = self.view.snapshot();
        let Caches { shared, pins, .. } = &self.caches;
        let rebuilt = rebuild(&self.config, shared, Some(pins), Some(&before));
        self.vitals.tally.rebuilt(rebuilt.is_ok());
        let Rebuilt { snapshot, stale } = rebuilt.map_err(|error| {
            self.watch.follow(stamps.clone(), stamps.clone());
            self.retry.failed();
            ControlError::Refused { message: error.to_string(), cure: None }
        })?;
        let mut next = follow(&before, snapshot, &mut self.remembered);
        let signals = next.sources.iter().flat_map(|source| source.signals.iter().cloned());
        self.signals = Some(signals.collect());
        let (mut warnings, mut trouble) = (Vec::new(), Vec::new());
        for (source, error) in &stale {
            let label = &next.source(*source).label;
            let warning = format!("source `{label}` keeps its last revision: {error}");
            // What fails of it at the moment may be another part each time.
            let is_momentary = error.is_momentary();
            trouble.push(if is_momentary { label.clone() } else { warning.clone() });
            warnings.push(warning);
        }
        self.problems = self.fetch_problems();
        let unread = stale.into_iter().map(|(id, error)| {
            let fault = Fault { error: error.cause.to_string(), cure: Some(error.cure()) };
            (id.index(), fault)
        });
        let labels = next.sources.iter().map(|source| source.label.as_str()).zip(0..);
        let unfetched = labels.filter_map(|(label, position)| {
            self.problems.get(label).map(|problem| (position, problem.clone()))
        });
        let stale = unfetched.chain(unread).collect();
        next.notes = notes(&before, &next, stale);
        if !warnings.is_empty() || !Retry::is_whole(&next) {
            self.retry.failed();
        } else {
            self.retry.succeeded();
        }
        let without_git = without_git(&next);
        if !without_git.is_empty() {
            self.retry.within(RETRY_GIT);
        }
        trouble.extend(without_git.iter().cloned());
        warnings.extend(without_git);
        let changes = self.publish(&before, next);
        self.keep_looking(stamps);
        let now = self.view.snapshot();
        self.caches.copying.follow(&now);
        let report = report(&before, &now, &changes, warnings);
        let collisions = tell(&new_collisions(&before, &now));
        Ok(Followed { report, collisions, trouble: trouble.join("\n") })
    }

    /// Remembers how the files looked before the snapshot was built. It may have other files than the one before: these may have moved
    /// between the building and the first look, so that it is built once more.
    fn keep_looking(&mut self, before: Stamps) {
        let now = self.look();
        let has_new = self.watch.follow(before, now);
        if has_new {
            self.retry.within(Duration::ZERO);
        }
    }

    fn publish(&self, before: &Snapshot, next: Snapshot) -> Vec<Change> {
        let is_same_set = next.id == before.id;
        let is_told_same = next.notes == before.notes && states(before) == states(&next);
        if is_same_set && is_told_same && has_same_git(before, &next) {
            return Vec::new();
        }
        let keeping = Keeping { sets: KEPT_SETS, time: self.config.mount.keep };
        let next = Arc::new(next);
        let archive = self.caches.archive.as_ref().filter(|_| !is_same_set);
        if let Some(archive) = archive {
            archive.keep(&next, &self.config);
        }
        let started = Instant::now();
        let changes = self.view.flip(next.clone(), keeping, &self.kernel);
        if let Some(archive) = archive {
            archive.leave(before);
            archive.retain(&self.view.revisions());
        }
        memory::give_back();
        if !is_same_set {
            self.vitals.tally.flipped(started.elapsed(), changes.len());
            info!(revision = %next.id, previous = %before.id, changed = changes.len(), "flipped");
        }
        changes
    }
}
