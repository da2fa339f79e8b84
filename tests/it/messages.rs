//! What commands say of what is not as it should be, and what follows from it by itself.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fixture::{Mount, Sandbox, can_mount, wait_for};

/// One repository with a skill, mounted.
fn sample(sandbox: &Sandbox) -> Mount<'_> {
    sandbox.repo("acme/base").skill("plan", "one\n").commit();
    sandbox.configure("    - {repo: acme/base, ref: main}", "");
    sandbox.mount()
}

fn plan(sandbox: &Sandbox) -> String {
    sandbox.shell("cat $VIEW/.agents/skills/plan/SKILL.md")
}

/// What a command writes to standard error, whatever becomes of it.
fn said(sandbox: &Sandbox, arguments: &[&str]) -> String {
    let output = sandbox.overlay(arguments).output().unwrap();
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn status_names_a_view_whose_daemon_was_killed_beside_those_that_are_well() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let mount = sample(&sandbox);
    let pid = mount.pid();
    sandbox.succeed(&["mount", "other"]);
    sandbox.succeed(&["status", "--check"]);
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
    wait_for("its end", || said(&sandbox, &["status", "view"]).contains("no daemon answers"));
    let said = sandbox.fail(1, &["status", "--check"]);
    let view = sandbox.view();
    assert!(
        said.contains(&format!("`{}` is mounted, and nobody answers", view.display())),
        "{said}"
    );
    assert!(said.contains("cure: ") && !said.contains("other"), "{said}");
    sandbox.succeed(&["unmount", "other"]);
    mount.unmount();
}

#[test]
fn a_path_inside_a_view_is_told_from_its_mount_point() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let mount = sample(&sandbox);
    let said = sandbox.fail(1, &["reload", "view/tools"]);
    assert!(said.contains("it lies in the view on") && said.contains("cure: name the"), "{said}");
    mount.unmount();
}

#[test]
fn a_configuration_that_is_not_followed_is_in_status_and_followed_when_it_can_be() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let mount = sample(&sandbox);
    let repo = sandbox.existing("acme/base");
    let file = sandbox.path("overlays.yaml");
    let good = sandbox.edit(|text| format!("{text}acess: all\n"));
    sandbox.fail(1, &["reload", "view"]);
    let shown = sandbox.status();
    assert_eq!(shown["state"], "degraded", "{shown}");
    assert!(shown["error"].as_str().unwrap().contains("acess"), "{shown}");
    fs::write(&file, &good).unwrap();
    sandbox.succeed(&["reload", "view"]);
    assert_eq!(sandbox.status()["state"], "ready");
    // A ref that is not there yet; meanwhile what is shown goes on moving.
    fs::write(&file, good.replace("ref: main", "ref: next")).unwrap();
    let said = sandbox.fail(1, &["reload", "view"]);
    assert!(said.contains("\n  cure: set `ref`"), "{said}");
    assert!(sandbox.status()["error"].as_str().unwrap().contains("next"));
    repo.skill("plan", "two\n").commit();
    wait_for("what moved", || plan(&sandbox) == "two\n");
    assert_eq!(sandbox.status()["state"], "degraded");
    repo.skill("plan", "three\n").commit();
    repo.git(&["branch", "next"]);
    repo.git(&["update-ref", "refs/heads/main", "HEAD~1"]);
    wait_for("the ref that is there now", || sandbox.status()["sources"][0]["ref"] == "next");
    assert_eq!(plan(&sandbox), "three\n");
    assert_eq!(sandbox.status()["state"], "ready");
    mount.unmount();
}

#[test]
fn a_source_that_was_broken_at_the_start_is_shown_when_it_can_be_read() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = sandbox.repo("acme/base");
    repo.skill("plan", "one\n").commit();
    let tree = repo.git(&["rev-parse", "HEAD^{tree}"]);
    let (fan, name) = tree.trim().split_at(2);
    let object = sandbox.path(format!("repos/acme/base/.git/objects/{fan}/{name}"));
    fs::rename(&object, sandbox.path("object")).unwrap();
    sandbox.configure("    - {repo: acme/base, ref: main, required: false}", "");
    let mount = sandbox.mount();
    assert_eq!(sandbox.status()["sources"][0]["state"], "broken");
    fs::rename(sandbox.path("object"), &object).unwrap();
    wait_for("the source", || sandbox.status()["sources"][0]["state"] == "ready");
    assert_eq!(plan(&sandbox), "one\n");
    mount.unmount();
}

