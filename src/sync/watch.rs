//! Notices that a source or the configuration may have moved.
//!
//! What counts is how files look ([`Stamp`]). The kernel's notices (inotify) only say when to look: they are lost when a directory is
//! replaced, and never come from other machines of a network file system. So there is a look now and then without a notice too.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
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
    listener: Option<Listener>,
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
    pub fn start(
        notices: Option<Arc<Notices>>,
        beside: Option<PathBuf>,
        notice: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let listener = notices.map(|notices| Listener::new(notices, notice));
        Self { stamps: Stamps::new(), listener, beside }
    }

    /// True if every file that is watched is one of whose changes there will be notices.
    pub fn has_notices(&self) -> bool {
        self.listener.as_ref().is_some_and(|listener| !listener.is_short)
    }

    /// Looks whether any file looks otherwise than before. Most looks find nothing, and cost a `stat` for each file.
    pub fn has_moved(&self) -> bool {
        self.stamps.iter().any(|(file, stamp)| Stamp::of(file) != *stamp)
    }

    /// Watches these files from now on; those that were looked at `before` are compared with how they looked then. True if there are
    /// others: these may have moved since they were read, so that what was built of them is to be built once more.
    pub fn follow(&mut self, before: Stamps, now: Stamps) -> bool {
        let has_new = self.compare(before, now);
        self.listen();
        has_new
    }

    /// As [`Watch::follow`], without notices of what happens before [`Watch::listen`]: after that a look has to follow.
    pub fn compare(&mut self, before: Stamps, now: Stamps) -> bool {
        let has_new = now.keys().any(|file| !before.contains_key(file));
        self.stamps = now;
        for (file, stamp) in before {
            self.stamps.entry(file).and_modify(|known| *known = stamp);
        }
        has_new
    }

    /// Asks the kernel for notices of what happens near the files.
    pub fn listen(&mut self) {
        if let Some(listener) = &mut self.listener {
            listener.watch(self.stamps.keys().chain(&self.beside));
        }
    }
}

/// Where the kernel's notices come in, for any number of [`Watch`]es: a user may have few such places (`fs.inotify.max_user_instances`).
#[derive(Debug)]
pub struct Notices {
    inotify: Arc<Inotify>,
    listeners: Arc<Mutex<Listeners>>,
    next: AtomicU64,
    /// Until there is a thread: what it hears of the end by.
    ended: Mutex<Option<PipeReader>>,
    /// Closing it ends the thread.
    _alive: PipeWriter,
}

/// Who is told of what happens in a directory.
type Listeners = HashMap<WatchDescriptor, HashMap<u64, Notice>>;

#[derive(Clone)]
struct Notice(Arc<dyn Fn() + Send + Sync>);

impl fmt::Debug for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notice")
    }
}

impl Notices {
    /// Hears nothing yet; nothing where the kernel gives no notices.
    pub fn start() -> Option<Arc<Self>> {
        let started = Self::try_start().map(Arc::new);
        started.map_err(|error| info!(%error, "no notices of changed files")).ok()
    }

    fn try_start() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let inotify = Arc::new(inotify);
        let listeners = Arc::new(Mutex::new(Listeners::new()));
        let (ended, alive) = io::pipe()?;
        let ended = Mutex::new(Some(ended));
        Ok(Self { inotify, listeners, next: AtomicU64::new(0), ended, _alive: alive })
    }

    /// Starts the thread that hears, unless there is one. Nobody waits for it who waits for a mount.
    fn hear(&self) -> io::Result<()> {
        let mut waiting = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(ended) = &*waiting else { return Ok(()) };
        let ended = ended.try_clone()?;
        let (events, heard) = (self.inotify.clone(), self.listeners.clone());
        let hearing = thread::Builder::new().name("notices".into()).spawn(move || {
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
                    Ok(events) => tell(&heard, &events),
                    Err(Errno::EAGAIN | Errno::EINTR) => {}
                    Err(error) => return debug!(%error, "no more notices"),
                }
            }
        });
        hearing.map(drop)?;
        *waiting = None;
        Ok(())
    }
}

