//! `mount.git`: the `.git` that is made for each source that is shown whole.

use std::fs;
use std::path::PathBuf;

use crate::fatal::Traced;
use crate::fixture::{Repo, Sandbox, can_inject, can_mount, wait_for};

/// What makes a repository lose all that no ref leads to.
const LOSE: &str = "git reflog expire --expire=now --all; git repack -adfq; git prune --expire=now";

/// A repository with three commits, the source of a view with `.git`.
fn three_commits(sandbox: &Sandbox) -> Repo<'_> {
    let repo = sandbox.repo("acme/base");
    for text in ["one\n", "two\n", "three\n"] {
        repo.skill("review", text).write("notes", text).commit();
    }
    sandbox.configure("    - {repo: acme/base, ref: main}", "git: true");
    repo
}

/// Replaces all of its history by one commit that has nothing in common with it, and drops that.
fn force_push(repo: &Repo<'_>, text: &str) -> String {
    repo.shell("git checkout -q --orphan next; git rm -rqf .");
    let commit = repo.skill("review", text).commit();
    repo.shell(&format!("git branch -M next main; {LOSE}"));
    commit
}

/// The ids of all objects in a `.git`, whether anything leads to them or not.
fn objects(sandbox: &Sandbox, git_dir: &str) -> Vec<String> {
    let script = format!(
        "git --git-dir={git_dir} cat-file --batch-all-objects --batch-check='%(objectname)' | sort"
    );
    sandbox.shell(&script).lines().map(str::to_owned).collect()
}

/// The ids of all that these commits reach.
fn reachable(repo: &Repo<'_>, commits: &[&str]) -> Vec<String> {
    let list = format!(
        "git --no-replace-objects rev-list --objects {} | cut -d' ' -f1 | sort -u",
        commits.join(" ")
    );
    repo.shell(&list).lines().map(str::to_owned).collect()
}

#[test]
fn s85_a_source_that_is_shown_whole_has_a_git_directory_for_clients_of_git() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = three_commits(&sandbox);
    let live = sandbox.repo("acme/live");
    live.skill("alive", "text\n").commit();
    sandbox.configure(
        "    - {repo: acme/base, ref: main, skillsSubdir: .}\n    - {path: repos/acme/live, name: me/live}",
        "git: true",
    );
    let commit = repo.git(&["rev-parse", "HEAD"]);
    let _mount = sandbox.mount();
    assert_eq!(sandbox.shell("git -C $VIEW/acme/base rev-parse HEAD").trim(), commit);
    assert_eq!(sandbox.shell("git -C $VIEW/acme/base log --oneline | wc -l").trim(), "3");
    let shown = sandbox.shell("git -C $VIEW/acme/base show HEAD~1:notes");
    assert_eq!(shown, "two\n");
    assert_eq!(
        sandbox.shell("git -C $VIEW/acme/base show HEAD"),
        repo.git(&["show", "HEAD"]) + "\n"
    );
    sandbox.shell(
        "git -c advice.detachedHead=false clone -q --shared $VIEW/acme/base work
         git -C work checkout -q -b topic
         test \"$(cat work/.git/objects/info/alternates)\" = $VIEW/acme/base/.git/objects
         test -z \"$(find work/.git/objects -type f ! -path '*/info/*')\"
         echo mine > work/notes && git -C work commit -qam mine
         git -C work fsck --full --strict && git -C work status --short | wc -l | grep -qx 0",
    );
    // Sorted among the other names, with the number that `stat` gives, and on no surface.
    let names = sandbox.shell("ls -A $VIEW/acme/base");
    assert_eq!(names, ".agents\n.git\nnotes\n");
    sandbox.shell("test $(ls -di $VIEW/acme/base/.git | cut -d' ' -f1) = $(ls -ai $VIEW/acme/base | awk '$2 == \".git\" { print $1 }')");
    assert_eq!(sandbox.shell("ls -A $VIEW/.agents/skills"), ".agents\nalive\nnotes\n");
    let found = sandbox.shell("find $VIEW $VIEW/.overlay/current/ -name .git -printf '%P\\n'");
    assert_eq!(found, "acme/base/.git\nacme/base/.git\n");
    assert!(!sandbox.shell_output("echo x > $VIEW/acme/base/.git/HEAD").status.success());
}

