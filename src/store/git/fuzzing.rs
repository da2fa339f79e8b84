//! Any bytes as objects of git.

use super::commit::{Commit, tag_target};
use super::lfs::Pointer;
use super::tree::{decode, find};

/// Reads bytes as a tree, with ids of 20 and of 32 bytes; also as a commit, a tag and an LFS pointer.
///
/// # Panics
/// What must hold of the answer does not.
pub fn tree(bytes: &[u8]) {
    for id_len in [20, 32] {
        let Ok((served, left_out)) = decode(bytes, id_len) else {
            assert!(find(bytes, id_len, b"a").is_err(), "a cut tree has no names");
            continue;
        };
        let is_sorted = served.windows(2).all(|pair| pair[0].name < pair[1].name);
        assert!(is_sorted, "a name twice, or out of order");
        let entries = served.len() + left_out.len();
        assert!(entries * (id_len + 2) <= bytes.len(), "more entries than there is room for");
        for listed in &served {
            let name = listed.name.as_bytes();
            assert_ne!(name, b".git");
            let found = find(bytes, id_len, name);
            assert_eq!(found, Ok(Some(listed.object.clone())), "{}", listed.name);
        }
        for left in left_out {
            let listed = served.iter().find(|listed| listed.name.as_bytes() == left.name);
            let found = find(bytes, id_len, &left.name);
            assert_eq!(found, Ok(listed.map(|listed| listed.object.clone())), "{left:?}");
        }
    }
    if let Some(commit) = Commit::decode(bytes) {
        assert!(commit.time_secs >= 0);
    }
    let _pointer = (tag_target(bytes), Pointer::parse(bytes));
}
