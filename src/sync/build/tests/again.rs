//! What a later look at the sources finds.

use super::*;

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
