"""What a loss of power leaves of a cache: `sync` is recorded by strace(1), and what it wrote is done again elsewhere, call by call.

After every so many calls, and after each in a long form, there are two disks: one on which all of it arrived, and one on which the bytes of each file
that nobody had put on the disk are lost, as file systems leave it that write names before bytes. On both the readers have to see the old revision or the
new one, whole, and the next `sync` has to succeed and leave nothing.

Arguments: the program and after how many calls to look. Works in a directory with `remotes/base`, `overlays.yaml` and an empty `repos`.
"""

import os
import re
import shutil
import subprocess
import sys

from sync_remote import SKILL, Remote, leftovers, mirror_commit

PROGRAM, EVERY = sys.argv[1], int(sys.argv[2])
HERE = os.path.realpath(".")
CACHE = os.path.join(HERE, "repos")
CALLS = (
    "openat,write,pwrite64,lseek,read,ftruncate,fallocate,rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir,mkdir,mkdirat,chmod,fchmod,"
    "fsync,fdatasync,syncfs,symlink,symlinkat"
)
LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)(?:<[^>]*>)?(?: .*)?$")
ARGUMENT = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[^,]*)(?:,|$)')


def plain(text):
    """What strace writes as `\\x2f`, as bytes."""
    return bytes.fromhex(text.replace("\\x", ""))


def calls(log):
    """The calls in the order in which they ended: process, name, arguments, result."""
    begun = {}
    for line in log:
        line = line.rstrip("\n")
        pid = line.split(" ", 1)[0]
        if line.endswith("<unfinished ...>"):
            begun[pid] = line[: -len("<unfinished ...>")].rstrip()
            continue
        resumed = re.match(r"\d+ +<\.\.\. \w+ resumed>(.*)$", line)
        if resumed:
            line = begun.pop(pid, "") + resumed[1]
        found = LINE.match(line)
        if found and int(found[4]) >= 0:
            arguments = [argument.strip() for argument in ARGUMENT.findall(found[3])]
            yield pid, found[2], [argument for argument in arguments if argument], int(found[4])


def descriptor(argument):
    """A descriptor's number and the path of its file."""
    found = re.match(r"(AT_FDCWD|\d+)<(.*)>$", argument)
    return (found[1], os.fsdecode(plain(found[2]))) if found else (argument, "")


class Disk:
    """A cache as it is after some of the calls."""

    def __init__(self, root):
        self.root, self.offsets, self.dirty = root, {}, {}

    def at(self, path):
        """Where a path of the cache is here; nothing if it is none."""
        path = os.path.normpath(path)
        return os.path.join(self.root, os.path.relpath(path, CACHE)) if path == CACHE or path.startswith(CACHE + "/") else None

    def path(self, arguments, index, name):
        """The place of a path argument, which may have a directory before it."""
        text = os.fsdecode(plain(arguments[index][1:-1]))
        above = descriptor(arguments[index - 1])[1] if name.endswith("at") or name.endswith("at2") else HERE
        return self.at(os.path.join(above, text))

    def written(self, place):
        status = os.stat(place)
        self.dirty[status.st_ino] = True

    def do(self, pid, name, arguments, result):
        """Does a call again; whether it changed anything here."""
        if name == "openat":
            place = self.path(arguments, 1, name)
            if place is None or not re.search("O_WRONLY|O_RDWR", arguments[2]):
                return False
            is_new = not os.path.lexists(place)
            if "O_CREAT" in arguments[2] and is_new:
                open(place, "xb").close()
            if "O_TRUNC" in arguments[2] and not is_new:
                os.truncate(place, 0)
                self.written(place)
            self.offsets[pid, str(result)] = [0, "O_APPEND" in arguments[2]]
            return is_new or "O_TRUNC" in arguments[2]
        if name in ("write", "pwrite64", "lseek", "read", "ftruncate", "fallocate", "fsync", "fdatasync", "syncfs", "fchmod"):
            return self.do_with_file(pid, name, arguments, result)
        return self.do_with_names(name, arguments)

    def do_with_file(self, pid, name, arguments, result):
        number, path = descriptor(arguments[0])
        place = self.at(path) if path.startswith("/") else None
        if name == "syncfs" and place:
            self.dirty.clear()
            return True
        if place is None or not os.path.isfile(place):
            return False
        offset = self.offsets.setdefault((pid, number), [0, False])
        if name in ("lseek", "read"):
            offset[0] = result if name == "lseek" else offset[0] + result
            return False
        if name in ("fsync", "fdatasync"):
            return self.dirty.pop(os.stat(place).st_ino, False)
        if name == "fchmod":
            os.chmod(place, int(arguments[1], 8))
            return True
        with open(place, "r+b") as file:
            if name == "ftruncate":
                file.truncate(int(arguments[1]))
            elif name == "fallocate":
                file.truncate(max(os.path.getsize(place), int(arguments[2]) + int(arguments[3])))
            else:
                at = int(arguments[3]) if name == "pwrite64" else os.path.getsize(place) if offset[1] else offset[0]
                file.seek(at)
                file.write(plain(arguments[1][1:-1])[:result])
                offset[0] = offset[0] if name == "pwrite64" else at + result
        self.written(place)
        return True

    def do_with_names(self, name, arguments):
        if name in ("symlink", "symlinkat"):
            place = self.path(arguments, len(arguments) - 1, name)
            if place:
                os.symlink(plain(arguments[0][1:-1]), place)
            return bool(place)
        first = self.path(arguments, 1 if name.endswith("at") or name.endswith("at2") else 0, name)
        if first is None:
            return False
        if name.startswith(("rename", "link")):
            second = self.path(arguments, 3 if "at" in name else 1, name)
            (os.rename if name.startswith("rename") else os.link)(first, second)
        elif name == "rmdir" or "AT_REMOVEDIR" in arguments[-1]:
            os.rmdir(first)
        elif name.startswith("unlink"):
            os.unlink(first)
        elif name.startswith("mkdir"):
            os.mkdir(first, int(arguments[-1], 8))
        elif name == "chmod":
            os.chmod(first, int(arguments[1], 8))
        return True

    def lose(self, place):
        """In a copy, empties the files whose bytes nobody has put on the disk."""
        lost = 0
        for top, _, names in os.walk(self.root):
            for name in names:
                path = os.path.join(top, name)
                if not os.path.islink(path) and os.stat(path).st_ino in self.dirty:
                    os.truncate(os.path.join(place, os.path.relpath(path, self.root)), 0)
                    lost += 1
        return lost


