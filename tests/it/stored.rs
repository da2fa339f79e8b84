//! Keeper and worker are killed, and systemd has kept the mount for the next ones.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crate::fixture::{Mount, Sandbox, can_take_over, has_program};

/// Who does what systemd does.
pub(crate) struct Manager {
    process: Child,
    asks: Option<ChildStdin>,
    says: BufReader<ChildStdout>,
}

impl Manager {
    pub(crate) fn start(sandbox: &Sandbox, arguments: &[&str]) -> Self {
        fs::write(sandbox.path("manager.py"), include_str!("manager.py")).unwrap();
        let mut command = sandbox.command("python3");
        command.args(["manager.py", env!("CARGO_BIN_EXE_overlayfs-mount")]);
        command.args(["mount", "-f", "--supervised", "--log", "log"]).args(arguments);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (asks, says) = (process.stdin.take(), BufReader::new(process.stdout.take().unwrap()));
        let mut manager = Self { process, asks, says };
        assert_eq!(manager.hear(), "ready");
        manager
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.says.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Kills all and starts it again.
    pub(crate) fn restart(&mut self) {
        self.asks.as_mut().unwrap().write_all(b"\n").unwrap();
        assert_eq!(self.hear(), "ready");
    }

    /// What is kept at the end.
    pub(crate) fn end(mut self) -> String {
        drop(self.asks.take());
        let kept = self.hear();
        assert!(self.process.wait().unwrap().success());
        kept
    }
}

#[test]
fn s95_what_systemd_keeps_survives_the_death_of_keeper_and_worker() {
    if !can_take_over() || !has_program("python3", "apt-get install python3") {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = sandbox.repo("acme/base");
    repo.skill("review", "review\n").skill("plan", "plan\n").commit();
    sandbox.configure("    - {repo: acme/base, ref: main}", "");
    let _guard = Mount::guard(&sandbox);
    let mut manager = Manager::start(&sandbox, &[]);
    let inodes = "cd $VIEW; find . | sort | xargs stat -c '%i %s %Y %a %n'";
    let before = sandbox.shell(inodes);
    let mount = sandbox.mounts();
    for _ in 0..3 {
        let script =
            "exec 3<$VIEW/.agents/skills/review/SKILL.md; cd $VIEW/.agents/skills/plan; echo held
             read line; cat <&3; ls; cat SKILL.md; cat ../review/SKILL.md";
        let mut reader = sandbox.command("sh");
        reader.args(["-euc", script]).env("VIEW", sandbox.view());
        let mut reader = reader.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(reader.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        sandbox.shell("echo 2 > /proc/sys/vm/drop_caches");
        manager.restart();
        reader.stdin.take().unwrap().write_all(b"on\n").unwrap();
        let is_served = reader.wait().unwrap().success();
        assert!(is_served, "{}", fs::read_to_string(sandbox.path("log")).unwrap());
        let rest: Vec<_> = said.lines().map(Result::unwrap).collect();
        assert_eq!(rest, ["review", "SKILL.md", "plan", "review"]);
        assert_eq!(sandbox.shell(inodes), before, "numbers, times, sizes");
        assert_eq!(sandbox.mounts(), mount, "it is the same mount");
    }
    // The view goes on following its sources.
    sandbox.existing("acme/base").skill("plan", "other\n").commit();
    sandbox.succeed(&["reload", "view"]);
    assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/plan/SKILL.md"), "other\n");
    // What is kept of a mount that somebody has taken away is not gone on with.
    sandbox.shell("umount -l $VIEW");
    manager.restart();
    assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/plan/SKILL.md"), "other\n");
    assert_eq!(sandbox.mounts().len(), 1);
    assert_eq!(manager.end(), "", "nothing is kept of what was unmounted");
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
}