#[test]
fn s85_without_the_key_nothing_is_shown_and_it_can_be_turned_on_and_off() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    three_commits(&sandbox);
    sandbox.configure("    - {repo: acme/base, ref: main}", "");
    let _mount = sandbox.mount();
    sandbox.shell("test ! -e $VIEW/acme/base/.git");
    let without = sandbox.shell("cat $VIEW/.overlay/revision");
    sandbox.configure("    - {repo: acme/base, ref: main}", "git: true");
    sandbox.succeed(&["reload", "view"]);
    sandbox.shell("git -C $VIEW/acme/base log --oneline | wc -l | grep -qx 3");
    assert_ne!(sandbox.shell("cat $VIEW/.overlay/revision"), without);
    sandbox.configure("    - {repo: acme/base, ref: main}", "git: false");
    sandbox.succeed(&["reload", "view"]);
    sandbox.shell("test ! -e $VIEW/acme/base/.git");
    assert_eq!(sandbox.shell("cat $VIEW/.overlay/revision"), without);
}

/// Puts into a repository what nobody who reads a view may see; gives the ids of its objects.
fn plant(repo: &Repo<'_>) -> Vec<String> {
    let planted = repo.shell(
        "git config remote.origin.url https://user:PLANTED@git.example/a/b.git
         git config http.extraHeader 'Authorization: PLANTED'
         mkdir -p .git/hooks && echo 'echo PLANTED' > .git/hooks/post-checkout && chmod +x .git/hooks/post-checkout
         head=$(git rev-parse HEAD)
         git checkout -q -b planted && echo PLANTED > planted && git add -A && git commit -qm PLANTED
         git rev-parse HEAD HEAD:planted 'HEAD^{tree}'
         git tag -a -m PLANTED planted-tag && git rev-parse planted-tag
         git checkout -q main
         echo PLANTED unreachable | git hash-object -w --stdin
         git replace $head $(git commit-tree -m PLANTED 'HEAD^{tree}')
         git repack -aqd --keep-unreachable && echo PLANTED loose | git hash-object -w --stdin",
    );
    planted.lines().map(str::to_owned).collect()
}

#[test]
fn s86_its_objects_are_exactly_what_the_served_revisions_reach() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = three_commits(&sandbox);
    let planted = plant(&repo);
    assert_eq!(planted.len(), 6);
    let sibling = sandbox.repo("acme/private");
    sibling.write("PLANTED", "PLANTED\n").commit();
    sandbox.configure(
        "    - {repo: acme/base, ref: main, visibility: public}\n    - {repo: acme/private}",
        "git: true}\naccess: public\nsurfaces: {",
    );
    let _mount = sandbox.mount();
    sandbox.shell("test ! -e $VIEW/acme/private");
    let git_dir = "$VIEW/acme/base/.git";
    let first = repo.shell("git --no-replace-objects rev-parse main");
    assert_eq!(objects(&sandbox, git_dir), reachable(&repo, &[&first]));
    for id in &planted {
        let asked = sandbox.shell_output(&format!("git --git-dir={git_dir} cat-file -e {id}"));
        assert!(!asked.status.success(), "{id}");
    }
    let files =
        sandbox.shell("cd $VIEW/acme/base/.git && find . -type f | grep -v '/pack-' | sort");
    assert_eq!(files, "./HEAD\n./config\n");
    assert_eq!(
        sandbox.shell("git -C $VIEW/acme/base for-each-ref; git -C $VIEW/acme/base remote"),
        ""
    );
    // Everything that can be read, packs decoded.
    sandbox.shell(
        "! grep -r PLANTED $VIEW $VIEW/.overlay/current/ $VIEW/.overlay/status.json
         cd $VIEW/acme/base && git cat-file --batch-all-objects --batch | grep -a PLANTED && exit 1 || true",
    );
    // What was served before the flip stays, and nothing else comes with it.
    let second = repo.skill("review", "four\n").commit();
    sandbox.succeed(&["reload", "view"]);
    assert_eq!(objects(&sandbox, git_dir), reachable(&repo, &[&second]));
    assert_eq!(sandbox.shell("git -C $VIEW/acme/base rev-parse HEAD").trim(), second);
}

