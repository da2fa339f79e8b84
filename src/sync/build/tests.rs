use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::config::resolved::{
    Access, AllowOther, Links, Location, Mode, MountSettings, Origin, Pin, PlatformValues,
    RepoCache, State,
};
use crate::store::git::fixture::Fixture;
use crate::sync::inspect::{OccurrenceKind, inspect};
use crate::union::name::Name;
use crate::union::namespace::{Directory, Item};
use crate::union::source::{SourceName, Visibility};
use crate::union::surface::{EntryRule, Presence, Surface};

const CARD: &[(&str, &str)] = &[("tools/slack/pyproject.toml", ""), ("tools/slack/a.py", "low")];

fn path(text: &str) -> RelPath {
    RelPath::parse(text).unwrap()
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn surface(at: &str, rule: EntryRule, presence: Presence) -> Surface {
    let subdir = (rule != EntryRule::Prompts).then(|| path(at));
    let never_shown = vec![name(".centaur-tools-source.json")];
    Surface { name: at.to_owned(), at: path(at), subdir, rule, presence, never_shown }
}

fn config(fixture: &Fixture, sources: Vec<SourceSpec>) -> Config {
    let packages = EntryRule::Packages { marker: name("pyproject.toml"), depth: 2 };
    Config {
        origin: Origin::File("/etc/overlays.yaml".into()),
        surfaces: vec![
            surface("tools", packages, Presence::Always),
            surface("workflows", EntryRule::Children, Presence::Always),
            surface("personas", EntryRule::Children, Presence::IfConfigured),
            surface("prompts", EntryRule::Prompts, Presence::IfNotEmpty),
        ],
        sources,
        access: Access::All,
        repo_cache: RepoCache {
            path: fixture.path().join("cache"),
            is_synced: false,
            interval: Duration::from_secs(30),
            token_file: PathBuf::new(),
        },
        state: State { dir: fixture.path().join("state"), cache_bytes: 1 << 20 },
        mount: MountSettings {
            at: "/mnt".into(),
            shows_sources: true,
            shows_git: false,
            has_xattrs: false,
            links: Links::All,
            allow_other: AllowOther::Auto,
            uid: None,
            gid: None,
            stop_timeout: Duration::from_secs(10),
            keep: Duration::from_secs(60),
        },
        platform: PlatformValues::default(),
    }
}

fn repo(text: &str) -> SourceSpec {
    let repo = SourceName::parse(text).unwrap();
    SourceSpec {
        name: repo.clone(),
        location: Location::Repo { repo, url: None },
        mode: Mode::Git,
        git_ref: None,
        visibility: Visibility::Private,
        subdirs: vec![Some(path("tools")), Some(path("workflows")), None, None],
        is_required: true,
        serves_lfs: false,
        pin: Pin::Auto,
        line: Some(7),
    }
}

fn live(text: &str, place: PathBuf) -> SourceSpec {
    SourceSpec { location: Location::Path(place), mode: Mode::Live, ..repo(text) }
}

fn at_ref(spec: SourceSpec, git_ref: &str) -> SourceSpec {
    SourceSpec { git_ref: Some(git_ref.to_owned()), ..spec }
}

fn try_build(config: &Config) -> Result<Snapshot, BuildError> {
    build(config, &Shared::new(config))
}

/// All paths of the merged directories and entries, entries with the source's position.
fn tree(snapshot: &Snapshot) -> Vec<String> {
    fn add(directory: &Directory, above: &str, found: &mut Vec<String>) {
        for (name, item) in &directory.items {
            let path = format!("{above}{name}");
            match item {
                Item::Directory(below) => {
                    found.push(format!("{path}/"));
                    add(below, &format!("{path}/"), found);
                }
                Item::Entry(shown) => found.push(format!("{path} {}", shown.source.0)),
            }
        }
    }
    let mut found = Vec::new();
    add(snapshot.namespace.root(), "", &mut found);
    found
}

fn surfaces_of(snapshot: &Snapshot) -> Vec<String> {
    let is_on_surface = |path: &String| {
        ["tools", "workflows", "personas", "prompts"].iter().any(|at| path.starts_with(at))
    };
    tree(snapshot).into_iter().filter(is_on_surface).collect()
}

#[test]
fn two_sources_become_one_tree() {
    let fixture = Fixture::new();
    fixture.with_files(
        "cache/org/base",
        &[CARD, &[("tools/.centaur-tools-source.json", ""), ("workflows/w.py", "")]].concat(),
    );
    fixture.with_files(
        "cache/me/over.git",
        &[("tools/chat/slack/pyproject.toml", ""), ("tools/chat/note", ""), ("P.md", "be")],
    );
    let mut over = repo("me/over");
    over.subdirs = vec![Some(path("tools")), None, Some(path("absent")), Some(path("P.md"))];
    let snapshot = try_build(&config(&fixture, vec![repo("org/base"), over])).unwrap();
    let expected = [
        "me/",
        "me/over 1",
        "org/",
        "org/base 0",
        "personas/",
        "prompts/",
        "prompts/01-me__over.md 1",
        "tools/",
        "tools/chat/",
        "tools/chat/note 1",
        "tools/chat/slack 1",
        "workflows/",
        "workflows/w.py 0",
    ];
    assert_eq!(tree(&snapshot), expected);
    assert_eq!(snapshot.findings, []);
    assert_eq!(snapshot.sources[0].time_secs, 1_700_000_001);
    assert!(snapshot.sources[1].place.ends_with("cache/me/over.git"));
    assert_eq!(snapshot.stacks[0].placed.len(), 3);
}

#[test]
fn s19_names_that_a_surface_never_shows_are_no_entries() {
    let fixture = Fixture::new();
    let hidden = "tools/.centaur-tools-source.json";
    fixture.with_files("cache/org/base", &[("tools/note", ""), (hidden, "low")]);
    fixture.with_files("cache/me/over", &[(hidden, "high")]);
    let config = config(&fixture, vec![repo("org/base"), repo("me/over")]);
    let snapshot = try_build(&config).unwrap();
    assert_eq!(surfaces_of(&snapshot), ["tools/", "tools/note 0", "workflows/"]);
    assert_eq!(snapshot.stacks[0].placed.len(), 1);
}

#[test]
fn s20_a_subdirectory_that_a_source_lacks_is_an_empty_layer() {
    let fixture = Fixture::new();
    fixture.with_files("cache/org/base", &[("README", ""), ("workflows/w.py", "")]);
    let snapshot = try_build(&config(&fixture, vec![repo("org/base")])).unwrap();
    assert_eq!(surfaces_of(&snapshot), ["tools/", "workflows/", "workflows/w.py 0"]);
    assert_eq!(snapshot.findings, []);
}

#[test]
fn s50_labels_tell_sources_of_one_name_apart() {
    let specs = [repo("a/b"), repo("c/d"), at_ref(repo("a/b"), "v1"), at_ref(repo("c/d"), "v1")];
    let labels_of = |specs: &[SourceSpec]| labels(&specs.iter().collect::<Vec<_>>());
    assert_eq!(labels_of(&specs), ["a/b", "c/d", "a/b@v1", "c/d@v1"]);
    let specs = [repo("a/b"), repo("a/b"), at_ref(repo("a/b"), "v1")];
    assert_eq!(labels_of(&specs), ["a/b", "a/b#2", "a/b#3"]);
}

#[test]
fn s38_the_id_depends_on_all_that_decides_a_name_or_a_byte() {
    let fixture = Fixture::new();
    let made = fixture.with_files("cache/org/base", CARD);
    let base = config(&fixture, vec![repo("org/base")]);
    let id = |config: &Config| try_build(config).unwrap().id;
    let first = id(&base);
    assert_eq!(first, id(&base));
    let mut changed = vec![base.clone(), base.clone(), base.clone(), base.clone(), base.clone()];
    changed[0].mount.shows_sources = false;
    changed[1].mount.links = Links::Inside;
    changed[2].access = Access::None;
    changed[3].sources[0].subdirs[1] = None;
    changed[4].surfaces[0].at = path("instruments");
    for config in &changed {
        assert_ne!(id(config), first);
    }
    let mut same = base.clone();
    same.mount.at = "/elsewhere".into();
    same.sources[0].git_ref = Some("main".to_owned());
    assert_eq!(id(&same), first);
    made.commit(&[("elsewhere", "")]);
    assert_ne!(id(&base), first);
}

#[test]
fn access_none_and_no_sources_are_an_empty_view() {
    let fixture = Fixture::new();
    let mut config = config(&fixture, vec![repo("not/there")]);
    config.access = Access::None;
    assert_eq!(tree(&try_build(&config).unwrap()), ["tools/", "workflows/"]);
    config.access = Access::Public;
    assert_eq!(tree(&try_build(&config).unwrap()), ["tools/", "workflows/"]);
}

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
    config.sources[0].location = Location::Path(fixture.path().join("cache/a/b"));
    assert!(try_build(&config).is_err());
    config.sources[0].mode = Mode::Live;
    assert!(try_build(&config).is_err());
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

#[test]
fn all_errors_come_at_once_each_with_its_cure() {
    let fixture = Fixture::new();
    fixture.with_files("cache/a/b", CARD).git(&["branch", "next"]);
    fs::create_dir_all(fixture.path().join("cache/no/repo")).unwrap();
    let mut optional = at_ref(repo("a/b"), "nope");
    optional.is_required = false;
    let sources = vec![
        at_ref(repo("a/b"), "mian"),
        repo("not/there"),
        optional,
        live("local/gone", fixture.path().join("gone")),
        repo("no/repo"),
    ];
    let error = try_build(&config(&fixture, sources)).unwrap_err();
    let text = error.to_string().replace(fixture.path().to_str().unwrap(), "");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "source `a/b@mian`: ref `mian` is not in `/cache/a/b`");
    assert_eq!(lines[1], "cure: set `ref` (overlays.yaml:7) to one of: main, next");
    assert!(lines[2].starts_with(
        "source `not/there`: not found; tried `/cache/private/not/there` (does not exist), "
    ));
    assert!(lines[2].contains("`/cache/not/there.git` (does not exist)"));
    assert!(lines[3].starts_with("cure: put it at `/cache/private/not/there`"));
    assert!(lines[4].starts_with("source `local/gone`: directory `/gone`: "));
    assert!(lines[6].starts_with("source `no/repo`: cannot be opened; tried "));
    assert_eq!(lines.len(), 8);
}

