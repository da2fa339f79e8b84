//! A directory of a live source and a link out of it that are exchanged all the time under a mount.

use std::fs;

use crate::fixture::{Sandbox, can_mount, has_program, is_long};
use crate::users::as_ordinary_user;

/// The source: a skill whose directory `here` is exchanged with the link `there`. The link leads to the secret from where the source is, and
/// from the view nowhere: who follows it there finds nothing by himself.
const SOURCE: &str = "
    mkdir -p deep/source/.agents/skills/mine/here secret
    echo good >deep/source/.agents/skills/mine/here/file
    echo secret >secret/file; echo secret >secret/secret
    ln -s ../../../../../secret deep/source/.agents/skills/mine/there
    grep -q secret deep/source/.agents/skills/mine/there/file
    printf 'overlays: {sources: [{path: deep/source, name: me/mine}]}\\nstate: {dir: state}\\nmount: {at: view}\\n' >overlays.yaml
";

/// Reads by the surface and by the whole source.
const READS: &str = "deep/source/.agents/skills/mine view/.agents/skills/mine/here/file view/me/mine/.agents/skills/mine/here/file";

fn seconds() -> u32 {
    if is_long() { 300 } else { 3 }
}

/// Asserts on what `link_swapper.py` printed.
fn assert_none_leaked(said: &str) {
    let counts: Vec<u64> = said.split_whitespace().map(|word| word.parse().unwrap()).collect();
    let [swaps, good, errors, leaks, others] = counts[..] else { unreachable!("{said}") };
    eprintln!("{swaps} swaps, {good} good reads, {errors} errors, {leaks} leaks, {others} other");
    assert_eq!((leaks, others), (0, 0), "{said}");
    assert!(swaps > 1000 && good > 1000, "{said}");
}

#[test]
fn a_link_that_is_exchanged_all_the_time_leaks_nothing_to_root() {
    if !can_mount() || !has_program("python3", "apt-get install python3") {
        return;
    }
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("swap.py"), include_str!("link_swapper.py")).unwrap();
    sandbox.shell(SOURCE);
    let mount = sandbox.mount();
    assert_none_leaked(&sandbox.shell(&format!("python3 swap.py {} {READS}", seconds())));
    mount.unmount();
}

#[test]
fn a_link_that_is_exchanged_all_the_time_leaks_nothing_to_an_ordinary_user() {
    if !can_mount() || !has_program("python3", "apt-get install python3") {
        return;
    }
    let sandbox = Sandbox::new();
    let script = format!(
        "command -v fusermount3 >/dev/null || {{ echo 'SKIPPED: no fusermount3' >&2; exit 77; }}
         {SOURCE}
         ./overlayfs-mount mount
         cat >swap.py <<'END'\n{}\nEND
         $(command -v /usr/bin/python3 || command -v python3) swap.py {} {READS}
         ./overlayfs-mount unmount view",
        include_str!("link_swapper.py"),
        seconds()
    );
    let Some(output) = as_ordinary_user(&sandbox, &script) else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(77) {
        eprintln!("{said}");
        return;
    }
    assert!(output.status.success(), "{}: {said}", output.status);
    assert_none_leaked(&String::from_utf8_lossy(&output.stdout));
}
