//! What passes, and leaves nothing behind.

use std::fs::{self, File};

use tempfile::TempDir;

use super::tests::{Blob, limits, names};
use super::*;
use crate::store::few_descriptors::with_few_descriptors;

#[test]
fn s76_a_state_directory_is_used_again_once_it_can_be() {
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("state");
    fs::write(&state, "in the way").unwrap();
    let cache = BlobCache::new(state.join("blobs"), limits());
    let (first, second) = (Blob::new(1, 40_000), Blob::new(2, 40_000));
    first.check(&cache);
    assert!(cache.trouble().is_some());
    fs::remove_file(&state).unwrap();
    second.check(&cache);
    assert_eq!((names(&state.join("blobs")).len(), cache.trouble()), (1, None));
}

const NAME: &str =
    "store::blobs::moment_tests::s106_a_lack_of_descriptors_costs_others_none_of_their_files";

#[test]
fn s106_a_lack_of_descriptors_costs_others_none_of_their_files() {
    with_few_descriptors(NAME, without_descriptors);
}

fn without_descriptors() {
    let dir = TempDir::new().unwrap();
    let blobs = dir.path().join("state/blobs");
    let cache = BlobCache::new(blobs.clone(), BlobLimits { disk_bytes: 8 << 20, ..limits() });
    for n in 0..4 {
        Blob::new(n, 40_000).check(&cache);
    }
    assert_eq!(names(&blobs).len(), 4);
    let mut held = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        held.push(file);
    }
    Blob::new(4, 40_000).check(&cache);
    drop(held);
    // The last one is held in memory, or has taken a descriptor that another one gave up.
    assert!(names(&blobs).len() >= 4, "they were removed to make room for a descriptor");
}

/// How many threads of this process have a name.
fn threads(name: &str) -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let comm = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm"));
    tasks.filter_map(|task| comm(task).ok()).filter(|comm| comm.trim() == name).count()
}

#[test]
fn files_that_were_read_to_their_end_share_one_thread() {
    let dir = TempDir::new().unwrap();
    let limits = BlobLimits { disk_bytes: 8 << 20, ..limits() };
    let cache = BlobCache::new(dir.path().join("state/blobs"), limits);
    for n in 0..40 {
        Blob::new(n, 40_000).check(&cache);
    }
    assert_eq!(threads("let-go"), 1);
}
