//! Rounds of which a part fails.

use super::*;

#[test]
fn a_remote_that_is_gone_changes_nothing_and_holds_up_nobody() {
    let fixture = Fixture::new();
    let up = one(&fixture);
    fixture.with_files("other", &[("a", "1")]);
    let config =
        config(&fixture, "{repo: acme/base, url: UP/up}, {repo: acme/other, url: UP/other}");
    sync(&config);
    fs::rename(&up.path, fixture.path().join("gone")).unwrap();
    let report = sync(&config);
    assert!(matches!(cause(&report, 0), FetchCause::NoRemote { .. }), "{:?}", cause(&report, 0));
    assert!(matches!(moved(&report, 1), Moved::Unchanged(_)));
    assert!(!is_ready(&config));
    fixture.at("cache/private/acme/base.git").git(&["cat-file", "-e", "HEAD^{tree}"]);
    fs::rename(fixture.path().join("gone"), &up.path).unwrap();
    assert!(sync(&config).is_success() && is_ready(&config));
}

#[test]
fn what_a_kill_left_is_cleaned() {
    let fixture = Fixture::new();
    let up = one(&fixture);
    let config = config(&fixture, "{repo: acme/base, url: UP/up}");
    let half = fixture.path().join("cache/private/acme/.base.git.cloning");
    fs::create_dir_all(half.join("objects")).unwrap();
    assert!(sync(&config).is_success());
    assert!(!half.exists());
    let mirror = fixture.at("cache/private/acme/base.git").path;
    let left = [
        "shallow.lock",
        "packed-refs.lock",
        "packed-refs.new",
        "refs/heads/main.lock",
        "HEAD.lock",
        "objects/info/commit-graphs/commit-graph-chain.lock",
        "objects/ab/tmp_obj_x",
        "objects/pack/multi-pack-index.lock",
        "objects/pack/tmp_pack_x",
        "objects/pack/.tmp-7-pack-x.pack",
    ];
    for name in left {
        fs::create_dir_all(mirror.join(name).parent().unwrap()).unwrap();
        fs::write(mirror.join(name), "").unwrap();
    }
    up.commit(&[("a", "2")]);
    assert!(matches!(moved(&sync(&config), 0), Moved::From(..)));
    for name in left {
        assert!(!mirror.join(name).exists(), "{name}");
    }
    fixture.at("cache/private/acme/base.git").git(&["pack-refs", "--all"]);
}

#[test]
fn a_fetch_that_takes_too_long_is_ended() {
    let fixture = Fixture::new();
    one(&fixture);
    let config = config(&fixture, "{repo: acme/base, url: UP/up}");
    let settings = RoundSettings {
        git: stub(&fixture, "sleep 300"),
        fetch_timeout: Duration::from_millis(300),
        ..settings()
    };
    let started = Instant::now();
    let report = round(&config, &settings, &|_| {}).unwrap();
    assert!(started.elapsed() < Duration::from_secs(30));
    assert!(matches!(cause(&report, 0), FetchCause::Late { .. }), "{report:?}");
    assert!(!fixture.path().join("cache/private/acme/.base.git.cloning").exists());
    // Nobody holds the lock any more.
    assert!(sync(&config).is_success());
}

#[test]
fn a_wish_to_stop_ends_the_round_and_leaves_the_ready_file() {
    let fixture = Fixture::new();
    let up = one(&fixture);
    let config = config(&fixture, "{repo: acme/base, url: UP/up}");
    sync(&config);
    up.commit(&[("a", "2")]);
    let settings = RoundSettings { git: stub(&fixture, "sleep 300"), ..settings() };
    let report = round(&config, &settings, &|step| {
        if matches!(step, RoundStep::Started { .. }) {
            settings.stop.set();
        }
    });
    assert!(matches!(cause(&report.unwrap(), 0), FetchCause::Stopped));
    assert!(is_ready(&config));
}

