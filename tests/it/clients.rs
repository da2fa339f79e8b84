//! Programs that nobody here wrote read the view right.

use std::fs;

use crate::fixture::{Sandbox, can_mount, has_program};

/// Two sources with packages, skills, links and something to execute.
fn sources(sandbox: &Sandbox) {
    let base = sandbox.repo("acme/base");
    base.write("tools/greeting/pyproject.toml", "[project]\nname = \"greeting\"\n");
    base.write("tools/greeting/__init__.py", "from .words import WORD\n");
    base.write("tools/greeting/words.py", "WORD = 'base'\n");
    base.write("tools/node/index.js", "module.exports = require('./word').toUpperCase();\n");
    base.write("tools/node/word.js", "module.exports = 'node';\n");
    base.skill("review", "needle\n").script("tools/bin/run.sh", "#!/bin/sh\necho \"ran $1\"\n");
    base.link("workflows/link", "../.agents/skills/review/SKILL.md");
    base.write("workflows/big", vec![7_u8; 2_500_000]).commit();
    let team = sandbox.repo("acme/team");
    team.write("tools/x/greeting/pyproject.toml", "[project]\nname = \"greeting\"\n");
    team.write("tools/x/greeting/__init__.py", "WORD = 'team'\n").commit();
    sandbox.configure("    - repo: acme/base\n    - repo: acme/team", "");
}

macro_rules! client {
    ($name:ident, [$($program:literal: $package:literal),*], $script:expr) => {
        #[test]
        fn $name() {
            if !can_mount() $(|| !has_program($program, concat!("apt-get install ", $package)))* {
                return;
            }
            let sandbox = Sandbox::new();
            sources(&sandbox);
            let mount = sandbox.mount();
            sandbox.shell($script);
            mount.unmount();
        }
    };
}

client!(
    tar_copies_the_view,
    ["tar": "tar"],
    "mkdir copy; tar -C $VIEW -c . | tar -C copy -x; diff -r --no-dereference copy $VIEW"
);
client!(
    rsync_copies_the_view_and_finds_nothing_to_do_the_second_time,
    ["rsync": "rsync"],
    "rsync -a $VIEW/ copy/; diff -r --no-dereference copy $VIEW; test -z \"$(rsync -ai $VIEW/ copy/)\""
);
client!(
    cp_copies_the_view_with_times_and_modes,
    [],
    "cp -a $VIEW copy; diff -r --no-dereference copy $VIEW
     (cd copy; find . -printf '%P %m %T@ %y %l\\n' | sort) > copied
     (cd $VIEW; find . -printf '%P %m %T@ %y %l\\n' | sort) > seen; cmp copied seen"
);
client!(
    ripgrep_searches_the_view,
    ["rg": "ripgrep"],
    "test \"$(cd $VIEW; rg --hidden --no-ignore -l needle | sort)\" = '.agents/skills/review/SKILL.md
acme/base/.agents/skills/review/SKILL.md'"
);
client!(
    git_greps_and_clones_from_the_view,
    ["git": "git"],
    "cd $VIEW; test \"$(git grep --no-index -l needle .agents)\" = .agents/skills/review/SKILL.md
     cd ..; git init --quiet fresh; cp -r $VIEW/tools fresh/; git -C fresh add -A
     git -C fresh commit --quiet -m copied; git clone --quiet fresh cloned; diff -r cloned/tools $VIEW/tools"
);
client!(
    python_imports_packages_with_and_without_its_cache,
    ["python3": "python3"],
    "cd $VIEW/tools; for i in 1 2; do
       test \"$(PYTHONPYCACHEPREFIX=$HOME/cache python3 -c 'import sys; sys.path.insert(0, \"x\"); import greeting; print(greeting.WORD)')\" = team
       test \"$(python3 -B -c 'import sys; sys.path.insert(0, \"../acme/base/tools\"); import greeting; print(greeting.WORD)')\" = base
     done"
);
client!(
    node_requires_modules,
    ["node": "nodejs"],
    "test \"$(node -e 'console.log(require(process.env.VIEW + \"/tools/node\"))')\" = NODE"
);
client!(
    scripts_run_and_files_can_be_mapped,
    ["python3": "python3"],
    "test \"$($VIEW/tools/bin/run.sh well)\" = 'ran well'
     python3 -c 'import mmap, os
f = open(os.environ[\"VIEW\"] + \"/workflows/big\", \"rb\")
m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
assert len(m) == 2500000 and m[:] == bytes([7]) * 2500000
assert os.lseek(f.fileno(), 0, os.SEEK_HOLE) == 2500000'"
);

#[test]
fn a_compiled_binary_runs_from_the_view() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = sandbox.repo("acme/base");
    repo.script("tools/bin/true", "");
    fs::copy("/bin/true", repo.path.join("tools/bin/true")).unwrap();
    repo.commit();
    sandbox.configure("    - repo: acme/base", "");
    let mount = sandbox.mount();
    sandbox.shell("$VIEW/tools/bin/true; cmp /bin/true $VIEW/tools/bin/true");
    mount.unmount();
}

#[test]
fn a_kernel_overlay_and_a_bind_mount_stand_on_the_view() {
    if !can_mount() {
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: an overlay and a bind mount need root");
        return;
    }
    let sandbox = Sandbox::new();
    sources(&sandbox);
    let mount = sandbox.mount();
    sandbox.shell(
        "mkdir upper work merged skills
         trap 'umount merged skills 2>/dev/null || :' EXIT
         mount -t overlay overlay -o lowerdir=$VIEW,upperdir=upper,workdir=work merged
         mount --bind $VIEW/.agents/skills skills
         diff -r --no-dereference merged $VIEW
         test \"$(cat skills/review/SKILL.md)\" = needle
         echo changed > merged/.agents/skills/review/SKILL.md
         test \"$(cat merged/.agents/skills/review/SKILL.md)\" = changed
         test \"$(cat skills/review/SKILL.md)\" = needle
         umount merged skills",
    );
    mount.unmount();
}
