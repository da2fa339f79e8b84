//! `env`: the variables of the platform's programs, as its chart renders them and for the union.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use serde_json::{Value, json};

use crate::fixture::Sandbox;

/// The variables of a program for this values file, in style `list`.
fn list(values: &str, program: &str) -> Value {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("values.yaml"), values).unwrap();
    let arguments =
        ["env", "--values", "values.yaml", "--for", program, "--style", "list", "--format", "json"];
    serde_json::from_str(&sandbox.succeed(&arguments)).unwrap()
}

/// Two sources, the second public, without workflows and with tools elsewhere; a third without tools and skills.
const SOURCES: &str = "
overlays:
  sources:
    - {repo: a/base, ref: v1}
    - {repo: b/team, visibility: Public, toolsSubdir: x/tools, workflowsSubdir: ''}
    - {repo: c/flows, ref: main, toolsSubdir: '', skillsSubdir: ''}
";

#[test]
fn the_api_gets_a_directory_for_each_source() {
    assert_eq!(
        list(SOURCES, "api"),
        json!({
            "TOOL_DIRS": "/var/lib/centaur/repos/a/base/tools:/var/lib/centaur/repos/b/team/x/tools",
            "WORKFLOW_DIRS": "/var/lib/centaur/repos/a/base/workflows:/var/lib/centaur/repos/c/flows/workflows",
            "KUBERNETES_PUBLIC_TOOL_DIRS": "/var/lib/centaur/repos/b/team/x/tools",
            "KUBERNETES_WORKFLOW_DIRS": "/home/agent/github/a/base/workflows:/home/agent/github/c/flows/workflows",
            "KUBERNETES_TOOLS_REPO": "a/base",
            "KUBERNETES_TOOLS_REF": "v1",
            "KUBERNETES_TOOLS_SUBDIR": "tools",
            "KUBERNETES_TOOLS_VISIBILITY": "private",
            "KUBERNETES_TOOLS_EXTRA_SOURCES": "[{\"repo\":\"b/team\",\"subdir\":\"x/tools\",\"visibility\":\"public\"}]",
            "KUBERNETES_TOOLS_REPO_CACHE_PATH": "/var/lib/centaur/repos",
            "KUBERNETES_TOOLS_AUTO_RELOAD": "true",
        })
    );
}

#[test]
fn paths_are_as_written_and_never_escaped() {
    let values =
        r"overlays: {sources: [{repo: a/b, toolsSubdir: 'x\y'}, {repo: c/d, toolsSubdir: ./.}]}";
    let api = list(values, "api");
    assert_eq!(api["TOOL_DIRS"], r"/var/lib/centaur/repos/a/b/x\y:/var/lib/centaur/repos/c/d/");
    assert_eq!(api["KUBERNETES_TOOLS_SUBDIR"], r"x\y");
    assert_eq!(
        api["KUBERNETES_TOOLS_EXTRA_SOURCES"],
        r#"[{"repo":"c/d","subdir":".","visibility":"private"}]"#
    );
}

#[test]
fn without_sources_the_images_own_directories_count() {
    for none in ["toolServer: {enabled: false}", "toolServer: {repo: ''}"] {
        let api = json!({"TOOL_DIRS": "/app/tools", "WORKFLOW_DIRS": "/app/workflows"});
        assert_eq!(list(none, "api"), api, "{none}");
        assert_eq!(list(none, "sandbox"), json!({}), "{none}");
        let host = json!({"WORKFLOW_DIRS": "/opt/centaur/workflows"});
        assert_eq!(list(none, "workflow-host"), host, "{none}");
    }
}

#[test]
fn without_the_repo_cache_nothing_points_into_it() {
    let values = format!("{SOURCES}repoCache: {{enabled: false}}\n");
    assert_eq!(
        list(&values, "api"),
        json!({
            "TOOL_DIRS": "/app/tools",
            "WORKFLOW_DIRS": "/app/workflows",
            "KUBERNETES_TOOLS_REPO": "a/base",
            "KUBERNETES_TOOLS_REF": "v1",
            "KUBERNETES_TOOLS_SUBDIR": "tools",
            "KUBERNETES_TOOLS_VISIBILITY": "private",
            "KUBERNETES_TOOLS_EXTRA_SOURCES": "[{\"repo\":\"b/team\",\"subdir\":\"x/tools\",\"visibility\":\"public\"}]",
        })
    );
    assert_eq!(list(&values, "sandbox"), json!({}));
    assert_eq!(list(&values, "repo-cache"), json!({}));
    assert_eq!(list(&values, "workflow-host"), json!({"WORKFLOW_DIRS": "/opt/centaur/workflows"}));
}

