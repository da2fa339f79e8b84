"""Changes bytes of a valid repository in many ways, and reads each mutant through the program: its own bytes or errors, nothing else.

usage: mutants.py PROGRAM DIRECTORY EXPORTS MOUNTS SEED   (DIRECTORY has `overlays.yaml`, `repos/acme/{base,mutant}` and `repos/acme/packed`)
Prints what came of it, and fails at the first wrong byte, death or 256 MiB.
"""

import hashlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import zlib
from collections import Counter

PROGRAM, DIRECTORY, EXPORTS, MOUNTS, SEED = *sys.argv[1:3], *map(int, sys.argv[3:6])
os.chdir(DIRECTORY)
rng = random.Random(SEED)
counts = Counter()
mutant = "repos/acme/mutant"


def blobs(repository):
    """All contents that the repository has, by id."""
    ids = subprocess.run(["git", "-C", repository, "cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)"],
                         stdout=subprocess.PIPE, check=True).stdout.decode().split("\n")
    return {line.split()[0] for line in ids if line.endswith(" blob")}


KNOWN = blobs("originals/loose") | blobs("originals/packed")
# What the paths of the one commit lead to: a path that is served has its own content and no other's.
PATHS = {}
for line in subprocess.run(["git", "-C", "originals/loose", "ls-tree", "-r", "HEAD"], stdout=subprocess.PIPE, check=True).stdout.decode().splitlines():
    head, path = line.split("\t")
    PATHS[path] = head.split()[2]


def change(content):
    """Flips, cuts, inserts, repeats or overwrites bytes."""
    content = bytearray(content)
    at = rng.randrange(len(content) + 1) if content else 0
    how = rng.choice(["flip", "flip", "flip", "cut", "insert", "end", "repeat", "zeros", "ones", "swap"])
    if how == "flip" and content:
        content[at % len(content)] ^= 1 << rng.randrange(8)
    elif how == "cut":
        del content[at:at + rng.randrange(1, 9)]
    elif how == "insert":
        content[at:at] = rng.randbytes(rng.randrange(1, 9))
    elif how == "end":
        del content[at:]
    elif how == "repeat":
        content[at:at] = content[at:at + 40]
    elif how in ("zeros", "ones"):
        length = min(rng.randrange(1, 65), len(content) - at)
        content[at:at + length] = (b"\0" if how == "zeros" else b"\xff") * length
    elif how == "swap" and len(content) > 20:
        other = rng.randrange(len(content) - 10)
        at = min(at, len(content) - 10)
        content[at:at + 10], content[other:other + 10] = content[other:other + 10], content[at:at + 10]
    return bytes(content), how


# What holds content is changed more often than what leads to it.
WEIGHTS = {"loose": 9, "pack": 7, "idx": 6}


def mutate():
    """Makes a mutant, and says how."""
    kind = rng.choice(["loose", "packed"])
    shutil.rmtree(mutant, ignore_errors=True)
    shutil.copytree("originals/" + kind, mutant, symlinks=True)
    files = {}
    for above, _, names in os.walk(mutant + "/.git"):
        for name in names:
            path = os.path.join(above, name)
            place = os.path.relpath(path, mutant + "/.git")
            if place.startswith("hooks") or place in ("index", "description", "COMMIT_EDITMSG", "info/exclude", "objects/info/packs") or place.startswith("logs"):
                continue
            what = ("loose" if place.startswith("objects/") and place[10:11] == "/" else place.rsplit(".")[-1] if "pack-" in place else
                    "refs" if place.startswith("refs") else place.split("/")[-1])
            files.setdefault(what, []).append(path)
    kinds = sorted(files)
    what = rng.choices(kinds, [WEIGHTS.get(kind, 1) for kind in kinds])[0]
    path = rng.choice(sorted(files[what]))
    os.chmod(path, 0o644)
    with open(path, "rb") as file:
        content = file.read()
    if what == "loose" and rng.random() < 0.6:
        # What is inside, with a checksum that is right: only the id tells.
        inside = zlib.decompress(content)
        if rng.random() < 0.3:
            other = rng.choice(sorted(files[what]))
            changed, how = zlib.decompress(open(other, "rb").read()), "other"
        else:
            changed, how = change(inside)
        changed, how = zlib.compress(changed), "inside " + how
    elif what == "pack" and rng.random() < 0.5:
        changed, how = change(content[:-20])
        changed += hashlib.sha1(changed).digest()
        how = "sealed " + how
    elif what == "idx" and rng.random() < 0.5:
        changed, how = change(content[:-20])
        changed += hashlib.sha1(changed).digest()
        how = "sealed " + how
    else:
        changed, how = change(content)
    with open(path, "wb") as file:
        file.write(changed)
    return f"{what}: {how}"


def check(tree, how):
    """Every file that can be read is what was committed; the good source is whole."""
    with open(tree + "/acme/base/good", "rb") as file:
        assert file.read() == b"good\n", how
    served = failed = 0
    top = tree + "/acme/mutant"
    for above, directories, names in os.walk(top):
        for name in names:
            path = os.path.join(above, name)
            try:
                content = os.readlink(path).encode() if os.path.islink(path) else open(path, "rb").read()
            except OSError:
                failed += 1
                continue
            oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            place = os.path.relpath(path, top)
            assert oid in KNOWN, f"{how}: {place} has bytes that nobody committed: {content[:99]}"
            assert PATHS.get(place, oid) == oid, f"{how}: {place} has the bytes of another"
            served += 1
    counts["served"] += served
    counts["unreadable"] += failed
    counts["whole" if served == len(PATHS) else "part" if served else "nothing"] += 1


def run(*arguments):
    output = subprocess.run([PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    said = output.stdout.decode(errors="replace")
    # A signal, or what a panic that nobody caught gives.
    assert output.returncode >= 0 and output.returncode != 101, f"{how}: {output.returncode} {said}"
    return output.returncode, said


def peak(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


worst = 0
for number in range(EXPORTS):
    how = mutate()
    counts[how.split(":")[0]] += 1
    status, said = run("export", "out")
    if status == 0:
        check("out", how)
    else:
        # One unreadable object ends an export, and says which.
        assert "error: " in said, f"{how}: {said}"
        counts["refused"] += 1
        shutil.rmtree("out", ignore_errors=True)
        for extra in os.listdir("."):
            if extra.startswith(".out") or extra.startswith("out."):
                os.remove(extra)
worst = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
for number in range(MOUNTS):
    how = mutate()
    counts[how.split(":")[0]] += 1
    status, said = run("mount")
    assert status == 0, f"{how}: {said}"
    try:
        check("view", how)
        status, said = run("status", "view", "--json")
        assert status == 0, f"{how}: {said}"
        pid = int(said.split('"pid":')[1].split(",")[0].split("}")[0])
        worst = max(worst, peak(pid))
    finally:
        status, said = run("unmount", "view")
    assert status == 0, f"{how}: {said}"
assert worst < 256 << 10, f"{worst} KiB"
print(f"{EXPORTS} exports and {MOUNTS} mounts, at most {worst} KiB: {dict(counts)}")
