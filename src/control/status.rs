//! What a daemon says about itself: the answer to `status`.
//!
//! The names of the keys and their order are a promise to scripts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::snapshot::Snapshot;
use crate::snapshot::status::{SourceStatus, ViewState, ViewStatus};

/// What a daemon says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// How the view is.
    pub state: ViewState,
    /// The id of the revision set that it shows, 64 hexadecimal digits.
    pub revision: String,
    /// Since when it shows that, in UTC (RFC 3339).
    pub since: String,
    /// The process that answers the kernel.
    pub pid: u32,
    /// The process that watches over it; `None` without one.
    pub supervisor_pid: Option<u32>,
    /// The mount point.
    pub mountpoint: String,
    /// The configuration file; `None` if it came from the command line.
    pub config: Option<String>,
    /// The sources, bottom first.
    pub sources: Vec<SourceStatus>,
    /// The directory of views that this one is of; left out of a view that is served alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub views: Option<String>,
    /// Why it is not as its file says, of a view of such a directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What the process that answers the kernel has given up; `None` where nobody watches over it.
    #[serde(default)]
    pub confinement: Option<Confinement>,
    /// Why large files are not kept in the state directory; left out where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_large_files_because: Option<String>,
    /// The labels that `SELinux` gives the mount, by the names of their options; left out where they are the policy's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// What a process has given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// All files but those it needs, by Landlock: `abi N`, or `none: ` and why.
    pub landlock: String,
    /// System calls that it does not need: `filter`, or `none: ` and why.
    pub seccomp: String,
    /// Whether no program that it starts can gain privileges.
    pub no_new_privs: bool,
    /// The capabilities that it has still.
    pub capabilities: Vec<String>,
}

/// What a status needs to know beyond the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The process that answers the kernel.
    pub pid: u32,
    /// The process that watches over it.
    pub supervisor_pid: Option<u32>,
    /// The mount point.
    pub mountpoint: PathBuf,
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// Whether the daemon is about to end.
    pub is_stopping: bool,
    /// The directory of views that this one is of.
    pub views: Option<PathBuf>,
    /// Why it is not as its file says.
    pub error: Option<String>,
    /// What the process that answers the kernel has given up.
    pub confinement: Option<Confinement>,
    /// Why large files are not kept in the state directory.
    pub no_large_files_because: Option<String>,
    /// The labels that `SELinux` gives the mount, by the names of their options.
    pub labels: BTreeMap<String, String>,
}

impl Status {
    /// The status of a view that shows `snapshot`.
    pub fn new(snapshot: &Snapshot, context: &Context) -> Self {
        let ViewStatus { state, revision, since, sources } =
            ViewStatus::new(snapshot, context.is_stopping);
        let state = match (state, &context.error) {
            (ViewState::Ready, Some(_)) => ViewState::Degraded,
            (state, _) => state,
        };
        Self { state, revision, since, sources, ..Self::broken(context) }
    }

