//! A small source and a snapshot of it, for tests and for fuzzing.

#![expect(clippy::unwrap_used, reason = "what helps a test may fail it")]

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use crate::snapshot::{GitDirectory, Pinning, SharedPinning, Snapshot, Source, SourceState};
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::union::name::RelPath;
use crate::union::namespace::{Namespace, Shown};
use crate::union::object::Object;
use crate::union::revision::{Revision, RevisionSetId};
use crate::union::source::{SourceId, SourceName, Visibility};

pub(crate) fn path(text: &str) -> RelPath {
    RelPath::parse(text).unwrap()
}

pub(crate) fn sample() -> MemoryStore {
    MemoryStore::builder()
        .file("skills/review/SKILL.md", "review\n")
        .exec("skills/review/run", "#!/bin/sh\n")
        .link("skills/review/link", "SKILL.md")
        .link("skills/review/out", "../../../etc")
        .file("skills/review/deep/er/file", "deep\n")
        .file("skills/review/bad", "bad\n")
        .submodule("skills/review/sub")
        .file("loose.md", "loose\n")
        .unreadable("skills/review/bad")
        .build()
}

pub(crate) fn snapshot() -> Snapshot {
    let store = sample();
    let at = |text: &str| store.at(&path(text)).unwrap();
    let entries = [
        shown_at("skills/review", "skills/review", at("skills/review")),
        shown_at("prompts/00.md", "loose.md", at("loose.md")),
        shown_at("o/r", ".", store.at(&RelPath::root()).unwrap()),
    ];
    snapshot_of(Arc::new(store), Namespace::new(entries, [path("tools")], 1000))
}

/// An object of the only source at a place of the view.
pub(crate) fn shown_at(place: &str, source_path: &str, object: Object) -> (RelPath, Shown) {
    let source_path = path(source_path);
    let source = SourceId(0);
    (path(place), Shown { source, surface: None, source_path, object, time_secs: 1000 })
}

/// A source that is served from a store, told apart from others by its key.
pub(crate) fn source_of(name: &str, key: u8, store: Arc<dyn Store>) -> Arc<Source> {
    Arc::new(Source {
        name: SourceName::parse(name).unwrap(),
        label: name.into(),
        git_ref: None,
        is_live: false,
        place: std::path::PathBuf::new(),
        revision: Revision::Missing,
        visibility: Visibility::Private,
        state: SourceState::Ready,
        subdirs: Vec::new(),
        time_secs: 1000,
        key: [key; 16],
        store,
        signals: Vec::new(),
        pinning: SharedPinning::new(Pinning::NotAsked),
        git: None,
        git_directory: GitDirectory::NotAsked,
        unread: None,
    })
}

/// The first snapshot of a view with one source `o/r`.
pub(crate) fn snapshot_of(store: Arc<dyn Store>, namespace: Namespace) -> Snapshot {
    let source = source_of("o/r", 7, store);
    Snapshot {
        id: RevisionSetId([1; 32]),
        since: SystemTime::UNIX_EPOCH,
        serial: 0,
        sources: vec![source],
        surfaces: Vec::new(),
        stacks: Vec::new(),
        namespace,
        findings: Vec::new(),
        notes: Vec::new(),
        texts: OnceLock::new(),
    }
}
