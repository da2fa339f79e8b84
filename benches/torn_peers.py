#!/usr/bin/env python3
"""What readers see while a revision moves: a view, a checkout that is updated in place, and a link that is swapped between two checkouts.

Prints a Markdown table. Usage: benches/torn_peers.py [--seconds N] [PROGRAM]; the program defaults to target/release/overlayfs-mount. The
readers are those of tests/it/torn_reader.py, the same number for the same time on each.
"""

import json
import mmap
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from program import TOP, run

WORDS = sys.argv[1:]
SECONDS = float(WORDS.pop(WORDS.index("--seconds") + 1)) if "--seconds" in WORDS else 20.0
# The number after `--seconds` is no program.
ARGUMENTS = [word for word in WORDS if not word.startswith("--")]
PROGRAM = Path(ARGUMENTS[0] if ARGUMENTS else TOP / "target/release/overlayfs-mount").resolve()
READER = TOP / "tests/it/torn_reader.py"
READERS, SKILLS = 8, 40


def commit(repository, revision):
    """A tree in which every file holds the number of the revision, and one name does."""
    number = f"{revision}\n"
    paths = [
        f".agents/skills/skill-{skill:02}/{part}" for skill in range(SKILLS) for part in ("SKILL.md", "deep/one", "deep/two")
    ] + [f".agents/skills/revision-{revision}/SKILL.md", "workflows/flow.py"]
    files = "".join(f"M 100644 inline {path}\ndata {len(number)}\n{number}\n" for path in paths)
    stamp = 1_700_000_000 + revision
    text = f"commit refs/heads/made\ncommitter b <b@localhost> {stamp} +0000\ndata 1\nx\ndeleteall\n{files}\n"
    run("git", "-C", repository, "update-ref", "-d", "refs/heads/made")
    run("git", "-C", repository, "fast-import", "--quiet", "--force", input=text.encode())
    return run("git", "-C", repository, "rev-parse", "made").decode().strip()


class View:
    """Our view; a ref moves."""

    name = "view, `reload` after each move"

    def __init__(self, top, repository, first):
        self.repository, self.top, self.at = repository, top, top / "view"
        self.move(first)
        (top / "overlays.yaml").write_text(
            "overlays: {sources: [{path: repo, mode: git, ref: main, name: acme/base}]}\nstate: {dir: state}\nmount: {at: view}\n"
        )
        run(PROGRAM, "mount", "-c", top / "overlays.yaml")

    def move(self, commit_id):
        run("git", "-C", self.repository, "update-ref", "refs/heads/main", commit_id)

    def update(self, commit_id):
        self.move(commit_id)
        run(PROGRAM, "reload", self.at)

    def end(self):
        run(PROGRAM, "unmount", self.at)


class InPlace:
    """A work tree that `git checkout` updates, seen through a bind mount, as the platform has it."""

    name = "`git checkout` in place, bind-mounted"

    def __init__(self, top, repository, first):
        self.tree, self.at = top / "tree", top / "bound"
        run("git", "clone", "-q", "--shared", "--no-checkout", repository, self.tree)
        self.update(first)
        self.at.mkdir()
        run("mount", "--bind", self.tree, self.at)

    def update(self, commit_id):
        run("git", "-C", self.tree, "checkout", "-q", "--detach", "--force", commit_id)
        run("git", "-C", self.tree, "clean", "-fdq")

    def end(self):
        run("umount", self.at)


class Swap:
    """A link that is renamed over: each revision is a directory of its own."""

    name = "link swapped between checkouts"

    def __init__(self, top, repository, first):
        self.top, self.repository, self.at, self.count = top, repository, top / "link", 0
        self.update(first)

    def update(self, commit_id):
        self.count += 1
        tree, link = self.top / f"tree-{self.count}", self.top / "new-link"
        tree.mkdir()
        run("sh", "-c", f"git -C '{self.repository}' archive {commit_id} | tar -x -C '{tree}'")
        link.symlink_to(tree.name)
        link.rename(self.at)
        # The last and the present one stay, as deployment programs leave some.
        shutil.rmtree(self.top / f"tree-{self.count - 2}", ignore_errors=True)

    def end(self):
        pass


def measure(kind):
    with tempfile.TemporaryDirectory(prefix="overlayfs-mount-torn-") as directory:
        top = Path(directory)
        repository = top / "repo"
        run("git", "init", "-q", "-b", "main", repository)
        commits = 1
        peer, readers = kind(top, repository, commit(repository, 1)), []
        try:
            shared = top / "shared"
            shared.write_bytes(bytes(8 * (READERS + 2)))
            with open(shared, "r+b") as file:
                numbers = memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")
            readers = [
                subprocess.Popen(["nice", "-n", "5", sys.executable, READER, peer.at, shared, str(slot)], stdout=subprocess.PIPE)
                for slot in range(READERS)
            ]
            deadline = time.monotonic() + SECONDS
            while time.monotonic() < deadline:
                commits += 1
                peer.update(commit(repository, commits))
                numbers[0] = commits
            numbers[1] = 1
            found = [json.loads(reader.communicate()[0]) for reader in readers]
        finally:
            # Those that nobody told to end would read for good, and hold the view.
            for reader in readers:
                reader.kill()
                reader.wait()
            peer.end()
    total = {key: sum(one[key] for one in found) for key in found[0] if key != "first"}
    cells = [kind.name, commits - 1, total["entries"], total["listings"]]
    cells += [total[key] for key in ("torn", "stale", "backward", "absent")]
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


print("| what | moves | entries read | listings | mixed | stale | backward | absent |\n|---|---|---|---|---|---|---|---|", flush=True)
for kind in (View, InPlace, Swap):
    measure(kind)
