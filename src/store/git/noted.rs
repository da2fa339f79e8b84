//! What a pin directory says about itself to the next daemon: the commits of which it holds all that was there.
//!
//! That a commit and its tree are in it says nothing about the rest: whoever linked it may have been killed half-way, or linked what `git gc`
//! had not yet removed of a commit that no ref leads to any more.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use super::pin::PinDirectory;
use crate::union::object::Oid;

impl PinDirectory {
    /// Writes down that all of a commit is in it.
    ///
    /// # Errors
    /// The note cannot be written: the next daemon will look for the commit elsewhere.
    pub fn note(&self, commit: &Oid) -> io::Result<()> {
        File::create(self.path_of_note(commit)).map(drop)
    }

    /// Whether it was written down that all of a commit is in it.
    pub fn is_noted(&self, commit: &Oid) -> bool {
        self.path_of_note(commit).exists()
    }

    /// Leaves it where it is, for the next daemon.
    pub(super) fn leave(mut self) {
        self.path.clear();
    }

    fn path_of_note(&self, commit: &Oid) -> PathBuf {
        self.path().join(format!("whole-{commit}"))
    }
}
