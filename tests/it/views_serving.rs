//! What one daemon of many views serves as the daemon of a single one does: metrics, fetching, pinned sets, `.git`, passthrough.

use std::fs;

use crate::fixture::{Sandbox, can_mount, wait_for};
use crate::large::large;
use crate::observing::{address, get, metrics, promised, told};
use crate::passthrough::can_pass_through;
use crate::views::{Serving, all, is_there, put, sandbox, serve_with, view};

/// The address of its metrics.
fn observed(sandbox: &Sandbox) -> String {
    let log = fs::read_to_string(sandbox.path("log")).unwrap();
    address(&log).expect(&log)
}

fn serve_observed<'a>(sandbox: &'a Sandbox, more: &[&str]) -> (Serving<'a>, String) {
    let mount = serve_with(sandbox, &[&["--metrics", "0"], more].concat());
    (mount, observed(sandbox))
}

#[test]
fn s118_metrics_of_many_views_are_at_one_address_each_with_its_view() {
    if !can_mount() {
        return;
    }
    let _counting = crate::fixture::counts_requests();
    let sandbox = sandbox();
    view(&sandbox, "one", &["base"], "");
    view(&sandbox, "two", &["base", "team"], "");
    view(&sandbox, "public", &["base"], "access: public\n");
    view(&sandbox, "bad", &["nowhere"], "");
    let (mount, at) = serve_observed(&sandbox, &[]);
    let tellers = ["mount, sync", "mount", "mount, each view", "mount --views"];
    assert_eq!(told(&at), promised(&tellers));
    let before = metrics(&at);
    let of = |name: &str, labels: &str| format!("overlayfs_mount_{name}{{{labels}}}");
    assert_eq!(before[&of("views", "state=\"shown\"")], "3");
    assert_eq!(before[&of("views", "state=\"broken\"")], "1");
    assert_eq!(before[&of("sources", "view=\"one.yaml\",state=\"ready\"")], "1");
    assert_eq!(before[&of("sources", "view=\"two.yaml\",state=\"ready\"")], "2");
    assert_eq!(before[&of("hidden_entries", "view=\"two.yaml\",surface=\"skills\"")], "2");
    let lookups = of("requests_total", "operation=\"lookup\"");
    sandbox.shell("cat at/one/.agents/skills/review/SKILL.md at/public/.overlay/revision");
    let number = |text: &String| text.parse::<u64>().unwrap();
    assert!(number(&metrics(&at)[&lookups]) > number(&before[&lookups]));
    // What one view does is counted for that one.
    sandbox.existing("acme/team").skill("newer", "x").commit();
    sandbox.succeed(&["reload", "at/two"]);
    let after = metrics(&at);
    assert_eq!(after[&of("flips_total", "view=\"two.yaml\"")], "1");
    assert_eq!(after[&of("flips_total", "view=\"one.yaml\"")], "0");
    // A public view says nothing of what it may not show, and nobody says anything of a view that is gone.
    assert!(!after.keys().any(|key| key.contains("public.yaml") && key.contains("acme")));
    fs::remove_file(sandbox.path("views/two.yaml")).unwrap();
    wait_for("the view is gone", || !metrics(&at).keys().any(|key| key.contains("two.yaml")));
    mount.end();
}

#[test]
fn s118_health_and_readiness_are_those_of_all_views() {
    if !can_mount() {
        return;
    }
    let sandbox = sandbox();
    view(&sandbox, "one", &["base"], "");
    view(&sandbox, "told", &["base"], "mount: {at: ../at/told, xattrs: true}\n");
    let (mount, at) = serve_observed(&sandbox, &[]);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(&at, path), (200, "ok\n".to_owned()), "{path}");
    }
    // A connection that was aborted is noticed, and mounted anew.
    let inside = sandbox.mounts().into_iter().find(|line| line.contains(".views/2 ")).unwrap();
    let connection = inside.split(' ').nth(2).unwrap().trim_start_matches("0:");
    sandbox.shell(&format!(
        "unshare -m sh -c 'mount -t fusectl none /sys/fs/fuse/connections
         echo 1 > /sys/fs/fuse/connections/{connection}/abort'"
    ));
    let mut was_ill = false;
    wait_for("health again", || {
        let (status, said) = get(&at, "/healthz");
        was_ill |= status == 503 && said.contains("view `told.yaml`: the session");
        was_ill && status == 200
    });
    wait_for("the view again", || is_there(&sandbox, "at/told/tools"));
    mount.end();
}

/// Two remotes, and the configurations of two views that fetch from them: `one` shows `base`, `two` both.
fn with_remotes() -> Sandbox {
    let sandbox = Sandbox::new();
    for name in ["base", "team"] {
        sandbox.repo(&format!("../remotes/{name}")).skill(name, "one\n").commit();
    }
    fs::create_dir(sandbox.path("views")).unwrap();
    fetching(&sandbox, "one", &["base"]);
    fetching(&sandbox, "two", &["base", "team"]);
    sandbox
}