    /// The status of a view that cannot be shown.
    pub fn broken(context: &Context) -> Self {
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        Self {
            state: ViewState::Broken,
            revision: String::new(),
            since: String::new(),
            pid: context.pid,
            supervisor_pid: context.supervisor_pid,
            mountpoint: text(&context.mountpoint),
            config: context.config.as_ref().map(text),
            sources: Vec::new(),
            views: context.views.as_ref().map(text),
            error: context.error.clone(),
            confinement: context.confinement.clone(),
            no_large_files_because: context.no_large_files_because.clone(),
            labels: context.labels.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::snapshot::status::SourceNote;
    use crate::snapshot::{Fault, GitDirectory, Source, SourceState};
    use crate::store::{Attributes, Listed, Store, StoreError};
    use crate::union::namespace::Namespace;
    use crate::union::object::Object;
    use crate::union::revision::{Revision, RevisionSetId};
    use crate::union::source::{SourceName, Visibility};

    #[derive(Debug)]
    struct Nothing;

    impl Store for Nothing {
        fn root(&self) -> Result<Object, StoreError> {
            Err(StoreError::Gone)
        }
        fn list(&self, _: &Object) -> Result<Vec<Listed>, StoreError> {
            Err(StoreError::Gone)
        }
        fn lookup(&self, _: &Object, _: &[u8]) -> Result<Option<Object>, StoreError> {
            Err(StoreError::Gone)
        }
        fn attributes(&self, _: &Object) -> Result<Attributes, StoreError> {
            Err(StoreError::Gone)
        }
        fn read(&self, _: &Object, _: u64, _: usize) -> Result<Vec<u8>, StoreError> {
            Err(StoreError::Gone)
        }
        fn read_link(&self, _: &Object) -> Result<Vec<u8>, StoreError> {
            Err(StoreError::Gone)
        }
    }

    fn source(name: &str, revision: Revision, state: SourceState) -> Arc<Source> {
        Arc::new(Source {
            name: SourceName::parse(name).unwrap(),
            label: name.to_owned(),
            git_ref: Some("main".to_owned()),
            is_live: false,
            place: "/cache".into(),
            revision,
            visibility: Visibility::Private,
            state,
            subdirs: Vec::new(),
            time_secs: 0,
            key: [0; 16],
            store: Arc::new(Nothing),
            signals: Vec::new(),
            pinning: crate::snapshot::SharedPinning::new(crate::snapshot::Pinning::NotAsked),
            git: None,
            git_directory: GitDirectory::NotAsked,
            unread: None,
        })
    }

    fn at(secs: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(secs * 1000 + 700)
    }

    fn snapshot() -> Snapshot {
        let missing = SourceState::Missing(Fault {
            error: "not in /cache/b/c".to_owned(),
            cure: Some("put it at /cache/b/c".to_owned()),
        });
        Snapshot {
            id: RevisionSetId([0xab; 32]),
            since: at(1_700_000_000),
            serial: 0,
            sources: vec![
                source("a/b", Revision::Listing([1; 32]), SourceState::Ready),
                source("b/c", Revision::Missing, missing),
            ],
            surfaces: Vec::new(),
            stacks: Vec::new(),
            namespace: Namespace::default(),
            findings: Vec::new(),
            notes: vec![SourceNote {
                since: at(1_700_000_060),
                stale: Some(Fault { error: "fetch failed".to_owned(), cure: None }),
            }],
            texts: std::sync::OnceLock::new(),
        }
    }

    fn context() -> Context {
        Context {
            pid: 7,
            supervisor_pid: None,
            mountpoint: "/mnt".into(),
            config: Some("/etc/overlays.yaml".into()),
            is_stopping: false,
            views: None,
            error: None,
            confinement: None,
            no_large_files_because: None,
            labels: BTreeMap::new(),
        }
    }

    #[test]
    fn the_keys_and_their_order_are_those_that_are_promised() {
        let text = serde_json::to_string(&Status::new(&snapshot(), &context())).unwrap();
        let id = "ab".repeat(32);
        let listing = "01".repeat(32);
        let expected = format!(
            r#"{{"state":"degraded","revision":"{id}","since":"2023-11-14T22:13:20Z","pid":7,"supervisor_pid":null,"mountpoint":"/mnt","config":"/etc/overlays.yaml","sources":[{{"name":"a/b","ref":"main","revision":"{listing}","visibility":"private","state":"stale","since":"2023-11-14T22:14:20Z","error":"fetch failed","pinned":null,"unpinned_because":null,"live":false,"cure":null}},{{"name":"b/c","ref":"main","revision":null,"visibility":"private","state":"missing","since":"2023-11-14T22:13:20Z","error":"not in /cache/b/c","pinned":null,"unpinned_because":null,"live":false,"cure":"put it at /cache/b/c"}}],"confinement":null}}"#
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn s142_labels_that_were_asked_for_are_told() {
        let label = "system_u:object_r:container_file_t:s0:c1,c2".to_owned();
        let labels = BTreeMap::from([("context".to_owned(), label)]);
        let status = Status::new(&snapshot(), &Context { labels, ..context() });
        let text = serde_json::to_string(&status).unwrap();
        let expected = r#","labels":{"context":"system_u:object_r:container_file_t:s0:c1,c2"}}"#;
        assert!(text.ends_with(expected), "{text}");
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
    }

    #[test]
    fn the_view_tells_no_process_numbers_and_no_paths_of_the_host() {
        let text = serde_json::to_string(&ViewStatus::public(&snapshot())).unwrap();
        assert!(
            !text.contains("pid") && !text.contains("/cache") && !text.contains("/mnt"),
            "{text}"
        );
        assert!(text.contains(r#""error":"it was not found""#), "{text}");
    }

    #[test]
    fn a_view_is_ready_when_all_its_sources_are() {
        let mut snapshot = snapshot();
        snapshot.sources.pop();
        let mut context = context();
        snapshot.notes.clear();
        assert_eq!(Status::new(&snapshot, &context).state, ViewState::Ready);
        context.is_stopping = true;
        assert_eq!(Status::new(&snapshot, &context).state, ViewState::Stopping);
    }
}
