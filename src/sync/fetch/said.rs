//! What `git` said, in one line for people.

use super::remote::without_password;
use crate::union::name::Printable;

/// The lines that say what was fatal, in one, with nothing in them that could do anything to a terminal.
pub(super) fn gist(all: &str) -> String {
    let lines: Vec<&str> =
        all.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect();
    let is_telling = |line: &&str| {
        ["fatal:", "error:", "ERROR:", "ssh:", "remote: "].iter().any(|mark| line.starts_with(mark))
            && !is_progress(line)
    };
    let telling: Vec<&str> = lines.iter().copied().filter(is_telling).take(3).collect();
    let chosen =
        if telling.is_empty() { lines.last().copied().into_iter().collect() } else { telling };
    let text: String = without_password(&chosen.join("; ")).chars().take(500).collect();
    if text.is_empty() { "git says nothing".to_owned() } else { Printable(&text).to_string() }
}

/// Whether a line only says how far the remote is.
fn is_progress(line: &str) -> bool {
    line.strip_prefix("remote: ").is_some_and(|line| {
        ["Enumerating objects:", "Counting objects:", "Compressing objects:", "Total "]
            .iter()
            .any(|mark| line.starts_with(mark))
    })
}
