//! What the kernel shows of git sources.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use crate::fixture::{Mount, Sandbox, can_mount, has_program, wait_for};

/// A repository with everything that a tree can hold.
fn varied(sandbox: &Sandbox) -> String {
    let repo = sandbox.repo("acme/base");
    repo.write("README.md", "hello\n")
        .write("empty", "")
        .write("deep/er/and/deeper/file", "x")
        .write("big.bin", (0..=255_u8).cycle().take(3_000_001).collect::<Vec<_>>())
        .write("space and\nnewline", "1")
        .write("tools/slack/pyproject.toml", "[project]\n")
        .script("run.sh", "#!/bin/sh\necho ran\n")
        .link("absolute", "/etc/hostname")
        .link("relative", "deep/er")
        .link("dangling", "../../nowhere");
    repo.write(&"n".repeat(255), "long");
    let bytes: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff\xfe");
    fs::write(repo.path.join(bytes), "not text").unwrap();
    repo.commit()
}

#[test]
fn s22_a_source_is_what_git_archive_says() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    varied(&sandbox);
    sandbox.configure("    - repo: acme/base", "");
    let mount = sandbox.mount();
    sandbox.shell(
        "mkdir archived; git -C repos/acme/base -c tar.umask=022 archive main | tar -C archived -x
         diff -r --no-dereference archived \"$VIEW/acme/base\"
         (cd archived; find . ! -type d -printf '%P %y %m %l %s\\n' | sort) > expected
         (cd \"$VIEW/acme/base\"; find . ! -type d -printf '%P %y %m %l %s\\n' | sort) > seen
         cmp expected seen
         test -x \"$VIEW/acme/base/run.sh\"; test \"$(\"$VIEW/acme/base/run.sh\")\" = ran
         test ! -x \"$VIEW/acme/base/README.md\"",
    );
    let modes = sandbox.shell("stat -c %a $VIEW/acme/base/run.sh $VIEW/acme/base/README.md $VIEW");
    assert_eq!(modes, "755\n644\n755\n");
    mount.unmount();
}

#[test]
fn s26_times_are_the_commits_and_owners_who_mounted() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    varied(&sandbox);
    sandbox.configure("    - repo: acme/base", "uid: 1234, gid: 2345");
    let mount = sandbox.mount();
    // 2024-05-01T12:00:00Z
    let seen =
        sandbox.shell("cd $VIEW/acme/base; stat -c '%Y %u %g' README.md deep run.sh absolute");
    assert_eq!(seen, "1714564800 1234 2345\n".repeat(4));
    mount.unmount();
}

#[test]
fn s5_inode_numbers_are_unique_and_listings_agree_with_stat() {
    if !can_mount() || !has_program("python3", "apt-get install python3") {
        return;
    }
    let _emptying = crate::fixture::empties_caches();
    let sandbox = Sandbox::new();
    varied(&sandbox);
    sandbox.configure("    - repo: acme/base", "");
    let mount = sandbox.mount();
    let first = inodes(&sandbox);
    assert!(first.len() > 15, "{first:?}");
    let mut by_inode: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (path, inode) in &first {
        assert!(inode.parse::<u64>().unwrap() < 1 << 32, "{path}");
        by_inode.entry(inode).or_default().push(path);
    }
    for paths in by_inode.values().filter(|paths| paths.len() > 1) {
        // One file, on its surface and below its source.
        let all_files = paths.iter().all(|path| !path.ends_with('/'));
        assert!(all_files && paths.len() == 2, "{paths:?}");
        assert!(
            paths[0].trim_start_matches("acme/base/") == paths[1].trim_start_matches("acme/base/")
        );
    }
    // What the kernel forgot comes back under the same number.
    sandbox.shell("echo 3 > /proc/sys/vm/drop_caches");
    assert_eq!(inodes(&sandbox), first);
    // `ls -i` of a directory alone shows what `stat` shows.
    sandbox.shell("cd $VIEW/acme/base; for f in *; do test \"$(ls -id \"$f\" | head -1 | sed 's/^ *//; s/ .*//')\" = \"$(stat -c %i \"$f\")\"; done");
    mount.unmount();
}