#[test]
fn s87_a_clone_that_borrows_keeps_its_base_over_flips_force_pushes_and_restarts() {
    if !can_mount() {
        return;
    }
    let _emptying = crate::fixture::empties_caches();
    let sandbox = Sandbox::new();
    let repo = three_commits(&sandbox);
    let mount = sandbox.mount();
    let first = sandbox.shell("git -C $VIEW/acme/base rev-parse HEAD");
    sandbox
        .shell("git clone -q --shared $VIEW/acme/base work 2>&1 && git -C work checkout -q -b x");
    let whole = "git -C work fsck --full --strict 2>&1
         test $(git -C work log -p x | grep -c '^[+]\\(one\\|two\\|three\\)$') = 6";
    let second = force_push(&repo, "other\n");
    sandbox.succeed(&["reload", "view"]);
    assert_eq!(sandbox.shell("git -C $VIEW/acme/base log --format=%H").trim(), second);
    sandbox.shell(whole);
    // Also what the kernel forgot is found again.
    sandbox.shell("echo 2 > /proc/sys/vm/drop_caches || true");
    sandbox.shell(whole);
    mount.unmount();
    let _mount = sandbox.mount();
    sandbox.shell(whole);
    force_push(&repo, "third\n");
    sandbox.succeed(&["reload", "view"]);
    sandbox.shell(whole);
    // A set that was left shows the `.git` that it had, also one of an earlier daemon.
    let heads = sandbox.shell(
        "for set in $VIEW/.overlay/revisions/*; do git -C $set/acme/base rev-parse HEAD; done",
    );
    assert!(heads.contains(first.trim()) && heads.contains(&second), "{heads}");
    assert_eq!(heads.lines().count(), 3);
}

#[test]
fn s87_who_holds_a_git_directory_sees_its_head() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = three_commits(&sandbox);
    let _mount = sandbox.mount();
    let first = repo.git(&["rev-parse", "HEAD"]);
    // The same tree in another commit is another `.git` all the same. It is made only now: the view follows by itself.
    let seen = sandbox.shell(&format!(
        "cd $VIEW/acme/base/.git && cat HEAD && git -C {} commit -q --allow-empty -m 'the same tree' && {} reload $VIEW >/dev/null && \
         cat HEAD $VIEW/acme/base/.git/HEAD && ls objects/pack | wc -l",
        repo.path.display(),
        env!("CARGO_BIN_EXE_overlayfs-mount")
    ));
    let second = repo.git(&["rev-parse", "HEAD"]);
    assert_eq!(seen, format!("{first}\n{first}\n{second}\n3\n"));
    // Back to where it was: what was served in between stays.
    repo.git(&["reset", "-q", "--hard", &first]);
    sandbox.succeed(&["reload", "view"]);
    assert_eq!(sandbox.shell("git -C $VIEW/acme/base rev-parse HEAD").trim(), first);
    sandbox.shell(&format!("git -C $VIEW/acme/base cat-file -e {second}"));
}

#[test]
fn s87_many_flips_leave_few_packs_and_lose_nothing() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = three_commits(&sandbox);
    let _mount = sandbox.mount();
    sandbox.shell("git clone -q --shared $VIEW/acme/base work 2>&1");
    let mut commits = vec![repo.git(&["rev-parse", "HEAD"])];
    for number in 0..40 {
        commits.push(repo.write("notes", format!("note {number}\n")).commit());
        sandbox.succeed(&["reload", "view"]);
    }
    let commits: Vec<_> = commits.iter().map(String::as_str).collect();
    assert_eq!(objects(&sandbox, "$VIEW/acme/base/.git"), reachable(&repo, &commits));
    let packs = sandbox.shell("ls $VIEW/acme/base/.git/objects/pack/*.pack | wc -l");
    assert!(packs.trim().parse::<u32>().unwrap() <= 16, "{packs}");
    sandbox.shell("git -C work fsck --full && git -C work log -p >/dev/null && git -C $VIEW/acme/base fsck --full");
}

