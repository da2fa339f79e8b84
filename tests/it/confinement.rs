//! What a worker and `git` have given up, and that everything is served all the same.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fixture::{Sandbox, can_take_over, needs_kernel, wait_for};
use crate::users::{as_ordinary_user, assert_says};

fn status(sandbox: &Sandbox) -> Option<serde_json::Value> {
    let output = sandbox.overlay(&["status", "view", "--json"]).output().unwrap();
    serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success())
}

/// The worker and its keeper.
fn processes(sandbox: &Sandbox) -> (u64, u64) {
    let status = status(sandbox).unwrap();
    (status["pid"].as_u64().unwrap(), status["supervisor_pid"].as_u64().unwrap())
}

/// The fields of `/proc/PID/status`.
fn fields(pid: u64) -> HashMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let fields = text.lines().filter_map(|line| line.split_once(":\t"));
    fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

fn has_core_limit_of_none(pid: u64) -> bool {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    core.split_whitespace().skip(4).take(2).eq(["0", "0"])
}

/// One source, and the configuration in a directory of its own, so that little of the sandbox is open.
fn configured(sandbox: &Sandbox, sources: &str) {
    sandbox.configure(sources, "");
    fs::create_dir_all(sandbox.path("conf")).unwrap();
    let text = fs::read_to_string(sandbox.path("overlays.yaml")).unwrap();
    fs::rename(sandbox.path("overlays.yaml"), sandbox.path("conf/overlays.yaml")).unwrap();
    let text = ["repos", "state", "view"].iter().fold(text, |text, name| {
        text.replace(&format!(" {name}"), &format!(" {}", sandbox.path(name).display()))
    });
    fs::write(sandbox.path("conf/overlays.yaml"), text).unwrap();
}

/// What confines `git`.
const GIT: ((u32, u32), &str) =
    ((5, 19), "`git` is confined to its repository by a Landlock that lets files be linked");

const MOUNT: [&str; 4] = ["-c", "conf/overlays.yaml", "--supervised", "--log=log"];

fn skill(sandbox: &Sandbox, name: &str) -> String {
    sandbox.shell(&format!("cat $VIEW/.agents/skills/{name}/SKILL.md"))
}

fn log(sandbox: &Sandbox) -> String {
    fs::read_to_string(sandbox.path("log")).unwrap()
}

/// What is promised of the two processes of a mount.
pub(crate) fn assert_confined(worker: u64, keeper: u64, capabilities: u64) {
    let (serves, keeps) = (fields(worker), fields(keeper));
    assert_eq!((serves["NoNewPrivs"].as_str(), serves["Seccomp"].as_str()), ("1", "2"));
    assert_eq!(keeps["NoNewPrivs"], "0", "a setuid fusermount3 has an effect");
    for set in ["CapPrm", "CapEff"] {
        assert_eq!(u64::from_str_radix(&serves[set], 16).unwrap(), capabilities, "{set}");
    }
    assert_eq!(u64::from_str_radix(&serves["CapAmb"], 16).unwrap(), 0);
    for pid in [worker, keeper] {
        assert!(has_core_limit_of_none(pid));
        // Its memory is nobody's but root's, whoever it runs as.
        assert_eq!(fs::metadata(format!("/proc/{pid}/environ")).unwrap().uid(), 0);
    }
}