#[test]
fn the_cache_is_where_the_values_say() {
    let values = format!("{SOURCES}repoCache: {{hostPath: /data, autoReload: false}}\n");
    let api = list(&values, "api");
    assert_eq!(api["TOOL_DIRS"], "/data/a/base/tools:/data/b/team/x/tools");
    assert_eq!(api["KUBERNETES_TOOLS_REPO_CACHE_PATH"], "/data");
    assert_eq!(api["KUBERNETES_TOOLS_AUTO_RELOAD"], "false");
    assert!(api["KUBERNETES_WORKFLOW_DIRS"].as_str().unwrap().starts_with("/home/agent/github/"));
}

#[test]
fn sandboxes_get_skills() {
    assert_eq!(
        list(SOURCES, "sandbox"),
        json!({
            "CENTAUR_SKILL_DIRS": "/home/agent/github/a/base/.agents/skills:/home/agent/github/b/team/.agents/skills",
            "CENTAUR_PUBLIC_SKILL_DIRS": "/home/agent/github/b/team/.agents/skills",
        })
    );
}

#[test]
fn what_the_operator_sets_counts_and_never_replaces_the_skills() {
    let theirs =
        r#"'[{"name":"X","value":"1"},{"name":"CENTAUR_PUBLIC_SKILL_DIRS","value":"/mine"}]'"#;
    let values = format!(
        "{SOURCES}apiRs:\n  extraEnv:\n    KUBERNETES_WORKFLOW_DIRS: /w\n    OTHER: x\n    SESSION_SANDBOX_EXTRA_ENV: {theirs}\n"
    );
    let api = list(&values, "api");
    assert_eq!(api["KUBERNETES_WORKFLOW_DIRS"], "/w");
    assert!(api["OTHER"].is_null());
    let merged: Value =
        serde_json::from_str(api["SESSION_SANDBOX_EXTRA_ENV"].as_str().unwrap()).unwrap();
    let skills = &list(SOURCES, "sandbox")["CENTAUR_SKILL_DIRS"];
    assert_eq!(
        merged,
        json!([
            {"name": "X", "value": "1"},
            {"name": "CENTAUR_PUBLIC_SKILL_DIRS", "value": "/mine"},
            {"name": "CENTAUR_SKILL_DIRS", "value": skills},
        ])
    );
    assert_eq!(list(&values, "workflow-host"), json!({"WORKFLOW_DIRS": "/w"}));
    let broken =
        format!("{SOURCES}apiRs: {{extraEnv: {{SESSION_SANDBOX_EXTRA_ENV: 'no list'}}}}\n");
    assert_eq!(list(&broken, "api")["SESSION_SANDBOX_EXTRA_ENV"], "no list");
}

#[test]
fn the_workflow_host_looks_beside_tools_where_nothing_is_configured() {
    let host = |values: &str| list(values, "workflow-host")["WORKFLOW_DIRS"].clone();
    assert_eq!(
        host(SOURCES),
        "/home/agent/github/a/base/workflows:/home/agent/github/c/flows/workflows"
    );
    let off = "overlays: {sources: [{repo: a/b, workflowsSubdir: ''}, {repo: c/d, toolsSubdir: '', workflowsSubdir: ''}]}";
    assert_eq!(host(off), "/home/agent/github/a/b/workflows");
    assert_eq!(host("{}"), "/home/agent/github/paradigmxyz/centaur/workflows");
}

#[test]
fn no_variable_names_a_source_that_the_view_does_not_show_whole() {
    let sandbox = Sandbox::new();
    let text = "overlays: {sources: [{repo: a/b}]}\nmount: {sources: false, at: /view}\n";
    fs::write(sandbox.path("overlays.yaml"), text).unwrap();
    for program in ["api", "sandbox", "workflow-host"] {
        let said = sandbox.fail(2, &["env", "--for", program, "--style", "list"]);
        assert!(said.contains("`mount.sources` is false: the view has no `a/b`"), "{said}");
        assert!(said.contains("cure: use `--style union`"), "{said}");
        sandbox.succeed(&["env", "--for", program]);
    }
    // It has its sources from the configuration alone.
    sandbox.succeed(&["env", "--for", "repo-cache", "--style", "list"]);
}