#[test]
fn s85_repositories_of_sha256_and_two_refs_of_one_repository() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = three_commits(&sandbox);
    repo.git(&["branch", "old", "HEAD~1"]);
    let wide = sandbox.existing("acme/wide");
    sandbox.shell(
        "mkdir -p repos/acme/wide && git init -q -b main --object-format=sha256 repos/acme/wide",
    );
    let id = wide.write("file", "text\n").commit();
    assert_eq!(id.len(), 64);
    sandbox.configure(
        "    - {repo: acme/base, ref: old, name: acme/old}\n    - {repo: acme/base, ref: main}\n    - {repo: acme/wide}",
        "git: true",
    );
    let _mount = sandbox.mount();
    assert_eq!(sandbox.shell("git -C $VIEW/acme/wide rev-parse HEAD").trim(), id);
    sandbox.shell(
        "git clone -q --shared $VIEW/acme/wide w 2>&1 && cat w/file && git -C w fsck --full",
    );
    let old = reachable(&repo, &["old"]);
    assert_eq!(objects(&sandbox, "$VIEW/acme/old/.git"), old);
    assert_eq!(objects(&sandbox, "$VIEW/acme/base/.git"), reachable(&repo, &["main"]));
    assert_eq!(sandbox.shell("git -C $VIEW/acme/old show HEAD:notes"), "two\n");
}

#[test]
fn s88_a_shallow_history_is_shown_as_far_as_it_goes() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let origin = three_commits(&sandbox);
    let url = format!("file://{}", origin.path.display());
    sandbox.shell(&format!("git clone -q --depth=2 --no-single-branch {url} repos/acme/cut"));
    sandbox.configure("    - {repo: acme/cut, ref: main}", "git: true");
    let said = sandbox.succeed(&["check"]);
    assert!(said.contains(".git: its history ends where the repository's does"), "{said}");
    let _mount = sandbox.mount();
    assert_eq!(sandbox.shell("git -C $VIEW/acme/cut log --oneline | wc -l").trim(), "2");
    let last = origin.git(&["rev-parse", "HEAD~1"]);
    assert_eq!(sandbox.shell("cat $VIEW/acme/cut/.git/shallow").trim(), last);
    sandbox.shell("git -C $VIEW/acme/cut fsck --full");
    // The rest of the history is shown as soon as it is there, though no ref has moved.
    sandbox.shell("git -C repos/acme/cut fetch -q --unshallow");
    wait_for("the whole history", || {
        sandbox.shell_output("test ! -e $VIEW/acme/cut/.git/shallow").status.success()
    });
    assert_eq!(sandbox.shell("git -C $VIEW/acme/cut log --oneline | wc -l").trim(), "3");
    sandbox.shell("git -C $VIEW/acme/cut fsck --full");
}

