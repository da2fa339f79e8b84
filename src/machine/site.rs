//! The mount point in a mount name space of one's own: made there if it is missing, so that nobody else sees it and nothing is left.
//!
//! Where the deepest directory that exists cannot be written to, it is covered by a small file system in memory, in which everything that
//! was in it is mounted again. So whatever the caller could reach or write before is where it was; only the covered
//! directory itself is a copy, and read-only.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, FileType};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{AccessFlags, eaccess};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::MachineError;

/// A mount point and what of its path is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The mount point, absolute; what exists of it is free of links.
    pub mountpoint: PathBuf,
    /// The deepest directory on its way that exists.
    existing: PathBuf,
    /// Whether what is missing has to be made in memory.
    is_covered: bool,
}

impl Site {
    /// Looks at a mount point. To be called before a name space is entered, where the rights of the caller still hold.
    ///
    /// # Errors
    /// Something on its way is no directory or cannot be looked into, or what is missing goes up again (`..`).
    pub fn find(path: &Path) -> Result<Self, MachineError> {
        let unusable = |error| MachineError::MountpointUnusable { path: path.to_owned(), error };
        let absolute = std::path::absolute(path).map_err(unusable)?;
        for ancestor in absolute.ancestors() {
            match fs::symlink_metadata(ancestor) {
                Ok(_) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) =>
                {
                    continue;
                }
                Err(error) => return Err(unusable(error)),
            }
            let existing = ancestor.canonicalize().map_err(unusable)?;
            if !existing.is_dir() {
                return Err(MachineError::MountpointNotADirectory { path: existing });
            }
            let missing = absolute.strip_prefix(ancestor).unwrap_or(Path::new(""));
            if missing.components().any(|part| !matches!(part, Component::Normal(_))) {
                return Err(unusable(io::ErrorKind::NotFound.into()));
            }
            let is_missing = missing.components().next().is_some();
            let may_write = eaccess(&existing, AccessFlags::W_OK | AccessFlags::X_OK).is_ok();
            let mountpoint = if is_missing { existing.join(missing) } else { existing.clone() };
            return Ok(Self { mountpoint, existing, is_covered: is_missing && !may_write });
        }
        Err(unusable(io::ErrorKind::NotFound.into()))
    }

    /// The deepest directory on its way that exists.
    pub fn existing(&self) -> &Path {
        &self.existing
    }

    /// Whether some of it does not exist.
    pub fn is_missing(&self) -> bool {
        self.existing != self.mountpoint
    }

    /// Whether some of it does not exist and can be made only in a name space of one's own.
    pub fn is_covered(&self) -> bool {
        self.is_covered
    }

    /// Makes what is missing in memory, unless it can be made where it belongs; then the one who mounts makes and removes it.
    ///
    /// In a mount name space of this process's own, with the right to mount in it. Afterwards relative paths mean what they
    /// meant only after the working directory was taken by name again.
    ///
    /// # Errors
    /// The directory cannot be listed, or the kernel refused.
    pub fn prepare(&self) -> Result<(), MachineError> {
        if !self.is_covered {
            return Ok(());
        }
        let entries = self.entries()?;
        if self.existing.parent().is_some() {
            self.cover(&self.existing, &entries)?;
            return self.seal(&self.existing);
        }
        // Nothing can be mounted over the root of a process; so a new root is made, on any directory whose content is held already.
        let Some(carrier) = entries.iter().find(|entry| entry.kind.is_dir()) else {
            return Err(self.failed("finding a directory in `/`", Errno::ENOENT));
        };
        let carrier = self.existing.join(&carrier.name);
        self.cover(&carrier, &entries)?;
        self.seal(&carrier)?;
        self.change_root(&carrier)
    }

    /// Everything in the directory that will be covered, held apart from it.
    fn entries(&self) -> Result<Vec<CoveredEntry>, MachineError> {
        let listing = fs::read_dir(&self.existing);
        let listing = listing.map_err(|error| self.failed_io("listing it", &error))?;
        let mut entries = Vec::new();
        for entry in listing {
            let entry = entry.map_err(|error| self.failed_io("listing it", &error))?;
            let path = entry.path();
            let Ok(kind) = entry.file_type() else { continue };
            let content = if kind.is_symlink() {
                fs::read_link(&path).map(CoveredContent::Link)
            } else {
                let flags = OpenTreeFlags::OPEN_TREE_CLONE
                    | OpenTreeFlags::OPEN_TREE_CLOEXEC
                    | OpenTreeFlags::AT_RECURSIVE
                    | OpenTreeFlags::AT_NO_AUTOMOUNT
                    | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
                open_tree(CWD, &path, flags).map(CoveredContent::Tree).map_err(io::Error::from)
            };
            match content {
                Ok(content) => {
                    entries.push(CoveredEntry { name: entry.file_name(), kind, content });
                }
                // It went away after it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(self.failed_io(&format!("holding `{}`", path.display()), &error));
                }
            }
        }
        Ok(entries)
    }

    /// Mounts a file system in memory on `target`, and in it what was held, and the directories that are missing.
    fn cover(&self, target: &Path, entries: &[CoveredEntry]) -> Result<(), MachineError> {
        let found = fs::metadata(&self.existing);
        let mode = found.map_err(|error| self.failed_io("looking at it", &error))?.mode() & 0o7777;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        let options = format!("mode={mode:o},size=16m");
        mount(Some("overlayfs-mount"), target, Some("tmpfs"), flags, Some(options.as_str()))
            .map_err(|error| self.failed("mounting a file system in memory", error))?;
        for entry in entries {
            self.put(&target.join(&entry.name), entry)?;
        }
        let missing = self.mountpoint.strip_prefix(&self.existing).unwrap_or(Path::new(""));
        let made = DirBuilder::new().recursive(true).mode(0o755).create(target.join(missing));
        made.map_err(|error| self.failed_io("making its directories", &error))
    }

    fn put(&self, path: &Path, entry: &CoveredEntry) -> Result<(), MachineError> {
        let step = || format!("putting `{}` back", path.display());
        let made = match &entry.content {
            CoveredContent::Link(target) => symlink(target, path),
            CoveredContent::Tree(_) if entry.kind.is_dir() => fs::create_dir(path),
            CoveredContent::Tree(_) => File::create_new(path).map(drop),
        };
        made.map_err(|error| self.failed_io(&step(), &error))?;
        let CoveredContent::Tree(tree) = &entry.content else { return Ok(()) };
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(tree, "", CWD, path, flags)
            .map_err(|error| self.failed(&step(), Errno::from_raw(error.raw_os_error())))
    }

    /// Whatever is written to the covered directory itself would be lost.
    fn seal(&self, target: &Path) -> Result<(), MachineError> {
        let flags = MsFlags::MS_REMOUNT
            | MsFlags::MS_BIND
            | MsFlags::MS_RDONLY
            | MsFlags::MS_NOSUID
            | MsFlags::MS_NODEV;
        mount(None::<&str>, target, None::<&str>, flags, None::<&str>)
            .map_err(|error| self.failed("making it read-only", error))
    }

    fn change_root(&self, new: &Path) -> Result<(), MachineError> {
        std::env::set_current_dir(new).map_err(|error| self.failed_io("chdir", &error))?;
        // The old root is put on top of the new one, and taken away there (pivot_root(2), "pivot_root(".", ".")").
        nix::unistd::pivot_root(".", ".").map_err(|error| self.failed("pivot_root", error))?;
        umount2(".", MntFlags::MNT_DETACH)
            .map_err(|error| self.failed("letting go of the old root", error))?;
        std::env::set_current_dir("/").map_err(|error| self.failed_io("chdir", &error))
    }

    fn failed(&self, step: &str, error: Errno) -> MachineError {
        let step = format!("{step} (below `{}`)", self.existing.display());
        MachineError::Site { path: self.mountpoint.clone(), step, error }
    }

    fn failed_io(&self, step: &str, error: &io::Error) -> MachineError {
        self.failed(step, Errno::from_raw(error.raw_os_error().unwrap_or_default()))
    }
}

