//! One revision set that flips as a whole.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use crate::fixture::{Sandbox, can_mount, wait_for};

fn two_sources(sandbox: &Sandbox) {
    sandbox.repo("acme/base").skill("review", "one\n").skill("plan", "plan\n").commit();
    sandbox.repo("acme/team").package("tools/slack", "one").commit();
    sandbox.configure("    - repo: acme/base\n    - repo: acme/team", "");
}

#[test]
fn s58_a_commit_is_shown_after_reload_everywhere_at_once() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    two_sources(&sandbox);
    let mount = sandbox.mount();
    let show =
        "cd $VIEW; cat .agents/skills/*/SKILL.md; ls .agents/skills tools; cat .overlay/revision";
    let before = sandbox.shell(show);
    let base = sandbox.existing("acme/base");
    base.skill("review", "two\n").skill("added", "added\n");
    fs::remove_dir_all(base.path.join(".agents/skills/plan")).unwrap();
    // Whether `reload` or the daemon by itself is first is decided by chance: here the daemon sleeps until both can.
    let pid = mount.pid();
    sandbox.shell(&format!("kill -STOP {pid}"));
    base.commit();
    let reload = sandbox.overlay(&["reload", "view", "--json"]).stdout(Stdio::piped()).spawn();
    let reload = reload.unwrap();
    wait_for("the request", || {
        let open = fs::read_dir(format!("/proc/{}/fd", reload.id())).unwrap().flatten();
        let mut targets = open.filter_map(|file| fs::read_link(file.path()).ok());
        targets.any(|target| target.to_string_lossy().starts_with("socket:"))
    });
    sandbox.shell(&format!("kill -CONT {pid}"));
    let report = reload.wait_with_output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
    let after = sandbox.shell(show);
    assert_ne!(before, after);
    assert!(after.starts_with("added\ntwo\n.agents/skills:\nadded\nreview\n"), "{after}");
    assert!(after.contains(report["revision"].as_str().unwrap()), "{report}");
    let Some(previous) = report["previous"].as_str() else {
        // The daemon was first all the same: `reload` had nothing left to do.
        eprintln!("not seen this time: what `reload` says of changes");
        mount.unmount();
        return;
    };
    assert!(before.contains(previous), "{report}");
    let changes: Vec<&str> =
        report["changes"].as_array().unwrap().iter().map(|c| c["path"].as_str().unwrap()).collect();
    assert_eq!(
        changes,
        [".agents/skills/added", ".agents/skills/plan", ".agents/skills/review", "acme/base"]
    );
    mount.unmount();
}

#[test]
fn s60_a_move_of_a_ref_is_seen_without_being_asked() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    two_sources(&sandbox);
    let mount = sandbox.mount();
    let read = || sandbox.shell("cat $VIEW/.agents/skills/review/SKILL.md");
    assert_eq!(read(), "one\n");
    sandbox.existing("acme/base").skill("review", "two\n").commit();
    wait_for("the commit", || read() == "two\n");
    // A packed ref moves too.
    let base = sandbox.existing("acme/base");
    base.git(&["pack-refs", "--all"]);
    base.skill("review", "three\n").commit();
    wait_for("the next commit", || read() == "three\n");
    mount.unmount();
}

#[test]
fn s60_a_branch_that_a_ref_names_is_followed_too() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let base = sandbox.repo("acme/base");
    base.skill("review", "one\n").commit();
    base.git(&["symbolic-ref", "refs/heads/newest", "refs/heads/stable"]);
    base.git(&["symbolic-ref", "refs/heads/stable", "refs/heads/main"]);
    sandbox.configure("    - {repo: acme/base, ref: newest}", "");
    let mount = sandbox.mount();
    let read = || sandbox.shell("cat $VIEW/.agents/skills/review/SKILL.md");
    assert_eq!(read(), "one\n");
    base.skill("review", "two\n").commit();
    wait_for("the commit", || read() == "two\n");
    // Its commit is the same at first, and only the name moves.
    base.git(&["branch", "next"]);
    base.git(&["symbolic-ref", "refs/heads/stable", "refs/heads/next"]);
    std::thread::sleep(Duration::from_secs(3));
    base.git(&["checkout", "--quiet", "next"]);
    base.skill("review", "three\n").commit();
    wait_for("the next commit", || read() == "three\n");
    mount.unmount();
}

