//! `export`: the same tree as plain files, put in place atomically, where FUSE cannot be had.
//!
//! The tree is written beside its place and renamed into it. What an earlier export left is replaced by exchanging the two names; anything
//! else that is in the way is left alone. A small file beside the directory remembers that we wrote it.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use clap::Args;
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, RenameFlags, renameat2};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::cli::ConfigArgs;
use super::failure::Failure;
use super::ls::unknown_surface;
use super::{input, output};
use crate::config::resolved::Config;
use crate::snapshot::Snapshot;
use crate::sync::build::build;
use crate::sync::fetch::Stop;
use crate::sync::{Histories, Shared};
use crate::union::object::Kind;
use crate::view::{Attr, Depth, Found, Number, Offered, Settings, Sink, View, ViewError};

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The directory to write; what an earlier export left there is replaced
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Only this surface, its entries directly in DIR
    #[arg(long, value_name = "NAME")]
    pub surface: Option<String>,
}

/// What the names of the directories begin with in which exports are written.
const PREFIX: &str = ".overlayfs-mount-export-";
/// After how long nobody is about to hold such a directory who has made it.
const LEFT: Duration = Duration::from_secs(60);
/// How much is read and written at once.
const PIECE_BYTES: usize = 1024 * 1024;

/// Writes the view, or one surface of it.
pub(super) fn run(arguments: &ExportArgs) -> Result<ExitCode, Failure> {
    let config = input::config(&arguments.config)?;
    let place = Destination::new(&arguments.directory)?;
    place.check()?;
    let stop = Stop::default();
    // What is packed for a `.git` is in a directory that is to go; without one a signal may end all at once.
    if config.mount.shows_git {
        stop_on_signals(&stop)?;
    }
    let histories = Histories::new(None, stop.clone());
    let shared = Shared::with_histories(&config, histories);
    let snapshot = Arc::new(build(&config, &shared)?);
    if stop.is_set() {
        return Err(ended());
    }
    place.check_sources(&snapshot)?;
    for source in &snapshot.sources {
        if let Some(reason) = source.git_directory.left_out() {
            let failure =
                Failure::new(format!("source `{}` has no `.git`: {reason}", source.label));
            return Err(failure.with_cure("set `mount.git` to false, or complete the repository"));
        }
    }
    let view = view(&config, &snapshot);
    let start = start(&view, &snapshot, arguments.surface.as_deref())?;
    if !config.mount.shows_git {
        stop_on_signals(&stop)?;
    }
    let beside = |error: io::Error| {
        let failure = place.failed("making a directory beside it", &error);
        failure.with_cure("name a directory whose parent is writable for you and has room")
    };
    let temporary =
        tempfile::Builder::new().prefix(PREFIX).tempdir_in(&place.parent).map_err(beside)?;
    // Held until the end, by which others see that it is not left behind.
    let _held = hold(temporary.path());
    let written = temporary.path().join("tree");
    fs::create_dir(&written).map_err(beside)?;
    Export { view: &view, root: &written, stop: &stop }.directory(start, &written)?;
    place.put(&written, &snapshot)?;
    remove_left(&place.parent);
    output::write(b"")
}

/// Has the signals that end a program end the export in order.
fn stop_on_signals(stop: &Stop) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(Failure::new)?;
    let stop = stop.clone();
    let stopping = move || signals.forever().for_each(|_| stop.set());
    let started = thread::Builder::new().name("signals".into()).spawn(stopping);
    started.map(drop).map_err(Failure::new)
}

fn ended() -> Failure {
    Failure::new("a signal ended the export; what was there is as it was").with_cure("export again")
}

/// Takes hold of a directory in which an export is written; `None` where another process has it, or it is gone.
fn hold(directory: &Path) -> Option<Flock<File>> {
    Flock::lock(File::open(directory).ok()?, FlockArg::LockExclusiveNonblock).ok()
}

/// Removes what exports that were killed have left in a directory. What cannot be removed stays.
fn remove_left(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let is_one = entry.file_name().as_bytes().starts_with(PREFIX.as_bytes());
        if !is_one || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let modified = entry.metadata().and_then(|found| found.modified()).ok();
        let age = modified.and_then(|modified| modified.elapsed().ok());
        // One that has just been made may not be held yet.
        if age.is_some_and(|age| age > LEFT) && hold(&entry.path()).is_some() {
            fs::remove_dir_all(entry.path()).unwrap_or_default();
        }
    }
}

fn view(config: &Config, snapshot: &Arc<Snapshot>) -> View {
    let settings = Settings { links: config.mount.links, has_xattrs: false };
    View::new(snapshot.clone(), settings)
}