def copy(source, target):
    shutil.rmtree(target, ignore_errors=True)
    # With links between files as they are.
    subprocess.run(["cp", "-a", source, target], check=True)


def tool(*arguments):
    return subprocess.run([PROGRAM, *arguments, "-c", "after.yaml"], capture_output=True, text=True)


def shown(remote):
    """The number of the commit that readers see; none if there is no mirror."""
    shutil.rmtree("out", ignore_errors=True)
    said = tool("export", "out")
    if said.returncode:
        return None if "cure: " in said.stderr and not os.path.isdir("after/private/acme/base.git") else said.stderr
    numbers = set()
    for name in os.listdir(os.path.join("out", SKILL)):
        with open(os.path.join("out", SKILL, name)) as file:
            numbers.update(line.split()[0] for line in file)
    return int(numbers.pop()) if len(numbers) == 1 else f"of several commits: {numbers}"


def look(remote, old, new):
    """What is wrong with the cache `after`."""
    wrong = []
    number, mirror = shown(remote), "after/private/acme/base.git"
    if number not in (old, new):
        wrong.append(("shown", number))
    # Where the history ends may be lost until the next round: who reads needs no parents.
    commit, problem = mirror_commit(mirror, has_history=False)
    if problem or remote.commits.get(commit) not in (old, new):
        wrong.append(("mirror", commit, problem))
    if os.path.exists("after/.repo-cache-ready") and "synced_at=" not in open("after/.repo-cache-ready").read():
        wrong.append(("ready", open("after/.repo-cache-ready").read()))
    said = tool("sync", "--once")
    commit, problem = mirror_commit(mirror)
    if said.returncode or problem or remote.commits.get(commit) != new:
        wrong.append(("next sync", said.stderr, problem))
    elif (number := shown(remote)) != new:
        wrong.append(("shown afterwards", number))
    return wrong + [("left", path) for path in leftovers("after")]


def differences():
    """Of what was done again and what `sync` left."""
    found = subprocess.run(["diff", "-r", "--no-dereference", "disk", "repos"], capture_output=True, text=True).stdout
    return found.strip()


def replay(name, remote, old, new):
    copy("repos", "disk")
    command = ["strace", "-f", "-y", "-xx", "-s", "100000000", "-o", "log", "-e", f"trace={CALLS}", PROGRAM, "sync", "--once"]
    subprocess.run(command, check=True, capture_output=True)
    disk, done, looks, lost, wrong = Disk(os.path.realpath("disk")), 0, 0, 0, []
    with open("log", errors="replace") as log:
        for call in calls(log):
            if not disk.do(*call):
                continue
            done += 1
            for is_lossy in (False, True) if done % EVERY == 0 else ():
                copy("disk", "after")
                lost += disk.lose("after") if is_lossy else 0
                looks += 1
                found = look(remote, old, new)
                wrong += [(name, done, call[1], "lossy" if is_lossy else "whole", *each) for each in found]
    if difference := differences():
        wrong.append((name, "done again otherwise than it was", difference[:800]))
    print(f"{name}: {done} calls that change the disk, {looks} looks, {lost} files emptied, {len(wrong)} wrong")
    for each in wrong[:20]:
        print("WRONG", *each)
    return not wrong and looks


def main():
    with open("overlays.yaml") as ours, open("after.yaml", "w") as theirs:
        theirs.write(ours.read().replace("path: repos", "path: after"))
    remote = Remote()
    results = [replay("a clone", remote, None, remote.move(False))]
    results.append(replay("a fetch of loose objects", remote, 1, remote.move(False)))
    results.append(replay("a fetch of a pack", remote, 2, remote.move(True)))
    sys.exit(not all(results))


main()
