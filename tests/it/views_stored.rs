//! All processes of a daemon of many views are killed, and systemd has kept the mounts for the next ones.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use crate::fixture::{Mount, can_take_over, has_program, wait_for};
use crate::stored::Manager;
use crate::views::{is_there, sandbox, view};
use crate::views_keeper::VIEWS;

#[test]
fn s139_what_systemd_keeps_of_many_views_survives_the_death_of_all_processes() {
    if !can_take_over() || !has_program("python3", "apt-get install python3") {
        return;
    }
    let _emptying = crate::fixture::empties_caches();
    let sandbox = sandbox();
    // The first two share a superblock.
    view(&sandbox, "one", &["base"], "");
    view(&sandbox, "two", &["base", "team"], "");
    view(&sandbox, "told", &["base"], "mount: {at: ../at/told, xattrs: true}\n");
    let _guard = Mount::guard(&sandbox);
    let mut manager = Manager::start(&sandbox, &["--views", "views"]);
    let inodes = "find . | sort | xargs stat -c '%d %i %s %Y %a %n'";
    let see = |name: &str| sandbox.shell(&format!("cd at/{name}; {inodes}"));
    let (before, mounts) = (VIEWS.map(see), sandbox.mounts());
    let log = || fs::read_to_string(sandbox.path("log")).unwrap();
    for round in 0..3 {
        let script =
            "exec 3<at/two/.agents/skills/review/SKILL.md 4<at/told/.agents/skills/review/SKILL.md
             cd at/one/.agents/skills/only-base; echo held; read line
             cat <&3; cat <&4; ls; cat ../review/SKILL.md";
        let mut reader = sandbox.command("sh");
        let reader = reader.args(["-euc", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut reader = reader.spawn().unwrap();
        let mut said = BufReader::new(reader.stdout.take().unwrap()).lines();
        assert_eq!(said.next().unwrap().unwrap(), "held");
        manager.restart();
        reader.stdin.take().unwrap().write_all(b"on\n").unwrap();
        assert!(reader.wait().unwrap().success(), "{}", log());
        let rest: Vec<_> = said.map(Result::unwrap).collect();
        assert_eq!(rest, ["team", "base", "SKILL.md", "base"], "in round {round}");
        assert_eq!(VIEWS.map(see), before, "devices, numbers, times, sizes: {}", log());
        assert_eq!(sandbox.mounts(), mounts, "they are the same mounts");
    }
    assert!(!log().contains("mounted anew") && !log().contains("detached"), "{}", log());
    // Views follow what moves, come and go, also those that the last process has bound.
    sandbox.existing("acme/team").skill("review", "newer\n").commit();
    sandbox.succeed(&["reload", "at/two"]);
    assert_eq!(sandbox.shell("cat at/two/.agents/skills/review/SKILL.md"), "newer\n");
    view(&sandbox, "late", &["team"], "");
    wait_for("the new view", || is_there(&sandbox, "at/late/tools"));
    fs::remove_file(sandbox.path("views/told.yaml")).unwrap();
    // Its superblock goes with it.
    wait_for("its end", || sandbox.mounts().len() == 4);
    let left = sandbox.mounts();
    manager.restart();
    assert_eq!(sandbox.shell("cat at/late/.agents/skills/review/SKILL.md"), "newer\n");
    assert_eq!(sandbox.mounts(), left);
    assert_eq!(manager.end(), "", "nothing is kept of what was unmounted");
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
}