#[test]
fn s96_a_worker_gives_up_what_it_does_not_need() {
    if !can_take_over() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").skill("plan", "plan\n").commit();
    configured(&sandbox, "    - {repo: acme/base, ref: main}");
    let mount = sandbox.mount_with(&MOUNT);
    let (worker, keeper) = processes(&sandbox);
    // CAP_DAC_OVERRIDE: root reads caches of others.
    assert_confined(worker, keeper, 1 << 1);
    assert_eq!(fields(worker)["CapBnd"], "0000000000000000");
    let told = status(&sandbox).unwrap();
    let confinement = &told["confinement"];
    assert!(confinement["landlock"].as_str().unwrap().starts_with("abi "), "{told}");
    assert_eq!(confinement["seccomp"], "filter", "{told}");
    assert_eq!(confinement["no_new_privs"], true, "{told}");
    assert_eq!(confinement["capabilities"], serde_json::json!(["cap_dac_override"]), "{told}");
    let said = sandbox.succeed(&["status", "view"]);
    assert!(said.contains("confined       Landlock abi "), "{said}");
    // It dies of a signal that would leave a core, and leaves none.
    kill(Pid::from_raw(i32::try_from(worker).unwrap()), Signal::SIGABRT).unwrap();
    wait_for("another worker", || {
        status(&sandbox).is_some_and(|status| status["pid"].as_u64() != Some(worker))
    });
    assert_eq!(
        sandbox.shell("find . -name 'core*' -not -path './repos/*' -not -path './state/*'"),
        ""
    );
    let (next, still) = processes(&sandbox);
    assert_eq!(still, keeper);
    assert_confined(next, keeper, 1 << 1);
    assert!(!log(&sandbox).contains("goes on without it"), "{}", log(&sandbox));
    mount.unmount();
}

#[test]
fn s96_the_worker_of_an_ordinary_user_has_nothing_and_its_keeper_unmounts() {
    if !can_take_over() {
        return;
    }
    let script = r#"
mkdir -p source/.agents/skills/plan
echo plan >source/.agents/skills/plan/SKILL.md
./overlayfs-mount mount --supervised --source ./source --log log view
cat view/.agents/skills/plan/SKILL.md
./overlayfs-mount status view --json >status
number() { sed -n "s/.*\"$1\": \([0-9]*\).*/\1/p" status; }
grep -E '^(NoNewPrivs|Seccomp|CapEff|CapPrm):' /proc/$(number pid)/status
grep -E '^NoNewPrivs:' /proc/$(number supervisor_pid)/status
stat -c %u /proc/$(number pid)/environ /proc/$(number supervisor_pid)/environ
./overlayfs-mount unmount view
! grep ' /tmp/view ' /proc/self/mountinfo
! grep 'goes on without it' log
"#;
    let sandbox = Sandbox::new();
    let Some(output) = as_ordinary_user(&sandbox, script) else { return };
    let nothing = "0000000000000000";
    let expected = format!(
        "plan\nCapPrm:\t{nothing}\nCapEff:\t{nothing}\nNoNewPrivs:\t1\nSeccomp:\t2\nNoNewPrivs:\t0\n0\n0\n"
    );
    assert_says(&output, &expected);
}