/// Every path below the view with its inode number, directories with a slash.
fn inodes(sandbox: &Sandbox) -> BTreeMap<String, String> {
    let script = "
import os, sys
top = os.fsencode(os.environ['VIEW'])
for path, directories, files in os.walk(top):
    with os.scandir(path) as entries:
        for entry in entries:
            stat = os.lstat(entry.path)
            assert entry.inode() == stat.st_ino, (entry.path, entry.inode(), stat.st_ino)
            assert entry.is_dir(follow_symlinks=False) == os.path.isdir(entry.path) or entry.is_symlink()
            mark = b'/' if entry.is_dir(follow_symlinks=False) else b''
            sys.stdout.buffer.write(repr(os.path.relpath(entry.path, top) + mark).encode() + b' %d\\n' % stat.st_ino)
";
    fs::write(sandbox.path("inodes.py"), script).unwrap();
    let text = sandbox.shell("python3 inodes.py");
    let rows = text.lines().map(|line| {
        let (path, inode) = line.rsplit_once(' ').unwrap();
        (path.trim_start_matches("b'").trim_end_matches('\'').to_owned(), inode.to_owned())
    });
    rows.collect()
}

#[test]
fn s4_listings_are_sorted_and_can_be_continued_anywhere() {
    if !can_mount() || !has_program("python3", "apt-get install python3") {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = sandbox.repo("acme/base");
    for number in 0..3000 {
        repo.skill(&format!("skill-{number:04}"), "x");
    }
    // git sorts `a.b` before the directory `a`; bytes sort it after.
    repo.write("order/a/x", "").write("order/a.b", "").write("order/a0", "").commit();
    sandbox.configure("    - repo: acme/base", "");
    let mount = sandbox.mount();
    let names = sandbox.shell("ls -U $VIEW/.agents/skills");
    let expected: Vec<_> = (0..3000).map(|number| format!("skill-{number:04}")).collect();
    assert_eq!(names.lines().collect::<Vec<_>>(), expected);
    assert_eq!(sandbox.shell("ls -U $VIEW/acme/base/order"), "a\na.b\na0\n");
    assert_eq!(sandbox.shell("ls -Ua $VIEW/acme/base/order"), ".\n..\na\na.b\na0\n");
    fs::write(sandbox.path("seek.py"), SEEK).unwrap();
    sandbox.shell("python3 seek.py $VIEW/.agents/skills");
    mount.unmount();
}

/// Remembers a position after every hundredth name, and continues from each later on.
const SEEK: &str = "
import ctypes, sys
c = ctypes.CDLL(None, use_errno=True)
c.opendir.restype = ctypes.c_void_p
c.telldir.restype = ctypes.c_long
for f in (c.readdir64, c.telldir, c.seekdir): f.argtypes = [ctypes.c_void_p] + ([ctypes.c_long] if f is c.seekdir else [])
class Dirent(ctypes.Structure):
    _fields_ = [('ino', ctypes.c_uint64), ('off', ctypes.c_int64), ('len', ctypes.c_ushort), ('type', ctypes.c_ubyte), ('name', ctypes.c_char * 256)]
c.readdir64.restype = ctypes.POINTER(Dirent)
d = c.opendir(sys.argv[1].encode())
names, marks = [], []
while True:
    position = c.telldir(d)
    entry = c.readdir64(d)
    if not entry: break
    if len(names) % 100 == 0: marks.append((len(names), position))
    names.append(entry.contents.name)
assert len(names) == 3002, len(names)
for index, position in reversed(marks):
    c.seekdir(d, position)
    for expected in names[index:index + 3]:
        assert c.readdir64(d).contents.name == expected
";

/// How many times a daemon has read from anything: each request of the kernel is one.
pub(crate) fn reads(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("syscr: ")).unwrap();
    line.parse().unwrap()
}

/// [`reads`] of a daemon that has nothing to do any more: notices of changed files are read too.
pub(crate) fn reads_when_idle(pid: u32) -> u64 {
    let mut last = (reads(pid), Instant::now());
    wait_for("an idle daemon", || {
        let now = reads(pid);
        if now != last.0 {
            last = (now, Instant::now());
        }
        last.1.elapsed() > Duration::from_millis(150)
    });
    last.0
}