#[test]
fn two_who_sync_one_cache_take_turns_and_an_orphan_keeps_its_turn() {
    let fixture = Fixture::new();
    one(&fixture);
    let config = config(&fixture, "{repo: acme/base, url: UP/up}");
    fs::create_dir_all(&config.repo_cache.path).unwrap();
    let lock = config.repo_cache.path.join(".overlayfs-mount-sync.lock");
    let script = "exec 9<>\"$0\"; flock 9; echo 77 >&9; exec sleep 300 <&9 9<&-";
    let mut holder = Command::new("sh").args(["-c", script]).arg(&lock).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while fs::read_to_string(&lock).unwrap_or_default() != "77\n" {
        assert!(Instant::now() < deadline, "the lock was not taken");
        std::thread::yield_now();
    }
    let refused = round(&config, &settings(), &|_| {}).unwrap_err();
    assert!(matches!(refused, RoundError::Locked { .. }));
    assert!(refused.to_string().contains("process 77"), "{refused}");
    holder.kill().unwrap();
    holder.wait().unwrap();
    let patient = RoundSettings { lock_timeout: Duration::from_secs(60), ..settings() };
    std::thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| round(&config, &patient, &|_| {}).unwrap()));
        assert!(both.into_iter().all(|one| one.join().unwrap().is_success()));
    });
}

#[test]
fn a_source_that_fails_is_left_alone_for_a_while() {
    let fixture = Fixture::new();
    one(&fixture);
    let config = config(&fixture, "{repo: acme/base, url: UP/up}, {repo: acme/no, url: UP/no}");
    let asked = Mutex::new(Vec::new());
    let mut cycle = Cycle::default();
    let next = |cycle: &mut Cycle, config: &Config| {
        asked.lock().unwrap().clear();
        let watch = |step: RoundStep<'_>| {
            if let RoundStep::Started { label } = step {
                asked.lock().unwrap().push(label.to_owned());
            }
        };
        let report = cycle.round(&[config], &settings(), &watch).unwrap();
        assert_eq!(report.sources.len(), 2);
        assert!(!report.is_success(), "a failure counts until it is over");
        asked.lock().unwrap().len()
    };
    assert_eq!(next(&mut cycle, &config), 2);
    assert_eq!(next(&mut cycle, &config), 1);
    let corrected =
        self::config(&fixture, "{repo: acme/base, url: UP/up}, {repo: acme/no, url: UP/neither}");
    assert_eq!(next(&mut cycle, &corrected), 2, "what was corrected is tried at once");
    assert_eq!(next(&mut cycle, &corrected), 1);
    fs::write(fixture.path().join("token"), "new").unwrap();
    assert_eq!(next(&mut cycle, &corrected), 2, "and so is it with another token");
    assert_eq!(next(&mut cycle, &corrected), 1);
    cycle.leave_none_alone();
    assert_eq!(next(&mut cycle, &corrected), 2, "and when somebody waits for it");
    let pause = Cycle::default().pause(&config.repo_cache);
    assert!(pause >= Duration::from_secs(27) && pause <= Duration::from_secs(33), "{pause:?}");
}

/// A small file system of its own at a path, gone with the value.
struct Small(PathBuf);

