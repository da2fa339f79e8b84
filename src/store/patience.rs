//! Waiting for what cannot be had at the moment.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::is_momentary;

/// So long it is worth while to wait for what cannot be read at the moment, where somebody waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);
/// How long after a try the next one is made.
const PAUSE: Duration = Duration::from_millis(50);

/// Does something again and again while what keeps it from being done may pass, for [`PATIENCE`].
pub(crate) fn patiently<T>(work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    patiently_until(Instant::now() + PATIENCE, is_momentary, work)
}

/// The same until a time, with the caller's word on what may pass.
pub(crate) fn patiently_until<T, E>(
    until: Instant,
    may_pass: impl Fn(&E) -> bool,
    mut work: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    loop {
        let done = work();
        let is_over = Instant::now() >= until;
        if is_over || !done.as_ref().is_err_and(&may_pass) {
            return done;
        }
        thread::sleep(PAUSE);
    }
}
