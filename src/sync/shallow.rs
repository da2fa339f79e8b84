//! Where the history of a mirror ends: the file `shallow`, which git writes without waiting for the disk.
//!
//! A loss of power may leave it empty, or full of zeros, while refs and objects are there. Then git looks for parents that nobody fetched,
//! and fails. What is served needs no parents.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use super::fetch::FetchCause;
use super::resolve::Refs;
use crate::store::git::Repository;

const NAME: &str = "shallow";

/// True if the history of a repository ends somewhere, also where it was lost where. Git removes the file when the history is whole.
pub(super) fn is_shallow(git_dir: &Path) -> bool {
    git_dir.join(NAME).exists()
}

/// Writes it anew if its bytes were lost, or if it lacks what a ref leads to: the history of a mirror ends at its refs, unless all of it
/// is there (S117).
pub(super) fn mend(git_dir: &Path, repository: &Repository) -> Result<(), FetchCause> {
    let place = git_dir.join(NAME);
    let Ok(text) = fs::read(&place) else { return Ok(()) };
    let (mut ends, is_whole) = read(&text);
    let known = ends.len();
    let refs = Refs::of(repository);
    let found = refs.names().into_iter().filter_map(|name| refs.find(&name).ok().flatten());
    let found = found.filter_map(|id| repository.peel(&id).ok());
    ends.extend(found.map(|(id, _)| format!("{id}\n")));
    if is_whole && ends.len() == known {
        return Ok(());
    }
    let text: String = ends.into_iter().collect();
    put(git_dir, text.as_bytes()).map_err(|error| FetchCause::of_cache(&place, &error))
}

/// The lines that are ids, and whether there is nothing else.
fn read(text: &[u8]) -> (BTreeSet<String>, bool) {
    let is_id = |line: &&[u8]| {
        line.strip_suffix(b"\n")
            .is_some_and(|id| matches!(id.len(), 40 | 64) && id.iter().all(u8::is_ascii_hexdigit))
    };
    let lines = || text.split_inclusive(|byte| *byte == b'\n');
    let ids = lines().filter(is_id).map(|line| String::from_utf8_lossy(line).into_owned());
    (ids.collect(), !text.is_empty() && lines().all(|line| is_id(&line)))
}

/// In one step, and on the disk before it has its name; under the name that git locks it by, which the next round takes away.
fn put(git_dir: &Path, text: &[u8]) -> io::Result<()> {
    let temporary = git_dir.join("shallow.lock");
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&temporary, git_dir.join(NAME))?;
        File::open(git_dir)?.sync_all()
    });
    written.inspect_err(|_| fs::remove_file(&temporary).unwrap_or_default())
}

/// Returns when it is on the disk.
pub(super) fn settle(git_dir: &Path) -> Result<(), FetchCause> {
    let place = git_dir.join(NAME);
    let file = match File::open(&place) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        file => file,
    };
    let settled =
        file.and_then(|file| file.sync_all()).and_then(|()| File::open(git_dir)?.sync_all());
    settled.map_err(|error| FetchCause::of_cache(&place, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_loss_of_power_leaves_is_no_list_of_ids() {
        let id = "0123456789abcdef0123456789abcdef01234567";
        let whole = format!("{id}\n");
        assert_eq!(read(whole.as_bytes()), (BTreeSet::from([whole.clone()]), true));
        let cut = format!("{whole}{}\n", &id[1..]);
        assert_eq!(read(cut.as_bytes()), (BTreeSet::from([whole]), false));
        for lost in [String::new(), id.to_owned(), "\0".repeat(82)] {
            assert_eq!(read(lost.as_bytes()), (BTreeSet::new(), false), "{lost:?}");
        }
    }
}
