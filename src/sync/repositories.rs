//! The repositories that are open: each is opened once, and not for each source and at each look.
//!
//! An open repository costs some hundred KiB and keeps the indices of its packs. It is used again while what stands at its place is
//! the same; otherwise it is opened anew. Whoever serves from it keeps it open, nothing here does.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::signals::{Stamp, git_file};
use crate::store::git::{OpenError, Repository};

/// The repositories that are open.
#[derive(Debug)]
pub(super) struct Repositories {
    /// By their place.
    open: Mutex<HashMap<PathBuf, OpenRepository>>,
    object_bytes: u64,
}

#[derive(Debug)]
struct OpenRepository {
    repository: Weak<Repository>,
    look: Look,
}

/// What decides which repository stands at a place, and how it is read.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    real_path: Option<PathBuf>,
    /// Where it is and where its objects are.
    directories: [Option<(u64, u64)>; 2],
    /// What says how it is read.
    files: [Stamp; 4],
}

impl Look {
    fn at(place: &Path, repository: &Repository) -> Self {
        let (git_dir, common_dir) = (repository.git_dir(), repository.common_dir());
        let objects_dir = repository.objects_dir();
        Self {
            real_path: place.canonicalize().ok(),
            directories: [git_dir, objects_dir].map(Stamp::which),
            files: [
                Stamp::of(&common_dir.join("config")),
                Stamp::of(&git_dir.join("commondir")),
                Stamp::of(&objects_dir.join("info/alternates")),
                git_file(place).map(|file| Stamp::of(&file)).unwrap_or_default(),
            ],
        }
    }
}

impl Repositories {
    /// None yet. Of those that come, objects of more than `object_bytes` are not read.
    pub(super) fn within(object_bytes: u64) -> Self {
        Self { open: Mutex::default(), object_bytes }
    }

    /// The repository at a place: the one that is open if it still stands there.
    ///
    /// # Errors
    /// As [`Repository::open_within`].
    pub(super) fn open(&self, place: &Path) -> Result<Arc<Repository>, OpenError> {
        if let Some(repository) = self.open_still(place) {
            return Ok(repository);
        }
        let repository = Arc::new(Repository::open_within(place, self.object_bytes)?);
        let look = Look::at(place, &repository);
        let mut all = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, known| known.repository.strong_count() > 0);
        let known = OpenRepository { repository: Arc::downgrade(&repository), look };
        all.insert(place.to_owned(), known);
        Ok(repository)
    }

    fn open_still(&self, place: &Path) -> Option<Arc<Repository>> {
        let open = {
            let all = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            all.get(place)?.repository.upgrade()?
        };
        let look = Look::at(place, &open);
        let all = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        (all.get(place)?.look == look && open.has_room_for_packs()).then_some(open)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::store::blobs::OBJECT_BYTES;
    use crate::store::git::fixture::Fixture;
    use crate::store::git::oid;

    #[test]
    fn a_repository_with_more_packs_than_it_can_know_is_opened_anew() {
        let fixture = Fixture::new();
        let made = fixture.with_files("r", &[("file", "0")]);
        made.git(&["config", "gc.auto", "0"]);
        let repositories = Repositories::within(OBJECT_BYTES);
        let opened = repositories.open(&made.path).unwrap();
        let mut commit = String::new();
        for number in 1..=200 {
            commit = made.commit(&[("file", &number.to_string())]);
            made.git(&["repack", "-q"]);
        }
        let again = repositories.open(&made.path).unwrap();
        assert!(!Arc::ptr_eq(&opened, &again));
        assert!(again.commit(&oid(commit.as_bytes()).unwrap()).is_ok());
        assert!(Arc::ptr_eq(&again, &repositories.open(&made.path).unwrap()));
    }

    #[test]
    fn a_repository_is_opened_anew_only_where_another_stands() {
        let fixture = Fixture::new();
        let place = fixture.path().join("place");
        let (first, other) = (fixture.init("first", &[]), fixture.init("other", &[]));
        symlink(&first.path, &place).unwrap();
        let repositories = Repositories::within(OBJECT_BYTES);
        let opened = repositories.open(&place).unwrap();
        first.commit(&[("a", "")]);
        assert!(Arc::ptr_eq(&opened, &repositories.open(&place).unwrap()));

        first.git(&["config", "core.x", "y"]);
        let again = repositories.open(&place).unwrap();
        assert!(!Arc::ptr_eq(&opened, &again));

        fs::remove_file(&place).unwrap();
        symlink(&other.path, &place).unwrap();
        let swapped = repositories.open(&place).unwrap();
        assert!(!Arc::ptr_eq(&again, &swapped));

        fs::remove_dir_all(&other.path).unwrap();
        assert!(repositories.open(&place).is_err());
    }

    #[test]
    fn a_file_that_names_another_git_directory_is_followed() {
        let fixture = Fixture::new();
        let place = fixture.path().join("place");
        fs::create_dir(&place).unwrap();
        let repositories = Repositories::within(OBJECT_BYTES);
        let open = |name: &str| {
            let made = fixture.with_files(name, &[("file", name)]);
            fs::write(place.join(".git"), format!("gitdir: {}/.git\n", made.path.display()))
                .unwrap();
            let opened = repositories.open(&place).unwrap();
            assert!(opened.git_dir().starts_with(&made.path), "{name}: {:?}", opened.git_dir());
            opened
        };
        let first = open("first");
        assert!(Arc::ptr_eq(&first, &repositories.open(&place).unwrap()));
        open("other");
    }
}
