"""Makes one repository for each way of being broken or hostile, below a directory, and prints their names.

usage: hostile_repositories.py DIRECTORY SECRET MARK
SECRET is a file that nobody may read on behalf of a repository, MARK one that nobody may make.
"""

import hashlib
import os
import struct
import sys
import zlib

DIRECTORY, SECRET, MARK = sys.argv[1:]
FILE, EXECUTABLE, LINK, TREE, MODULE = b"100644", b"100755", b"120000", b"40000", b"160000"
KINDS = []


class Repository:
    def __init__(self, name):
        self.path = os.path.join(DIRECTORY, name)
        self.git = os.path.join(self.path, ".git")
        for below in ["objects/pack", "objects/info", "refs/heads", "hooks"]:
            os.makedirs(os.path.join(self.git, below))
        self.write("HEAD", b"ref: refs/heads/main\n")
        self.write("config", b"[core]\n\trepositoryformatversion = 0\n\tbare = false\n")
        self.good = self.blob(b"good\n")

    def write(self, path, content):
        path = os.path.join(self.git, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)

    def place(self, oid):
        return os.path.join("objects", oid.hex()[:2], oid.hex()[2:])

    def object(self, kind, content, header=None, encoded=None):
        whole = kind + b" " + str(len(content)).encode() + b"\0" + content
        oid = hashlib.sha1(whole).digest()
        stored = whole if header is None else header + content
        self.write(self.place(oid), zlib.compress(stored) if encoded is None else encoded)
        return oid

    def blob(self, content, **how):
        return self.object(b"blob", content, **how)

    def tree(self, *entries, **how):
        stored = b"".join(mode + b" " + name + b"\0" + oid for mode, name, oid in entries)
        return self.object(b"tree", stored, **how)

    def commit(self, tree, text=None, **how):
        if text is None:
            who = b"a <a@b> 1700000000 +0000\n"
            text = b"tree " + tree.hex().encode() + b"\nauthor " + who + b"committer " + who + b"\nx\n"
        oid = self.object(b"commit", text, **how)
        self.write("refs/heads/main", oid.hex().encode() + b"\n")
        return oid

    def show(self, *entries):
        """A commit with these entries beside a good one, at the top and in a skill."""
        skill = self.tree((FILE, b"SKILL.md", self.good), *entries)
        agents = self.tree((TREE, b"skills", self.tree((TREE, b"s-" + os.path.basename(self.path).encode(), skill))))
        self.commit(self.tree((TREE, b".agents", agents), (FILE, b"good", self.good), *entries))

    def pack(self, entries, count=None, version=2):
        """A pack of (type, declared size, encoded bytes, id) and its index."""
        body, offsets = struct.pack(">4sII", b"PACK", version, len(entries) if count is None else count), {}
        for kind, size, encoded, oid in entries:
            offsets[oid] = len(body)
            byte, size = (kind << 4) | (size & 15), size >> 4
            while size:
                body += bytes([byte | 128])
                byte, size = size & 127, size >> 7
            body += bytes([byte]) + encoded
        body += hashlib.sha1(body).digest()
        oids = sorted(offsets)
        index = b"\377tOc" + struct.pack(">I", 2)
        index += b"".join(struct.pack(">I", sum(oid[0] <= n for oid in oids)) for n in range(256))
        index += b"".join(oids) + b"\0\0\0\0" * len(oids)
        index += b"".join(struct.pack(">I", offsets[oid]) for oid in oids) + body[-20:]
        index += hashlib.sha1(index).digest()
        name = "objects/pack/pack-" + body[-20:].hex()
        self.write(name + ".pack", body)
        self.write(name + ".idx", index)
        return name


def kind(build):
    KINDS.append((build.__name__.replace("_", "-"), build))
    return build


def kinds(prefix, table, build):
    for name, value in table.items():
        KINDS.append((prefix + "-" + name, lambda repository, value=value: build(repository, value)))


