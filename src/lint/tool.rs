//! Tools: a package whose marker names a project, and scripts that no other package has.

use std::collections::HashMap;

use toml_edit::{DocumentMut, TableLike};

use super::{LintKind, VisiblePlace, Visit};
use crate::union::entries::EntryKey;
use crate::union::name::Name;

/// The only marker whose content is known.
const MARKER: &[u8] = b"pyproject.toml";

/// The scripts of the packages that were seen so far.
#[derive(Default)]
pub(super) struct Tools {
    first: HashMap<String, VisiblePlace>,
}

impl Tools {
    /// Looks at one entry; what is no package is no tool.
    pub(super) fn look_at(&mut self, mut visit: Visit<'_>, marker: &Name) {
        let entry = &visit.placed.entry;
        match entry.key {
            EntryKey::Package(_) if marker.as_bytes() == MARKER => {}
            EntryKey::Package(_) | EntryKey::Path => return,
        }
        let file = visit.path.join(marker);
        let parsed = match visit.text(&entry.source_path.join(marker)) {
            Ok(Some(text)) => text.parse::<DocumentMut>(),
            Ok(None) => return,
            Err(kind) => return visit.add(&file, kind),
        };
        let document = match parsed {
            Ok(document) => document,
            Err(error) => {
                let error = one_line(&error.to_string());
                return visit.add(&file, LintKind::BadToolFile { error });
            }
        };
        if !is_named(&document) {
            visit.add(&file, LintKind::NoToolName);
        }
        let package = visit.path.clone();
        for name in scripts(&document) {
            match self.first.get(&name) {
                Some(first) => {
                    let first = first.clone();
                    visit.add(&file, LintKind::SameScriptName { name, first });
                }
                None => drop(self.first.insert(name, visit.place(&package))),
            }
        }
    }
}

fn table<'a>(document: &'a DocumentMut, names: &[&str]) -> Option<&'a dyn TableLike> {
    let mut table: &dyn TableLike = document.as_table();
    for name in names {
        table = table.get(name)?.as_table_like()?;
    }
    Some(table)
}

/// Whether `[project]`, or the older `[tool.poetry]`, has a name.
fn is_named(document: &DocumentMut) -> bool {
    [&["project"][..], &["tool", "poetry"]].into_iter().any(|names| {
        let name = table(document, names).and_then(|table| table.get("name"));
        name.and_then(|name| name.as_str()).is_some_and(|name| !name.trim().is_empty())
    })
}

fn scripts(document: &DocumentMut) -> Vec<String> {
    let scripts = table(document, &["project", "scripts"]);
    scripts.into_iter().flat_map(|table| table.iter()).map(|(name, _)| name.to_owned()).collect()
}

/// The first line of the parser's message and the last, which says what it expected.
fn one_line(message: &str) -> String {
    let lines: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines.as_slice() {
        [first, .., last] => format!("{first}: {last}"),
        [only] => (*only).to_owned(),
        [] => String::new(),
    }
}
