//! What the kernel asks for: how many requests a flip and a listing cost, of which kinds.

use std::collections::BTreeMap;
use std::fs;

use crate::fixture::{Repo, Sandbox, can_mount, counts_requests, has_program, is_long, wait_for};
use crate::observing::{metrics, mount};

/// Requests of the kernel so far by kind, but for those that are no question about a file.
fn requests(address: &str) -> BTreeMap<String, u64> {
    let all = metrics(address);
    let of_kind = all.iter().filter_map(|(name, value)| {
        let kind = name.strip_prefix("overlayfs_mount_requests_total{operation=\"")?;
        let kind = kind.strip_suffix("\"}")?;
        let is_question = kind != "forget" && kind != "statfs";
        is_question.then(|| (kind.to_owned(), value.parse().unwrap()))
    });
    let of_kind: BTreeMap<_, _> = of_kind.collect();
    assert!(of_kind.contains_key("readdirplus"), "{all:?}");
    of_kind
}

/// What was asked since: kinds that were not are left out.
fn since(before: &BTreeMap<String, u64>, address: &str) -> BTreeMap<String, u64> {
    let now = requests(address);
    let grown = now.into_iter().map(|(kind, count)| {
        let grown = count - before[&kind];
        (kind, grown)
    });
    grown.filter(|(_, grown)| *grown > 0).collect()
}

/// A commit of so many skills of one file, at the branch `next`; that of `changed` says `text`.
fn skills(repo: &Repo<'_>, count: usize, changed: usize, text: &str) {
    repo.shell(&format!(
        "tree() {{ printf '100644 blob %s\\tSKILL.md\\n' $(printf \"$1\" | git hash-object -w --stdin) | git mktree; }}
         one=$(tree one) other=$(tree {text})
         seq -f %05g 0 {last} | sed \"s/.*/040000 tree $one\\tskill-&/; {line}s/$one/$other/\" | git mktree >../skills
         printf '040000 tree %s\\tskills\\n' $(cat ../skills) | git mktree >../agents
         printf '040000 tree %s\\t.agents\\n' $(cat ../agents) | git mktree >../top
         git update-ref refs/heads/next $(git commit-tree -m x $(cat ../top))",
        last = count - 1,
        line = changed + 1,
    ));
}

/// Moves the branch that is served to `next`.
fn publish(repo: &Repo<'_>) {
    repo.git(&["update-ref", "refs/heads/main", "refs/heads/next"]);
}

/// Everything that a reader does with a skill, for all but one.
const WALK: &str = "
import os, sys
top, count, left_out = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for number in range(count):
    if number == left_out:
        continue
    skill = f'{top}/skill-{number:05}'
    assert os.stat(skill).st_mode & 0o777 == 0o755
    assert os.listdir(skill) == ['SKILL.md']
    assert os.stat(f'{skill}/SKILL.md').st_size == 3
    with open(f'{skill}/SKILL.md') as file:
        assert file.read() == 'one'
    assert not os.path.exists(f'{skill}/absent')
";

#[test]
fn s109_a_flip_of_one_entry_costs_no_request_on_the_others() {
    if !can_mount() || !has_program("python3", "apt-get install python3") {
        return;
    }
    let _counting = counts_requests();
    let count = if is_long() || !cfg!(debug_assertions) { 10_000 } else { 1_000 };
    let changed = count / 3;
    let sandbox = Sandbox::new();
    let repo = sandbox.repo("acme/base");
    skills(&repo, count, changed, "one");
    publish(&repo);
    sandbox.configure("    - repo: acme/base", "");
    fs::write(sandbox.path("walk.py"), WALK).unwrap();
    let (mount, address) = mount(&sandbox, &[]);
    let walk = || sandbox.shell(&format!("python3 walk.py $VIEW/.agents/skills {count} {changed}"));
    let read = format!("cat $VIEW/.agents/skills/skill-{changed:05}/SKILL.md");
    let mut flips = 0;
    // The kernel may give up what it keeps by itself: a flip between two such moments shows what a flip costs.
    wait_for("a flip without requests", || {
        flips += 1;
        skills(&repo, count, changed, &format!("text-{flips}"));
        walk();
        sandbox.shell(&read);
        publish(&repo);
        sandbox.succeed(&["reload"]);
        let before = requests(&address);
        walk();
        let cost = since(&before, &address);
        // The changed one is read anew.
        assert_eq!(sandbox.shell(&read), format!("text-{flips}"));
        eprintln!("flip {flips}: {cost:?}");
        is_what_changed(&cost)
    });
    mount.unmount();
}

