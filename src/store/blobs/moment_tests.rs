//! What passes, and leaves nothing behind.

use std::fs;

use tempfile::TempDir;

use super::tests::{Blob, limits, names};
use super::*;

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