#[test]
fn s60_a_ref_is_followed_by_every_name_that_it_has() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let base = sandbox.repo("acme/base");
    base.skill("review", "one\n").commit();
    for name in ["refs/remotes/origin/main", "refs/tip"] {
        base.git(&["update-ref", name, "HEAD"]);
    }
    sandbox.configure(
        "    - {repo: acme/base, ref: origin/main, name: by/remote}\n    - {repo: acme/base, ref: tip, name: by/one}",
        "",
    );
    let mount = sandbox.mount();
    let read =
        |name: &str| sandbox.shell(&format!("cat $VIEW/by/{name}/.agents/skills/review/SKILL.md"));
    assert_eq!([read("remote"), read("one")], ["one\n", "one\n"]);
    base.skill("review", "two\n").commit();
    base.git(&["update-ref", "refs/remotes/origin/main", "HEAD"]);
    wait_for("the commit of `origin/main`", || read("remote") == "two\n");
    base.skill("review", "three\n").commit();
    base.git(&["update-ref", "refs/tip", "HEAD"]);
    wait_for("the commit of `tip`", || read("one") == "three\n");
    mount.unmount();
}

#[test]
fn s60_a_work_tree_that_gets_another_git_directory_is_followed() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let base = sandbox.repo("acme/base");
    base.skill("review", "one\n").commit();
    let other = sandbox.repo("acme/other");
    other.skill("review", "two\n").commit();
    sandbox.shell("cd repos/acme && mv base/.git ../first && mv other/.git ../second && echo gitdir: ../../first >base/.git");
    sandbox.configure("    - repo: acme/base", "");
    let mount = sandbox.mount();
    let read = || sandbox.shell("cat $VIEW/.agents/skills/review/SKILL.md");
    assert_eq!(read(), "one\n");
    sandbox.shell("cd repos/acme/base && echo gitdir: ../../second >new && mv new .git");
    wait_for("the commit of the other one", || read() == "two\n");
    mount.unmount();
}

#[test]
fn s60_a_new_branch_that_is_checked_out_is_followed() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let base = sandbox.repo("acme/base");
    base.skill("review", "one\n").commit();
    sandbox.configure("    - repo: acme/base", "");
    let mount = sandbox.mount();
    let read = || sandbox.shell("cat $VIEW/.agents/skills/review/SKILL.md");
    assert_eq!(read(), "one\n");
    base.skill("review", "two\n").commit();
    wait_for("the commit", || read() == "two\n");
    // It is seen, and changes nothing.
    base.git(&["checkout", "--quiet", "-b", "other"]);
    std::thread::sleep(Duration::from_secs(3));
    base.skill("review", "three\n").commit();
    wait_for("the next commit", || read() == "three\n");
    mount.unmount();
}

#[test]
fn s60_a_pinned_view_follows_nothing() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    two_sources(&sandbox);
    let mount = sandbox.mount_with(&["--pin"]);
    let base = sandbox.existing("acme/base");
    base.skill("review", "two\n").commit();
    let said = sandbox.fail(1, &["reload", "view"]);
    assert!(said.contains("mounted with `--pin`") && said.contains("cure: "), "{said}");
    sandbox.configure("    - repo: acme/team", "");
    // Another view of the same sources has followed both.
    sandbox.succeed(&["mount", "other"]);
    assert_eq!(sandbox.shell("ls other"), "acme\ntools\nworkflows\n");
    sandbox.succeed(&["unmount", "other"]);
    assert_eq!(sandbox.shell("cat $VIEW/.agents/skills/review/SKILL.md"), "one\n");
    mount.unmount();
}

