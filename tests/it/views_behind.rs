//! Views that are shown and are not as their files say, until they can be.

use std::fs;

use crate::fixture::{can_mount, wait_for};
use crate::views::{error_of, is_there, put, sandbox, serve_with, two_alike, view};

#[test]
fn s93_a_view_whose_new_mount_point_another_has_moves_once_that_is_free() {
    if !can_mount() || !nix::unistd::geteuid().is_root() {
        return;
    }
    let sandbox = sandbox();
    view(&sandbox, "one", &["base"], "");
    view(&sandbox, "two", &["team"], "");
    let serving = serve_with(&sandbox, &[]);
    view(&sandbox, "one", &["base"], "mount: {at: ../at/two}\n");
    wait_for("the refusal", || error_of(&sandbox, "one.yaml").contains("is that of"));
    assert!(is_there(&sandbox, "at/one/.agents/skills/only-base"));
    fs::remove_file(sandbox.path("views/two.yaml")).unwrap();
    wait_for("the view at its new place", || {
        is_there(&sandbox, "at/two/.agents/skills/only-base") && !is_there(&sandbox, "at/one/tools")
    });
    assert_eq!(error_of(&sandbox, "one.yaml"), "");
    serving.end();
}

#[test]
fn s64_what_a_view_of_many_could_not_follow_is_no_error_once_it_has() {
    if !can_mount() || !nix::unistd::geteuid().is_root() {
        return;
    }
    let sandbox = sandbox();
    view(&sandbox, "one", &["base"], "");
    let serving = serve_with(&sandbox, &[]);
    let text = fs::read_to_string(sandbox.path("views/one.yaml")).unwrap();
    let text = text.replace("{repo: acme/base}", "{repo: acme/base, ref: later}");
    put(&sandbox, "one", &text);
    wait_for("the failure", || error_of(&sandbox, "one.yaml").contains("`later`"));
    let repo = sandbox.existing("acme/base");
    repo.git(&["checkout", "-q", "-b", "later"]);
    repo.skill("later", "later\n").commit();
    wait_for("the ref", || is_there(&sandbox, "at/one/.agents/skills/later"));
    wait_for("no error", || error_of(&sandbox, "one.yaml").is_empty());
    serving.end();
}

#[test]
fn s118_views_of_a_connection_that_was_aborted_are_all_there_again_at_once() {
    if !can_mount() || !nix::unistd::geteuid().is_root() {
        return;
    }
    let sandbox = two_alike();
    let serving = serve_with(&sandbox, &[]);
    let inside = sandbox.mounts().into_iter().find(|line| line.contains(".views/1 ")).unwrap();
    let connection = inside.split(' ').nth(2).unwrap().trim_start_matches("0:");
    sandbox.shell(&format!(
        "unshare -m sh -c 'mount -t fusectl none /sys/fs/fuse/connections
         echo 1 > /sys/fs/fuse/connections/{connection}/abort'"
    ));
    for name in ["one", "two"] {
        wait_for("the view again", || is_there(&sandbox, &format!("at/{name}/tools")));
    }
    let log = fs::read_to_string(sandbox.path("log")).unwrap();
    assert!(!log.contains("cannot be shown"), "{log}");
    serving.end();
}