/// Something in a directory that is going to be covered.
struct CoveredEntry {
    name: OsString,
    kind: FileType,
    content: CoveredContent,
}

enum CoveredContent {
    /// A link, with its target.
    Link(PathBuf),
    /// Anything else, with all that is mounted in it.
    Tree(OwnedFd),
}

/// Takes the working directory by its name again, where something was mounted on the way to it. One whose name leads nowhere stays.
pub fn enter_again(directory: &OsStr) {
    std::env::set_current_dir(directory).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_directory_that_exists_is_found_through_links() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        fs::create_dir(real.join("real")).unwrap();
        symlink("real", real.join("link")).unwrap();
        let site = Site::find(&real.join("link/a/b")).unwrap();
        assert_eq!(site.mountpoint, real.join("real/a/b"));
        assert_eq!(site.existing, real.join("real"));
        assert!(!site.is_covered, "it can be written to");
        let site = Site::find(&real.join("link")).unwrap();
        assert_eq!((site.mountpoint, site.is_covered), (real.join("real"), false));
        Site::find(&real.join("none/../x")).unwrap_err();
        fs::write(real.join("file"), "").unwrap();
        let error = Site::find(&real.join("file/x")).unwrap_err();
        assert!(error.to_string().contains("file"), "{error}");
    }
}
