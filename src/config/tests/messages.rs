//! What users read when a configuration breaks a rule: the whole text, so that a change of it is seen.

use crate::config::fixture::{config, own, refusal, warnings};

#[test]
fn every_step_reports_in_one_run() {
    let text = concat!(
        "mont: {}\n",
        "overlays:\n",
        "  sources:\n",
        "    - repo: a/b\n",
        "      toolSubdir: x\n",
        "      skillsSubdir: /abs\n",
        "    - text\n",
        "    - {path: ./x, mode: gti, ref: main}\n",
        "    - {repo: c/d, ref: a~1}\n",
        "access: all\n",
        "access: all\n",
    );
    insta::assert_snapshot!(refusal(text), @r#"
    error: overlays.yaml:1: `mont`: unknown key
      cure: did you mean `mount`? known keys: `access`, `mount`, `overlays`, `repoCache`, `state`, `surfaces`, `toolServer`
    error: overlays.yaml:5: `overlays.sources[0].toolSubdir`: unknown key
      cure: did you mean `toolsSubdir`? known keys: `lfs`, `mode`, `name`, `path`, `personasSubdir`, `pin`, `promptPath`, `ref`, `repo`, `required`, `skillsSubdir`, `subdirs`, `toolsSubdir`, `url`, `visibility`, `workflowsSubdir`
    error: overlays.yaml:6: `overlays.sources[0].skillsSubdir`: `/abs` is absolute
      cure: write a relative path without empty and `..` components, as `shared/tools`
    error: overlays.yaml:7: `overlays.sources[1]`: `text` is not allowed
      cure: write a mapping
    error: overlays.yaml:8: `overlays.sources[2].mode`: `gti` is not allowed
      cure: did you mean `git`? write one of: `git`, `worktree`
    error: overlays.yaml:9: `overlays.sources[3].ref`: `a~1` is a revision expression or a pattern: it holds `~`
      cure: write a branch, a tag, a full ref name or a full commit id
    error: overlays.yaml:11: key `access` is given twice, first on line 10
      cure: remove one of the two
    "#);
}

#[test]
fn a_row_without_a_value_is_no_row() {
    let rows = |text: &str| config(text).surfaces;
    assert_eq!(rows("surfaces: {tools: null, new: ~, other:}"), rows("surfaces: {}"));
    assert_eq!(rows("surfaces: {tools: {}}"), rows(""));
}

#[test]
fn a_wrong_value_hides_no_error_of_another_one_beside_it() {
    let text = concat!(
        "mount: {keep: -1s, uid: -1}\n",
        "repoCache: {interval: 0s, sync: 2}\n",
        "overlays: {sources: [{repo: a, lfs: x, toolsSubdir: /abs, ref: a~1}]}\n",
    );
    let said = refusal(text);
    for key in [
        "mount.keep",
        "mount.uid",
        "repoCache.interval",
        "repoCache.sync",
        "overlays.sources[0].repo",
        "overlays.sources[0].lfs",
    ] {
        assert!(said.contains(&format!("`{key}`: ")), "{key}: {said}");
    }
    let said = refusal(text.replace("repo: a,", "repo: a/b,"));
    for key in ["toolsSubdir", "ref"] {
        assert!(said.contains(&format!("`overlays.sources[0].{key}`: ")), "{key}: {said}");
    }
}

#[test]
fn sub_directories_stay_inside_whatever_access_says() {
    let text = concat!(
        "access: none\n",
        "overlays:\n",
        "  sources:\n",
        "    - repo: a/b\n",
        "      toolsSubdir: /tools\n",
        "      workflowsSubdir: a//b\n",
        "      skillsSubdir: a/../b\n",
        "      personasSubdir: \"a\\0b\"\n",
        "      promptPath: ..\n",
    );
    insta::assert_snapshot!(refusal(text), @r#"
    error: overlays.yaml:5: `overlays.sources[0].toolsSubdir`: `/tools` is absolute
      cure: write a relative path without empty and `..` components, as `shared/tools`
    error: overlays.yaml:6: `overlays.sources[0].workflowsSubdir`: `a//b` has an empty component
      cure: write a relative path without empty and `..` components, as `shared/tools`
    error: overlays.yaml:7: `overlays.sources[0].skillsSubdir`: `a/../b` has a `.` or `..` component
      cure: write a relative path without empty and `..` components, as `shared/tools`
    error: overlays.yaml:8: `overlays.sources[0].personasSubdir`: `a\x00b` holds a NUL byte
      cure: write a relative path without empty and `..` components, as `shared/tools`
    error: overlays.yaml:9: `overlays.sources[0].promptPath`: `..` has a `.` or `..` component
      cure: write a relative path without empty and `..` components, as `shared/tools`
    "#);
}

#[test]
fn names_have_two_components() {
    let text = concat!(
        "overlays:\n",
        "  sources:\n",
        "    - repo: centaur\n",
        "    - repo: https://github.com/a/b\n",
        "    - {repo: a/b, name: a}\n",
        "    - {repo: a/b, name: a/b/c}\n",
        "    - {repo: a/b, name: a/..}\n",
        "    - {path: /}\n",
    );
    insta::assert_snapshot!(refusal(text), @r#"
    error: overlays.yaml:3: `overlays.sources[0].repo`: `centaur` has not exactly two components
      cure: write `owner/repo`; where to clone from is `url`
    error: overlays.yaml:4: `overlays.sources[1].repo`: `https://github.com/a/b` has not exactly two components
      cure: write `owner/repo`; where to clone from is `url`
    error: overlays.yaml:5: `overlays.sources[2].name`: `a` has not exactly two components
      cure: write two components, as `name: team/overlay`
    error: overlays.yaml:6: `overlays.sources[3].name`: `a/b/c` has not exactly two components
      cure: write two components, as `name: team/overlay`
    error: overlays.yaml:7: `overlays.sources[4].name`: `a/..` has a `.` or `..` component
      cure: write two components, as `name: team/overlay`
    error: overlays.yaml:8: `overlays.sources[5].path`: has no directory name
      cure: add a name, as `name: local/root`
    "#);
}

#[test]
fn an_entry_is_a_repository_or_a_directory() {
    let text = concat!(
        "overlays:\n",
        "  sources:\n",
        "    - {repo: a/b, path: ./x}\n",
        "    - {path: ./x, url: \"https://git.example/x\"}\n",
        "    - {path: ./x, ref: main}\n",
        "    - {repo: a/b, mode: worktree, ref: main}\n",
        "    - {path: ./x, lfs: true, pin: copy}\n",
    );
    insta::assert_snapshot!(refusal(text), @r#"
    error: overlays.yaml:3: `overlays.sources[0]`: has both `repo` and `path`
      cure: keep `repo` for a repository of the cache, `path` for a directory; where to clone from is `url`
    error: overlays.yaml:4: `overlays.sources[1].url`: counts only with `repo`
      cure: remove `url`; a repository that is cloned is listed by `repo`
    error: overlays.yaml:5: `overlays.sources[2].ref`: counts for nothing in a live source
      cure: set `mode: git` to serve commits, or remove `ref`
    error: overlays.yaml:6: `overlays.sources[3].ref`: counts for nothing in a live source
      cure: set `mode: git` to serve commits, or remove `ref`
    error: overlays.yaml:7: `overlays.sources[4].lfs`: counts for nothing in a live source
      cure: set `mode: git` to serve commits, or remove `lfs`
    error: overlays.yaml:7: `overlays.sources[4].pin`: counts for nothing in a live source
      cure: set `mode: git` to serve commits, or remove `pin`
    "#);
}

#[test]
fn a_url_that_cannot_be_cloned_from_is_told() {
    let text = concat!(
        "overlays:\n",
        "  sources:\n",
        "    - {repo: a/b, url: \"git://me:secret@git.example/a/b\"}\n",
        "    - {repo: a/c, url: \"https://git.example/a/c\"}\n",
    );
    let warnings = warnings(&own(text).unwrap()).join("\n");
    assert!(!warnings.contains("secret"), "{warnings}");
    insta::assert_snapshot!(warnings, @r"
    warning: overlays.yaml:3: `overlays.sources[0].url`: is no https, ssh or file URL: `sync` cannot clone from it
      cure: write it as `https://git.example/owner/repo.git`
    warning: overlays.yaml:3: `overlays.sources[0].url`: holds a password, which every process list shows
      cure: remove `user:password@` and set `repoCache.tokenFile`
    ");
}

#[test]
fn owners_never_clash_with_the_view() {
    let text = concat!(
        "overlays:\n",
        "  sources:\n",
        "    - repo: tools/x\n",
        "    - {path: ./a, name: .agents/a}\n",
        "    - {repo: a/b, name: .overlay/b}\n",
        "    - repo: public/x\n",
        "    - repo: private/x\n",
    );
    insta::assert_snapshot!(refusal(text), @r#"
    error: overlays.yaml:3: `overlays.sources[0].repo`: source `tools/x` would stand inside surface `tools`, whose place begins with `tools`
      cure: set `name` to another one, as `name: source-tools/x`, or move the surface: `surfaces: {tools: {at: ...}}`, or set `mount.sources: false`
    error: overlays.yaml:4: `overlays.sources[1].name`: source `.agents/a` would stand inside surface `skills`, whose place begins with `.agents`
      cure: set `name` to another one, as `name: source-.agents/a`, or move the surface: `surfaces: {skills: {at: ...}}`, or set `mount.sources: false`
    error: overlays.yaml:5: `overlays.sources[2].name`: `.overlay` is reserved and cannot own source `.overlay/b`
      cure: set `name` to another one, as `name: source-.overlay/b`, or set `mount.sources: false`
    error: overlays.yaml:6: `overlays.sources[3].repo`: `public` is reserved and cannot own source `public/x`
      cure: set `name` to another one, as `name: source-public/x`, or set `mount.sources: false`
    error: overlays.yaml:7: `overlays.sources[4].repo`: `private` is reserved and cannot own source `private/x`
      cure: set `name` to another one, as `name: source-private/x`, or set `mount.sources: false`
    "#);
}

#[test]
fn refs_are_no_expressions() {
    let text = concat!(
        "overlays:\n",
        "  sources:\n",
        "    - {repo: a/b, ref: main~1}\n",
        "    - {repo: a/b, ref: -x}\n",
        "    - {repo: a/b, ref: a..b}\n",
        "    - {repo: a/b, ref: \"a b\"}\n",
        "    - {repo: a/b, ref: \"HEAD@{1}\"}\n",
    );
    insta::assert_snapshot!(refusal(text), @r#"
    error: overlays.yaml:3: `overlays.sources[0].ref`: `main~1` is a revision expression or a pattern: it holds `~`
      cure: write a branch, a tag, a full ref name or a full commit id
    error: overlays.yaml:4: `overlays.sources[1].ref`: `-x` starts with `-`
      cure: write a branch, a tag, a full ref name or a full commit id
    error: overlays.yaml:5: `overlays.sources[2].ref`: `a..b` is a revision expression or a pattern: it holds `..`
      cure: write a branch, a tag, a full ref name or a full commit id
    error: overlays.yaml:6: `overlays.sources[3].ref`: `a b` holds a blank or a control character
      cure: write a branch, a tag, a full ref name or a full commit id
    error: overlays.yaml:7: `overlays.sources[4].ref`: `HEAD@{1}` is a revision expression or a pattern: it holds `@{`
      cure: write a branch, a tag, a full ref name or a full commit id
    "#);
}

#[test]
fn surfaces_share_no_place() {
    let text = concat!(
        "surfaces:\n",
        "  a: {at: tools}\n",
        "  b: {at: tools/b}\n",
        "  c: {at: .agents}\n",
        "  d: {at: .overlay/x}\n",
        "  e: {at: .}\n",
        "  f: {at: /f}\n",
        "  g: {at: ../g}\n",
        "  workflows: {at: personas}\n",
    );
    insta::assert_snapshot!(refusal(text), @r#"
    error: overlays.yaml:2: `surfaces.a.at`: `tools` is also the place of surface `tools` (`tools`)
      cure: give one of the two another `at`, outside the other
    error: overlays.yaml:3: `surfaces.b.at`: `tools/b` lies inside surface `tools` (`tools`)
      cure: give one of the two another `at`, outside the other
    error: overlays.yaml:4: `surfaces.c.at`: `.agents` holds surface `skills` (`.agents/skills`)
      cure: give one of the two another `at`, outside the other
    error: overlays.yaml:5: `surfaces.d.at`: `.overlay/x` lies in `.overlay`, which tells about the view itself
      cure: choose another place, as `extras`
    error: overlays.yaml:6: `surfaces.e.at`: `.` is the root of the view
      cure: choose another place, as `extras`
    error: overlays.yaml:7: `surfaces.f.at`: `/f` is absolute
      cure: write a relative path without empty and `..` components, as `shared/tools`
    error: overlays.yaml:8: `surfaces.g.at`: `../g` has a `.` or `..` component
      cure: write a relative path without empty and `..` components, as `shared/tools`
    error: overlays.yaml:9: `surfaces.workflows.at`: `personas` is also the place of surface `personas` (`personas`)
      cure: give one of the two another `at`, outside the other
    "#);
}

#[test]
fn new_surfaces_need_a_place_and_packages_their_keys() {
    let text = concat!(
        "surfaces:\n",
        "  a: {subdir: a}\n",
        "  b: {at: b, marker: x, depth: 1}\n",
        "  c: {at: c, entries: packages, marker: a/b}\n",
        "  \"d/e\": {at: d}\n",
    );
    insta::assert_snapshot!(refusal(text), @r#"
    error: overlays.yaml:2: `surfaces.a`: a new surface says not where it appears
      cure: add `at`, as `a: {at: a}`
    error: overlays.yaml:3: `surfaces.b.marker`: counts only with `entries: packages`
      cure: remove `marker` or set `entries: packages`
    error: overlays.yaml:3: `surfaces.b.depth`: counts only with `entries: packages`
      cure: remove `depth` or set `entries: packages`
    error: overlays.yaml:4: `surfaces.c.marker`: `a/b` has a component with `/` in it
      cure: write one file name, as `pyproject.toml`
    error: overlays.yaml:5: `surfaces["d/e"]`: is no name for a surface
      cure: use letters, digits, `-` and `_`
    "#);
}

#[test]
fn sub_directories_by_surface_know_the_surfaces() {
    let text = concat!(
        "overlays:\n",
        "  sources:\n",
        "    - repo: a/b\n",
        "      toolsSubdir: x\n",
        "      subdirs: {tools: y, skils: z, claude: q}\n",
    );
    insta::assert_snapshot!(refusal(text), @r#"
    error: overlays.yaml:5: `overlays.sources[0].subdirs.claude`: unknown surface
      cure: known surfaces: `tools`, `workflows`, `skills`, `personas`, `prompts`; a new one is a row of `surfaces`
    error: overlays.yaml:5: `overlays.sources[0].subdirs.skils`: unknown surface
      cure: did you mean `skills`? known surfaces: `tools`, `workflows`, `skills`, `personas`, `prompts`; a new one is a row of `surfaces`
    error: overlays.yaml:5: `overlays.sources[0].subdirs.tools`: `toolsSubdir` says it too
      cure: keep one of `toolsSubdir` and `subdirs.tools`
    "#);
}

#[test]
fn units_are_explained() {
    let text = concat!(
        "repoCache: {interval: 30}\n",
        "state: {cacheBytes: 2 gigs, objectBytes: 1000}\n",
        "mount: {stopTimeout: soon, keep: 1.5h}\n",
    );
    insta::assert_snapshot!(refusal(text), @r#"
    error: overlays.yaml:1: `repoCache.interval`: `30` is no duration
      cure: write whole numbers with a unit, as `30s`, `1h30m` or `500ms`; units: `ms`, `s`, `m`, `h`, `d`
    error: overlays.yaml:2: `state.cacheBytes`: `2 gigs` is no size
      cure: write a number of bytes, or a whole number with a unit, as `2GiB`, `64MB` or `512Mi`; units: `B`, `kB`, `MB`, `GB`, `TB`, `KiB`, `MiB`, `GiB`, `TiB`
    error: overlays.yaml:2: `state.objectBytes`: is less than 1MiB: directories of a source may be larger
      cure: write `1MiB` or more
    error: overlays.yaml:3: `mount.stopTimeout`: `soon` is no duration
      cure: write whole numbers with a unit, as `30s`, `1h30m` or `500ms`; units: `ms`, `s`, `m`, `h`, `d`
    error: overlays.yaml:3: `mount.keep`: `1.5h` is no duration
      cure: write whole numbers with a unit, as `30s`, `1h30m` or `500ms`; units: `ms`, `s`, `m`, `h`, `d`
    "#);
}

#[test]
fn fetching_pauses() {
    let text = "repoCache: {interval: 0s}\n";
    insta::assert_snapshot!(refusal(text), @r#"
    error: overlays.yaml:1: `repoCache.interval`: is zero: fetching would never pause
      cure: write a time above zero, as `30s`; without fetching: `sync: false`
    "#);
}

#[test]
fn mount_points_stay_clear_of_what_they_show() {
    let text = concat!(
        "overlays:\n",
        "  sources:\n",
        "    - path: ./view/src\n",
        "repoCache: {path: /w/view/cache}\n",
        "mount:\n",
        "  at: /w/x/../view\n",
    );
    insta::assert_snapshot!(refusal(text), @r#"
    error: overlays.yaml:6: `mount.at`: the mount point `/w/view` covers source `local/src` (`/w/view/src`)
      cure: mount elsewhere, or move that directory out of the way
    error: overlays.yaml:6: `mount.at`: the mount point `/w/view` covers the repo cache (`/w/view/cache`)
      cure: mount elsewhere, or move that directory out of the way
    "#);
}

#[test]
fn paths_are_not_empty() {
    let text = concat!("repoCache: {path: \"\"}\n", "mount: {at: \"a\\0\"}\n",);
    insta::assert_snapshot!(refusal(text), @r#"
    error: overlays.yaml:1: `repoCache.path`: is empty
      cure: write a path, absolute or relative to this file
    error: overlays.yaml:2: `mount.at`: holds a NUL byte
      cure: write a path, absolute or relative to this file
    "#);
}
