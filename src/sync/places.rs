//! Where the mirror of a repository is in the cache, laid out as the platform lays it, and what else is there.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::fetch::{FetchCause, LOOSE_MAX, PACKS_MAX};
use super::locate::path;
use super::wanted::{Mirror, Twin};
use crate::union::source::Visibility;

/// The file in a mirror that says that we made it, and of which repository.
const MARKER: &str = "overlayfs-mount-mirror";

/// The paths of one mirror.
#[derive(Debug)]
pub(super) struct MirrorPlaces {
    /// The mirror: `<cache>/<visibility>/<owner>/<repo>.git`.
    pub(super) mirror: PathBuf,
    /// Where a clone is made before it becomes the mirror.
    pub(super) clone: PathBuf,
    /// The mirror in the other part of the cache.
    other: PathBuf,
    /// Where the platform has checkouts, which a view would take before a mirror.
    checkout: PathBuf,
    /// `<cache>/<owner>/<repo>`; `None` for an owner whose name is that of a part of the cache, and where it leads to the mirror in the other
    /// part.
    link: Option<PathBuf>,
    /// What the link says.
    target: PathBuf,
    /// The mirror by its name, as the link at [`Self::checkout`] says; `None` where the other part of the cache has no mirror of the repository.
    /// There a view would take whatever [`Self::link`] leads to.
    own_target: Option<PathBuf>,
    /// What the marker holds.
    mark: String,
}

impl MirrorPlaces {
    /// The paths of a mirror in a cache.
    pub(super) fn of(cache: &Path, mirror: &Mirror) -> Self {
        let owner = path(mirror.repo.owner.as_bytes());
        let repo = path(mirror.repo.repo.as_bytes());
        let with = |start: &str, end: &str| {
            let mut name = std::ffi::OsString::from(start);
            name.push(repo);
            name.push(end);
            name
        };
        let part = |visibility: Visibility| PathBuf::from(visibility.to_string()).join(owner);
        let own = part(mirror.visibility);
        let other = part(match mirror.visibility {
            Visibility::Public => Visibility::Private,
            Visibility::Private => Visibility::Public,
        });
        let is_part = ["public", "private"].iter().any(|part| owner == Path::new(part));
        Self {
            mirror: cache.join(&own).join(with("", ".git")),
            clone: cache.join(&own).join(with(".", ".git.cloning")),
            other: cache.join(other).join(with("", ".git")),
            checkout: cache.join(&own).join(repo),
            link: (!is_part && mirror.twin != Some(Twin::First))
                .then(|| cache.join(owner).join(repo)),
            target: Path::new("..").join(own).join(with("", ".git")),
            own_target: mirror.twin.map(|_| PathBuf::from(with("", ".git"))),
            mark: format!("{}\n", mirror.repo),
        }
    }

    /// Fails if something that we did not make is where the mirror or its link belongs, or where a view would find it first.
    pub(super) fn refuse_foreign(&self) -> Result<(), FetchCause> {
        let foreign = |place: &Path| FetchCause::Foreign { place: place.display().to_string() };
        // A link to nothing is nobody's repository.
        let leads_nowhere = self.checkout.is_symlink() && !self.checkout.exists();
        if is_there(&self.checkout) && !leads_nowhere && !self.is_ours(&self.checkout) {
            return Err(foreign(&self.checkout));
        }
        if is_there(&self.mirror) && !self.is_ours(&self.mirror) {
            return Err(foreign(&self.mirror));
        }
        let Some(link) = &self.link else { return Ok(()) };
        let is_replaced =
            !is_there(link) || link.is_symlink() && (!link.exists() || self.is_ours(link));
        if is_replaced { Ok(()) } else { Err(foreign(link)) }
    }

    /// True if we made what is there, as a mirror of this repository.
    fn is_ours(&self, place: &Path) -> bool {
        fs::read(place.join(MARKER)).is_ok_and(|mark| mark == self.mark.as_bytes())
    }

    /// Marks a clone as made by us.
    pub(super) fn mark_clone(&self) -> Result<(), FetchCause> {
        let marker = self.clone.join(MARKER);
        fs::write(&marker, &self.mark).map_err(|error| FetchCause::of_cache(&marker, &error))
    }

    /// Takes over the mirror of the other part of the cache, after a change of visibility. Who reads it goes on reading.
    pub(super) fn take_from_other_part(&self) -> Result<(), FetchCause> {
        if is_there(&self.mirror) || !self.is_ours(&self.other) {
            return Ok(());
        }
        self.make_parent(&self.mirror)?;
        fs::rename(&self.other, &self.mirror)
            .map_err(|error| FetchCause::of_cache(&self.mirror, &error))?;
        self.link()
    }

    /// Makes an empty place for a clone; what an interrupted one left goes.
    pub(super) fn clear_clone(&self) -> Result<(), FetchCause> {
        self.make_parent(&self.clone)?;
        self.remove_clone()
    }

