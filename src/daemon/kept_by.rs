//! The keeper of the mount, as the worker sees it that serves the view.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tracing::{error, info, warn};

use super::DaemonError;
use super::attach::Attached;
use super::confines::{Confines, Needs};
use super::courier::of_keeper;
use super::start::Plan;
use super::stop::Mounter;
use crate::config::resolved::Config;
use crate::control::ControlError;
use crate::control::status::Confinement;
use crate::fuse::{self, Courier};
use crate::machine::broker::Line;
use crate::machine::confinement::KeptPrivileges;
use crate::machine::keeper::{Handed, Keeper, KeeperAnswer, Word, journal_file};
use crate::machine::lacking;
use crate::store::patience::patiently;
use crate::sync::reach::Reach;
use crate::view::{Journal, Past};

/// How long another worker has to take this one's place. It kills this one, so that in the good case nobody waits for an answer.
const REPLACED: Duration = Duration::from_secs(60);

/// The keeper of the mount.
#[derive(Debug)]
pub struct KeptBy {
    keeper: Keeper,
    is_gone: AtomicBool,
    /// What was handed over before it was needed.
    handed: Mutex<Option<Handed>>,
    /// The configuration's file as it was read.
    text: OnceLock<Vec<u8>>,
    refusals: (Sender<()>, Mutex<Receiver<()>>),
    /// How this worker is confined.
    confines: OnceLock<Confines>,
    /// What another worker did not take this one's place for.
    refused: Mutex<BTreeSet<PathBuf>>,
}

/// The same for the file of a configuration, before it is read.
pub(super) fn widen_to_file(keeper: Option<&KeptBy>, file: &Path) {
    if let Some(keeper) = keeper {
        keeper.widen(&Reach::of_file(file));
    }
}

/// Has another worker take this one's place where a configuration leads to what is closed to this one. Returns if it does not, or if that
/// failed: then what is closed cannot be read.
pub(super) fn widen(keeper: Option<&KeptBy>, config: &Config) {
    if let Some(keeper) = keeper {
        keeper.widen(&Reach::of(config));
    }
}

impl KeptBy {
    /// Takes the keeper's line.
    pub fn new(keeper: Keeper) -> Self {
        // The first one ends as any program does: it has nothing to lose.
        if (!keeper.is_first() || keeper.is_anew())
            && let Err(error) = lacking::end_by_status(fuse::BUFFER_BYTES)
        {
            warn!(%error, "a worker that finds no memory will count as one that crashes");
        }
        let (sender, receiver) = mpsc::channel();
        Self {
            keeper,
            is_gone: AtomicBool::new(false),
            handed: Mutex::default(),
            text: OnceLock::new(),
            refusals: (sender, Mutex::new(receiver)),
            confines: OnceLock::new(),
            refused: Mutex::default(),
        }
    }

    /// The configuration's file as the first worker has read it, and as the last one has, if there were some.
    pub fn earlier_configurations(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        if self.keeper.is_anew() {
            let past = Past::read(self.keeper.past().ok()??).ok()?.0;
            return past.only()?.configurations().cloned();
        }
        if self.keeper.is_first() {
            return None;
        }
        let handed = self.keeper.ask().ok()?;
        let past = patiently(|| handed.journal.try_clone()).and_then(Past::read);
        *self.handed.lock().unwrap_or_else(PoisonError::into_inner) = Some(handed);
        past.ok()?.0.only()?.configurations().cloned()
    }

    /// Confines this process to what a plan leads to, and what the configuration's file leads to by now, where that is another. Has to
    /// come before its first thread.
    pub fn confine(&self, plan: &Plan, now: Option<&Config>) {
        self.confines.get_or_init(|| Confines::enter(plan, now));
    }

    /// Confines this process to what many views lead to. Has to come before its first thread.
    pub(super) fn confine_views(&self, needs: Needs, kept: KeptPrivileges) {
        self.confines.get_or_init(|| Confines::enter_for(needs, kept));
    }

    /// Who mounts for this worker, if somebody does.
    pub(super) fn broker(&self) -> Result<Option<Line>, DaemonError> {
        Ok(self.keeper.broker()?)
    }

    /// What this process has given up.
    pub(super) fn confinement(&self) -> Option<Confinement> {
        self.confines.get().map(Confines::told)
    }

    fn widen(&self, reach: &Reach) {
        let Some(confines) = self.confines.get() else { return };
        let closed = confines.closed(reach);
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if closed.is_subset(&refused) || self.is_gone.load(Ordering::Acquire) {
            return;
        }
        info!(
            ?closed,
            "the view needs what is closed to this process: another worker takes its place"
        );
        confines.keep_pace();
        let error = self.succeeded_by(Word::Widen);
        warn!(%error, "no other worker took over: what is closed to this one cannot be read");
        refused.extend(closed);
    }

