//! Metrics, health and readiness over HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ExitStatus, Stdio};

use crate::fixture::{Mount, Sandbox, can_mount, patience, wait_for};

/// A process that ends with the test.
struct Running(Child);

impl Running {
    fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).unwrap())
    }

    /// Asks it to end.
    fn stop(&self) {
        nix::sys::signal::kill(self.pid(), nix::sys::signal::Signal::SIGTERM).unwrap();
    }

    fn wait(mut self) -> ExitStatus {
        self.0.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.stop();
            self.0.wait().unwrap();
        }
    }
}

/// The address at which a process serves, as its log says.
pub(crate) fn address(log: &str) -> Option<String> {
    let line = log.lines().find(|line| line.contains("metrics are served"))?;
    let rest = line.split_once("address=")?.1;
    Some(rest.split_whitespace().next()?.trim_matches('"').to_owned())
}

/// Mounts with metrics on a free port; the log is in `log`.
pub(crate) fn mount<'a>(sandbox: &'a Sandbox, more: &[&str]) -> (Mount<'a>, String) {
    let mut arguments = vec!["--metrics", "0", "--log", "log"];
    arguments.extend(more);
    let mount = sandbox.mount_with(&arguments);
    let log = fs::read_to_string(sandbox.path("log")).unwrap();
    let address = address(&log).expect(&log);
    (mount, address)
}

/// Status and body of an answer; `None` if nobody answers.
fn try_get(address: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(patience())).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

pub(crate) fn get(address: &str, path: &str) -> (u16, String) {
    try_get(address, path).expect("an answer")
}

