//! Many views by one daemon.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::fixture::{Mount, Sandbox, can_mount, wait_for};
use crate::large::large;

/// Two repositories that both have the skill `review`.
pub(crate) fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    for name in ["base", "team"] {
        let repo = sandbox.repo(&format!("acme/{name}"));
        repo.skill("review", &format!("{name}\n")).skill(&format!("only-{name}"), "x");
        repo.write(".agents/skills/large/data", vec![b'x'; 100_000]).commit();
    }
    fs::create_dir(sandbox.path("views")).unwrap();
    sandbox
}

/// Writes the configuration of a view: its sources bottom first, and what else it says. It is put in place whole.
pub(crate) fn view(sandbox: &Sandbox, name: &str, sources: &[&str], rest: &str) {
    let sources: Vec<_> = sources.iter().map(|source| format!("{{repo: acme/{source}}}")).collect();
    let mount = if rest.contains("mount:") {
        String::new()
    } else {
        format!("mount: {{at: ../at/{name}}}\n")
    };
    let text = format!(
        "overlays: {{sources: [{}]}}\nrepoCache: {{path: ../repos}}\nstate: {{dir: ../state}}\n{mount}{rest}",
        sources.join(", ")
    );
    put(sandbox, name, &text);
}

/// Puts the configuration of a view in place whole.
pub(crate) fn put(sandbox: &Sandbox, name: &str, text: &str) {
    let beside = sandbox.path(format!("views/.{name}"));
    fs::write(&beside, text).unwrap();
    fs::rename(beside, sandbox.path(format!("views/{name}.yaml"))).unwrap();
}

/// The daemon of all views, which goes with this.
pub(crate) struct Serving<'a> {
    sandbox: &'a Sandbox,
    pub(crate) pid: Pid,
    _mount: Mount<'a>,
}

/// Mounts them all.
fn serve(sandbox: &Sandbox) -> Serving<'_> {
    serve_with(sandbox, &[])
}

/// The same with more arguments.
pub(crate) fn serve_with<'a>(sandbox: &'a Sandbox, more: &[&str]) -> Serving<'a> {
    let mut command = sandbox.overlay(&["mount", "--views", "views", "--log", "log"]);
    serve_by(sandbox, command.args(more))
}

/// The same by a command that mounts them.
pub(crate) fn serve_by<'a>(sandbox: &'a Sandbox, command: &mut Command) -> Serving<'a> {
    command.env("OVERLAYFS_MOUNT_LOG", "info,overlayfs_mount::daemon::operator=debug");
    let mount = sandbox.mount_by(command);
    let first = &all(sandbox)[0];
    let pid = first["supervisor_pid"].as_i64().or_else(|| first["pid"].as_i64()).unwrap();
    Serving { sandbox, pid: Pid::from_raw(i32::try_from(pid).unwrap()), _mount: mount }
}

#[test]
fn an_option_that_empties_a_view_of_many_is_in_the_log() {
    if !can_mount() {
        return;
    }
    let sandbox = sandbox();
    view(&sandbox, "one", &["base"], "");
    let serving = serve_with(&sandbox, &["-o", "access=public"]);
    let log = fs::read_to_string(sandbox.path("log")).unwrap();
    let line = log.lines().find(|line| line.contains("the view is empty")).expect(&log);
    assert!(line.contains("WARN") && line.contains("at/one"), "{line}");
    assert!(line.contains("all are private") && line.contains("visibility: public"), "{line}");
    drop(serving);
}

impl Serving<'_> {
    /// How many requests of the kernel about files there were, by the daemon's word in its log.
    fn requests(&self, at: &str) -> u64 {
        self.sandbox.succeed(&["status", at]);
        let log = fs::read_to_string(self.sandbox.path("log")).unwrap();
        let line = log.lines().rfind(|line| line.contains("requests=[")).unwrap();
        let counts = line.split("requests=[").nth(1).unwrap().split(']').next().unwrap();
        let count = |pair: &str| {
            let (name, count) = pair.trim_matches(['(', ')']).split_once(", ").unwrap();
            let is_about_files = !["\"statfs\"", "\"forget\""].contains(&name);
            if is_about_files { count.parse::<u64>().unwrap() } else { 0 }
        };
        counts.split("), (").map(count).sum()
    }

    fn kill(&self, signal: Signal) {
        kill(self.pid, signal).unwrap();
        wait_for("the daemon is gone", || kill(self.pid, None).is_err());
    }

    /// Ends it as a service manager does.
    pub(crate) fn end(self) {
        self.kill(Signal::SIGTERM);
        assert_eq!(self.sandbox.mounts(), Vec::<String>::new());
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        // It has ended already where all went well. A keeper ends its worker, unless it hangs.
        kill(self.pid, Signal::SIGTERM).unwrap_or_default();
        for _ in 0..100 {
            if kill(self.pid, None).is_err() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        kill(self.pid, Signal::SIGKILL).unwrap_or_default();
    }
}

