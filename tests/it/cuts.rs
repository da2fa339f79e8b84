//! What is cut short: a configuration while it is written, and the power.

use std::fs;

use crate::faults::one_remote;
use crate::fixture::{Sandbox, can_mount, has_program, is_long};

#[test]
fn s101_what_sync_names_is_on_the_disk_before() {
    if !has_program("strace", "apt-get install strace") {
        return;
    }
    let sandbox = Sandbox::new();
    let remote = one_remote(&sandbox, "one\n", "");
    let program = env!("CARGO_BIN_EXE_overlayfs-mount");
    let trace = |name: &str| {
        sandbox.shell(&format!(
            "strace -f -y -s 400 -o {name} -e trace=/fsync,fdatasync,syncfs,/rename.* {program} sync --once"
        ));
        let text = fs::read_to_string(sandbox.path(name)).unwrap();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let at = |lines: &[String], words: &[&str]| {
        let found = lines.iter().position(|line| words.iter().all(|word| line.contains(word)));
        found.unwrap_or_else(|| unreachable!("{words:?} in {}", lines.join("\n")))
    };
    let cloning = trace("cloning");
    let named = at(&cloning, &["rename", ".base.git.cloning\"", "base.git\""]);
    assert!(at(&cloning, &["syncfs", ".base.git.cloning>"]) < named);
    let is_on_disk = at(&cloning, &["syncfs", "/base.git>"]);
    let written = at(&cloning, &["fsync", ".repo-cache-ready.tmp>"]);
    let ready = at(&cloning, &["rename", ".repo-cache-ready\""]);
    assert!(named < is_on_disk && is_on_disk < written && written < ready);
    assert!(ready < at(&cloning, &["fsync", "/repos>"]));
    // A ref that moves.
    remote.skill("review", "two\n").commit();
    let fetching = trace("fetching");
    let moved = at(&fetching, &["rename", "refs/heads/main.lock\""]);
    assert!(at(&fetching, &["fsync", "refs/heads/main.lock>"]) < moved);
    assert!(moved < at(&fetching, &["rename", ".repo-cache-ready\""]));
}

#[test]
fn s117_a_loss_of_power_between_any_two_writes_of_sync_leaves_the_old_or_the_new() {
    if !has_program("strace", "apt-get install strace")
        || !has_program("python3", "apt-get install python3")
    {
        return;
    }
    let sandbox = Sandbox::new();
    one_remote(&sandbox, "0\n", "");
    for (name, script) in [
        ("sync_remote.py", include_str!("sync_remote.py")),
        ("sync_power.py", include_str!("sync_power.py")),
    ] {
        fs::write(sandbox.path(name), script).unwrap();
    }
    let program = env!("CARGO_BIN_EXE_overlayfs-mount");
    let every = if is_long() { "1" } else { "9" };
    let mut command = sandbox.command("timeout");
    command.args(["-s", "KILL", "3600", "python3", "sync_power.py", program, every]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    eprintln!("{said}");
}

#[test]
fn s102_a_configuration_cut_at_every_byte_keeps_or_follows() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").skill("base", "one\n").commit();
    sandbox.repo("acme/top").skill("top", "one\n").commit();
    sandbox.configure("    - repo: acme/base\n    - repo: acme/top", "");
    let whole = fs::read(sandbox.path("overlays.yaml")).unwrap();
    let mount = sandbox.mount();
    let skills = || sandbox.shell("ls $VIEW/.agents/skills");
    let mut before = skills();
    assert_eq!(before, "base\ntop\n");
    let (mut kept, mut followed) = (0, 0);
    let step = if is_long() { 1 } else { 3 };
    for end in (0..whole.len()).step_by(step) {
        fs::write(sandbox.path("overlays.yaml"), &whole[..end]).unwrap();
        let output = sandbox.overlay(&["reload", "view"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let now = skills();
        if output.status.success() {
            followed += 1;
        } else {
            kept += 1;
            assert!(said.contains("overlays.yaml") && said.contains("cure: "), "{end}: {said}");
            assert_eq!(now, before, "{end}: {said}");
        }
        before = now;
    }
    fs::write(sandbox.path("overlays.yaml"), &whole).unwrap();
    sandbox.succeed(&["reload", "view"]);
    assert_eq!(skills(), "base\ntop\n");
    eprintln!("of {} lengths {kept} kept the view, {followed} were followed", whole.len());
    mount.unmount();
}
