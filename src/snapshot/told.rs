//! Why a path shows what it shows, for who sees the view and cannot ask its daemon: by what `.overlay` tells, and a look at the path.

use std::collections::HashSet;

use super::explanation::{ExplanationReport, HiddenBy, InOverlay, Shows, WinnerReport, in_overlay};
use super::report::{EntriesReport, EntryReport};
use super::status::ViewStatus;
use crate::union::explain::HidingReason;
use crate::union::name::RelPath;
use crate::union::revision::Revision;

/// What a look at a path found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Nothing is there.
    Nothing,
    /// A directory.
    Directory,
    /// Something else.
    Other,
}

/// What `.overlay` tells.
#[derive(Debug)]
pub struct Told {
    /// `entries.json`.
    pub entries: EntriesReport,
    /// `status.json`.
    pub status: ViewStatus,
}

impl Told {
    /// Explains a path at which a look found this.
    pub fn explain(&self, path: &RelPath, seen: Seen) -> ExplanationReport {
        match in_overlay(path, &self.entries.revision) {
            Some(InOverlay::Current(inside)) => {
                let report = self.explain(&inside, seen);
                return ExplanationReport { path: path.to_string(), ..report };
            }
            Some(InOverlay::Told(report)) => return *report,
            None => {}
        }
        let mut report = self.of_entries(path);
        match (report.shows, seen) {
            (Shows::Nothing, Seen::Directory | Seen::Other) => {
                report.absence = None;
                report.winner = self.of_source(path);
                let is_merged = report.winner.is_none() && seen == Seen::Directory;
                report.shows = if is_merged { Shows::Directory } else { Shows::Entry };
                if is_merged {
                    report.contributors = self.owned(path);
                }
            }
            (Shows::Entry, Seen::Nothing) => {
                report.shows = Shows::Nothing;
                report.absence = Some(report.winner.as_ref().map_or_else(gone, lacking));
            }
            (Shows::Nothing | Shows::Directory, Seen::Nothing)
            | (Shows::Entry | Shows::Directory | Shows::View, _) => {}
        }
        report
    }

    /// What the entries say.
    fn of_entries(&self, path: &RelPath) -> ExplanationReport {
        let entries = &self.entries.entries;
        let mut report = ExplanationReport::nothing(path.to_string());
        let path = if path.is_root() { String::new() } else { report.path.clone() };
        let is_at_or_above = |entry: &&EntryReport| is_within(&path, &entry.path);
        if let Some(entry) = entries.iter().find(is_at_or_above) {
            report.shows = Shows::Entry;
            report.surface = Some(entry.surface.clone());
            let below = &path[entry.path.len()..];
            report.winner = Some(WinnerReport {
                source: entry.source.clone(),
                git_ref: None,
                is_live: None,
                revision: entry.revision.clone(),
                entry: entry.path.clone(),
                source_path: format!("{}{below}", entry.source_path),
            });
            report.hidden = hidden_by(entry, |_| true);
            return report;
        }
        let below = entries.iter().filter(|entry| is_within(&entry.path, &path));
        let mut contributors: Vec<_> = below.map(|entry| entry.source.clone()).collect();
        contributors.sort();
        contributors.dedup();
        let touches = |hidden: &str| is_within(&path, hidden) || is_within(hidden, &path);
        report.hidden = entries.iter().flat_map(|entry| hidden_by(entry, touches)).collect();
        if contributors.is_empty() {
            let is_hidden = !report.hidden.is_empty();
            let reason =
                if is_hidden { "it is hidden" } else { "no entry is at, above or below it" };
            report.absence = Some(reason.to_owned());
        } else {
            report.shows = Shows::Directory;
            report.contributors = contributors;
        }
        report
    }

    /// The source that is shown whole at a path or above it: of several of one name the last.
    fn of_source(&self, path: &RelPath) -> Option<WinnerReport> {
        let names = path.names();
        let (name, below) = names.split_at_checked(2)?;
        let name: RelPath = name.iter().cloned().collect();
        let below: RelPath = below.iter().cloned().collect();
        let (entry, source_path) = (name.to_string(), below.to_string());
        let source = self.status.sources.iter().rfind(|source| source.name == entry)?;
        Some(WinnerReport {
            source: source.called().to_owned(),
            git_ref: source.git_ref.clone(),
            is_live: Some(source.is_live),
            revision: source.revision.clone().unwrap_or_else(|| Revision::Missing.to_string()),
            entry,
            source_path,
        })
    }

