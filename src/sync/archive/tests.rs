//! Sets that were left, written down and made again.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::*;
use crate::config::{Environment, load_file};
use crate::store::git::fixture::Fixture;
use crate::sync::build::{build, rebuild};
use crate::sync::follow;
use crate::union::namespace::{Directory, Item};
use crate::union::succession::Remembered;
use crate::view::Archive as _;

/// A configuration with all that a record must tell.
fn configured(fixture: &Fixture) -> Config {
    let base = fixture.with_files(
        "cache/a/base",
        &[
            ("tools/crypto/etherscan/pyproject.toml", ""),
            ("tools/notes/readme", "n"),
            ("workflows/w.py", "x"),
            (".agents/skills/review/SKILL.md", "one"),
            ("prompts/SYSTEM.md", "prompt"),
            ("@.agents/skills/link", "/etc/hostname"),
        ],
    );
    let odd = base.path.join(std::ffi::OsStr::from_bytes(b"workflows/\xff\xfe"));
    fs::write(odd, "not text").unwrap();
    base.git(&["add", "-A"]);
    base.git(&["commit", "-q", "-m", "odd"]);
    let live = fixture.path().join("live/tools/local");
    fs::create_dir_all(&live).unwrap();
    fs::write(live.join("pyproject.toml"), "").unwrap();
    let file = fixture.path().join("overlays.yaml");
    let text = "overlays:
  sources:
    - {repo: a/base, promptPath: prompts/SYSTEM.md, visibility: public}
    - {path: live, subdirs: {extra: tools}}
    - {repo: a/absent, required: false}
surfaces: {extra: {at: more/extra, entries: children}}
repoCache: {path: cache}
state: {dir: state}
mount: {at: view, links: inside}
";
    fs::write(&file, text).unwrap();
    load_file(&file, &Environment::of_process()).unwrap().config
}

/// All that a namespace shows, times and ages included.
fn tree(directory: &Directory, path: &str, lines: &mut Vec<String>) {
    lines.push(format!("{path}/ {} {}", directory.time_secs, directory.born));
    for (name, item) in &directory.items {
        let path = format!("{path}/{name}");
        match item {
            Item::Directory(below) => tree(below, &path, lines),
            Item::Entry(shown) => lines.push(format!("{path} {shown:?}")),
        }
    }
}

fn lines(snapshot: &Snapshot) -> Vec<String> {
    let mut lines = Vec::new();
    tree(snapshot.namespace.root(), "", &mut lines);
    lines
}

fn archive(fixture: &Fixture, config: &Config) -> (Pins, Archive) {
    let pins = Pins::open(&config.state, Some(&fixture.path().join("view")));
    let shared = Arc::new(Shared::new(config));
    let archive = Archive::open(&pins, None, config, shared).unwrap();
    (pins, archive)
}

/// An archive with the first set of the configuration.
fn kept(fixture: &Fixture) -> (Config, Pins, Archive, Snapshot) {
    let config = configured(fixture);
    let (pins, archive) = archive(fixture, &config);
    let snapshot = build(&config, &archive.shared).unwrap();
    archive.keep(&snapshot, &config);
    (config, pins, archive, snapshot)
}

#[test]
fn a_set_is_made_again_as_it_was() {
    let fixture = Fixture::new();
    let config = configured(&fixture);
    let (_pins, archive) = archive(&fixture, &config);
    let first = build(&config, &archive.shared).unwrap();
    fixture.at("cache/a/base").commit(&[(".agents/skills/review/SKILL.md", "two")]);
    let next = rebuild(&config, &archive.shared, None, Some(&first)).unwrap().snapshot;
    let second = follow(&first, next, &mut Remembered::default());
    for snapshot in [&first, &second] {
        archive.keep(snapshot, &config);
        assert!(archive.has(&snapshot.id));
        let again = archive.recall(&snapshot.id).unwrap();
        assert_eq!(lines(&again), lines(snapshot));
        for (source, before) in again.sources.iter().zip(&snapshot.sources) {
            assert_eq!((&source.label, source.key), (&before.label, before.key));
            assert_eq!((&source.place, &source.revision), (&before.place, &before.revision));
        }
    }
    archive.retain(&[second.id]);
    assert!(!archive.has(&first.id) && archive.recall(&first.id).is_err());
    assert_eq!(fs::read_dir(&archive.dir).unwrap().count(), 1);
}

#[test]
fn a_damaged_record_is_an_error_and_never_other_content() {
    let fixture = Fixture::new();
    let (_config, _pins, archive, snapshot) = kept(&fixture);
    let path = path_of(&archive.dir, &snapshot.id);
    let good = fs::read_to_string(&path).unwrap();
    let damaged = [
        good[..good.len() / 2].to_owned(),
        good.replace("\"form\":1", "\"form\":2"),
        good.replace("\"access\":\"all\"", "\"access\":\"some\""),
        good.replace("\"access\":\"all\"", "\"access\":\"public\""),
        good.replace("prompts/SYSTEM.md", "prompts/OTHER.md"),
        String::new(),
    ];
    for text in damaged {
        assert_ne!(text, good);
        fs::write(&path, &text).unwrap();
        assert!(archive.recall(&snapshot.id).is_err(), "{text}");
    }
    fs::write(&path, good).unwrap();
    assert!(archive.recall(&snapshot.id).is_ok());
}

