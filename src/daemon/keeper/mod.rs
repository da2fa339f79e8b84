//! The keeper of a mount: mounts, holds the descriptor of the kernel, and has a worker serve the view. When a worker dies, the next one
//! goes on with the same descriptor, and whoever uses the mount notices a short wait.
//!
//! It reads nothing that comes from sources or from requests. All that happens reaches it over one channel, and it acts in one thread.

mod broker;
mod deaths;
mod end;
mod hang;
mod kept;
mod signals;
mod store;
mod succession;

use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGTERM};
use tracing::{info, warn};

use self::broker::Broker;
use self::deaths::Toll;
use self::kept::{KeptMount, KeptPlan};
use crate::config::CONFIG_VARIABLE;
use crate::daemon::DaemonError;
use crate::daemon::attach::{attach, clear_stale, raise_read_ahead};
use crate::daemon::configuration::config_file;
use crate::daemon::start::Plan;
use crate::daemon::stop::{Stopped, signal_name};
use crate::daemon::views::ViewsPlan;
use crate::machine::answer::Asked;
use crate::machine::confinement;
use crate::machine::keeper::{Word, journal_file};
use crate::machine::mountpoint::Claim;
use crate::machine::oom::OomKills;
use crate::machine::worker::{Fate, ToKeep, Worker, Workshop};

/// How long a worker may be stopped, as by SIGSTOP, before another one takes its place: nobody is answered meanwhile.
const STOPPED: Duration = Duration::from_millis(500);

/// What may happen.
enum Event {
    Signal(i32),
    /// A worker of this number says something.
    Said(u32, Word),
    /// A worker made a mount, which is to be kept.
    ToKeep(ToKeep),
    /// Nobody was answered for so long.
    Unanswered(Duration),
}

/// Has the views of a directory served by workers, which mount them, until a signal ends that. `ready` is called when all that can be
/// shown are.
///
/// # Errors
/// No view can be shown, or `ready` failed: then nothing is mounted.
pub fn keep_views(
    plan: &ViewsPlan,
    ready: impl FnOnce() -> Result<(), DaemonError>,
) -> Result<Stopped, DaemonError> {
    confinement::no_core_dumps();
    let (sender, events) = mpsc::channel();
    signals::listen(&sender)?;
    let mounts = store::left(KeptPlan::Views(plan));
    let mut keeping = Keeping::new(KeptPlan::Views(plan), sender, Vec::new(), mounts)?;
    let started = keeping.start_broker().and_then(|()| keeping.start());
    let outcome = started.and_then(|()| keeping.run(&events, ready));
    keeping.clear();
    outcome
}

/// Mounts a view and has it served by workers, until it is unmounted or a signal ends it. `ready` is called when it can be read.
///
/// # Errors
/// This machine does not let us mount, or `ready` failed: then nothing is mounted.
pub fn keep(
    plan: &Plan,
    ready: impl FnOnce() -> Result<(), DaemonError>,
) -> Result<Stopped, DaemonError> {
    confinement::no_core_dumps();
    let (sender, events) = mpsc::channel();
    signals::listen(&sender)?;
    let mounts = store::left(KeptPlan::One(plan));
    if mounts.is_empty() {
        clear_stale(&plan.mountpoint)?;
    }
    let claim = Claim::make(&plan.mountpoint)?;
    let mut keeping = Keeping::new(KeptPlan::One(plan), sender, environment(plan), mounts)?;
    let outcome = keeping.start().and_then(|()| keeping.run(&events, ready));
    keeping.clear();
    claim.release();
    outcome
}

/// What workers find the file of the configuration by, also where it is gone and was found by its place.
fn environment(plan: &Plan) -> Vec<(&'static str, OsString)> {
    let file = config_file(&plan.config.origin);
    file.map(|file| (CONFIG_VARIABLE, file.into_os_string())).into_iter().collect()
}

