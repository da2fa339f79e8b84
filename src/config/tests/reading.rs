//! What a configuration that can be used comes to mean.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::check_mountpoint;
use crate::config::fixture::{config, own, summary, warnings};
use crate::config::resolved::{
    Access, AllowOther, Config, Links, Location, Mode, Origin, Pin, PlatformValues,
};
use crate::config::surfaces::built_in;
use crate::union::name::RelPath;
use crate::union::source::Visibility;
use crate::union::surface::{EntryRule, Presence, Surface};

const EXAMPLE: &str = include_str!("../../../packaging/examples/overlays.yaml");

fn surface<'c>(config: &'c Config, name: &str) -> &'c Surface {
    config.surfaces.iter().find(|row| row.name == name).unwrap()
}

#[test]
fn the_example_is_accepted_whole() {
    let loaded = own(EXAMPLE).unwrap();
    assert_eq!(warnings(&loaded), Vec::<String>::new());
    let config = loaded.config;
    assert_eq!(config.origin, Origin::File("/w/overlays.yaml".into()));
    assert_eq!(
        summary(&config.sources),
        [
            "paradigmxyz/centaur@main public: tools workflows .agents/skills - - .claude/skills",
            "your-org/centaur-overlay@v1.4.0 private: - workflows skills personas \
             services/sandbox/SYSTEM_PROMPT.md .claude/skills",
            "me/my-overlay@HEAD private: tools workflows .agents/skills - - .claude/skills",
        ]
    );
    assert_eq!(config.sources[2].location, Location::Path("/w/../my-overlay".into()));
    assert_eq!(config.sources[2].mode, Mode::Live);
    assert_eq!(config.sources[0].mode, Mode::Git);
    assert_eq!(
        config.sources.iter().map(|source| source.line).collect::<Vec<_>>(),
        [Some(9), Some(13), Some(24)]
    );
    assert_eq!(surface(&config, "claude").at.to_string(), ".claude/skills");
}

#[test]
fn line_ends_and_json_make_no_difference() {
    let unix = config(EXAMPLE);
    assert_eq!(config(&EXAMPLE.replace('\n', "\r\n")), unix);
    let json = r#"{"overlays": {"sources": [{"repo": "a/b", "ref": "x", "lfs": true}]}}"#;
    assert!(config(json).sources[0].serves_lfs);
}

#[test]
fn an_empty_file_has_every_default() {
    for text in ["", "# nothing\n", "---\n", "{}", "null", "\u{feff}", "overlays:\nmount:\n"] {
        let loaded = own(text).unwrap();
        let whats: Vec<_> = loaded.warnings.iter().map(|warning| warning.what.as_str()).collect();
        assert_eq!(whats, ["there are no sources: the view is empty"], "{text}");
        let config = loaded.config;
        assert_eq!(config.surfaces, built_in());
        assert!(config.sources.is_empty());
        assert_eq!(config.access, Access::All);
        assert_eq!(config.repo_cache.path, Path::new("/var/lib/centaur/repos"));
        assert!(!config.repo_cache.is_synced);
        assert_eq!(config.repo_cache.interval, Duration::from_secs(30));
        assert_eq!(config.repo_cache.token_file, Path::new("/github-token/token"));
        assert_eq!(config.state.dir, Path::new("/home/u/.local/state/overlayfs-mount"));
        assert_eq!(config.state.cache_bytes, 2 << 30);
        let mount = &config.mount;
        assert_eq!(mount.at, Path::new("/home/agent/github"));
        assert!(mount.shows_sources && !mount.shows_git && !mount.has_xattrs);
        assert_eq!((mount.links, mount.allow_other), (Links::All, AllowOther::Auto));
        assert_eq!((mount.uid, mount.gid), (None, None));
        assert_eq!(mount.stop_timeout, Duration::from_secs(10));
        assert_eq!(mount.keep, Duration::from_secs(86_400));
        assert_eq!(config.platform, PlatformValues::default());
    }
}

