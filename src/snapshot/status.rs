//! How a view and its sources are: what `status` and `.overlay/status.json` have in common.
//!
//! The names of the keys and their order are a promise to scripts.

use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Fault, Pinning, Snapshot, Source, SourceState};
use crate::union::revision::Revision;

/// How a view is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ViewState {
    /// Every source is shown as it should be.
    Ready,
    /// It can be read, and at least one source is missing, broken or stale.
    Degraded,
    /// It cannot be shown.
    Broken,
    /// It serves those who hold it and ends.
    Stopping,
}

impl ViewState {
    /// The state as `status` prints it, and as in the document.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Broken => "broken",
            Self::Stopping => "stopping",
        }
    }
}

/// How a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceCondition {
    /// It is served at the revision that it should have.
    Ready,
    /// It is served at its last revision, since a newer one cannot be had.
    Stale,
    /// It is not there; an empty source stands for it.
    Missing,
    /// It cannot be read; an empty source stands for it.
    Broken,
}

impl SourceCondition {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ready, Self::Stale, Self::Missing, Self::Broken];

    /// The condition as `status` and metrics print it, and as in the document.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Stale => "stale",
            Self::Missing => "missing",
            Self::Broken => "broken",
        }
    }
}

/// What `.overlay/status.json` says: no process numbers and no paths of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewStatus {
    /// How the view is.
    pub state: ViewState,
    /// The id of the revision set that it shows, 64 hexadecimal digits.
    pub revision: String,
    /// Since when it shows that, in UTC (RFC 3339).
    pub since: String,
    /// The sources, bottom first.
    pub sources: Vec<SourceStatus>,
}

/// How one source is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// What commands call it (S50).
    pub name: String,
    /// Its ref as configured; `None` for HEAD and for a directory.
    #[serde(rename = "ref")]
    pub git_ref: Option<String>,
    /// The commit, or the digest of a directory's entry lists; `None` while it is missing or broken.
    pub revision: Option<String>,
    /// `public` or `private`.
    pub visibility: String,
    /// How it is.
    pub state: SourceCondition,
    /// Since when it is so, in UTC (RFC 3339).
    pub since: String,
    /// What is wrong, if anything is.
    pub error: Option<String>,
    /// Whether what it serves stays readable whatever happens to its repository; `None` of what is no commit.
    #[serde(default)]
    pub pinned: Option<bool>,
    /// Why it is not pinned, if it is not.
    #[serde(default)]
    pub unpinned_because: Option<String>,
    /// Whether it is a live directory, which has no ref.
    #[serde(default, rename = "live")]
    pub is_live: bool,
    /// What to do about what is wrong, where that is known.
    #[serde(default)]
    pub cure: Option<String>,
    /// Why it has no `.git`, if it should have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_git_because: Option<String>,
    /// What commands call it, where its name is that of another source too (S50).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

impl SourceStatus {
    /// What commands call it.
    pub fn called(&self) -> &str {
        self.label.as_deref().unwrap_or(&self.name)
    }
}

/// What was seen of a source since the snapshot was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceNote {
    /// Since when it is as it is now.
    pub since: SystemTime,
    /// Why it could not be brought up to date, if that is so.
    pub stale: Option<Fault>,
}

impl ViewStatus {
    /// The status of a view that shows `snapshot`.
    pub fn new(snapshot: &Snapshot, is_stopping: bool) -> Self {
        let sources: Vec<_> = snapshot
            .sources
            .iter()
            .enumerate()
            .map(|(index, source)| {
                describe_source(source, snapshot.notes.get(index), snapshot.since)
            })
            .collect();
        let are_all_ready = sources.iter().all(|source| source.state == SourceCondition::Ready);
        let state = match (is_stopping, are_all_ready) {
            (true, _) => ViewState::Stopping,
            (false, true) => ViewState::Ready,
            (false, false) => ViewState::Degraded,
        };
        Self { state, revision: snapshot.id.to_string(), since: rfc3339(snapshot.since), sources }
    }

    /// The status of a view that shows `snapshot`, for those who see the view only: an error says what kind it is and no more, for its text
    /// may name paths of the host.
    pub fn public(snapshot: &Snapshot) -> Self {
        let mut status = Self::new(snapshot, false);
        for source in &mut status.sources {
            source.unpinned_because = None;
            source.no_git_because = None;
            source.cure = None;
            source.error = match source.state {
                SourceCondition::Ready => None,
                SourceCondition::Stale => Some("it cannot be brought up to date"),
                SourceCondition::Missing => Some("it was not found"),
                SourceCondition::Broken => Some("it cannot be read"),
            }
            .map(str::to_owned);
        }
        status
    }
}

fn describe_source(source: &Source, note: Option<&SourceNote>, built: SystemTime) -> SourceStatus {
    let stale = note.and_then(|note| note.stale.as_ref());
    let (state, fault) = match (&source.state, stale) {
        (SourceState::Ready, None) => (SourceCondition::Ready, None),
        (SourceState::Ready, Some(fault)) => (SourceCondition::Stale, Some(fault)),
        (SourceState::Missing(fault), _) => (SourceCondition::Missing, Some(fault)),
        (SourceState::Broken(fault), _) => (SourceCondition::Broken, Some(fault)),
    };
    let revision = match &source.revision {
        Revision::Missing => None,
        revision @ (Revision::Commit(_) | Revision::Listing(_)) => Some(revision.to_string()),
    };
    let (pinned, unpinned_because) = match source.pinning.get() {
        Pinning::Pinned => (Some(true), None),
        Pinning::Unpinned { reason } => (Some(false), Some(reason.clone())),
        Pinning::Awaited => (Some(false), Some("its objects are being copied".to_owned())),
        Pinning::NotAsked => (None, None),
    };
    let name = source.name.to_string();
    SourceStatus {
        label: Some(source.label.clone()).filter(|label| *label != name),
        name,
        git_ref: source.git_ref.clone(),
        revision,
        visibility: source.visibility.to_string(),
        state,
        since: rfc3339(note.map_or(built, |note| note.since)),
        error: fault.map(|fault| fault.error.clone()),
        pinned,
        unpinned_because,
        is_live: source.is_live,
        cure: fault.and_then(|fault| fault.cure.clone()),
        no_git_because: source.git_directory.left_out().map(str::to_owned),
    }
}

/// A time in UTC, to the second; one that no calendar has is shown as 1970.
fn rfc3339(time: SystemTime) -> String {
    let timestamp = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
    Timestamp::from_second(timestamp.as_second()).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_document() {
        for condition in SourceCondition::ALL {
            assert_eq!(serde_json::to_value(condition).unwrap(), condition.word());
        }
        let states =
            [ViewState::Ready, ViewState::Degraded, ViewState::Broken, ViewState::Stopping];
        for state in states {
            assert_eq!(serde_json::to_value(state).unwrap(), state.word());
        }
    }
}
