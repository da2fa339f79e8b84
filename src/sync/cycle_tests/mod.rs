//! Rounds over real repositories: what comes of them, and what every kind of failure leaves.

mod advertised;
mod failures;
mod names;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::build::build;
use super::cycle::{Cycle, RoundError, RoundReport, RoundSettings, RoundStep, round};
use super::fetch::FetchCause;
use super::{Moved, Shared};
use crate::config::resolved::{Config, PlatformRepository};
use crate::config::{Environment, load_file};
use crate::store::git::fixture::{Fixture, Made, write_program};

/// A configuration beside the cache `cache`; in `sources` each `UP` is the fixture's directory as a URL.
fn config(fixture: &Fixture, sources: &str) -> Config {
    let url = format!("file://{}", fixture.path().display());
    let text = format!(
        "overlays: {{sources: [{}]}}\nrepoCache: {{path: cache, tokenFile: token}}\n",
        sources.replace("UP", &url)
    );
    let file = fixture.path().join("overlays.yaml");
    fs::write(&file, text).unwrap();
    load_file(&file, &Environment::of_process()).unwrap().config
}

fn settings() -> RoundSettings {
    RoundSettings { lock_timeout: Duration::from_millis(300), ..RoundSettings::default() }
}

fn sync(config: &Config) -> RoundReport {
    round(config, &settings(), &|_| {}).unwrap()
}

/// The cause of the failure of the source at an index.
fn cause(report: &RoundReport, index: usize) -> FetchCause {
    let failed = report.sources[index].outcome.as_ref().unwrap_err();
    assert!(!failed.cure.is_empty());
    failed.cause.clone()
}

fn moved(report: &RoundReport, index: usize) -> &Moved {
    let outcome = &report.sources[index].outcome;
    outcome.as_ref().unwrap_or_else(|failed| panic!("{failed}: {failed:?}"))
}

fn is_ready(config: &Config) -> bool {
    config.repo_cache.path.join(".repo-cache-ready").exists()
}

fn one(fixture: &Fixture) -> Made {
    fixture.with_files("up", &[("tools/x/pyproject.toml", "1")])
}

fn refs(mirror: &Made) -> Vec<String> {
    let lines = mirror.git(&["for-each-ref", "--format=%(refname)"]);
    lines.lines().map(str::to_owned).collect()
}

/// A program that stands in for git: it runs `script` where that says `fetch`.
fn stub(fixture: &Fixture, script: &str) -> PathBuf {
    let path = fixture.path().join("stub-git");
    let text =
        format!("#!/bin/sh\ncase \" $* \" in *' fetch '*) {script} ;; esac\nexec git \"$@\"\n");
    write_program(&path, &text);
    path
}

#[test]
fn a_round_clones_then_follows_then_finds_nothing_new() {
    let fixture = Fixture::new();
    let up = one(&fixture);
    let first = up.commit(&[("a", "1")]);
    let config = config(&fixture, "{repo: acme/base, url: UP/up, visibility: public}");
    let report = sync(&config);
    assert!(report.is_success() && is_ready(&config));
    assert!(matches!(moved(&report, 0), Moved::Cloned(now) if now.to_string() == first));
    let cache = &config.repo_cache.path;
    let target = fs::read_link(cache.join("acme/base")).unwrap();
    assert_eq!(target, Path::new("../public/acme/base.git"));
    let mirror = fixture.at("cache/public/acme/base.git");
    assert_eq!(mirror.git(&["symbolic-ref", "HEAD"]), "refs/heads/main");
    assert_eq!(refs(&mirror), ["refs/heads/main", "refs/remotes/origin/HEAD"]);
    assert_eq!(mirror.git(&["rev-list", "--count", "HEAD"]), "1", "tips only");
    assert!(matches!(moved(&sync(&config), 0), Moved::Unchanged(_)));
    let second = up.commit(&[("a", "2")]);
    let report = sync(&config);
    assert!(matches!(moved(&report, 0), Moved::From(old, new)
        if old.to_string() == first && new.to_string() == second));
}

#[test]
fn head_is_the_remotes_default_branch_wherever_it_goes() {
    let fixture = Fixture::new();
    let up = one(&fixture);
    let config = config(&fixture, "{repo: acme/base, url: UP/up}");
    sync(&config);
    up.git(&["checkout", "-q", "-b", "next"]);
    let next = up.commit(&[("b", "1")]);
    let report = sync(&config);
    assert!(matches!(moved(&report, 0), Moved::From(_, new) if new.to_string() == next));
    let mirror = fixture.at("cache/private/acme/base.git");
    assert_eq!(mirror.git(&["symbolic-ref", "HEAD"]), "refs/heads/next");
    up.git(&["branch", "-q", "-D", "main"]);
    assert!(matches!(moved(&sync(&config), 0), Moved::Unchanged(_)));
    up.git(&["checkout", "-q", "--detach"]);
    let detached = up.commit(&[("b", "2")]);
    let report = sync(&config);
    assert!(matches!(moved(&report, 0), Moved::From(_, new) if new.to_string() == detached));
}

