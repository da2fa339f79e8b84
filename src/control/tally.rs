//! What a process counts of its own doing, for those who observe it. Counting costs an atomic addition.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{Histogram, HistogramOpts};

use super::http::Observed;
use super::metrics::{self, Page, float};
use crate::sync::cycle::{RoundError, RoundReport};

/// A number that grows.
#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> f64 {
        float(self.0.load(Ordering::Relaxed))
    }
}

/// When something happened last, to the millisecond; 0 before the first time.
#[derive(Debug, Default)]
struct LastTime(AtomicU64);

impl LastTime {
    fn set_now(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.0.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// In seconds since 1970.
    fn get(&self) -> f64 {
        float(self.0.load(Ordering::Relaxed)) / 1000.0
    }
}

/// What keeping a view up to date came to.
#[derive(Debug)]
pub struct Tally {
    flips: Counter,
    durations: Histogram,
    changed_names: Counter,
    rebuilds: Counter,
    rebuild_failures: Counter,
    look: LastTime,
    /// Whether the next set could not be built.
    is_behind: AtomicBool,
    /// Whether the configuration could not be read.
    has_wrong_config: AtomicBool,
}

/// The upper bounds of the durations of flips, in seconds.
const DURATIONS: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

impl Default for Tally {
    fn default() -> Self {
        let metric = metrics::FLIP_DURATION;
        let options = HistogramOpts::new(metric.name, metric.help).buckets(DURATIONS.to_vec());
        Self {
            flips: Counter::default(),
            durations: Histogram::with_opts(options).expect("the name is valid, the bounds grow"),
            changed_names: Counter::default(),
            rebuilds: Counter::default(),
            rebuild_failures: Counter::default(),
            look: LastTime::default(),
            is_behind: AtomicBool::new(false),
            has_wrong_config: AtomicBool::new(false),
        }
    }
}

impl Tally {
    /// Another set took the place of the current one.
    pub fn flipped(&self, took: Duration, changed_names: usize) {
        self.flips.add(1);
        self.durations.observe(took.as_secs_f64());
        self.changed_names.add(changed_names as u64);
    }

    /// Something had moved, and was followed or not.
    pub fn rebuilt(&self, is_success: bool) {
        self.rebuilds.add(1);
        self.rebuild_failures.add(u64::from(!is_success));
        self.is_behind.store(!is_success, Ordering::Relaxed);
        self.looked();
    }

    /// The configuration was read anew, or could not be: then nothing is built.
    pub fn configured(&self, is_success: bool) {
        self.rebuilds.add(u64::from(!is_success));
        self.rebuild_failures.add(u64::from(!is_success));
        self.has_wrong_config.store(!is_success, Ordering::Relaxed);
    }

    /// There was a look. It counts only while nothing that moved is left behind.
    pub fn looked(&self) {
        let behind = [&self.is_behind, &self.has_wrong_config];
        if !behind.iter().any(|is_behind| is_behind.load(Ordering::Relaxed)) {
            self.look.set_now();
        }
    }

    /// Writes all of it.
    pub fn write(&self, page: &mut Page) {
        page.one(&metrics::LOOK, self.look.get());
        page.one(&metrics::REBUILDS, self.rebuilds.get());
        page.one(&metrics::REBUILD_FAILURES, self.rebuild_failures.get());
        page.one(&metrics::FLIPS, self.flips.get());
        page.histogram(&metrics::FLIP_DURATION, &self.durations);
        page.one(&metrics::CHANGED_NAMES, self.changed_names.get());
    }
}

/// What keeping a repo cache came to.
#[derive(Debug, Default)]
pub struct Rounds {
    successes: Counter,
    failures: Counter,
    success: LastTime,
    is_first_over: AtomicBool,
    /// Whether each source failed in the last round, by label.
    sources: Mutex<BTreeMap<String, bool>>,
}

impl Rounds {
    /// A round is over.
    pub fn over(&self, outcome: &Result<RoundReport, RoundError>) {
        if let Ok(report) = outcome {
            let mut sources = BTreeMap::new();
            for source in &report.sources {
                *sources.entry(source.label.clone()).or_default() |= source.outcome.is_err();
            }
            *self.sources.lock().unwrap_or_else(PoisonError::into_inner) = sources;
        }
        if outcome.as_ref().is_ok_and(RoundReport::is_success) {
            self.successes.add(1);
            self.success.set_now();
        } else {
            self.failures.add(1);
        }
        self.is_first_over.store(true, Ordering::Release);
    }

    /// Whether a round has ended, well or not.
    pub fn is_first_over(&self) -> bool {
        self.is_first_over.load(Ordering::Acquire)
    }

    /// Writes what names no source.
    pub fn write(&self, page: &mut Page) {
        let outcomes = [("success", &self.successes), ("failure", &self.failures)];
        let outcomes = outcomes.map(|(outcome, count)| (vec![outcome.to_owned()], count.get()));
        page.each(&metrics::ROUNDS, outcomes);
        page.one(&metrics::ROUND_SUCCESS, self.success.get());
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = sources.values().filter(|has_failed| **has_failed).count();
        page.one(&metrics::FETCH_FAILED, float(failed as u64));
    }
}

/// `sync`: it lives while it answers, and is ready once a round was a success.
impl Observed for Rounds {
    fn metrics(&self) -> Page {
        let mut page = Page::new();
        self.write(&mut page);
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = sources.iter().map(|(source, has_failed)| {
            (vec![source.clone()], if *has_failed { 1.0 } else { 0.0 })
        });
        page.each(&metrics::FETCH_SOURCE_FAILED, failed);
        page
    }

    fn health(&self) -> Result<(), String> {
        Ok(())
    }

    fn readiness(&self) -> Result<(), String> {
        if self.successes.get() > 0.0 {
            return Ok(());
        }
        Err("no round was a success yet".to_owned())
    }
}
