//! `sync`: clones and fetches the sources into the repo cache, once or again and again.

use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{info, warn};

use super::cli::{ConfigArgs, LogFormat};
use super::failure::{FAILED, Failure};
use super::{input, output};
use crate::control::http::{Address, HttpServer};
use crate::control::tally::Rounds;
use crate::daemon::{self, DaemonError, LogTo};
use crate::machine::confinement;
use crate::sync::Moved;
use crate::sync::cycle::{
    Cycle, Failed, RoundReport, RoundSettings, RoundStep, SourceReport, round,
};
use crate::sync::fetch::Stop;
use crate::union::object::Oid;

/// Arguments of `sync`.
#[derive(Debug, Args)]
pub struct SyncArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Do one round and exit: 0 if all of the cache is as the remotes are, else 1 (default: a round each
    /// `repoCache.interval` until SIGTERM)
    #[arg(long)]
    pub once: bool,
    /// Serve metrics and health over HTTP: PORT for this machine only, HOST:PORT or `[IPV6]:PORT`
    /// (default: `$OVERLAYFS_MOUNT_METRICS`, else nowhere)
    #[arg(long, value_name = "ADDR", conflicts_with = "once")]
    pub metrics: Option<Address>,
    /// What the messages look like: auto, text, json or journald; auto is lines for people, the others are a log
    #[arg(long, value_name = "KIND", value_enum, default_value_t = LogFormat::Auto, hide_possible_values = true)]
    pub log_format: LogFormat,
}