struct Keeping<'a> {
    what: KeptPlan<'a>,
    sender: Sender<Event>,
    workshop: Workshop,
    mounts: Vec<KeptMount>,
    /// The journal of the mount that was given up last, until another one is served: it has the configuration that was served.
    past: Option<File>,
    /// Where it is asked whether anybody answers.
    watched: Vec<(PathBuf, Option<Asked>)>,
    /// Who mounts for workers, where they cannot.
    broker: Option<Broker>,
    /// Who serves the view, or is about to.
    worker: Option<Serving>,
    /// Who is about to take the place of who serves, and its program where that is another.
    successor: Option<(Worker, Option<File>)>,
    /// Whether the view could ever be read.
    has_served: bool,
    /// Whether the worker's program has not served yet, and the one before it has.
    is_on_trial: bool,
    /// How many workers in a row have died soon.
    toll: Toll,
    /// What is to be done at a certain time.
    due: Option<(Instant, Due)>,
    /// The signal that asked for the end.
    is_stopping: Option<i32>,
    /// How many workers were killed because they answered nobody.
    hangs: u32,
    /// Who was killed for lack of memory.
    oom_kills: OomKills,
}

struct Serving {
    worker: Worker,
    /// Since when it has answered the kernel.
    since: Option<Instant>,
}

/// What is to be done at a certain time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// Start a worker.
    Start,
    /// Kill the worker: it has been stopped for too long.
    KillStopped,
    /// Cut off those who still hold the mount.
    Abort,
    /// Kill the worker: its connection is gone.
    Kill,
}

