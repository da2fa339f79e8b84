//! Who holds a view that was removed, and the worker that comes after.

use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;

use crate::fixture::{Sandbox, can_mount, can_take_over, wait_for};
use crate::views::{is_there, put, sandbox, serve_with, two_alike, view};
use crate::views_keeper::replace;

/// Says that it stands in the view, waits for a line, and reads what it has open and what it has not.
const HOLDER: &str = "exec 3<review/SKILL.md; echo stands; read line
    ls only-base/.. > /dev/null && cat only-base/SKILL.md; cat <&3";

#[test]
fn s120_who_holds_a_removed_view_keeps_its_open_files_and_gets_estale_for_all_else() {
    if !can_take_over() {
        return;
    }
    let _emptying = crate::fixture::empties_caches();
    let sandbox = two_alike();
    let mount = serve_with(&sandbox, &["--supervised"]);
    for dies in [false, true] {
        let name = if dies { "two" } else { "one" };
        let mut holder = sandbox.command("sh");
        holder.args(["-c", HOLDER]).current_dir(sandbox.path(format!("at/{name}/.agents/skills")));
        let piped = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut holder = piped.spawn().unwrap();
        holder.stdout.as_mut().unwrap().read_exact(&mut [0; b"stands\n".len()]).unwrap();
        fs::remove_file(sandbox.path(format!("views/{name}.yaml"))).unwrap();
        wait_for("the end of the view", || !is_there(&sandbox, &format!("at/{name}/tools")));
        if dies {
            replace(&sandbox);
        } else {
            view(&sandbox, name, &["base"], "");
            wait_for("the view again", || is_there(&sandbox, &format!("at/{name}/tools")));
        }
        writeln!(holder.stdin.take().unwrap()).unwrap();
        let output = holder.wait_with_output().unwrap();
        let (said, errors) = (output.stdout, String::from_utf8(output.stderr).unwrap());
        if dies {
            assert_eq!(said, b"base\n", "{errors}");
            assert!(errors.contains("Stale file handle"), "{errors}");
        } else {
            assert_eq!((said, errors.as_str()), (b"xbase\n".to_vec(), ""));
        }
    }
    mount.end();
}

/// Puts a state directory of its own into the configuration of a view.
fn with_state(sandbox: &Sandbox, name: &str, state: &str) {
    let text = fs::read_to_string(sandbox.path(format!("views/{name}.yaml"))).unwrap();
    assert!(text.contains("dir: ../state"), "{text}");
    put(sandbox, name, &text.replace("dir: ../state", &format!("dir: ../{state}")));
}

/// Whether the sources of a view are pinned.
fn is_pinned(sandbox: &Sandbox, at: &str) -> bool {
    let status = sandbox.succeed(&["status", at, "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let sources = status["sources"].as_array().unwrap();
    sources.iter().all(|source| source["pinned"] == true)
}

#[test]
fn s67_what_a_view_that_comes_later_finds_of_an_earlier_daemon_is_in_no_way() {
    if !can_mount() {
        return;
    }
    let sandbox = sandbox();
    view(&sandbox, "one", &["base"], "");
    view(&sandbox, "two", &["team"], "");
    with_state(&sandbox, "one", "other");
    serve_with(&sandbox, &[]).end();
    sandbox.shell("mv views/one.yaml views/one");
    let serving = serve_with(&sandbox, &[]);
    sandbox.shell("mv views/one views/one.yaml");
    wait_for("the view", || is_there(&sandbox, "at/one/.agents"));
    wait_for("its pins", || is_pinned(&sandbox, "at/one"));
    let log = fs::read_to_string(sandbox.path("log")).unwrap();
    assert!(!log.contains("not pinned"), "{log}");
    serving.end();
}

#[test]
fn a_state_directory_that_no_view_has_any_more_is_let_go() {
    if !can_mount() {
        return;
    }
    let sandbox = sandbox();
    view(&sandbox, "one", &["base"], "");
    view(&sandbox, "two", &["team"], "");
    let serving = serve_with(&sandbox, &[]);
    let used = |state: &str| {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", serving.pid)).unwrap();
        let mut open = descriptors.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        open.any(|path| path.starts_with(sandbox.path(state)))
    };
    for (before, next) in [("state", "a"), ("a", "b"), ("b", "a")] {
        fs::remove_file(sandbox.path("views/one.yaml")).unwrap();
        wait_for("the end of the view", || !is_there(&sandbox, "at/one/.agents"));
        wait_for("the end of its directory", || before == "state" || !used(before));
        let text = fs::read_to_string(sandbox.path("views/two.yaml")).unwrap();
        let text = text.replace("../state", &format!("../{next}")).replace("two", "one");
        put(&sandbox, "one", &text);
        wait_for("its pins", || {
            is_there(&sandbox, "at/one/.agents") && is_pinned(&sandbox, "at/one")
        });
        assert!(used("state") && used(next), "of both views");
    }
    serving.end();
}