/// Does one round, or rounds until a signal ends them.
pub(super) fn run(arguments: &SyncArgs) -> Result<ExitCode, Failure> {
    let config = input::config(&arguments.config)?;
    let settings = RoundSettings { launch: confinement::launch, ..RoundSettings::default() };
    stop_on_signals(&settings.stop)?;
    let is_logged = start_log(arguments)?;
    let reporter = Reporter::new(!arguments.once, is_logged);
    if arguments.once {
        let report = round(&config, &settings, &|step| reporter.on_step(step))?;
        reporter.report_round(&report);
        let status = if report.is_success() { 0 } else { FAILED };
        return Ok(ExitCode::from(status));
    }
    let rounds = Arc::new(Rounds::default());
    let _http = serve(arguments, &rounds, &reporter)?;
    let mut cycle = Cycle::default();
    let mut config = config;
    let mut is_announced = false;
    while !settings.stop.is_set() {
        let outcome = cycle.round(&[&config], &settings, &|step| reporter.on_step(step));
        rounds.over(&outcome);
        match outcome {
            Ok(report) => {
                reporter.report_round(&report);
                reporter.forget_problem("round");
            }
            Err(_) if settings.stop.is_set() => break,
            Err(error) => {
                let text = format!("error: {error}\n  cure: {}\n", error.cure());
                reporter.report_problem(
                    "round",
                    text,
                    || warn!(%error, cure = error.cure(), "no round"),
                );
            }
        }
        if !is_announced {
            daemon::announce_to_systemd();
            is_announced = true;
        }
        if settings.stop.wait(cycle.pause(&config.repo_cache)) {
            break;
        }
        // What was edited meanwhile counts from the next round; a file with errors changes nothing.
        match input::config_quietly(&arguments.config) {
            Ok(anew) => {
                config = anew;
                reporter.forget_problem("configuration");
            }
            Err(failure) => reporter.report_problem("configuration", failure.text(), || {
                warn!(error = failure.message(), "the configuration stays as it was");
            }),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Serves metrics and health, where that is asked for, until what this returns is dropped.
fn serve(
    arguments: &SyncArgs,
    rounds: &Arc<Rounds>,
    reporter: &Reporter,
) -> Result<Option<HttpServer>, Failure> {
    let Some(address) = input::metrics(arguments.metrics.as_ref())? else { return Ok(None) };
    let server = HttpServer::start(&address, rounds.clone())?;
    let address = server.address();
    if reporter.is_logged {
        info!(%address, "metrics are served");
    } else {
        reporter.say(&format!("metrics are served at {address}\n"));
    }
    Ok(Some(server))
}

/// Starts the log, where there is one. True if all that is said goes there.
fn start_log(arguments: &SyncArgs) -> Result<bool, Failure> {
    let to = match arguments.log_format {
        // One round says what it does, and people see bars.
        LogFormat::Auto if arguments.once || io::stderr().is_terminal() => return Ok(false),
        LogFormat::Auto | LogFormat::Text | LogFormat::Json => LogTo::Stderr,
        LogFormat::Journald => LogTo::Journal,
    };
    input::start_log(&to, arguments.log_format)?;
    Ok(arguments.log_format != LogFormat::Auto)
}

/// Has the signals that end a program end the round instead. SIGHUP does nothing: the configuration is read for each round.
fn stop_on_signals(stop: &Stop) -> Result<(), Failure> {
    let failed = |step| move |error: io::Error| DaemonError::Start { step, error };
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP]);
    let mut signals = signals.map_err(failed("listening for signals"))?;
    let stop = stop.clone();
    let stopping = move || {
        for signal in signals.forever().filter(|signal| *signal != SIGHUP) {
            info!(signal, "stopping");
            stop.set();
        }
    };
    let started = thread::Builder::new().name("signals".into()).spawn(stopping);
    Ok(started.map(drop).map_err(failed("starting a thread"))?)
}

/// Reports rounds: by bars on a terminal, by one line a source elsewhere, or by events of a log.
struct Reporter {
    /// Whether everything goes to the log.
    is_logged: bool,
    bars: Option<MultiProgress>,
    /// The bars of the sources that are being fetched, by label.
    open: Mutex<HashMap<String, ProgressBar>>,
    /// Whether what did not change is passed over: rounds go on for days.
    is_terse: bool,
    /// The problems that are not resolved and what else is said once, each by what it is about, with what was said of it last.
    problems: Mutex<HashMap<String, String>>,
}

impl Reporter {
    fn new(is_terse: bool, is_logged: bool) -> Self {
        let bars = (!is_logged && io::stderr().is_terminal()).then(MultiProgress::new);
        Self { is_logged, bars, open: Mutex::default(), is_terse, problems: Mutex::default() }
    }

    fn on_step(&self, step: RoundStep<'_>) {
        match (step, &self.bars) {
            (RoundStep::Started { label }, Some(bars)) => {
                let bar = bars.add(ProgressBar::new_spinner());
                let style = ProgressStyle::with_template("{spinner} {prefix}  {wide_msg}");
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
                bar.set_prefix(label.to_owned());
                bar.enable_steady_tick(std::time::Duration::from_millis(120));
                let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
                open.insert(label.to_owned(), bar);
            }
            (RoundStep::Progress { label, said }, Some(_)) => {
                let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(bar) = open.get(label) {
                    bar.set_message(said.chars().filter(|c| !c.is_control()).collect::<String>());
                }
            }
            (RoundStep::Started { .. } | RoundStep::Progress { .. }, None) => {}
            (RoundStep::Finished { label, sources }, _) => {
                let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(bar) = open.remove(label) {
                    bar.finish_and_clear();
                }
                drop(open);
                for source in sources {
                    self.report_source(source);
                }
            }
        }
    }

    fn report_source(&self, source: &SourceReport) {
        let key = format!("{} {:?}", source.label, source.git_ref);
        match &source.outcome {
            Ok(moved) => {
                let is_news = self.forget_problem(&key);
                if self.is_terse && !is_news && matches!(moved, Moved::Unchanged(_)) {
                    return;
                }
                if self.is_logged {
                    info!(source = source.label, outcome = words(moved), "fetched");
                } else {
                    self.say(&format!("{}: {}\n", source.label, words(moved)));
                }
            }
            Err(failed) => {
                let text = problem_text(&format!("source `{}`", source.label), failed);
                self.report_problem(&key, text, || {
                    warn!(source = source.label, error = %failed, cure = failed.cure, "not fetched");
                });
            }
        }
    }

    fn report_round(&self, report: &RoundReport) {
        if report.sources.is_empty() {
            let text = "nothing to fetch: no source that is shown has a `repo`";
            self.report_problem("nothing", format!("{text}\n"), || info!("{text}"));
        } else {
            self.forget_problem("nothing");
        }
        match &report.ready_problem {
            Some(failed) => self.report_problem("ready file", problem_text("the ready file", failed), || {
                warn!(error = %failed, cure = failed.cure, "the ready file is not as it should be");
            }),
            None => {
                self.forget_problem("ready file");
            }
        }
    }

    /// Reports a problem of `key`, unless the same was reported last.
    fn report_problem(&self, key: &str, text: String, log: impl FnOnce()) {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        if problems.get(key) != Some(&text) {
            if self.is_logged {
                log();
            } else {
                self.say(&text);
            }
            problems.insert(key.to_owned(), text);
        }
    }

    /// Forgets the problem of `key`; true if there was one.
    fn forget_problem(&self, key: &str) -> bool {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).remove(key).is_some()
    }

    fn say(&self, text: &str) {
        let print = || anstream::stderr().write_all(text.as_bytes()).unwrap_or_default();
        match &self.bars {
            Some(bars) => bars.suspend(print),
            None => print(),
        }
    }
}

fn problem_text(what: &str, failed: &Failed) -> String {
    format!("error: {what}: {}\n  cure: {}\n", failed.cause, failed.cure)
}

fn words(moved: &Moved) -> String {
    let short = |oid: &Oid| output::short(&oid.to_string()).to_owned();
    match moved {
        Moved::Unchanged(now) => format!("unchanged at {}", short(now)),
        Moved::From(old, now) => format!("moved {} -> {}", short(old), short(now)),
        Moved::Added(now) => format!("added at {}", short(now)),
        Moved::Cloned(now) => format!("cloned at {}", short(now)),
    }
}