    /// The sources that are shown whole below a path: of several of one name the last.
    fn owned(&self, path: &RelPath) -> Vec<String> {
        let above = path.to_string();
        let mut names = HashSet::new();
        let last = self.status.sources.iter().rev().filter(|source| names.insert(&source.name));
        let owned = last.filter(|source| is_within(&source.name, &above));
        let mut owned: Vec<_> = owned.map(|source| source.called().to_owned()).collect();
        owned.reverse();
        owned
    }
}

/// Why an entry that a view shows has nothing at a place below it.
fn lacking(winner: &WinnerReport) -> String {
    format!(
        "`{}` of source {} has nothing there; entries are shown whole, so that no other source can add it",
        winner.entry, winner.source
    )
}

fn gone() -> String {
    "it is not there".to_owned()
}

/// True if `path` is `above` or below it; all paths are below the empty one.
fn is_within(path: &str, above: &str) -> bool {
    let rest = path.strip_prefix(above);
    above.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn hidden_by(entry: &EntryReport, is_wanted: impl Fn(&str) -> bool) -> Vec<HiddenBy> {
    let hidden = entry.hides.iter().filter(|hidden| is_wanted(&hidden.path));
    let reports = hidden.map(|hidden| HiddenBy {
        path: hidden.path.clone(),
        source: hidden.source.clone(),
        source_path: hidden.source_path.clone(),
        by_path: entry.path.clone(),
        by_source: entry.source.clone(),
        reason: if hidden.path == entry.path {
            HidingReason::SamePath.to_string()
        } else {
            "a later entry hides it".to_owned()
        },
    });
    reports.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> Told {
        let entries = serde_json::json!({ "revision": "00", "entries": [{
            "path": "tools/slack", "surface": "tools", "source": "acme/team", "revision": "22", "source_path": "t/slack", "object": null,
            "hides": [{ "path": "tools/chat/slack", "source": "acme/base@main", "source_path": "tools/chat/slack" }],
        }] });
        let source = |name: &str, label: Option<&str>, revision: &str| serde_json::json!({ "name": name, "label": label, "ref": null, "revision": revision, "visibility": "public", "state": "ready", "since": "-", "error": null });
        let sources = [
            source("acme/base", Some("acme/base@main"), "11"),
            source("acme/team", None, "22"),
            source("acme/base", Some("acme/base@v1"), "33"),
            source("acme/base#2", None, "44"),
        ];
        let status = serde_json::json!({ "state": "ready", "revision": "00", "since": "-", "sources": sources });
        Told {
            entries: serde_json::from_value(entries).unwrap(),
            status: serde_json::from_value(status).unwrap(),
        }
    }

    fn explain(path: &str, seen: Seen) -> ExplanationReport {
        told().explain(&RelPath::parse(path).unwrap(), seen)
    }

    #[test]
    fn what_is_shown_whole_is_told_with_its_source() {
        for (path, seen, below) in [
            ("acme/base", Seen::Directory, "."),
            ("acme/base/a/b", Seen::Other, "a/b"),
            (".overlay/current/acme/base/a", Seen::Other, "a"),
        ] {
            let report = explain(path, seen);
            let winner = report.winner.unwrap();
            assert_eq!((report.path.as_str(), report.shows), (path, Shows::Entry));
            assert_eq!((winner.source.as_str(), winner.revision.as_str()), ("acme/base@v1", "33"));
            assert_eq!((winner.entry.as_str(), winner.source_path.as_str()), ("acme/base", below));
        }
        assert_eq!(explain("acme/base/a", Seen::Nothing).shows, Shows::Nothing);
        assert_eq!(explain("acme/ba", Seen::Nothing).winner, None);
    }

    #[test]
    fn what_is_there_is_never_told_to_be_nothing_and_what_is_not_never_to_be_an_entry() {
        for (path, contributors) in [
            (".", vec!["acme/team"]),
            ("tools", vec!["acme/team"]),
            ("acme", vec!["acme/team", "acme/base@v1", "acme/base#2"]),
            ("workflows", vec![]),
        ] {
            let report = explain(path, Seen::Directory);
            assert_eq!((report.shows, report.absence), (Shows::Directory, None), "{path}");
            assert_eq!(report.contributors, contributors, "{path}");
        }
        let report = explain("tools/slack/none", Seen::Nothing);
        assert_eq!(report.shows, Shows::Nothing);
        let absence = report.absence.unwrap();
        assert!(absence.starts_with("`tools/slack` of source acme/team has nothing"), "{absence}");
        let report = explain("tools/chat/slack/x", Seen::Nothing);
        assert_eq!((report.shows, report.hidden.len()), (Shows::Nothing, 1));
        assert_eq!(report.absence.as_deref(), Some("it is hidden"));
    }
}