#[test]
fn s88_what_lacks_of_a_history_costs_the_git_directory_and_no_more() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let origin = three_commits(&sandbox);
    origin.git(&["config", "uploadpack.allowFilter", "true"]);
    let url = format!("file://{}", origin.path.display());
    sandbox.shell(&format!("git clone -q --filter=blob:none {url} repos/acme/part"));
    let hollow = sandbox.repo("acme/hollow");
    hollow.write("file", "old\n").commit();
    let lost: PathBuf = {
        let id = hollow.git(&["rev-parse", "HEAD:file"]);
        hollow.path.join(format!(".git/objects/{}/{}", &id[..2], &id[2..]))
    };
    hollow.write("file", "new\n").commit();
    fs::remove_file(&lost).unwrap();
    sandbox.configure(
        "    - {repo: acme/part, ref: main}\n    - {repo: acme/hollow}\n    - {repo: acme/base, ref: main}",
        "git: true",
    );
    let said = sandbox.succeed(&["check"]);
    assert!(said.contains(".git: left out while an object of its history lacks"), "{said}");
    sandbox.mount().unmount();
    // The second daemon finds what the first could not finish.
    let _mount = sandbox.mount();
    sandbox.shell(
        "test \"$(cat $VIEW/acme/part/notes)\" = three && test ! -e $VIEW/acme/part/.git
         test \"$(cat $VIEW/acme/hollow/file)\" = new && test ! -e $VIEW/acme/hollow/.git
         git -C $VIEW/acme/base fsck --full",
    );
    let sources = sandbox.status()["sources"].clone();
    for (position, has_reason) in [(0, true), (1, true), (2, false)] {
        assert_eq!(sources[position]["state"], "ready");
        let reason = sources[position]["no_git_because"].as_str().unwrap_or_default();
        assert_eq!(reason.contains("its history cannot be packed"), has_reason, "{sources}");
    }
    let place = sandbox.view().canonicalize().unwrap().join("acme/hollow/.git/HEAD");
    let explained = sandbox.succeed(&["explain", place.to_str().unwrap()]);
    assert!(explained.contains("has no `.git`: its history cannot be packed"), "{explained}");
    let said = sandbox.succeed(&["status", "view"]);
    assert!(said.contains("`acme/hollow` has no `.git`"), "{said}");
}

#[test]
fn s88_a_pack_that_cannot_be_found_for_a_moment_is_not_taken_for_packed() {
    if !can_inject() {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = three_commits(&sandbox);
    let mount = sandbox.mount();
    let packing = sandbox.shell("find \"$PWD\"/state/pins -name incoming");
    let pid = mount.pid().to_string();
    let mut strace = sandbox.command("strace");
    strace.args(["-f", "-qq", "-o", "trace", "-e", "inject=getdents64:error=EIO:when=3+", "-P"]);
    // What was there before is listed to be removed.
    let traced = Traced(strace.arg(packing.trim()).args(["-p", &pid]).spawn().unwrap());
    let task = format!("/proc/{pid}/status");
    wait_for("strace", || !fs::read_to_string(&task).unwrap().contains("TracerPid:\t0\n"));
    repo.skill("review", "four\n").commit();
    wait_for("the commit", || {
        sandbox.shell("cat $VIEW/.agents/skills/review/SKILL.md") == "four\n"
    });
    let trace = || fs::read_to_string(sandbox.path("trace")).unwrap();
    assert!(trace().contains("(INJECTED)"), "{}", trace());
    // It is left out, and whole when it is there again.
    assert!(sandbox.status()["sources"][0]["no_git_because"].is_string(), "{}", sandbox.status());
    sandbox.shell("test ! -e $VIEW/acme/base/.git");
    drop(traced);
    mount.unmount();
    let mount = sandbox.mount();
    sandbox.shell("git -C $VIEW/acme/base fsck --full; test $(git -C $VIEW/acme/base log --oneline | wc -l) = 4");
    mount.unmount();
}

#[test]
fn an_export_and_a_command_have_the_git_directory_too() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = three_commits(&sandbox);
    sandbox.succeed(&["export", "out"]);
    assert_eq!(
        sandbox.shell("git -C out/acme/base log --format=%H -1").trim(),
        repo.git(&["rev-parse", "HEAD"])
    );
    sandbox.shell("git -C out/acme/base fsck --full");
    let script = format!("git -C {}/acme/base log --oneline | wc -l", sandbox.view().display());
    let said = sandbox.succeed(&["exec", "--", "sh", "-euc", &script]);
    assert_eq!(said.trim(), "3");
    let explained = sandbox.succeed(&["explain", "-c", "overlays.yaml", "acme/base/.git"]);
    assert!(explained.contains("acme/base/.git"), "{explained}");
    assert!(!explained.contains("shows nothing"), "{explained}");
    // Without a mount the same is said of what is below, but for the packs.
    let _mount = sandbox.mount();
    let made = sandbox.shell("cd $VIEW; find acme/base/.git | LC_ALL=C sort");
    let others = ["nosuch", "HEAD/x", "refs/heads/main", "objects/pack/nosuch", "shallow"];
    let others = others.map(|name| format!("acme/base/.git/{name}"));
    for path in made.lines().chain(others.iter().map(String::as_str)) {
        let shows = |arguments: &[&str]| {
            let text = sandbox.succeed(&[&["explain", "--json"], arguments].concat());
            let report: serde_json::Value = serde_json::from_str(&text).unwrap();
            (report["shows"].clone(), report["absence"].as_str().map(str::to_owned))
        };
        let below = format!("view/{path}");
        let ((mounted, _), (told, why)) = (shows(&[&below]), shows(&["-c", "overlays.yaml", path]));
        if path.contains("/objects/pack/") {
            assert!(why.is_some_and(|why| why.contains("are made by a mount")), "{path}");
        } else {
            assert_eq!(told, mounted, "{path}: {why:?}");
        }
    }
}

