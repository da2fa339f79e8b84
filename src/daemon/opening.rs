//! What stands before anything is served: the first snapshot and its view, or those that a worker before left.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tracing::warn;

use super::DaemonError;
use super::copy::Copying;
use super::courier::of_keeper;
use super::fetch::{Fetchers, Fetching};
use super::kept_by::KeptBy;
use super::start::{Audience, Plan};
use super::update::KEPT_SETS;
use super::vitals::Vitals;
use crate::config::resolved::Config;
use crate::fuse::{Courier, Passthrough};
use crate::machine::keeper::Word;
use crate::machine::kernel;
use crate::snapshot::Snapshot;
use crate::store::git::Repository;
use crate::sync::archive::{Archive, PATIENCE};
use crate::sync::build::rebuild;
use crate::sync::fetch::Stop;
use crate::sync::pin::Pins;
use crate::sync::watch::Notices;
use crate::sync::{Histories, Shared};
use crate::union::revision::RevisionSetId;
use crate::view::{self, Handshake, Journal, Number, Past, PastView, Settings, StillOpen, View};

/// A view, and what keeps it up to date.
pub(super) struct OpenedView {
    pub(super) view: Arc<View>,
    pub(super) caches: Caches,
    pub(super) fetching: Option<Fetching>,
    pub(super) begun: Start,
}

/// Where a view begins.
pub(super) enum Start {
    /// With nothing, and nobody goes on after it.
    Alone,
    /// With nothing; what it does is written down for those who come after.
    First { device: OwnedFd, journal: Arc<Journal>, courier: Courier },
    /// Where a worker before was killed.
    Again {
        device: OwnedFd,
        agreed: Handshake,
        courier: Courier,
        journal: Arc<Journal>,
        /// What is open in a way that has to be gone on with.
        left: Vec<(Number, StillOpen)>,
    },
}

impl Start {
    /// Who writes to the kernel what may have to wait, where that is not this process.
    pub(super) fn courier(&self) -> Option<Courier> {
        match self {
            Self::First { courier, .. } | Self::Again { courier, .. } => Some(courier.clone()),
            Self::Alone => None,
        }
    }

    /// How large files are passed through, to so many file systems on each other.
    pub(super) fn passthrough(&self, stack_depth: u32) -> Passthrough {
        let (journal, left) = match self {
            Self::Alone => (None, Vec::new()),
            Self::First { journal, .. } => (Some(journal.clone()), Vec::new()),
            Self::Again { journal, left, .. } => (Some(journal.clone()), left.clone()),
        };
        Passthrough { stack_depth, journal, left }
    }

    pub(super) fn is_resumed(&self) -> bool {
        matches!(self, Self::Again { .. })
    }
}

/// Opens a view: as a worker before left it, else from its sources.
pub(super) fn open(
    plan: &Plan,
    vitals: &Vitals,
    keeper: Option<&KeptBy>,
    stop: &Stop,
) -> Result<OpenedView, DaemonError> {
    match keeper {
        Some(keeper) if !keeper.is_first() => {
            let opened = again(plan, vitals, keeper, stop);
            if let Err(error @ DaemonError::Resume { .. }) = &opened {
                warn!("{error}");
                keeper.say(Word::Anew);
            }
            opened
        }
        Some(_) | None => anew(plan, vitals, keeper, stop),
    }
}

fn anew(
    plan: &Plan,
    vitals: &Vitals,
    keeper: Option<&KeptBy>,
    stop: &Stop,
) -> Result<OpenedView, DaemonError> {
    let caches = Caches::open(plan, stop);
    let mut config = plan.config.clone();
    if keeper.is_some_and(KeptBy::is_anew) {
        // What lacks now costs only itself: the rest was served, and somebody uses it.
        config.sources.iter_mut().for_each(|source| source.is_required = false);
    }
    let (snapshot, fetching) = first(&config, &caches, vitals, stop)?;
    let begun = match keeper {
        None => Start::Alone,
        Some(keeper) => {
            let handed = keeper.ask()?;
            let journal = Journal::begin(handed.journal).map_err(|error| DaemonError::Start {
                step: "beginning the journal of node numbers",
                error,
            })?;
            // Whoever goes on makes the set again from what is written here.
            if let Some(archive) = &caches.archive {
                archive.keep(&snapshot, &plan.config);
            } else {
                warn!("`state.dir` cannot be used: if the worker dies the view is mounted anew");
            }
            if !kernel::hands_mounts_over() {
                warn!(
                    "{}: if the worker dies the view is mounted anew, and who holds the old one gets errors",
                    kernel::NO_HANDOVER
                );
            }
            let courier = of_keeper(handed.courier);
            Start::First { device: handed.device, journal: Arc::new(journal), courier }
        }
    };
    let journal = match &begun {
        Start::First { journal, .. } => Some(journal.clone()),
        Start::Alone | Start::Again { .. } => None,
    };
    let view = View::start(Arc::new(snapshot), settings(plan), caches.view_archive(), journal);
    if let Some(keeper) = keeper {
        view.note_configuration(keeper.text());
    }
    Ok(OpenedView { view: Arc::new(view), caches, fetching, begun })
}

