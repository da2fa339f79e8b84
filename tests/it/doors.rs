//! What users meet when something else has gone wrong: a daemon that was stopped, a disk that is full, a directory that is gone.

use std::process::Stdio;

use crate::fixture::{Sandbox, can_mount};
use crate::naming::signal;
use crate::views::{serve_with, view};

#[test]
fn s161_a_daemon_that_does_not_end_is_said_by_its_number_with_the_cure() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").skill("plan", "one\n").commit();
    sandbox.configure("    - {repo: acme/base, ref: main}", "");
    let mount = sandbox.mount();
    let pid = mount.pid();
    let many = crate::views::sandbox();
    view(&many, "one", &["base"], "");
    view(&many, "two", &["team"], "");
    let serving = serve_with(&many, &[]);
    let their = u32::try_from(serving.pid.as_raw()).unwrap();
    signal("-STOP", pid);
    signal("-STOP", their);
    let unmounting = [(&sandbox, "view"), (&many, "at/one")].map(|(sandbox, view)| {
        let mut command = sandbox.overlay(&["unmount", view]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    let [one, of_many] = unmounting.map(|child| {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        said
    });
    // What is to end need not be asked.
    many.succeed(&["unmount", "--lazy", "at/two"]);
    signal("-CONT", pid);
    signal("-CONT", their);
    let started = format!("`{}` is unmounted: process {pid} ", sandbox.view().display());
    assert!(one.contains(&started), "{one}");
    assert!(one.contains(&format!("cure: kill -CONT {pid}, if it was stopped")), "{one}");
    assert!(of_many.contains("at/one` is unmounted, and its daemon has not let go"), "{of_many}");
    assert!(of_many.contains(&format!("process {their} does not answer\n  cure: ")), "{of_many}");
    assert!(of_many.contains("ends its other views too"), "{of_many}");
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
    drop(mount);
    drop(serving);
}