    /// Removes what there is of a clone.
    pub(super) fn remove_clone(&self) -> Result<(), FetchCause> {
        match fs::remove_dir_all(&self.clone) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(FetchCause::of_cache(&self.clone, &error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Makes a finished clone the mirror. After a loss of power there is all of it or nothing (S101).
    pub(super) fn put_clone(&self) -> Result<(), FetchCause> {
        let put = settle(&self.clone)
            .and_then(|()| fs::rename(&self.clone, &self.mirror))
            .and_then(|()| settle(&self.mirror));
        put.map_err(|error| FetchCause::of_cache(&self.mirror, &error))
    }

    /// Puts the relative link `<owner>/<repo>` in place, and where both parts of the cache have a mirror of the repository the one in this part.
    pub(super) fn link(&self) -> Result<(), FetchCause> {
        if let Some(target) = &self.own_target {
            self.put_link(&self.checkout, target)?;
        }
        self.link.as_ref().map_or(Ok(()), |link| self.put_link(link, &self.target))
    }

    /// Puts a link in place, in one step.
    fn put_link(&self, link: &Path, target: &Path) -> Result<(), FetchCause> {
        if fs::read_link(link).is_ok_and(|found| found == target) {
            return Ok(());
        }
        self.make_parent(link)?;
        let mut temporary = link.to_owned().into_os_string();
        temporary.push(".overlayfs-mount-link");
        let temporary = PathBuf::from(temporary);
        let made = fs::remove_file(&temporary).or_else(absent_is_fine);
        made.and_then(|()| symlink(target, &temporary))
            .and_then(|()| fs::rename(&temporary, link))
            .and_then(|()| settle(link.parent().unwrap_or(link)))
            .map_err(|error| {
                fs::remove_file(&temporary).unwrap_or_default();
                FetchCause::of_cache(link, &error)
            })
    }

    fn make_parent(&self, place: &Path) -> Result<(), FetchCause> {
        let parent = place.parent().unwrap_or(&self.mirror);
        fs::create_dir_all(parent).map_err(|error| FetchCause::of_cache(parent, &error))
    }

    /// Whether `git gc --auto` might find that there are many packs or loose objects; of these it looks at one directory of 256 (git-gc(1)).
    pub(super) fn is_untidy(&self) -> bool {
        let objects = self.mirror.join("objects");
        let count = |directory: &str, end: &str| {
            let entries = fs::read_dir(objects.join(directory)).into_iter().flatten().flatten();
            entries
                .filter(|entry| entry.file_name().as_encoded_bytes().ends_with(end.as_bytes()))
                .count()
        };
        count("pack", ".pack") > PACKS_MAX || count("17", "") > LOOSE_MAX / 256
    }

    /// Removes what a killed `git` left in the mirror: locks, which would keep every later one out, and packs and objects
    /// that never got their names. The lock of the cache says that no git is at work.
    pub(super) fn clean_mirror(&self) {
        let is_lock = |name: &str| has_end(name, ".lock") || name == "packed-refs.new";
        remove_files(&self.mirror, &is_lock, 0);
        remove_files(&self.mirror.join("refs"), &is_lock, usize::MAX);
        let objects = self.mirror.join("objects");
        remove_files(&objects.join("info"), &is_lock, 1);
        remove_files(&objects, &|name| name.starts_with("tmp_obj_"), 1);
        let packs = objects.join("pack");
        let is_unnamed = |name: &str| name.starts_with("tmp_") || name.starts_with(".tmp-");
        remove_files(&packs, &|name| is_unnamed(name) || is_lock(name), 0);
        // Of one that is empty a loss of power took the bytes: nobody else keeps packs in a mirror of ours.
        let is_keep = |name: &str| {
            let why = || fs::read(packs.join(name));
            has_end(name, ".keep")
                && why().is_ok_and(|why| why.is_empty() || why.starts_with(b"fetch-pack"))
        };
        remove_files(&packs, &is_keep, 0);
    }
}

/// Returns when all that was written to the file system of a directory is on the disk: what git wrote there, which is many files, and the names above it.
fn settle(directory: &Path) -> io::Result<()> {
    let directory = fs::File::open(directory)?;
    nix::unistd::syncfs(&directory).map_err(io::Error::from)
}

fn is_there(place: &Path) -> bool {
    fs::symlink_metadata(place).is_ok()
}

fn has_end(name: &str, end: &str) -> bool {
    name.len() > end.len() && name.ends_with(end)
}

fn absent_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Removes the files of such names in a directory, and so many levels below it. What cannot be removed git will name.
fn remove_files(directory: &Path, is_removed: &dyn Fn(&str) -> bool, levels: usize) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            if levels > 0 {
                remove_files(&entry.path(), is_removed, levels - 1);
            }
        } else if entry.file_name().to_str().is_some_and(is_removed) {
            fs::remove_file(entry.path()).unwrap_or_default();
        }
    }
}
