"""`overlayfs-mount` beside other file systems over the same trees, in one run: reading, first touches, cold disks, mounting, whole jobs.

Usage: python3 benches/peers [--quick] [--tuned] [--rounds N] [--only WORK] [--dir DIR] [--json FILE] [--svg FILE] [--into PAGE] [PROGRAM]
As root, on Linux with /dev/fuse. docs/BENCHMARKS.md says what the numbers mean.
"""

import argparse
import atexit
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

# Nothing of this run stays beside the sources.
sys.dont_write_bytecode = True

import plot
import report
import systems
from tree import Tree, run
from work import Jobs, Works

TOP = Path(__file__).resolve().parent.parent.parent
WAYS = ("overlayfs-mount", "cp -r", "git worktree add", "git clone --shared")


def arguments():
    parser = argparse.ArgumentParser(prog="benches/peers", description=__doc__.split("\n")[0])
    parser.add_argument("program", nargs="?", default=TOP / "target/release/overlayfs-mount", type=Path)
    parser.add_argument("--quick", action="store_true", help="a tenth of the tree, few rounds: whether it works, no more")
    parser.add_argument("--tuned", action="store_true", help="other FUSE file systems also with long lifetimes")
    parser.add_argument("--rounds", type=int, help="rounds of warm work (default 9); a third as many of everything else")
    parser.add_argument("--only", help="only kinds of work whose name has this in it")
    parser.add_argument("--large-text", action="store_true", help="the large file is text, which git stores compressed, not random bytes")
    parser.add_argument("--dir", type=Path, help="make the trees here and leave them for the next run")
    parser.add_argument("--json", type=Path, help="write every sample to this file")
    parser.add_argument("--svg", type=Path, help="draw the warm work into this file")
    parser.add_argument("--into", type=Path, help="put the tables into this page, between its marks")
    return parser.parse_args()