#[test]
fn s97_a_worker_cannot_open_what_its_configuration_does_not_lead_to() {
    if !can_take_over() {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = sandbox.repo("acme/base");
    let id = repo.skill("plan", "plan\n").commit();
    // A ref that leads out of the repository: without confinement it is followed.
    fs::write(sandbox.path("outside"), format!("{id}\n")).unwrap();
    symlink(sandbox.path("outside"), repo.path.join(".git/refs/heads/out")).unwrap();
    configured(&sandbox, "    - {repo: acme/base, ref: out}");
    let unsupervised = sandbox.mount_with(&MOUNT[..2]);
    assert_eq!(skill(&sandbox, "plan"), "plan\n");
    unsupervised.unmount();
    let mut arguments = vec!["mount"];
    arguments.extend(MOUNT);
    let said = sandbox.fail(1, &arguments);
    assert!(said.contains("Could not read reference") && said.contains("refs/heads/out"), "{said}");
    // An operator who needs it has a way out, and it is seen.
    let mut open = sandbox.overlay(&arguments);
    let mount = sandbox.mount_by(open.env("OVERLAYFS_MOUNT_CONFINEMENT", "off"));
    assert_eq!(skill(&sandbox, "plan"), "plan\n");
    let told = status(&sandbox).unwrap();
    assert!(told["confinement"]["landlock"].as_str().unwrap().starts_with("none: "), "{told}");
    mount.unmount();
}

#[test]
fn s98_what_is_newly_needed_is_served_by_another_worker() {
    if !can_take_over() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").skill("plan", "plan\n").commit();
    for (name, content) in [("one", "one\n"), ("two", "two\n")] {
        let skill = sandbox.path(format!("live/{name}/.agents/skills/live"));
        fs::create_dir_all(&skill).unwrap();
        fs::write(skill.join("SKILL.md"), content).unwrap();
    }
    let git = "    - {repo: acme/base, ref: main}";
    configured(&sandbox, git);
    let mount = sandbox.mount_with(&MOUNT);
    let before = processes(&sandbox);
    let inode = sandbox.shell("stat -c %i $VIEW/.agents/skills/plan/SKILL.md");

    // A source outside of everything that is open, in a file that is another one.
    let live =
        format!("{git}\n    - {{name: me/live, path: {}}}", sandbox.path("live/one").display());
    let write = |sources: &str| {
        let text = fs::read_to_string(sandbox.path("conf/overlays.yaml")).unwrap();
        let rest = &text[text.find("repoCache").unwrap()..];
        let text = format!("overlays:\n  sources:\n{sources}\n{rest}");
        fs::write(sandbox.path("conf/next"), text).unwrap();
        fs::rename(sandbox.path("conf/next"), sandbox.path("conf/overlays.yaml")).unwrap();
    };
    write(&live);
    sandbox.succeed(&["reload", "view"]);
    assert_eq!(skill(&sandbox, "live"), "one\n");
    assert_eq!(sandbox.shell("stat -c %i $VIEW/.agents/skills/plan/SKILL.md"), inode);
    let after = processes(&sandbox);
    assert!(after.0 != before.0 && after.1 == before.1, "{before:?} {after:?}");
    // Where all is open nobody is replaced.
    sandbox.existing("acme/base").skill("plan", "other\n").commit();
    sandbox.succeed(&["reload", "view"]);
    assert_eq!((skill(&sandbox, "plan"), processes(&sandbox)), ("other\n".to_owned(), after));
    // A directory that takes the place of another is another.
    sandbox.shell("mv live/one live/old; mv live/two live/one");
    wait_for("the other directory", || {
        sandbox.shell_output("cat $VIEW/.agents/skills/live/SKILL.md").stdout == b"two\n"
    });
    assert_eq!(processes(&sandbox).1, before.1);
    // And one that was not there.
    write(&live.replace("live/one", "live/late").replace("path:", "required: false, path:"));
    sandbox.succeed(&["reload", "view"]);
    assert!(!sandbox.view().join(".agents/skills/live").exists());
    fs::rename(sandbox.path("live/one"), sandbox.path("live/late")).unwrap();
    wait_for("the late directory", || {
        sandbox.shell_output("cat $VIEW/.agents/skills/live/SKILL.md").stdout == b"two\n"
    });
    assert!(!log(&sandbox).contains("has died"), "{}", log(&sandbox));
    mount.unmount();
}

#[test]
fn s97_all_that_is_kept_works_in_a_worker() {
    if !can_take_over() {
        return;
    }
    let sandbox = Sandbox::new();
    // A linked work tree of a repository that borrows its objects from a third, none of them in the cache.
    let lender = sandbox.repo("../elsewhere/lender");
    lender.skill("plan", "plan\n").write("large", vec![7; 3 << 20]).commit();
    sandbox.shell("git clone -q --shared elsewhere/lender elsewhere/borrower");
    sandbox.shell("git -C elsewhere/borrower worktree add -q ../linked");
    sandbox.shell("mkdir -p repos/acme; ln -s ../../elsewhere/linked repos/acme/base");
    configured(&sandbox, "    - {repo: acme/base}");
    let mut arguments = MOUNT.to_vec();
    arguments.extend(["--metrics", "127.0.0.1:0"]);
    let mount = sandbox.mount_with(&arguments);
    assert_eq!(skill(&sandbox, "plan"), "plan\n");
    // Through the files that stay, and pinned by links.
    assert_eq!(sandbox.shell("wc -c <$VIEW/acme/base/large"), format!("{}\n", 3 << 20));
    wait_for("the pin", || {
        let status = status(&sandbox).unwrap();
        status["sources"][0]["pinned"] == true
    });
    sandbox.shell("git -C elsewhere/linked commit -q --allow-empty -m next");
    sandbox.succeed(&["reload", "view"]);
    assert!(log(&sandbox).contains("flipped"), "{}", log(&sandbox));
    mount.unmount();
}

/// Runs a script as `git` would be run.
fn as_git(sandbox: &Sandbox, writes: &str, script: &str) -> std::process::Output {
    let mut command = sandbox.overlay(&[]);
    command.arg0("overlayfs-mount-git").args(["1"]).arg(sandbox.path(writes));
    command.args(["0", "/bin/sh", "-c", script]).output().unwrap()
}

#[test]
fn s99_git_writes_only_into_its_repository_and_reads_little_else() {
    needs_kernel(GIT.0, GIT.1);
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("mine")).unwrap();
    fs::write(sandbox.path("secret"), "secret\n").unwrap();
    let output = as_git(&sandbox, "mine", "echo x >mine/file && cat mine/file");
    assert_eq!(output.stdout, b"x\n", "{output:?}");
    for script in [
        "cat secret",
        "echo x >elsewhere",
        "mkdir directory",
        "mv secret mine/secret",
        "ln secret mine/secret",
        "cp /bin/true mine/true; mine/true",
        "unshare -U true",
        "unshare -m true",
        "cat /root/.bashrc /proc/1/environ",
    ] {
        let output = as_git(&sandbox, "mine", script);
        assert!(!output.status.success() && output.stdout.is_empty(), "{script}: {output:?}");
    }
    let status =
        as_git(&sandbox, "mine", "grep -E '^(NoNewPrivs|Seccomp|CapBnd):' /proc/self/status");
    let said = String::from_utf8(status.stdout).unwrap();
    assert!(said.contains("NoNewPrivs:\t1") && said.contains("Seccomp:\t2"), "{said}");
    // Only who has CAP_SETPCAP can give these up; without privileges they are of no use, and none can be gained.
    if nix::unistd::geteuid().is_root() {
        assert!(said.contains("CapBnd:\t0000000000000000"), "{said}");
    }
}

