//! Data on standard output: bytes, tables, JSON.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::failure::Failure;
use crate::union::name::Printable;

/// Writes bytes. A reader that went away is no failure: it has what it wanted.
pub(super) fn write(bytes: &[u8]) -> Result<ExitCode, Failure> {
    let mut out = io::stdout().lock();
    ended(out.write_all(bytes).and_then(|()| out.flush()))
}

fn ended(written: io::Result<()>) -> Result<ExitCode, Failure> {
    match written {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(Failure::output(error)),
    }
}

/// Writes what was asked for by `--help` or `--version`, in colours where there are some.
pub(super) fn help(asked: &clap::Error) -> Result<ExitCode, Failure> {
    let mut out = anstream::stdout().lock();
    ended(write!(out, "{}", asked.render().ansi()).and_then(|()| out.flush()))
}

/// Writes what a daemon said, for people: root asks those of others too.
pub(super) fn said(text: &str) -> Result<ExitCode, Failure> {
    write(Lines(text).to_string().as_bytes())
}

/// Writes one JSON document.
pub(super) fn json(document: &impl Serialize) -> Result<ExitCode, Failure> {
    let mut text = serde_json::to_vec_pretty(document).map_err(Failure::new)?;
    text.push(b'\n');
    write(&text)
}

/// The first twelve digits of a revision, for people.
pub(super) fn short(revision: &str) -> &str {
    revision.get(..12).unwrap_or(revision)
}

/// What stands for the ref of a source, for people: a live directory has none, and of some it is not told.
pub(super) fn git_ref(git_ref: Option<&str>, is_live: Option<bool>) -> &str {
    match (git_ref, is_live) {
        (Some(git_ref), _) => git_ref,
        (None, Some(true)) => "live",
        (None, Some(false)) => "HEAD",
        (None, None) => "-",
    }
}

/// A text of several lines, each shown so that it can do nothing to a terminal.
pub(super) struct Lines<'a>(pub(super) &'a str);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.0.split('\n');
        lines.next().map_or(Ok(()), |first| write!(f, "{}", Printable(first)))?;
        lines.try_for_each(|line| write!(f, "\n{}", Printable(line)))
    }
}

/// A table without borders that fits a terminal and wraps nothing elsewhere.
pub(super) fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headings.iter().copied());
    if io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    } else {
        table.set_content_arrangement(ContentArrangement::Disabled);
    }
    for row in rows {
        table.add_row(row.iter().map(|cell| Printable(cell).to_string()));
    }
    let lines = table.lines().map(|line| format!("{}\n", line.trim_end().trim_start_matches(' ')));
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_says_reaches_no_terminal() {
        let text = "a\u{1b}[2J\nb\u{202e}\\\n";
        assert_eq!(Lines(text).to_string(), "a\\x1b[2J\nb\\u{202e}\\\n");
    }
}