#[test]
fn the_built_in_surfaces_are_those_of_the_platform() {
    let rows: Vec<_> = built_in()
        .into_iter()
        .map(|row| {
            let subdir = row.subdir.map(|path| path.to_string());
            (row.name, row.at.to_string(), subdir, row.presence, row.never_shown.len())
        })
        .collect();
    let row = |name: &str, at: &str, subdir: Option<&str>, presence, never_shown| {
        (name.to_owned(), at.to_owned(), subdir.map(str::to_owned), presence, never_shown)
    };
    assert_eq!(
        rows,
        [
            row("tools", "tools", Some("tools"), Presence::Always, 1),
            row("workflows", "workflows", Some("workflows"), Presence::Always, 0),
            row("skills", ".agents/skills", Some(".agents/skills"), Presence::Always, 0),
            row("personas", "personas", None, Presence::IfConfigured, 0),
            row("prompts", "prompts", None, Presence::IfNotEmpty, 0),
        ]
    );
}

#[test]
fn refs_are_taken_as_written() {
    for (written, expected) in [
        ("1.10", Some("1.10")),
        ("0012", Some("0012")),
        ("1e3", Some("1e3")),
        ("true", Some("true")),
        ("0x1F", Some("0x1F")),
        ("'null'", Some("null")),
        ("!!str 1.0", Some("1.0")),
        ("2024-01-01", Some("2024-01-01")),
        ("null", None),
        ("", None),
        ("~", None),
        ("''", None),
    ] {
        let text = format!("overlays: {{sources: [{{repo: a/b, ref: {written}}}]}}");
        assert_eq!(config(&text).sources[0].git_ref.as_deref(), expected, "{written}");
    }
}

#[test]
fn sub_directories_tell_absent_from_off() {
    for (written, expected) in [
        ("{repo: a/b}", "tools"),
        ("{repo: a/b, toolsSubdir: ''}", "-"),
        ("{repo: a/b, toolsSubdir: null}", "-"),
        ("{repo: a/b, toolsSubdir: }", "-"),
        ("{repo: a/b, toolsSubdir: 'null'}", "null"),
        ("{repo: a/b, toolsSubdir: 12}", "12"),
        ("{repo: a/b, toolsSubdir: ./a/./b//}", "a/b"),
        ("{repo: a/b, toolsSubdir: .}", "."),
        ("{repo: a/b, subdirs: {tools: x}}", "x"),
        ("{repo: a/b, subdirs: {tools: ''}}", "-"),
        ("{repo: a/b, subdirs: {tools: null}}", "-"),
    ] {
        let sources = config(&format!("overlays: {{sources: [{written}]}}")).sources;
        let shown = format!("a/b@HEAD private: {expected} workflows .agents/skills - -");
        assert_eq!(summary(&sources), [shown], "{written}");
    }
}

#[test]
fn only_public_is_public() {
    for (written, expected) in [
        ("public", Visibility::Public),
        ("' Public\t'", Visibility::Public),
        ("PUBLIC", Visibility::Public),
        ("publik", Visibility::Private),
        ("private", Visibility::Private),
        ("''", Visibility::Private),
        ("null", Visibility::Private),
        ("1", Visibility::Private),
    ] {
        let text = format!("overlays: {{sources: [{{repo: a/b, visibility: {written}}}]}}");
        assert_eq!(config(&text).sources[0].visibility, expected, "{written}");
    }
}

#[test]
fn entries_without_origin_are_dropped_with_a_warning() {
    let loaded = own("overlays:\n  sources:\n    - repo: ''\n    - repo: a/b\n").unwrap();
    assert_eq!(
        warnings(&loaded),
        [
            "warning: overlays.yaml:3: `overlays.sources[0]`: has neither `repo` nor `path`, and is dropped\n  \
          cure: set `repo: owner/repo` or `path: DIRECTORY`, or remove the entry"
        ]
    );
    assert_eq!(summary(&loaded.config.sources).len(), 1);
}

#[test]
fn one_repository_may_be_listed_at_two_refs() {
    let text = "overlays: {sources: [{repo: a/b, ref: x}, {repo: a/b, ref: y}]}";
    assert_eq!(config(text).sources.len(), 2);
}