/// Whether nothing was asked but for the directory in which a name changed: it may be looked up, and its attributes are read, once.
fn is_what_changed(cost: &BTreeMap<String, u64>) -> bool {
    let of = |kind: &str| cost.get(kind).copied().unwrap_or_default();
    let all: u64 = cost.values().sum();
    all == of("lookup") + of("getattr") && all <= 2
}

/// The system call by which directories are listed, with a buffer of a size of our choice.
const LIST: &str = "
import ctypes, os, sys
c = ctypes.CDLL(None, use_errno=True)
size = int(sys.argv[2])
fd, buffer = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY), ctypes.create_string_buffer(size)
call = {'x86_64': 217, 'aarch64': 61}[os.uname().machine]
bytes = 0
while True:
    got = c.syscall(call, fd, buffer, size)
    assert got >= 0, ctypes.get_errno()
    if got == 0:
        break
    bytes += got
print(bytes)
";

/// How many answers of so many bytes a listing takes, with the last one, which is empty: of each name there are 128 bytes of node and attributes and
/// 24 of the directory's entry (`struct fuse_direntplus`, `fuse.h`), and the name, in steps of 8.
fn answers(names: &[&str], bytes: usize) -> u64 {
    let sizes = names.iter().map(|name| (152 + name.len()).next_multiple_of(8));
    let (full, _) = sizes.fold((1, 0), |(full, used), size| {
        if used + size > bytes { (full + 1, size) } else { (full, used + size) }
    });
    full + 1
}

#[test]
fn s110_a_listing_is_one_request_for_each_buffer_of_it() {
    if !can_mount() || !has_program("python3", "apt-get install python3") {
        return;
    }
    let _counting = counts_requests();
    let sandbox = Sandbox::new();
    let count = 10_000;
    let repo = sandbox.repo("acme/base");
    skills(&repo, count, 0, "one");
    publish(&repo);
    sandbox.configure("    - repo: acme/base", "");
    fs::write(sandbox.path("list.py"), LIST).unwrap();
    let names = [".", ".."].into_iter().map(str::to_owned);
    let names: Vec<_> =
        names.chain((0..count).map(|number| format!("skill-{number:05}"))).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!((answers(&names, 128 << 10), answers(&names, 4096)), (14, 418));
    for (how, buffer) in [
        ("python3 list.py $VIEW/.agents/skills 131072", 131_072),
        ("python3 list.py $VIEW/.agents/skills 1048576", 1 << 20),
        // With attributes of all: no other request asks for them. The C library's buffer is as large as `st_blksize` says.
        ("find $VIEW/.agents/skills -maxdepth 1 -printf '%s %T@\\n'", 131_072),
        ("ls -lU $VIEW/.agents/skills", 131_072),
        (
            "python3 -c 'import os, sys; len(list(os.scandir(sys.argv[1])))' $VIEW/.agents/skills",
            131_072,
        ),
    ] {
        // Older kernels ask for one page, whatever the reader's buffer.
        let expected = [answers(&names, buffer), answers(&names, 4096)];
        // Others may have the kernel drop what it was just told: a listing between two such moments shows what it costs.
        wait_for(&format!("{how}: a listing by {expected:?} requests"), || {
            // The address is what the log says first.
            fs::remove_file(sandbox.path("log")).unwrap_or_default();
            let (mount, address) = mount(&sandbox, &[]);
            let before = requests(&address);
            sandbox.shell(how);
            let cost = since(&before, &address);
            eprintln!("{how}: {cost:?}");
            mount.unmount();
            let others: u64 = cost.values().sum::<u64>() - cost["readdirplus"];
            expected.contains(&cost["readdirplus"]) && others <= 6
        });
    }
}

