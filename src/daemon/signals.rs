//! The signals that end or reload what is served.

use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::DaemonError;
use crate::machine::{cut_files, processor};
use crate::sync::fetch::Stop;

/// Takes them over, and hands each to `heard`, in a thread. What is returned is the wish to end, as soon as one of them has brought it. Files that
/// are cut while they are mapped end nothing from here on.
///
/// # Errors
/// No signal can be taken over, or no thread can be started.
pub(super) fn listen(heard: impl Fn(i32) + Send + 'static) -> Result<Stop, DaemonError> {
    let failed = |error| DaemonError::Start { step: "taking over signals", error };
    cut_files::give_zeros().map_err(failed)?;
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(failed)?;
    let stop = Stop::default();
    let wish = stop.clone();
    let hear = move || {
        processor::ask();
        for signal in signals.forever() {
            if signal != SIGHUP {
                wish.set();
            }
            heard(signal);
        }
    };
    thread::Builder::new().name("signals".into()).spawn(hear).map_err(failed)?;
    Ok(stop)
}
