//! Which commit a ref leads to.
//!
//! No revision expressions, no short ids: a full name, a branch, a tag, or a full commit id. What looks like a full id is
//! one, whatever branch may bear it as a name.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use gix::refs::{FullName, Target};

use super::error::{SourceCause, nearest};
use super::locate::path;
use crate::store::StoreError;
use crate::store::git::{Commit, Repository, is_special, oid};
use crate::union::object::Oid;

/// Symbolic refs are followed through at most so many, as git does.
pub(super) const SYMBOLIC_MAX: usize = 5;

/// Finds the commit of a ref; of HEAD if there is none.
pub(super) fn resolve(
    repository: &Repository,
    place: &Path,
    git_ref: Option<&str>,
) -> Result<(Oid, Commit), SourceCause> {
    let refs = Refs::of(repository);
    let Some(git_ref) = git_ref else { return head(&refs, repository, place) };
    let unreadable = |problem: String, is_momentary| SourceCause::Unreadable {
        git_ref: git_ref.to_owned(),
        place: place.to_owned(),
        problem,
        is_momentary,
    };
    // What is asked for is not proposed.
    let available = || {
        let names = refs.short_names().into_iter().filter(|name| name != git_ref);
        nearest(git_ref, names.collect())
    };
    let of_object = |error: StoreError| match error {
        StoreError::NotACommit { .. } => SourceCause::NotACommit {
            git_ref: git_ref.to_owned(),
            place: place.to_owned(),
            problem: error.to_string(),
            available: available(),
        },
        error => unreadable(error.to_string(), error.is_momentary()),
    };
    if let Some(id) = oid(git_ref.as_bytes())
        && repository.is_full_id(git_ref)
    {
        let commit = repository.commit(&id).map_err(|error| {
            of_object(match repository.peel(&id) {
                Err(other @ StoreError::NotACommit { .. }) => other,
                Ok((commit, _)) if commit != id => {
                    StoreError::NotACommit { oid: id.to_string(), kind: "tag".to_owned() }
                }
                Ok(_) | Err(_) => error,
            })
        })?;
        return Ok((id, commit));
    }
    for name in candidates(git_ref) {
        if let Some(id) = refs.find(&name).map_err(|problem| unreadable(problem, false))? {
            return repository.peel(&id).map_err(of_object);
        }
    }
    Err(SourceCause::NoSuchRef {
        git_ref: git_ref.to_owned(),
        place: place.to_owned(),
        available: available(),
    })
}

/// Whether a ref leads to a commit now; HEAD if there is none.
pub(super) fn leads_to(
    repository: &Repository,
    place: &Path,
    git_ref: Option<&str>,
    commit: &Oid,
) -> bool {
    resolve(repository, place, git_ref).is_ok_and(|(found, _)| found == *commit)
}

/// So many commits are looked at whether one comes from another.
const NEWER_MAX: usize = 1000;

/// Whether a ref leads to a commit now, or to one that comes from it: while that is so `git gc` removes nothing of it.
pub(super) fn keeps(
    repository: &Repository,
    place: &Path,
    git_ref: Option<&str>,
    commit: &Oid,
) -> bool {
    let found = resolve(repository, place, git_ref);
    found.is_ok_and(|(found, _)| repository.comes_from(&found, commit, NEWER_MAX))
}

/// The full names that a ref may stand for, in the order of the look-up.
pub(super) fn candidates(git_ref: &str) -> Vec<String> {
    let mut names = vec![format!("refs/remotes/origin/{git_ref}")];
    if git_ref.starts_with("refs/") || git_ref == "HEAD" {
        names.push(git_ref.to_owned());
    }
    names.push(format!("refs/heads/{git_ref}"));
    names.push(format!("refs/tags/{git_ref}"));
    // What git too takes for `heads/main` and `origin/main`.
    names.push(format!("refs/{git_ref}"));
    names.push(format!("refs/remotes/{git_ref}"));
    names
}

fn head(
    refs: &Refs<'_>,
    repository: &Repository,
    place: &Path,
) -> Result<(Oid, Commit), SourceCause> {
    let no_head = |problem: String| SourceCause::NoHead {
        place: place.to_owned(),
        problem,
        available: nearest("main", refs.short_names()),
    };
    match refs.find("HEAD") {
        Ok(Some(id)) => repository.peel(&id).map_err(|error| SourceCause::Unreadable {
            git_ref: "HEAD".to_owned(),
            place: place.to_owned(),
            problem: error.to_string(),
            is_momentary: error.is_momentary(),
        }),
        Ok(None) => Err(no_head("names a branch without commits".to_owned())),
        Err(problem) => Err(no_head(format!("cannot be read: {problem}"))),
    }
}