#[test]
fn s31_the_second_walk_asks_the_daemon_nothing() {
    if !can_mount() {
        return;
    }
    let _counting = crate::fixture::counts_requests();
    let sandbox = Sandbox::new();
    varied(&sandbox);
    sandbox.configure("    - repo: acme/base", "");
    let mount = sandbox.mount();
    let pid = mount.pid();
    let walk = "find $VIEW -ls > walked; find $VIEW -type f -exec cat {} + > content
                find $VIEW -type l -exec readlink {} + > targets
                test ! -e $VIEW/tools/absent; test ! -e $VIEW/acme/base/deep/absent
                test ! -e $VIEW/absent";
    sandbox.shell(walk);
    let cost = || {
        let before = (reads_when_idle(pid), cpu_ticks(pid));
        sandbox.shell(walk);
        (reads(pid) - before.0, cpu_ticks(pid) - before.1)
    };
    // Each of the three `find` asks for the file system's size once. Other tests have the kernel forget what it kept, of all mounts:
    // a walk between two such moments shows what it costs.
    let mut costs = Vec::new();
    wait_for("a walk without requests", || {
        costs.push(cost());
        eprintln!("requests and ticks: {costs:?}");
        costs.last().is_some_and(|(requests, ticks)| *requests <= 3 && *ticks <= 1)
    });
    mount.unmount();
}

/// User and system time of a process, in clock ticks.
fn cpu_ticks(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn s33_an_unreadable_object_costs_only_itself() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = sandbox.repo("acme/base");
    repo.write("good", "good\n").write("bad", "bad\n").write("dir/inner", "x").commit();
    let blob = repo.git(&["rev-parse", "HEAD:bad"]);
    let tree = repo.git(&["rev-parse", "HEAD:dir"]);
    for id in [&blob, &tree] {
        let object = repo.path.join(".git/objects").join(&id[..2]).join(&id[2..]);
        fs::remove_file(object).unwrap();
    }
    sandbox.configure("    - repo: acme/base", "");
    let mount = sandbox.mount();
    assert_eq!(sandbox.shell("cd $VIEW/acme/base; ls; cat good"), "bad\ndir\ngood\ngood\n");
    for script in ["cat $VIEW/acme/base/bad", "ls $VIEW/acme/base/dir"] {
        let output = sandbox.shell_output(script);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("Input/output error"), "{script}: {said}");
    }
    mount.unmount();
}

#[test]
fn s27_submodules_are_empty_directories_and_lfs_pointers_stay_pointers() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    let repo = sandbox.repo("acme/base");
    let content = "the large object\n";
    let id = sandbox.shell("printf 'the large object\\n' | sha256sum | cut -d' ' -f1");
    let id = id.trim();
    let pointer = format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{id}\nsize {}\n",
        content.len()
    );
    repo.write("model.bin", &pointer);
    repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{},sub", "1".repeat(40))]);
    repo.git(&["add", "model.bin"]);
    repo.git(&["commit", "--quiet", "--message=test"]);
    let object = repo.path.join(".git/lfs/objects").join(&id[..2]).join(&id[2..4]);
    fs::create_dir_all(&object).unwrap();
    fs::write(object.join(id), content).unwrap();
    sandbox.configure(
        "    - repo: acme/base\n    - repo: acme/base\n      name: acme/served\n      lfs: true",
        "",
    );
    let mount = sandbox.mount();
    assert_eq!(sandbox.shell("ls -A $VIEW/acme/base/sub"), "");
    assert_eq!(sandbox.shell("cat $VIEW/acme/base/model.bin"), pointer);
    assert_eq!(sandbox.shell("cat $VIEW/acme/served/model.bin"), content);
    assert_eq!(sandbox.shell("stat -c %s $VIEW/acme/served/model.bin"), "17\n");
    mount.unmount();
}

#[test]
fn s34_names_over_255_bytes_are_too_long() {
    if !can_mount() {
        return;
    }
    let sandbox = Sandbox::new();
    varied(&sandbox);
    sandbox.configure("    - repo: acme/base", "");
    let mount: Mount<'_> = sandbox.mount();
    let output = sandbox.shell_output(&format!("cat $VIEW/acme/base/{}", "x".repeat(256)));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("File name too long"), "{said}");
    assert_eq!(sandbox.shell(&format!("cat $VIEW/acme/base/{}", "n".repeat(255))), "long");
    mount.unmount();
}

