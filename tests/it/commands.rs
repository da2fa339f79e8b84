//! The commands that mount nothing, and those that look at a mount.

use std::fs;

use crate::fixture::{Sandbox, can_mount, has_program};

fn two_sources(sandbox: &Sandbox) -> (String, String) {
    let base = sandbox.repo("acme/base");
    base.package("tools/productivity/slack", "base")
        .skill("review", "base\n")
        .skill("plan", "plan\n");
    let base = base.commit();
    let team =
        sandbox.repo("acme/team").package("tools/slack", "team").skill("review", "team\n").commit();
    sandbox.configure("    - repo: acme/base\n    - repo: acme/team", "");
    (base, team)
}

#[test]
fn ls_prints_every_entry_with_what_it_hides() {
    let sandbox = Sandbox::new();
    let (base, team) = two_sources(&sandbox);
    let text = sandbox.succeed(&["ls"]);
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let (base, team) = (&base[..12], &team[..12]);
    assert_eq!(rows[0], ["PATH", "SOURCE", "REVISION", "HIDES"]);
    assert_eq!(
        rows[1],
        ["tools/slack", "acme/team", team, "acme/base", "(tools/productivity/slack)"]
    );
    assert_eq!(rows[2], [".agents/skills/plan", "acme/base", base]);
    assert_eq!(rows[3], [".agents/skills/review", "acme/team", team, "acme/base"]);
    assert_eq!(rows.len(), 4);
    let json: serde_json::Value =
        serde_json::from_str(&sandbox.succeed(&["ls", "skills", "--json"])).unwrap();
    assert_eq!(json["entries"].as_array().unwrap().len(), 2);
    assert_eq!(json["entries"][1]["hides"][0]["source"], "acme/base");
    let said = sandbox.fail(2, &["ls", "skils"]);
    assert!(said.contains("did you mean `skills`?"), "{said}");
}