pub(crate) fn all(sandbox: &Sandbox) -> Vec<Value> {
    let text = sandbox.succeed(&["status", "--json"]);
    serde_json::from_str(&text).unwrap()
}

pub(crate) fn is_there(sandbox: &Sandbox, path: &str) -> bool {
    sandbox.shell_output(&format!("test -e {path}")).status.success()
}

pub(crate) fn error_of(sandbox: &Sandbox, file: &str) -> String {
    let of_file =
        |status: &Value| status["config"].as_str().is_some_and(|path| path.ends_with(file));
    let status = all(sandbox).into_iter().find(of_file);
    status.and_then(|status| status["error"].as_str().map(str::to_owned)).unwrap_or_default()
}

/// Two views, `one` and `two`, of the same source.
pub(crate) fn two_alike() -> Sandbox {
    let sandbox = sandbox();
    for name in ["one", "two"] {
        view(&sandbox, name, &["base"], "");
    }
    sandbox
}

#[test]
fn s90_a_file_of_two_views_is_read_once() {
    if !can_mount() {
        return;
    }
    let _counting = crate::fixture::counts_requests();
    let sandbox = sandbox();
    view(&sandbox, "one", &["base", "team"], "");
    view(&sandbox, "two", &["team", "base"], "");
    let mount = serve(&sandbox);
    let read = |at: &str| sandbox.shell(&format!("cat at/{at}/.agents/skills/review/SKILL.md"));
    assert_eq!((read("one"), read("two")), ("team\n".into(), "base\n".into()));
    let seen = |path: &str| sandbox.shell(&format!("stat -c '%d %i' at/{path}"));
    let source = "acme/base/.agents/skills/large/data";
    assert_eq!(seen(&format!("one/{source}")), seen(&format!("two/{source}")));
    assert_ne!(seen("one/acme/base"), seen("two/acme/base"));
    let cat = |at: &str| sandbox.shell(&format!("cat at/{at}/{source} | cmp - repos/{source}"));
    let before = mount.requests("at/one");
    cat("one");
    let between = mount.requests("at/one");
    assert!(between > before);
    cat("two");
    let after = mount.requests("at/one");
    assert_eq!(after, between, "what the one has read costs the other nothing");
    mount.end();
}

/// Each view pins what it serves, and views that show the same set share what they serve from.
#[test]
fn a_large_file_of_many_views_is_read_once_all_have_pinned_it() {
    if !can_mount() {
        return;
    }
    let (sandbox, digest) = large();
    fs::create_dir(sandbox.path("views")).unwrap();
    for name in ["one", "two", "three"] {
        view(&sandbox, name, &["base"], "");
    }
    let mount = serve(&sandbox);
    wait_for("the pins", || {
        let is_pinned = |view: &Value| !view["sources"][0]["pinned"].is_null();
        all(&sandbox).iter().all(is_pinned)
    });
    for name in ["one", "two", "three"] {
        let read = format!("sha256sum < at/{name}/.agents/skills/model/weights.bin");
        assert_eq!(sandbox.shell(&read).trim(), digest, "{name}");
    }
    mount.end();
}

