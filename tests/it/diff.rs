//! `diff`: what another configuration or other refs would change.

use std::fs;

use crate::fixture::Sandbox;

/// `acme/base` with everything, and `acme/team` with a branch `next` that changes one of each.
fn two_sources(sandbox: &Sandbox) {
    sandbox
        .repo("acme/base")
        .package("tools/productivity/slack", "base")
        .skill("review", "base\n")
        .skill("plan", "plan\n")
        .commit();
    let team = sandbox.repo("acme/team");
    team.skill("review", "team\n").skill("old", "old\n").skill("same", "same\n").commit();
    team.git(&["checkout", "--quiet", "-b", "next"]);
    fs::remove_dir_all(team.path.join(".agents/skills/old")).unwrap();
    team.skill("review", "next\n").skill("new", "new\n").package("tools/slack", "team").commit();
    team.git(&["checkout", "--quiet", "main"]);
    sandbox.configure("    - repo: acme/base\n    - {repo: acme/team, ref: main}", "");
}

/// Exit status, standard output and standard error.
fn diff(sandbox: &Sandbox, arguments: &[&str]) -> (i32, String, String) {
    let output = sandbox.overlay(&["diff"]).args(arguments).output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// What happens to which entry, from which source to which.
fn changes(sandbox: &Sandbox, arguments: &[&str]) -> Vec<String> {
    let arguments = [arguments, &["--json"]].concat();
    let (status, json, said) = diff(sandbox, &arguments);
    let json: serde_json::Value = serde_json::from_str(&json).expect(&said);
    let entries = json["entries"].as_array().unwrap();
    assert_eq!(status, i32::from(!entries.is_empty()), "{said}");
    let line = |entry: &serde_json::Value| {
        let word = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
        let (before, after) = (&entry["before"]["source"], &entry["after"]["source"]);
        [&entry["change"], &entry["path"], before, after].map(word).join(" ")
    };
    entries.iter().map(line).collect()
}

#[test]
fn another_ref_is_compared_entry_by_entry() {
    let sandbox = Sandbox::new();
    two_sources(&sandbox);
    let (status, text, said) = diff(&sandbox, &["--ref", "acme/team=next"]);
    assert_eq!((status, said.as_str()), (1, ""));
    insta::assert_snapshot!(text, @r"
    acme/team: main (b5fee045c9d4) -> next (bfda00af32b6)

    CHANGE    PATH                      BEFORE                  AFTER
    appears   .agents/skills/new        -                       acme/team bfda00af32b6
    vanishes  .agents/skills/old        acme/team b5fee045c9d4  -
    content   .agents/skills/review     acme/team b5fee045c9d4  acme/team bfda00af32b6
    content   acme/team                 acme/team b5fee045c9d4  acme/team bfda00af32b6
    vanishes  tools/productivity/slack  acme/base 8ab63c61c692  -
    appears   tools/slack               -                       acme/team bfda00af32b6
    ");
    let (status, text, said) = diff(&sandbox, &["--ref", "acme/team="]);
    assert_eq!((status, text.as_str(), said.as_str()), (0, "no entry would change\n", ""));
}

#[test]
fn the_document_has_both_sides_of_every_change() {
    let sandbox = Sandbox::new();
    two_sources(&sandbox);
    let (_, json, _) = diff(&sandbox, &["--ref", "acme/team=next", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let entries = json["entries"].as_array().unwrap();
    let slack = entries.iter().find(|entry| entry["path"] == "tools/slack").unwrap();
    assert_eq!(slack["surface"], "tools");
    assert!(slack["before"].is_null());
    assert_eq!(slack["after"]["source_path"], "tools/slack");
    assert_eq!(slack["after"]["object"].as_str().unwrap().len(), 40);
    assert_ne!(json["before"], json["after"]);
    assert_eq!(json["sources"].as_array().unwrap().len(), 1);
    assert_eq!(json["sources"][0]["before"]["ref"], "main");
    assert_eq!(json["sources"][0]["after"]["ref"], "next");
}

#[test]
fn another_file_is_compared_whatever_the_order_of_its_sources() {
    let sandbox = Sandbox::new();
    two_sources(&sandbox);
    let other = |sources: &str| {
        let text = fs::read_to_string(sandbox.path("overlays.yaml")).unwrap();
        sandbox.configure(sources, "");
        fs::rename(sandbox.path("overlays.yaml"), sandbox.path("other.yaml")).unwrap();
        fs::write(sandbox.path("overlays.yaml"), text).unwrap();
        changes(&sandbox, &["--to", "other.yaml"])
    };
    assert_eq!(
        other("    - {repo: acme/team, ref: main}\n    - repo: acme/base"),
        ["winner .agents/skills/review acme/team acme/base"]
    );
    assert_eq!(
        other("    - repo: acme/base\n    - {repo: acme/team, ref: refs/heads/main}").len(),
        0
    );
    assert_eq!(
        other("    - {repo: acme/team, ref: main}"),
        [
            "vanishes .agents/skills/plan acme/base -",
            "vanishes acme/base acme/base -",
            "vanishes tools/productivity/slack acme/base -",
        ]
    );
    // A new listing of a repository is another source; the old one stays what it was.
    assert_eq!(
        other(
            "    - repo: acme/base\n    - {repo: acme/team, ref: main}\n    - {repo: acme/team, ref: next}"
        ),
        [
            "appears .agents/skills/new - acme/team@next",
            "winner .agents/skills/review acme/team acme/team@next",
            "winner .agents/skills/same acme/team acme/team@next",
            "winner acme/team acme/team acme/team@next",
            "vanishes tools/productivity/slack acme/base -",
            "appears tools/slack - acme/team@next",
        ]
    );
    assert_eq!(
        other(
            "    - repo: acme/base\n    - {repo: acme/team, ref: main}\n    - {path: ./home, name: me/home}"
        ),
        ["appears me/home - me/home"]
    );
}

#[test]
fn failures_are_no_difference() {
    let sandbox = Sandbox::new();
    two_sources(&sandbox);
    for (arguments, part) in [
        (&[][..], "cure: name another configuration by `--to FILE`, or another ref by `--ref"),
        (&["-c", "overlays.yaml"], "cure: name another configuration"),
        (&["--to", "nowhere.yaml"], "nowhere.yaml"),
        (&["--to", "overlays.yaml", "--ref", "acme/team=next"], "cannot be used with"),
        (&["--ref", "acme/team=mian"], "cure: set `ref` (--ref) to one of: main, next"),
        (&["--ref", "acme/team=main~1"], "cure: give a branch"),
        (&["--ref", "acme/tean=main"], "did you mean `acme/team=REF`?"),
        (&["--ref", "acme/team"], "did you mean `acme/team=REF`?"),
    ] {
        let (status, text, said) = diff(&sandbox, arguments);
        assert_eq!((status, text.as_str()), (2, ""), "{arguments:?}: {said}");
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
    sandbox.configure("    - {path: ./home, name: me/home}", "");
    let (status, _, said) = diff(&sandbox, &["--ref", "me/home=main"]);
    assert!(status == 2 && said.contains("served live"), "{said}");
}