#[test]
fn s86_what_a_private_source_served_is_in_no_public_one() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = three_commits(&sandbox);
    repo.git(&["checkout", "-q", "-b", "secret"]);
    let secret = repo.write("secret", "PLANTED\n").commit();
    repo.git(&["checkout", "-q", "main"]);
    sandbox.configure("    - {repo: acme/base, ref: secret, visibility: private}", "git: true");
    let _mount = sandbox.mount();
    sandbox.shell(&format!("git -C $VIEW/acme/base cat-file -e {secret}"));
    sandbox.configure(
        "    - {repo: acme/base, ref: main, visibility: public}",
        "git: true}\naccess: public\nsurfaces: {",
    );
    sandbox.succeed(&["reload", "view"]);
    assert_eq!(objects(&sandbox, "$VIEW/acme/base/.git"), reachable(&repo, &["main"]));
    assert_eq!(sandbox.shell("ls $VIEW/.overlay/revisions | wc -l").trim(), "1");
}

#[test]
fn s87_what_a_daemon_that_was_killed_left_unfinished_is_not_shown() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = three_commits(&sandbox);
    let mount = sandbox.mount();
    sandbox.shell("git clone -q --shared $VIEW/acme/base work 2>&1");
    sandbox.shell(&format!("kill -9 {}", mount.pid()));
    drop(mount);
    sandbox.shell(
        "cd state/pins/*/git/*/ && touch repository/objects/pack/tmp_pack_x repository/objects/pack/pack-00.pack
         mkdir -p incoming served/7 && touch incoming/pack-00.idx served/7/HEAD",
    );
    force_push(&repo, "other\n");
    let _mount = sandbox.mount();
    sandbox.shell(
        "git -C work fsck --full && git -C work log -p >/dev/null && git -C $VIEW/acme/base fsck --full
         test $(ls $VIEW/acme/base/.git/objects/pack/*.pack | wc -l) = 2
         cd state/pins/*/git/*/ && test ! -e incoming/pack-00.idx && test ! -e served/7 && test ! -e repository/objects/pack/tmp_pack_x",
    );
}

#[test]
fn s85_paths_that_git_would_split_or_unquote_are_no_obstacle() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = three_commits(&sandbox);
    fs::create_dir(sandbox.path("re\"po:s \\x")).unwrap();
    fs::rename(repo.path.parent().unwrap(), sandbox.path("re\"po:s \\x/acme")).unwrap();
    let text = "overlays: {sources: [{repo: acme/base}]}\nrepoCache: {path: 're\"po:s \\x'}\n\
                state: {dir: 'st\"a:te'}\nmount: {at: view, git: true}\n";
    fs::write(sandbox.path("overlays.yaml"), text).unwrap();
    let _mount = sandbox.mount();
    sandbox.shell("git -C $VIEW/acme/base log --oneline | wc -l | grep -qx 3");
}