class Run:
    """One run: what was asked for, where it happens, and every sample."""

    def __init__(self, asked, directory):
        self.asked, self.directory = asked, directory
        self.samples = {"warm": {}, "first": {}, "cold": {}, "mount": {}, "job": {}}
        self.requests, self.missing = {}, {}
        self.rounds = asked.rounds or (2 if asked.quick else 9)
        self.fewer = max(1, self.rounds // 3)
        large = (64 << 20) if asked.quick else (512 << 20)
        self.tree = Tree(directory, 40 if asked.quick else 400, large, asked.large_text)

    def prepare(self):
        say("making the trees")
        self.tree.make()
        say("building the reader")
        # Not with cargo, which would build all dependencies anew for an example.
        source = Path(__file__).resolve().parent / "reader.rs"
        run("rustc", "--edition=2024", "-O", "-o", self.directory / "reader", source)
        self.works = Works(self.tree, self.directory / "reader")
        program = self.asked.program.resolve()
        self.jobs = Jobs(self.tree, self.works, program)
        found = systems.systems(self.tree, program, self.asked.tuned)
        self.missing = {system.name: system.absent() for system in found if system.absent()}
        for name, cause in self.missing.items():
            say(f"ABSENT: {name} is not measured: {cause}")
        self.systems = [system for system in found if system.name not in self.missing]

    def is_asked(self, name):
        return not self.asked.only or self.asked.only in name

    def keep(self, part, work, system, sample):
        self.samples[part].setdefault(work, {}).setdefault(system, []).append(sample)

    def log(self, system):
        return self.directory / "logs" / f"{system.name.replace(' ', '-')}.log"

    def mount(self, system, below):
        if system.foreground is None:
            return systems.Mount(system, self.tree.merged, self.log(system))
        return systems.Mount(system, self.directory / "at" / below / system.name.replace(" ", "-"), self.log(system))

    def in_turn(self, number):
        """The systems, each time beginning with another one."""
        start = number % len(self.systems)
        return [*self.systems[start:], *self.systems[:start]]

    def warm(self):
        works = {name: work for name, work in self.works.warm.items() if self.is_asked(name)}
        if not works:
            return
        mounts = {system.name: self.mount(system, "warm") for system in self.systems}
        for mount in mounts.values():
            self.works.check(mount)
            for work in works.values():
                work(mount)
        ours = mounts[self.systems[-1].name]
        # Twice: what the kernel asks once for each file (an access, say) is asked in the first pass.
        for name, work in works.items():
            before = ours.system.requests(ours)
            work(ours)
            after = ours.system.requests(ours)
            self.requests[name] = {kind: after[kind] - before[kind] for kind in after if after[kind] != before[kind]}
        before = ours.system.requests(ours)
        for number in range(self.rounds):
            say(f"warm, round {number + 1} of {self.rounds}")
            for name, work in works.items():
                for system in self.in_turn(number):
                    self.keep("warm", name, system.name, work(mounts[system.name]))
        after = ours.system.requests(ours)
        self.requests["all rounds"] = {kind: after[kind] - before[kind] for kind in after if after[kind] != before[kind]}
        for mount in mounts.values():
            mount.unmount()

    def first(self):
        works = {name: work for name, work in self.works.first.items() if self.is_asked(f"first {name}")}
        for number in range(self.fewer if works else 0):
            say(f"first touches, round {number + 1} of {self.fewer}")
            for system in self.in_turn(number):
                # What an earlier daemon kept on disk is no part of a first touch.
                run("rm", "-rf", self.directory / "state")
                mount = self.mount(system, "first")
                for name, work in works.items():
                    self.keep("first", name, system.name, work(mount))
                mount.unmount()

    def cold(self):
        if not self.is_asked("cold"):
            return
        for number in range(self.fewer):
            say(f"cold disk, round {number + 1} of {self.fewer}")
            for system in self.in_turn(number):
                self.keep("cold", "walk and read", system.name, self.jobs.cold(system, self.log(system)))
                self.keep("cold", "large file", system.name, self.jobs.cold_large(system, self.log(system)))
            self.keep("cold", "walk and read", "cp -r", self.jobs.cold_copy())
            self.keep("cold", "walk and read", "git clone --shared", self.jobs.cold_clone())

    def mounting(self):
        if not self.is_asked("mount"):
            return
        # A mount takes milliseconds, so that it can be had more often.
        for number in range(self.rounds * 2):
            for system in [*self.in_turn(number), self.jobs.empty]:
                if system.foreground:
                    self.keep("mount", "first listing", system.name, self.jobs.first_listing(system))

    def job(self):
        if not self.is_asked("job"):
            return
        for number in range(self.fewer):
            say(f"a new sandbox, round {number + 1} of {self.fewer}")
            for way in WAYS:
                self.keep("job", "new sandbox", way, self.jobs.new_sandbox(way))

    def run(self):
        self.prepare()
        try:
            for part in (self.warm, self.first, self.cold, self.mounting, self.job):
                part()
        finally:
            self.jobs.clear()


def say(text):
    print(text, file=sys.stderr, flush=True)


def clean(directory, is_kept):
    systems.clear(directory)
    for child in systems.Mount.children:
        if child.poll() is None:
            child.terminate()
            child.wait()
    if not is_kept:
        shutil.rmtree(directory, ignore_errors=True)


def main():
    asked = arguments()
    if os.geteuid() != 0:
        raise SystemExit("mounting and dropping caches need root: sudo python3 benches/peers")
    if asked.dir:
        asked.dir.mkdir(parents=True, exist_ok=True)
    directory = (asked.dir or Path(tempfile.mkdtemp(prefix="overlayfs-mount-peers-"))).resolve()
    atexit.register(clean, directory, bool(asked.dir))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    os.environ["OVERLAYFS_MOUNT_RUN_DIR"] = systems.ENVIRONMENT["OVERLAYFS_MOUNT_RUN_DIR"] = str(directory / "run")
    (directory / "logs").mkdir(exist_ok=True)
    # Readers and daemons before whatever else the machine does.
    os.setpriority(os.PRIO_PROCESS, 0, -10)
    measured = Run(asked, directory)
    try:
        measured.run()
    finally:
        # What was measured before something failed is worth as much.
        if any(measured.samples.values()):
            tell(measured)


def tell(measured):
    asked = measured.asked
    text = report.tables(measured)
    print(text)
    if asked.json:
        asked.json.write_text(json.dumps(report.plain(measured), indent=1))
    if asked.svg:
        asked.svg.write_text(plot.draw(measured))
    if asked.into:
        report.put_into(asked.into, text)


main()