impl<'a> Keeping<'a> {
    fn new(
        what: KeptPlan<'a>,
        sender: Sender<Event>,
        environment: Vec<(&'static str, OsString)>,
        mounts: Vec<KeptMount>,
    ) -> Result<Self, DaemonError> {
        Ok(Self {
            what,
            sender,
            workshop: Workshop::of_this_process(environment)?,
            has_served: !mounts.is_empty(),
            mounts,
            past: None,
            watched: Vec::new(),
            broker: None,
            worker: None,
            successor: None,
            is_on_trial: false,
            toll: Toll::default(),
            due: None,
            is_stopping: None,
            hangs: 0,
            oom_kills: OomKills::from_now_on(),
        })
    }
}

impl Keeping<'_> {
    fn run(
        &mut self,
        events: &Receiver<Event>,
        ready: impl FnOnce() -> Result<(), DaemonError>,
    ) -> Result<Stopped, DaemonError> {
        let mut ready = Some(ready);
        loop {
            let event = match self.wakes_at() {
                None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => events.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            let stopped = match event {
                Ok(Event::Said(pid, Word::Ready)) => {
                    self.is_ready(pid, &mut ready)?;
                    None
                }
                Ok(Event::Said(pid, word)) => {
                    self.heard(pid, word)?;
                    None
                }
                Ok(Event::ToKeep(mount)) => {
                    self.keep(mount);
                    None
                }
                Ok(Event::Unanswered(waited)) => {
                    self.is_unanswered(waited);
                    None
                }
                Ok(Event::Signal(SIGCHLD)) => self.look_after(),
                Ok(Event::Signal(SIGHUP)) => {
                    self.signal(Signal::SIGHUP);
                    None
                }
                Ok(Event::Signal(signal)) => {
                    self.stop(signal)?;
                    None
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.do_what_is_due();
                    None
                }
                // This side holds a sender.
                Err(RecvTimeoutError::Disconnected) => Some(Stopped::Unmounted),
            };
            if let Some(stopped) = stopped.or_else(|| self.has_nobody_to_end()) {
                return Ok(stopped);
            }
        }
    }

    fn start(&mut self) -> Result<(), DaemonError> {
        self.drop_what_nobody_takes_over();
        // Others may have lacked memory before.
        self.oom_kills.is_new();
        let worker = self.workshop.start(self.turn())?;
        let worker = self.listened_to(worker)?;
        self.worker = Some(Serving { worker, since: None });
        Ok(())
    }

    /// Hears what a worker says from now on; one that nobody can hear ends.
    fn listened_to(&self, worker: Worker) -> Result<Worker, DaemonError> {
        let (sender, pid) = (self.sender.clone(), worker.pid());
        let hear = move |word, mount: Option<ToKeep>| {
            let event = mount.map_or(Event::Said(pid, word), Event::ToKeep);
            sender.send(event).unwrap_or_default();
        };
        match worker.listen(hear) {
            Ok(()) => Ok(worker),
            Err(error) => {
                worker.end();
                Err(error.into())
            }
        }
    }

    fn heard(&mut self, pid: u32, word: Word) -> Result<(), DaemonError> {
        match word {
            Word::Mount => self.mount(),
            Word::Next => {
                self.promote(pid);
                self.hand_over();
                Ok(())
            }
            Word::Past => {
                if let Some(serving) = &self.worker {
                    serving.worker.hand_past(self.past.as_ref());
                }
                Ok(())
            }
            Word::Anew if self.is_on_trial => {
                warn!("the new program cannot go on with the mount: the old one does");
                Ok(())
            }
            Word::Anew => {
                warn!(
                    "the mount cannot be gone on with: it is made anew, and who holds the old one gets errors"
                );
                self.drop_mount();
                Ok(())
            }
            Word::Stop => self.stop(SIGTERM),
            Word::Broker => {
                self.hand_line(pid);
                Ok(())
            }
            Word::Replace | Word::Widen => {
                self.replace(word == Word::Replace);
                Ok(())
            }
            // Handled where they are heard.
            Word::Ready | Word::Keep => Ok(()),
        }
    }

    /// Mounts for a worker that has built its view.
    fn mount(&mut self) -> Result<(), DaemonError> {
        // Who serves many views mounts by itself.
        let KeptPlan::One(plan) = self.what else { return Ok(()) };
        let attached = attach(plan)?;
        let journal = journal_file(&plan.config.state.dir)?;
        let connection = attached.mounter.connection();
        let mount = KeptMount { device: attached.fd, journal, connection };
        store::put(self.what, &mount);
        self.mounts = vec![mount];
        if let Some(undo) = attached.undo {
            // From here on `clear` takes it away.
            undo.disarm();
        }
        self.hand_over();
        Ok(())
    }

    fn hand_over(&mut self) {
        if let KeptPlan::Views(_) = self.what {
            self.forget_those_that_ended();
        }
        let Some(serving) = &self.worker else { return };
        for mount in &self.mounts {
            if let Err(error) = serving.worker.hand(&mount.device, &mount.journal) {
                warn!(%error, "the worker did not take the mount");
                // It would wait for the mount; its end is noticed.
                return serving.worker.signal(Signal::SIGKILL);
            }
        }
        serving.worker.end_of_mounts();
    }

    fn is_ready(
        &mut self,
        pid: u32,
        ready: &mut Option<impl FnOnce() -> Result<(), DaemonError>>,
    ) -> Result<(), DaemonError> {
        let Some(serving) = self.worker.as_mut().filter(|serving| serving.worker.pid() == pid)
        else {
            return Ok(());
        };
        serving.since = Some(Instant::now());
        (self.has_served, self.is_on_trial, self.past) = (true, false, None);
        if let (KeptPlan::One(_), Some(mount)) = (&self.what, self.mounts.first()) {
            raise_read_ahead(mount.connection);
        }
        self.watch();
        if let Some(ready) = ready.take() {
            return ready();
        }
        info!(worker = pid, "another worker serves the view");
        Ok(())
    }

    /// Looks what became of the workers. What ends the keeper, if anything does.
    fn look_after(&mut self) -> Option<Stopped> {
        self.look_after_broker();
        if let Some((worker, _)) = &self.successor
            && let how @ (Fate::Ended(_) | Fate::Killed(_)) = worker.fate()
        {
            warn!(?how, "the worker that should take over did not come up: the one before goes on");
            self.successor = None;
            self.refuse_replacement();
        }
        let Some(serving) = &self.worker else { return None };
        match serving.worker.fate() {
            Fate::Runs => {
                self.due = self.due.filter(|(_, due)| *due != Due::KillStopped);
                None
            }
            Fate::Stopped => {
                self.due.get_or_insert((Instant::now() + STOPPED, Due::KillStopped));
                None
            }
            Fate::Ended(0) => {
                if let KeptPlan::One(plan) = self.what {
                    info!(mountpoint = %plan.mountpoint.display(), "unmounted");
                }
                self.worker = None;
                Some(self.is_stopping.map_or(Stopped::Unmounted, Stopped::Signal))
            }
            Fate::Ended(code) => {
                self.died(&format!("ended with status {code}"), code, Self::cause_of_status(code))
            }
            Fate::Killed(signal) => {
                let cause = self.cause(signal);
                self.died(&signal_name(signal), 128 + signal, cause)
            }
        }
    }
}