impl Small {
    /// `None` where this user may not mount; in CI that is a failure.
    fn mount(at: &Path) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(at);
        if nix::unistd::geteuid().is_root() && mount.status().is_ok_and(|status| status.success()) {
            return Some(Self(at.to_owned()));
        }
        eprintln!("SKIPPED: a full disk needs root and `mount -t tmpfs`");
        None
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

#[test]
fn a_full_disk_leaves_the_last_good_state() {
    let fixture = Fixture::new();
    let up = one(&fixture);
    let config = config(&fixture, "{repo: acme/base, url: UP/up}");
    let Some(_small) = Small::mount(&config.repo_cache.path) else { return };
    assert!(sync(&config).is_success());
    let mirror = fixture.at("cache/private/acme/base.git");
    let before = mirror.git(&["rev-parse", "HEAD"]);
    // What no compression makes smaller.
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(4 << 20)
    .collect();
    fs::write(up.path.join("noise"), noise).unwrap();
    up.commit(&[("a", "2")]);
    let report = sync(&config);
    assert!(matches!(cause(&report, 0), FetchCause::DiskFull { .. }), "{report:?}");
    assert!(!is_ready(&config));
    assert_eq!(mirror.git(&["rev-parse", "HEAD"]), before);
    mirror.git(&["fsck", "--full"]);
    up.git(&["reset", "-q", "--hard", "HEAD~1"]);
    assert!(sync(&config).is_success() && is_ready(&config), "room was left to go on");
}

#[test]
fn a_ref_that_leads_to_no_commit_is_no_reason_to_clone_anew() {
    let fixture = Fixture::new();
    one(&fixture).git(&["tag", "tree", "HEAD^{tree}"]);
    let config = config(&fixture, "{repo: acme/base, url: UP/up, ref: tree}");
    let report = sync(&config);
    let Err(failed) = &report.sources[0].outcome else { panic!("a tree is no commit") };
    assert!(matches!(failed.cause, FetchCause::NotACommit { .. }), "{:?}", failed.cause);
    assert!(failed.cause.to_string().contains("is a tree, not a commit"), "{}", failed.cause);
    assert!(failed.cure.starts_with("set `ref` (overlays.yaml:1)"), "{}", failed.cure);
}

#[test]
fn a_commit_that_a_server_of_old_gives_to_nobody_costs_only_its_source() {
    let fixture = Fixture::new();
    let up = one(&fixture);
    let old = up.git(&["rev-parse", "HEAD"]);
    up.commit(&[("a", "2")]);
    // By the first version of git's protocol only what refs lead to can be had.
    let git = fixture.path().join("old-git");
    write_program(&git, "#!/bin/sh\nexec git -c protocol.version=0 \"$@\"\n");
    let sources = format!(
        "{{repo: acme/base, url: UP/up, ref: main}}, {{repo: acme/base, url: UP/up, ref: {old}, name: a/b}}"
    );
    let config = config(&fixture, &sources);
    for round_is in ["the clone", "the next round"] {
        let report = round(&config, &RoundSettings { git: git.clone(), ..settings() }, &|_| {});
        let report = report.unwrap();
        assert!(report.sources[0].outcome.is_ok(), "{round_is}: {report:?}");
        assert!(matches!(cause(&report, 1), FetchCause::NoSuchRef { .. }), "{round_is}");
    }
}

#[test]
fn a_malformed_commit_that_is_wanted_by_its_id_costs_only_its_source() {
    let fixture = Fixture::new();
    let up = one(&fixture);
    let blob = up.blob(b"x");
    let tree = up.tree(&[("100644", b".git", &blob)]);
    let malformed = up.git(&["commit-tree", "-m", "malformed", &tree]);
    let sources = format!(
        "{{repo: acme/base, url: UP/up, ref: {malformed}, name: a/b}}, {{repo: acme/base, url: UP/up, ref: main}}"
    );
    let config = config(&fixture, &sources);
    for round_is in ["the clone", "the next round"] {
        let report = sync(&config);
        assert!(matches!(cause(&report, 0), FetchCause::Malformed { .. }), "{round_is}");
        assert!(report.sources[1].outcome.is_ok(), "{round_is}: {report:?}");
    }
}

#[test]
fn what_a_fetch_takes_from_a_ref_is_not_removed_by_the_same_round() {
    let fixture = Fixture::new();
    let up = one(&fixture);
    let config = config(&fixture, "{repo: acme/base, url: UP/up, ref: main}");
    assert!(sync(&config).is_success());
    let before = up.git(&["rev-parse", "main"]);
    let mirror = fixture.at("cache/private/acme/base.git");
    // Enough packs to be packed into one, and all of it old.
    for number in 0..42 {
        let blob = mirror.blob(format!("{number}").as_bytes());
        mirror
            .git_with(&["pack-objects", "-q", "objects/pack/pack"], format!("{blob}\n").as_bytes());
    }
    let old = ["objects", "-type", "f", "-exec", "touch", "-d", "1 month ago", "{}", "+"];
    assert!(Command::new("find").args(old).current_dir(&mirror.path).status().unwrap().success());
    up.git(&["checkout", "-q", "--orphan", "anew"]);
    fs::write(up.path.join("tools/x/pyproject.toml"), "other").unwrap();
    let anew = up.commit(&[("b", "other")]);
    up.git(&["branch", "-q", "-f", "main", "anew"]);
    let report = sync(&config);
    assert!(matches!(moved(&report, 0), Moved::From(_, new) if new.to_string() == anew));
    // Who shows it has a moment to learn of the new one.
    assert_eq!(mirror.git(&["cat-file", "-p", &format!("{before}:tools/x/pyproject.toml")]), "1");
    let packs = || fs::read_dir(mirror.path.join("objects/pack")).unwrap().count();
    assert!(sync(&config).is_success());
    assert!(packs() < 42, "{} files of packs", packs());
}
