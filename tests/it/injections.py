"""Reads views while system calls of their daemon fail, made to fail by strace(1), and says what was wrong with what succeeded.

Arguments: the program, the mount point, a directory with what the skills of the view are to be, how many faults to make at least (none: those of
a short form), and the arguments of `mount`. Works in a directory with `repos`, `state` and `live`. Prints a line a kind of fault and one for all; ends with 1 if something was wrong.
"""

import collections
import errno
import glob
import hashlib
import json
import os
import subprocess
import sys
import threading
import time

PROGRAM, ROOT, PLAIN, LEAST, *OPTIONS = sys.argv[1:]
VIEW, LEAST = os.path.join(ROOT, ".agents/skills"), int(LEAST)
# An answer that says that something is not there, or is something else, is no error: it is a wrong answer.
WRONG = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.EINVAL}
# What fails, how, which of the calls of a thread (the first, and every how many), and whether only on files of sources, pins and
# caches: some calls also serve memory or the kernel's door.
FAULTS = [
    ("pread64", "EIO", "2+3", False), ("pread64", "EINTR", "1+2", False),
    ("read", "EIO", "2+3", True), ("read", "EINTR", "1+2", True),
    ("openat", "EIO", "2+3", False), ("openat", "EMFILE", "1+3", False), ("openat", "EINTR", "1+2", False), ("openat", "EACCES", "3+4", False),
    ("openat2", "EIO", "3+5", False), ("openat2", "EMFILE", "1+3", False), ("openat2", "EINTR", "1+2", False), ("openat2", "EAGAIN", "2+3", False),
    ("statx", "EIO", "3+7", False), ("statx", "ENOMEM", "2+4", False), ("newfstatat", "EIO", "2+3", False), ("fstat", "EIO", "1+3", False),
    ("mmap", "ENOMEM", "1+2", True), ("mmap", "EIO", "2+3", True), ("lseek", "EIO", "1+2", True), ("readlink", "EIO", "2+5", False),
    ("getdents64", "EIO", "1+3", False), ("getdents64", "ENOMEM", "2+3", False), ("readlinkat", "EIO", "1+2", False),
    ("write", "ENOSPC", "2+5", False), ("write", "EIO", "1+7", False), ("write", "EINTR", "1+2", False), ("fallocate", "ENOSPC", "1+2", False),
    ("ftruncate", "EIO", "1+2", False), ("linkat", "ENOSPC", "1+2", False), ("linkat", "EIO", "2+3", False), ("flock", "EINTR", "1+2", False),
    ("flock", "ENOLCK", "1+2", False), ("unlink", "EIO", "1+3", False), ("mkdir", "ENOSPC", "1+2", False), ("rename", "EIO", "1+2", False),
    ("inotify_add_watch", "ENOSPC", "1+3", False), ("clone3", "EAGAIN", "1+3", False),
]
# The same for the start of a daemon.
AT_START = [
    ("openat", "EIO", "70+9", False), ("openat", "EMFILE", "40+7", False), ("openat", "EIO", "1+4", True), ("read", "EIO", "2+3", True),
    ("mmap", "EIO", "1+3", True), ("mmap", "ENOMEM", "2+2", True), ("getdents64", "EIO", "2+5", False), ("statx", "EIO", "20+9", False),
    ("linkat", "ENOSPC", "1+2", False), ("mkdir", "ENOSPC", "3+2", False), ("pread64", "EIO", "1+2", True),
]
# What a short form makes.
SHORT = {
    ("openat", "EMFILE"), ("openat2", "EIO"), ("statx", "EIO"), ("newfstatat", "EIO"), ("mmap", "ENOMEM"), ("read", "EINTR"), ("getdents64", "EIO"),
    ("write", "ENOSPC"), ("linkat", "ENOSPC"),
}


def tool(*arguments):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True)


def status():
    said = tool("status", ROOT, "--json")
    return json.loads(said.stdout) if said.returncode == 0 else {}


def expected():
    """What each path of the view is, by the same files elsewhere."""
    found = {}
    for top, directories, files in os.walk(PLAIN):
        below = os.path.relpath(top, PLAIN)
        found[below] = sorted(directories + files)
        for name in directories + files:
            path = os.path.join(top, name)
            if os.path.islink(path):
                found[os.path.normpath(os.path.join(below, name))] = os.readlink(path)
            elif name in files:
                with open(path, "rb") as file:
                    content = file.read()
                found[os.path.normpath(os.path.join(below, name))] = (len(content), hashlib.sha256(content).digest())
    return found


