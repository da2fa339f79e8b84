"""Makes system calls of `sync`, and of the `git` that it runs, fail by strace(1), and says what was wrong afterwards.

Arguments: the program, the mount point, how many faults to make at least (0: those of a short form), and `once` or `daemon`: who fetches. Works in
a directory with `remotes/base`, `overlays.yaml` and `repos`; the view is mounted. Prints a line a kind of fault; ends with 1 if something was wrong.
"""

import collections
import glob
import itertools
import os
import re
import signal
import subprocess
import sys
import time

from sync_remote import SKILL, Remote, leftovers, mirror_commit

PROGRAM, ROOT, LEAST, WHO = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
MIRROR = "repos/private/acme/base.git"
# How each call fails.
ERRORS = {
    "fstat": ("EIO", "ENOMEM"), "newfstatat": ("EIO",), "statx": ("EIO",), "pwrite64": ("EIO", "ENOSPC", "EINTR"), "write": ("EIO", "ENOSPC", "EINTR"),
    "fsync": ("EIO", "ENOSPC", "EINTR"), "syncfs": ("EIO", "ENOSPC"), "rename": ("EIO", "ENOSPC"), "linkat": ("EIO", "ENOSPC"), "link": ("EIO", "ENOSPC"),
    "ftruncate": ("EIO", "ENOSPC", "EINTR"), "fallocate": ("EIO", "ENOSPC", "EINTR"), "mmap": ("ENOMEM", "EIO"), "openat": ("EIO", "ENOSPC", "EINTR"),
    "read": ("EIO", "EINTR"), "pread64": ("EIO", "EINTR"), "mkdir": ("EIO", "ENOSPC"), "symlink": ("EIO", "ENOSPC"),
}
# What a short form tries: call, error, which call of each process (the first, and every how many).
SHORT = [
    ("fstat", "EIO", "7+5"), ("pwrite64", "ENOSPC", "1"), ("write", "ENOSPC", "2+3"), ("write", "EINTR", "1+2"), ("fsync", "EIO", "1"), ("fsync", "EIO", "3"),
    ("rename", "EIO", "1"), ("rename", "EIO", "2"), ("ftruncate", "EIO", "1"), ("mmap", "ENOMEM", "28+3"), ("syncfs", "EIO", "1"), ("read", "EIO", "9+4"),
]
# What the loader says: nothing of this program ran then.
STARTING = re.compile(r"error while loading shared libraries|failed to map segment")


def tool(*arguments):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True)


def seen():
    """The number of the commit that the view shows, all of it; or what is wrong."""
    def revision():
        with open(os.path.join(ROOT, ".overlay/revision")) as file:
            return file.read()

    for _ in range(100):
        numbers = set()
        try:
            first = revision()
            for name in os.listdir(os.path.join(ROOT, SKILL)):
                with open(os.path.join(ROOT, SKILL, name)) as file:
                    numbers.update(line.split()[0] for line in file)
            if first != revision():
                continue
        except FileNotFoundError:
            # The view has moved on between two looks.
            continue
        except OSError as error:
            return None, str(error)
        return (int(numbers.pop()), "") if len(numbers) == 1 else (None, f"of several commits: {sorted(numbers)}")
    return None, "it never stands still, or something of it is missing"


def injected(fault, *what):
    call, error, when = fault
    command = ["strace", "-f", "-qq", "-I2", "-o", "trace", "-e", f"trace=?{call}", "-e", f"inject=?{call}:error={error}:when={when}"]
    return [*command, *what]


def let_go(strace):
    """Ends strace(1), which may wait for good for a thread that has just begun a program that it has stopped: the kernel lets go of both then."""
    strace.send_signal(signal.SIGTERM)
    try:
        strace.wait(20)
    except subprocess.TimeoutExpired:
        strace.kill()
        strace.wait(60)


def faults():
    with open("trace", errors="replace") as file:
        return sum("(INJECTED)" in line for line in file)


def is_told(fault, text, code):
    """Whether a round that failed says what failed and where, and the cure; where it could say anything."""
    if not text:
        # The kernel ends who cannot be mapped; and the message itself is a `write`.
        return fault[0] == "write" or (fault[0] == "mmap" and code == -signal.SIGSEGV)
    return "cure: " in text and re.search(r"acme/base|repos|overlays\.yaml|starting a thread", text) or STARTING.search(text)


class Sum:
    def __init__(self):
        self.by_call, self.runs, self.failed, self.wrong = collections.Counter(), 0, 0, []

    def add(self, fault, count, has_failed, wrong):
        self.by_call[fault[0]] += count
        self.runs += 1
        self.failed += has_failed
        self.wrong += [(*fault, *each) for each in wrong]
        for each in wrong:
            print("WRONG", *fault, *each, flush=True)

    def faults(self):
        return sum(self.by_call.values())


