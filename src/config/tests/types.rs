//! What users read when a value is not of the kind that its key takes.

use crate::config::fixture::refusal;

#[test]
fn every_unknown_key_is_reported_with_its_line() {
    let text = concat!(
        "overlay: {}\n",
        "overlays:\n",
        "  sources:\n",
        "    - repo: a/b\n",
        "      toolSubdir: x\n",
        "    - repo: c/d\n",
        "      banana: 1\n",
        "mount:\n",
        "  allow_other: true\n",
    );
    insta::assert_snapshot!(refusal(text), @r#"
    error: overlays.yaml:1: `overlay`: unknown key
      cure: did you mean `overlays`? known keys: `access`, `mount`, `overlays`, `repoCache`, `state`, `surfaces`, `toolServer`
    error: overlays.yaml:5: `overlays.sources[0].toolSubdir`: unknown key
      cure: did you mean `toolsSubdir`? known keys: `lfs`, `mode`, `name`, `path`, `personasSubdir`, `pin`, `promptPath`, `ref`, `repo`, `required`, `skillsSubdir`, `subdirs`, `toolsSubdir`, `url`, `visibility`, `workflowsSubdir`
    error: overlays.yaml:7: `overlays.sources[1].banana`: unknown key
      cure: known keys: `lfs`, `mode`, `name`, `path`, `personasSubdir`, `pin`, `promptPath`, `ref`, `repo`, `required`, `skillsSubdir`, `subdirs`, `toolsSubdir`, `url`, `visibility`, `workflowsSubdir`
    error: overlays.yaml:9: `mount.allow_other`: unknown key
      cure: did you mean `allowOther`? known keys: `allowOther`, `at`, `gid`, `git`, `keep`, `links`, `sources`, `stopTimeout`, `uid`, `xattrs`
    "#);
}

#[test]
fn wrong_types_say_what_is_wanted() {
    let text = concat!(
        "overlays:\n",
        "  sources: a/b\n",
        "mount: [1]\n",
        "repoCache:\n",
        "  sync: \"true\"\n",
        "  interval:\n",
        "    a: 1\n",
        "state: text\n",
        "access: [all]\n",
    );
    insta::assert_snapshot!(refusal(text), @r#"
    error: overlays.yaml:2: `overlays.sources`: `a/b` is not allowed
      cure: write a list
    error: overlays.yaml:3: `mount`: is a list
      cure: write a mapping
    error: overlays.yaml:5: `repoCache.sync`: `"true"` is not allowed
      cure: write `true` or `false`, without quotes
    error: overlays.yaml:6: `repoCache.interval`: is a mapping
      cure: write text
    error: overlays.yaml:8: `state`: `text` is not allowed
      cure: write a mapping
    error: overlays.yaml:9: `access`: is a list
      cure: write one of: `all`, `public`, `none`
    "#);
}

#[test]
fn enumerations_list_their_values() {
    let text = concat!(
        "access: pubic\n",
        "mount:\n",
        "  links: outside\n",
        "  allowOther: maybe\n",
        "overlays:\n",
        "  sources:\n",
        "    - {repo: a/b, mode: Git}\n",
        "surfaces:\n",
        "  x: {at: x, entries: package}\n",
    );
    insta::assert_snapshot!(refusal(text), @r#"
    error: overlays.yaml:1: `access`: `pubic` is not allowed
      cure: did you mean `public`? write one of: `all`, `public`, `none`
    error: overlays.yaml:3: `mount.links`: `outside` is not allowed
      cure: write one of: `all`, `inside`
    error: overlays.yaml:4: `mount.allowOther`: `maybe` is not allowed
      cure: write `true` or `false` or `auto`
    error: overlays.yaml:7: `overlays.sources[0].mode`: `Git` is not allowed
      cure: did you mean `git`? write one of: `git`, `worktree`
    error: overlays.yaml:9: `surfaces.x.entries`: `package` is not allowed
      cure: did you mean `packages`? write one of: `children`, `packages`, `prompts`
    "#);
}

#[test]
fn numbers_have_ranges() {
    let text = concat!(
        "mount:\n",
        "  uid: 4294967296\n",
        "  gid: 4294967295\n",
        "surfaces:\n",
        "  skills: {at: s, entries: packages, depth: 02}\n",
        "  tools: {depth: 9}\n",
        "  x: {at: x, entries: packages, depth: 0}\n",
    );
    insta::assert_snapshot!(refusal(text), @r#"
    error: overlays.yaml:2: `mount.uid`: `4294967296` is out of range
      cure: write a number from 0 to 4294967294
    error: overlays.yaml:3: `mount.gid`: `4294967295` is out of range
      cure: write a number from 0 to 4294967294
    error: overlays.yaml:5: `surfaces.skills.depth`: `02` is not allowed
      cure: write a whole number, as `5`
    error: overlays.yaml:6: `surfaces.tools.depth`: `9` is out of range
      cure: write a number from 1 to 8
    error: overlays.yaml:7: `surfaces.x.depth`: `0` is out of range
      cure: write a number from 1 to 8
    "#);
}
