//! Keeps repo caches beside mounted views: `mount --sync`, or `repoCache.sync`.
//!
//! One thread for each cache, which knows nothing of views. What it fetches moves refs, and that is what updating threads see. Views that keep
//! one cache in the same way have it kept together: each of their sources is asked for once.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tracing::{info, warn};

use super::DaemonError;
use super::guard::survived;
use crate::config::resolved::{Config, RepoCache};
use crate::control::tally::Rounds;
use crate::machine::confinement;
use crate::snapshot::Fault;
use crate::sync::cycle::{Cycle, RoundReport, RoundSettings};
use crate::sync::fetch::Stop;
use crate::sync::{Moved, labels};

/// Why sources could not be fetched, by label, as of the last round.
pub(super) type Problems = BTreeMap<String, Fault>;

/// How often whoever waits for a round looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// All caches that this process keeps.
#[derive(Debug, Clone, Default)]
pub(super) struct Fetchers(Arc<Mutex<Vec<Weak<KeptCache>>>>);

/// A cache that is kept, as others see the thread that does it.
#[derive(Debug)]
struct KeptCache {
    kept: RepoCache,
    members: Arc<Mutex<Members>>,
    rounds: Arc<Rounds>,
    requests: Option<Sender<RoundRequest>>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

/// The views for which a cache is kept.
#[derive(Debug, Default)]
struct Members {
    next: u64,
    by_id: BTreeMap<u64, CacheUser>,
}

#[derive(Debug)]
struct CacheUser {
    config: Config,
    problems: Problems,
    /// Whether a round for it is over.
    is_tried: bool,
}

/// A round, at once; somebody may wait for it.
struct RoundRequest {
    done: Option<SyncSender<()>>,
}

/// What one view has fetched, for as long as this lives.
#[derive(Debug)]
pub(super) struct Fetching {
    keeping: Arc<KeptCache>,
    id: u64,
}

impl Fetchers {
    /// Fetches what a configuration names, at once and then at each interval; nothing if it does not ask for that.
    pub(super) fn fetch(&self, config: &Config) -> Result<Option<Fetching>, DaemonError> {
        if !config.repo_cache.is_synced {
            return Ok(None);
        }
        let mut known = lock(&self.0);
        let same = |keeping: &Arc<KeptCache>| keeping.kept == config.repo_cache;
        if let Some(keeping) = known.iter().find_map(|known| known.upgrade().filter(same)) {
            let id = lock(&keeping.members).join(config);
            let fetching = Fetching { keeping, id };
            fetching.ask(None);
            return Ok(Some(fetching));
        }
        let mut members = Members::default();
        let id = members.join(config);
        let keeping = Arc::new(KeptCache::start(config.repo_cache.clone(), members)?);
        known.retain(|keeping| keeping.strong_count() > 0);
        known.push(Arc::downgrade(&keeping));
        Ok(Some(Fetching { keeping, id }))
    }

    /// The same for another configuration of the same view.
    pub(super) fn follow(
        &self,
        before: Option<Fetching>,
        config: &Config,
    ) -> Result<Option<Fetching>, DaemonError> {
        match before {
            Some(before) if before.keeping.kept == config.repo_cache => {
                before.put(config);
                Ok(Some(before))
            }
            // It goes only when the other one is there: the cache may be the same.
            before => self.fetch(config).inspect(|_| drop(before)),
        }
    }
}

impl Fetching {
    /// Fetches now, and waits until that is done, or until `stop` asks not to.
    pub(super) fn round(&self, stop: &Stop) {
        let (done, is_done) = mpsc::sync_channel(1);
        self.ask(Some(done));
        // Also when the thread has ended: nothing will be fetched any more.
        while is_done.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) && !stop.is_set() {}
    }

    /// What could not be fetched in the last round.
    pub(super) fn problems(&self) -> Problems {
        let members = lock(&self.keeping.members);
        members.by_id.get(&self.id).map(|member| member.problems.clone()).unwrap_or_default()
    }

    /// Whether this is what it fetches for.
    pub(super) fn is_of(&self, config: &Config) -> bool {
        let members = lock(&self.keeping.members);
        members.by_id.get(&self.id).is_some_and(|member| member.config == *config)
    }

    /// Whether a round for it is over.
    pub(super) fn has_tried(&self) -> bool {
        let members = lock(&self.keeping.members);
        members.by_id.get(&self.id).is_none_or(|member| member.is_tried)
    }

    /// What the rounds came to.
    pub(super) fn rounds(&self) -> Arc<Rounds> {
        self.keeping.rounds.clone()
    }

