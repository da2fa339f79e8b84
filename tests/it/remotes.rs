//! A git host that speaks https, on the loopback: what is fetched from it, what a token opens, and what a kill in the middle leaves.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::fixture::{Repo, Sandbox, can_mount, has_program, wait_for};

const TOKEN: &str = "t0ken-one-s3cr3t";
const OTHER: &str = "t0ken-two-s3cr3t";

/// The host, ended with the value.
struct Host<'a> {
    sandbox: &'a Sandbox,
    server: Child,
    port: String,
}

impl<'a> Host<'a> {
    /// Serves the repositories below `remotes`, with a certificate that only `ca.pem` vouches for.
    fn start(sandbox: &'a Sandbox) -> Option<Self> {
        if !has_program("python3", "apt-get install python3")
            || !has_program("openssl", "apt-get install openssl")
        {
            return None;
        }
        sandbox.shell(
            "mkdir -p control; openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out ca.pem -days 2 \
             -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 2>/dev/null; cat key.pem ca.pem >both.pem",
        );
        fs::write(sandbox.path("git_server.py"), include_str!("git_server.py")).unwrap();
        let mut server = sandbox.command("python3");
        server
            .arg("git_server.py")
            .args(["remotes", "both.pem", "control"].map(|at| sandbox.path(at)));
        let mut server = server.stdout(Stdio::piped()).spawn().unwrap();
        let mut port = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Some(Self { sandbox, server, port: port.trim().to_owned() })
    }

    /// Configures one source that is cloned from `remotes/base`.
    fn configure(&self, rest: &str) {
        let url = format!("https://127.0.0.1:{}/base/.git", self.port);
        let text = format!(
            "overlays: {{sources: [{{repo: acme/base, ref: main, url: \"{url}\"}}]}}\n\
             repoCache: {{path: repos, tokenFile: token, interval: 1s}}\nstate: {{dir: state}}\nmount: {{at: view{rest}}}\n"
        );
        fs::write(self.sandbox.path("overlays.yaml"), text).unwrap();
    }

    fn control(&self, name: &str) -> PathBuf {
        self.sandbox.path("control").join(name)
    }

    /// Has answers stop half-way.
    fn stall(&self) {
        fs::write(self.control("stall"), "").unwrap();
    }

    fn wait_for_stall(&self) {
        wait_for("a transfer that is half done", || self.control("stalled").exists());
        fs::remove_file(self.control("stalled")).unwrap();
    }

    fn go_on(&self) {
        fs::remove_file(self.control("stall")).unwrap();
    }

    /// Our program, which takes the host's certificate.
    fn trusting(&self, arguments: &[&str]) -> Command {
        let mut command = self.sandbox.overlay(arguments);
        command.env("GIT_SSL_CAINFO", self.sandbox.path("ca.pem"));
        command
    }

    fn sync_once(&self) -> Output {
        self.trusting(&["sync", "--once"]).output().unwrap()
    }

    /// Syncs, which must be a success.
    fn sync(&self) -> String {
        let output = self.sync_once();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        said
    }
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

/// A repository whose pack is so large that half of it is a part.
fn remote<'a>(sandbox: &'a Sandbox, content: &str) -> Repo<'a> {
    let repo = sandbox.repo("../remotes/base");
    grow(&repo, content);
    repo
}

/// A remote whose host lets in only who has [`TOKEN`].
fn guarded_remote(sandbox: &Sandbox) -> Option<(Repo<'_>, Host<'_>)> {
    let repo = remote(sandbox, "one\n");
    let host = Host::start(sandbox)?;
    host.configure("");
    fs::write(host.control("token"), TOKEN).unwrap();
    Some((repo, host))
}

/// Commits so many files that nobody can compress that a fetch makes a pack of them.
fn grow(repo: &Repo<'_>, content: &str) {
    repo.shell("mkdir -p noise; for n in $(seq 150); do head -c 2000 /dev/urandom >noise/$n; done");
    repo.skill("review", content).commit();
}

/// The processes below another whose name and arguments hold a text, the youngest last.
fn below(pid: u32, text: &str) -> Vec<u32> {
    let mut found = Vec::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(child) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
            if fields.split(' ').nth(1) != Some(&parent.to_string()) || fields.starts_with('Z') {
                continue;
            }
            parents.push(child);
            if command_line(child).contains(text) {
                found.push(child);
            }
        }
    }
    found
}

fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn kill(pid: u32) {
    let status = Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    // One that was killed before may have taken it along.
    assert!(status.success() || !is_running(pid));
}

/// The files of a mirror that a git which was ended left.
fn leftovers(at: &Path) -> String {
    let mut find = Command::new("find");
    find.arg(at).args([
        "(", "-name", "tmp_*", "-o", "-name", ".tmp-*", "-o", "-name", "*.lock", "-o", "-name",
        "*.keep", ")",
    ]);
    String::from_utf8(find.output().unwrap().stdout).unwrap()
}

