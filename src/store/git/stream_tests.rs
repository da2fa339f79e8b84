//! Blobs that are decoded piece by piece, against what git stored.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::fixture::{Fixture, Made};
use super::repository::Repository;
use crate::store::StoreError;
use crate::store::blobs::{BlobOrigin, Draft, Streamed};
use crate::union::object::Oid;

fn oid(hex: &str) -> Oid {
    super::oid(hex.as_bytes()).unwrap()
}

/// Content that does not compress to nothing, of more than one piece of input and output.
fn content(seed: u32) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24).to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(300_000).collect()
}

/// Streams a blob; what came of it, and the bytes if all came.
fn stream(made: &Made, id: &str, bytes: &[u8]) -> Result<Streamed, StoreError> {
    let repository = Repository::open(&made.path).unwrap();
    let oid = oid(id);
    assert_eq!(repository.size(&oid).unwrap(), bytes.len() as u64);
    let mut draft = Draft::in_memory(oid, bytes.len() as u64);
    let streamed = repository.stream(&oid, &mut draft)?;
    match streamed {
        // Also checks the bytes against the id.
        Streamed::Whole => assert!(draft.into_memory().unwrap() == bytes),
        Streamed::NotAStream => assert!(repository.bytes(&oid).unwrap() == bytes),
    }
    Ok(streamed)
}

fn pack(made: &Made) -> PathBuf {
    let files = fs::read_dir(made.path.join("objects/pack")).unwrap();
    let mut files = files.map(|entry| entry.unwrap().path());
    files.find(|path| path.extension().is_some_and(|extension| extension == "pack")).unwrap()
}

fn writable(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}

/// A bare repository with two blobs that are much alike, which are in one commit; their ids.
fn two_alike(fixture: &Fixture, name: &str, options: &[&str]) -> (Made, [(String, Vec<u8>); 2]) {
    let made = fixture.init(name, &[&["--bare"], options].concat());
    let (one, mut other) = (content(1), content(1));
    other.truncate(299_000);
    other[150_000] ^= 1;
    let [first, second] = [&one, &other].map(|bytes| made.blob(bytes));
    let tree = [("100644", &b"a"[..], &*first), ("100644", b"b", &*second)];
    made.commit_tree(&made.tree(&tree));
    (made, [(first, one), (second, other)])
}

#[test]
fn what_repeats_over_the_border_of_pieces_is_decoded() {
    let fixture = Fixture::new();
    // The decoder has to look back nearly as far as it may, in pieces of which each begins with what the last one ended with.
    let bytes = content(7)[..32_000].repeat(40);
    let made = fixture.init("r", &["--bare"]);
    let id = made.blob(&bytes);
    made.commit_tree(&made.tree(&[("100644", b"a", &id)]));
    assert_eq!(stream(&made, &id, &bytes).unwrap(), Streamed::Whole);
    made.git(&["repack", "-adfq"]);
    assert!(fs::metadata(pack(&made)).unwrap().len() < 100_000);
    assert_eq!(stream(&made, &id, &bytes).unwrap(), Streamed::Whole);
}

#[test]
fn loose_and_packed_blobs_are_streamed_and_deltas_are_not() {
    let fixture = Fixture::new();
    for options in [&[][..], &["--object-format=sha256"]] {
        let (made, blobs) = two_alike(&fixture, &format!("r{}", options.len()), options);
        for (id, bytes) in &blobs {
            assert_eq!(stream(&made, id, bytes).unwrap(), Streamed::Whole);
        }
        made.git(&["repack", "-q", "-a", "-d", "--window=0"]);
        made.git(&["prune-packed"]);
        for (id, bytes) in &blobs {
            assert_eq!(stream(&made, id, bytes).unwrap(), Streamed::Whole);
        }
        made.git(&["repack", "-q", "-a", "-d", "-f", "--window=10"]);
        let [one, other] = [&blobs[0], &blobs[1]].map(|(id, bytes)| stream(&made, id, bytes));
        assert_ne!(one.unwrap(), other.unwrap(), "git stores one of them as a delta");
    }
}

#[test]
fn blobs_are_found_in_alternates_and_with_a_multi_pack_index() {
    let fixture = Fixture::new();
    let (made, [(id, bytes), _]) = two_alike(&fixture, "r", &[]);
    made.git(&["repack", "-q", "-a", "-d", "--window=0"]);
    made.git(&["multi-pack-index", "write"]);
    assert_eq!(stream(&made, &id, &bytes).unwrap(), Streamed::Whole);
    made.git(&["clone", "-q", "--shared", "--bare", ".", "../borrower"]);
    assert_eq!(stream(&fixture.at("borrower"), &id, &bytes).unwrap(), Streamed::Whole);
}

#[test]
fn packs_that_come_after_the_repository_was_opened_are_found() {
    let fixture = Fixture::new();
    let made = fixture.init("r", &["--bare"]);
    let repository = Repository::open(&made.path).unwrap();
    for n in 0..60 {
        let content = format!("content {n}");
        let id = made.blob(content.as_bytes());
        made.git_with(&["pack-objects", "-q", "objects/pack/pack"], format!("{id}\n").as_bytes());
        made.git(&["prune-packed", "-q"]);
        assert_eq!(repository.bytes(&oid(&id)).unwrap(), content.as_bytes(), "pack {n}");
    }
}

#[test]
fn another_copy_is_taken_where_one_is_damaged() {
    let fixture = Fixture::new();
    let (made, [(id, bytes), _]) = two_alike(&fixture, "r", &[]);
    made.git(&["repack", "-q", "-a", "--window=0"]);
    let pack = pack(&made);
    writable(&pack);
    let mut packed = fs::read(&pack).unwrap();
    packed[200_000..200_100].fill(0x55);
    fs::write(&pack, &packed).unwrap();
    assert_eq!(stream(&made, &id, &bytes).unwrap(), Streamed::Whole);
    fs::remove_file(made.path.join("objects").join(&id[..2]).join(&id[2..])).unwrap();
    let repository = Repository::open(&made.path).unwrap();
    let mut draft = Draft::in_memory(oid(&id), 300_000);
    let outcome = repository.stream(&oid(&id), &mut draft);
    assert!(outcome.is_err() || draft.into_memory().is_err());
}

#[test]
fn a_cut_pack_or_loose_file_is_an_error() {
    let fixture = Fixture::new();
    let (made, [(id, bytes), _]) = two_alike(&fixture, "r", &[]);
    let assert_damaged = || {
        let repository = Repository::open(&made.path).unwrap();
        let mut draft = Draft::in_memory(oid(&id), bytes.len() as u64);
        let outcome = repository.stream(&oid(&id), &mut draft);
        assert!(outcome.is_err() || draft.into_memory().is_err());
    };
    let loose = made.path.join("objects").join(&id[..2]).join(&id[2..]);
    let whole = fs::read(&loose).unwrap();
    writable(&loose);
    for len in [0, 10, 150_000, whole.len() - 10] {
        fs::write(&loose, &whole[..len]).unwrap();
        assert_damaged();
    }
    fs::write(&loose, &whole).unwrap();
    made.git(&["repack", "-q", "-a", "-d", "--window=0"]);
    let pack = pack(&made);
    writable(&pack);
    let whole = fs::read(&pack).unwrap();
    for len in [40, 150_000] {
        fs::write(&pack, &whole[..len]).unwrap();
        assert_damaged();
    }
}