    fn put(&self, config: &Config) {
        if let Some(member) = lock(&self.keeping.members).by_id.get_mut(&self.id) {
            member.config = config.clone();
        }
    }

    fn ask(&self, done: Option<SyncSender<()>>) {
        if let Some(requests) = &self.keeping.requests {
            // Whoever waits learns from the end of the channel that nobody is there.
            requests.send(RoundRequest { done }).unwrap_or_default();
        }
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        lock(&self.keeping.members).by_id.remove(&self.id);
    }
}

impl Members {
    fn join(&mut self, config: &Config) -> u64 {
        self.next += 1;
        let member =
            CacheUser { config: config.clone(), problems: Problems::new(), is_tried: false };
        self.by_id.insert(self.next, member);
        self.next
    }
}

impl KeptCache {
    fn start(kept: RepoCache, members: Members) -> Result<Self, DaemonError> {
        let settings = RoundSettings { launch: confinement::launch, ..RoundSettings::default() };
        let stop = settings.stop.clone();
        let (members, rounds) = (Arc::new(Mutex::new(members)), Arc::<Rounds>::default());
        let (sender, requests) = mpsc::channel();
        let fetcher = Fetcher {
            kept: kept.clone(),
            settings,
            cycle: Cycle::default(),
            members: members.clone(),
            rounds: rounds.clone(),
        };
        let thread = thread::Builder::new()
            .name("fetch".into())
            .spawn(move || fetcher.run(&requests))
            .map_err(|error| DaemonError::Start { step: "starting a thread", error })?;
        Ok(Self { kept, members, rounds, requests: Some(sender), stop, thread: Some(thread) })
    }
}

impl Drop for KeptCache {
    fn drop(&mut self) {
        self.stop.set();
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap_or_default();
        }
    }
}

struct Fetcher {
    kept: RepoCache,
    settings: RoundSettings,
    cycle: Cycle,
    members: Arc<Mutex<Members>>,
    rounds: Arc<Rounds>,
}

impl Fetcher {
    fn run(mut self, requests: &Receiver<RoundRequest>) {
        self.round();
        loop {
            match requests.recv_timeout(self.cycle.pause(&self.kept)) {
                Ok(first) => {
                    // Views that come at once are fetched for at once.
                    let asked: Vec<_> = [first].into_iter().chain(requests.try_iter()).collect();
                    if asked.iter().any(|request| request.done.is_some()) {
                        self.cycle.leave_none_alone();
                    }
                    self.round();
                    for done in asked.into_iter().filter_map(|request| request.done) {
                        // Whoever waited may have gone away.
                        done.send(()).unwrap_or_default();
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.round(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn round(&mut self) {
        survived("fetching", || self.fetch());
    }

    fn fetch(&mut self) {
        let members: Vec<_> = {
            let members = lock(&self.members);
            members.by_id.iter().map(|(id, member)| (*id, member.config.clone())).collect()
        };
        let configs: Vec<_> = members.iter().map(|(_, config)| config).collect();
        let outcome = self.cycle.round(&configs, &self.settings, &|_step| {});
        self.rounds.over(&outcome);
        let mut found = vec![Problems::new(); members.len()];
        match outcome {
            Ok(report) => problems(&report, &mut found),
            Err(error) => {
                let said = Fault { error: error.to_string(), cure: Some(error.cure()) };
                for (problems, config) in found.iter_mut().zip(&configs) {
                    let shown: Vec<_> = config.shown_sources().collect();
                    let labels = labels(&shown).into_iter();
                    *problems = labels.map(|label| (label, said.clone())).collect();
                }
            }
        }
        let mut known = lock(&self.members);
        for ((id, _), problems) in members.iter().zip(found) {
            let Some(member) = known.by_id.get_mut(id) else { continue };
            for (source, problem) in &problems {
                if member.problems.get(source) != Some(problem) {
                    warn!(source, "not fetched: {problem}");
                }
            }
            member.problems = problems;
            member.is_tried = true;
        }
    }
}

/// Says what moved, and collects what failed, by the positions of the configurations.
fn problems(report: &RoundReport, found: &mut [Problems]) {
    for source in &report.sources {
        match &source.outcome {
            Ok(Moved::Unchanged(_)) => {}
            Ok(moved) => info!(source = source.label, ?moved, "fetched"),
            Err(failed) => {
                let (error, cure) = (failed.cause.to_string(), failed.cure.clone());
                let said = Fault { error, cure: Some(cure) };
                if let Some(problems) = found.get_mut(source.of) {
                    problems.insert(source.label.clone(), said);
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