/// Takes the tree of the skills away; where it was, and where it is.
fn hide_skills(fixture: &Fixture) -> (PathBuf, PathBuf) {
    let base = fixture.at("cache/a/base");
    let id = base.git(&["rev-parse", "HEAD:.agents/skills"]);
    let (directory, name) = id.trim().split_at(2);
    let object = base.path.join(".git/objects").join(directory).join(name);
    let hidden = object.with_extension("hidden");
    fs::rename(&object, &hidden).unwrap();
    (object, hidden)
}

/// A worker that takes over where memory or descriptors lack for a moment would show a part for the whole.
#[test]
fn s115_what_cannot_be_read_for_a_moment_is_waited_for() {
    let fixture = Fixture::new();
    let (_config, _pins, archive, snapshot) = kept(&fixture);
    let (object, hidden) = hide_skills(&fixture);
    let part = archive.recall_whole(&snapshot.id, Duration::ZERO).unwrap();
    assert_ne!(lines(&part), lines(&snapshot));
    let whole = thread::scope(|scope| {
        let recalled = scope.spawn(|| archive.recall_whole(&snapshot.id, Duration::from_secs(60)));
        thread::sleep(Duration::from_millis(300));
        assert!(!recalled.is_finished(), "a part was taken for the whole");
        fs::rename(&hidden, &object).unwrap();
        recalled.join().unwrap().unwrap()
    });
    assert_eq!(lines(&whole), lines(&snapshot));
}

#[test]
fn the_next_daemon_takes_over_what_is_to_be_kept() {
    let fixture = Fixture::new();
    let (config, pins, archive_before, snapshot) = kept(&fixture);
    fs::write(archive_before.dir.join("half.new"), "").unwrap();
    let dir = archive_before.dir.clone();
    pins.keep();
    drop((archive_before, pins));

    let names = |dir: &Path| fs::read_dir(dir).unwrap().count();
    let (pins, after) = archive(&fixture, &config);
    assert_eq!(after.load(&pins, &pins.left(), &config, 8).len(), 1);
    assert_eq!(lines(&after.recall(&snapshot.id).unwrap()), lines(&snapshot));
    assert_eq!(names(&dir), 1);

    let mut public = config.clone();
    public.access = Access::Public;
    assert_eq!(after.forbidden(&config).len(), 0);
    assert!(after.forbidden(&public).contains(&snapshot.id));
    assert_eq!(after.load(&pins, &pins.left(), &public, 8).len(), 0);
    assert_eq!(names(&dir), 0);
}

/// The kernel keeps that a name is not there: whoever goes on shows no more than was shown, whatever can be read by then.
#[test]
fn s137_a_part_is_made_again_as_it_was_shown() {
    let fixture = Fixture::new();
    let config = configured(&fixture);
    let (object, hidden) = hide_skills(&fixture);
    let (_pins, archive) = archive(&fixture, &config);
    let part = build(&config, &archive.shared).unwrap();
    archive.keep(&part, &config);
    fs::rename(&hidden, &object).unwrap();
    let again = archive.recall_whole(&part.id, Duration::ZERO).unwrap();
    assert_eq!(lines(&again), lines(&part));
    let whole = rebuild(&config, &archive.shared, None, Some(&again)).unwrap().snapshot;
    assert!(whole.id != part.id && lines(&whole).len() > lines(&part).len());
}

#[test]
fn of_a_view_that_is_gone_for_good_nothing_stays() {
    let fixture = Fixture::new();
    let config = configured(&fixture);
    let pins = Pins::open(&config.state, None);
    let shared = Arc::new(Shared::new(&config));
    let archive = Archive::open(&pins, Some(Path::new("/at/one")), &config, shared).unwrap();
    let snapshot = build(&config, &archive.shared).unwrap();
    archive.keep(&snapshot, &config);
    assert!(archive.dir.exists());
    archive.forget();
    assert!(!archive.dir.exists());
}

/// The kernel says of such a record that the device failed.
#[test]
fn s68_a_set_whose_record_cannot_be_read_for_a_moment_is_not_forgotten() {
    let fixture = Fixture::new();
    let (config, pins, before, snapshot) = kept(&fixture);
    let record = path_of(&before.dir, &snapshot.id);
    let hidden = fixture.path().join("hidden");
    pins.keep();
    drop((before, pins));
    fs::rename(&record, &hidden).unwrap();
    symlink("/proc/self/mem", &record).unwrap();
    let (pins, after) = archive(&fixture, &config);
    let left = pins.left();
    assert_eq!(after.load(&pins, &left, &config, 8).len(), 0);
    assert!(record.is_symlink());
    let loaded = thread::scope(|scope| {
        let loaded = scope.spawn(|| after.load(&pins, &left, &config, 8).len());
        thread::sleep(Duration::from_millis(300));
        assert!(!loaded.is_finished(), "it was given up");
        fs::rename(&hidden, &record).unwrap();
        loaded.join().unwrap()
    });
    assert_eq!(loaded, 1);
    assert_eq!(lines(&after.recall(&snapshot.id).unwrap()), lines(&snapshot));
}
