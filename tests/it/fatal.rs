//! What a worker or a daemon could die of, again and again: a file that is cut while it is mapped, and a request that kills.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::fixture::{Repo, Sandbox, can_inject, can_mount, empties_caches, wait_for};

fn status(sandbox: &Sandbox) -> Option<serde_json::Value> {
    let output = sandbox.overlay(&["status", "view", "--json"]).output().unwrap();
    serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success())
}

/// The one file of this kind among a repository's packs.
fn pack(repo: &Repo<'_>, extension: &str) -> PathBuf {
    let files = fs::read_dir(repo.path.join(".git/objects/pack")).unwrap();
    let mut files = files.map(|entry| entry.unwrap().path());
    files.find(|path| path.extension().is_some_and(|found| found == extension)).unwrap()
}

/// Compares all skills with what they should be; how many were right, and how many errors.
const COMPARE: &str = "cd good/skills; right=0 errors=0
    for file in */*; do
      if cat $VIEW/.agents/skills/$file >$HOME/read 2>/dev/null; then
        cmp $HOME/read $file; right=$((right + 1))
      else errors=$((errors + 1)); fi
    done; echo $right $errors";

fn compare(sandbox: &Sandbox) -> (u32, u32) {
    let said = sandbox.shell(COMPARE);
    let counts: Vec<u32> = said.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert_eq!(counts.len(), 2, "{said}");
    (counts[0], counts[1])
}

fn cut(extension: &str, arguments: &[&str]) {
    let sandbox = Sandbox::new();
    let repo = sandbox.repo("acme/base");
    repo.shell(
        "for s in $(seq 40); do mkdir -p .agents/skills/s$s
         for n in 1 2 3; do head -c 9000 /dev/urandom | base64 >.agents/skills/s$s/$n; done; done",
    );
    repo.commit();
    repo.git(&["repack", "-adq"]);
    sandbox
        .shell("cp -r repos/acme/base/.agents good; cp -a repos/acme/base/.git/objects/pack whole");
    sandbox.configure("    - repo: acme/base", "");
    let mount = sandbox.mount_with(arguments);
    assert_eq!(compare(&sandbox), (120, 0));
    let before = status(&sandbox).unwrap()["pid"].clone();
    // The very file that is mapped, also by way of the links of a pin.
    let place = pack(&repo, extension);
    let place = place.display();
    sandbox.shell(&format!(
        "truncate -s $(($(stat -c %s {place}) / 3)) {place}; echo 3 >/proc/sys/vm/drop_caches"
    ));
    let (right, errors) = compare(&sandbox);
    assert!(right + errors == 120 && errors > 0, "{right} right, {errors} errors");
    let told = status(&sandbox).unwrap();
    assert_eq!((&told["pid"], &told["state"]), (&before, &"ready".into()), "{told}");
    // Whole again, in place.
    sandbox.shell(&format!("cat whole/*.{extension} >{place}"));
    wait_for("what was lost", || compare(&sandbox) == (120, 0));
    assert_eq!(status(&sandbox).unwrap()["pid"], before);
    mount.unmount();
}

#[test]
fn s107_a_pack_that_is_cut_while_it_is_mapped_costs_what_it_held() {
    if !can_mount() || !nix::unistd::geteuid().is_root() {
        return;
    }
    let _emptying = empties_caches();
    for arguments in [&[][..], &["--supervised"]] {
        cut("pack", arguments);
        cut("idx", arguments);
    }
}

/// strace(1), which lets go when this goes away.
pub(crate) struct Traced(pub(crate) Child);

/// How long strace has to let go by itself.
const LET_GO: Duration = Duration::from_secs(5);

impl Drop for Traced {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap_or_default();
        // It waits for each process to stop, for good if that ends meanwhile and has threads that it is to be told of first.
        let deadline = Instant::now() + LET_GO;
        while Instant::now() < deadline && self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.0.kill().unwrap_or_default();
        self.0.wait().map(drop).unwrap_or_default();
    }
}

#[test]
fn s108_a_request_that_kills_every_worker_gets_an_error_and_the_others_go_on() {
    if !can_inject() {
        return;
    }
    let sandbox = Sandbox::new();
    for name in ["bad", "good"] {
        fs::create_dir_all(sandbox.path(format!("live/.agents/skills/{name}"))).unwrap();
        fs::write(sandbox.path(format!("live/.agents/skills/{name}/SKILL.md")), name).unwrap();
    }
    sandbox.configure("    - path: live", "");
    let mount = sandbox.mount_with(&["--supervised", "--log", "log"]);
    let told = status(&sandbox).unwrap();
    let file = sandbox.path("live/.agents/skills/bad/SKILL.md").display().to_string();
    // Whoever reads this file is killed by it, also the workers that come.
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o"]).arg(sandbox.path("trace")).args(["-P", &file]);
    strace.args(["-e", "trace=pread64", "-e", "inject=pread64:signal=SIGABRT"]);
    for process in ["pid", "supervisor_pid"] {
        strace.args(["-p", &told[process].to_string()]);
    }
    let traced = Traced(strace.stderr(Stdio::null()).spawn().unwrap());
    let keeper = format!("/proc/{}/status", told["supervisor_pid"]);
    wait_for("strace", || !fs::read_to_string(&keeper).unwrap().contains("TracerPid:\t0\n"));
    let bad = sandbox.shell_output("cat $VIEW/.agents/skills/bad/SKILL.md");
    let said = String::from_utf8_lossy(&bad.stderr);
    assert!(!bad.status.success() && said.contains("Input/output error"), "{bad:?}");
    assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/good/SKILL.md"), "good");
    let log = fs::read_to_string(sandbox.path("log")).unwrap();
    assert!(log.matches("the worker has died").count() >= 3, "{log}");
    drop(traced);
    assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/bad/SKILL.md"), "bad");
    assert_eq!(status(&sandbox).unwrap()["supervisor_pid"], told["supervisor_pid"]);
    mount.unmount();
}
