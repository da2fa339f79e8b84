//! Signals, as the keeper hears of them.

use std::sync::mpsc::Sender;
use std::thread;

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::Event;
use crate::daemon::DaemonError;

/// Takes over the signals that matter to a keeper.
pub(super) fn listen(sender: &Sender<Event>) -> Result<(), DaemonError> {
    let failed = |error| DaemonError::Start { step: "taking over signals", error };
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGCHLD]).map_err(failed)?;
    let heard = sender.clone();
    let listening = move || {
        for signal in signals.forever() {
            // Nobody listens any more once the mount is gone.
            heard.send(Event::Signal(signal)).unwrap_or_default();
        }
    };
    let thread = thread::Builder::new().name("signals".into()).spawn(listening);
    thread.map(drop).map_err(failed)
}