#[test]
fn s61_unchanged_entries_keep_their_numbers_and_cached_bytes() {
    if !can_mount() {
        return;
    }
    let _counting = crate::fixture::counts_requests();
    let sandbox = Sandbox::new();
    two_sources(&sandbox);
    let mount = sandbox.mount();
    let look = "cd $VIEW; find .agents/skills/plan tools/slack -printf '%p %i %T@\\n'; cat .agents/skills/plan/SKILL.md tools/slack/*";
    let before = sandbox.shell(look);
    let number_and_time = || {
        let text = sandbox.shell("stat -c '%i %Y' $VIEW/.agents/skills/review/SKILL.md");
        let (number, time) = text.trim().split_once(' ').unwrap();
        (number.to_owned(), time.parse::<u64>().unwrap())
    };
    let mut flips = 0;
    // Others may have the kernel drop what it has cached: a flip between two such moments shows what a flip costs.
    wait_for("a flip that costs nothing of what it leaves as it is", || {
        flips += 1;
        assert_eq!(sandbox.shell(look), before);
        let old = number_and_time();
        sandbox.existing("acme/base").skill("review", &format!("{flips}\n")).commit();
        sandbox.succeed(&["reload"]);
        let reads = crate::serving::reads_when_idle(mount.pid());
        assert_eq!(sandbox.shell(look), before);
        let reads = crate::serving::reads(mount.pid()) - reads;
        let new = number_and_time();
        assert!(new.1 > old.1 && new.0 != old.0);
        eprintln!("flip {flips}: {reads} reads");
        reads <= 6
    });
    mount.unmount();
}

#[test]
fn s62_what_is_held_stays_on_its_revision_whole() {
    if !can_mount() {
        return;
    }
    let _emptying = crate::fixture::empties_caches();
    let sandbox = Sandbox::new();
    let base = sandbox.repo("acme/base");
    base.skill("review", "one\n").write(".agents/skills/review/deep/part", "one\n").commit();
    sandbox.configure("    - repo: acme/base", "");
    let mount = sandbox.mount();
    let mut holder = sandbox
        .command("sh")
        .args([
            "-euc",
            "cd $VIEW/.agents/skills/review; exec 5< SKILL.md; touch $HOME/held; while [ ! -e $HOME/go ]; do sleep 0.01; done
             cat <&5; cat SKILL.md; cat deep/part; ls; cat $VIEW/.agents/skills/review/SKILL.md",
        ])
        .env("VIEW", sandbox.view())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the holder", || sandbox.path("home/held").exists());
    base.skill("review", "two\n").write(".agents/skills/review/deep/part", "two\n").commit();
    sandbox.succeed(&["reload"]);
    sandbox.shell("echo 2 > /proc/sys/vm/drop_caches");
    fs::write(sandbox.path("home/go"), "").unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut holder.stdout.take().unwrap(), &mut said).unwrap();
    assert!(holder.wait().unwrap().success());
    assert_eq!(said, "one\none\none\nSKILL.md\ndeep\ntwo\n");
    mount.unmount();
}

#[test]
fn s63_sets_that_were_left_can_be_read_below_revisions() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    two_sources(&sandbox);
    let mount = sandbox.mount();
    let first = sandbox.shell("cat $VIEW/.overlay/revision");
    let first = first.trim();
    let absent = sandbox.shell_output("ls $VIEW/.overlay/revisions/0000");
    assert!(!absent.status.success());
    sandbox.existing("acme/base").skill("review", "two\n").skill("added", "x").commit();
    sandbox.succeed(&["reload"]);
    let second = sandbox.shell("cat $VIEW/.overlay/revision");
    assert_ne!(first, second.trim());
    let at = |id: &str| {
        sandbox.shell(&format!("cd $VIEW/.overlay/revisions/{id}; cat .agents/skills/review/SKILL.md; ls .agents/skills"))
    };
    assert_eq!(at(first), "one\nplan\nreview\n");
    assert_eq!(at(second.trim()), "two\nadded\nplan\nreview\n");
    assert_eq!(sandbox.shell("readlink $VIEW/.overlay/current"), format!("revisions/{second}"));
    assert_eq!(sandbox.shell("ls $VIEW/.overlay/current/.agents/skills"), "added\nplan\nreview\n");
    assert_eq!(sandbox.shell("ls $VIEW/.overlay/revisions | wc -l"), "2\n");
    mount.unmount();
}