#[test]
fn modes_are_those_of_the_location_unless_given() {
    for (written, expected) in [
        ("{repo: a/b}", Mode::Git),
        ("{repo: a/b, mode: worktree}", Mode::Live),
        ("{path: x}", Mode::Live),
        ("{path: x, mode: worktree}", Mode::Live),
        ("{path: x, mode: git, ref: main, lfs: true}", Mode::Git),
    ] {
        let sources = config(&format!("overlays: {{sources: [{written}]}}")).sources;
        assert_eq!(sources[0].mode, expected, "{written}");
    }
    let text = "overlays: {sources: [{repo: a/b, required: no, lfs: on, pin: copy}]}";
    let source = &config(text).sources[0];
    assert!(!source.is_required && source.serves_lfs);
    assert_eq!(source.pin, Pin::Copy);
}

#[test]
fn directories_name_themselves() {
    for (path, name, location) in [
        ("../my", "local/my", "/w/../my"),
        (".", "local/w", "/w"),
        ("/srv/x/", "local/x", "/srv/x"),
        ("./a//./b", "local/b", "/w/a/b"),
        ("a/..", "local/w", "/w/a/.."),
    ] {
        let text = format!("overlays: {{sources: [{{path: {path}}}]}}");
        let source = &config(&text).sources[0];
        assert_eq!(source.name.to_string(), name);
        assert_eq!(source.location, Location::Path(PathBuf::from(location)));
    }
}

#[test]
fn reserved_owners_are_free_where_sources_are_not_shown() {
    let text = "mount: {sources: false}\noverlays: {sources: [{repo: tools/x}, {repo: public/x}]}";
    assert_eq!(config(text).sources.len(), 2);
    let moved = "surfaces: {tools: {at: t}}\noverlays: {sources: [{repo: tools/x}]}";
    assert_eq!(config(moved).sources.len(), 1);
}

#[test]
fn known_surfaces_change_only_in_what_is_given() {
    let text = "surfaces:\n  tools: {depth: 1}\n  skills: {at: s, entries: packages}\n  \
                personas: {subdir: p}\n  prompts: {entries: children}\n";
    let config = config(text);
    let tools = surface(&config, "tools");
    let EntryRule::Packages { marker, depth } = &tools.rule else { panic!("{tools:?}") };
    assert_eq!((marker.as_bytes(), *depth), (&b"pyproject.toml"[..], 1));
    assert_eq!(tools.at, RelPath::parse("tools").unwrap());
    let skills = surface(&config, "skills");
    assert_eq!(skills.subdir, Some(RelPath::parse(".agents/skills").unwrap()));
    assert!(matches!(skills.rule, EntryRule::Packages { depth: 2, .. }));
    assert_eq!(surface(&config, "personas").subdir, Some(RelPath::parse("p").unwrap()));
    assert_eq!(surface(&config, "prompts").presence, Presence::IfConfigured);
}

#[test]
fn new_surfaces_take_their_place_as_sub_directory() {
    let text = "surfaces:\n  a: {at: x/a}\n  b: {at: b, subdir: ''}\n  \
                c: {at: c, entries: prompts}\n";
    let config = config(text);
    let subdir = |name| surface(&config, name).subdir.as_ref().map(ToString::to_string);
    assert_eq!(subdir("a").as_deref(), Some("x/a"));
    assert_eq!(subdir("b"), None);
    assert_eq!(surface(&config, "a").presence, Presence::Always);
    assert_eq!(surface(&config, "c").presence, Presence::IfNotEmpty);
}

#[test]
fn anchors_and_merge_keys_are_resolved() {
    let text = "
overlays:
  sources:
    - &base {repo: a/b, ref: x, visibility: public}
    - {<<: *base, ref: y}
    - *base
";
    assert_eq!(
        summary(&config(text).sources),
        [
            "a/b@x public: tools workflows .agents/skills - -",
            "a/b@y public: tools workflows .agents/skills - -",
            "a/b@x public: tools workflows .agents/skills - -",
        ]
    );
}