/// Goes on where a worker before was killed.
fn again(
    plan: &Plan,
    vitals: &Vitals,
    keeper: &KeptBy,
    stop: &Stop,
) -> Result<OpenedView, DaemonError> {
    let lost = |reason: String| DaemonError::Resume { reason };
    // The worker before has ended once this is answered, and what it held can be taken.
    let handed = keeper.ask()?;
    let (past, journal) = Past::read(handed.journal).map_err(DaemonError::journal)?;
    let agreed = past.handshake().cloned();
    let agreed = agreed.ok_or_else(|| lost("nothing was agreed with the kernel".to_owned()))?;
    let shown =
        past.only().and_then(PastView::shown).ok_or_else(|| lost("no set was shown".to_owned()))?;
    let caches = Caches::open(plan, stop);
    let archive = caches.archive.as_ref();
    let archive = archive.ok_or_else(|| lost("`state.dir` cannot be used".to_owned()))?;
    let left = caches.pins.left();
    let kept = archive.load(&caches.pins, &left, &plan.config, KEPT_SETS);
    let id = RevisionSetId(shown.id);
    let snapshot = archive.recall_whole(&id, PATIENCE);
    let snapshot = snapshot.map_err(|cause| lost(format!("set `{id}`: {cause}")))?;
    let (left_open, journal) = (past.still_open(), Arc::new(journal));
    let past = (past, journal.clone());
    let view = View::resume(snapshot, settings(plan), caches.view_archive(), kept, past);
    view.note_configuration(keeper.text());
    let fetching = fetching(&plan.config, &caches.fetchers, vitals)?;
    let courier = of_keeper(handed.courier);
    let (device, left) = (handed.device, left_open);
    let begun = Start::Again { device, agreed, courier, journal, left };
    Ok(OpenedView { view: Arc::new(view), caches, fetching, begun })
}

fn settings(plan: &Plan) -> Settings {
    Settings { links: plan.config.mount.links, has_xattrs: plan.config.mount.has_xattrs }
}

fn fetching(
    config: &Config,
    fetchers: &Fetchers,
    vitals: &Vitals,
) -> Result<Option<Fetching>, DaemonError> {
    let fetching = fetchers.fetch(config)?;
    vitals.fetched(fetching.as_ref());
    Ok(fetching)
}

/// The first snapshot: from what the cache has; where a source is missing and the cache is ours to keep, from what a first round brings.
fn first(
    config: &Config,
    caches: &Caches,
    vitals: &Vitals,
    stop: &Stop,
) -> Result<(Snapshot, Option<Fetching>), DaemonError> {
    let build = || {
        let rebuilt = rebuild(config, &caches.shared, None, None)?;
        Ok(rebuilt.snapshot)
    };
    let built = build();
    match (built, fetching(config, &caches.fetchers, vitals)?) {
        (Ok(snapshot), fetching) => Ok((snapshot, fetching)),
        (Err(error), None) => Err(DaemonError::Build(error)),
        (Err(_), Some(fetching)) => {
            fetching.round(stop);
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
    /// Who keeps the repo cache, where that is asked for.
    pub(super) fetchers: Fetchers,
}

impl Caches {
    fn open(plan: &Plan, stop: &Stop) -> Self {
        // What one command sees is kept for nobody.
        let keeps_for_next = plan.audience != Audience::OneCommand;
        let of_mount = keeps_for_next.then_some(plan.mountpoint.as_path());
        let pins = Arc::new(Pins::open(&plan.config.state, of_mount));
        let of_git = pins.directory().map(|directory| directory.join("git"));
        let histories = Histories::new(of_git, stop.clone());
        let shared = Arc::new(Shared::with_histories(&plan.config, histories));
        let archive = Archive::open(&pins, None, &plan.config, shared.clone()).map(Arc::new);
        let copying = Arc::new(Copying::new(pins.clone()));
        let (notices, fetchers) = (Notices::start(), Fetchers::default());
        Self { shared, pins, copying, notices, archive, left: None, fetchers }
    }

    fn view_archive(&self) -> Option<Arc<dyn view::Archive>> {
        self.archive.clone().map(|archive| archive as Arc<dyn view::Archive>)
    }
}