kinds("name", {
    "dot": b".", "dots": b"..", "slash": b"a/b", "up": b"../../../secret", "absolute": b"/etc/passwd",
    "empty": b"", "git": b".git", "git-upper": b".GIT", "git-mixed": b".GiT", "git-short": b"GIT~1",
    "git-space": b".git ", "git-dots": b".git...", "git-stream": b".git::$INDEX_ALLOCATION",
    "git-ignorable": ".g\u200cit".encode(), "long": b"x" * 256, "very-long": b"x" * 100_000,
    "control": b"\x1b[2J\x07\r\n", "bytes": b"\xff\xfe\x80", "backslash": b"..\\..\\secret",
    "newline": b"a\nb", "overlay": b".overlay", "modules": b".gitmodules", "override": "\u202egpj.exe".encode(),
}, lambda r, name: r.show((FILE, name, r.good)))

kinds("git-directory", {"lower": b".git", "upper": b".GIT", "short": b"git~1"},
      lambda r, name: r.show((TREE, name, r.tree((FILE, b"config", r.good)))))

kinds("mode", {
    "none": b"", "zero": b"0", "words": b"rw-r--r--", "huge": b"7" * 40, "negative": b"-100644", "setuid": b"104755",
    "setgid": b"102755", "device": b"020666", "block": b"060666", "fifo": b"010644", "socket": b"140755", "space": b"100 644",
    "writable": b"100777",
}, lambda r, mode: r.show((mode, b"odd", r.good)))

kinds("lie", {
    "file-is-tree": (FILE, "tree"), "file-is-commit": (FILE, "commit"), "tree-is-blob": (TREE, "blob"),
    "tree-is-commit": (TREE, "commit"), "link-is-tree": (LINK, "tree"), "executable-is-tag": (EXECUTABLE, "tag"),
    "link-is-missing": (LINK, None), "file-is-missing": (FILE, None), "tree-is-missing": (TREE, None),
}, lambda r, lie: r.show((lie[0], b"lie", r.object(lie[1].encode(), b"") if lie[1] else b"\x11" * 20)))

kinds("link", {
    "absolute": SECRET.encode(), "up": b"../" * 40 + SECRET.encode()[1:], "empty": b"", "nul": b"a\0b", "itself": b"odd",
    "long": b"a/" * 2100, "huge": b"a" * 3_000_000, "proc": b"/proc/self/environ", "control": b"\x1b]0;x\x07",
}, lambda r, target: r.show((LINK, b"odd", r.blob(target))))

kinds("tree", {
    "cut": lambda raw: raw[:-7], "no-nul": lambda raw: raw.replace(b"\0", b"x"), "junk": lambda raw: b"\xff" * 4096,
    "zeros": lambda raw: b"\0" * 4096, "trailing": lambda raw: raw + b"100644",
}, lambda r, change: r.show((TREE, b"odd", r.object(b"tree", change(b"100644 a\0" + r.good + b"100644 b\0" + r.good)))))

kinds("top", {
    "blob": lambda r: r.commit(r.good), "missing": lambda r: r.commit(b"\x22" * 20),
    "junk": lambda r: r.commit(r.object(b"tree", b"junk")),
    "empty-commit": lambda r: r.commit(None, b""), "junk-commit": lambda r: r.commit(None, b"\xff" * 999),
    "no-time": lambda r: r.commit(None, b"tree " + r.tree().hex().encode() + b"\ncommitter a <a> 99999999999999999999 +9999\n\n"),
    "early": lambda r: r.commit(None, b"tree " + r.tree((FILE, b"good", r.good)).hex().encode() + b"\nauthor a <a> -9 +0\ncommitter a <a> -9223372036854775808 +0000\n\n"),
}, lambda r, build: build(r))

kinds("loose", {
    "empty": b"", "no-zlib": b"not zlib at all", "cut": zlib.compress(os.urandom(9999))[:5000],
    "no-header": zlib.compress(b"x" * 99), "no-number": zlib.compress(b"blob x\0abc"),
    "declared-large": zlib.compress(b"blob 1099511627776\0abc"), "declared-larger": zlib.compress(b"blob 99999999999999999999999\0abc"),
    "declared-400m": zlib.compress(b"blob 419430400\0abc"),
    "declared-small": zlib.compress(b"blob 3\0" + b"\0" * 50_000_000), "other-content": zlib.compress(b"blob 5\0other"),
    "unknown-type": zlib.compress(b"bomb 3\0abc"),
}, lambda r, stored: r.show((FILE, b"odd", r.blob(b"odd", encoded=stored))))

