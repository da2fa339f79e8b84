//! Merging, through the kernel.

use crate::fixture::{Sandbox, can_mount};

#[test]
fn s6_a_later_skill_hides_an_earlier_one_whole() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let base = sandbox.repo("acme/base");
    base.skill("review", "base\n").write(".agents/skills/review/extra/deep", "hidden\n");
    base.skill("plan", "base plan\n").write("workflows/shared/a.py", "a\n").commit();
    let team = sandbox.repo("acme/team");
    team.skill("review", "team\n").write("workflows/shared/b.py", "b\n").commit();
    sandbox.configure("    - repo: acme/base\n    - repo: acme/team", "");
    let mount = sandbox.mount();
    assert_eq!(sandbox.shell("cd $VIEW; cat .agents/skills/*/SKILL.md"), "base plan\nteam\n");
    assert_eq!(
        sandbox.shell("cd $VIEW; find workflows .agents/skills/review -type f"),
        "workflows/shared/b.py\n.agents/skills/review/SKILL.md\n"
    );
    for hidden in
        [".agents/skills/review/extra", ".agents/skills/review/extra/deep", "workflows/shared/a.py"]
    {
        let output = sandbox.shell_output(&format!("stat $VIEW/{hidden}"));
        assert!(!output.status.success(), "{hidden}");
    }
    // Each source is there whole.
    assert_eq!(sandbox.shell("cat $VIEW/acme/base/.agents/skills/review/extra/deep"), "hidden\n");
    mount.unmount();
}

#[test]
fn s8_a_package_hides_its_namesake_in_any_category() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let base = sandbox.repo("acme/base");
    base.package("tools/productivity/slack", "base").package("tools/productivity/notes", "base");
    base.package("tools/search", "base").write("tools/productivity/README", "loose\n");
    base.write("tools/lib/helper.py", "one entry\n").write("tools/.hidden/pyproject.toml", "");
    base.write("tools/.centaur-tools-source.json", "{}").commit();
    let team = sandbox.repo("acme/team");
    team.package("tools/slack", "team").package("tools/crypto/search", "team").commit();
    sandbox.configure("    - repo: acme/base\n    - repo: acme/team", "");
    let mount = sandbox.mount();
    let seen = sandbox.shell("cd $VIEW/tools; find . -type f | sort");
    let expected = "./.hidden/pyproject.toml\n./crypto/search/main.py\n./crypto/search/pyproject.toml\n\
         ./lib/helper.py\n./productivity/README\n./productivity/notes/main.py\n\
         ./productivity/notes/pyproject.toml\n./slack/main.py\n./slack/pyproject.toml\n";
    assert_eq!(seen, expected);
    assert_eq!(sandbox.shell("cat $VIEW/tools/slack/main.py"), "team");
    mount.unmount();
}

#[test]
fn s12_prompts_are_numbered_in_source_order() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").write("SYSTEM.md", "base\n").commit();
    sandbox.repo("acme/none").write("x", "").commit();
    sandbox
        .repo("acme/team")
        .write("prompts/extra.md", "extra\n")
        .write("SYSTEM.md", "team\n")
        .commit();
    sandbox.configure(
        "    - {repo: acme/base, promptPath: SYSTEM.md}\n    - repo: acme/none\n    \
         - {repo: acme/team, promptPath: SYSTEM.md}\n    - {repo: acme/team, name: acme/again, promptPath: prompts}",
        "",
    );
    let mount = sandbox.mount();
    assert_eq!(
        sandbox.shell("cd $VIEW/prompts; for f in *; do echo $f; cat $f; done"),
        "00-acme__base.md\nbase\n02-acme__team.md\nteam\nextra.md\nextra\n"
    );
    mount.unmount();
}

#[test]
fn s2_the_layout_of_an_empty_view() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    std::fs::write(
        sandbox.path("overlays.yaml"),
        "overlays: {sources: []}\nstate: {dir: state}\nmount: {at: view}\n",
    )
    .unwrap();
    let mount = sandbox.mount();
    assert_eq!(
        sandbox.shell("cd $VIEW; find . | sort"),
        ".\n./.agents\n./.agents/skills\n./tools\n./workflows\n"
    );
    mount.unmount();
}

#[test]
fn s3_a_name_that_occurs_twice_shows_its_last_source_and_sources_can_be_turned_off() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = sandbox.repo("acme/base");
    repo.write("version", "1\n").commit();
    repo.git(&["tag", "v1"]);
    repo.write("version", "2\n").commit();
    sandbox.configure("    - repo: acme/base\n    - {repo: acme/base, ref: v1}", "");
    let mount = sandbox.mount();
    assert_eq!(sandbox.shell("cat $VIEW/acme/base/version"), "1\n");
    mount.unmount();
    sandbox.configure("    - repo: acme/base", "sources: false");
    let mount = sandbox.mount();
    assert_eq!(sandbox.shell("ls $VIEW"), "tools\nworkflows\n");
    mount.unmount();
}

#[test]
fn s17_git_directories_are_never_shown() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = sandbox.repo("acme/base");
    repo.write("README", "x").commit();
    // git itself refuses to add such a path; a tree that holds one can be written all the same.
    let blob = repo.git(&["rev-parse", "HEAD:README"]);
    std::fs::write(
        sandbox.path("tree"),
        [
            b"40000 .git\0".as_slice(),
            &hex(&repo.git(&["rev-parse", "HEAD^{tree}"])),
            b"100644 README\0",
            &hex(&blob),
        ]
        .concat(),
    )
    .unwrap();
    let tree =
        sandbox.shell("git -C repos/acme/base hash-object -t tree -w --literally --stdin < tree");
    let commit = repo.git(&["commit-tree", tree.trim(), "-m", "hostile"]);
    repo.git(&["update-ref", "refs/heads/main", &commit]);
    sandbox.configure("    - repo: acme/base", "");
    let mount = sandbox.mount();
    assert_eq!(sandbox.shell("ls -A $VIEW/acme/base"), "README\n");
    assert!(!sandbox.shell_output("ls $VIEW/acme/base/.git").status.success());
    mount.unmount();
}

/// Bytes of a hexadecimal text.
fn hex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn s18_a_view_shows_only_what_its_access_allows() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repo("public/acme/base").skill("open", "open\n").commit();
    sandbox.repo("private/acme/team").skill("closed", "closed\n").commit();
    let sources = "    - {repo: acme/base, visibility: \" Public \"}\n    - repo: acme/team";
    sandbox.configure(sources, "");
    let append = |more: &str| sandbox.edit(|text| format!("{text}{more}"));
    append("access: public\n");
    let mount = sandbox.mount();
    assert_eq!(
        sandbox.shell("cd $VIEW; find .agents acme -maxdepth 2"),
        ".agents\n.agents/skills\n.agents/skills/open\nacme\nacme/base\nacme/base/.agents\n"
    );
    assert!(!sandbox.shell("cat $VIEW/.overlay/*.json").contains("team"));
    mount.unmount();
}