fn fetching(sandbox: &Sandbox, name: &str, sources: &[&str]) {
    let source = |source: &&str| {
        let url = sandbox.path("remotes").join(source).display().to_string();
        format!("{{repo: acme/{source}, ref: main, url: \"file://{url}\"}}")
    };
    let sources: Vec<_> = sources.iter().map(source).collect();
    let text = format!(
        "overlays: {{sources: [{}]}}\nrepoCache: {{path: ../repos, sync: true, interval: 1h}}\n\
         state: {{dir: ../state}}\nmount: {{at: ../at/{name}}}\n",
        sources.join(", ")
    );
    put(sandbox, name, &text);
}

#[test]
fn s119_views_that_keep_one_repo_cache_have_it_fetched_together() {
    if !can_mount() {
        return;
    }
    let sandbox = with_remotes();
    let (mount, at) = serve_observed(&sandbox, &[]);
    // What the cache lacked was waited for.
    assert_eq!(sandbox.shell("ls at/one/.agents/skills at/two/.agents/skills | grep -c ."), "5\n");
    let rounds = |view: &str| {
        let name = "overlayfs_mount_fetch_rounds_total";
        metrics(&at)[&format!("{name}{{view=\"{view}.yaml\",outcome=\"success\"}}")].clone()
    };
    assert_eq!(rounds("one"), rounds("two"), "it is one round for both");
    let ready = fs::read_to_string(sandbox.path("repos/.repo-cache-ready")).unwrap();
    assert!(ready.contains("repositories=acme/base acme/team\n"), "{ready}");
    // A reload of the one fetches, and the other follows what came.
    sandbox.existing("../remotes/base").skill("base", "two\n").commit();
    sandbox.succeed(&["reload", "at/one"]);
    let skill = |view: &str| sandbox.shell(&format!("cat at/{view}/.agents/skills/base/SKILL.md"));
    assert_eq!(skill("one"), "two\n");
    wait_for("the other view", || skill("two") == "two\n");
    // What cannot be fetched is said of the view that shows it.
    fs::rename(sandbox.path("remotes/team"), sandbox.path("away")).unwrap();
    sandbox.succeed(&["reload", "at/two"]);
    let states: Vec<_> = all(&sandbox).iter().map(|view| view["state"].clone()).collect();
    assert_eq!(states, ["ready", "degraded"]);
    mount.end();
}

#[test]
fn s119_a_view_that_waits_for_a_remote_keeps_no_other_waiting() {
    if !can_mount() {
        return;
    }
    let sandbox = with_remotes();
    fs::remove_file(sandbox.path("views/two.yaml")).unwrap();
    let (mount, at) = serve_observed(&sandbox, &[]);
    wait_for("the first round", || get(&at, "/readyz").0 == 200);
    let turn = fs::File::create(sandbox.path("repos/.overlayfs-mount-sync.lock")).unwrap();
    turn.lock().unwrap();
    let mut waiting = sandbox.overlay(&["reload", "at/one"]).spawn().unwrap();
    // It needs what is not fetched yet, and appears when it is; who needs nothing appears at once.
    fetching(&sandbox, "two", &["team"]);
    sandbox.repo("acme/local").skill("local", "x").commit();
    view(&sandbox, "three", &["local"], "");
    wait_for("a view that needs nothing", || is_there(&sandbox, "at/three/tools"));
    assert!(waiting.try_wait().unwrap().is_none() && !is_there(&sandbox, "at/two/tools"));
    turn.unlock().unwrap();
    assert!(waiting.wait().unwrap().success());
    wait_for("the view", || is_there(&sandbox, "at/two/tools"));
    // While a round is waited for the daemon ends as soon as it is asked to.
    turn.lock().unwrap();
    let mut waiting = sandbox.overlay(&["reload", "at/one"]).spawn().unwrap();
    mount.end();
    waiting.wait().unwrap();
}

#[test]
fn s118_pinned_views_show_the_sets_of_their_start() {
    if !can_mount() {
        return;
    }
    let sandbox = sandbox();
    view(&sandbox, "one", &["base"], "");
    let mount = serve_with(&sandbox, &["--pin"]);
    let id = |at: &str| sandbox.shell(&format!("cat at/{at}/.overlay/revision"));
    let before = id("one");
    sandbox.existing("acme/base").skill("newer", "x").commit();
    let said = sandbox.fail(1, &["reload", "at/one"]);
    assert!(said.contains("mounted with `--pin`"), "{said}");
    view(&sandbox, "one", &["team"], "");
    view(&sandbox, "later", &["base"], "");
    wait_for("a view that comes later", || is_there(&sandbox, "at/later/.agents/skills/newer"));
    assert_eq!(id("one"), before);
    assert_ne!(id("later"), before);
    mount.end();
}

