//! Places that are apart: a mount point or an export, and what is shown there.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::fixture::{Sandbox, can_mount};

const LIVE: &str = "    - {path: mine, name: me/mine}";

fn with_skill(sandbox: &Sandbox) {
    sandbox
        .shell("mkdir -p mine/.agents/skills/own && echo own > mine/.agents/skills/own/SKILL.md");
}

#[test]
fn s146_an_export_is_not_written_into_or_over_a_source() {
    let sandbox = Sandbox::new();
    with_skill(&sandbox);
    sandbox.configure(LIVE, "");
    for directory in ["mine/out", "mine/.agents/skills/out"] {
        let said = sandbox.fail(2, &["export", directory]);
        assert!(said.contains("lies inside source `me/mine`") && said.contains("cure: "), "{said}");
    }
    assert_eq!(sandbox.shell("find mine | wc -l").trim(), "5");
    // What an earlier export left is replaced, but not with a source that was put there since.
    sandbox.succeed(&["export", "out"]);
    sandbox.shell("cp -r mine out/mine");
    sandbox.configure("    - {path: out/mine, name: me/mine}", "");
    let said = sandbox.fail(2, &["export", "out"]);
    assert!(said.contains("holds source `me/mine`") && said.contains("cure: "), "{said}");
    assert!(sandbox.path("out/mine/.agents").exists());
}

#[test]
fn s146_a_directory_that_took_the_number_of_an_export_is_left_alone() {
    let sandbox = Sandbox::new();
    with_skill(&sandbox);
    sandbox.configure(LIVE, "");
    sandbox.succeed(&["export", "out"]);
    sandbox.succeed(&["export", "out"]);
    let number = fs::metadata(sandbox.path("out")).unwrap().ino();
    fs::remove_dir_all(sandbox.path("out")).unwrap();
    let made = (0..200).map(|index| sandbox.path(format!("made-{index}")));
    let same = made.into_iter().find(|path| {
        fs::create_dir(path).unwrap();
        fs::metadata(path).unwrap().ino() == number
    });
    let Some(same) = same else {
        eprintln!("SKIPPED: this file system gives out no inode number again");
        return;
    };
    fs::rename(same, sandbox.path("out")).unwrap();
    fs::write(sandbox.path("out/precious"), "mine").unwrap();
    let said = sandbox.fail(1, &["export", "out"]);
    assert!(said.contains("was not written by an export"), "{said}");
    assert_eq!(fs::read_to_string(sandbox.path("out/precious")).unwrap(), "mine");
}

#[test]
fn s56_a_mount_point_stays_clear_of_sources_that_links_or_a_new_configuration_lead_to() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    with_skill(&sandbox);
    sandbox.shell("mkdir -p view/below; ln -s view/below link");
    // What is below the mount point cannot be found any more once that is covered.
    sandbox.configure("    - {path: link, name: me/link}", "");
    let said = sandbox.fail(2, &["mount"]);
    assert!(said.contains("covers source `me/link`") && said.contains("cure: "), "{said}");
    sandbox.configure(LIVE, "");
    let mount = sandbox.mount_with(&["elsewhere"]);
    for path in ["elsewhere/me/mine", "elsewhere", "."] {
        sandbox
            .configure(&format!("{LIVE}\n    - {{path: {path}, name: in/side}}"), "sources: true");
        let said = sandbox.fail(1, &["reload", "elsewhere"]);
        assert!(said.contains("source `in/side`") && said.contains("cure: "), "{path}: {said}");
    }
    let status = sandbox.succeed(&["status", "elsewhere"]);
    assert!(!status.contains("  in/side"), "{status}");
    sandbox.configure(LIVE, "");
    sandbox.succeed(&["reload", "elsewhere"]);
    // The daemon holds nothing of its own view.
    sandbox.succeed(&["unmount", "elsewhere"]);
    drop(mount);
}

#[test]
fn s64_another_mount_point_is_said_to_take_effect_with_the_next_mount() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    with_skill(&sandbox);
    sandbox.configure(LIVE, "");
    let mount = sandbox.mount();
    let configured = fs::read_to_string(sandbox.path("overlays.yaml")).unwrap();
    let moved = configured.replace("at: view", "at: elsewhere");
    fs::write(sandbox.path("overlays.yaml"), moved).unwrap();
    let reload = || {
        let output = sandbox.overlay(&["reload", "view"]).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let expected = "warning: `mount.at` takes effect with the next mount\n";
    assert_eq!((reload(), reload()), (expected.to_owned(), expected.to_owned()));
    fs::write(sandbox.path("overlays.yaml"), configured).unwrap();
    assert_eq!(reload(), "");
    mount.unmount();
}

#[test]
fn a_log_that_would_be_waited_for_is_refused() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    with_skill(&sandbox);
    sandbox.configure(LIVE, "");
    sandbox.shell("mkfifo fifo");
    let said = sandbox.fail(1, &["mount", "--log", "fifo"]);
    assert!(said.contains("`fifo`") && said.contains("cure: name another file"), "{said}");
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
}
