//! Keeping the repo cache: one round over all sources, and one round after the other.
//!
//! The lock of the cache is held for a round, so that two who keep one cache take turns. Sources are fetched side by side;
//! one that fails keeps what it has and does not hold up the rest.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use thiserror::Error;

use super::fetch::{FetchCause, Git, GitLaunch, Stop, as_itself};
use super::lock::lock;
use super::mirror::{MirrorUpdater, Moved};
use super::parallel::in_parallel;
use super::places::MirrorPlaces;
use super::ready;
use super::signals::Stamp;
use super::wanted::{Mirror, wanted};
use crate::config::resolved::{Config, RepoCache};
use crate::union::source::{SourceName, Visibility};

/// The longest that a source which keeps failing is left alone, unless the interval is longer.
const BACK_OFF_MAX: Duration = Duration::from_secs(10 * 60);

/// How rounds are done, apart from what the configuration says.
#[derive(Debug, Clone)]
pub struct RoundSettings {
    /// The `git` program.
    pub git: PathBuf,
    /// How it is started.
    pub launch: GitLaunch,
    /// So many repositories are fetched at once.
    pub parallel: usize,
    /// The most time that fetching one repository may take.
    pub fetch_timeout: Duration,
    /// The most time that a remote may take to say what it has.
    pub answer_timeout: Duration,
    /// How long another's round is waited for.
    pub lock_timeout: Duration,
    /// Ends a round, and the pause between two, early.
    pub stop: Stop,
}

impl Default for RoundSettings {
    fn default() -> Self {
        Self {
            git: PathBuf::from("git"),
            launch: as_itself,
            parallel: 8,
            fetch_timeout: Duration::from_secs(15 * 60),
            answer_timeout: Duration::from_secs(60),
            lock_timeout: Duration::from_secs(60),
            stop: Stop::default(),
        }
    }
}

/// What is told of a round while it goes on. Sources that share a repository are told of together.
#[derive(Debug)]
pub enum RoundStep<'a> {
    /// A repository is asked for.
    Started {
        /// The label of its first source.
        label: &'a str,
    },
    /// Git says how far it is.
    Progress {
        /// The label of its first source.
        label: &'a str,
        /// What git said, one line.
        said: &'a str,
    },
    /// A repository is done.
    Finished {
        /// The label of its first source.
        label: &'a str,
        /// All its sources.
        sources: &'a [SourceReport],
    },
}

/// What came of a round.
#[derive(Debug, Clone)]
pub struct RoundReport {
    /// What came of each source, and of each other repository that the platform keeps.
    pub sources: Vec<SourceReport>,
    /// Why the ready file could not be written or taken away.
    pub ready_problem: Option<Failed>,
}

impl RoundReport {
    /// True if all of the cache is as the remotes are.
    pub fn is_success(&self) -> bool {
        let has_failed = |source: &SourceReport| source.outcome.is_err();
        !self.sources.iter().any(has_failed) && self.ready_problem.is_none()
    }
}

/// What came of one source.
#[derive(Debug, Clone)]
pub struct SourceReport {
    /// What commands call it.
    pub label: String,
    /// Its ref as configured.
    pub git_ref: Option<String>,
    /// Its mirror in the cache.
    pub mirror: PathBuf,
    /// The position of its configuration among those of the round.
    pub of: usize,
    /// Where it went.
    pub outcome: Result<Moved, Failed>,
}

/// Why something failed, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{cause}")]
pub struct Failed {
    /// What is wrong.
    pub cause: FetchCause,
    /// What to do.
    pub cure: String,
}

/// Why there was no round at all.
#[derive(Debug, Clone, Error)]
pub enum RoundError {
    /// Another is at it, and went on for longer than we wait.
    #[error("the repo cache `{}` is being synced by {holder}", cache.display())]
    Locked {
        /// The cache.
        cache: PathBuf,
        /// Who holds its lock.
        holder: String,
    },
    /// The cache cannot be written to.
    #[error("the repo cache: {cause}")]
    Cache {
        /// What is wrong.
        cause: FetchCause,
        /// What to do.
        cure: String,
    },
}