/// The samples of the page by name and labels.
pub(crate) fn metrics(address: &str) -> BTreeMap<String, String> {
    let (status, page) = get(address, "/metrics");
    assert_eq!(status, 200, "{page}");
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    let samples = samples.map(|line| line.rsplit_once(' ').expect(line));
    samples.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn number(value: &str) -> f64 {
    value.parse().unwrap()
}

/// The names of the metrics on a page, each with its kind.
pub(crate) fn told(address: &str) -> BTreeSet<(String, String)> {
    let (_, page) = get(address, "/metrics");
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

/// The metrics that docs/OPERATIONS.md promises of these processes, each with its kind.
pub(crate) fn promised(tellers: &[&str]) -> BTreeSet<(String, String)> {
    let page = include_str!("../../docs/OPERATIONS.md");
    let rows = page.lines().filter(|line| line.starts_with("| `overlayfs_mount_"));
    let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    let cells = cells.filter(|cells| tellers.contains(&cells[4]));
    cells.map(|cells| (cells[1].trim_matches('`').to_owned(), cells[2].to_owned())).collect()
}

fn two_sources(sandbox: &Sandbox) {
    sandbox.repo("acme/base").skill("review", "one\n").skill("plan", "plan\n").commit();
    sandbox.repo("acme/team").skill("review", "team\n").package("tools/slack", "one").commit();
    sandbox.configure("    - {repo: acme/base, visibility: public}\n    - repo: acme/team", "");
}

#[test]
fn metrics_follow_the_view() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    two_sources(&sandbox);
    let (mount, at) = mount(&sandbox, &[]);
    assert_eq!(get(&at, "/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(get(&at, "/readyz"), (200, "ok\n".to_owned()));
    assert_eq!(told(&at), promised(&["mount, sync", "mount", "mount, each view"]));
    let before = metrics(&at);
    assert_eq!(before["overlayfs_mount_flips_total"], "0");
    assert_eq!(before["overlayfs_mount_sources{state=\"ready\"}"], "2");
    assert_eq!(before["overlayfs_mount_hidden_entries{surface=\"skills\"}"], "1");
    assert_eq!(before["overlayfs_mount_entries{surface=\"skills\"}"], "2");
    sandbox.shell("cat $VIEW/.agents/skills/plan/SKILL.md");
    sandbox.existing("acme/base").skill("added", "added\n").commit();
    sandbox.succeed(&["reload", "view"]);
    let after = metrics(&at);
    assert_eq!(after["overlayfs_mount_flips_total"], "1");
    assert_eq!(after["overlayfs_mount_flip_duration_seconds_count"], "1");
    assert_eq!(after["overlayfs_mount_changed_names_total"], "2");
    assert_eq!(after["overlayfs_mount_kept_sets"], "1");
    assert_eq!(after["overlayfs_mount_entries{surface=\"skills\"}"], "3");
    assert_ne!(after["overlayfs_mount_blob_cache_misses_total"], "0");
    let lookups = "overlayfs_mount_requests_total{operation=\"lookup\"}";
    assert!(number(&after[lookups]) > number(&before[lookups]));
    let look = "overlayfs_mount_last_look_timestamp_seconds";
    wait_for("the next look", || number(&metrics(&at)[look]) > number(&after[look]));
    let revision = sandbox.shell("cat $VIEW/.overlay/revision");
    let revision = revision.trim();
    assert_eq!(after[&format!("overlayfs_mount_revision_info{{revision=\"{revision}\"}}")], "1");
    // A source that is away is stale; a configuration that is wrong stops the looks.
    fs::rename(sandbox.path("repos/acme/team"), sandbox.path("away")).unwrap();
    let stale = "overlayfs_mount_source_state{source=\"acme/team\",state=\"stale\"}";
    wait_for("the stale source", || metrics(&at)[stale] == "1");
    assert_eq!(metrics(&at)["overlayfs_mount_sources{state=\"stale\"}"], "1");
    fs::write(sandbox.path("overlays.yaml"), "acess: all\n").unwrap();
    wait_for("the failure", || metrics(&at)["overlayfs_mount_rebuild_failures_total"] != "0");
    // What is served is served: neither makes it ill.
    assert_eq!((get(&at, "/healthz").0, get(&at, "/readyz").0), (200, 200));
    mount.unmount();
    assert_eq!(try_get(&at, "/healthz"), None);
}

#[test]
fn errors_are_counted_by_request_and_number() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let base = sandbox.repo("acme/base");
    base.write("bad", "bad\n").write("good", "good\n").commit();
    let blob = base.git(&["rev-parse", "HEAD:bad"]);
    let (start, rest) = blob.split_at(2);
    fs::remove_file(base.path.join(".git/objects").join(start).join(rest)).unwrap();
    sandbox.configure("    - repo: acme/base", "");
    let (mount, at) = mount(&sandbox, &[]);
    let errors = || {
        let samples = metrics(&at);
        let errors = samples.iter().filter(|(name, _)| name.contains("_errors_total{"));
        errors.map(|(_, value)| number(value)).sum::<f64>()
    };
    sandbox.shell("cat $VIEW/acme/base/good; test ! -e $VIEW/acme/base/absent; ! touch $VIEW/x");
    assert!(errors() < 0.5, "absent names and refused writes are no errors");
    let before = errors();
    assert!(!sandbox.shell_output("cat $VIEW/acme/base/bad").status.success());
    assert!(errors() > before + 0.5, "{:?}", metrics(&at));
    mount.unmount();
}

#[test]
fn s70_metrics_of_a_public_view_name_no_private_source() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    two_sources(&sandbox);
    let (mount, at) = mount(&sandbox, &["-o", "access=public"]);
    let (_, page) = get(&at, "/metrics");
    assert!(page.contains("source=\"acme/base\"") && !page.contains("team"), "{page}");
    mount.unmount();
}

#[test]
fn s70_health_and_readiness_say_what_can_be_served() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let remote = sandbox.repo("../remotes/base");
    remote.skill("review", "one\n").commit();
    // The first round waits for its turn for as long as this is locked.
    let turn = fs::File::create(sandbox.path("repos/.overlayfs-mount-sync.lock")).unwrap();
    turn.lock().unwrap();
    let url = format!("file://{}", sandbox.path("remotes/base").display());
    sandbox.configure(&format!("    - {{repo: acme/base, ref: main, url: \"{url}\"}}"), "");
    let log = sandbox.path("log");
    let mut command =
        sandbox.overlay(&["mount", "-f", "--sync", "--metrics", "127.0.0.1:0", "--log", "log"]);
    let mut starting = Running(command.spawn().unwrap());
    let mut at = None;
    wait_for("the address", || {
        at = address(&fs::read_to_string(&log).unwrap_or_default());
        at.is_some()
    });
    let at = at.unwrap();
    assert_eq!(get(&at, "/healthz").0, 200);
    assert_eq!(get(&at, "/readyz"), (503, "the view is not mounted yet\n".to_owned()));
    turn.unlock().unwrap();
    wait_for("readiness", || {
        assert!(starting.0.try_wait().unwrap().is_none(), "{}", fs::read_to_string(&log).unwrap());
        try_get(&at, "/readyz").is_some_and(|(status, _)| status == 200)
    });
    assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/review/SKILL.md"), "one\n");
    assert_eq!(
        told(&at),
        promised(&["mount, sync", "mount", "mount, each view", "sync, each view with --sync"])
    );
    assert_ne!(metrics(&at)["overlayfs_mount_fetch_rounds_total{outcome=\"success\"}"], "0");
    // Held while it stops: alive, and not to be sent anything new.
    let mut holder = sandbox
        .command("sh")
        .args(["-euc", "cd $VIEW/.agents/skills; touch $HOME/held; read x"])
        .env("VIEW", sandbox.view())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the holder", || sandbox.path("home/held").exists());
    starting.stop();
    wait_for("the end of readiness", || {
        let (status, said) = get(&at, "/readyz");
        status == 503 && said == "the view is about to be unmounted\n"
    });
    assert_eq!(get(&at, "/healthz").0, 200);
    drop(holder.stdin.take());
    holder.wait().unwrap();
    assert!(starting.wait().success());
    assert_eq!(try_get(&at, "/healthz"), None);
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
}

