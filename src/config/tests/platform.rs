//! `toolServer` and the platform's values.

use std::path::Path;
use std::time::Duration;

use crate::config::fixture::{config, own, summary, values};
use crate::config::resolved::{Origin, PlatformRepository, PlatformValues};
use crate::union::source::Visibility;

#[test]
fn a_tool_server_counts_only_without_entries() {
    let server = "toolServer:\n  repo: a/base\n  ref: v1\n  subdir: ''\n  visibility: public\n  \
                  extraSources:\n    - {repo: a/x, subdir: t, workflowsSubdir: '', skillsSubdir: s}\n    \
                  - {repo: ''}\n";
    assert_eq!(
        summary(&config(server).sources),
        [
            "a/base@v1 public: tools workflows .agents/skills - -",
            "a/x@HEAD private: t workflows s - -",
        ]
    );
    let with_entries = format!("{server}overlays: {{sources: [{{repo: ''}}]}}\n");
    assert!(config(&with_entries).sources.is_empty());
    for off in ["{enabled: false, repo: a/b}", "{ref: x}", "{repo: ''}", "{repo: null}", ""] {
        assert!(config(&format!("toolServer: {off}\n")).sources.is_empty(), "{off}");
    }
}

#[test]
fn problems_of_a_tool_server_name_its_own_keys() {
    let text =
        "toolServer:\n  repo: a/b\n  subdir: /x\n  extraSources:\n    - {repo: c/d, subdir: ..}\n";
    let error = own(text).unwrap_err();
    let keys: Vec<_> = error.problems.iter().map(|p| (p.line, p.key.to_string())).collect();
    assert_eq!(
        keys,
        [
            (Some(3), "toolServer.subdir".to_owned()),
            (Some(5), "toolServer.extraSources[0].subdir".to_owned()),
        ]
    );
}

#[test]
fn values_have_the_defaults_of_the_chart() {
    for text in ["", "toolServer: {}", "toolServer: {subdir: ''}", "other: [1, {a: b}]"] {
        let config = values(text).unwrap().config;
        assert_eq!(
            summary(&config.sources),
            ["paradigmxyz/centaur@HEAD private: tools workflows .agents/skills - -"],
            "{text}"
        );
        assert_eq!(config.platform, PlatformValues::default());
        assert_eq!(config.origin, Origin::Values("/w/values.yaml".into()));
    }
    for text in ["toolServer: {repo: ''}", "toolServer: {enabled: false}"] {
        assert!(values(text).unwrap().config.sources.is_empty(), "{text}");
    }
}

#[test]
fn values_keep_what_the_platform_needs() {
    let text = "
repoCache:
  enabled: false
  hostPath: /data/repos
  autoReload: false
  syncIntervalSeconds: 7
  image: {tag: x}
  repositories:
    - a/b
    - {repo: c/d, ref: 1.10, visibility: Public, other: 1}
    - ''
  repositoryRefs: {a/b: 0012, c/d: ''}
apiRs:
  replicas: 2
  extraEnv: {A: x, N: 1.10, E: '', L: [1]}
";
    let config = values(text).unwrap().config;
    assert_eq!(config.repo_cache.path, Path::new("/data/repos"));
    assert_eq!(config.repo_cache.interval, Duration::from_secs(7));
    let row = |repo: &str, git_ref: Option<&str>, visibility| PlatformRepository {
        repo: repo.to_owned(),
        git_ref: git_ref.map(str::to_owned),
        visibility,
    };
    let pairs = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    };
    assert_eq!(
        config.platform,
        PlatformValues {
            has_repo_cache: false,
            reloads_tools: false,
            sync_interval_secs: 7,
            repositories: vec![
                row("a/b", None, None),
                row("c/d", Some("1.10"), Some(Visibility::Public))
            ],
            repository_refs: pairs(&[("a/b", "0012")]),
            extra_env: pairs(&[("A", "x"), ("E", ""), ("N", "1.10")]),
        }
    );
    let list =
        values("apiRs: {extraEnv: [{name: A, value: x}, {name: B, valueFrom: {}}]}").unwrap();
    assert_eq!(list.config.platform.extra_env, pairs(&[("A", "x")]));
}

#[test]
fn values_name_a_pause_between_two_rounds() {
    let error = values("repoCache: {syncIntervalSeconds: 0}").unwrap_err();
    assert!(error.to_string().contains("repoCache.syncIntervalSeconds"), "{error}");
    // A tenth is added at times.
    let long = values("repoCache: {syncIntervalSeconds: 18446744073709551615}").unwrap();
    assert!(long.config.repo_cache.interval > Duration::from_secs(3_000_000_000));
    assert!(long.config.repo_cache.interval.checked_mul(2).is_some());
}

#[test]
fn values_ignore_unknown_keys_and_warn_of_slips() {
    let loaded =
        values("overlay: 1\noverlays:\n  sources:\n    - {repo: a/b, toolSubdir: x, zzz: 1}\n");
    let loaded = loaded.unwrap();
    let said: Vec<_> = loaded.warnings.iter().map(|p| (p.line, p.key.to_string())).collect();
    assert_eq!(said, [(Some(4), "overlays.sources[0].toolSubdir".to_owned())]);
}
