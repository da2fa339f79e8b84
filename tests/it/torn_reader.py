"""One of several readers of a view whose revision moves under them. Prints what it found, as one line of JSON.

Arguments: the view, the shared file, this reader's slot. The shared file holds 8-byte numbers: 0 the revision that `reload` has
published last, 1 whether to stop, from 2 on the newest revision that each reader has seen.
"""

import json
import mmap
import os
import random
import sys
import time

view, shared, slot = sys.argv[1], sys.argv[2], int(sys.argv[3])
with open(shared, "r+b") as file:
    numbers = memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")
skills = os.path.join(view, ".agents/skills")
found = {"entries": 0, "listings": 0, "torn": 0, "stale": 0, "backward": 0, "absent": 0, "longest_ms": 0, "first": None}
mine = 0


def fault(kind, what):
    found[kind] += 1
    found["first"] = found["first"] or f"{kind}: {what}"


def floor():
    """The newest revision that anybody is known to have seen."""
    return max(numbers[0], *numbers[2:])


def seen(revision, before, what):
    global mine
    if revision < before:
        fault("stale", f"{what}: {revision} after {before}")
    if revision < mine:
        fault("backward", f"{what}: {revision} after {mine}")
    mine = max(mine, revision)
    if numbers[slot + 2] < mine:
        numbers[slot + 2] = mine


def content(name, directory=None):
    descriptor = os.open(name, os.O_RDONLY, dir_fd=directory)
    try:
        return int(os.read(descriptor, 64))
    finally:
        os.close(descriptor)


def entry(name):
    before = floor()
    directory = os.open(os.path.join(skills, name), os.O_RDONLY | os.O_DIRECTORY)
    try:
        revisions = [content(part, directory) for part in ("SKILL.md", "deep/one", "deep/two")]
    finally:
        os.close(directory)
    found["entries"] += 1
    if len(set(revisions)) > 1:
        fault("torn", f"{name}: {revisions}")
    seen(revisions[0], before, name)


def whole():
    before = floor()
    seen(content(os.path.join(view, "workflows/flow.py")), before, "workflow")


def listing():
    published = numbers[0]
    names = os.listdir(skills)
    found["listings"] += 1
    marks = [name for name in names if name.startswith("revision-")]
    if len(marks) != 1 or len(names) != 41:
        fault("torn", f"listing: {len(names)} names, {marks}")
    elif int(marks[0].removeprefix("revision-")) < published:
        fault("stale", f"listing: {marks[0]} after {published}")


while not numbers[1]:
    begun = time.monotonic()
    try:
        choice = random.random()
        if choice < 0.7:
            entry(f"skill-{random.randrange(40):02}")
        elif choice < 0.85:
            whole()
        else:
            listing()
    except FileNotFoundError as error:
        fault("absent", str(error))
    except OSError as error:
        fault("absent", str(error))
    except ValueError as error:
        # A file that is there and not yet written.
        fault("torn", str(error))
    found["longest_ms"] = max(found["longest_ms"], int((time.monotonic() - begun) * 1000))
print(json.dumps(found))