#[test]
fn s70_readiness_waits_for_the_first_round_though_the_cache_is_full() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repo("../remotes/base").skill("review", "one\n").commit();
    let url = format!("file://{}", sandbox.path("remotes/base").display());
    sandbox.configure(&format!("    - {{repo: acme/base, ref: main, url: \"{url}\"}}"), "");
    sandbox.succeed(&["sync", "--once"]);
    let turn = fs::File::create(sandbox.path("repos/.overlayfs-mount-sync.lock")).unwrap();
    turn.lock().unwrap();
    let (mount, at) = mount(&sandbox, &["--sync"]);
    assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/review/SKILL.md"), "one\n");
    let waits = "the first round of fetching is not over yet\n".to_owned();
    assert_eq!(get(&at, "/readyz"), (503, waits));
    assert_eq!(get(&at, "/healthz").0, 200);
    turn.unlock().unwrap();
    wait_for("readiness", || get(&at, "/readyz").0 == 200);
    // A remote that goes does not take it back.
    fs::rename(sandbox.path("remotes/base"), sandbox.path("away")).unwrap();
    sandbox.succeed(&["reload", "view"]);
    assert_eq!(metrics(&at)["overlayfs_mount_fetch_rounds_total{outcome=\"failure\"}"], "1");
    assert_eq!(metrics(&at)["overlayfs_mount_sources{state=\"stale\"}"], "1");
    assert_eq!(get(&at, "/readyz").0, 200);
    mount.unmount();
}