/// Also what a flip has left stays readable when its repository loses it, and for the next daemon.
#[test]
fn s118_sets_that_views_left_are_kept_and_taken_over() {
    if !can_mount() {
        return;
    }
    let sandbox = sandbox();
    for name in ["one", "two"] {
        view(&sandbox, name, &["base"], "");
    }
    let mount = serve_with(&sandbox, &[]);
    let pinned = || all(&sandbox).iter().all(|view| view["sources"][0]["pinned"] == true);
    wait_for("the pins", pinned);
    let old = sandbox.shell("cat at/one/.overlay/revision");
    let repo = sandbox.existing("acme/base");
    repo.shell("git checkout -q --orphan next; git rm -rqf .");
    repo.skill("other", "other\n").commit();
    repo.shell("git branch -M next main; git reflog expire --expire=now --all; git repack -adfq; git prune --expire=now");
    for name in ["one", "two"] {
        sandbox.succeed(&["reload", &format!("at/{name}")]);
    }
    let read = |at: &str| {
        let file = format!(".overlay/revisions/{}/.agents/skills/review/SKILL.md", old.trim());
        sandbox.shell(&format!("cat at/{at}/{file}; ls at/{at}/.agents/skills"))
    };
    assert_eq!((read("one"), read("two")), ("base\nother\n".into(), "base\nother\n".into()));
    mount.end();
    let mount = serve_with(&sandbox, &[]);
    wait_for("what was kept", || {
        is_there(&sandbox, &format!("at/two/.overlay/revisions/{}", old.trim()))
    });
    assert_eq!((read("one"), read("two")), ("base\nother\n".into(), "base\nother\n".into()));
    mount.end();
}

#[test]
fn s118_views_have_git_directories_where_they_ask_for_them() {
    if !can_mount() {
        return;
    }
    let sandbox = sandbox();
    view(&sandbox, "one", &["base"], "mount: {at: ../at/one, git: true}\n");
    view(&sandbox, "two", &["base"], "");
    let mount = serve_with(&sandbox, &[]);
    let head = sandbox.existing("acme/base").git(&["rev-parse", "HEAD"]);
    let git = "git -c safe.directory='*' -C at/one/acme/base";
    assert_eq!(sandbox.shell(&format!("{git} rev-parse HEAD")).trim(), head.trim());
    assert_eq!(sandbox.shell(&format!("{git} show HEAD:.agents/skills/review/SKILL.md")), "base\n");
    assert!(!is_there(&sandbox, "at/two/acme/base/.git"));
    mount.end();
}

#[test]
fn s118_the_kernel_reads_large_files_of_all_views_by_itself() {
    if !can_pass_through() {
        return;
    }
    let _counting = crate::fixture::counts_requests();
    let (sandbox, digest) = large();
    fs::create_dir(sandbox.path("views")).unwrap();
    for name in ["one", "two"] {
        view(&sandbox, name, &["base"], "");
    }
    let (mount, at) = serve_observed(&sandbox, &["-o", "passthrough"]);
    for name in ["one", "two", "one"] {
        let read = format!("sha256sum < at/{name}/.agents/skills/model/weights.bin");
        assert_eq!(sandbox.shell(&read).trim(), digest, "{name}");
    }
    let count = |operation: &str| {
        let name = format!("overlayfs_mount_requests_total{{operation=\"{operation}\"}}");
        metrics(&at)[&name].parse::<u64>().unwrap()
    };
    assert_eq!(count("read"), 0);
    assert!(count("open") >= 3);
    mount.end();
}

#[test]
fn s118_views_are_asked_by_their_paths() {
    if !can_mount() {
        return;
    }
    let sandbox = sandbox();
    view(&sandbox, "one", &["base", "team"], "");
    view(&sandbox, "told", &["team", "base"], "mount: {at: ../at/told, xattrs: true}\n");
    let mount = serve_with(&sandbox, &[]);
    for (at, winner) in [("one", "team"), ("told", "base")] {
        let said = sandbox.succeed(&["explain", &format!("at/{at}/.agents/skills/review")]);
        assert!(
            said.starts_with(&format!(".agents/skills/review comes from acme/{winner}\n")),
            "{said}"
        );
        let said = sandbox.succeed(&["explain", &format!("at/{at}")]);
        assert!(said.starts_with(". is a merged directory"), "{said}");
        // A part of it that is bound elsewhere is told as a part.
        sandbox.shell(&format!("mkdir -p part; mount --bind at/{at}/.agents part"));
        let said = sandbox.fail(1, &["explain", "part/skills/review"]);
        sandbox.shell("umount part");
        assert!(said.contains("part/.overlay/entries.json"), "{said}");
        let id = sandbox.shell(&format!("cat at/{at}/.overlay/revision"));
        sandbox.succeed(&["wait", &format!("at/{at}"), "--revision", id.trim()]);
        assert_eq!(
            sandbox.succeed(&["reload", &format!("at/{at}")]),
            format!("unchanged: {}\n", &id[..12])
        );
    }
    mount.end();
}