#[test]
fn s90_a_view_that_comes_after_a_flip_shares_what_did_not_change() {
    if !can_mount() {
        return;
    }
    let sandbox = sandbox();
    view(&sandbox, "one", &["base"], "");
    let mount = serve(&sandbox);
    let seen = |path: &str| sandbox.shell(&format!("stat -c '%d %i %Y' at/{path}"));
    let large = ".agents/skills/large/data";
    let before = seen(&format!("one/{large}"));
    let newer = "GIT_COMMITTER_DATE='2030-01-01T00:00:00Z' git -C repos/acme/base";
    sandbox.shell(&format!(
        "echo newer > repos/acme/base/.agents/skills/review/SKILL.md; {newer} commit -qam newer"
    ));
    sandbox.succeed(&["reload", "at/one"]);
    view(&sandbox, "same", &["base"], "");
    view(&sandbox, "other", &["team", "base"], "");
    for name in ["same", "other"] {
        wait_for("the new view", || is_there(&sandbox, &format!("at/{name}/tools")));
        assert_eq!(seen(&format!("{name}/{large}")), before);
        let review = ".agents/skills/review/SKILL.md";
        assert_eq!(seen(&format!("{name}/{review}")), seen(&format!("one/{review}")));
    }
    mount.end();
}

#[test]
fn s91_the_names_that_other_views_have_cached_stay_over_a_flip() {
    if !can_mount() {
        return;
    }
    let _counting = crate::fixture::counts_requests();
    let sandbox = sandbox();
    view(&sandbox, "one", &["base"], "");
    view(&sandbox, "two", &["team"], "");
    let mount = serve(&sandbox);
    let walk = "find at/two -type f -exec cat {} + > /dev/null";
    let cost = || {
        let before = mount.requests("at/two");
        sandbox.shell(walk);
        mount.requests("at/two") - before
    };
    let first = cost();
    sandbox.existing("acme/base").skill("review", "newer\n").commit();
    sandbox.succeed(&["reload", "at/one"]);
    assert_eq!(sandbox.shell("cat at/one/.agents/skills/review/SKILL.md"), "newer\n");
    // The kernel may give up what it keeps by itself, a page here and there; a flip that took the names would cost what the first walk did.
    let again = cost();
    assert!(again * 4 <= first, "{again} requests, {first} at first");
    // Only the one has left a set.
    let kept = |at: &str| sandbox.shell(&format!("ls at/{at}/.overlay/revisions")).lines().count();
    assert_eq!((kept("one"), kept("two")), (2, 1));
    mount.end();
}

#[test]
fn s92_views_that_differ_in_what_the_kernel_shares_have_superblocks_of_their_own() {
    if !can_mount() {
        return;
    }
    let sandbox = sandbox();
    let views = [
        ("private", ""),
        ("same", ""),
        ("public", "access: public\n"),
        ("owned", "mount: {at: ../at/owned, uid: 4711}\n"),
        ("inside", "mount: {at: ../at/inside, links: inside}\n"),
        ("told", "mount: {at: ../at/told, xattrs: true}\n"),
        ("told-too", "mount: {at: ../at/told-too, xattrs: true}\n"),
    ];
    for (name, rest) in views {
        view(&sandbox, name, &["base"], rest);
    }
    let mount = serve(&sandbox);
    let device = |name: &str| sandbox.shell(&format!("stat -c %d at/{name}"));
    let mut devices: Vec<_> = views.iter().map(|(name, _)| device(name)).collect();
    assert_eq!(device("private"), device("same"));
    devices.sort_unstable();
    devices.dedup();
    assert_eq!(devices.len(), views.len() - 1);
    // A view that becomes public leaves those who see private sources.
    view(&sandbox, "same", &["base"], "access: public\n");
    // Between the two superblocks there is a moment without it.
    let public = device("public");
    wait_for("the public view", || {
        sandbox.shell_output("stat -c %d at/same").stdout == public.as_bytes()
    });
    assert!(!is_there(&sandbox, "at/same/acme"));
    // Nobody else can reach the superblocks.
    let inside = sandbox.mounts().into_iter().find(|line| line.contains(".views/1 ")).unwrap();
    let place = inside.split(' ').nth(4).unwrap();
    let above = std::path::Path::new(place).parent().unwrap();
    assert_eq!(fs::metadata(above).unwrap().permissions().mode() & 0o777, 0o700);
    mount.end();
}