/// A child that ends with the value, whatever came of the test.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.kill().unwrap_or_default();
        self.0.wait().map(drop).unwrap_or_default();
    }
}

fn read_skill(sandbox: &Sandbox) -> String {
    sandbox.shell("cat $VIEW/.agents/skills/review/SKILL.md")
}

#[test]
fn a_fetch_that_is_killed_half_way_leaves_the_view_and_a_mirror_that_works() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = remote(&sandbox, "one\n");
    let Some(host) = Host::start(&sandbox) else { return };
    host.configure("");
    host.sync();
    let mirror = sandbox.path("repos/private/acme/base.git");
    let before = sandbox.existing("private/acme/base.git").git(&["for-each-ref"]);
    let mount = sandbox.mount();
    let revision = sandbox.shell("cat $VIEW/.overlay/revision");
    for (round, killed) in ["all", " fetch ", "index-pack", "remote-https"].iter().enumerate() {
        grow(&repo, &format!("{round}\n"));
        host.stall();
        let syncing = host.trusting(&["sync", "--once"]).stderr(Stdio::piped()).spawn().unwrap();
        host.wait_for_stall();
        wait_for("an unfinished pack", || leftovers(&mirror).contains("tmp_pack"));
        let all = below(syncing.id(), "git");
        let victims = below(syncing.id(), killed);
        let victims = if *killed == "all" { all.clone() } else { victims };
        assert!(!victims.is_empty(), "{killed}");
        victims.into_iter().filter(|pid| is_running(*pid)).for_each(kill);
        if *killed == "index-pack" {
            // Who hands it the pack notices with the next piece.
            host.go_on();
        }
        let output = syncing.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{killed}: {said}");
        assert!(said.contains("cure: "), "{said}");
        assert!(!all.iter().any(|pid| is_running(*pid)), "{killed}: some are left");
        assert_eq!(sandbox.existing("private/acme/base.git").git(&["for-each-ref"]), before);
        assert_eq!(sandbox.shell("cat $VIEW/.overlay/revision"), revision);
        assert_eq!(read_skill(&sandbox), "one\n");
        fs::remove_file(host.control("stall")).unwrap_or_default();
    }
    let said = host.sync();
    assert!(said.contains("moved"), "{said}");
    assert_eq!(leftovers(&mirror), "");
    sandbox.existing("private/acme/base.git").git(&["fsck", "--full", "--strict"]);
    sandbox.succeed(&["reload", "view"]);
    assert_eq!(read_skill(&sandbox), "3\n");
    mount.unmount();
}

#[test]
fn a_clone_that_is_killed_with_its_sync_is_begun_anew() {
    let sandbox = Sandbox::new();
    remote(&sandbox, "one\n");
    let Some(host) = Host::start(&sandbox) else { return };
    host.configure("");
    host.stall();
    let mut syncing = host.trusting(&["sync"]).stderr(Stdio::null()).spawn().unwrap();
    host.wait_for_stall();
    let children = below(syncing.id(), "git");
    assert!(!children.is_empty());
    syncing.kill().unwrap();
    syncing.wait().unwrap();
    assert!(!sandbox.path("repos/private/acme/base.git").exists());
    assert!(sandbox.path("repos/private/acme/.base.git.cloning").exists());
    // Whoever survives holds the lock, and says so; the next waits for that.
    host.go_on();
    let said = host.sync();
    assert!(said.contains("cloned at"), "{said}");
    assert!(!sandbox.path("repos/private/acme/.base.git.cloning").exists());
    let mirror = sandbox.path("repos/private/acme/base.git");
    assert_eq!(leftovers(&mirror), "");
    sandbox.existing("private/acme/base.git").git(&["fsck", "--full", "--strict"]);
    wait_for("the orphans", || !children.iter().any(|pid| is_running(*pid)));
}

/// Changes the token at the host, and then in its file. Gives what `status` said between.
fn rotate_token(sandbox: &Sandbox, host: &Host<'_>, repo: &Repo<'_>) -> String {
    // The token is changed at the host: the old view stays, and `status` says what to do.
    fs::write(host.control("token"), OTHER).unwrap();
    repo.skill("review", "two\n").commit();
    sandbox.succeed(&["reload", "view"]);
    assert_eq!(read_skill(sandbox), "one\n");
    let told = sandbox.status();
    let source = &told["sources"][0];
    assert_eq!(source["state"], "stale", "{told}");
    let (error, cure) = (source["error"].as_str().unwrap(), source["cure"].as_str().unwrap());
    assert!(error.contains("did not let us in"), "{error}");
    assert!(cure.starts_with("put a valid token"), "{cure}");
    // And in the file: the next round reads it.
    fs::write(sandbox.path("token"), OTHER).unwrap();
    sandbox.succeed(&["reload", "view"]);
    assert_eq!(read_skill(sandbox), "two\n");
    assert_eq!(sandbox.status()["sources"][0]["state"], "ready");
    told.to_string()
}

