//! Where repositories are found, and which commit their refs lead to.

use super::*;

#[test]
fn s45_the_first_place_that_opens_is_taken() {
    let fixture = Fixture::new();
    let place = |config: &Config| try_build(config).unwrap().sources[0].place.clone();
    let config = config(&fixture, vec![repo("a/b")]);
    for at in ["a/b.git", "private/a/b.git", "a/b", "private/a/b"] {
        fixture.with_files(&format!("cache/{at}"), CARD);
        assert!(place(&config).ends_with(format!("cache/{at}")), "{at}");
    }
    fs::remove_dir_all(fixture.path().join("cache/private/a/b/.git")).unwrap();
    assert!(place(&config).ends_with("cache/a/b"));
}

#[test]
fn s47_a_public_view_refuses_what_lies_below_private() {
    let fixture = Fixture::new();
    fixture.with_files("cache/private/a/b", CARD);
    fs::create_dir(fixture.path().join("cache/a")).unwrap();
    symlink("../private/a/b", fixture.path().join("cache/a/b")).unwrap();
    let public = SourceSpec { visibility: Visibility::Public, ..repo("a/b") };
    let mut config = config(&fixture, vec![public]);
    assert!(try_build(&config).is_ok());
    config.access = Access::Public;
    let error = try_build(&config).unwrap_err().to_string();
    assert!(error.contains("cache/a/b` (is below the cache's `private` directory"), "{error}");
    assert!(error.contains("only a private one is there, and this view is public"), "{error}");
    let place = fixture.path().join("cache/public/a/b");
    let cure = format!("cure: put a repository that everybody may see at `{}`", place.display());
    assert!(error.contains(&cure) && error.contains("remove `visibility: public`"), "{error}");
    config.sources[0].location = Location::Path(fixture.path().join("cache/a/b"));
    for mode in [Mode::Git, Mode::Live] {
        config.sources[0].mode = mode;
        let error = try_build(&config).unwrap_err().to_string();
        assert!(error.contains("cure: name a directory that everybody may see"), "{error}");
    }
    // A private one beside a broken one: the broken one is to be repaired.
    config.sources[0] = SourceSpec { visibility: Visibility::Public, ..repo("a/b") };
    fs::create_dir_all(&place).unwrap();
    let error = try_build(&config).unwrap_err().to_string();
    assert!(error.contains("cure: repair it, correct its place"), "{error}");
}

/// Nobody can tell where a link leads that leads to itself.
#[test]
fn s47_a_public_view_reads_nothing_of_which_it_cannot_be_told_whether_it_is_private() {
    let fixture = Fixture::new();
    fixture.with_files("cache/a/b", CARD);
    symlink("private", fixture.path().join("cache/private")).unwrap();
    let public = SourceSpec { visibility: Visibility::Public, ..repo("a/b") };
    let mut config = config(&fixture, vec![public]);
    assert!(try_build(&config).is_ok());
    config.access = Access::Public;
    let error = try_build(&config).unwrap_err().to_string();
    assert!(error.contains("cannot be told"), "{error}");
    config.sources[0].location = Location::Path(fixture.path().join("cache/a/b"));
    for mode in [Mode::Git, Mode::Live] {
        config.sources[0].mode = mode;
        let error = try_build(&config).unwrap_err().to_string();
        assert!(error.contains("cannot be told"), "{error}");
    }
}