#[test]
fn branches_tags_ids_and_full_names_are_fetched_and_nothing_else() {
    let fixture = Fixture::new();
    let up = one(&fixture);
    let old = up.commit(&[("a", "old")]);
    up.git(&["tag", "-a", "-m", "v1", "v1"]);
    let pull = up.commit(&[("a", "pull")]);
    up.git(&["update-ref", "refs/pull/7/head", &pull]);
    up.git(&["branch", "unwanted"]);
    let main = up.commit(&[("a", "main")]);
    let each = ["main", "v1", &old, "refs/pull/7/head", "origin/main"].map(|git_ref| {
        let name = git_ref.replace('/', "-");
        format!("{{repo: acme/base, url: UP/up, ref: {git_ref}, name: x/{name}}}")
    });
    let config = config(&fixture, &each.join(", "));
    let report = sync(&config);
    let found: Vec<String> = (0..5)
        .map(|index| match moved(&report, index) {
            Moved::Cloned(now) => now.to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(found, [&main, &old, &old, &pull, &main].map(String::as_str));
    let commit = format!("refs/overlayfs-mount/commits/{old}");
    let mirror = fixture.at("cache/private/acme/base.git");
    let wanted = [
        "refs/heads/main",
        &commit,
        "refs/pull/7/head",
        "refs/remotes/origin/main",
        "refs/tags/v1",
    ];
    assert_eq!(refs(&mirror), wanted);
    assert!(sync(&config).is_success());
}

#[test]
fn a_ref_that_is_deleted_keeps_its_last_commit_and_the_others_move() {
    let fixture = Fixture::new();
    let up = one(&fixture);
    up.git(&["branch", "team"]);
    let config = config(
        &fixture,
        "{repo: acme/base, url: UP/up, ref: main}, {repo: acme/base, url: UP/up, ref: team, name: acme/team}",
    );
    assert!(sync(&config).is_success());
    up.git(&["branch", "-D", "team"]);
    let main = up.commit(&[("a", "2")]);
    let report = sync(&config);
    assert!(matches!(moved(&report, 0), Moved::From(_, new) if new.to_string() == main));
    let missing = cause(&report, 1);
    assert!(matches!(&missing, FetchCause::NoSuchRef { available, .. } if available == &["main"]));
    assert!(missing.to_string().contains("ref `team` is not in `file://"), "{missing}");
    let mirror = fixture.at("cache/private/acme/base.git");
    assert!(refs(&mirror).contains(&"refs/heads/team".to_owned()));
    assert!(!is_ready(&config), "the ready file goes when a source fails");
    // A name that needs the room of the deleted one gets it.
    up.git(&["branch", "team/new"]);
    let config = self::config(&fixture, "{repo: acme/base, url: UP/up, ref: team/new}");
    assert!(matches!(moved(&sync(&config), 0), Moved::Added(_)));
}

#[test]
fn rewritten_history_is_followed() {
    let fixture = Fixture::new();
    let up = one(&fixture);
    let config = config(&fixture, "{repo: acme/base, url: UP/up}");
    sync(&config);
    up.git(&["checkout", "-q", "--orphan", "anew"]);
    let anew = up.commit(&[("b", "other")]);
    up.git(&["branch", "-q", "-f", "main", "anew"]);
    up.git(&["checkout", "-q", "main"]);
    let report = sync(&config);
    assert!(matches!(moved(&report, 0), Moved::From(_, new) if new.to_string() == anew));
}

#[test]
fn what_sync_did_not_make_is_left_alone() {
    let fixture = Fixture::new();
    one(&fixture);
    let config = config(&fixture, "{repo: acme/base, url: UP/up}");
    for place in ["private/acme/base", "private/acme/base.git", "acme/base"] {
        let foreign = fixture.with_files(&format!("cache/{place}"), &[("mine", "1")]);
        let before = foreign.git(&["rev-parse", "HEAD"]);
        let report = sync(&config);
        let Err(failed) = &report.sources[0].outcome else { panic!("{place}") };
        assert!(
            matches!(&failed.cause, FetchCause::Foreign { place: said } if said.ends_with(place))
        );
        assert!(failed.cure.contains("move `"), "{}", failed.cure);
        assert_eq!(foreign.git(&["rev-parse", "HEAD"]), before);
        fs::remove_dir_all(&foreign.path).unwrap();
    }
    let elsewhere = fixture.with_files("elsewhere", &[("mine", "1")]);
    fs::create_dir_all(fixture.path().join("cache/acme")).unwrap();
    symlink(&elsewhere.path, fixture.path().join("cache/acme/base")).unwrap();
    assert!(matches!(cause(&sync(&config), 0), FetchCause::Foreign { .. }));
}

#[test]
fn a_mirror_changes_the_part_of_the_cache_with_its_visibility() {
    let fixture = Fixture::new();
    one(&fixture);
    let public = config(&fixture, "{repo: acme/base, url: UP/up, visibility: public}");
    sync(&public);
    let private = config(&fixture, "{repo: acme/base, url: UP/up}");
    assert!(matches!(moved(&sync(&private), 0), Moved::Unchanged(_)));
    let cache = &private.repo_cache.path;
    assert!(!cache.join("public/acme/base.git").exists());
    assert!(cache.join("acme/base/HEAD").exists(), "the link follows");
}

#[test]
fn urls_are_checked_before_anybody_is_asked() {
    let fixture = Fixture::new();
    let config = config(
        &fixture,
        "{repo: a/a, url: 'http://x/y'}, {repo: b/b, url: UP/1}, {repo: b/b, url: UP/2, ref: x, name: b/c}",
    );
    let report = sync(&config);
    assert!(matches!(cause(&report, 0), FetchCause::Protocol { .. }));
    assert!(matches!(cause(&report, 1), FetchCause::TwoUrls { .. }));
    assert!(matches!(cause(&report, 2), FetchCause::TwoUrls { .. }));
}

#[test]
fn the_whole_history_comes_with_mount_git() {
    let fixture = Fixture::new();
    let up = one(&fixture);
    up.commit(&[("a", "2")]);
    let mut config = config(&fixture, "{repo: acme/base, url: UP/up}");
    sync(&config);
    config.mount.shows_git = true;
    assert!(sync(&config).is_success());
    let mirror = fixture.at("cache/private/acme/base.git");
    assert_eq!(mirror.git(&["rev-list", "--count", "HEAD"]), "2");
    config.mount.shows_git = false;
    up.commit(&[("a", "3")]);
    assert!(sync(&config).is_success());
    assert_eq!(mirror.git(&["rev-list", "--count", "HEAD"]), "3", "never shallow again");
}

#[test]
fn the_ready_file_says_what_the_platform_asks_for() {
    let fixture = Fixture::new();
    one(&fixture);
    let mut config = config(
        &fixture,
        "{repo: acme/base, url: UP/up, visibility: public}, {repo: acme/base, url: UP/up, ref: main, name: a/b}",
    );
    config.platform.repositories =
        vec![PlatformRepository { repo: "acme/base".to_owned(), git_ref: None, visibility: None }];
    let report = sync(&config);
    assert!(report.is_success(), "{report:?}");
    let text = fs::read_to_string(config.repo_cache.path.join(".repo-cache-ready")).unwrap();
    let (start, end) = text.split_once("synced_at=").unwrap();
    assert_eq!(
        start,
        "repositories=acme/base\nrepository_refs=acme/base=main\nrepository_visibilities=acme/base=private\n"
    );
    assert!(end.len() == 21 && end.ends_with("Z\n"), "{end:?}");
}

#[test]
fn a_repository_that_is_wanted_in_both_parts_stays_in_both() {
    let fixture = Fixture::new();
    one(&fixture);
    let sources = "{repo: acme/base, url: UP/up, visibility: public}, {repo: acme/base, url: UP/up, visibility: private, ref: main, name: a/b}";
    let config = config(&fixture, sources);
    // Neither takes the place of the other, in whatever order they are fetched.
    for parallel in [1, 4, 4, 4, 4, 4, 4, 4, 4] {
        let settings = RoundSettings { parallel, ..settings() };
        let report = round(&config, &settings, &|_| {}).unwrap();
        assert!(report.is_success(), "{report:?}");
        for part in ["public", "private"] {
            let mirror = fixture.at(&format!("cache/{part}/acme/base.git"));
            mirror.git(&["rev-parse", "--verify", "--quiet", "HEAD"]);
        }
        let link = fs::read_link(config.repo_cache.path.join("acme/base")).unwrap();
        assert_eq!(link, Path::new("../private/acme/base.git"), "the last one that is named");
        // Each source is served from its own, whatever the other one has.
        let served = build(&config, &Shared::new(&config)).unwrap();
        for (source, part) in served.sources.iter().zip(["public", "private"]) {
            let place = source.place.canonicalize().unwrap();
            assert!(place.ends_with(format!("{part}/acme/base.git")), "{part}: {place:?}");
        }
        if parallel == 4 {
            fs::remove_dir_all(&config.repo_cache.path).unwrap();
        }
    }
    // One that somebody removed is cloned anew.
    assert!(sync(&config).is_success());
    fs::remove_dir_all(config.repo_cache.path.join("public/acme/base.git")).unwrap();
    assert!(sync(&config).is_success());
}

#[test]
fn nothing_of_a_token_is_kept_or_said() {
    let fixture = Fixture::new();
    let seen = fixture.path().join("seen");
    let script = format!("{{ env; echo \"$@\"; }} >'{}'; exit 1", seen.display());
    let stub = stub(&fixture, "exit 1");
    let text =
        fs::read_to_string(&stub).unwrap().replace("exec git", &format!("{script}; exec git"));
    fs::write(&stub, text).unwrap();
    fs::write(fixture.path().join("token"), "s3cr3t").unwrap();
    let config = config(&fixture, "{repo: a/a, url: 'https://me:pass@git.example/a.git'}");
    let settings = RoundSettings { git: stub, ..settings() };
    let report = round(&config, &settings, &|_| {}).unwrap();
    assert!(!fs::read_to_string(seen).unwrap().contains("s3cr3t"));
    let said = format!("{report:?} {}", cause(&report, 0));
    assert!(!said.contains("s3cr3t") && !said.contains("pass"), "{said}");
}