impl RoundError {
    /// What to do about it.
    pub fn cure(&self) -> String {
        match self {
            Self::Locked { .. } => {
                "wait for it, or end that process: it is unlocked as soon as it ends".to_owned()
            }
            Self::Cache { cure, .. } => cure.clone(),
        }
    }
}

/// Fetches every source once.
///
/// # Errors
/// The cache cannot be locked or written to; nothing was touched then. What a source lacks is in the report.
pub fn round(
    config: &Config,
    settings: &RoundSettings,
    watch: &(dyn Fn(RoundStep<'_>) + Sync),
) -> Result<RoundReport, RoundError> {
    Cycle::default().round(&[config], settings, watch)
}

/// Rounds one after the other. A source that fails is asked less and less often.
#[derive(Debug, Default)]
pub struct Cycle {
    failing: HashMap<RepositoryKey, Failing>,
}

type RepositoryKey = (SourceName, Visibility);

/// A repository that failed in the last round that asked for it.
#[derive(Debug)]
struct Failing {
    times: u32,
    again_at: Instant,
    /// What it was asked with: anew whenever the configuration of the repository or the file of the token changes.
    asked_with: String,
    sources: Vec<SourceReport>,
}

impl Cycle {
    /// Fetches every source of these configurations, which keep one cache, that is due; of the others the last failure is reported again.
    ///
    /// # Errors
    /// As of [`round`].
    pub fn round(
        &mut self,
        configs: &[&Config],
        settings: &RoundSettings,
        watch: &(dyn Fn(RoundStep<'_>) + Sync),
    ) -> Result<RoundReport, RoundError> {
        let Some(first) = configs.first() else {
            return Ok(RoundReport { sources: Vec::new(), ready_problem: None });
        };
        let kept = &first.repo_cache;
        let cache = kept.path.as_path();
        let lock = lock(cache, settings)?;
        let token_file = kept.token_file.as_path();
        let updater = MirrorUpdater {
            cache,
            git: Git { program: &settings.git, launch: settings.launch, lock: &lock, token_file },
            fetch_timeout: settings.fetch_timeout,
            answer_timeout: settings.answer_timeout,
            stop: &settings.stop,
            wants_history: configs.iter().any(|config| config.mount.shows_git),
        };
        let mirrors = wanted(configs);
        let (now, token) = (Instant::now(), Stamp::of(token_file));
        let is_due = |mirror: &Mirror| match self.failing.get(&key(mirror)) {
            Some(failing) => {
                failing.again_at <= now || failing.asked_with != asked_with(mirror, token)
            }
            None => true,
        };
        let due: Vec<&Mirror> = mirrors.iter().filter(|mirror| is_due(mirror)).collect();
        let done = in_parallel(&due, settings.parallel, |_, mirror| {
            report(&updater, mirror, token_file, watch)
        });
        let mut done: HashMap<RepositoryKey, Vec<SourceReport>> =
            due.iter().map(|mirror| key(mirror)).zip(done).collect();
        let mut sources = Vec::new();
        let mut failing = HashMap::new();
        for mirror in &mirrors {
            let key = key(mirror);
            let before = self.failing.remove(&key);
            let now_failing = match done.remove(&key) {
                Some(reports) => {
                    sources.extend(reports.iter().cloned());
                    let times = before.map_or(0, |failing| failing.times) + 1;
                    let asked_with = asked_with(mirror, token);
                    Failing::of(asked_with, reports, times, kept.interval)
                }
                None => before.inspect(|failing| sources.extend(failing.sources.iter().cloned())),
            };
            failing.extend(now_failing.map(|failing| (key, failing)));
        }
        self.failing = failing;
        let mut report = RoundReport { sources, ready_problem: None };
        if !settings.stop.is_set() {
            report.ready_problem = tell_ready(configs, kept, report.is_success()).err();
        }
        Ok(report)
    }

    /// Has the next round ask for all sources: somebody waits for it, who may have mended what failed.
    pub fn leave_none_alone(&mut self) {
        let now = Instant::now();
        self.failing.values_mut().for_each(|failing| failing.again_at = now);
    }

    /// How long to wait for the next round: the interval, up to a tenth less or more, so that machines that were started
    /// together do not ask together.
    pub fn pause(&self, kept: &RepoCache) -> Duration {
        jitter(kept.interval)
    }
}

impl Failing {
    /// `None` if all went well.
    fn of(
        asked_with: String,
        sources: Vec<SourceReport>,
        times: u32,
        interval: Duration,
    ) -> Option<Self> {
        if sources.iter().all(|source| source.outcome.is_ok()) {
            return None;
        }
        let factor = 2_u32.saturating_pow(times.saturating_sub(1));
        let pause = interval.saturating_mul(factor).min(BACK_OFF_MAX.max(interval));
        // A little less, so that the first time is the next round.
        let again_at = Instant::now() + jitter(pause).mul_f64(0.8);
        Some(Self { times, again_at, asked_with, sources })
    }
}

fn asked_with(mirror: &Mirror, token: Stamp) -> String {
    format!("{mirror:?} {token:?}")
}

fn key(mirror: &Mirror) -> RepositoryKey {
    (mirror.repo.clone(), mirror.visibility)
}

/// A time up to a tenth shorter or longer.
fn jitter(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(()) % 2_000;
    pause.mul_f64(0.9 + f64::from(u32::try_from(random).unwrap_or(0)) / 10_000.0)
}

/// Brings one repository up to date and says what came of it.
fn report(
    updater: &MirrorUpdater<'_>,
    mirror: &Mirror,
    token_file: &Path,
    watch: &(dyn Fn(RoundStep<'_>) + Sync),
) -> Vec<SourceReport> {
    let label = mirror.wants.first().map_or("", |want| want.label.as_str());
    watch(RoundStep::Started { label });
    let hear = |piece: &[u8]| {
        let text = String::from_utf8_lossy(piece);
        let mut lines = text.split(['\r', '\n']).map(str::trim);
        if let Some(said) = lines.rfind(|line| line.contains('%')) {
            watch(RoundStep::Progress { label, said });
        }
    };
    let started = Instant::now();
    let outcomes = match updater.update(mirror, &hear) {
        Ok(outcomes) => outcomes,
        Err(cause) => vec![Err(cause); mirror.wants.len()],
    };
    let place = MirrorPlaces::of(updater.cache, mirror).mirror;
    let reports = mirror.wants.iter().zip(outcomes).map(|(want, outcome)| SourceReport {
        label: want.label.clone(),
        git_ref: want.git_ref.clone(),
        mirror: place.clone(),
        of: want.of,
        outcome: outcome.map_err(|cause| {
            let cure = cause.cure(&want.configured_at, token_file);
            Failed { cause, cure }
        }),
    });
    let reports: Vec<_> = reports.collect();
    for source in &reports {
        let took = started.elapsed();
        tracing::debug!(source = source.label, outcome = ?source.outcome, ?took, "synced");
    }
    watch(RoundStep::Finished { label, sources: &reports });
    reports
}

/// Writes the ready file, or takes it away.
fn tell_ready(configs: &[&Config], kept: &RepoCache, is_ready: bool) -> Result<(), Failed> {
    let cache = &kept.path;
    let told = if is_ready {
        ready::write(cache, configs, Timestamp::now())
    } else {
        ready::remove(cache).map_err(|error| FetchCause::of_cache(cache, &error))
    };
    told.map_err(|cause| {
        let cure = cause.cure("", &kept.token_file);
        Failed { cause, cure }
    })
}
