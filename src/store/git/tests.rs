//! Git stores over repositories of every form, sound, malformed and damaged.

use std::fs;
use std::sync::Arc;

use super::fixture::{Fixture, Made};
use super::lfs::LfsObjects;
use super::*;
use crate::store::LeftOutReason::{BadName, GitDirectory, Repeated, UnknownMode};
use crate::store::blobs::BlobLimits;
use crate::union::name::NameError;

fn blobs() -> Arc<BlobCache> {
    Arc::new(BlobCache::new(std::env::temp_dir(), BlobLimits::default()))
}

fn id(hex: &str) -> Oid {
    oid(hex.as_bytes()).unwrap()
}

fn store(made: &Made, commit: &str) -> GitStore {
    let repository = Arc::new(Repository::open(&made.path).unwrap());
    GitStore::new(repository, id(commit), blobs(), None).unwrap()
}

fn at(store: &GitStore, path: &str) -> Object {
    path.split('/').fold(store.root().unwrap(), |object, name| {
        store.lookup(&object, name.as_bytes()).unwrap().unwrap()
    })
}

fn names(store: &GitStore, directory: &Object) -> Vec<String> {
    store.list(directory).unwrap().iter().map(|listed| listed.name.to_string()).collect()
}

fn assert_serves_file(made: &Made, commit: &str) {
    let store = store(made, commit);
    assert_eq!(store.read(&at(&store, "dir/file"), 0, 100).unwrap(), b"content");
}

const FILES: &[(&str, &str)] = &[
    ("dir/file", "content"),
    ("!dir/run", "#!"),
    ("@link", "dir/file"),
    ("dir.a", ""),
    ("dir0", ""),
];

#[test]
fn names_types_sizes_and_bytes_are_those_of_the_commit() {
    let fixture = Fixture::new();
    let made = fixture.init("r", &[]);
    let commit = made.commit(FILES);
    made.commit(&[("dir/file", "changed"), ("later", "")]);
    let store = store(&made, &commit);
    assert_eq!(names(&store, &store.root().unwrap()), ["dir", "dir.a", "dir0", "link"]);
    let (file, run, link) = (at(&store, "dir/file"), at(&store, "dir/run"), at(&store, "link"));
    assert_eq!(file.kind(), Kind::File { is_executable: false });
    assert_eq!(run.kind(), Kind::File { is_executable: true });
    assert_eq!(store.read(&file, 3, 2).unwrap(), b"te");
    assert_eq!(store.read(&file, 9, 2).unwrap(), b"");
    assert_eq!(store.attributes(&file).unwrap().size_bytes, 7);
    assert_eq!(store.read_link(&link).unwrap(), b"dir/file");
    assert_eq!(store.attributes(&link).unwrap().size_bytes, 8);
    assert_eq!(store.attributes(&at(&store, "dir")).unwrap().size_bytes, 0);
    assert!(matches!(store.list(&file), Err(StoreError::NotADirectory)));
    assert!(matches!(store.read(&at(&store, "dir"), 0, 1), Err(StoreError::IsADirectory)));
    assert!(matches!(store.read_link(&file), Err(StoreError::NotALink)));
    assert_eq!(store.repository().commit(&store.commit()).unwrap().time_secs, 1_700_000_001);
}

#[test]
fn every_form_of_a_repository_is_opened() {
    let fixture = Fixture::new();
    let made = fixture.with_files("checkout", FILES);
    let commit = made.git(&["rev-parse", "HEAD"]);
    assert_serves_file(&made, &commit);
    assert_serves_file(&fixture.at("checkout/.git"), &commit);
    made.git(&["worktree", "add", "-q", "--detach", "../linked"]);
    let linked = fixture.at("linked");
    assert!(linked.path.join(".git").is_file());
    assert_serves_file(&linked, &commit);
    for (name, options) in [
        ("bare.git", &["--bare"][..]),
        ("mirror.git", &["--mirror"]),
        ("shared", &["--shared"]),
        ("shallow.git", &["--bare", "--depth=1"]),
    ] {
        let url = format!("file://{}", made.path.display());
        let url = if name == "shared" { made.path.to_str().unwrap() } else { &url };
        let target = format!("../{name}");
        made.git(&[&["clone", "-q"], options, &[url, &target]].concat());
        assert_serves_file(&fixture.at(name), &commit);
    }
    made.git(&["pack-refs", "--all"]);
    made.git(&["repack", "-q", "-a", "-d"]);
    assert_serves_file(&made, &commit);
    let sha256 = fixture.init("sha256", &["--object-format=sha256"]);
    let commit = sha256.commit(FILES);
    assert_eq!(commit.len(), 64);
    assert_serves_file(&sha256, &commit);
}

