//! What readers of live files get while the disk fails or the files change.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use crate::fatal::Traced;
use crate::fixture::{Sandbox, can_inject, wait_for};

/// So many looks at the disk fail in turn. A listing needs three: the directory, a name in it, the attributes of that.
const LOOKS: usize = 6;

#[test]
fn s33_a_listing_without_attributes_changes_nothing_that_is_known_of_a_file() {
    if !can_inject() {
        return;
    }
    let sandbox = Sandbox::new();
    for look in 1..=LOOKS {
        let skill = sandbox.path(format!("overlay/.agents/skills/{look}"));
        fs::create_dir_all(&skill).unwrap();
        fs::write(skill.join("SKILL.md"), "one\n").unwrap();
    }
    sandbox.configure("    - path: overlay\n      name: me/overlay", "");
    let mount = sandbox.mount();
    for look in 1..=LOOKS {
        // The size that the kernel has kept, without asking.
        let script = "cd $VIEW/.agents/skills/$LOOK; exec 3<SKILL.md; cat SKILL.md; read go
             ls -U >$OUT || true; stat -L --cached=always -c %s /proc/self/fd/3; read end";
        let mut reader = sandbox.command("sh");
        reader.args(["-euc", script]).env("VIEW", sandbox.view()).env("LOOK", look.to_string());
        reader.env("OUT", sandbox.path("out")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut reader = reader.spawn().unwrap();
        let mut asks = reader.stdin.take().unwrap();
        let mut said = BufReader::new(reader.stdout.take().unwrap()).lines();
        assert_eq!(said.next().unwrap().unwrap(), "one");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o"]).arg(sandbox.path("trace"));
        let inject = format!("inject=openat2:error=ENOENT:when={look}");
        strace.args(["-e", "trace=openat2", "-e", &inject, "-p", &mount.pid().to_string()]);
        let traced = Traced(strace.stderr(Stdio::null()).spawn().unwrap());
        let status = format!("/proc/{}/status", mount.pid());
        wait_for("strace", || !fs::read_to_string(&status).unwrap().contains("TracerPid:\t0\n"));
        asks.write_all(b"go\n").unwrap();
        assert_eq!(said.next().unwrap().unwrap(), "4", "look {look}");
        asks.write_all(b"end\n").unwrap();
        assert!(reader.wait().unwrap().success());
        drop(traced);
    }
    mount.unmount();
}