#[test]
fn check_says_what_hides_what_and_fails_without_a_required_source() {
    let sandbox = Sandbox::new();
    two_sources(&sandbox);
    let text = sandbox.succeed(&["check"]);
    assert!(
        text.contains(
            "tools/slack of acme/team hides that of acme/base at tools/productivity/slack"
        ),
        "{text}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&sandbox.succeed(&["check", "--json"])).unwrap();
    assert_eq!(json["sources"][1]["name"], "acme/team");
    sandbox.configure(
        "    - repo: acme/base\n    - {repo: acme/team, ref: mian}\n    - repo: acme/gone",
        "",
    );
    let said = sandbox.fail(1, &["check"]);
    assert!(said.contains("mian") && said.contains("main") && said.contains("acme/gone"), "{said}");
    assert!(said.contains("overlays.yaml:4") && said.contains("overlays.yaml:5"), "{said}");
    sandbox.configure("    - repo: acme/base\n    - {repo: acme/gone, required: false}", "");
    let text = sandbox.succeed(&["check"]);
    assert!(text.contains("missing"), "{text}");
}

#[test]
fn s132_a_live_directory_has_no_ref() {
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").skill("plan", "plan\n").commit();
    sandbox
        .shell("mkdir -p mine/.agents/skills/own && echo own > mine/.agents/skills/own/SKILL.md");
    sandbox.configure("    - repo: acme/base\n    - {path: mine, name: me/mine}", "");
    let json = |arguments: &[&str]| -> serde_json::Value {
        serde_json::from_str(&sandbox.succeed(&[arguments, &["--json"]].concat())).unwrap()
    };
    let second_words = |text: &str| -> Vec<String> {
        let lines = text.lines().map(str::trim_start);
        let rows =
            lines.filter(|line| line.starts_with("acme/base") || line.starts_with("me/mine"));
        rows.map(|row| row.split_whitespace().nth(1).unwrap().to_owned()).collect()
    };
    assert_eq!(second_words(&sandbox.succeed(&["check"])), ["HEAD", "live"]);
    let check = json(&["check"]);
    assert_eq!(check["sources"][0]["live"], false);
    assert!(check["sources"][1]["ref"].is_null() && check["sources"][1]["live"] == true, "{check}");
    for (skill, word) in [("plan", "HEAD"), ("own", "live")] {
        let path = format!(".agents/skills/{skill}");
        let text = sandbox.succeed(&["explain", &path]);
        assert!(text.contains(&format!("\n  ref       {word}\n")), "{text}");
        assert_eq!(json(&["explain", &path])["winner"]["live"], word == "live");
    }
    if !can_mount() {
        return;
    }
    let mount = sandbox.mount_with(&["-o", "xattrs"]);
    assert_eq!(second_words(&sandbox.succeed(&["status", "view"])), ["HEAD", "live"]);
    assert_eq!(json(&["status", "view"])["sources"][1]["live"], true);
    if has_program("python3", "apt-get install python3") {
        let script = "import os\ntry: os.getxattr(os.environ['VIEW'] + '/.agents/skills/own', 'user.overlayfs-mount.ref')\nexcept OSError as e: print(e.strerror)";
        assert_eq!(sandbox.shell(&format!("python3 -c \"{script}\"")), "No data available\n");
    }
    mount.unmount();
}

#[test]
fn s133_a_source_that_is_not_required_has_its_cure_too() {
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").skill("plan", "plan\n").commit();
    let sources = "    - repo: acme/base\n    - {repo: acme/gone, required: false}\n    - {path: nowhere, name: me/mine, required: false}";
    sandbox.configure(sources, "");
    let json = |arguments: &[&str]| -> serde_json::Value {
        serde_json::from_str(&sandbox.succeed(&[arguments, &["--json"]].concat())).unwrap()
    };
    let put = format!(
        "put it at `{}`, or correct its place (overlays.yaml:4)",
        sandbox.path("repos/private/acme/gone").display()
    );
    let create = format!(
        "create `{}`, or correct `path` (overlays.yaml:5)",
        sandbox.path("nowhere").display()
    );
    let text = sandbox.succeed(&["check"]);
    assert!(text.contains(&format!("\n  cure: {put}\n")), "{text}");
    assert!(text.contains(&format!("\n  cure: {create}\n")), "{text}");
    let cures = |report: &serde_json::Value| -> Vec<String> {
        let sources = report["sources"].as_array().unwrap().iter();
        sources.map(|source| source["cure"].as_str().unwrap_or("-").to_owned()).collect()
    };
    assert_eq!(cures(&json(&["check"])), ["-", &put, &create]);
    if !can_mount() {
        return;
    }
    let mount = sandbox.mount();
    let text = sandbox.succeed(&["status", "view"]);
    assert!(text.contains(&format!("\n  cure for `acme/gone`: {put}\n")), "{text}");
    assert_eq!(cures(&json(&["status", "view"])), ["-", &put, &create]);
    // It names paths of the host.
    let inside = sandbox.shell("cat $VIEW/.overlay/status.json");
    assert!(!inside.contains("nowhere"), "{inside}");
    mount.unmount();
}

#[test]
fn explain_names_winner_and_hidden_ones_or_why_nothing_is_there() {
    let sandbox = Sandbox::new();
    two_sources(&sandbox);
    let text = sandbox.succeed(&["explain", ".agents/skills/review/SKILL.md"]);
    assert!(text.contains("acme/team") && text.contains("acme/base"), "{text}");
    let text = sandbox.succeed(&["explain", "tools/productivity/slack"]);
    assert!(text.contains("hidden") && text.contains("tools/slack"), "{text}");
    let json: serde_json::Value =
        serde_json::from_str(&sandbox.succeed(&["explain", ".agents/skills/review", "--json"]))
            .unwrap();
    assert!(json.is_object());
}

#[test]
fn explain_says_that_special_files_are_no_entries() {
    let sandbox = Sandbox::new();
    sandbox.shell(
        "mkdir -p mine/.agents/skills/own mine/tools && mkfifo mine/.agents/skills/pipe mine/.agents/skills/own/pipe && \
         python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"mine/tools/door\")'",
    );
    sandbox.configure("    - {path: mine, name: me/mine}", "");
    for path in [".agents/skills/pipe", ".agents/skills/own/pipe", "tools/door"] {
        let text = sandbox.succeed(&["explain", path]);
        let expected = format!(
            "{path} shows nothing: `{path}` of source me/mine is a fifo, a socket or a device"
        );
        assert!(text.starts_with(&expected), "{text}");
    }
    let text = sandbox.succeed(&["explain", ".agents/skills/none"]);
    assert!(text.contains("no source has such an entry"), "{text}");
}

#[test]
fn explain_works_below_a_mount() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    two_sources(&sandbox);
    let mount = sandbox.mount();
    let path = sandbox.path("view/.agents/skills/review/SKILL.md");
    // Relative paths too, as a shell completes them; one of the view itself is still taken.
    for typed in [
        path.to_str().unwrap(),
        "view/.agents/skills/review/SKILL.md",
        ".agents/skills/review/SKILL.md",
    ] {
        let text = sandbox.succeed(&["explain", typed]);
        assert!(text.contains("acme/team") && text.contains("acme/base"), "{typed}: {text}");
    }
    mount.unmount();
}

#[test]
fn export_writes_the_tree_that_the_view_shows_and_replaces_only_its_own() {
    let sandbox = Sandbox::new();
    two_sources(&sandbox);
    sandbox.succeed(&["export", "out"]);
    assert_eq!(sandbox.shell("cat out/.agents/skills/review/SKILL.md"), "team\n");
    sandbox.succeed(&["export", "skills", "--surface", "skills"]);
    assert_eq!(sandbox.shell("ls -A skills"), "plan\nreview\n");
    // Again, over its own.
    sandbox.repo("acme/team").skill("review", "newer\n").commit();
    sandbox.succeed(&["export", "out"]);
    assert_eq!(sandbox.shell("cat out/.agents/skills/review/SKILL.md"), "newer\n");
    fs::create_dir(sandbox.path("mine")).unwrap();
    fs::write(sandbox.path("mine/precious"), "x").unwrap();
    let said = sandbox.fail(1, &["export", "mine"]);
    assert!(said.contains("cure: "), "{said}");
    assert!(sandbox.path("mine/precious").exists());
    assert_eq!(sandbox.shell("ls -A | grep -c export- || :"), "0\n");
}

