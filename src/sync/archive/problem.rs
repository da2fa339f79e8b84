//! What keeps a set from being taken over.

use std::fmt;

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
