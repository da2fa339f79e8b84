//! Keeps the repo cache beside a mounted view: `mount --sync`, or `repoCache.sync`.
//!
//! One thread, which knows nothing of the view. What it fetches moves refs, and that is what the updating thread sees.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use tracing::{info, warn};

use super::DaemonError;
use super::guard::survived;
use crate::config::resolved::Config;
use crate::control::tally::Rounds;
use crate::machine::confinement;
use crate::sync::Moved;
use crate::sync::cycle::{Cycle, RoundReport, Settings};
use crate::sync::fetch::Stop;

/// Why sources could not be fetched, by label, as of the last round.
pub(super) type Problems = BTreeMap<String, String>;

/// A round that somebody waits for.
struct Request {
    config: Box<Config>,
    done: SyncSender<()>,
}

/// The thread that fetches, as others see it.
#[derive(Debug)]
pub(super) struct Fetching {
    requests: Option<Sender<Request>>,
    problems: Arc<Mutex<Problems>>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Fetching {
    /// Starts fetching, at once and then at each interval.
    pub(super) fn start(config: Config, rounds: Arc<Rounds>) -> Result<Self, DaemonError> {
        let settings = Settings { launch: confinement::launch, ..Settings::default() };
        let stop = settings.stop.clone();
        let problems = Arc::new(Mutex::new(Problems::new()));
        let (sender, requests) = mpsc::channel();
        let fetcher = Fetcher {
            config,
            settings,
            cycle: Cycle::default(),
            problems: problems.clone(),
            rounds,
        };
        let thread = thread::Builder::new()
            .name("fetch".into())
            .spawn(move || fetcher.run(&requests))
            .map_err(|error| DaemonError::Start { step: "starting a thread", error })?;
        Ok(Self { requests: Some(sender), problems, stop, thread: Some(thread) })
    }

    /// Fetches with this configuration now, and waits until that is done.
    pub(super) fn round(&self, config: Config) {
        let (done, is_done) = mpsc::sync_channel(1);
        let request = Request { config: Box::new(config), done };
        let sent = self.requests.as_ref().map(|requests| requests.send(request));
        if matches!(sent, Some(Ok(()))) {
            // An error means that the thread has ended: nothing will be fetched any more.
            is_done.recv().unwrap_or_default();
        }
    }

    /// What could not be fetched in the last round.
    pub(super) fn problems(&self) -> Problems {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.stop.set();
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap_or_default();
        }
    }
}

struct Fetcher {
    config: Config,
    settings: Settings,
    cycle: Cycle,
    problems: Arc<Mutex<Problems>>,
    rounds: Arc<Rounds>,
}

impl Fetcher {
    fn run(mut self, requests: &Receiver<Request>) {
        self.round();
        loop {
            match requests.recv_timeout(self.cycle.pause(&self.config)) {
                Ok(Request { config, done }) => {
                    self.config = *config;
                    self.cycle.leave_none_alone();
                    self.round();
                    // Whoever waited may have gone away.
                    done.send(()).unwrap_or_default();
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
        let outcome = self.cycle.round(&self.config, &self.settings, &|_step| {});
        self.rounds.over(&outcome);
        let problems = match outcome {
            Ok(report) => problems(&report),
            Err(error) => {
                let said = format!("{error}; cure: {}", error.cure());
                let shown = self.config.shown_sources();
                shown.map(|source| (source.name.to_string(), said.clone())).collect()
            }
        };
        let mut known = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        for (source, problem) in &problems {
            if known.get(source) != Some(problem) {
                warn!(source, "not fetched: {problem}");
            }
        }
        *known = problems;
    }
}

/// Says what moved, and collects what failed.
fn problems(report: &RoundReport) -> Problems {
    let mut problems = Problems::new();
    for source in &report.sources {
        match &source.outcome {
            Ok(Moved::Unchanged(_)) => {}
            Ok(moved) => info!(source = source.label, ?moved, "fetched"),
            Err(failed) => {
                let said = format!("{}; cure: {}", failed.cause, failed.cure);
                problems.insert(source.label.clone(), said);
            }
        }
    }
    problems
}