/// A set of the view, read below `.overlay/revisions`.
fn read_set(sandbox: &Sandbox, id: &str) -> String {
    sandbox.shell(&format!(
        "cd $VIEW/.overlay/revisions/{id}; find . -printf '%p %y %m %s %T@ %l\\n' | sort; find . -type f | sort | xargs cat"
    ))
}

#[test]
fn s63_sets_that_were_left_survive_the_daemon() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    two_sources(&sandbox);
    let live = sandbox.path("live/.agents/skills/local");
    fs::create_dir_all(&live).unwrap();
    fs::write(live.join("SKILL.md"), "live\n").unwrap();
    let base = sandbox.existing("acme/base");
    let sources = "    - {repo: acme/base, visibility: public}\n    - {path: live}";
    sandbox.configure(sources, "");
    let mount = sandbox.mount();
    // A commit that is left before it is pinned is not known to be whole (S67).
    wait_for("the pin", || {
        let status = sandbox.succeed(&["status", "view", "--json"]);
        serde_json::from_str::<serde_json::Value>(&status).unwrap()["sources"][0]["pinned"] == true
    });
    let mut ids = Vec::new();
    for text in ["two\n", "three\n", "four\n", "five\n"] {
        ids.push(sandbox.shell("cat $VIEW/.overlay/revision").trim().to_owned());
        base.skill("review", text).skill(text.trim(), text).commit();
        sandbox.succeed(&["reload"]);
    }
    let before: Vec<_> = ids.iter().map(|id| read_set(&sandbox, id)).collect();
    assert!(before[0].contains("one\n") && before[1].contains("two\n"), "{before:?}");
    sandbox.shell(&format!("kill -9 {}", mount.pid()));
    drop(mount);
    // What these sets need is in no repository any more.
    base.shell("git checkout -q --orphan new; git commit -qm new; git branch -M new main");
    base.shell(
        "git reflog expire --expire=now --all; git gc --quiet --prune=now; git prune --expire=now",
    );
    for restart in 0..2 {
        let mount = sandbox.mount();
        // Nobody has to wait: they are there when the view is.
        assert_eq!(sandbox.shell("ls $VIEW/.overlay/revisions | wc -l"), "6\n");
        let after: Vec<_> = ids.iter().map(|id| read_set(&sandbox, id)).collect();
        assert_eq!(before, after, "restart {restart}");
        mount.unmount();
    }
    // A view that may not show a source does not show the sets that do.
    let mount = sandbox.mount_with(&["-o", "access=public"]);
    assert_eq!(sandbox.shell("ls $VIEW/.overlay/revisions | wc -l"), "1\n");
    mount.unmount();
}

#[test]
fn s64_a_bad_configuration_keeps_the_view_and_a_good_one_is_followed() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    two_sources(&sandbox);
    let mount = sandbox.mount();
    let good = fs::read_to_string(sandbox.path("overlays.yaml")).unwrap();
    fs::write(sandbox.path("overlays.yaml"), &good[..good.len() / 2]).unwrap();
    let said = sandbox.fail(1, &["reload", "view"]);
    assert!(said.contains("overlays.yaml") && said.contains("cure: "), "{said}");
    assert_eq!(sandbox.shell("cat $VIEW/tools/slack/main.py"), "one");
    // A surface that is turned off, and a source that goes.
    sandbox.configure("    - {repo: acme/base, skillsSubdir: \"\"}", "");
    wait_for("the new configuration", || {
        !sandbox.shell_output("ls $VIEW/tools/slack").status.success()
    });
    assert_eq!(
        sandbox.shell("ls -A $VIEW/.agents/skills $VIEW/tools; ls $VIEW"),
        format!(
            "{0}/.agents/skills:\n\n{0}/tools:\nacme\ntools\nworkflows\n",
            sandbox.view().display()
        )
    );
    mount.unmount();
}