/// The directory to write: the root, or that of a surface. A surface that is not part of the view is an empty one.
fn start(
    view: &View,
    snapshot: &Snapshot,
    surface: Option<&str>,
) -> Result<Option<Number>, Failure> {
    let Some(wanted) = surface else { return Ok(Some(Number::ROOT)) };
    let Some(surface) = snapshot.surfaces.iter().find(|surface| surface.name == wanted) else {
        let known: Vec<&str> =
            snapshot.surfaces.iter().map(|surface| surface.name.as_str()).collect();
        return Err(unknown_surface(wanted, &known));
    };
    let mut number = Number::ROOT;
    for name in surface.at.names() {
        match view.lookup(number, name.as_bytes()).map_err(Failure::new)? {
            Found::Present { attr, .. } => number = attr.number,
            Found::Absent(_) => return Ok(None),
        }
    }
    Ok(Some(number))
}

/// A directory to be written, and what is there now.
struct Destination {
    directory: PathBuf,
    parent: PathBuf,
    /// The file beside it that says which directory we wrote.
    marker: PathBuf,
}

impl Destination {
    fn new(directory: &Path) -> Result<Self, Failure> {
        let absolute = std::path::absolute(directory).map_err(|error| failed(directory, &error))?;
        let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
            return Err(Failure::usage(format!("`{}` cannot be replaced", directory.display()))
                .with_cure("name a directory below it"));
        };
        let mut marker = OsString::from(".");
        marker.push(name);
        marker.push(".overlayfs-mount");
        let parent = parent.canonicalize().map_err(|error| {
            failed(parent, &error).with_cure(format!("mkdir -p '{}'", parent.display()))
        })?;
        let (directory, marker) = (parent.join(name), parent.join(marker));
        Ok(Self { directory, parent, marker })
    }

    /// Refuses to replace what no export wrote.
    fn check(&self) -> Result<(), Failure> {
        let found = match fs::symlink_metadata(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            found => found.map_err(|error| failed(&self.directory, &error))?,
        };
        let foreign = |what: &str| {
            Failure::new(format!("`{}` {what}", self.directory.display()))
                .with_cure("name another directory, or move this one away")
        };
        if !found.is_dir() {
            return Err(foreign("is there and is not a directory"));
        }
        let mut names = fs::read_dir(&self.directory).map_err(|e| failed(&self.directory, &e))?;
        if names.next().is_none() || self.remembers(&found) {
            return Ok(());
        }
        Err(foreign("is not empty and was not written by an export"))
    }

    /// Refuses a place in what is exported, which would become a part of itself, and one whose replacement takes a source along.
    fn check_sources(&self, snapshot: &Snapshot) -> Result<(), Failure> {
        for source in &snapshot.sources {
            let Ok(place) = source.place.canonicalize() else { continue };
            let relation = if source.is_live && self.directory.starts_with(&place) {
                "lies inside"
            } else if place.starts_with(&self.directory) {
                "holds"
            } else {
                continue;
            };
            let (directory, place) = (self.directory.display(), place.display());
            let failure = format!("`{directory}` {relation} source `{}` (`{place}`)", source.label);
            return Err(
                Failure::usage(failure).with_cure("name a directory apart from all sources")
            );
        }
        Ok(())
    }

    /// True if the marker names this very directory.
    fn remembers(&self, found: &fs::Metadata) -> bool {
        fs::read_to_string(&self.marker)
            .is_ok_and(|text| text.lines().next() == Some(identity(found).as_str()))
    }

    /// Renames the written tree into place and removes what was there.
    fn put(&self, written: &Path, snapshot: &Snapshot) -> Result<(), Failure> {
        let metadata = fs::metadata(written).map_err(|error| failed(written, &error))?;
        let text = format!("{}\n{}\n", identity(&metadata), snapshot.id);
        let beside = written.with_file_name("marker");
        fs::write(&beside, text).map_err(|error| failed(&beside, &error))?;
        let flags = if self.directory.exists() {
            RenameFlags::RENAME_EXCHANGE
        } else {
            RenameFlags::RENAME_NOREPLACE
        };
        renameat2(AT_FDCWD, written, AT_FDCWD, &self.directory, flags)
            .map_err(|error| self.failed("renaming the new tree into place", &error.into()))?;
        fs::rename(&beside, &self.marker).map_err(|error| failed(&self.marker, &error))
    }

    fn failed(&self, step: &str, error: &io::Error) -> Failure {
        Failure::new(format!("`{}`: {step}: {error}", self.directory.display()))
    }
}

