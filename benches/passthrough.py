#!/usr/bin/env python3
"""What `-o passthrough` saves and costs: a large file and many small files, again, beside plain files and an ordinary mount. A plain large file that was
written in pieces of 4 KiB is beside them: the kernel keeps it in single pages, as it keeps those of FUSE (Linux 6.18).

Prints a Markdown table. Usage: benches/passthrough.py [--quick] [--rounds N] [PROGRAM]; as root, Linux 6.9 or newer; the program defaults to
target/release/overlayfs-mount. Needs four times the size of the large file as free disk.
"""

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "benches/peers"))
sys.dont_write_bytecode = True

import clocks
import systems
from tree import LARGE, Tree, run

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("program", nargs="?", default=TOP / "target/release/overlayfs-mount", type=Path)
parser.add_argument("--quick", action="store_true")
parser.add_argument("--rounds", type=int, default=7)
ASKED = parser.parse_args()
MIB = 1 << 20
SINGLE = "plain, in single pages"


def in_single_pages(source, target):
    """A copy that the kernel keeps in single pages."""
    target.parent.mkdir(parents=True)
    with source.open("rb") as whole, target.open("wb", buffering=0) as single:
        while piece := whole.read(4096):
            single.write(piece)


def measure(directory):
    tree = Tree(directory, 40 if ASKED.quick else 400, (64 if ASKED.quick else 512) * MIB, False)
    tree.make()
    reader = directory / "reader"
    run("rustc", "--edition=2024", "-O", "-o", reader, TOP / "benches/peers/reader.rs")
    sources = [branch.name for branch in tree.branches]
    ours = systems.Ours(ASKED.program.resolve(), systems.configure(directory, "overlays.yaml", sources))
    in_single_pages(tree.merged / LARGE, directory / "single" / LARGE)
    ways = {"plain files": None, SINGLE: None, "a mount": [], "with passthrough": ["-o", "passthrough"]}
    mounts = {}
    for name, options in ways.items():
        if options is not None:
            at = directory / "at" / str(len(mounts))
            system = systems.System(name, None, "", lambda at, options=options: [*ours.foreground(at), *options])
            mounts[name] = systems.Mount(system, at, directory / "log")

    def read(name, what):
        plain = directory / "single" if name == SINGLE else tree.merged
        at, pids = (mounts[name].at, mounts[name].pids) if name in mounts else (plain, [])
        return clocks.readers([[str(reader), "read", str(tree.list(what))]], at, pids)[0]

    samples = {}
    for name in ways:
        run("rm", "-rf", directory / "state/blobs")
        samples[name, "large, first"] = [read(name, "large")]
        if name != SINGLE:
            read(name, "files")
    for number in range(ASKED.rounds):
        for name in [*list(ways)[number % 4 :], *list(ways)[: number % 4]]:
            for what, title in (("large", "large, again"), ("files", "small, again")):
                if (name, what) == (SINGLE, "files"):
                    continue
                samples.setdefault((name, title), []).append(read(name, what))
    for mount in mounts.values():
        mount.unmount()
    return ways, samples


def main():
    with tempfile.TemporaryDirectory(prefix="overlayfs-mount-passthrough-", dir=os.environ.get("TMPDIR")) as name:
        directory = Path(name).resolve()
        os.environ["OVERLAYFS_MOUNT_RUN_DIR"] = systems.ENVIRONMENT["OVERLAYFS_MOUNT_RUN_DIR"] = str(directory / "run")
        os.setpriority(os.PRIO_PROCESS, 0, -10)
        try:
            ways, samples = measure(directory)
        finally:
            systems.clear(directory)
            for child in systems.Mount.children:
                if child.poll() is None:
                    child.terminate()
                    child.wait()
    titles = ["large, first", "large, again", "small, again"]
    print("| CPU (wall), ms | " + " | ".join(titles) + " |")
    print("|---" * (len(titles) + 1) + "|")
    middle = lambda values, of: statistics.median(getattr(sample, of) for sample in values) * 1000
    for name in ways:
        cells = []
        for title in titles:
            if (name, title) not in samples:
                cells.append("-")
                continue
            cpu, wall = (middle(samples[name, title], of) for of in ("cpu", "wall"))
            native = middle(samples["plain files", title], "cpu")
            cells.append(f"{cpu:.0f} ({wall:.0f}), {cpu / native:.2f} x")
        print(f"| {name} | " + " | ".join(cells) + " |")


main()
