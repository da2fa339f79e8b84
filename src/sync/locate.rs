//! Where a source is on this machine.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{SourceCause, Tried};
use super::repositories::Repositories;
use crate::config::resolved::{Access, Config, Location, SourceSpec};
use crate::store::git::{OpenError, Repository};
use crate::store::is_momentary;

/// What is said of a place that [`is_refused`].
pub(super) const PRIVATE: &str = "is below the cache's `private` directory";

/// A repository at the place where it was found.
#[derive(Debug)]
pub(super) struct Located {
    /// The place, as it was looked for.
    pub(super) place: PathBuf,
    /// The repository.
    pub(super) repository: Arc<Repository>,
}

/// Finds the repository of a source: the first of its places that opens is taken.
pub(super) fn locate(
    config: &Config,
    spec: &SourceSpec,
    repositories: &Repositories,
) -> Result<Located, SourceCause> {
    let mut tried = Vec::new();
    let (mut is_anything_there, mut is_private_there) = (false, false);
    for place in places(config, spec) {
        match open(config, &place, repositories) {
            Ok(repository) => return Ok(Located { place, repository }),
            Err(problem) => {
                is_private_there |= matches!(problem, PlaceProblem::Private);
                let (problem, is_there, is_momentary) = match problem {
                    PlaceProblem::Absent => ("does not exist".to_owned(), false, false),
                    PlaceProblem::Private => (PRIVATE.to_owned(), false, false),
                    PlaceProblem::Other(problem) => (problem, true, false),
                    PlaceProblem::Momentary(problem) => (problem, true, true),
                };
                is_anything_there |= is_there;
                tried.push(Tried { path: place, problem });
                // What is at a later place may not be taken for it.
                if is_momentary {
                    return Err(SourceCause::NotOpened { tried, is_momentary });
                }
            }
        }
    }
    if is_anything_there {
        return Err(SourceCause::NotOpened { tried, is_momentary: false });
    }
    if is_private_there {
        let public = match spec.location {
            Location::Repo { .. } => tried.first().map(|tried| tried.path.clone()),
            Location::Path(_) => None,
        };
        return Err(SourceCause::Private { tried, public });
    }
    Err(SourceCause::NotFound { tried })
}

/// The places where the repository of a source may be, in the order of the look-up.
pub(super) fn places(config: &Config, spec: &SourceSpec) -> Vec<PathBuf> {
    let repo = match &spec.location {
        Location::Path(path) => return vec![path.clone()],
        Location::Repo { repo, .. } => repo,
    };
    let below =
        |dir: PathBuf| dir.join(path(repo.owner.as_bytes())).join(path(repo.repo.as_bytes()));
    let cache = &config.repo_cache.path;
    let plain = [below(cache.join(spec.visibility.to_string())), below(cache.clone())];
    let bare = plain.clone().map(|place| {
        let mut place = place.into_os_string();
        place.push(".git");
        PathBuf::from(place)
    });
    plain.into_iter().chain(bare).collect()
}

/// The bytes of a name as a path.
pub(super) fn path(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

enum PlaceProblem {
    Absent,
    /// A public view may not read it.
    Private,
    Other(String),
    /// It may pass by itself.
    Momentary(String),
}

fn open(
    config: &Config,
    place: &Path,
    repositories: &Repositories,
) -> Result<Arc<Repository>, PlaceProblem> {
    match place.metadata() {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let is_link = place.is_symlink();
            let dangles = || PlaceProblem::Other("is a link to nothing".to_owned());
            return Err(if is_link { dangles() } else { PlaceProblem::Absent });
        }
        Err(error) if is_momentary(&error) => {
            return Err(PlaceProblem::Momentary(error.to_string()));
        }
        Err(error) => return Err(PlaceProblem::Other(error.to_string())),
    }
    let problem = |error: OpenError| {
        let kind = if error.is_momentary { PlaceProblem::Momentary } else { PlaceProblem::Other };
        kind(error.to_string())
    };
    let repository = repositories.open(place).map_err(problem)?;
    let parts = [place, repository.git_dir(), repository.common_dir(), repository.objects_dir()];
    for part in parts {
        match is_refused(config, part) {
            Ok(false) => {}
            Ok(true) => return Err(PlaceProblem::Private),
            Err(error) if is_momentary(&error) => {
                return Err(PlaceProblem::Momentary(untold(&error)));
            }
            Err(error) => return Err(PlaceProblem::Other(untold(&error))),
        }
    }
    Ok(repository)
}

/// Why it is not known whether a place is private.
pub(super) fn untold(error: &io::Error) -> String {
    format!("it cannot be told whether it {PRIVATE}: {error}")
}

/// True if a public view must not read what is there: its real path lies below the private part of the cache.
///
/// # Errors
/// That cannot be told. It is not to be read then.
pub(super) fn is_refused(config: &Config, place: &Path) -> io::Result<bool> {
    match config.access {
        Access::All | Access::None => return Ok(false),
        Access::Public => {}
    }
    let real = |path: &Path| match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        real => real.map(Some),
    };
    let (private, place) = (real(&config.repo_cache.path.join("private"))?, real(place)?);
    Ok(private.zip(place).is_some_and(|(private, place)| place.starts_with(private)))
}