#[test]
fn an_address_that_is_taken_or_wrong_leaves_nothing_mounted() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    two_sources(&sandbox);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap();
    let said = sandbox.fail(1, &["mount", "--metrics", &at.to_string()]);
    assert!(said.contains(&format!("error: metrics cannot be served at `{at}`: ")), "{said}");
    assert!(said.contains("\n  cure: another process listens there"), "{said}");
    let said = sandbox.fail(1, &["mount", "-o", "metrics=192.0.2.1:9100"]);
    assert!(said.contains("give an address of this machine"), "{said}");
    let said = sandbox.fail(2, &["mount", "--metrics", "*:9100"]);
    assert!(said.contains("cure: write PORT for this machine only"), "{said}");
    let mut command = sandbox.overlay(&["mount"]);
    let output = command.env("OVERLAYFS_MOUNT_METRICS", "x").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("OVERLAYFS_MOUNT_METRICS: `x`"));
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
    assert!(!sandbox.view().exists());
    // The environment names one as well.
    let mut command = sandbox.overlay(&["mount", "--log", "log"]);
    let mount = sandbox.mount_by(command.env("OVERLAYFS_MOUNT_METRICS", ":0"));
    let at = address(&fs::read_to_string(sandbox.path("log")).unwrap()).unwrap();
    assert!(at.starts_with("127.0.0.1:"), "{at}");
    assert_eq!(get(&at, "/readyz").0, 200);
    mount.unmount();
}

#[test]
fn sync_tells_of_its_rounds() {
    let sandbox = Sandbox::new();
    let (base, team) = (sandbox.repo("../remotes/base"), sandbox.repo("../remotes/team"));
    base.skill("review", "one\n").commit();
    let url =
        |name: &str| format!("url: \"file://{}\"", sandbox.path("remotes").join(name).display());
    sandbox.configure(
        &format!(
            "    - {{repo: acme/base, {}}}\n    - {{repo: acme/team, {}}}",
            url("base"),
            url("team")
        ),
        "",
    );
    sandbox.edit(|text| text.replace("{path: repos}", "{path: repos, interval: 100ms}"));
    let said = fs::File::create(sandbox.path("said")).unwrap();
    let mut command = sandbox.overlay(&["sync", "--metrics", "0"]);
    let syncing = Running(command.stderr(said).spawn().unwrap());
    let said = || fs::read_to_string(sandbox.path("said")).unwrap();
    let mut at = String::new();
    wait_for("the address", || {
        let line = said()
            .lines()
            .find_map(|line| line.strip_prefix("metrics are served at ").map(str::to_owned));
        at = line.unwrap_or_default();
        !at.is_empty()
    });
    // The second has no commit yet: nothing is ready, and all is well.
    let failure = "overlayfs_mount_fetch_rounds_total{outcome=\"failure\"}";
    wait_for("a failure", || metrics(&at)[failure] != "0");
    assert_eq!(get(&at, "/readyz"), (503, "no round was a success yet\n".to_owned()));
    assert_eq!(get(&at, "/healthz").0, 200);
    let source = |name: &str| {
        metrics(&at)[&format!("overlayfs_mount_fetch_source_failed{{source=\"{name}\"}}")].clone()
    };
    assert_eq!((source("acme/base"), source("acme/team")), ("0".to_owned(), "1".to_owned()));
    assert_eq!(metrics(&at)["overlayfs_mount_fetch_failed_sources"], "1");
    team.skill("plan", "plan\n").commit();
    wait_for("readiness", || get(&at, "/readyz").0 == 200);
    assert_eq!(told(&at), promised(&["mount, sync", "sync", "sync, each view with --sync"]));
    assert_ne!(metrics(&at)["overlayfs_mount_fetch_last_success_timestamp_seconds"], "0");
    // A remote that goes changes what is counted, and not that the cache can be used.
    fs::rename(sandbox.path("remotes/team"), sandbox.path("away")).unwrap();
    wait_for("the failure", || source("acme/team") == "1");
    assert_eq!(get(&at, "/readyz").0, 200);
    syncing.stop();
    assert!(syncing.wait().success());
    assert_eq!(try_get(&at, "/healthz"), None);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_at = taken.local_addr().unwrap().to_string();
    let said = sandbox.fail(1, &["sync", "--metrics", &taken_at]);
    assert!(said.contains("cure: another process listens there"), "{said}");
    sandbox.fail(2, &["sync", "--once", "--metrics", "0"]);
}