#[test]
fn what_is_no_repository_is_refused() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.path().join("empty")).unwrap();
    for path in ["empty", "absent"] {
        assert!(Repository::open(&fixture.path().join(path)).is_err(), "{path}");
    }
}

#[test]
fn replace_refs_do_not_count() {
    let fixture = Fixture::new();
    let made = fixture.with_files("r", FILES);
    let commit = made.git(&["rev-parse", "HEAD"]);
    let (old, new) = (made.git(&["rev-parse", "HEAD:dir/file"]), made.blob(b"replaced"));
    made.git(&["replace", &old, &new]);
    assert_serves_file(&made, &commit);
}

#[test]
fn hostile_trees_lose_only_their_bad_entries() {
    let fixture = Fixture::new();
    let made = fixture.init("r", &[]);
    let (blob, empty) = (made.blob(b"good"), made.tree(&[]));
    let tree = made.tree(&[
        ("40000", b"..", &empty),
        ("40000", b".git", &empty),
        ("100644", b"a/b", &blob),
        ("100644", b"z", &blob),
        ("100644", b"good", &blob),
        ("120000", b"good", &blob),
        ("100000", b"odd", &blob),
        ("160000", b"module", &"ab".repeat(20)),
    ]);
    let commit = made.commit_tree(&tree);
    let store = store(&made, &commit);
    let root = store.root().unwrap();
    assert_eq!(names(&store, &root), ["good", "module", "z"]);
    assert_eq!(at(&store, "module"), Object::Empty);
    assert!(store.list(&Object::Empty).unwrap().is_empty());
    assert_eq!(store.read(&at(&store, "good"), 0, 9).unwrap(), b"good");
    for name in ["..", ".git", "a/b", "odd", ""] {
        assert_eq!(store.lookup(&root, name.as_bytes()).unwrap(), None, "{name}");
    }
    let (_, left_out) = store.list_with_left_out(&root).unwrap();
    let reasons: Vec<_> = left_out.iter().map(|left| left.reason).collect();
    let (dots, slash) = (BadName(NameError::Dots), BadName(NameError::Slash));
    assert_eq!(reasons, [dots, GitDirectory, slash, UnknownMode, Repeated]);
}

fn assert_unreadable<T: fmt::Debug>(answer: Result<T, StoreError>, cause: &str) {
    match answer {
        Err(StoreError::Unreadable { cause: found, .. }) => {
            assert!(found.contains(cause), "{found}");
        }
        other => panic!("{other:?} instead of `{cause}`"),
    }
}

#[test]
fn objects_of_another_type_than_promised_are_unreadable() {
    let fixture = Fixture::new();
    let made = fixture.init("r", &[]);
    let (blob, empty) = (made.blob(b"x"), made.tree(&[]));
    let inner = made.tree(&[("100644", b"x", &blob)]);
    let tree = made.tree(&[
        ("40000", b"blob-as-tree", &blob),
        ("100644", b"tree-as-blob", &inner),
        ("120000", b"tree-as-link", &inner),
        ("100644", b"empty-tree-as-blob", &empty),
    ]);
    let commit = made.commit_tree(&tree);
    let store = store(&made, &commit);
    assert_unreadable(store.list(&at(&store, "blob-as-tree")), "it is a blob, not a tree");
    assert_unreadable(store.lookup(&at(&store, "blob-as-tree"), b"x"), "it is a blob");
    assert_unreadable(store.attributes(&at(&store, "blob-as-tree")), "it is a blob");
    for name in ["tree-as-blob", "empty-tree-as-blob"] {
        assert_unreadable(store.read(&at(&store, name), 0, 1), "it is a tree, not a blob");
        assert_unreadable(store.attributes(&at(&store, name)), "it is a tree");
    }
    assert_unreadable(store.read_link(&at(&store, "tree-as-link")), "it is a tree");
}

#[test]
fn bad_link_targets_are_unreadable() {
    let fixture = Fixture::new();
    let made = fixture.init("r", &[]);
    let links = [("empty", Vec::new()), ("nul", b"a\0b".to_vec()), ("long", vec![b'x'; 4096])];
    let ids: Vec<_> = links.iter().map(|(_, target)| made.blob(target)).collect();
    let entries: Vec<_> = links
        .iter()
        .zip(&ids)
        .map(|((name, _), id)| ("120000", name.as_bytes(), id.as_str()))
        .collect();
    let commit = made.commit_tree(&made.tree(&entries));
    let store = store(&made, &commit);
    assert_unreadable(store.read_link(&at(&store, "empty")), "empty");
    assert_unreadable(store.read_link(&at(&store, "nul")), "NUL");
    assert_unreadable(store.read_link(&at(&store, "long")), "4096");
}