#[test]
fn a_token_opens_a_host_and_is_found_nowhere_but_in_its_file() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let Some((repo, host)) = guarded_remote(&sandbox) else { return };
    // Without a token, and with a wrong one.
    let fail = |said: &str| {
        let output = host.sync_once();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(said), "{text}");
        assert!(text.contains("cure: put a ") && text.contains("token"), "{text}");
        text
    };
    fail("did not let us in");
    fs::write(sandbox.path("token"), format!("{OTHER}\n")).unwrap();
    let mut all_said = fail("did not let us in");
    // A certificate that nobody vouches for is none, whatever the token is.
    fs::write(sandbox.path("token"), format!("{TOKEN}\n")).unwrap();
    let output = sandbox.overlay(&["sync", "--once"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("certificate"), "{text}");
    assert!(text.contains("GIT_SSL_CAINFO"), "{text}");

    // The right one; what its children are called and have in their environment is seen while they wait.
    host.stall();
    let mut mounting = host.trusting(&["mount", "--sync", "-f", "--log", "daemon.log"]);
    mounting.env("OVERLAYFS_MOUNT_LOG", "trace").stdout(Stdio::null());
    mounting.stderr(fs::File::create(sandbox.path("said")).unwrap());
    let mut mounting = Ending(mounting.spawn().unwrap());
    host.wait_for_stall();
    let children = below(mounting.0.id(), "");
    assert!(children.len() >= 2, "{children:?}");
    for pid in children.iter().copied().chain([mounting.0.id()]) {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let seen = command_line(pid) + &String::from_utf8_lossy(&environment);
        assert!(!seen.contains("s3cr3t"), "{seen}");
    }
    host.go_on();
    wait_for("the view", || sandbox.shell_output("cat $VIEW/.overlay/revision").status.success());
    assert_eq!(read_skill(&sandbox), "one\n");

    all_said.push_str(&rotate_token(&sandbox, &host, &repo));
    sandbox.succeed(&["unmount", "view"]);
    assert!(mounting.0.wait().unwrap().success());
    all_said.push_str(&fs::read_to_string(sandbox.path("said")).unwrap());
    assert!(!all_said.contains("s3cr3t"), "{all_said}");
    fs::remove_file(sandbox.path("token")).unwrap();
    let left = sandbox.shell("grep -r s3cr3t repos state home run daemon.log || true");
    assert_eq!(left, "");
    assert!(
        fs::read_to_string(host.control("asked"))
            .unwrap()
            .contains("open /base/.git/git-upload-pack")
    );
}

#[test]
fn a_confined_worker_fetches_with_a_token_that_is_replaced() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let Some((repo, host)) = guarded_remote(&sandbox) else { return };
    fs::write(sandbox.path("token"), TOKEN).unwrap();
    let mut mounting = host.trusting(&["mount", "--sync", "--supervised", "--log", "log"]);
    let mount = sandbox.mount_by(&mut mounting);
    assert_eq!(read_skill(&sandbox), "one\n");
    let worker = sandbox.status()["pid"].clone();
    grow(&repo, "two\n");
    sandbox.succeed(&["reload", "view"]);
    assert_eq!(read_skill(&sandbox), "two\n");
    assert_eq!(sandbox.status()["pid"], worker);
    // Another file takes its place, as a volume of secrets does it.
    fs::write(host.control("token"), OTHER).unwrap();
    grow(&repo, "three\n");
    fs::write(sandbox.path("next"), OTHER).unwrap();
    fs::rename(sandbox.path("next"), sandbox.path("token")).unwrap();
    sandbox.succeed(&["reload", "view"]);
    assert_eq!(read_skill(&sandbox), "three\n");
    assert_ne!(sandbox.status()["pid"], worker);
    mount.unmount();
}

/// Who is asked to end is not kept by who was asked to reload before.
#[test]
fn s64_a_signal_that_asks_for_a_reload_keeps_no_other_waiting() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = remote(&sandbox, "one\n");
    let Some(host) = Host::start(&sandbox) else { return };
    host.configure("");
    host.sync();
    let mut mounting = host.trusting(&["mount", "--sync", "--log", "log"]);
    let mount = sandbox.mount_by(&mut mounting);
    let pid = mount.pid();
    host.stall();
    grow(&repo, "two\n");
    host.wait_for_stall();
    for signal in ["HUP", "TERM"] {
        sandbox.shell(&format!("kill -{signal} {pid}; sleep 0.3"));
    }
    let asked = Instant::now();
    wait_for("the end", || !is_running(pid));
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
    host.go_on();
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
    drop(mount);
}
