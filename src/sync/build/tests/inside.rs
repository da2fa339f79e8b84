//! What is read in a source, and how far links lead.

use super::*;

#[test]
fn subdirs_through_links_are_followed_only_inside() {
    let fixture = Fixture::new();
    let files = &[
        ("real/tools/slack/pyproject.toml", ""),
        ("@tools", "real/tools"),
        ("@out", "../../etc"),
        ("@absolute", "/etc"),
        ("@circle", "circle"),
        ("file", ""),
        ("module/x", ""),
    ];
    fixture.with_files("cache/a/b", files);
    let mut spec = repo("a/b");
    let mut built = |subdir: &str| {
        spec.subdirs = vec![Some(path(subdir)), None, None, None];
        let snapshot = try_build(&config(&fixture, vec![spec.clone()])).unwrap();
        (surfaces_of(&snapshot), snapshot.findings)
    };
    assert_eq!(built("tools").0, ["tools/", "tools/slack 0", "workflows/"]);
    for (subdir, kind) in [
        ("out", FindingKind::SubdirLeavesSource),
        ("absolute/x", FindingKind::SubdirLeavesSource),
        ("file", FindingKind::SubdirIsAFile),
    ] {
        let (tree, findings) = built(subdir);
        assert_eq!(tree, ["tools/", "workflows/"]);
        assert_eq!(findings, [Finding { source: SourceId(0), path: path(subdir), kind }]);
    }
    assert!(matches!(built("circle").1[0].kind, FindingKind::Unreadable { .. }));
    assert_eq!(built("nothing"), (vec!["tools/".to_owned(), "workflows/".to_owned()], vec![]));
}

#[test]
fn markers_may_be_links_inside_the_source() {
    let fixture = Fixture::new();
    let files = &[
        ("shared/pyproject.toml", ""),
        ("@tools/category/linked/pyproject.toml", "../../../shared/pyproject.toml"),
        ("@tools/outside/leaving/pyproject.toml", "/etc/hostname"),
        ("tools/dir/inner/pyproject.toml/x", ""),
        ("tools/_under/score/pyproject.toml", ""),
    ];
    fixture.with_files("cache/a/b", files);
    let snapshot = try_build(&config(&fixture, vec![repo("a/b")])).unwrap();
    let expected = [
        "tools/",
        "tools/_under 0",
        "tools/category/",
        "tools/category/linked 0",
        "tools/dir 0",
        "tools/outside 0",
        "workflows/",
    ];
    assert_eq!(surfaces_of(&snapshot), expected);
}

#[test]
fn links_that_leave_are_left_out_on_request() {
    let fixture = Fixture::new();
    let files = &[
        ("@workflows/in", "../tools"),
        ("@workflows/out", "../../x"),
        ("@workflows/absolute", "/x"),
        ("@workflows/dangling", "nothing"),
    ];
    fixture.with_files("cache/a/b", files);
    let mut config = config(&fixture, vec![repo("a/b")]);
    assert_eq!(surfaces_of(&try_build(&config).unwrap()).len(), 6);
    config.mount.links = Links::Inside;
    let expected = ["tools/", "workflows/", "workflows/dangling 0", "workflows/in 0"];
    assert_eq!(surfaces_of(&try_build(&config).unwrap()), expected);
}

#[test]
fn a_bad_directory_below_costs_only_itself() {
    let fixture = Fixture::new();
    let made = fixture.init("cache/a/b", &[]);
    let blob = made.blob(b"");
    let package = made.tree(&[("100644", b"pyproject.toml", &blob)]);
    let broken = made.object("tree", b"100644 cut");
    let tools = made.tree(&[("40000", b"bad", &broken), ("40000", b"good", &package)]);
    made.commit_tree(&made.tree(&[("40000", b"tools", &tools), ("40000", b"workflows", &broken)]));
    let snapshot = try_build(&config(&fixture, vec![repo("a/b")])).unwrap();
    assert_eq!(surfaces_of(&snapshot), ["tools/", "tools/bad 0", "tools/good 0", "workflows/"]);
    assert!(snapshot.findings.len() >= 2);
    assert!(snapshot.findings.iter().all(|f| matches!(f.kind, FindingKind::Unreadable { .. })));
}

#[test]
fn a_work_tree_is_served_live_on_request() {
    let fixture = Fixture::new();
    let made = fixture.with_files("cache/a/b", CARD);
    fs::create_dir(made.path.join("tools/uncommitted")).unwrap();
    let spec = SourceSpec { mode: Mode::Live, ..repo("a/b") };
    let snapshot = try_build(&config(&fixture, vec![spec])).unwrap();
    assert!(tree(&snapshot).contains(&"tools/uncommitted 0".to_owned()));
    fixture.init("cache/a/bare.git", &["--bare"]);
    let bare = SourceSpec { mode: Mode::Live, ..repo("a/bare") };
    let error = try_build(&config(&fixture, vec![bare])).unwrap_err().to_string();
    assert!(error.contains("has no work tree"), "{error}");
}

#[test]
fn check_finds_what_a_user_might_miss() {
    let fixture = Fixture::new();
    let made = fixture.init("cache/a/b", &[]);
    let pointer = format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 5\n",
        "ab".repeat(32)
    );
    let (pointer, empty) = (made.blob(pointer.as_bytes()), made.tree(&[]));
    let deep = made.tree(&[
        ("40000", b".git", &empty),
        ("100644", b"big", &pointer),
        ("160000", b"module", &"ab".repeat(20)),
    ]);
    made.commit_tree(&made.tree(&[("40000", b"deep", &deep), ("40000", b"same", &deep)]));
    let mut config = config(&fixture, vec![repo("a/b")]);
    let found = inspect(&try_build(&config).unwrap(), 1 << 30);
    let found: Vec<_> = found.iter().map(|o| (o.kind, o.count, o.places.join(" "))).collect();
    let left_out = OccurrenceKind::LeftOut(crate::store::LeftOutReason::GitDirectory);
    let expected = [
        (OccurrenceKind::Submodule, 1, "deep/module".to_owned()),
        (OccurrenceKind::LfsPointer, 1, "deep/big".to_owned()),
        (left_out, 1, "deep/.git".to_owned()),
    ];
    assert_eq!(found, expected);
    config.mount.shows_sources = false;
    assert_eq!(inspect(&try_build(&config).unwrap(), 1 << 30), []);
    config.sources[0].subdirs[1] = Some(path("same"));
    assert_eq!(inspect(&try_build(&config).unwrap(), 1 << 30)[0].places, ["same/module"]);
}

#[test]
fn nothing_below_an_entry_is_read() {
    let fixture = Fixture::new();
    let made = fixture.init("cache/a/b", &[]);
    let absent = "ab".repeat(20);
    let blob = made.blob(b"");
    let package = made.tree(&[("100644", b"pyproject.toml", &blob), ("40000", b"src", &absent)]);
    let tools = made.tree(&[("40000", b"package", &package), ("100644", b"file", &absent)]);
    let workflows = made.tree(&[("40000", b"w", &absent), ("40000", b"x", &absent)]);
    let top = made.tree(&[("40000", b"tools", &tools), ("40000", b"workflows", &workflows)]);
    let commit = made.object("commit", format!("tree {top}\n\n").as_bytes());
    made.git(&["update-ref", "--no-deref", "HEAD", &commit]);
    let snapshot = try_build(&config(&fixture, vec![repo("a/b")])).unwrap();
    assert_eq!(snapshot.findings, []);
    assert_eq!(surfaces_of(&snapshot).len(), 6);
}
