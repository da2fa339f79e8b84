//! Mount points: their absolute name, whether one can be used, making one.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::MachineError;
use super::mountinfo::{Mount, MountTable};

/// Finds the absolute name of a mount point, as the kernel lists it, without asking a file system that is mounted there.
///
/// Directories above it are resolved. The last component is a link only if nothing is mounted on it.
///
/// # Errors
/// A directory above it cannot be resolved, or `/proc` is not mounted.
pub fn resolve(path: &Path) -> Result<PathBuf, MachineError> {
    resolve_in(&MountTable::read()?, path)
}

/// The same where the mounts are known.
///
/// # Errors
/// A directory above it cannot be resolved.
pub fn resolve_in(table: &MountTable, path: &Path) -> Result<PathBuf, MachineError> {
    let unusable = |error| MachineError::MountpointUnusable { path: path.to_owned(), error };
    // Without a slash at the end, by which it would be another name for who looks for its socket.
    let absolute: PathBuf = std::path::absolute(path).map_err(unusable)?.components().collect();
    if table.topmost_at(&absolute).is_some_and(Mount::is_ours) {
        return Ok(absolute);
    }
    let Some(Component::Normal(name)) = absolute.components().next_back() else {
        return absolute.canonicalize().map_err(unusable);
    };
    let above = absolute.parent().unwrap_or(Path::new("/"));
    let above = match above.canonicalize() {
        Ok(above) => above,
        // `..` in it must go all the same: the kernel lists none.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return resolve_in(table, above).map(|above| above.join(name));
        }
        Err(error) => return Err(unusable(error)),
    };
    let joined = above.join(name);
    if table.topmost_at(&joined).is_some() {
        return Ok(joined);
    }
    match joined.canonicalize() {
        Ok(real) => Ok(real),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(joined),
        Err(error) => Err(unusable(error)),
    }
}

/// The same place with the links and `..` on the way to a view of ours followed. Nothing is followed in the view, and it is not asked. A
/// path that leads to no view stays as far as nothing is there.
pub fn through_links(table: &MountTable, path: &Path) -> PathBuf {
    let is_view = |place: &Path| table.topmost_at(place).is_some_and(Mount::is_ours);
    let mut place = PathBuf::from("/");
    let mut rest = path.components();
    while let Some(part) = rest.next() {
        match part {
            Component::Prefix(_) | Component::RootDir | Component::CurDir => continue,
            // No link is left in what has been gone through.
            Component::ParentDir => drop(place.pop()),
            Component::Normal(name) => place.push(name),
        }
        if !is_view(&place) {
            let Ok(real) = place.canonicalize() else { return place.join(rest.as_path()) };
            place = real;
        }
        // Up again from its root is out of it.
        if is_view(&place) && rest.clone().next() != Some(Component::ParentDir) {
            return place.join(rest.as_path());
        }
    }
    place
}

/// Checks that a view can be mounted on a path that [`resolve`] gave.
///
/// # Errors
/// It is missing, no directory, unreadable, or a view of ours is mounted there, dead or alive.
pub fn check(path: &Path) -> Result<(), MachineError> {
    check_in(&MountTable::read()?, path)
}

/// The same where the mounts are known.
///
/// # Errors
/// As there.
pub fn check_in(table: &MountTable, path: &Path) -> Result<(), MachineError> {
    if let Some(mount) = table.topmost_at(path).filter(|mount| mount.is_ours()) {
        return Err(MachineError::MountpointTaken {
            path: path.to_owned(),
            origin: mount.source.to_string_lossy().into_owned(),
        });
    }
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(MachineError::MountpointNotADirectory { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(MachineError::MountpointMissing { path: path.to_owned() })
        }
        Err(error) => Err(MachineError::MountpointUnusable { path: path.to_owned(), error }),
    }
}

/// Makes the directories of a mount point that are missing, each with mode 0755, and returns them, the outermost first.
///
/// # Errors
/// One of them cannot be made. Those that were made are removed again.
pub fn create_mountpoint(path: &Path) -> Result<Vec<PathBuf>, MachineError> {
    // Whatever is mounted there is not asked: it may be dead.
    if MountTable::read()?.topmost_at(path).is_some() {
        return Ok(Vec::new());
    }
    create_missing(path)
}

fn create_missing(path: &Path) -> Result<Vec<PathBuf>, MachineError> {
    let mut missing = Vec::new();
    for directory in path.ancestors().filter(|path| *path != Path::new("")) {
        match fs::symlink_metadata(directory) {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(directory),
            Err(error) => {
                return Err(MachineError::MountpointUnusable { path: directory.to_owned(), error });
            }
        }
    }
    missing.reverse();
    let mut made = Vec::with_capacity(missing.len());
    for directory in missing {
        match DirBuilder::new().mode(0o755).create(directory) {
            Ok(()) => made.push(directory.to_owned()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                remove_mountpoint(&made);
                return Err(MachineError::MountpointUnusable { path: directory.to_owned(), error });
            }
        }
    }
    Ok(made)
}

/// A mount point that is in use in some name space. Removing its directory would take the mounts on it away in all others (rmdir(2) of a
/// directory that is a mount point elsewhere succeeds), so whoever made it removes it only if nobody else uses it.
#[derive(Debug)]
pub struct Claim {
    made: Vec<PathBuf>,
    directory: Option<Flock<File>>,
}

impl Claim {
    /// Makes a mount point as [`create_mountpoint`] does and claims it.
    ///
    /// # Errors
    /// As there.
    pub fn make(path: &Path) -> Result<Self, MachineError> {
        Self::make_in(&MountTable::read()?, path)
    }

