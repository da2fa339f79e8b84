//! The files of a directory of views, and what happened to them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::events::Events;
use crate::daemon::DaemonError;
use crate::sync::Stamp;
use crate::sync::watch::{Notices, Stamps, Watch};

/// How the name of a configuration ends; whatever else is there is passed over.
const ENDINGS: [&str; 2] = ["yaml", "yml"];

/// The files, as they were last seen.
#[derive(Debug)]
pub(super) struct ViewFiles {
    path: PathBuf,
    known: BTreeMap<PathBuf, Stamp>,
    watch: Watch,
}

impl ViewFiles {
    /// Nothing was seen yet; whatever happens there is an event.
    pub(super) fn new(path: &Path, notices: Option<Arc<Notices>>, events: &Events) -> Self {
        let mut watch = Watch::start(notices, None, events.notice());
        let stamps = Stamps::from([(path.to_owned(), Stamp::of(path))]);
        watch.follow(stamps.clone(), stamps);
        Self { path: path.to_owned(), known: BTreeMap::new(), watch }
    }

    /// The files that are there.
    pub(super) fn read(&self) -> Result<Vec<PathBuf>, DaemonError> {
        files_of(&self.path)
    }

    /// Forgets the files that are not there any more, and gives them. A directory that cannot be read takes no view away.
    pub(super) fn vanished(&mut self) -> Vec<PathBuf> {
        let Ok(files) = self.read() else { return Vec::new() };
        let gone: Vec<_> =
            self.known.keys().filter(|file| !files.contains(file)).cloned().collect();
        for file in &gone {
            self.known.remove(file);
        }
        gone
    }

    /// A file looks as it is known to.
    pub(super) fn know(&mut self, file: &Path) {
        self.known.insert(file.to_owned(), Stamp::of(file));
    }

    /// There was this file, however it looks now: if it is gone, that has happened.
    pub(super) fn remember(&mut self, file: &Path) {
        self.known.insert(file.to_owned(), Stamp::default());
    }

    /// The files that look otherwise than before, or were not there.
    pub(super) fn changed(&mut self) -> Vec<PathBuf> {
        let Ok(files) = self.read() else { return Vec::new() };
        let mut changed = Vec::new();
        for file in files {
            let stamp = Stamp::of(&file);
            if self.known.get(&file) != Some(&stamp) {
                self.known.insert(file.clone(), stamp);
                changed.push(file);
            }
        }
        let stamps = Stamps::from([(self.path.clone(), Stamp::of(&self.path))]);
        self.watch.follow(stamps.clone(), stamps);
        changed
    }
}

/// The files of a directory of views.
pub(super) fn files_of(directory: &Path) -> Result<Vec<PathBuf>, DaemonError> {
    let failed = |error| DaemonError::Views { path: directory.to_owned(), error };
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if is_view(&path) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Whether a file of such a directory is a view's, by its name.
pub(super) fn is_view(file: &Path) -> bool {
    let is_hidden = file.file_name().is_none_or(|name| name.as_encoded_bytes()[0] == b'.');
    let ending = file.extension().and_then(|ending| ending.to_str());
    !is_hidden && ending.is_some_and(|ending| ENDINGS.contains(&ending))
}

/// What stands for the mount point of a view of which nothing is known but its file.
pub(super) fn place_of(file: &Path) -> PathBuf {
    file.to_owned()
}
