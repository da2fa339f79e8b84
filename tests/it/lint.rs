//! `check --lint`: what is visible and fails where it is used.

use crate::fixture::Sandbox;

/// Path, source and what is wrong, of each lint.
fn lints(sandbox: &Sandbox, status: i32) -> Vec<String> {
    let output = sandbox.overlay(&["check", "--lint", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(status), "{}", String::from_utf8_lossy(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let lints = json["lints"].as_array().unwrap().iter();
    lints
        .map(|lint| {
            assert_ne!(lint["cure"], "", "{lint}");
            [&lint["path"], &lint["source"], &lint["what"]].map(text).join(" | ")
        })
        .collect()
}

#[test]
fn what_readers_can_use_is_clean() {
    let sandbox = Sandbox::new();
    sandbox
        .repo("acme/base")
        .skill("review", "---\nname: review\n---\n")
        .write(".agents/skills/README.md", "about\n")
        .write(".agents/skills/.hidden/x", "")
        .link(".agents/skills/linked", "../../elsewhere/linked")
        .write("elsewhere/linked/SKILL.md", "---\nname: linked\n---\n")
        .package("tools/search", "")
        .write("tools/loose/scripts.txt", "")
        .write("workflows/a.py", "WORKFLOW_NAME = 'a'\n")
        .write("workflows/deep/er/b.py", "WORKFLOW_NAME = 'b'\n")
        .write("workflows/deep/__init__.py", "WORKFLOW_NAME = 'a'\n")
        .write("workflows/_shared.py", "WORKFLOW_NAME = 'a'\n")
        .write("workflows/notes.md", "WORKFLOW_NAME = 'a'\n")
        .commit();
    sandbox.configure("    - repo: acme/base", "");
    assert_eq!(lints(&sandbox, 0), Vec::<String>::new());
}

#[test]
fn every_kind_is_told_with_its_place() {
    let sandbox = Sandbox::new();
    sandbox
        .repo("acme/base")
        .skill("bare", "no front-matter\n")
        .skill("one", "---\nname: two\n---\n")
        .write(".agents/skills/empty/notes.md", "")
        .skill("broken", "---\nname: {\n---\n")
        .skill("huge", &"x".repeat((1 << 20) + 1))
        .link(".agents/skills/dead", "nowhere")
        .write(
            "tools/a/pyproject.toml",
            "[project]\nname = 'a'\nscripts = {run = 'a:x', a = 'a:y'}\n",
        )
        .write("tools/z/nameless/pyproject.toml", "[project.scripts]\nrun = 'z:x'\n")
        .write("tools/bad/pyproject.toml", "[project\n")
        .write("workflows/a.py", "WORKFLOW_NAME = 'same'\n")
        .commit();
    sandbox.repo("acme/team").write("workflows/x/b.py", "WORKFLOW_NAME: str = \"same\"\n").commit();
    sandbox.configure("    - repo: acme/base\n    - repo: acme/team", "");
    insta::assert_snapshot!(lints(&sandbox, 1).join("\n"), @r"
    .agents/skills/bare/SKILL.md | acme/base | has no `name` in its front-matter
    .agents/skills/broken/SKILL.md | acme/base | its front-matter is not valid YAML: while parsing a node, did not find expected node content at byte 9 line 3 column 1
    .agents/skills/empty | acme/base | has no `SKILL.md`
    .agents/skills/huge/SKILL.md | acme/base | has 1048577 bytes and was not looked at
    .agents/skills/one/SKILL.md | acme/base | says `name: two`, and its directory is `one`
    tools/bad/pyproject.toml | acme/base | is no TOML: TOML parse error at line 1, column 9: unclosed table, expected `]`
    tools/z/nameless/pyproject.toml | acme/base | has no `name` in `[project]`
    tools/z/nameless/pyproject.toml | acme/base | has a script `run`, as `tools/a` of acme/base
    workflows/x/b.py | acme/team | has the `WORKFLOW_NAME` `same` of `workflows/a.py` of acme/base
    ");
}

#[test]
fn what_is_hidden_is_not_looked_at() {
    let sandbox = Sandbox::new();
    sandbox
        .repo("acme/base")
        .skill("review", "bad\n")
        .write("workflows/a.py", "WORKFLOW_NAME = 'a'\n")
        .write(
            "tools/x/slack/pyproject.toml",
            "[project]\nname = 'slack'\nscripts = {slack = 'a:b'}\n",
        )
        .commit();
    sandbox
        .repo("acme/team")
        .skill("review", "---\nname: review\n---\n")
        .write("workflows/a.py", "WORKFLOW_NAME = 'a'\n")
        .write(
            "tools/slack/pyproject.toml",
            "[project]\nname = 'slack'\nscripts = {slack = 'a:b'}\n",
        )
        .commit();
    sandbox.configure("    - repo: acme/base\n    - repo: acme/team", "");
    assert_eq!(lints(&sandbox, 0), Vec::<String>::new());
}

#[test]
fn live_sources_and_new_surfaces_are_looked_at_and_only_on_demand() {
    let sandbox = Sandbox::new();
    let files = "mkdir -p mine/.claude/skills/a mine/workflows; echo x > mine/.claude/skills/a/SKILL.md; \
                 echo \"WORKFLOW_NAME = 'a'\" | tee mine/workflows/1.py > mine/workflows/2.py";
    sandbox.shell(files);
    sandbox.configure("    - {path: ./mine, name: me/mine}", "");
    sandbox.edit(|text| format!("{text}surfaces: {{claude: {{at: .claude/skills}}}}\n"));
    assert_eq!(
        lints(&sandbox, 1),
        [
            ".claude/skills/a/SKILL.md | me/mine | has no `name` in its front-matter",
            "workflows/2.py | me/mine | has the `WORKFLOW_NAME` `a` of `workflows/1.py` of me/mine",
        ]
    );
    let said = sandbox.overlay(&["check", "--lint"]).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let lint = "lint: .claude/skills/a/SKILL.md of me/mine: has no `name` in its front-matter\n  \
                cure: begin it with the lines `---`, `name: a`, `---`\n";
    assert!(said.contains(lint), "{said}");
    let json: serde_json::Value =
        serde_json::from_str(&sandbox.succeed(&["check", "--json"])).unwrap();
    assert!(json["lints"].is_null());
}

#[test]
fn what_a_lint_quotes_reaches_no_terminal() {
    let sandbox = Sandbox::new();
    sandbox
        .repo("acme/base")
        .skill("one", "---\nname: \"\\e]0;two\\a\\u202E\"\n---\n")
        .write("workflows/a.py", "WORKFLOW_NAME = 'a\u{1b}[31m'\n")
        .write("workflows/b.py", "WORKFLOW_NAME = 'a\u{1b}[31m'\n")
        .commit();
    sandbox.configure("    - repo: acme/base", "");
    let said = String::from_utf8(sandbox.overlay(&["check", "--lint"]).output().unwrap().stdout);
    let said = said.unwrap();
    for shown in ["says `name: \\x1b]0;two\\x07\\u{202e}`", "`WORKFLOW_NAME` `a\\x1b[31m`"] {
        assert!(said.contains(shown), "{said}");
    }
    let is_harmless = |c: char| c == '\n' || !(c.is_control() || c == '\u{202e}');
    assert!(said.chars().all(is_harmless), "{said:?}");
}