/// What tells a directory from a later one of the same name. That one may soon have its inode number, but was made later.
fn identity(metadata: &fs::Metadata) -> String {
    let made = metadata.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let made = made.map_or_else(|| "-".to_owned(), |time| time.as_nanos().to_string());
    format!("{}:{}:{made}", metadata.dev(), metadata.ino())
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("`{}`: {error}", path.display()))
        .with_cure("name a directory that you may write to, on a disk with room")
}

/// A tree being written.
struct Export<'a> {
    view: &'a View,
    /// Where its top is written.
    root: &'a Path,
    /// Whether a signal asks for the end.
    stop: &'a Stop,
}

/// A name that a listing gave.
struct ListedName {
    name: Vec<u8>,
    attr: Attr,
    is_unreadable: bool,
}

/// Collects a listing.
struct NameCollector(Vec<ListedName>);

impl Sink for NameCollector {
    fn take(&mut self, offered: Offered<'_>) -> bool {
        let Offered { name, attr, is_unreadable, .. } = offered;
        self.0.push(ListedName { name: name.to_vec(), attr, is_unreadable });
        true
    }
}

impl Export<'_> {
    fn directory(&self, number: Option<Number>, to: &Path) -> Result<(), Failure> {
        let Some(number) = number else { return Ok(()) };
        let mut names = NameCollector(Vec::new());
        let unreadable = |error| self.unreadable(to, &error);
        self.view.list(number, 0, Depth::Attributes, &mut names).map_err(unreadable)?;
        for ListedName { name, attr, is_unreadable } in names.0 {
            if name == b"." || name == b".." {
                continue;
            }
            let path = to.join(std::ffi::OsStr::from_bytes(&name));
            // Attributes that could not be read are asked for again: the answer says why.
            let attr = if is_unreadable {
                self.view.attr(attr.number).map_err(|error| self.unreadable(&path, &error))?.0
            } else {
                attr
            };
            self.child(&attr, &path)?;
            self.view.forget(attr.number, 1);
        }
        let (attr, _) = self.view.attr(number).map_err(unreadable)?;
        finish(to, &attr).map_err(|error| self.unwritten(to, &error))
    }

    /// What cannot be read, by its place in what is exported: where it was to be written is gone when somebody reads this.
    fn unreadable(&self, path: &Path, error: &ViewError) -> Failure {
        let inside = path.strip_prefix(self.root).unwrap_or(path).display();
        match error {
            ViewError::Unreadable { .. } => Failure::new(error)
                .with_cure("run `git fsck` in the source's repository, then fetch what is lacking"),
            ViewError::Denied => Failure::new(format!("`{inside}`: {error}"))
                .with_cure("make it readable for the user who exports, or export as another one"),
            error => Failure::new(format!("`{inside}`: {error}"))
                .with_cure("export again: it changed meanwhile"),
        }
    }

    /// What cannot be written, by its place in what is exported.
    fn unwritten(&self, path: &Path, error: &io::Error) -> Failure {
        let inside = path.strip_prefix(self.root).unwrap_or(path).display();
        Failure::new(format!("`{inside}` cannot be written: {error}")).with_cure(
            "make room there, or name a directory elsewhere; what was there is as it was",
        )
    }

    fn child(&self, attr: &Attr, path: &Path) -> Result<(), Failure> {
        if self.stop.is_set() {
            return Err(ended());
        }
        match attr.kind {
            Kind::Directory => {
                fs::create_dir(path).map_err(|error| self.unwritten(path, &error))?;
                self.directory(Some(attr.number), path)
            }
            Kind::Link => {
                let target = self.view.read_link(attr.number);
                let target = target.map_err(|error| self.unreadable(path, &error))?;
                symlink(std::ffi::OsStr::from_bytes(&target), path)
                    .map_err(|error| self.unwritten(path, &error))
            }
            Kind::File { .. } => {
                self.file(attr, path)?;
                finish(path, attr).map_err(|error| self.unwritten(path, &error))
            }
        }
    }

    fn file(&self, attr: &Attr, path: &Path) -> Result<(), Failure> {
        let mut file = File::create_new(path).map_err(|error| self.unwritten(path, &error))?;
        let mut offset = 0;
        while offset < attr.size_bytes {
            let piece = self.view.read(attr.number, offset, PIECE_BYTES);
            let piece = piece.map_err(|error| self.unreadable(path, &error))?;
            if piece.is_empty() {
                break;
            }
            file.write_all(&piece).map_err(|error| self.unwritten(path, &error))?;
            offset += piece.len() as u64;
        }
        Ok(())
    }
}

/// Sets mode and time of what was written.
fn finish(path: &Path, attr: &Attr) -> io::Result<()> {
    File::open(path)?.set_modified(attr.modified_at())?;
    fs::set_permissions(path, Permissions::from_mode(attr.permissions().into()))
}
