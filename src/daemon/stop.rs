//! The end of a view: an unmount from outside, or a signal.

use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::SIGHUP;
use tracing::{error, info, warn};

use super::DaemonError;
use super::kept_by::KeptBy;
use super::signals;
use super::start::{Audience, Plan};
use super::updates::Updates;
use super::vitals::Vitals;
use crate::control::ControlError;
use crate::fuse::{Served, SessionError};
use crate::machine::unmount::unmount;
use crate::machine::{MachineError, connections};
use crate::sync::fetch::Stop;

/// Why a view is no longer served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Somebody unmounted it.
    Unmounted,
    /// A signal asked for it.
    Signal(i32),
    /// The worker that should have served it has ended with this exit code, after it said why.
    Worker(u8),
}

/// What may happen while a view is served.
enum ServingEvent {
    Signal(i32),
    Ended(Result<(), SessionError>),
}

/// Who mounted, and with that who takes the mount away.
#[derive(Debug)]
pub(super) enum Mounter {
    /// This process: the number by which the kernel knows the connection.
    Us(Option<u32>),
    /// Somebody with whom nothing is shared.
    Somebody,
    /// The side that has the privileges, and sees when this closes.
    Passing(UnixStream),
    /// The keeper of this worker.
    Keeper(Arc<KeptBy>),
}

impl Mounter {
    /// The number by which the kernel knows the connection, where we know it.
    pub(super) fn connection(&self) -> Option<u32> {
        match self {
            Self::Us(connection) => *connection,
            Self::Somebody | Self::Passing(_) | Self::Keeper(_) => None,
        }
    }

    /// The keeper, where there is one.
    pub(super) fn keeper(&self) -> Option<Arc<KeptBy>> {
        match self {
            Self::Keeper(keeper) => Some(keeper.clone()),
            Self::Us(_) | Self::Somebody | Self::Passing(_) => None,
        }
    }
}

/// Hears signals from before the mount on, so that none is lost.
#[derive(Debug)]
pub(super) struct Ending {
    sender: Sender<ServingEvent>,
    events: Receiver<ServingEvent>,
    /// What is begun before the view can be read ends early by it.
    stop: Stop,
}

impl Ending {
    /// Takes over the signals that end or reload a view.
    pub(super) fn listen() -> Result<Self, DaemonError> {
        let (sender, events) = mpsc::channel();
        let heard = sender.clone();
        // Nobody listens any more once the view has ended.
        let stop = signals::listen(move |signal| {
            heard.send(ServingEvent::Signal(signal)).unwrap_or_default();
        })?;
        Ok(Self { sender, events, stop })
    }

    /// The wish to end, as soon as a signal has brought it.
    pub(super) fn wish(&self) -> Stop {
        self.stop.clone()
    }

    /// Serves until the view is unmounted from outside or a signal ends it.
    pub(super) fn wait(
        self,
        plan: &Plan,
        served: Served,
        mounter: Mounter,
        updates: &Updates,
        vitals: &Vitals,
    ) -> Result<Stopped, DaemonError> {
        let sender = self.sender;
        thread::Builder::new()
            .name("end".into())
            .spawn(move || sender.send(ServingEvent::Ended(served.wait())).unwrap_or_default())
            .map_err(|error| DaemonError::Start { step: "waiting for the end", error })?;
        loop {
            match self.events.recv() {
                Ok(ServingEvent::Ended(outcome)) => {
                    info!(mountpoint = %plan.mountpoint.display(), "unmounted");
                    return outcome.map(|()| Stopped::Unmounted).map_err(DaemonError::from);
                }
                // Nobody waits for it here: it may wait for a remote, and the next signal may ask for the end.
                Ok(ServingEvent::Signal(SIGHUP)) => {
                    let said = |error: ControlError| warn!(%error, cure = error.cure(), "SIGHUP: the view stays as it is");
                    let done = move |outcome: Result<_, _>| outcome.map_or_else(said, drop);
                    updates.reload_then(done).unwrap_or_else(said);
                }
                // The keeper unmounts; the session ends with that.
                Ok(ServingEvent::Signal(_))
                    if mounter.keeper().is_some_and(|keeper| keeper.stop()) => {}
                Ok(ServingEvent::Signal(signal)) => {
                    let name = signal_name(signal);
                    info!(signal = name, "stopping");
                    vitals.stop();
                    let outcome = stop(plan, &self.events, mounter);
                    return outcome.map(|()| Stopped::Signal(signal));
                }
                // Both threads hold a sender until they have sent.
                Err(_gone) => return Ok(Stopped::Unmounted),
            }
        }
    }
}

/// A signal, in words.
pub(super) fn signal_name(signal: i32) -> String {
    ExitStatus::from_raw(signal).to_string()
}

/// Unmounts; what is held is detached, served for a while, and then cut off.
fn stop(plan: &Plan, events: &Receiver<ServingEvent>, mounter: Mounter) -> Result<(), DaemonError> {
    match mounter {
        // The end of this process cuts off whoever the command has left behind.
        Mounter::Us(_) if plan.audience == Audience::OneCommand => {
            match unmount(&plan.mountpoint, true) {
                Ok(()) | Err(MachineError::NotMounted { .. }) => Ok(()),
                Err(error) => Err(error.into()),
            }
        }
        Mounter::Us(connection) => stop_for_all(plan, events, connection),
        // It is gone, or it would have unmounted; who is confined cannot.
        Mounter::Keeper(keeper)
            if keeper.confinement().is_some_and(|confinement| confinement.no_new_privs) =>
        {
            if unmount(&plan.mountpoint, false).is_err() {
                warn!("nobody is left who could unmount: the mount is dead from here on");
            }
            Ok(())
        }
        Mounter::Keeper(_) => stop_for_all(plan, events, None),
        Mounter::Passing(side) => {
            drop(side);
            if !ended(events, plan.config.mount.stop_timeout) {
                warn!("still held: the end of this process aborts the connection");
            }
            Ok(())
        }
        Mounter::Somebody => Ok(()),
    }
}

fn stop_for_all(
    plan: &Plan,
    events: &Receiver<ServingEvent>,
    connection: Option<u32>,
) -> Result<(), DaemonError> {
    let patience = plan.config.mount.stop_timeout;
    take_away(&plan.mountpoint, patience)?;
    if ended(events, patience) {
        return Ok(());
    }
    let Some(connection) = connection else { return Ok(()) };
    warn!(connection, "still held: aborting the connection");
    connections::abort(connection)?;
    if !ended(events, ABORTED) {
        error!("the session did not end after its connection was aborted");
    }
    Ok(())
}

/// Unmounts, or detaches what is held; those who hold it are served for `patience`.
pub(super) fn take_away(mountpoint: &Path, patience: Duration) -> Result<(), MachineError> {
    match unmount(mountpoint, false) {
        Ok(()) | Err(MachineError::NotMounted { .. }) => Ok(()),
        Err(busy) => {
            warn!(error = %busy, ?patience, "detaching; those who hold it are served a little longer");
            unmount(mountpoint, true)
        }
    }
}

/// How long threads may take to notice that their connection is gone.
pub(super) const ABORTED: Duration = Duration::from_secs(2);

/// Waits for the end of the session, for at most `patience`.
fn ended(events: &Receiver<ServingEvent>, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match events.recv_timeout(left) {
            Ok(ServingEvent::Ended(_)) | Err(RecvTimeoutError::Disconnected) => return true,
            Ok(ServingEvent::Signal(_)) => {}
            Err(RecvTimeoutError::Timeout) => return false,
        }
    }
}