#[test]
fn s48_an_optional_source_that_is_missing_is_empty() {
    let fixture = Fixture::new();
    let made = fixture.init("cache/a/b", &[]);
    let commit = made.object("commit", format!("tree {}\n\n", made.blob(b"x")).as_bytes());
    made.git(&["update-ref", "--no-deref", "HEAD", &commit]);
    let not_required = |name: &str| SourceSpec { is_required: false, ..repo(name) };
    fixture.with_files("cache/c/d", CARD);
    let sources = vec![not_required("a/b"), not_required("no/where"), repo("c/d")];
    let snapshot = try_build(&config(&fixture, sources)).unwrap();
    let words: Vec<_> = snapshot.sources.iter().map(|source| source.state.word()).collect();
    assert_eq!(words, ["broken", "missing", "ready"]);
    assert_eq!(snapshot.sources[0].revision, Revision::Missing);
    assert!(snapshot.sources[0].store.list(&Object::Empty).unwrap().is_empty());
    assert!(tree(&snapshot).contains(&"no/where 1".to_owned()));
    assert_eq!(snapshot.findings.len(), 2);
    let error = snapshot.sources[0].state.error().unwrap();
    assert!(error.contains("it is a blob, not a tree"), "{error}");
}

#[test]
fn a_name_that_occurs_twice_shows_its_last_source() {
    let fixture = Fixture::new();
    let made = fixture.with_files("cache/a/b", CARD);
    made.git(&["branch", "next"]);
    let labels = |specs: Vec<SourceSpec>| {
        let snapshot = try_build(&config(&fixture, specs)).unwrap();
        let shown = tree(&snapshot).into_iter().find(|path| path.starts_with("a/b")).unwrap();
        let mut labels: Vec<_> = snapshot.sources.iter().map(|s| s.label.clone()).collect();
        labels.push(shown);
        labels
    };
    let (main, next) = (at_ref(repo("a/b"), "main"), at_ref(repo("a/b"), "next"));
    assert_eq!(labels(vec![main.clone(), next.clone()]), ["a/b@main", "a/b@next", "a/b 1"]);
    assert_eq!(labels(vec![repo("a/b"), next.clone()]), ["a/b", "a/b@next", "a/b 1"]);
    assert_eq!(labels(vec![next.clone(), next]), ["a/b", "a/b#2", "a/b 1"]);
}

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
fn live_sources_change_their_revision_with_their_entries_only() {
    let fixture = Fixture::new();
    let made = fixture.with_files("work", CARD);
    let config = config(&fixture, vec![live("local/work", made.path.clone())]);
    let built = || try_build(&config).unwrap();
    let first = built();
    assert_eq!(surfaces_of(&first), ["tools/", "tools/slack 0", "workflows/"]);
    fs::write(made.path.join("tools/slack/new"), "").unwrap();
    assert_eq!(built().id, first.id);
    fs::create_dir(made.path.join("tools/more")).unwrap();
    let second = built();
    assert_ne!(second.id, first.id);
    assert_eq!(second.sources[0].key, first.sources[0].key);
    assert!(matches!(second.sources[0].revision, Revision::Listing(_)));
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
    let found = inspect(&try_build(&config).unwrap());
    let found: Vec<_> = found.iter().map(|o| (o.kind, o.count, o.places.join(" "))).collect();
    let left_out = OccurrenceKind::LeftOut(crate::store::LeftOutReason::GitDirectory);
    let expected = [
        (OccurrenceKind::Submodule, 1, "deep/module".to_owned()),
        (OccurrenceKind::LfsPointer, 1, "deep/big".to_owned()),
        (left_out, 1, "deep/.git".to_owned()),
    ];
    assert_eq!(found, expected);
    config.mount.shows_sources = false;
    assert_eq!(inspect(&try_build(&config).unwrap()), []);
    config.sources[0].subdirs[1] = Some(path("same"));
    assert_eq!(inspect(&try_build(&config).unwrap())[0].places, ["same/module"]);
}

