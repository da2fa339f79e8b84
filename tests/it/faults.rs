//! Repositories, remotes, disks and clocks that misbehave under a mount: what is shown is whole, and what was shown stays.

use std::fs;
use std::os::unix::fs::FileExt;
use std::process::{Child, Stdio};

use crate::fixture::{Repo, Sandbox, can_mount, wait_for};
use crate::small_disks::Small;

fn state(sandbox: &Sandbox) -> String {
    sandbox.status()["sources"][0]["state"].as_str().unwrap().to_owned()
}

fn read_skill(sandbox: &Sandbox) -> String {
    sandbox.shell("cat $VIEW/.agents/skills/review/SKILL.md")
}

fn one_source(sandbox: &Sandbox) -> Repo<'_> {
    let repo = sandbox.repo("acme/base");
    repo.skill("review", "one\n").commit();
    sandbox.configure("    - repo: acme/base", "");
    repo
}

/// A remote with a skill of this text, and the configuration of a source that is cloned from it; `cache` is what follows the path of the repo cache.
pub(crate) fn one_remote<'a>(sandbox: &'a Sandbox, text: &str, cache: &str) -> Repo<'a> {
    let remote = sandbox.repo("../remotes/base");
    remote.skill("review", text).commit();
    let configuration = format!(
        "overlays: {{sources: [{{repo: acme/base, ref: main, url: \"file://{}\"}}]}}\n\
         repoCache: {{path: repos{cache}}}\nstate: {{dir: state}}\nmount: {{at: view}}\n",
        remote.path.display()
    );
    fs::write(sandbox.path("overlays.yaml"), configuration).unwrap();
    remote
}

#[test]
fn a_repository_that_is_removed_and_made_again_is_followed() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = one_source(&sandbox);
    let mount = sandbox.mount_pinned();
    fs::remove_dir_all(&repo.path).unwrap();
    wait_for("staleness", || state(&sandbox) == "stale");
    assert_eq!(read_skill(&sandbox), "one\n");
    // Without a commit it has nothing to show yet.
    sandbox.repo("acme/base");
    sandbox.succeed(&["reload", "view"]);
    assert_eq!((read_skill(&sandbox), state(&sandbox)), ("one\n".to_owned(), "stale".to_owned()));
    sandbox.existing("acme/base").skill("review", "two\n").commit();
    wait_for("the new one", || read_skill(&sandbox) == "two\n");
    wait_for("readiness", || state(&sandbox) == "ready");
    mount.unmount();
}

