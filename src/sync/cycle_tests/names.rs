//! Names of refs that mean another thing than they did.

use super::*;

/// What a view shows of the first source.
fn served(config: &Config) -> String {
    let snapshot = build(config, &Shared::new(config)).unwrap();
    snapshot.sources[0].git.as_ref().unwrap().commit().to_string()
}

#[test]
fn s69_a_branch_that_became_a_tag_is_followed() {
    let fixture = Fixture::new();
    let up = one(&fixture);
    up.git(&["branch", "v1"]);
    let config = config(&fixture, "{repo: acme/base, url: UP/up, ref: v1}");
    assert!(sync(&config).is_success());
    let tagged = up.commit(&[("a", "2")]);
    up.git(&["branch", "-q", "-D", "v1"]);
    up.git(&["tag", "-a", "-m", "v1", "v1"]);
    let report = sync(&config);
    assert!(matches!(moved(&report, 0), Moved::From(_, new) if new.to_string() == tagged));
    assert_eq!(served(&config), tagged);
    let last = up.commit(&[("a", "3")]);
    up.git(&["tag", "-f", "v1"]);
    assert!(matches!(moved(&sync(&config), 0), Moved::From(_, new) if new.to_string() == last));
}

#[test]
fn s69_a_branch_that_was_wanted_as_that_of_the_remote_is_followed_by_its_own_name() {
    let fixture = Fixture::new();
    let up = one(&fixture);
    let with_ref = |git_ref: &str| {
        config(&fixture, &format!("{{repo: acme/base, url: UP/up, ref: {git_ref}}}"))
    };
    for (git_ref, content) in
        [("origin/main", "2"), ("main", "3"), ("origin/main", "4"), ("main", "5")]
    {
        let config = with_ref(git_ref);
        let new = up.commit(&[("a", content)]);
        assert!(sync(&config).is_success());
        assert_eq!(served(&config), new, "{git_ref} {content}");
    }
}

#[test]
fn s69_a_branch_that_is_gone_stays_where_another_source_names_it_in_full() {
    let fixture = Fixture::new();
    let up = one(&fixture);
    up.git(&["branch", "v1"]);
    let sources = "{repo: acme/base, url: UP/up, ref: v1}, {repo: acme/base, url: UP/up, ref: refs/heads/v1, name: a/b}";
    let config = config(&fixture, sources);
    assert!(sync(&config).is_success());
    up.git(&["branch", "-q", "-D", "v1"]);
    up.git(&["tag", "v1"]);
    let report = sync(&config);
    assert!(matches!(cause(&report, 1), FetchCause::NoSuchRef { .. }));
    assert!(refs(&fixture.at("cache/private/acme/base.git")).contains(&"refs/heads/v1".to_owned()));
}