#[test]
fn a_git_source_that_cannot_be_read_keeps_its_last_revision() {
    let fixture = Fixture::new();
    let made = fixture.with_files("cache/a/b", CARD);
    let other = fixture.with_files("cache/c/d", &[("workflows/w", "")]);
    let mut config = config(&fixture, vec![at_ref(repo("a/b"), "main"), repo("c/d")]);
    let last = try_build(&config).unwrap();
    made.git(&["checkout", "-q", "--detach"]);
    made.git(&["branch", "-q", "-D", "main"]);
    other.commit(&[("workflows/x", "")]);
    let rebuilt = rebuild(&config, &Shared::new(&config), None, Some(&last)).unwrap();
    assert_eq!(rebuilt.snapshot.sources[0].revision, last.sources[0].revision);
    assert_eq!(rebuilt.snapshot.sources[0].key, last.sources[0].key);
    assert_ne!(rebuilt.snapshot.sources[1].revision, last.sources[1].revision);
    let (stale, error) = &rebuilt.stale[0];
    assert_eq!((*stale, rebuilt.stale.len()), (SourceId(0), 1));
    assert!(error.to_string().contains("ref `main` is not in"), "{error}");
    assert!(rebuild(&config, &Shared::new(&config), None, None).is_err());
    for change in [
        |spec: &mut SourceSpec| spec.visibility = Visibility::Public,
        |spec: &mut SourceSpec| spec.git_ref = Some("next".to_owned()),
        |spec: &mut SourceSpec| spec.location = Location::Path("/elsewhere".into()),
    ] {
        let spec = config.sources[0].clone();
        change(&mut config.sources[0]);
        assert!(rebuild(&config, &Shared::new(&config), None, Some(&last)).is_err());
        config.sources[0] = spec;
    }
}