    /// The same where the mounts are known.
    ///
    /// # Errors
    /// As there.
    pub fn make_in(table: &MountTable, path: &Path) -> Result<Self, MachineError> {
        // Whatever is mounted there is not asked: it may be dead, or hang.
        if table.topmost_at(path).is_some() {
            return Ok(Self { made: Vec::new(), directory: None });
        }
        let mut made = create_missing(path)?;
        for _ in 0..TRIES {
            let directory = File::open(path).ok();
            let directory = directory
                .and_then(|file| Flock::lock(file, FlockArg::LockSharedNonblock).ok())
                .filter(|directory| is_at(directory, path));
            if directory.is_some() {
                return Ok(Self { made, directory });
            }
            // Its maker may just have removed it.
            made.extend(create_mountpoint(path)?);
        }
        Ok(Self { made, directory: None })
    }

    /// The claim that an earlier process had on what is mounted still, with what it made.
    pub fn again(made: Vec<PathBuf>) -> Self {
        Self { made, directory: None }
    }

    /// The directories that were made for it, the outermost first.
    pub fn made(&self) -> &[PathBuf] {
        &self.made
    }

    /// Removes what was made, unless somebody else uses it.
    pub fn release(self) {
        let Self { made, directory } = self;
        // Where nothing can be locked nothing is known of others.
        let is_last =
            directory.is_none_or(|held| held.relock(FlockArg::LockExclusiveNonblock).is_ok());
        if is_last {
            remove_mountpoint(&made);
        }
    }
}

/// How often a mount point may vanish while it is claimed.
const TRIES: usize = 10;

fn is_at(directory: &File, path: &Path) -> bool {
    let id = |found: fs::Metadata| (found.dev(), found.ino());
    directory.metadata().ok().map(id) == fs::metadata(path).ok().map(id)
}

/// Removes directories that [`create_mountpoint`] made, the innermost first, as far as they are empty.
pub fn remove_mountpoint(made: &[PathBuf]) {
    for directory in made.iter().rev() {
        if fs::remove_dir(directory).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_directories_are_made_reported_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/c");
        let made = create_mountpoint(&path).unwrap();
        assert_eq!(made, [dir.path().join("a"), dir.path().join("a/b"), path.clone()]);
        assert!(create_mountpoint(&path).unwrap().is_empty());
        check(&path).unwrap();
        remove_mountpoint(&made);
        assert!(!dir.path().join("a").exists());
    }

    #[test]
    fn a_mount_point_that_others_use_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let maker = Claim::make(&path).unwrap();
        let other = Claim::make(&path).unwrap();
        maker.release();
        assert!(path.exists(), "somebody else uses it");
        other.release();
        assert!(path.exists(), "who did not make it does not remove it");
        Claim::make(&path.join("c")).unwrap().release();
        assert!(path.exists() && !path.join("c").exists());
    }

    #[test]
    fn a_file_and_a_missing_directory_are_no_mount_points() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(check(&file), Err(MachineError::MountpointNotADirectory { .. })));
        let missing = check(&dir.path().join("none")).unwrap_err();
        assert!(matches!(missing, MachineError::MountpointMissing { .. }));
        assert!(missing.cure().unwrap().starts_with("mkdir -p"));
        let error = create_mountpoint(&file.join("below")).unwrap_err();
        assert!(error.to_string().contains("cannot be used"), "{error}");
    }

    #[test]
    fn a_link_is_resolved_and_a_missing_name_stays() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        fs::create_dir(real.join("real")).unwrap();
        std::os::unix::fs::symlink("real", real.join("link")).unwrap();
        assert_eq!(resolve(&real.join("link")).unwrap(), real.join("real"));
        assert_eq!(resolve(&real.join("link/none")).unwrap(), real.join("real/none"));
        assert_eq!(resolve(&real.join("none/none")).unwrap(), real.join("none/none"));
        assert_eq!(resolve(&real.join("real/..")).unwrap(), real);
        assert_eq!(resolve(&real.join("real/../none/x/y")).unwrap(), real.join("none/x/y"));
        // What is made for it would stand elsewhere than the name says.
        resolve(&real.join("none/../x")).unwrap_err();
    }

    #[test]
    fn a_path_into_a_view_is_found_through_links_and_nothing_is_followed_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        fs::create_dir_all(real.join("view/sub")).unwrap();
        std::os::unix::fs::symlink("/etc", real.join("view/out")).unwrap();
        std::os::unix::fs::symlink("view", real.join("link")).unwrap();
        let listed = format!("40 21 0:44 / {}/view ro - fuse.overlayfs-mount a ro", real.display());
        let table = MountTable::parse(listed.as_bytes());
        let found = |path: &str| through_links(&table, &real.join(path));
        for path in ["view/out/x", "link/out/x", "link/../view/out/x", "./view//out/x/"] {
            assert_eq!(found(path), real.join("view/out/x"), "{path}");
        }
        assert_eq!(found("link"), real.join("view"));
        assert_eq!(found("link/sub/../none"), real.join("view/sub/../none"));
        assert_eq!(found("none/x/../y"), real.join("none/x/../y"));
        assert_eq!(found(".."), real.parent().unwrap());
    }

    #[test]
    fn a_slash_at_the_end_makes_no_other_name() {
        let listed = b"40 21 0:44 / /mnt/view ro - fuse.overlayfs-mount a.yaml ro\n";
        let table = MountTable::parse(listed);
        let name = |path: &str| resolve_in(&table, Path::new(path)).unwrap().into_os_string();
        assert_eq!(name("/mnt/view/"), "/mnt/view");
        assert_eq!(name("/mnt//view/./"), "/mnt/view");
        assert_eq!(name("/usr/none/"), "/usr/none");
    }
}