#[test]
fn an_export_equals_the_mount() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    two_sources(&sandbox);
    let mount = sandbox.mount();
    sandbox.succeed(&["export", "out"]);
    sandbox.shell("diff -r --no-dereference out $VIEW");
    mount.unmount();
}

#[test]
fn an_export_has_the_times_of_the_mount_also_before_1970() {
    let sandbox = Sandbox::new();
    sandbox.shell("mkdir -p mine/workflows && touch -d '1969-12-31 23:59:58 UTC' mine/workflows/a");
    sandbox.configure("    - {path: ./mine, name: me/mine}", "");
    sandbox.succeed(&["export", "out"]);
    assert_eq!(sandbox.shell("stat -c %Y out/workflows/a").trim(), "-2");
}

#[test]
fn demo_ends_by_itself_and_leaves_nothing() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let output = sandbox.overlay(&["demo"]).env("TMPDIR", sandbox.path("home")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("team: {channel}"), "{said}");
    assert!(said.contains("ms after the push\n---\nname: review"), "{said}");
    assert_eq!(fs::read_dir(sandbox.path("home")).unwrap().count(), 0);
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
}

#[test]
fn wrong_configuration_exits_2_with_every_problem_and_its_line() {
    let sandbox = Sandbox::new();
    fs::write(
        sandbox.path("overlays.yaml"),
        "overlays:\n  sources:\n    - repo: acme/base\n      toolSubdir: x\n    - repo: nope\n      skillsSubdir: ../up\nacess: all\n",
    )
    .unwrap();
    for command in [&["check"][..], &["mount"], &["ls"]] {
        let said = sandbox.fail(2, command);
        for part in
            ["overlays.yaml:4", "did you mean `toolsSubdir`?", "overlays.yaml:7", "`access`"]
        {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
}

#[test]
fn the_schema_is_json_and_help_goes_to_standard_output() {
    let sandbox = Sandbox::new();
    let schema: serde_json::Value =
        serde_json::from_str(&sandbox.succeed(&["config", "schema"])).unwrap();
    assert!(schema["properties"]["overlays"].is_object(), "{schema}");
    assert!(sandbox.succeed(&["--help"]).contains("mount"));
    assert!(sandbox.succeed(&["--version"]).starts_with("overlayfs-mount "));
    assert!(sandbox.succeed(&["man"]).starts_with(".TH OVERLAYFS-MOUNT 1 "));
    assert!(sandbox.succeed(&["man", "config", "schema"]).contains("CONFIG-SCHEMA"));
    assert!(
        sandbox.fail(2, &["man", "mont"]).contains("cure: leave it out, or give one of: mount, ")
    );
    sandbox.fail(2, &["mont"]);
}

#[test]
fn status_says_what_is_mounted() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let (base, _) = two_sources(&sandbox);
    let said = sandbox.fail(1, &["status", "view"]);
    assert!(said.contains("cure: "), "{said}");
    let mount = sandbox.mount();
    let status: serde_json::Value = sandbox.status();
    assert_eq!(status["state"], "ready");
    assert_eq!(status["sources"][0]["revision"], base);
    let revision = sandbox.shell("cat $VIEW/.overlay/revision");
    assert_eq!(status["revision"], revision.trim());
    let all: serde_json::Value =
        serde_json::from_str(&sandbox.succeed(&["status", "--json"])).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 1);
    mount.unmount();
}

#[test]
fn bash_completes_options_after_a_subcommand() {
    let sandbox = Sandbox::new();
    let script = sandbox.succeed(&["completions", "bash"]);
    fs::write(sandbox.path("completions"), script).unwrap();
    let complete = r#"
        . ./completions
        complete_last() {
            local words=("$@") last=$(($# - 1))
            COMP_WORDS=("${words[@]}") COMP_CWORD=$last
            "$(complete -p overlayfs-mount | sed 's/.*-F \([^ ]*\).*/\1/')" overlayfs-mount "${words[last]}" "${words[last - 1]}"
            echo "${COMPREPLY[*]}"
        }
        complete_last overlayfs-mount unm
        complete_last overlayfs-mount mount --sup
        complete_last overlayfs-mount config sch
        complete_last overlayfs-mount env --for=api --sty
    "#;
    fs::write(sandbox.path("complete"), complete).unwrap();
    assert_eq!(sandbox.shell("bash ./complete"), "unmount\n--supervised\nschema\n--style\n");
}