#[test]
fn lfs_objects_count_for_the_id_where_they_are_served() {
    let fixture = Fixture::new();
    let made = fixture.with_files("cache/a/b", CARD);
    let mut config = config(&fixture, vec![repo("a/b")]);
    let built = |config: &Config| {
        let snapshot = try_build(config).unwrap();
        (snapshot.id, snapshot.sources[0].key)
    };
    let plain = built(&config);
    config.sources[0].serves_lfs = true;
    assert_eq!(built(&config), plain);
    let digest = "ab".repeat(32);
    let dir = made.path.join(".git/lfs/objects/ab/ab");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join(&digest), "x").unwrap();
    let (id, key) = built(&config);
    assert!(id != plain.0 && key != plain.1);
    fs::write(dir.join(&digest), "xy").unwrap();
    assert_ne!(built(&config).0, id);
    config.sources[0].serves_lfs = false;
    assert_eq!(built(&config), plain);
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

#[test]
fn what_did_not_move_is_neither_opened_nor_read_again() {
    let fixture = Fixture::new();
    let moving = fixture.with_files("cache/a/moving", CARD);
    fixture.with_files("cache/a/still", &[("workflows/w.py", "")]);
    let config = config(&fixture, vec![repo("a/moving"), repo("a/still")]);
    let shared = Shared::new(&config);
    let first = rebuild(&config, &shared, None, None).unwrap().snapshot;
    let second = rebuild(&config, &shared, None, Some(&first)).unwrap().snapshot;
    for (one, other) in first.sources.iter().zip(&second.sources) {
        assert!(Arc::ptr_eq(one, other));
    }
    moving.commit(&[("tools/slack/a.py", "high")]);
    let third = rebuild(&config, &shared, None, Some(&second)).unwrap().snapshot;
    assert!(Arc::ptr_eq(&second.sources[1], &third.sources[1]));
    assert!(!Arc::ptr_eq(&second.sources[0], &third.sources[0]));
    let repository = |snapshot: &Snapshot| snapshot.sources[0].git.as_ref().unwrap().repository();
    assert!(Arc::ptr_eq(&repository(&first), &repository(&third)));
    assert_eq!(tree(&third), tree(&try_build(&config).unwrap()));
    assert_eq!(third.id, try_build(&config).unwrap().id);
}