/// The refs of a repository, read by whoever can.
pub(super) enum Refs<'a> {
    /// Loose and packed refs.
    Files(&'a Repository, Box<gix::refs::file::Store>),
    /// A reftable, which the library does not know.
    Table(&'a Repository),
}

impl<'a> Refs<'a> {
    /// The refs of an open repository.
    pub(super) fn of(repository: &'a Repository) -> Self {
        if repository.has_reftable() {
            return Self::Table(repository);
        }
        let store = repository.refs();
        // The library takes packed refs for unchanged while their time is the same; two writes may fall into one tick of the clock. What
        // cannot be read now is met again, with its error, when a ref is looked up.
        store.force_refresh_packed_buffer().unwrap_or_default();
        Self::Files(repository, Box::new(store))
    }

    /// The object that a full ref name leads to; `None` if there is no such ref, or the name can be none.
    pub(super) fn find(&self, name: &str) -> Result<Option<Oid>, String> {
        let Ok(full_name) = FullName::try_from(name) else { return Ok(None) };
        match self {
            Self::Files(repository, store) => find_in_files(repository, store, full_name),
            Self::Table(repository) => {
                // Of other names than HEAD `rev-parse` tries other prefixes too, where the name itself is not there.
                let line = match name {
                    "HEAD" => git(repository, &["rev-parse", "--verify", "--quiet", name])?,
                    _ => git(repository, &["show-ref", "--verify", "--hash", name])?,
                };
                Ok(line.and_then(|line| oid(line.trim_ascii())))
            }
        }
    }

    /// The names of branches and tags as users write them.
    fn short_names(&self) -> Vec<String> {
        let short = |name: &String| {
            let prefixes = ["refs/heads/", "refs/tags/", "refs/remotes/origin/"];
            let short = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix))?;
            (short != "HEAD").then(|| short.to_owned())
        };
        self.names().iter().filter_map(short).collect()
    }

    /// The full names of all refs; none where they cannot be listed.
    pub(super) fn names(&self) -> Vec<String> {
        match self {
            Self::Files(repository, store) => names_in_files(repository, store),
            Self::Table(repository) => {
                let lines = git(repository, &["for-each-ref", "--format=%(refname)"]);
                let lines = lines.ok().flatten().unwrap_or_default();
                String::from_utf8_lossy(&lines).lines().map(str::to_owned).collect()
            }
        }
    }
}

/// The names alone: a file for each of a hundred thousand loose refs takes more than a second to read.
fn names_in_files(repository: &Repository, store: &gix::refs::file::Store) -> Vec<String> {
    let mut names = BTreeSet::new();
    let packed = store.cached_packed_buffer().ok().flatten();
    if let Some(Ok(packed)) = packed.as_ref().map(|packed| packed.iter()) {
        names.extend(packed.flatten().map(|found| found.name.as_bstr().to_string()));
    }
    let mut directories = vec!["refs".to_owned()];
    while let Some(above) = directories.pop() {
        let entries = std::fs::read_dir(repository.common_dir().join(&above));
        for entry in entries.into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let name = format!("{above}/{name}");
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => directories.push(name),
                // Those that are being written, as `main.lock`, can be no names.
                Ok(_) if FullName::try_from(name.as_str()).is_ok() => drop(names.insert(name)),
                Ok(_) | Err(_) => {}
            }
        }
    }
    names.into_iter().collect()
}

fn find_in_files(
    repository: &Repository,
    store: &gix::refs::file::Store,
    mut name: FullName,
) -> Result<Option<Oid>, String> {
    for _ in 0..SYMBOLIC_MAX {
        let directories = [repository.git_dir(), repository.common_dir()];
        if directories.iter().any(|directory| is_special(&directory.join(path(name.as_bstr())))) {
            return Err(format!("`{name}` is not a regular file", name = name.as_bstr()));
        }
        let found = store.try_find(name.as_ref()).map_err(|error| error.to_string())?;
        let Some(found) = found.filter(|found| found.name == name) else { return Ok(None) };
        match found.target {
            Target::Object(id) => return Ok(Oid::from_bytes(id.as_bytes())),
            Target::Symbolic(next) => name = next,
        }
    }
    Err("is a symbolic ref without end".to_owned())
}

/// Asks the `git` program about a repository; `None` if it says no.
fn git(repository: &Repository, arguments: &[&str]) -> Result<Option<Vec<u8>>, String> {
    let mut command = Command::new("git");
    command.env_clear();
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
        .envs([
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
            ("GIT_OPTIONAL_LOCKS", "0"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("HOME", "/nonexistent"),
            ("LC_ALL", "C"),
        ])
        .args(["-c", "safe.directory=*", "-c", "core.fsmonitor=false", "--git-dir"])
        .arg(repository.git_dir())
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let output = command.output().map_err(|error| format!("cannot run `git`: {error}"))?;
    Ok(output.status.success().then_some(output.stdout))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::git::fixture::Fixture;

    #[test]
    fn all_refs_are_named_wherever_they_are() {
        let fixture = Fixture::new();
        let made = fixture.with_files("r", &[("file", "0")]);
        for name in ["refs/heads/a/b/c", "refs/heads/packed", "refs/x", "refs/remotes/origin/m"] {
            made.git(&["update-ref", name, "HEAD"]);
        }
        made.git(&["pack-refs", "--all"]);
        for name in ["refs/heads/a/b/c", "refs/heads/loose", "refs/tags/v1"] {
            made.git(&["update-ref", name, "HEAD"]);
        }
        made.git(&["symbolic-ref", "refs/heads/symbolic", "refs/heads/loose"]);
        std::fs::write(made.path.join(".git/refs/heads/main.lock"), "").unwrap();
        let git = made.git(&["for-each-ref", "--format=%(refname)"]);
        for place in [&made.path, &fixture.path().join("linked")] {
            if !place.exists() {
                made.git(&["worktree", "add", "-q", "--detach", "../linked"]);
            }
            let repository = Repository::open(place).unwrap();
            assert_eq!(Refs::of(&repository).names().join("\n"), git);
        }
    }
}