kinds("loose-tree", {
    "declared-large": zlib.compress(b"tree 1099511627776\0abc"), "declared-400m": zlib.compress(b"tree 419430400\0abc"),
    "bomb": zlib.compress(b"tree 3\0" + b"\0" * 50_000_000), "cut": zlib.compress(b"tree 99\0100644 a\0")[:9],
}, lambda r, stored: r.show((TREE, b"odd", r.object(b"tree", b"odd", encoded=stored))))

kinds("loose-commit", {
    "declared-large": zlib.compress(b"commit 1099511627776\0abc"), "bomb": zlib.compress(b"commit 3\0" + b"x" * 50_000_000),
}, lambda r, stored: r.commit(r.tree(), encoded=stored))


def packed(repository, case):
    content = b"x" * 5000
    oid = hashlib.sha1(b"blob 5000\0" + content).digest()
    size, encoded, kind_number = 5000, zlib.compress(content), 3
    if case == "declared-large":
        size = 1 << 40
    elif case == "declared-400m":
        size = 400 << 20
    elif case == "declared-small":
        size = 3
    elif case == "delta-of-itself":
        kind_number, encoded = 7, oid + zlib.compress(b"\x88\x27\x88\x27\xb0\x88\x13")
    elif case == "delta-large":
        base = repository.blob(b"base")
        kind_number, encoded = 7, base + zlib.compress(b"\x04" + b"\xff" * 5 + b"\x0f" + b"\x90\x04")
    elif case == "delta-before-the-pack":
        kind_number, encoded = 6, b"\xff\xff\xff\x7f" + zlib.compress(b"\x04\x04\x90\x04")
    elif case == "no-type":
        kind_number = 0
    count = 0xFFFFFFFF if case == "count" else None
    name = repository.pack([(kind_number, size, encoded, oid)], count, 9 if case == "version" else 2)
    for ending, at in {"cut": (".pack", 40), "head": (".pack", 8), "empty": (".pack", 0),
                       "index-cut": (".idx", 600), "index-empty": (".idx", 0)}.items():
        if case == ending:
            os.truncate(os.path.join(repository.git, name + at[0]), at[1])
    index = os.path.join(repository.git, name + ".idx")
    with open(index, "r+b") as file:
        if case == "index-fan":
            file.seek(8)
            file.write(b"\xff" * 1024)
        elif case == "index-offset":
            file.seek(-44, os.SEEK_END)
            file.write(b"\x7f\xff\xff\xff")
        elif case == "index-far":
            file.seek(-44, os.SEEK_END)
            file.write(b"\xff\xff\xff\xff")
    repository.show((FILE, b"odd", oid))


kinds("pack", {name: name for name in [
    "declared-large", "declared-400m", "declared-small", "delta-of-itself", "delta-large", "delta-before-the-pack", "no-type",
    "count", "version", "cut", "head", "empty", "index-cut", "index-empty", "index-fan", "index-offset", "index-far",
]}, packed)


def with_file(repository, value):
    repository.show()
    for path, content in value.items():
        repository.write(path, content)


