//! What keeps a set from being taken over.

use std::fmt;
use std::thread;
use std::time::Instant;

use super::PAUSE;

/// Why a set cannot be taken over.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) said: String,
    /// Whether it may pass by itself.
    pub(super) is_momentary: bool,
}

impl Problem {
    pub(super) fn lasting(said: impl Into<String>) -> Self {
        Self { said: said.into(), is_momentary: false }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)
    }
}

/// Does something again and again while what keeps it from being done may pass, until a time.
pub(super) fn patiently<T>(
    until: Instant,
    work: impl Fn() -> Result<T, Problem>,
) -> Result<T, Problem> {
    loop {
        let done = work();
        let is_over = Instant::now() >= until;
        if is_over || !done.as_ref().is_err_and(|problem| problem.is_momentary) {
            return done;
        }
        thread::sleep(PAUSE);
    }
}