#[test]
fn s65_live_entries_come_and_go_by_themselves() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    fs::create_dir_all(sandbox.path("overlay/.agents/skills/mine")).unwrap();
    fs::create_dir_all(sandbox.path("overlay/tools/util")).unwrap();
    sandbox.configure("    - path: overlay\n      name: me/overlay", "");
    let mount = sandbox.mount();
    let list = || sandbox.shell("cd $VIEW; ls .agents/skills tools tools/*");
    assert_eq!(list(), ".agents/skills:\nmine\n\ntools:\nutil\n\ntools/util:\n");
    fs::create_dir(sandbox.path("overlay/.agents/skills/new")).unwrap();
    wait_for("a new entry", || list().contains("mine\nnew\n"));
    fs::remove_dir(sandbox.path("overlay/.agents/skills/mine")).unwrap();
    wait_for("an entry that is gone", || !list().contains("mine"));
    // A directory becomes a category when a package appears in it.
    fs::create_dir(sandbox.path("overlay/tools/util/a")).unwrap();
    fs::write(sandbox.path("overlay/tools/util/a/pyproject.toml"), "").unwrap();
    wait_for("a package", || {
        sandbox.succeed(&["explain", "-c", "overlays.yaml", "tools/util"]).contains("merged")
    });
    wait_for("its listing", || list().contains("tools/util:\na\n"));
    mount.unmount();
}

#[test]
fn s66_a_source_that_cannot_be_read_keeps_its_last_revision_while_the_rest_moves() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    two_sources(&sandbox);
    let mount = sandbox.mount_pinned();
    sandbox.shell("cat $VIEW/tools/slack/*");
    fs::rename(sandbox.path("repos/acme/team"), sandbox.path("away")).unwrap();
    sandbox.existing("acme/base").skill("review", "two\n").commit();
    wait_for("the other source", || {
        sandbox.shell("cat $VIEW/.agents/skills/review/SKILL.md") == "two\n"
    });
    assert_eq!(
        sandbox.shell("ls $VIEW/tools/slack; cat $VIEW/tools/slack/main.py"),
        "main.py\npyproject.toml\none"
    );
    let status: serde_json::Value = sandbox.status();
    assert_eq!(status["state"], "degraded");
    assert_eq!(status["sources"][1]["state"], "stale");
    fs::rename(sandbox.path("away"), sandbox.path("repos/acme/team")).unwrap();
    wait_for("the source again", || {
        let text = sandbox.succeed(&["status", "view", "--json"]);
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["state"] == "ready"
    });
    mount.unmount();
}

#[test]
fn s69_a_push_to_the_remote_is_fetched_and_shown() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let remote = sandbox.repo("../remotes/base");
    remote.skill("review", "one\n").commit();
    let url = format!("file://{}", sandbox.path("remotes/base").display());
    sandbox.configure(&format!("    - {{repo: acme/base, ref: main, url: \"{url}\"}}"), "");
    // Nothing is in the cache: the first round brings it.
    let mount = sandbox.mount_with(&["--sync"]);
    let read = || sandbox.shell("cat $VIEW/.agents/skills/review/SKILL.md");
    assert_eq!(read(), "one\n");
    remote.skill("review", "two\n").commit();
    sandbox.succeed(&["reload", "view"]);
    assert_eq!(read(), "two\n");
    // A remote that is gone changes nothing but the status.
    fs::rename(sandbox.path("remotes/base"), sandbox.path("away")).unwrap();
    sandbox.succeed(&["reload", "view"]);
    assert_eq!(read(), "two\n");
    let status: serde_json::Value = sandbox.status();
    assert_eq!(status["sources"][0]["state"], "stale", "{status}");
    mount.unmount();
}

