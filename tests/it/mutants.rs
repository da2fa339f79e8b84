//! Valid repositories of which some bytes were changed: each is read through the program.

use std::fs;

use crate::fixture::{Sandbox, can_mount, has_program, is_long};

#[test]
fn mutants_of_repositories_give_their_own_bytes_or_errors() {
    if !can_mount() || !has_program("python3", "apt-get install python3") {
        return;
    }
    let (exports, mounts, seed) = if is_long() { (1000, 50, 1) } else { (40, 8, 2) };
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").write("good", "good\n").skill("good", "good\n").commit();
    let repo = sandbox.repo("../originals/loose");
    for skill in ["a", "b", "c"] {
        repo.skill(skill, &format!("{skill}\n").repeat(50))
            .link(&format!(".agents/skills/{skill}/l"), "SKILL.md");
    }
    repo.package("tools/t", "pass\n")
        .script("tools/t/run", "#!/bin/sh\n")
        .write("deep/er/file", "deep\n");
    repo.commit();
    repo.git(&["branch", "other"]);
    repo.git(&["tag", "-m", "tag", "v1"]);
    sandbox
        .shell("cp -r originals/loose originals/packed; cp -r originals/loose repos/acme/mutant");
    let packed = sandbox.existing("../originals/packed");
    packed.git(&["repack", "-adfq"]);
    packed.git(&["pack-refs", "--all"]);
    sandbox.configure("    - {repo: acme/mutant, required: false}\n    - repo: acme/base", "");
    fs::write(sandbox.path("mutants.py"), include_str!("mutants.py")).unwrap();
    let program = env!("CARGO_BIN_EXE_overlayfs-mount");
    let script =
        format!("python3 mutants.py {program} $PWD {exports} {mounts} {seed}; rm -rf view/x");
    eprintln!("{}", sandbox.shell(&script));
}