#[test]
fn missing_and_damaged_objects_are_errors() {
    let fixture = Fixture::new();
    let made = fixture.init("r", &[]);
    let commit = made.commit(&[("gone", "gone"), ("damaged", "damaged"), ("good", "good")]);
    let loose = |name: &str| {
        let id = made.git(&["rev-parse", &format!("HEAD:{name}")]);
        made.path.join(".git/objects").join(&id[..2]).join(&id[2..])
    };
    fs::remove_file(loose("gone")).unwrap();
    let damaged = loose("damaged");
    fs::remove_file(&damaged).unwrap();
    fs::write(&damaged, b"not zlib at all").unwrap();
    let store = store(&made, &commit);
    assert_unreadable(store.read(&at(&store, "gone"), 0, 1), "not in the repository");
    assert_unreadable(store.attributes(&at(&store, "gone")), "not in the repository");
    assert!(store.read(&at(&store, "damaged"), 0, 1).is_err());
    assert_eq!(store.read(&at(&store, "good"), 0, 9).unwrap(), b"good");
}

#[test]
fn s100_bytes_of_another_object_are_an_error() {
    let fixture = Fixture::new();
    let made = fixture.init("r", &[]);
    let commit = made.commit(&[
        ("a/file", "one"),
        ("b/file", "other"),
        ("@link", "a"),
        ("good", "good"),
        ("sized", "sized"),
        ("empty", ""),
    ]);
    let place = |what: &str| {
        let id = made.git(&["rev-parse", what]);
        made.path.join(".git/objects").join(&id[..2]).join(&id[2..])
    };
    // A whole object of the same type in the place of another, as a forged file or a damaged index would have it.
    for (to, from) in
        [("HEAD:a/file", "HEAD:b/file"), ("HEAD:b", "HEAD:a"), ("HEAD:link", "HEAD:good")]
    {
        fs::remove_file(place(to)).unwrap();
        fs::copy(place(from), place(to)).unwrap();
    }
    // An empty object has no bytes that anybody would read.
    fs::remove_file(place("HEAD:sized")).unwrap();
    fs::copy(place("HEAD:empty"), place("HEAD:sized")).unwrap();
    let store = store(&made, &commit);
    let said = "not those of its id";
    assert_unreadable(store.attributes(&at(&store, "sized")), said);
    assert_eq!(store.attributes(&at(&store, "empty")).unwrap().size_bytes, 0);
    assert_unreadable(store.read(&at(&store, "a/file"), 0, 9), said);
    assert_unreadable(store.list(&at(&store, "b")), said);
    assert_unreadable(store.read_link(&at(&store, "link")), said);
    assert_eq!(store.read(&at(&store, "good"), 0, 9).unwrap(), b"good");
}

#[test]
fn malformed_commits_and_trees_are_errors_and_no_panics() {
    let fixture = Fixture::new();
    let made = fixture.init("r", &[]);
    let repository = Arc::new(Repository::open(&made.path).unwrap());
    let cut = made.object("tree", b"100644 a\0short");
    let blob = made.blob(b"x");
    for text in ["", "tree", "tree 12\n", "\u{0}", "author\n\n", "tree \n\n\n"] {
        let commit = made.object("commit", text.as_bytes());
        assert_unreadable(repository.commit(&id(&commit)), "malformed");
        assert_unreadable(repository.peel(&id(&commit)), "malformed");
        let tag = made.object("tag", text.as_bytes());
        assert_unreadable(repository.peel(&id(&tag)), "malformed");
    }
    for top in [&cut, &blob] {
        let commit = made.object("commit", format!("tree {top}\n\n").as_bytes());
        let store = GitStore::new(repository.clone(), id(&commit), blobs(), None);
        assert!(matches!(store, Err(StoreError::Unreadable { .. })));
    }
    assert_unreadable(repository.commit(&id(&blob)), "it is a blob, not a commit");
}