#[test]
fn a_pack_that_is_damaged_in_place_gives_errors_and_never_other_bytes() {
    if !can_mount() {
        return;
    }
    let _emptying = crate::fixture::empties_caches();
    let sandbox = Sandbox::new();
    let repo = sandbox.repo("acme/base");
    for skill in 0..40 {
        repo.shell(&format!(
            "mkdir -p .agents/skills/s{skill}; for n in 1 2 3; do seq {skill}00$n 77 {skill}99999 >.agents/skills/s{skill}/$n; done"
        ));
    }
    repo.commit();
    repo.git(&["repack", "-adq"]);
    sandbox.shell("cp -r repos/acme/base/.agents good");
    sandbox.configure("    - repo: acme/base", "");
    let mount = sandbox.mount_pinned();
    let packs = fs::read_dir(repo.path.join(".git/objects/pack")).unwrap();
    let pack = packs.map(|entry| entry.unwrap().path());
    let pack = pack.into_iter().find(|path| path.extension().is_some_and(|e| e == "pack")).unwrap();
    let size = pack.metadata().unwrap().len();
    fs::set_permissions(&pack, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&pack).unwrap();
    for place in (size / 4..size).step_by(usize::try_from(size / 40).unwrap()) {
        file.write_all_at(&[0xa5; 9], place).unwrap();
    }
    sandbox.shell("echo 2 > /proc/sys/vm/drop_caches || true");
    let compared = sandbox.shell(
        "cd good/skills; good=0 bad=0
         for file in */*; do
           if cat $VIEW/.agents/skills/$file >$HOME/read 2>/dev/null; then
             cmp $HOME/read $file; good=$((good + 1))
           else bad=$((bad + 1)); fi
         done; echo $good $bad",
    );
    let counts: Vec<u32> = compared.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert!(counts[0] > 0 && counts[1] > 0 && counts.len() == 2, "{compared}");
    assert_eq!(sandbox.status()["state"], "ready");
    mount.unmount();
}

#[test]
fn a_checkout_under_way_is_never_read_half_way() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = one_source(&sandbox);
    let two = repo.skill("review", "two\n").skill("added", "two\n").commit();
    repo.git(&["checkout", "-q", "--detach", "HEAD~1"]);
    let mount = sandbox.mount();
    // As `git checkout` has it just before the end: the work tree is new, the index locked, HEAD where it was.
    repo.git(&["read-tree", "-u", "--reset", &two]);
    fs::write(repo.path.join(".git/index.lock"), "").unwrap();
    fs::write(repo.path.join(".git/HEAD.lock"), format!("{two}\n")).unwrap();
    sandbox.succeed(&["reload", "view"]);
    assert_eq!(read_skill(&sandbox), "one\n");
    assert_eq!(sandbox.shell("ls $VIEW/.agents/skills"), "review\n");
    fs::rename(repo.path.join(".git/HEAD.lock"), repo.path.join(".git/HEAD")).unwrap();
    wait_for("the end of the checkout", || read_skill(&sandbox) == "two\n");
    assert_eq!(sandbox.shell("ls $VIEW/.agents/skills"), "added\nreview\n");
    mount.unmount();
}

#[test]
fn a_clock_that_was_set_back_hides_no_move() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = one_source(&sandbox);
    let mount = sandbox.mount();
    let time = || {
        sandbox
            .shell("stat -c %Y $VIEW/.agents/skills/review/SKILL.md")
            .trim()
            .parse::<u64>()
            .unwrap()
    };
    let before = time();
    // A commit and a ref of long ago.
    repo.skill("review", "two\n");
    repo.shell("git add -A; GIT_COMMITTER_DATE=2001-01-01T00:00:00Z git commit -q -m old; touch -d 2001-01-01 .git/refs/heads/main .git/HEAD");
    wait_for("the move", || read_skill(&sandbox) == "two\n");
    assert!(time() > before, "a changed file is newer, whatever its commit says");
    mount.unmount();
}

#[test]
fn many_refs_cost_a_mirror_nothing() {
    let sandbox = Sandbox::new();
    let remote = one_remote(&sandbox, "one\n", ", interval: 1h");
    remote.shell(
        "id=$(git rev-parse HEAD); for n in $(seq 500); do echo create refs/heads/b/$n $id; echo create refs/tags/t$n $id; done | git update-ref --stdin",
    );
    sandbox.succeed(&["sync", "--once"]);
    let mirror = sandbox.existing("private/acme/base.git");
    assert_eq!(mirror.git(&["for-each-ref", "--format=%(refname)"]), "refs/heads/main");
    remote.skill("review", "two\n").commit();
    sandbox.succeed(&["sync", "--once"]);
    assert_eq!(mirror.git(&["show", "main:.agents/skills/review/SKILL.md"]), "two");
}

#[test]
fn a_remote_may_be_shallow_and_one_that_lacks_objects_is_an_error() {
    let sandbox = Sandbox::new();
    let remote = one_remote(&sandbox, "one\n", ", interval: 1h");
    remote.skill("review", "two\n").commit();
    sandbox.shell("git clone -q --bare --depth=1 file://$PWD/remotes/base shallow; mv remotes/base full; mv shallow remotes/base");
    sandbox.succeed(&["sync", "--once"]);
    let mirror = sandbox.existing("private/acme/base.git");
    let skill = || mirror.git(&["show", "main:.agents/skills/review/SKILL.md"]);
    assert_eq!(skill(), "two");
    // A partial clone, whose own remote is away.
    sandbox.shell(
        "git -C full config uploadpack.allowFilter true; rm -r remotes/base
         git clone -q --bare --filter=blob:none file://$PWD/full remotes/base; mv full away
         git -C remotes/base update-ref refs/heads/main $(git -C remotes/base commit-tree -m new 'main^{tree}')",
    );
    sandbox.shell("rm -r repos/private repos/acme");
    let said = sandbox.fail(1, &["sync", "--once"]);
    assert!(said.contains("acme/base") && said.contains("cure: "), "{said}");
    assert!(!mirror.path.exists(), "nothing half is put in place");
    sandbox.shell("rm -r remotes/base; mv away remotes/base");
    sandbox.succeed(&["sync", "--once"]);
    assert_eq!(skill(), "two");
}

/// `sync` in the background, ended with the value.
struct Syncing(Child);

impl Syncing {
    fn start(sandbox: &Sandbox, said: &str) -> Self {
        let said = fs::File::create(sandbox.path(said)).unwrap();
        Self(sandbox.overlay(&["sync"]).stdout(Stdio::null()).stderr(said).spawn().unwrap())
    }
}

impl Drop for Syncing {
    fn drop(&mut self) {
        self.0.kill().unwrap_or_default();
        self.0.wait().map(drop).unwrap_or_default();
    }
}

#[test]
fn several_daemons_keep_one_cache() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let remote = one_remote(&sandbox, "one\n", ", interval: 1s");
    let syncing = [Syncing::start(&sandbox, "said-1"), Syncing::start(&sandbox, "said-2")];
    wait_for("the clone", || sandbox.path("repos/.repo-cache-ready").exists());
    let mount = sandbox.mount_with(&["--sync"]);
    // A second view of the same cache.
    let text = fs::read_to_string(sandbox.path("overlays.yaml")).unwrap();
    fs::write(sandbox.path("second.yaml"), text.replace("at: view", "at: second")).unwrap();
    sandbox.succeed(&["mount", "-c", "second.yaml", "--sync"]);
    for round in 0..5 {
        remote.skill("review", &format!("{round}\n")).commit();
        let both = "cat $VIEW/.agents/skills/review/SKILL.md second/.agents/skills/review/SKILL.md";
        wait_for("both views", || sandbox.shell(both) == format!("{round}\n{round}\n"));
    }
    for said in ["said-1", "said-2"] {
        let said = fs::read_to_string(sandbox.path(said)).unwrap();
        assert!(!said.contains("error"), "{said}");
    }
    drop(syncing);
    sandbox.existing("private/acme/base.git").git(&["fsck", "--full"]);
    assert_eq!(state(&sandbox), "ready");
    sandbox.succeed(&["unmount", "second"]);
    mount.unmount();
}

#[test]
fn a_cache_that_is_full_keeps_the_view_until_there_is_room() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let remote = one_remote(&sandbox, "one\n", ", interval: 1h");
    let Some(small) = Small::mount(&sandbox.path("repos"), "size=2m") else { return };
    let mount = sandbox.mount_with(&["--sync"]);
    remote.shell("head -c 4000000 /dev/urandom >noise");
    remote.skill("review", "two\n").commit();
    sandbox.succeed(&["reload", "view"]);
    assert_eq!(read_skill(&sandbox), "one\n");
    let told = sandbox.status();
    let says = |key: &str, text: &str| {
        told["sources"][0][key].as_str().is_some_and(|said| said.contains(text))
    };
    assert!(says("error", "no space is left") && says("cure", "free space"), "{told}");
    assert_eq!(sandbox.shell("find repos -name 'tmp_*'; ls repos/.repo-cache-ready || true"), "");
    sandbox.shell("mount -o remount,size=20m repos");
    sandbox.succeed(&["reload", "view"]);
    assert_eq!((read_skill(&sandbox), state(&sandbox)), ("two\n".to_owned(), "ready".to_owned()));
    sandbox.succeed(&["unmount", "view"]);
    drop((small, mount));
}

#[test]
fn a_ref_that_is_deleted_at_the_remote_is_stale_and_said() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let remote = one_remote(&sandbox, "one\n", ", interval: 1h");
    let mount = sandbox.mount_with(&["--sync"]);
    remote.git(&["branch", "-m", "main", "next"]);
    sandbox.succeed(&["reload", "view"]);
    let told = sandbox.status();
    assert_eq!(told["sources"][0]["state"], "stale", "{told}");
    let source = &told["sources"][0];
    let says = |key: &str, text: &str| source[key].as_str().unwrap().contains(text);
    assert!(says("error", "ref `main` is not in") && says("cure", "to one of: next"), "{source}");
    assert_eq!(read_skill(&sandbox), "one\n");
    remote.git(&["branch", "-m", "next", "main"]);
    remote.skill("review", "two\n").commit();
    sandbox.succeed(&["reload", "view"]);
    assert_eq!((read_skill(&sandbox), state(&sandbox)), ("two\n".to_owned(), "ready".to_owned()));
    mount.unmount();
}

#[test]
fn a_copy_for_which_there_is_no_room_is_said_and_takes_none() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = one_source(&sandbox);
    repo.shell("head -c 4000000 /dev/urandom >noise");
    repo.commit();
    sandbox.configure("    - {repo: acme/base, pin: copy}", "");
    fs::create_dir(sandbox.path("state")).unwrap();
    let Some(small) = Small::mount(&sandbox.path("state"), "size=2m") else { return };
    let mount = sandbox.mount();
    let reason = || sandbox.status()["sources"][0]["unpinned_because"].as_str().map(str::to_owned);
    wait_for("the reason", || reason().is_some_and(|said| said.contains("copying an object")));
    let said = reason().unwrap();
    assert!(said.contains("No space left"), "{said}");
    assert_eq!(read_skill(&sandbox), "one\n");
    let copies = || sandbox.shell("find state/pins -mindepth 2 -name '*-[0-9]' -type d");
    wait_for("what was copied to go", || copies().is_empty());
    // The next commit needs less.
    repo.shell("git rm -q noise");
    repo.skill("review", "two\n").commit();
    sandbox.succeed(&["reload", "view"]);
    assert_eq!(read_skill(&sandbox), "two\n");
    wait_for("the copy", || sandbox.status()["sources"][0]["pinned"] == true);
    sandbox.succeed(&["unmount", "view"]);
    drop((small, mount));
}