#[test]
fn reload_says_what_could_not_be_fetched_and_status_since_when() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repo("../remotes/base").skill("plan", "one\n").commit();
    let url = format!("file://{}", sandbox.path("remotes/base").display());
    sandbox.configure(&format!("    - {{repo: acme/base, ref: main, url: \"{url}\"}}"), "");
    let mount = sandbox.mount_with(&["--sync"]);
    fs::rename(sandbox.path("remotes/base"), sandbox.path("away")).unwrap();
    let said = said(&sandbox, &["reload", "view"]);
    assert!(said.contains("warning: source `acme/base` could not be fetched"), "{said}");
    let since = sandbox.status()["sources"][0]["since"].as_str().unwrap().to_owned();
    let text = sandbox.succeed(&["status", "view"]);
    assert!(text.contains(&format!("since {since}: there is no repository")), "{text}");
    mount.unmount();
}

#[test]
fn s50_what_is_wrong_with_a_repo_cache_is_said_of_each_source_of_one_name() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let remote = sandbox.repo("../remotes/base");
    remote.skill("plan", "one\n").commit();
    remote.git(&["branch", "next"]);
    let url = format!("file://{}", sandbox.path("remotes/base").display());
    let source =
        |git_ref: &str| format!("    - {{repo: acme/base, ref: {git_ref}, url: \"{url}\"}}");
    sandbox.configure(&[source("main"), source("next")].join("\n"), "");
    let mount = sandbox.mount_with(&["--sync"]);
    // Nobody can take hold of the cache.
    let lock = "repos/.overlayfs-mount-sync.lock";
    sandbox.shell(&format!("rm -f {lock} && mkdir {lock}"));
    let said = said(&sandbox, &["reload", "view"]);
    let sources = sandbox.status()["sources"].clone();
    for (position, label) in ["acme/base@main", "acme/base@next"].into_iter().enumerate() {
        let warning = format!("warning: source `{label}` could not be fetched: the repo cache: ");
        assert!(said.contains(&warning), "{said}");
        assert_eq!(sources[position]["label"], label);
        assert_eq!(sources[position]["state"], "stale", "{sources}");
    }
    mount.unmount();
}

#[test]
fn explain_knows_what_the_view_tells_about_itself() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let mount = sample(&sandbox);
    for path in ["view/.overlay", "view/.overlay/status.json", ".overlay/revisions"] {
        let text = sandbox.succeed(&["explain", path]);
        assert!(text.contains("is part of `.overlay`"), "{path}: {text}");
    }
    let id = sandbox.shell("cat $VIEW/.overlay/revision");
    for place in [format!("revisions/{}", id.trim()), "current".to_owned()] {
        let path = format!("view/.overlay/{place}/.agents/skills/plan");
        let text = sandbox.succeed(&["explain", &path]);
        assert!(text.contains("comes from acme/base") && text.contains(&place), "{text}");
    }
    let text = sandbox.succeed(&["explain", "view/.overlay/nothing"]);
    assert!(text.contains("shows nothing") && text.contains("`status.json`"), "{text}");
    mount.unmount();
}

#[test]
fn an_option_that_leaves_a_view_without_sources_is_warned_of() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").skill("plan", "one\n").commit();
    sandbox.configure("    - {repo: acme/base, ref: main}", "");
    let mounting = |access: &str| {
        let guard = sandbox.guard();
        let said = said(&sandbox, &["mount", "-o", access]);
        guard.unmount();
        said
    };
    let text = mounting("access=public");
    assert!(text.contains("all are private\n  cure: set `visibility: public`"), "{text}");
    // What the option overrules is not so.
    sandbox.edit(|text| format!("{text}access: none\n"));
    let text = mounting("access=all");
    assert_eq!(text, "");
    let text = mounting("access=none");
    assert_eq!(text.matches("warning").count(), 1, "{text}");
    assert!(text.contains("`-o access`: `none` shows no source\n  cure: leave it out"), "{text}");
    let text = said(&sandbox, &["exec", "-o", "access=all", "--", "true"]);
    assert_eq!(text, "");
}

#[test]
fn a_log_variable_that_cannot_be_read_is_said_with_its_cure() {
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").skill("plan", "one\n").commit();
    sandbox.configure("    - {repo: acme/base, ref: main}", "");
    for (value, why) in [("foo=bar=baz", "foo=bar=baz"), ("info,loud", "`loud` is no level")] {
        for arguments in
            [&["mount"][..], &["exec", "--", "true"], &["sync", "--log-format=text", "--once"]]
        {
            let mut command = sandbox.overlay(arguments);
            let output = command.env("OVERLAYFS_MOUNT_LOG", value).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            let status = if arguments[0] == "exec" { 125 } else { 2 };
            assert_eq!(output.status.code(), Some(status), "{value}: {said}");
            assert!(
                said.starts_with("error: OVERLAYFS_MOUNT_LOG=") && said.contains(why),
                "{said}"
            );
            assert!(said.contains("cure: set a level"), "{said}");
        }
    }
}

