//! Views whose mount points lie in one another.

use std::fs;

use crate::fixture::{Sandbox, can_mount, can_take_over, wait_for};
use crate::views::{is_there, sandbox, serve_with, view};

/// `outer`, which sorts after the views that lie in it and hides them: they are mounted first.
fn nested() -> Sandbox {
    let sandbox = sandbox();
    view(&sandbox, "deepest", &["base"], "mount: {at: ../at/outer/tools/deep/est}\n");
    view(&sandbox, "inner", &["base"], "mount: {at: ../at/outer/tools}\n");
    view(&sandbox, "outer", &["base"], "mount: {at: ../at/outer}\n");
    sandbox
}

fn is_mounted(sandbox: &Sandbox, name: &str) -> bool {
    sandbox.mounts().iter().any(|line| line.contains(&format!("/{name} ")))
}

#[test]
fn s131_views_that_another_hides_end_with_all_others() {
    if !can_mount() {
        return;
    }
    for supervised in [false, true] {
        if supervised && !can_take_over() {
            return;
        }
        let sandbox = nested();
        let mount = serve_with(&sandbox, if supervised { &["--supervised"] } else { &[] });
        assert!(is_mounted(&sandbox, "at/outer/tools"), "{:?}", sandbox.mounts());
        assert!(!is_there(&sandbox, "at/outer/tools/acme"), "it is hidden");
        mount.end();
        assert!(!sandbox.path("at/outer").exists(), "what was made for them goes with them");
    }
}

#[test]
fn s131_a_view_that_goes_while_another_hides_it_is_taken_away_after_that() {
    if !can_mount() {
        return;
    }
    let sandbox = nested();
    let mount = serve_with(&sandbox, &[]);
    fs::remove_file(sandbox.path("views/inner.yaml")).unwrap();
    view(&sandbox, "one", &["base"], "");
    wait_for("a look at the directory", || is_there(&sandbox, "at/one/tools"));
    fs::remove_file(sandbox.path("views/outer.yaml")).unwrap();
    wait_for("the end of both", || {
        !is_mounted(&sandbox, "at/outer") && !is_mounted(&sandbox, "at/outer/tools")
    });
    mount.end();
}