#[test]
fn s42_extended_attributes_say_where_a_file_comes_from_and_are_not_listed() {
    if !can_mount() || !has_program("python3", "apt-get install python3") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").skill("review", "base\n").commit();
    let commit = sandbox.repo("acme/team").skill("review", "team\n").commit();
    sandbox
        .configure("    - repo: acme/base\n    - repo: acme/team\n      ref: main", "xattrs: true");
    let mount = sandbox.mount();
    let script = "import os, sys
print(os.getxattr(sys.argv[1], 'user.overlayfs-mount.' + sys.argv[2]).decode())
assert os.listxattr(sys.argv[1]) == []";
    fs::write(sandbox.path("xattr.py"), script).unwrap();
    let get = |path: &str, name: &str| {
        sandbox.shell(&format!("python3 xattr.py \"$VIEW/.agents/skills/{path}\" {name}"))
    };
    assert_eq!(get("review", "source"), "acme/team\n");
    assert_eq!(get("review", "ref"), "main\n");
    assert_eq!(get("review/SKILL.md", "revision"), format!("{commit}\n"));
    assert_eq!(get("review/SKILL.md", "path"), ".agents/skills/review/SKILL.md\n");
    assert_eq!(get("review", "hides"), "acme/base\n");
    mount.unmount();
}

#[test]
fn s42_what_is_an_entry_of_two_surfaces_tells_what_it_hides_on_either() {
    if !can_mount() || !has_program("python3", "apt-get install python3") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repo("acme/base").write("cards/one", "base\n").write("cards/two", "base\n").commit();
    sandbox.repo("acme/team").write("cards/one", "team\n").commit();
    sandbox.configure(
        "    - {repo: acme/base, subdirs: {cards: cards}}\n    \
         - {repo: acme/team, skillsSubdir: cards, subdirs: {cards: cards}}",
        "xattrs: true",
    );
    sandbox.edit(|text| format!("{text}surfaces: {{cards: {{at: cards}}}}\n"));
    let mount = sandbox.mount();
    let get = |path: &str| {
        let name = "user.overlayfs-mount.hides";
        let script = "import os, sys; print(os.getxattr(sys.argv[1], sys.argv[2]).decode())";
        sandbox.shell(&format!("python3 -c '{script}' \"$VIEW/{path}\" {name}"))
    };
    assert_eq!(get(".agents/skills/one"), "acme/base\n");
    assert_eq!(get("cards/one"), "acme/base\n");
    assert_eq!(get("cards/two"), "\n");
    mount.unmount();
}

#[test]
fn s42_what_an_entry_hides_is_that_of_its_own_set() {
    if !can_mount() || !has_program("python3", "apt-get install python3") {
        return;
    }
    let sandbox = Sandbox::new();
    let base = sandbox.repo("acme/base");
    base.skill("review", "base\n").write("prompt/same", "x").write("prompt/other", "x").commit();
    let team = sandbox.repo("acme/team");
    team.skill("review", "team\n").write("prompt/same", "y").write("prompt/other", "y").commit();
    let subdirs = "subdirs: {cards: prompt}";
    let sources =
        format!("    - {{repo: acme/base, {subdirs}}}\n    - {{repo: acme/team, {subdirs}}}");
    sandbox.configure(&sources, "xattrs: true");
    let file = sandbox.path("overlays.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}surfaces: {{cards: {{at: cards}}}}\n")).unwrap();
    let mount = sandbox.mount();
    let old = sandbox.shell("cat $VIEW/.overlay/revision");
    let old = format!(".overlay/revisions/{}", old.trim());
    let script = "import os, sys; os.chdir(sys.argv[1])
for path in sys.argv[2:]: print(os.getxattr(path, 'user.overlayfs-mount.hides').decode())";
    let get = |paths: &str| sandbox.shell(&format!("python3 -c \"{script}\" $VIEW {paths}"));
    let skill = ".agents/skills/review";
    assert_eq!(get(&format!("{skill} cards/same {old}/{skill}")), "acme/base\n".repeat(3));
    // In this order: a set between the two has not what the first one has.
    team.write("prompt/other", "newer").commit();
    base.git(&["rm", "-q", "-r", ".agents", "prompt"]);
    base.write("left", "x").commit();
    sandbox.succeed(&["reload", "view"]);
    let whole = "acme/team/.agents/skills/review";
    assert_eq!(get(&format!("{skill} {whole} cards/same cards/other")), "\n".repeat(4));
    let (of_old, other) = (format!("{old}/{skill} {old}/{whole}"), format!("{old}/cards/other"));
    assert_eq!(get(&format!("{of_old} {other}")), "acme/base\n".repeat(3));
    // It is the same file in both.
    assert_eq!(get(&format!("{old}/cards/same")), "\n");
    mount.unmount();
}