#[test]
fn sync_says_that_there_is_nothing_to_fetch() {
    let sandbox = Sandbox::new();
    sandbox.shell("mkdir mine");
    sandbox.configure("    - {path: mine, name: me/mine}", "");
    let text = "nothing to fetch: no source that is shown has a `repo`";
    assert_eq!(said(&sandbox, &["sync", "--once"]), format!("{text}\n"));
    let logged = said(&sandbox, &["sync", "--once", "--log-format", "text"]);
    assert!(logged.contains(" INFO ") && logged.contains(text), "{logged}");
    sandbox.succeed(&["sync", "--once"]);
}

#[test]
fn what_export_cannot_read_or_write_is_said_with_its_place_and_cure() {
    let sandbox = Sandbox::new();
    let repo = sandbox.repo("acme/base");
    repo.skill("plan", "one\n").commit();
    let blob = repo.git(&["rev-parse", "HEAD:.agents/skills/plan/SKILL.md"]);
    let (fan, name) = blob.trim().split_at(2);
    fs::remove_file(sandbox.path(format!("repos/acme/base/.git/objects/{fan}/{name}"))).unwrap();
    sandbox.configure("    - {repo: acme/base, ref: main}", "");
    let said = sandbox.fail(1, &["export", "out"]);
    assert!(
        said.starts_with("error: source `acme/base`: `.agents/skills/plan/SKILL.md`"),
        "{said}"
    );
    assert!(said.contains("cure: run `git fsck`"), "{said}");
    let said = sandbox.fail(1, &["export", "/proc/out"]);
    assert!(said.contains("cure: name a directory whose parent is writable"), "{said}");
}

#[test]
fn a_command_that_cannot_be_run_is_said_with_its_cure() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").skill("plan", "one\n").commit();
    sandbox.configure("    - {repo: acme/base, ref: main}", "");
    let said = sandbox.fail(127, &["exec", "--", "no-such-program"]);
    assert!(said.contains("cure: install `no-such-program`"), "{said}");
    let said = sandbox.fail(126, &["exec", "--", "./overlays.yaml"]);
    assert!(said.contains("cure: chmod +x './overlays.yaml'"), "{said}");
}

#[test]
fn a_ref_that_leads_to_no_commit_is_said_to_and_not_proposed() {
    let sandbox = Sandbox::new();
    let repo = sandbox.repo("acme/base");
    let commit = repo.skill("plan", "one\n").commit();
    repo.git(&["tag", "tree", "HEAD^{tree}"]);
    repo.git(&["tag", "--annotate", "--message=x", "noted"]);
    repo.git(&["symbolic-ref", "refs/heads/dangling", "refs/heads/none"]);
    let (tree, noted) = (repo.git(&["rev-parse", "tree"]), repo.git(&["rev-parse", "noted"]));
    for (git_ref, what) in [("tree", "tree"), (tree.trim(), "tree"), (noted.trim(), "tag")] {
        sandbox.configure(&format!("    - {{repo: acme/base, ref: {git_ref}}}"), "");
        let said = sandbox.fail(1, &["check"]);
        assert!(said.contains(&format!(" is a {what}, not a commit")), "{said}");
        assert!(said.contains("cure: set `ref` (overlays.yaml:3) to one that leads"), "{said}");
        assert!(said.contains("noted") && !said.contains("fsck"), "{said}");
    }
    sandbox.configure("    - {repo: acme/base, ref: dangling}", "");
    let said = sandbox.fail(1, &["check"]);
    let (_, cure) = said.split_once("cure: ").unwrap();
    assert!(cure.contains("main") && !cure.contains("dangling"), "{said}");
    sandbox.configure(&format!("    - {{repo: acme/base, ref: {commit}}}"), "");
    sandbox.succeed(&["check"]);
}

#[test]
fn what_cannot_be_done_with_these_arguments_is_said_with_its_cure() {
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").skill("plan", "one\n").commit();
    sandbox.configure("    - {repo: acme/base, ref: main}", "");
    let said =
        sandbox.fail(2, &["wait", "-c", "overlays.yaml", "--revision", "01234567", "--timeout=0"]);
    assert!(said.contains("--revision"), "{said}");
    for views in ["none", "overlays.yaml"] {
        let said = sandbox.fail(2, &["mount", "--views", views]);
        assert!(said.contains(views) && said.contains("cure: name a directory"), "{said}");
    }
    if !can_mount() {
        return;
    }
    let said = sandbox.fail(1, &["pass", "--socket", "none/socket", "view"]);
    assert!(said.contains("none/socket") && said.contains("cure: name a socket"), "{said}");
}