def afterwards(remote, before, now, is_new, wrong):
    """With the faults over: whole, old or new; the next round succeeds and leaves nothing; the view follows."""
    # Git may have lost where the history ends, which the next round finds: who reads needs no parents.
    commit, problem = mirror_commit(MIRROR, has_history=False)
    number = remote.commits.get(commit)
    if problem or number not in ((None, before, now) if is_new else (before, now)):
        wrong.append(("mirror", number, problem))
    shown, problem = seen()
    if shown not in (before, now):
        wrong.append(("view", shown, before, now, problem))
    said = tool("sync", "--once") if WHO == "once" else tool("reload", ROOT)
    if said.returncode:
        wrong.append(("next", said.stderr))
    commit, problem = mirror_commit(MIRROR)
    if problem or remote.commits.get(commit) != now:
        wrong.append(("mirror afterwards", remote.commits.get(commit), problem))
    wrong += [("left", path) for path in leftovers("repos")]
    said = tool("reload", ROOT)
    deadline = time.monotonic() + 20
    while (shown := seen())[0] != now and time.monotonic() < deadline:
        tool("reload", ROOT)
        time.sleep(0.05)
    if shown[0] != now or said.returncode:
        wrong.append(("view afterwards", *shown, said.stderr))


def once(total, remote, before, fault, is_new):
    """A round of `sync` with faults, into a mirror that is there or into none."""
    now = remote.move(total.runs % 3 == 0)
    if is_new:
        # Who reads goes on with what he has.
        subprocess.run(["rm", "-rf", MIRROR, *glob.glob("repos/acme")], check=True)
    done = subprocess.run(injected(fault, PROGRAM, "sync", "--once"), capture_output=True, text=True, timeout=300)
    wrong, count = [], faults()
    if done.returncode and not is_told(fault, done.stderr, done.returncode):
        wrong.append(("said", done.returncode, done.stderr[-600:]))
    if done.returncode == 0 and remote.commits.get(mirror_commit(MIRROR, has_history=False)[0]) != now:
        wrong.append(("success", done.stderr))
    if done.returncode == 1 and (left := leftovers("repos")):
        wrong.append(("left by who failed", *left))
    if "panicked" in done.stderr:
        wrong.append(("panic", done.stderr[-600:]))
    afterwards(remote, before, now, is_new, wrong)
    total.add(fault, count, done.returncode != 0, wrong)
    return now


def daemon(total, remote, before, fault, _):
    """A daemon that fetches by itself while its calls fail, and those of its git."""
    pid = int(re.search(r'"pid": ?(\d+)', tool("status", ROOT, "--json").stdout)[1])
    child = subprocess.Popen(injected(fault, "-p", str(pid)), stderr=subprocess.DEVNULL)
    while child.poll() is None and "TracerPid:\t0" in open(f"/proc/{pid}/status").read():
        time.sleep(0.005)
    now, wrong = remote.move(total.runs % 3 == 0), []
    said = tool("reload", ROOT)
    shown, problem = seen()
    # What fails for the daemon's own reading is an error, and no other bytes.
    if shown not in (before, now) and not re.search(r"Errno (5|12|24|28|4)\b", problem):
        wrong.append(("view", shown, problem))
    let_go(child)
    count = faults()
    if not os.path.isdir(f"/proc/{pid}"):
        wrong.append(("the daemon is gone",))
    afterwards(remote, before, now, False, wrong)
    total.add(fault, count, said.returncode != 0, wrong)
    return now


def all_faults():
    """One after the other, each a little later in the life of every process."""
    for later in itertools.count():
        for first in (1, 2, 3, 5, 8, 12, 17, 23, 30, 40, 55, 75, 100):
            for step in ("", "+2", "+7"):
                for call, errors in ERRORS.items():
                    for error in errors:
                        yield call, error, f"{first + later}{step}"


def main():
    remote, total = Remote(), Sum()
    run, now = once if WHO == "once" else daemon, 0
    started = time.monotonic()
    # A daemon whose door to the kernel fails ends: that is `read` of the device.
    chosen = (fault for fault in (all_faults() if LEAST else SHORT) if WHO == "once" or fault[0] != "read")
    for turn, fault in enumerate(chosen):
        if turn % 50 == 49:
            # What is left of many rounds makes the looks at it slow.
            subprocess.run(["rm", "-rf", MIRROR], check=True)
            tool("sync", "--once")
        if turn % 100 == 99:
            print(f"{turn + 1} rounds, {total.faults()} faults, {total.failed} failed, {len(total.wrong)} wrong", file=sys.stderr, flush=True)
        now = run(total, remote, now, fault, turn % 4 == 3 and WHO == "once")
        if LEAST and total.faults() >= LEAST:
            break
    by_call = ", ".join(f"{call} {count}" for call, count in total.by_call.most_common() if count)
    took = time.monotonic() - started
    print(f"{WHO}: {total.faults()} faults in {total.runs} rounds ({by_call}), {total.failed} failed, {len(total.wrong)} wrong, {took:.0f} s")
    sys.exit(bool(total.wrong) or not total.faults())


main()