#[test]
fn s46_a_ref_is_looked_up_at_the_remote_first() {
    let fixture = Fixture::new();
    let made = fixture.with_files("cache/a/b", CARD);
    let first = made.git(&["rev-parse", "HEAD"]);
    made.git(&["tag", "light"]);
    made.git(&["tag", "-a", "-m", "x", "annotated"]);
    made.git(&["tag", "-a", "-m", "x", "nested", "annotated"]);
    made.git(&["branch", "both"]);
    let second = made.commit(&[("more", "")]);
    made.git(&["update-ref", "refs/remotes/origin/both", &second]);
    made.git(&["update-ref", "refs/remotes/origin/1234", &second]);
    made.git(&["update-ref", "refs/pull/5/head", &first]);
    made.git(&["branch", "sub/branch", &first]);
    made.git(&["symbolic-ref", "refs/heads/symbolic", "refs/heads/sub/branch"]);
    let other = made.git(&["commit-tree", "-m", "x", "HEAD^{tree}"]);
    made.git(&["update-ref", &format!("refs/heads/{first}"), &other]);
    let revision = |git_ref: &str| {
        let config = config(&fixture, vec![at_ref(repo("a/b"), git_ref)]);
        try_build(&config).map(|snapshot| snapshot.sources[0].revision.to_string())
    };
    let table = [
        ("light", &first),
        ("annotated", &first),
        ("nested", &first),
        ("both", &second),
        ("1234", &second),
        ("refs/pull/5/head", &first),
        ("refs/heads/both", &first),
        ("sub/branch", &first),
        ("heads/both", &first),
        ("origin/both", &second),
        ("symbolic", &first),
        ("HEAD", &second),
        (first.as_str(), &first),
    ];
    for packed in [false, true] {
        for (git_ref, commit) in &table {
            assert_eq!(&revision(git_ref).unwrap(), *commit, "{git_ref}");
        }
        if !packed {
            made.git(&["pack-refs", "--all"]);
        }
    }
    let tree = made.git(&["rev-parse", "HEAD^{tree}"]);
    made.git(&["tag", "of-tree", &tree]);
    let tag = made.git(&["rev-parse", "annotated"]);
    for bad in [
        &first[..10],
        "main~0",
        "main^{}",
        "@",
        "-x",
        "../x",
        "",
        "of-tree",
        &tree,
        &tag,
        &"0".repeat(40),
    ] {
        assert!(revision(bad).is_err(), "{bad}");
    }
}

#[test]
fn head_is_what_a_checkout_has_also_when_detached() {
    let fixture = Fixture::new();
    let made = fixture.with_files("cache/a/b", CARD);
    let first = made.git(&["rev-parse", "HEAD"]);
    let config = config(&fixture, vec![repo("a/b")]);
    let revision = || try_build(&config).map(|snapshot| snapshot.sources[0].revision.to_string());
    let second = made.commit(&[("more", "")]);
    assert_eq!(revision().unwrap(), second);
    made.git(&["checkout", "-q", "--detach", &first]);
    assert_eq!(revision().unwrap(), first);
    made.git(&["symbolic-ref", "HEAD", "refs/heads/none"]);
    made.git(&["tag", "refs/heads/none", "main"]);
    let error = revision().unwrap_err().to_string();
    assert!(error.contains("names a branch without commits"), "{error}");
    assert!(
        error.contains("cure: set `ref` (overlays.yaml:7), for example to one of: main"),
        "{error}"
    );
}

#[test]
fn reftables_are_read_by_the_git_program() {
    let fixture = Fixture::new();
    let made = fixture.init("cache/a/b", &["--ref-format=reftable"]);
    let first = made.commit(CARD);
    made.git(&["tag", "-a", "-m", "x", "v1"]);
    made.git(&["branch", "refs/heads/x"]);
    let second = made.commit(&[("more", "")]);
    let mut spec = repo("a/b");
    let mut revision = |git_ref: Option<&str>| {
        spec.git_ref = git_ref.map(str::to_owned);
        let snapshot = try_build(&config(&fixture, vec![spec.clone()]));
        snapshot.map(|snapshot| snapshot.sources[0].revision.to_string())
    };
    assert_eq!(revision(None).unwrap(), second);
    assert_eq!(revision(Some("main")).unwrap(), second);
    assert_eq!(revision(Some("v1")).unwrap(), first);
    let error = revision(Some("mian")).unwrap_err().to_string();
    assert!(error.contains("to one of: main"), "{error}");
}