class Reader:
    """Compares everything, again and again."""

    def __init__(self, wanted):
        self.wanted, self.errors, self.wrong, self.good = wanted, collections.Counter(), [], 0

    def compare(self, path, wanted):
        place = os.path.join(VIEW, path)
        if isinstance(wanted, list):
            names = sorted(os.listdir(place))
            return names == wanted, set(wanted) ^ set(names)
        if isinstance(wanted, str):
            return os.readlink(place) == wanted, "another target"
        with open(place, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            digest, count = hashlib.sha256(), 0
            while piece := file.read(1 << 18):
                digest.update(piece)
                count += len(piece)
        return (size, count, digest.digest()) == (wanted[0], wanted[0], wanted[1]), f"{count} bytes, size {size}, of {wanted[0]}"

    def all(self):
        for path, wanted in self.wanted.items():
            try:
                is_right, what = self.compare(path, wanted)
            except OSError as error:
                self.errors[errno.errorcode[error.errno]] += 1
                if error.errno in WRONG:
                    self.wrong.append((path, str(error)))
                continue
            self.good += 1
            if not is_right:
                self.wrong.append((path, what))


def forget_all():
    """Empties the kernel's caches, and takes what ours has on disk."""
    for name in glob.glob("state/blobs/*"):
        try:
            os.unlink(name)
        except OSError:
            pass
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("3")


def strace(fault, *what):
    """strace(1) that makes calls fail, and how many it has. `?`: not every machine has every call."""
    call, error, when, is_aimed = fault
    files = [os.path.join(top, name) for root in ("repos", "state", "live") for top, _, names in os.walk(root) for name in names]
    files = [os.path.abspath(path) for path in files if not os.path.islink(path)]
    aim = [word for path in files for word in ("-P", path)] if is_aimed else []
    return ["strace", "-f", "-qq", "-I2", "-o", "trace", "-e", f"trace=?{call}", "-e", f"inject=?{call}:error={error}:when={when}", *aim, *what]


def ended(child):
    """Lets go of the daemon; how many faults there were."""
    child.terminate()
    child.wait(30)
    with open("trace", errors="replace") as file:
        return sum("(INJECTED)" in line for line in file)


def move(turn):
    """Moves the source's branch between two commits that differ elsewhere than in what is compared."""
    subprocess.run(["git", "-C", "repos/acme/packed", "update-ref", "refs/heads/main", f"refs/heads/{('one', 'two')[turn % 2]}"], check=True)


def read_while(readers, seconds):
    end, turn = time.monotonic() + seconds, 0
    while turn == 0 or time.monotonic() < end:
        turn += 1
        forget_all()
        threads = [threading.Thread(target=reader.all) for reader in readers]
        for thread in threads:
            thread.start()
        move(turn)
        tool("reload", ROOT)
        for thread in threads:
            thread.join()


def settled(wanted, what):
    """After the faults: everything is right and nothing fails, neither from the kernel's cache nor anew."""
    deadline, wrong = time.monotonic() + 30, []
    while (said := tool("reload", ROOT)).returncode or any(source["state"] != "ready" for source in status()["sources"]):
        if time.monotonic() > deadline:
            return [(what, "reload", said.stderr, json.dumps(status()))]
        time.sleep(0.1)
    for is_new in (False, True):
        if is_new:
            forget_all()
        reader = Reader(wanted)
        reader.all()
        wrong += [(what, "afterwards", is_new, *each) for each in reader.wrong]
        wrong += [(what, "afterwards", is_new, dict(reader.errors))] if reader.errors else []
    return wrong


class Sum:
    def __init__(self):
        self.by_call, self.good, self.wrong = collections.Counter(), 0, []

    def faults(self):
        return sum(self.by_call.values())

    def add(self, fault, count, readers, wrong, what):
        call, error, *_ = fault
        errors = sum((reader.errors for reader in readers), collections.Counter())
        good = sum(reader.good for reader in readers)
        self.by_call[call] += count
        self.good += good
        self.wrong += [(call, error, *each) for reader in readers for each in reader.wrong] + wrong
        print(f"{call:18}{error:8}{count:7} faults {good:7} right {dict(errors) or '-'} {what}", flush=True)


def while_served(total, wanted, fault, seconds):
    pid = status()["pid"]
    readers = [Reader(wanted), Reader(wanted)]
    forget_all()
    child = subprocess.Popen(strace(fault, "-p", str(pid)), stderr=subprocess.DEVNULL)
    while child.poll() is None and "TracerPid:\t0" in open(f"/proc/{pid}/status").read():
        time.sleep(0.01)
    read_while(readers, seconds)
    count = ended(child)
    wrong = settled(wanted, f"{fault[0]}:{fault[1]}")
    total.add(fault, count, readers, wrong, "" if status()["pid"] == pid else "another worker")


def at_start(total, wanted, fault):
    """A mount that fails says so and leaves nothing; one that succeeds is right."""
    forget_all()
    with open("said", "w") as said:
        child = subprocess.Popen(strace(fault, PROGRAM, "mount", *OPTIONS), stdout=said, stderr=said)
    reader, wrong, deadline = Reader(wanted), [], time.monotonic() + 60
    while child.poll() is None and not (serves := status()) and time.monotonic() < deadline:
        time.sleep(0.01)
    if child.poll() is None and serves:
        reader.all()
        count = ended(child)
        wrong = settled(wanted, f"start {fault[0]}:{fault[1]}")
        tool("unmount", ROOT)
    else:
        count = ended(child)
        with open("said") as said:
            text = said.read()
        if "error: " not in text or os.path.ismount(ROOT):
            wrong = [("start", *fault, text)]
    total.add(fault, count, [reader], wrong, "at the start")


def main():
    wanted, total, seconds = expected(), Sum(), 2 if LEAST else 0

    def chosen(faults):
        return [fault for fault in faults if LEAST or fault[:2] in SHORT]

    for fault in chosen(AT_START):
        at_start(total, wanted, fault)
    subprocess.run([PROGRAM, "mount", *OPTIONS], check=True)
    total.wrong += settled(wanted, "before")
    for turn in range(1000):
        for fault in chosen(FAULTS):
            if turn == 0 or total.faults() < LEAST:
                while_served(total, wanted, fault, seconds)
    by_call = ", ".join(f"{call} {count}" for call, count in total.by_call.most_common() if count)
    print(f"{total.faults()} faults ({by_call}), {total.good} right answers, {len(total.wrong)} wrong")
    for each in total.wrong[:40]:
        print("WRONG", *each)
    sys.exit(bool(total.wrong))


main()