    /// Remembers the configuration's file as it was read, for [`KeptBy::text`].
    pub(super) fn remember(&self, text: &[u8]) {
        self.text.get_or_init(|| text.to_vec());
    }

    /// The configuration's file as it was read.
    pub(super) fn text(&self) -> &[u8] {
        self.text.get().map_or(&[], Vec::as_slice)
    }

    /// Whether the view is mounted anew, because nobody could go on with the mount before.
    pub fn is_anew(&self) -> bool {
        self.keeper.is_anew()
    }

    pub(super) fn is_first(&self) -> bool {
        self.keeper.is_first()
    }

    pub(super) fn is_to_refuse(&self) -> bool {
        self.keeper.is_to_refuse()
    }

    /// Asks for the mount.
    pub(super) fn ask(&self) -> Result<Handed, DaemonError> {
        let before = self.handed.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(before.map_or_else(|| self.keeper.ask(), Ok)?)
    }

    /// Asks for all mounts that were kept.
    pub(super) fn ask_all(&self) -> Result<Vec<Handed>, DaemonError> {
        Ok(self.keeper.ask_all()?)
    }

    /// Has a mount kept that was just made, with a new journal, which is where there is room for it. Returns that, and who writes to
    /// the kernel what may have to wait.
    pub(super) fn keep(
        &self,
        device: &OwnedFd,
        connection: Option<u32>,
        state_dir: &Path,
    ) -> Result<(Arc<Journal>, Courier), DaemonError> {
        let file = journal_file(state_dir)?;
        let begun = file.try_clone().and_then(Journal::begin);
        let journal = begun.map_err(|error| DaemonError::Start {
            step: "beginning the journal of node numbers",
            error,
        })?;
        let courier = of_keeper(self.keeper.keep(device, connection, &file)?);
        Ok((Arc::new(journal), courier))
    }

    /// Tells the keeper something. That it is gone is noticed elsewhere.
    pub(super) fn say(&self, word: Word) {
        if let Err(error) = self.keeper.say(word) {
            warn!(%error, ?word, "the keeper was not told");
        }
    }

    /// The mount that was handed over.
    pub(super) fn attached<'a>(
        self: Arc<Self>,
        device: &OwnedFd,
    ) -> Result<Attached<'a>, DaemonError> {
        let fd = device.try_clone();
        let fd = fd.map_err(|error| DaemonError::Start { step: "taking the mount over", error })?;
        Ok(Attached { fd, mounter: Mounter::Keeper(self), undo: None })
    }

    pub(super) fn ready(&self, keeps_output: bool) -> Result<(), DaemonError> {
        lacking::serves();
        Ok(self.keeper.ready(keeps_output)?)
    }

    /// Hears from now on what the keeper says.
    pub(super) fn listen(
        self: &Arc<Self>,
        stopping: impl Fn() + Send + 'static,
    ) -> Result<(), DaemonError> {
        let refused = self.refusals.0.clone();
        let hear = move |answer| match answer {
            KeeperAnswer::Refused => refused.send(()).unwrap_or_default(),
            KeeperAnswer::Stopping => stopping(),
        };
        let orphan = self.clone();
        let gone = move || {
            orphan.is_gone.store(true, Ordering::Release);
            error!(
                "the keeper of the mount has ended: the view is served on, and ends with this process"
            );
        };
        Ok(self.keeper.listen(hear, gone)?)
    }

    /// The number of its process, while it lives.
    pub(super) fn pid(&self) -> Option<u32> {
        (!self.is_gone.load(Ordering::Acquire)).then(|| self.keeper.pid())
    }

    /// Has the mount taken away. False if nobody is there to do it.
    pub(super) fn stop(&self) -> bool {
        !self.is_gone.load(Ordering::Acquire) && self.keeper.say(Word::Stop).is_ok()
    }

    /// Has another worker take this one's place: returns only if that failed.
    pub(super) fn replace(&self) -> ControlError {
        self.succeeded_by(Word::Replace)
    }

    fn succeeded_by(&self, word: Word) -> ControlError {
        let refused = |message: &str, cure: &str| ControlError::Refused {
            message: message.to_owned(),
            cure: Some(cure.to_owned()),
        };
        let refusals = self.refusals.1.lock().unwrap_or_else(PoisonError::into_inner);
        // An answer to an earlier question.
        while refusals.try_recv().is_ok() {}
        if self.keeper.say(word).is_err() {
            return refused("the keeper of the mount has ended", "unmount, and mount again");
        }
        match refusals.recv_timeout(REPLACED) {
            Ok(()) => refused(
                "the new program could not take over; the old one goes on",
                "its log says why",
            ),
            Err(_) => refused("the new program did not take over in time", "its log says why"),
        }
    }
}