#[test]
fn objects_that_are_packed_meanwhile_stay_readable() {
    let fixture = Fixture::new();
    let made = fixture.with_files("r", FILES);
    let commit = made.git(&["rev-parse", "HEAD"]);
    let store = store(&made, &commit);
    let listed = names(&store, &store.root().unwrap());
    made.git(&["repack", "-q", "-a", "-d"]);
    made.git(&["prune-packed"]);
    assert_eq!(names(&store, &store.root().unwrap()), listed);
    assert_eq!(store.read(&at(&store, "dir/file"), 0, 100).unwrap(), b"content");
}

#[test]
fn large_blobs_are_read_in_pieces() {
    let fixture = Fixture::new();
    let made = fixture.init("r", &[]);
    let lines: Vec<_> = (0..100_000).map(|n| format!("{n:06}\n")).collect();
    let content = lines.concat();
    let commit = made.commit(&[("large", &content)]);
    let limits = BlobLimits { small_bytes: 1000, ..BlobLimits::default() };
    let blobs = Arc::new(BlobCache::new(fixture.path().join("state"), limits));
    let repository = Arc::new(Repository::open(&made.path).unwrap());
    let store = GitStore::new(repository, id(&commit), blobs.clone(), None).unwrap();
    let large = at(&store, "large");
    assert_eq!(store.attributes(&large).unwrap().size_bytes, 700_000);
    assert_eq!(store.read(&large, 350_000, 7).unwrap(), b"050000\n");
    assert_eq!(store.read(&large, 699_999, 7).unwrap(), b"\n");
    assert_eq!(blobs.used_bytes().0, 0);
    let small = BlobLimits { object_bytes: 1000, ..limits };
    let blobs = Arc::new(BlobCache::new(fixture.path().join("state"), small));
    let store = GitStore::new(store.repository().clone(), id(&commit), blobs, None).unwrap();
    assert!(matches!(store.read(&large, 0, 1), Err(StoreError::TooLarge { .. })));
}

#[test]
fn lfs_pointers_are_served_as_the_objects_that_are_there() {
    let fixture = Fixture::new();
    let made = fixture.init("r", &[]);
    let pointer = |digest: &str, size: usize| {
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {size}\n")
    };
    let (there, absent, other) = ("ab".repeat(32), "cd".repeat(32), "ef".repeat(32));
    let commit = made.commit(&[
        ("there", &pointer(&there, 6)),
        ("absent", &pointer(&absent, 6)),
        ("other-size", &pointer(&other, 7)),
        ("text", "no pointer"),
    ]);
    let objects = made.path.join(".git/lfs/objects");
    for digest in [&there, &other] {
        let dir = objects.join(&digest[..2]).join(&digest[2..4]);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(digest), "object").unwrap();
    }
    let lfs = LfsObjects::scan(&made.path.join(".git")).unwrap();
    let repository = Arc::new(Repository::open(&made.path).unwrap());
    let store = GitStore::new(repository, id(&commit), blobs(), Some(lfs)).unwrap();
    let file = at(&store, "there");
    assert_eq!(store.attributes(&file).unwrap().size_bytes, 6);
    assert_eq!(store.read(&file, 2, 100).unwrap(), b"ject");
    for name in ["absent", "other-size"] {
        let bytes = store.read(&at(&store, name), 0, 1000).unwrap();
        assert!(bytes.starts_with(b"version"));
        assert_eq!(store.attributes(&at(&store, name)).unwrap().size_bytes, bytes.len() as u64);
    }
    assert_eq!(store.read(&at(&store, "text"), 0, 100).unwrap(), b"no pointer");
    let object = objects.join(&there[..2]).join(&there[2..4]).join(&there);
    fs::write(&object, "obj").unwrap();
    assert!(store.read(&file, 0, 6).is_err());
    fs::remove_file(&object).unwrap();
    assert!(store.read(&file, 0, 6).is_err());
}

#[test]
fn readers_never_notice_a_repack() {
    let fixture = Fixture::new();
    let made = fixture.init("r", &[]);
    let files: Vec<_> = (0..50).map(|n| (format!("f{n}"), format!("content {n}"))).collect();
    let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let commit = made.commit(&files);
    let is_done = std::sync::atomic::AtomicBool::new(false);
    let order = std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_done.load(order) {
                    // A cache of its own each time: every read reaches the repository.
                    let store = store(&made, &commit);
                    for (name, text) in &files {
                        assert_eq!(store.read(&at(&store, name), 0, 99).unwrap(), text.as_bytes());
                    }
                }
            });
        }
        for n in 0..10 {
            made.commit(&[("more", &n.to_string())]);
            made.git(&["repack", "-q", "-a", "-d"]);
            made.git(&["prune-packed"]);
        }
        is_done.store(true, order);
    });
}