/// Tells each who listens once. Where the kernel lost events, everybody.
fn tell(listeners: &Mutex<Listeners>, events: &[InotifyEvent]) {
    let mut told: HashMap<u64, Notice> = HashMap::new();
    let known = listeners.lock().unwrap_or_else(PoisonError::into_inner);
    let are_lost = events.iter().any(|event| event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW));
    if are_lost {
        told.extend(known.values().flatten().map(|(id, notice)| (*id, notice.clone())));
    }
    for of_directory in events.iter().filter_map(|event| known.get(&event.wd)) {
        told.extend(of_directory.iter().map(|(id, notice)| (*id, notice.clone())));
    }
    drop(known);
    for Notice(notice) in told.into_values() {
        notice();
    }
}

/// One who listens.
#[derive(Debug)]
struct Listener {
    notices: Arc<Notices>,
    id: u64,
    notice: Notice,
    watched: HashSet<WatchDescriptor>,
    /// Whether there are directories that the kernel would not watch.
    is_short: bool,
}

impl Listener {
    fn new(notices: Arc<Notices>, notice: impl Fn() + Send + Sync + 'static) -> Self {
        let id = notices.next.fetch_add(1, Ordering::Relaxed);
        let notice = Notice(Arc::new(notice));
        Self { notices, id, notice, watched: HashSet::new(), is_short: false }
    }

    /// Watches the directories of these files, and those of them that are directories.
    fn watch<'a>(&mut self, files: impl Iterator<Item = &'a PathBuf>) {
        let near = files.flat_map(|file| [Some(file.as_path()), file.parent()]);
        let directories: HashSet<&Path> = near.flatten().collect();
        if let Err(error) = self.notices.hear() {
            info!(%error, "no notices of changed files");
            self.is_short = true;
            return;
        }
        let mut watched = HashSet::with_capacity(directories.len());
        let mut refused = None;
        // Held over all of it: what happens meanwhile is told afterwards.
        let mut listeners = self.notices.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        for directory in directories {
            match self.notices.inotify.add_watch(directory, EVENTS) {
                Ok(watch) => {
                    let of_directory = listeners.entry(watch).or_default();
                    of_directory.insert(self.id, self.notice.clone());
                    watched.insert(watch);
                }
                Err(Errno::ENOSPC | Errno::ENOMEM) => refused = Some(directory),
                // It is a file, or not there: its own directory says when that changes.
                Err(_) => {}
            }
        }
        let gone: Vec<_> = self.watched.difference(&watched).copied().collect();
        self.leave(&mut listeners, gone);
        drop(listeners);
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

    /// Stops watching these; the last who does so stops the kernel.
    fn leave(&self, listeners: &mut Listeners, gone: impl IntoIterator<Item = WatchDescriptor>) {
        for watch in gone {
            let Some(of_directory) = listeners.get_mut(&watch) else { continue };
            let notice = of_directory.remove(&self.id);
            if of_directory.is_empty() {
                listeners.remove(&watch);
                // The kernel has dropped it already where the directory was removed.
                self.notices.inotify.rm_watch(watch).unwrap_or_default();
            }
            drop(notice);
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut listeners = self.notices.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        self.leave(&mut listeners, self.watched.iter().copied());
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
        let mut watch =
            Watch::start(Notices::start(), None, move || sender.send(()).unwrap_or_default());
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
    fn two_who_watch_one_directory_are_both_told_and_go_each_for_itself() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("HEAD");
        let notices = Notices::start().unwrap();
        let watch = || {
            let (sender, told) = mpsc::channel();
            let notice = move || sender.send(()).unwrap_or_default();
            let mut watch = Watch::start(Some(notices.clone()), None, notice);
            watch.follow(Stamps::new(), look([&file]));
            (watch, told)
        };
        let (one, other) = (watch(), watch());
        fs::write(&file, "1").unwrap();
        for told in [&one.1, &other.1] {
            told.recv_timeout(Duration::from_secs(10)).unwrap();
        }
        drop(one);
        while other.1.try_recv().is_ok() {}
        fs::write(&file, "2").unwrap();
        other.1.recv_timeout(Duration::from_secs(10)).unwrap();
        drop(other);
        assert!(notices.listeners.lock().unwrap().is_empty());
    }

    #[test]
    fn what_moved_while_it_was_read_is_seen_at_the_next_look() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("HEAD");
        let mut watch = Watch::start(Notices::start(), None, || ());
        let before = look([&file]);
        fs::write(&file, "moved").unwrap();
        assert!(!watch.follow(before, look([&file])));
        assert!(watch.has_moved());
    }
}
