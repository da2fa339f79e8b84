//! What the thread that looks after the views is told.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::time::Duration;

use tracing::info;

use crate::control::ControlError;
use crate::control::protocol::ReloadReport;
use crate::daemon::DaemonError;
use crate::daemon::operator::{Reload, Trouble};
use crate::daemon::signals;
use crate::daemon::start::Plan;
use crate::daemon::unheard::Unheard;
use crate::machine::bind::MountNotices;
use crate::sync::fetch::Stop;

/// What may happen.
pub(super) enum Event {
    Signal(i32),
    /// Files may have changed.
    Look,
    /// Mounts came or went.
    Mounts,
    /// An operator wants a view to be read anew.
    Reload {
        file: PathBuf,
        answer: Answer,
    },
    /// A view was read anew in place, or could not be.
    Reloaded(Box<Reloaded>),
}

/// Where an operator waits for the outcome.
pub(super) type Answer = SyncSender<Result<ReloadReport, ControlError>>;

/// What came of reading a view anew in place.
pub(super) struct Reloaded {
    pub(super) file: PathBuf,
    /// What it is to be like.
    pub(super) plan: Plan,
    /// Of the view that was asked: there may be another one by now.
    pub(super) trouble: Trouble,
    pub(super) outcome: Result<ReloadReport, ControlError>,
    pub(super) answer: Option<Answer>,
}

/// All that comes.
pub(super) struct Events {
    sender: Sender<Event>,
    received: Receiver<Event>,
    /// At most one of each waits.
    looks: Unheard,
    moves: Unheard,
    mounts: Option<MountNotices>,
    /// What takes long ends early by it.
    stop: Stop,
}

impl Events {
    /// Takes over the signals that end or reload the views, and hears of mounts that come and go.
    pub(super) fn listen() -> Result<Self, DaemonError> {
        let (sender, received) = mpsc::channel();
        let heard = sender.clone();
        // Nobody listens any more once all has ended.
        let stop = signals::listen(move |signal| {
            heard.send(Event::Signal(signal)).unwrap_or_default();
        })?;
        let (looks, moves) = (Unheard::default(), Unheard::default());
        let (told, said) = (sender.clone(), moves.clone());
        let notice = move || said.say(|| told.send(Event::Mounts).unwrap_or_default());
        let mounts = MountNotices::start(notice);
        let mounts = mounts.map_err(|error| info!(%error, "no notices of mounts")).ok();
        Ok(Self { sender, received, looks, moves, mounts, stop })
    }

    /// The wish to end, as soon as a signal has brought it.
    pub(super) fn wish(&self) -> Stop {
        self.stop.clone()
    }

    /// Whether there is an event when mounts come or go.
    pub(super) fn has_mounts(&self) -> bool {
        self.mounts.is_some()
    }

    /// The next one, or nothing after a while.
    pub(super) fn next(&self, patience: Duration) -> Option<Event> {
        let event = self.received.recv_timeout(patience).ok()?;
        match event {
            Event::Look => self.looks.heard(),
            Event::Mounts => self.moves.heard(),
            Event::Signal(_) | Event::Reload { .. } | Event::Reloaded(_) => {}
        }
        Some(event)
    }

    /// Says that files may have changed.
    pub(super) fn notice(&self) -> impl Fn() + Send + Sync + 'static {
        let (sender, said) = (self.sender.clone(), self.looks.clone());
        move || said.say(|| sender.send(Event::Look).unwrap_or_default())
    }

    /// How it is said what came of reading a view anew.
    pub(super) fn reloaded(&self) -> impl FnOnce(Reloaded) + Send + 'static {
        let sender = self.sender.clone();
        move |reloaded| sender.send(Event::Reloaded(Box::new(reloaded))).unwrap_or_default()
    }

    /// How an operator has a view read anew.
    pub(super) fn reload(&self, file: &Path) -> Reload {
        let (sender, file) = (self.sender.clone(), file.to_owned());
        let gone =
            || ControlError::Refused { message: "the daemon is stopping".to_owned(), cure: None };
        Box::new(move || {
            let (answer, answered) = mpsc::sync_channel(1);
            let reload = Event::Reload { file: file.clone(), answer };
            sender.send(reload).map_err(|_| gone())?;
            answered.recv().unwrap_or_else(|_| Err(gone()))
        })
    }
}