#[test]
fn s99_a_program_that_runs_in_place_of_git_harms_nobody() {
    needs_kernel(GIT.0, GIT.1);
    let sandbox = Sandbox::new();
    sandbox.repo("../remotes/base").skill("plan", "plan\n").commit();
    let url = format!("file://{}", sandbox.path("remotes/base").display());
    sandbox.configure(&format!("    - {{repo: acme/base, ref: main, url: \"{url}\"}}"), "");
    fs::write(sandbox.path("secret"), "secret\n").unwrap();
    let stolen = sandbox.path("stolen");
    let evil = format!(
        "#!/bin/sh\ncat '{0}/secret' >'{1}' 2>/dev/null\necho x >'{0}/written' 2>/dev/null\nexec /usr/bin/git \"$@\"\n",
        sandbox.path(".").display(),
        stolen.display()
    );
    fs::create_dir(sandbox.path("bin")).unwrap();
    sandbox.program("bin/git", evil.as_bytes());
    let path = format!("{}:{}", sandbox.path("bin").display(), std::env::var("PATH").unwrap());
    let output = sandbox.overlay(&["sync", "--once"]).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(sandbox.path("repos/private/acme/base.git").exists());
    for name in ["stolen", "written"] {
        assert!(!Path::new(&sandbox.path(name)).exists(), "{name}");
    }
}