#[test]
fn the_repo_cache_gets_every_repository_once() {
    let values = "
repoCache:
  syncIntervalSeconds: 7
  repositories: [x/extra, {repo: a/base, ref: listed, visibility: private}, {repo: y/z, ref: r}]
  repositoryRefs: {x/extra: pinned, a/base: keyed}
overlays:
  sources:
    - {repo: a/base, ref: v1, visibility: public}
    - {repo: b/team}
    - {repo: b/team, ref: v2, visibility: public}
    - {repo: b/team, ref: v3}
";
    assert_eq!(
        list(values, "repo-cache"),
        json!({
            "REPOSITORIES": "x/extra a/base y/z b/team",
            "REPOSITORY_REFS": "a/base=keyed x/extra=pinned y/z=r b/team=v2",
            "REPOSITORY_VISIBILITIES": "x/extra=private a/base=public y/z=private b/team=private",
            "SYNC_INTERVAL_SECONDS": "7",
        })
    );
}

#[test]
fn the_union_is_one_directory_and_no_source_needs_to_exist() {
    let sandbox = Sandbox::new();
    sandbox.configure("    - repo: a/base\n    - {repo: b/team, visibility: public}", "");
    let view = sandbox.view().display().to_string();
    assert_eq!(
        sandbox.succeed(&["env"]),
        format!(
            "export CENTAUR_PUBLIC_SKILL_DIRS='{view}/.agents/skills'\nexport CENTAUR_SKILL_DIRS='{view}/.agents/skills'\n"
        )
    );
    assert_eq!(
        sandbox.succeed(&["env", "--for", "workflow-host", "--format", "yaml"]),
        format!("WORKFLOW_DIRS: \"{view}/workflows\"\n")
    );
    let api = sandbox.succeed(&["env", "--for", "api", "--format", "json"]);
    let api: Value = serde_json::from_str(&api).unwrap();
    assert_eq!(api["TOOL_DIRS"], format!("{view}/tools"));
    assert_eq!(api["KUBERNETES_PUBLIC_TOOL_DIRS"], format!("{view}/tools"));
    assert_eq!(api["KUBERNETES_WORKFLOW_DIRS"], format!("{view}/workflows"));
    sandbox.configure("    - {path: ./mine, name: me/mine}", "");
    fs::create_dir(sandbox.path("mine")).unwrap();
    let skills = format!("export CENTAUR_SKILL_DIRS='{view}/.agents/skills'\n");
    assert_eq!(sandbox.succeed(&["env"]), skills);
    // In a shell the variables are what was printed.
    let program = env!("CARGO_BIN_EXE_overlayfs-mount");
    let script =
        format!("eval \"$({program} env --style list)\"; printf %s \"$CENTAUR_SKILL_DIRS\"");
    assert_eq!(sandbox.shell(&script), format!("{view}/me/mine/.agents/skills"));
    sandbox.configure("    - {path: ./mine, name: me/mine, skillsSubdir: 'a:b'}", "");
    let said = sandbox.fail(2, &["env", "--style", "list"]);
    assert!(said.contains("holds `:`") && said.contains("cure: use `--style union`"), "{said}");
    // What helps with one style does not with the other.
    sandbox.edit(|text| text.replace("at: view", "at: 'vi:ew'"));
    for style in ["union", "list"] {
        let said = sandbox.fail(2, &["env", "--style", style]);
        assert!(said.contains("holds `:`") && said.contains("cure: set `mount.at`"), "{said}");
    }
}

#[test]
fn a_path_that_is_not_utf8_is_refused_and_not_printed_as_another() {
    let sandbox = Sandbox::new();
    sandbox.configure("    - {path: ./mine, name: me/mine}", "");
    let directory = sandbox.path("").join(OsStr::from_bytes(b"caf\xe9"));
    fs::create_dir_all(directory.join("mine")).unwrap();
    fs::rename(sandbox.path("overlays.yaml"), directory.join("overlays.yaml")).unwrap();
    for (program, style) in [("sandbox", "union"), ("sandbox", "list"), ("api", "list")] {
        let mut command = sandbox.overlay(&["env", "--for", program, "--style", style]);
        let output = command.current_dir(&directory).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{program} {style}: {said}");
        assert!(output.stdout.is_empty(), "{program} {style}");
        assert!(said.contains("is not UTF-8, and no variable can hold it"), "{said}");
        assert!(said.contains("  cure: rename the directory"), "{said}");
    }
}