PROGRAM = ("touch " + MARK).encode()
kinds("file", {
    "alternates-itself": {"objects/info/alternates": b".\n../objects\n"},
    "alternates-secret": {"objects/info/alternates": SECRET.encode() + b"\n"},
    "alternates-device": {"objects/info/alternates": b"/dev\n/proc/self\n"},
    "alternates-junk": {"objects/info/alternates": b"\xff\0\n\"\n" * 99},
    "config-include": {"config": b"[core]\n\tbare = false\n[include]\n\tpath = " + SECRET.encode() + b"\n"},
    "config-include-itself": {"config": b"[include]\n\tpath = config\n"},
    "config-programs": {"config": b"[core]\n\tfsmonitor = " + PROGRAM + b"\n\thooksPath = hooks\n\tsshCommand = " + PROGRAM + b"\n\tpager = " + PROGRAM + b"\n[filter \"lfs\"]\n\tsmudge = " + PROGRAM + b"\n"},
    "config-worktree": {"config": b"[core]\n\tbare = false\n\tworktree = " + os.path.dirname(SECRET).encode() + b"\n"},
    "config-junk": {"config": b"\xff\xfe[[[[\0" * 99},
    "config-long": {"config": b"[a]\n" + b"\tb = c\n" * 50_000},
    "head-empty": {"HEAD": b""}, "head-itself": {"HEAD": b"ref: HEAD\n"}, "head-junk": {"HEAD": b"\xff" * 99},
    "head-up": {"HEAD": b"ref: ../../../secret/secret\n"}, "head-absolute": {"HEAD": b"ref: " + SECRET.encode() + b"\n"},
    "refs-loop": {"refs/heads/main": b"ref: refs/heads/other\n", "refs/heads/other": b"ref: refs/heads/main\n"},
    "refs-junk": {"refs/heads/main": b"not an id\n"}, "refs-zero": {"refs/heads/main": b"0" * 40 + b"\n"},
    "packed-refs-junk": {"packed-refs": b"\xff\n^\n" * 999}, "shallow-junk": {"shallow": b"junk\n"},
    "commondir-loop": {"commondir": b".\n"}, "commondir-up": {"commondir": b"../../../..\n"},
    "format": {"config": b"[core]\n\trepositoryformatversion = 99\n"},
    "hash": {"config": b"[core]\n\trepositoryformatversion = 1\n[extensions]\n\tobjectFormat = sha256\n"},
    "graft": {"objects/info/commit-graph": b"CGPH" + b"\xff" * 99, "objects/pack/multi-pack-index": b"MIDX" + b"\xff" * 99},
}, with_file)


@kind
def repeated_names(repository):
    repository.show(*[(FILE, b"twice", repository.good)] * 3, (LINK, b"twice", repository.good), (TREE, b"twice", repository.tree()))


@kind
def unsorted(repository):
    repository.show((FILE, b"z", repository.good), (FILE, b"a", repository.good), (TREE, b"m", repository.tree()))


@kind
def modules(repository):
    repository.show((MODULE, b"module", b"\x33" * 20), (FILE, b".gitmodules", repository.blob(b"[submodule \"module\"]\n\tpath = module\n\turl = ext::" + PROGRAM + b"\n")))


@kind
def deep(repository):
    tree = repository.tree((FILE, b"bottom", repository.good))
    for _ in range(1000):
        tree = repository.tree((TREE, b"d", tree))
    repository.show((TREE, b"d", tree))


@kind
def wide(repository):
    names = [(FILE, b"n%06d" % number, repository.good) for number in range(100_000)]
    repository.commit(repository.tree((TREE, b"wide", repository.tree(*names))))


@kind
def doubling(repository):
    """2^30 paths in 30 trees."""
    tree = repository.tree((FILE, b"bottom", repository.good))
    for _ in range(30):
        tree = repository.tree((TREE, b"a", tree), (TREE, b"b", tree))
    repository.show((TREE, b"doubling", tree))


@kind
def head_is_a_pipe(repository):
    repository.show()
    os.remove(os.path.join(repository.git, "HEAD"))
    os.mkfifo(os.path.join(repository.git, "HEAD"))


@kind
def ref_is_a_pipe(repository):
    repository.show()
    os.remove(os.path.join(repository.git, "refs/heads/main"))
    os.mkfifo(os.path.join(repository.git, "refs/heads/main"))


def show_without_object(repository, make):
    """Shows a blob in the place of whose object `make` puts something else."""
    oid = repository.blob(b"piped")
    place = os.path.join(repository.git, repository.place(oid))
    os.remove(place)
    make(place)
    repository.show((FILE, b"odd", oid))


@kind
def object_is_a_pipe(repository):
    show_without_object(repository, os.mkfifo)


@kind
def object_is_a_directory(repository):
    show_without_object(repository, os.mkdir)


@kind
def git_is_a_pipe(repository):
    os.rename(repository.git, repository.path + ".other")
    os.mkfifo(repository.git)


@kind
def git_is_a_file_of_junk(repository):
    os.rename(repository.git, repository.path + ".other")
    with open(repository.git, "wb") as file:
        file.write(b"gitdir: " + SECRET.encode() + b"\n")


for name, build in KINDS:
    build(Repository(name))
    print(name)