#[test]
fn s71_what_is_hidden_since_a_flip_is_said_once() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let base = sandbox.repo("acme/base");
    base.skill("review", "base\n")
        .skill("plan", "base\n")
        .package("tools/x/slack", "base")
        .commit();
    let team = sandbox.repo("acme/team");
    team.skill("review", "team\n").commit();
    sandbox.configure("    - repo: acme/base\n    - repo: acme/team", "");
    let mount = sandbox.mount_with(&["--log", "log"]);
    let log = || fs::read_to_string(sandbox.path("log")).unwrap();
    let warnings = || log().lines().filter(|line| line.contains(" WARN ")).count();
    // Mounting does not wait for the log.
    wait_for("what is hidden at the start", || {
        log().contains("`overlayfs-mount check` shows them hidden=1\n")
    });
    let reload = || {
        let output = sandbox.overlay(&["reload", "view"]).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    // What was hidden at the start is no news.
    assert_eq!((reload(), warnings()), (String::new(), 0));
    team.skill("plan", "team\n").package("tools/slack", "team").commit();
    reload();
    assert_eq!(warnings(), 2, "{}", log());
    for line in [
        "path=tools/slack source=\"acme/team\" hidden=\"acme/base\" hidden_path=tools/x/slack\n",
        "path=.agents/skills/plan source=\"acme/team\" hidden=\"acme/base\" ",
    ] {
        assert!(log().contains(line), "{}", log());
    }
    // Another revision on either side hides nothing new.
    team.skill("plan", "again\n").commit();
    base.skill("plan", "again\n").commit();
    reload();
    assert_eq!(warnings(), 2, "{}", log());
    // What hides something may hide something else as well.
    base.package("tools/y/slack", "base").commit();
    reload();
    assert_eq!(warnings(), 3, "{}", log());
    assert!(log().contains("hidden_path=tools/y/slack\n"), "{}", log());
    // Too many are counted.
    for number in 0..25 {
        base.skill(&format!("s{number}"), "base\n");
        team.skill(&format!("s{number}"), "team\n");
    }
    base.commit();
    team.commit();
    reload();
    assert_eq!(warnings(), 3 + 21, "{}", log());
    assert!(log().contains("`overlayfs-mount check` shows them more=5\n"), "{}", log());
    mount.unmount();
}

#[test]
fn s71_reload_says_what_it_hides() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let (base, team) = (sandbox.repo("acme/base"), sandbox.repo("acme/team"));
    base.commit();
    team.commit();
    sandbox.configure("    - repo: acme/base\n    - repo: acme/team", "");
    let mount = sandbox.mount();
    // Whether `reload` or the daemon by itself is first is decided by chance, which favours the one that waits.
    let pid = mount.pid();
    let mut names = 0..20;
    wait_for("a reload that was faster", || {
        let name = format!("r{}", names.next().expect("one of 20 is faster"));
        base.skill(&name, "base\n");
        team.skill(&name, "team\n");
        sandbox.shell(&format!("kill -STOP {pid}"));
        base.commit();
        team.commit();
        let reload = sandbox.overlay(&["reload", "view"]).stderr(Stdio::piped()).spawn().unwrap();
        wait_for("the request", || {
            let open = fs::read_dir(format!("/proc/{}/fd", reload.id())).unwrap().flatten();
            let mut targets = open.filter_map(|file| fs::read_link(file.path()).ok());
            targets.any(|target| target.to_string_lossy().starts_with("socket:"))
        });
        sandbox.shell(&format!("kill -CONT {pid}"));
        let said = String::from_utf8(reload.wait_with_output().unwrap().stderr).unwrap();
        let expected =
            format!("warning: `.agents/skills/{name}` of `acme/team` hides that of `acme/base`\n");
        assert!(said.is_empty() || said == expected, "{said}");
        !said.is_empty()
    });
    mount.unmount();
}

#[test]
fn a_mount_that_cannot_fetch_what_it_needs_says_why() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.configure("    - {repo: acme/base, url: \"file:///nonexistent/base\"}", "");
    let said = sandbox.fail(1, &["mount", "--sync"]);
    assert!(said.contains("acme/base") && said.contains("not fetched"), "{said}");
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
}