#[test]
fn s31_live_directories_of_a_mount_cost_its_git_sources_nothing() {
    if !can_mount() || !has_program("python3", "apt-get install python3") {
        return;
    }
    let _counting = counts_requests();
    let sandbox = Sandbox::new();
    let count = 100;
    let repo = sandbox.repo("acme/base");
    skills(&repo, count, 0, "one");
    publish(&repo);
    let live = sandbox.path("live/.agents/skills/mine");
    fs::create_dir_all(&live).unwrap();
    fs::write(live.join("SKILL.md"), "0").unwrap();
    sandbox.configure("    - repo: acme/base\n    - {path: live, name: me/live}", "");
    fs::write(sandbox.path("walk.py"), WALK).unwrap();
    let (mount, address) = mount(&sandbox, &[]);
    let walk = || sandbox.shell(&format!("python3 walk.py $VIEW/.agents/skills {count} {count}"));
    let read = || sandbox.shell("cat $VIEW/.agents/skills/mine/SKILL.md");
    walk();
    let mut changes = 0;
    wait_for("a walk without requests", || {
        changes += 1;
        fs::write(live.join("SKILL.md"), changes.to_string()).unwrap();
        wait_for("the change", || read() == changes.to_string());
        let before = requests(&address);
        walk();
        let cost = since(&before, &address);
        eprintln!("change {changes}: {cost:?}");
        cost.is_empty()
    });
    mount.unmount();
}

/// Reads small files in an order, and compares each with what it has to be.
const READ: &str = "
import sys, time
top, step = sys.argv[1], int(sys.argv[2])
for number in range(400)[::step]:
    time.sleep(0.001)
    with open(f'{top}/{number:03}') as file:
        assert file.read() == f'{number} ' * (8 * number) + 'end', number
";

/// A mount of 400 small files that are listed and then read forwards or backwards: how many were given ahead, and how many were asked for.
fn read_in_turn(arguments: &[&str], step: i32) -> (u64, u64) {
    let sandbox = Sandbox::new();
    let repo = sandbox.repo("acme/base");
    for number in 0..400 {
        let text = format!("{number} ").repeat(8 * number) + "end";
        repo.write(&format!(".agents/skills/notes/{number:03}"), &text);
    }
    repo.commit();
    sandbox.configure("    - repo: acme/base", "");
    fs::write(sandbox.path("read.py"), READ).unwrap();
    let (mount, address) = mount(&sandbox, arguments);
    sandbox.shell("ls -l $VIEW/.agents/skills/notes >listed");
    let before = requests(&address);
    sandbox.shell(&format!("python3 read.py $VIEW/.agents/skills/notes {step}"));
    let asked = since(&before, &address).get("read").copied().unwrap_or_default();
    let after = metrics(&address);
    let given = after["overlayfs_mount_read_ahead_files_total"].parse().unwrap();
    assert_eq!(after["overlayfs_mount_blob_cache_bytes{place=\"memory\"}"], "0", "kept here too");
    mount.unmount();
    (given, asked)
}

#[test]
fn s130_small_files_that_are_read_in_a_row_are_there_before_they_are_asked_for() {
    if !can_mount() || !has_program("python3", "apt-get install python3") {
        return;
    }
    let _counting = counts_requests();
    for arguments in [&[][..], &["--supervised"]] {
        // Who gives may be late on a machine that does much else: then each file is asked for.
        wait_for("files that are there before", || {
            let (given, asked) = read_in_turn(arguments, 1);
            eprintln!("{arguments:?}: {given} given, {asked} asked for");
            given > 100 && asked < 300
        });
        let (given, asked) = read_in_turn(arguments, -1);
        assert!(given == 0 && asked >= 399, "backwards: {given} given, {asked} asked for");
    }
}