/// As `helm template` 4.1.4 shows them, which reads with sigs.k8s.io/yaml 1.6.
#[test]
fn s151_merge_keys_are_read_as_helm_reads_them() {
    let text = "
overlays:
  sources:
    - &base {repo: a/b, ref: x, visibility: public}
    - &more {repo: c/d, ref: z}
    - {<<: *base, ref: own}
    - {ref: own, <<: *base}
    - {<<: [*more, *base]}
    - {<<: *base, <<: *more}
    - {<<: {<<: *base, ref: inner}}
    - {repo: own/own, <<: {ref: inner}}
";
    let loaded = own(text).unwrap();
    let read = |spec: &crate::config::resolved::SourceSpec| {
        let git_ref = spec.git_ref.as_deref().unwrap_or_default();
        format!("{}@{git_ref} {}", spec.name, spec.visibility)
    };
    let sources: Vec<_> = loaded.config.sources.iter().skip(2).map(read).collect();
    assert_eq!(
        sources,
        [
            "a/b@own public",
            "a/b@x public",
            "c/d@z public",
            "c/d@z public",
            "a/b@inner public",
            "own/own@inner private",
        ]
    );
    assert_eq!(
        warnings(&loaded),
        [
            "warning: overlays.yaml:7: `<<` takes the place of key `ref` on line 7, which stands before it\n  cure: put `<<` first, and what overrides it after it"
        ]
    );
}

#[test]
fn tags_are_ignored_with_a_warning() {
    let loaded = own("access: !secret public\nmount: {uid: !!int 5}\n").unwrap();
    assert_eq!(loaded.config.access, Access::Public);
    assert_eq!(loaded.config.mount.uid, Some(5));
    assert_eq!(
        warnings(&loaded)[0],
        "warning: overlays.yaml:1: tag `!secret` is ignored\n  cure: remove the tag"
    );
}

#[test]
fn mount_points_are_judged_by_name() {
    let config = config(
        "overlays: {sources: [{path: /s/dir}]}\nrepoCache: {path: /c}\nstate: {dir: /st/a}\n",
    );
    for (at, problems) in [
        ("/elsewhere", 0),
        ("/s/dir", 1),
        ("/s/dir/below", 1),
        ("/s", 1),
        ("/s/directory", 0),
        ("/x/../c/y", 1),
        ("/st", 1),
        ("/", 3),
    ] {
        assert_eq!(check_mountpoint(&config, Path::new(at)).len(), problems, "{at}");
    }
}

#[test]
fn settings_are_read() {
    let text = "
access: public
repoCache: {path: repos, sync: true, interval: 1m, tokenFile: t}
state: {dir: s, cacheBytes: 1024, objectBytes: 64MiB}
mount: {at: m, sources: false, git: true, xattrs: true, links: inside, allowOther: true, uid: 0, gid: 5, stopTimeout: 0, keep: 1d}
";
    let config = config(text);
    assert_eq!(config.access, Access::Public);
    assert_eq!(config.repo_cache.path, Path::new("/w/repos"));
    assert_eq!(config.repo_cache.token_file, Path::new("/w/t"));
    assert!(config.repo_cache.is_synced);
    assert_eq!(config.repo_cache.interval, Duration::from_secs(60));
    assert_eq!((config.state.dir.as_path(), config.state.cache_bytes), (Path::new("/w/s"), 1024));
    assert_eq!(config.state.object_bytes, 64 << 20);
    let mount = &config.mount;
    assert_eq!(mount.at, Path::new("/w/m"));
    assert!(!mount.shows_sources && mount.shows_git && mount.has_xattrs);
    assert_eq!((mount.links, mount.allow_other), (Links::Inside, AllowOther::Yes));
    assert_eq!((mount.uid, mount.gid), (Some(0), Some(5)));
    assert_eq!((mount.stop_timeout, mount.keep), (Duration::ZERO, Duration::from_secs(86_400)));
}
