//! Snapshots of real repositories and directories.

mod again;
mod inside;
mod moments;
mod places;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::config::resolved::{
    Access, AllowOther, Links, Location, Mode, MountSettings, Origin, Pin, PlatformValues,
    RepoCache, StateSettings,
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
        state: StateSettings {
            dir: fixture.path().join("state"),
            cache_bytes: 1 << 20,
            object_bytes: 1 << 30,
        },
        mount: MountSettings {
            at: "/mnt".into(),
            named_at: "/mnt".into(),
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
    // Names that look like labels.
    let specs = ["a/b", "a/b", "a/b#2", "a/b#2"].map(repo);
    assert_eq!(labels_of(&specs), ["a/b", "a/b#3", "a/b#2", "a/b#2#2"]);
    let specs = [at_ref(repo("a/b"), "v1"), repo("a/b"), repo("a/b@v1")];
    assert_eq!(labels_of(&specs), ["a/b", "a/b#2", "a/b@v1"]);
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
    assert_eq!(lines[1], "  cure: set `ref` (overlays.yaml:7) to one of: main, next");
    assert!(lines[2].starts_with(
        "error: source `not/there`: not found; tried `/cache/private/not/there` (does not exist), "
    ));
    assert!(lines[2].contains("`/cache/not/there.git` (does not exist)"));
    assert!(lines[3].starts_with("  cure: put it at `/cache/private/not/there`"));
    assert!(lines[4].starts_with("error: source `local/gone`: directory `/gone`: "));
    assert!(lines[6].starts_with("error: source `no/repo`: cannot be opened; tried "));
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
