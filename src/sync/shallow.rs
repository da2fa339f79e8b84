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

/// Writes it anew if its bytes were lost: the history of a mirror ends at its refs, unless all of it is there (S117).
pub(super) fn mend(git_dir: &Path, repository: &Repository) -> Result<(), FetchCause> {
    let place = git_dir.join(NAME);
    let Ok(text) = fs::read(&place) else { return Ok(()) };
    if is_whole(&text) {
        return Ok(());
    }
    let refs = Refs::of(repository);
    let found = refs.names().into_iter().filter_map(|name| refs.find(&name).ok().flatten());
    let ends = found.filter_map(|id| repository.peel(&id).ok());
    let lines: BTreeSet<String> = ends.map(|(id, _)| format!("{id}\n")).collect();
    let text: String = lines.into_iter().collect();
    put(git_dir, text.as_bytes()).map_err(|error| FetchCause::of_cache(&place, &error))
}

/// Whether each line is an id.
fn is_whole(text: &[u8]) -> bool {
    let is_id =
        |line: &[u8]| matches!(line.len(), 40 | 64) && line.iter().all(u8::is_ascii_hexdigit);
    text.strip_suffix(b"\n").is_some_and(|text| text.split(|byte| *byte == b'\n').all(is_id))
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
        assert!(is_whole(format!("{id}\n{id}\n").as_bytes()));
        for lost in [String::new(), id.to_owned(), format!("{id}\n{}\n", &id[1..]), "\0".repeat(82)]
        {
            assert!(!is_whole(lost.as_bytes()), "{lost:?}");
        }
    }
}