#[test]
fn s93_files_that_come_change_and_go_add_change_and_remove_views() {
    if !can_mount() {
        return;
    }
    let sandbox = sandbox();
    view(&sandbox, "one", &["base"], "");
    fs::write(sandbox.path("views/broken.yaml"), "overlays: [").unwrap();
    let mount = serve(&sandbox);
    assert!(error_of(&sandbox, "broken.yaml").contains("broken.yaml"));
    view(&sandbox, "two", &["base"], "");
    wait_for("the second view", || is_there(&sandbox, "at/two/tools"));
    view(&sandbox, "two", &["base", "team"], "");
    wait_for("the other order", || {
        sandbox.shell("cat at/two/.agents/skills/review/SKILL.md") == "team\n"
    });
    // What is broken stays as it was.
    fs::write(sandbox.path("views/two.yaml"), "overlays: [").unwrap();
    wait_for("the problem", || !error_of(&sandbox, "two.yaml").is_empty());
    assert_eq!(sandbox.shell("cat at/two/.agents/skills/review/SKILL.md"), "team\n");
    let said = sandbox.fail(1, &["reload", "at/two"]);
    assert!(said.contains("two.yaml"), "{said}");
    // A mount point is one view's.
    view(&sandbox, "clash", &["team"], "mount: {at: ../at/one}\n");
    wait_for("the clash", || error_of(&sandbox, "clash.yaml").contains("one.yaml"));
    // A source that is not there keeps its view away until it is.
    view(&sandbox, "late", &["late"], "");
    wait_for("what is missing", || error_of(&sandbox, "late.yaml").contains("late"));
    sandbox.repo("acme/late").skill("late", "late\n").commit();
    wait_for("the late view", || is_there(&sandbox, "at/late/.agents/skills/late"));
    fs::remove_file(sandbox.path("views/two.yaml")).unwrap();
    wait_for("the end of the second view", || !is_there(&sandbox, "at/two"));
    assert!(is_there(&sandbox, "at/one/tools"));
    mount.end();
}

#[test]
fn s93_what_a_killed_daemon_left_is_cleared_and_none_at_all_is_a_failure() {
    if !can_mount() {
        return;
    }
    let sandbox = two_alike();
    let mount = serve(&sandbox);
    let said = sandbox.fail(1, &["mount", "--views", "views"]);
    assert!(said.contains("another daemon") && said.contains("cure: "), "{said}");
    mount.kill(Signal::SIGKILL);
    assert!(!sandbox.mounts().is_empty());
    fs::remove_file(sandbox.path("views/two.yaml")).unwrap();
    let mount = serve(&sandbox);
    // One superblock, and one view.
    assert_eq!(sandbox.mounts().len(), 2, "{:?}", sandbox.mounts());
    assert_eq!(sandbox.shell("cat at/one/.agents/skills/review/SKILL.md"), "base\n");
    mount.end();
    fs::write(sandbox.path("views/one.yaml"), "overlays: [").unwrap();
    let said = sandbox.fail(1, &["mount", "--views", "views"]);
    assert!(said.contains("none of the views") && said.contains("one.yaml"), "{said}");
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
}

#[test]
fn s94_an_unmounted_view_stays_away_and_its_holders_are_served() {
    if !can_mount() {
        return;
    }
    let sandbox = two_alike();
    let mount = serve(&sandbox);
    let mut holder = sandbox
        .command("sleep")
        .arg("60")
        .current_dir(sandbox.path("at/one/tools"))
        .spawn()
        .unwrap();
    let said = sandbox.fail(1, &["unmount", "at/one"]);
    assert!(said.contains("sleep"), "{said}");
    sandbox.succeed(&["unmount", "--lazy", "at/one"]);
    assert!(!is_there(&sandbox, "at/one/tools"));
    let held = format!("ls /proc/{}/cwd/../.agents/skills", holder.id());
    assert_eq!(sandbox.shell(&held), "large\nonly-base\nreview\n");
    wait_for("the daemon to notice", || all(&sandbox).len() == 1);
    holder.kill().unwrap();
    holder.wait().unwrap();
    sandbox.shell("touch views/one.yaml");
    wait_for("the view again", || is_there(&sandbox, "at/one/tools"));
    sandbox.succeed(&["unmount", "at/one"]);
    sandbox.succeed(&["unmount", "at/two"]);
    assert!(all(&sandbox).is_empty());
    view(&sandbox, "three", &["base"], "");
    wait_for("a view after the last", || is_there(&sandbox, "at/three/tools"));
    mount.end();
}
