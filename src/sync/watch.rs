//! Notices that a source or the configuration may have moved.
//!
//! What counts is how files look ([`Stamp`]). The kernel's notices (inotify) only say when to look: they are lost when a directory is
//! replaced, and never come from other machines of a network file system. So there is a look now and then without a notice too.

use std::collections::{HashMap, HashSet};
use std::io::{self, PipeWriter};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tracing::{debug, info};

use super::signals::Stamp;

/// What happens in a directory when a file in it comes, goes, is replaced or was written.
const EVENTS: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_CLOSE_WRITE)
    .union(AddWatchFlags::IN_ATTRIB)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);

/// The files that say whether something moved, and how they looked.
#[derive(Debug)]
pub struct Watch {
    stamps: Stamps,
    notices: Option<Notices>,
    /// A file of whose changes there are notices too, and which somebody else looks at.
    beside: Option<PathBuf>,
}

/// How files looked.
pub type Stamps = HashMap<PathBuf, Stamp>;

/// Looks at files.
pub fn look<'a>(files: impl IntoIterator<Item = &'a PathBuf>) -> Stamps {
    files.into_iter().map(|file| (file.clone(), Stamp::of(file))).collect()
}

impl Watch {
    /// Watches nothing yet. `notice` is called, by another thread, whenever something happened near a file that is watched, or near
    /// the one `beside` them.
    pub fn start(beside: Option<PathBuf>, notice: impl Fn() + Send + 'static) -> Self {
        let notices = Notices::start(notice);
        let notices = notices.map_err(|error| info!(%error, "no notices of changed files")).ok();
        Self { stamps: Stamps::new(), notices, beside }
    }

    /// True if every file that is watched is one of whose changes there will be notices.
    pub fn has_notices(&self) -> bool {
        self.notices.as_ref().is_some_and(|notices| !notices.is_short)
    }

    /// Looks whether any file looks otherwise than before. Most looks find nothing, and cost a `stat` for each file.
    pub fn has_moved(&self) -> bool {
        self.stamps.iter().any(|(file, stamp)| Stamp::of(file) != *stamp)
    }

    /// Watches these files from now on; those that were looked at `before` are compared with how they looked then. True if there are
    /// others: these may have moved since they were read, so that what was built of them is to be built once more.
    pub fn follow(&mut self, before: Stamps, now: Stamps) -> bool {
        if let Some(notices) = &mut self.notices {
            notices.watch(now.keys().chain(&self.beside));
        }
        let has_new = now.keys().any(|file| !before.contains_key(file));
        self.stamps = now;
        for (file, stamp) in before {
            self.stamps.entry(file).and_modify(|known| *known = stamp);
        }
        has_new
    }
}

/// The kernel's notices.
#[derive(Debug)]
struct Notices {
    inotify: Arc<Inotify>,
    watched: HashSet<WatchDescriptor>,
    /// Whether there are directories that the kernel would not watch.
    is_short: bool,
    /// Closing it ends the thread.
    _alive: PipeWriter,
}

impl Notices {
    fn start(notice: impl Fn() + Send + 'static) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let inotify = Arc::new(inotify);
        let (ended, alive) = io::pipe()?;
        let events = inotify.clone();
        thread::Builder::new().name("notices".into()).spawn(move || {
            loop {
                let mut ready = [
                    PollFd::new(events.as_fd(), PollFlags::POLLIN),
                    PollFd::new(ended.as_fd(), PollFlags::POLLIN),
                ];
                match poll(&mut ready, PollTimeout::NONE) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(error) => return debug!(%error, "no more notices"),
                }
                if ready[1].revents().is_some_and(|events| !events.is_empty()) {
                    return;
                }
                match events.read_events() {
                    Ok(_) => notice(),
                    Err(Errno::EAGAIN | Errno::EINTR) => {}
                    Err(error) => return debug!(%error, "no more notices"),
                }
            }
        })?;
        Ok(Self { inotify, watched: HashSet::new(), is_short: false, _alive: alive })
    }

    /// Watches the directories of these files, and those of them that are directories.
    fn watch<'a>(&mut self, files: impl Iterator<Item = &'a PathBuf>) {
        let near = files.flat_map(|file| [Some(file.as_path()), file.parent()]);
        let directories: HashSet<&Path> = near.flatten().collect();
        let mut watched = HashSet::with_capacity(directories.len());
        let mut refused = None;
        for directory in directories {
            match self.inotify.add_watch(directory, EVENTS) {
                Ok(watch) => {
                    watched.insert(watch);
                }
                Err(Errno::ENOSPC | Errno::ENOMEM) => refused = Some(directory),
                // It is a file, or not there: its own directory says when that changes.
                Err(_) => {}
            }
        }
        for gone in self.watched.difference(&watched) {
            // The kernel has dropped it already where the directory was removed.
            self.inotify.rm_watch(*gone).unwrap_or_default();
        }
        self.watched = watched;
        if let Some(directory) = refused
            && !self.is_short
        {
            info!(
                directory = %directory.display(),
                "no notices of changes there: files are looked at more often; cure: raise `fs.inotify.max_user_watches`"
            );
        }
        self.is_short = refused.is_some();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_written_replaced_or_removed_is_noticed_and_seen() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("refs/main");
        fs::create_dir(directory.path().join("refs")).unwrap();
        fs::write(&file, "one").unwrap();
        let (sender, notices) = mpsc::channel();
        let mut watch = Watch::start(None, move || sender.send(()).unwrap_or_default());
        let files = [file.clone(), directory.path().join("packed-refs")];
        assert!(watch.follow(Stamps::new(), look(&files)));
        assert!(watch.has_notices());
        assert!(!watch.has_moved());

        let beside = directory.path().join("lock");
        let packed = directory.path().join("packed-refs");
        let steps: [&dyn Fn(); 4] = [
            &|| fs::write(&file, "two").unwrap(),
            &|| fs::write(&beside, "three").and_then(|()| fs::rename(&beside, &file)).unwrap(),
            &|| fs::write(&packed, "").unwrap(),
            &|| fs::remove_dir_all(directory.path().join("refs")).unwrap(),
        ];
        for step in steps {
            step();
            while !watch.has_moved() {
                notices.recv_timeout(Duration::from_secs(10)).unwrap();
            }
            assert!(!watch.follow(look(&files), look(&files)));
        }
    }

    #[test]
    fn what_moved_while_it_was_read_is_seen_at_the_next_look() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("HEAD");
        let mut watch = Watch::start(None, || ());
        let before = look([&file]);
        fs::write(&file, "moved").unwrap();
        assert!(!watch.follow(before, look([&file])));
        assert!(watch.has_moved());
    }
}
