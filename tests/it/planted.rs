//! Words that are planted wherever a public view must not lead, and looked for wherever somebody might read them.

use std::fs;

use crate::fixture::{Sandbox, can_mount};
use crate::observing::{address, metrics};

/// In credentials, hooks, other refs, unreachable objects of a source that is shown.
const INSIDE: &str = "pl4nted-beside-what-is-shown";
/// In names, contents, refs and attributes of a source that is not.
const PRIVATE: &str = "pl4nted-in-a-private-source";

/// A public source with planted words everywhere but in what its commit shows, and a private one.
fn plant(sandbox: &Sandbox) {
    let open = sandbox.repo("public/acme/open");
    open.skill("review", "shown\n").commit();
    open.git(&["remote", "add", "origin", &format!("https://user:{INSIDE}@127.0.0.1:1/open.git")]);
    open.git(&["config", "http.extraHeader", &format!("Authorization: {INSIDE}")]);
    open.git(&["config", &format!("url.https://{INSIDE}@host/.insteadOf"), "https://host/"]);
    open.git(&["checkout", "-q", "-b", &format!("other-{INSIDE}")]);
    open.skill(&format!("other-{INSIDE}"), INSIDE).commit();
    open.git(&["tag", "-m", INSIDE, &format!("tag-{INSIDE}")]);
    open.git(&["checkout", "-q", "main"]);
    open.shell(&format!(
        "echo {INSIDE} | git hash-object -w --stdin >/dev/null
         printf '#!/bin/sh\\necho {INSIDE}\\n' >.git/hooks/post-checkout; chmod +x .git/hooks/post-checkout
         echo {INSIDE} >.git/description; echo {INSIDE} >.agents/skills/review/untracked
         echo {INSIDE} >.git/{INSIDE}; git notes add -m {INSIDE}; git stash list >/dev/null"
    ));
    let closed = sandbox.repo(&format!("private/acme/{PRIVATE}"));
    closed.skill(PRIVATE, PRIVATE).package(&format!("tools/{PRIVATE}"), PRIVATE);
    closed.link(&format!(".agents/skills/review/{PRIVATE}"), PRIVATE);
    closed.commit();
    closed.git(&["branch", &format!("b-{PRIVATE}")]);
    fs::write(sandbox.path("token"), format!("{INSIDE}\n")).unwrap();
    let text = format!(
        "access: public\noverlays:\n  sources:\n\
         \x20   - {{repo: acme/{PRIVATE}, visibility: private, required: false}}\n\
         \x20   - {{repo: acme/open, ref: main, visibility: public}}\n\
         repoCache: {{path: repos, tokenFile: token}}\nstate: {{dir: state}}\nmount: {{at: view, xattrs: true}}\n"
    );
    fs::write(sandbox.path("overlays.yaml"), text).unwrap();
}

fn assert_clean(what: &str, said: &str, words: &[&str]) {
    for word in words {
        let line = said.lines().find(|line| line.contains(word));
        assert!(line.is_none(), "{what} has a planted word: {}", line.unwrap_or_default());
    }
    assert!(!said.is_empty(), "{what} says nothing");
}

/// Everything that a reader of the view can see: names, contents, targets of links, attributes.
fn walk(sandbox: &Sandbox) -> String {
    let script = "
import os, sys
seen = 0
def tell(*words):
    print(*(word if isinstance(word, str) else repr(word) for word in words))
for above, directories, files in os.walk(sys.argv[1].encode()):
    for name in [b'.'] + directories + files:
        path = os.path.join(above, name)
        tell(path, os.lstat(path))
        names = os.listxattr(path, follow_symlinks=False)
        for attribute in names + ['user.overlayfs-mount.' + word for word in ('source', 'revision', 'path', 'hides', 'visibility', 'ref')]:
            try:
                tell(attribute, os.getxattr(path, attribute, follow_symlinks=False))
            except OSError:
                pass
        if os.path.islink(path):
            tell(os.readlink(path))
        elif os.path.isfile(path):
            tell(open(path, 'rb').read())
    seen += 1
assert seen > 3, seen
";
    fs::write(sandbox.path("walk.py"), script).unwrap();
    sandbox.shell("python3 walk.py $VIEW; python3 walk.py $VIEW/.overlay; python3 walk.py $VIEW/.overlay/revisions/*")
}

#[test]
fn planted_words_are_found_nowhere() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    plant(&sandbox);
    let mut mounting = sandbox.overlay(&["mount", "--metrics", "0", "--log", "log"]);
    let mount = sandbox.mount_by(mounting.env("OVERLAYFS_MOUNT_LOG", "trace"));
    let address = address(&fs::read_to_string(sandbox.path("log")).unwrap()).unwrap();
    sandbox.succeed(&["reload", "view"]);
    let all = [INSIDE, PRIVATE];
    let seen = walk(&sandbox);
    assert!(seen.contains("shown"), "{seen}");
    assert_clean("the view", &seen, &all);
    let page = metrics(&address);
    assert_clean("the metrics page", &format!("{page:?}"), &all);
    // Who may read the configuration knows the names in it: what is in the private source is another matter.
    let in_private = [INSIDE, &format!("skills/{PRIVATE}"), &format!("tools/{PRIVATE}")];
    for arguments in [
        &["status", "view", "--json"][..],
        &["status", "view"],
        &["check", "--json"],
        &["check", "--lint"],
        &["ls", "--json"],
        &["explain", ".agents/skills/review", "--json"],
        &["explain", ".agents/skills/absent", "--json"],
        &["env"],
    ] {
        let output = sandbox.overlay(arguments).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert_clean(&arguments.join(" "), &String::from_utf8_lossy(&said), &in_private);
    }
    sandbox.succeed(&["unmount", "view"]);
    drop(mount);
    let log = fs::read_to_string(sandbox.path("log")).unwrap();
    assert!(log.contains("lookup"), "the log has no requests: {log}");
    assert_clean("the log", &log, &in_private);
    // A fetch that fails with a password in its URL, and a token in its file.
    let text = format!(
        "overlays: {{sources: [{{repo: acme/remote, url: \"https://user:{INSIDE}@127.0.0.1:1/remote.git\"}}]}}\n\
         repoCache: {{path: repos, tokenFile: token}}\nstate: {{dir: state}}\nmount: {{at: view}}\n"
    );
    fs::write(sandbox.path("overlays.yaml"), text).unwrap();
    let mut syncing = sandbox.overlay(&["sync", "--once"]);
    let output = syncing.env("OVERLAYFS_MOUNT_LOG", "trace").output().unwrap();
    assert!(!output.status.success());
    let said = [output.stdout, output.stderr].concat();
    assert_clean("a failing fetch", &String::from_utf8_lossy(&said), &[INSIDE]);
    let kept = sandbox.shell("grep -ral pl4nted-in-a-private state home run || true");
    assert_eq!(kept, "", "something of the private source is kept");
}
