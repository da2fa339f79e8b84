#!/usr/bin/env python3
"""Two mounts of the same sources for an hour while everything happens to them: does memory or the number of descriptors grow?

One mount has a keeper, whose workers are killed; the other one lives through it all. Meanwhile: commits, force-pushes with gc, another
configuration, reload, emptied caches, and readers that compare what they see. Prints a table, and fails if a reader saw something wrong or
if the last quarter needs more than the second: 10 % and 8 MiB more memory, or 8 more descriptors.

Usage: benches/soak.py [--minutes=60] [PROGRAM]; as root. The program defaults to target/release/overlayfs-mount.
"""

import contextlib
import hashlib
import json
import multiprocessing
import os
import queue
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from program import ENVIRONMENT, MIB, PROGRAM, run

MINUTES = next((float(word.split("=", 1)[1]) for word in sys.argv if word.startswith("--minutes=")), 60.0)
SKILLS, FILES = 20, 4
MOUNTS = {"kept": ["--supervised"], "alone": []}
IDENTITY = ["-c", "user.name=soak", "-c", "user.email=soak@localhost", "-c", "gc.auto=0"]


def configure(directory, name, has_live):
    """One of two configurations."""
    live = f"    - {{path: {directory}/live}}\n" if has_live else ""
    text = f"overlays:\n  sources:\n    - {{repo: acme/still}}\n    - {{repo: acme/moving}}\n{live}" \
        f"repoCache: {{path: {directory}/repos}}\nstate: {{dir: {directory}/state-{name}}}\nmount: {{at: {directory}/{name}, keep: 30s}}\n"
    new = directory / f"{name}.yaml.new"
    new.write_text(text)
    new.rename(directory / f"{name}.yaml")


def commit(repository, revision, is_forced=False):
    """A commit in which each file of a skill holds the revision; a forced one has no parent."""
    text = [f"commit refs/heads/main\ncommitter soak <soak@localhost> {1714564800 + revision} +0000\ndata 1\nx\n"]
    if revision > 1 and not is_forced:
        text.append("from refs/heads/main^0\n")
    for skill in range(SKILLS):
        for file in range(FILES):
            content = f"{revision}\n" * (1 + 97 * file)
            text.append(f"M 100644 inline .agents/skills/s{skill}/{file}\ndata {len(content)}\n{content}\n")
    subprocess.run(["git", "-C", repository, "fast-import", "--quiet", "--force"], input="".join(text).encode(), check=True, env=ENVIRONMENT)


def status(view):
    """What a daemon says, of one that is replaced at this moment what the next one says."""
    for _ in range(200):
        done = subprocess.run([PROGRAM, "status", view, "--json"], capture_output=True, env=ENVIRONMENT)
        if done.returncode == 0:
            return json.loads(done.stdout)
        time.sleep(0.1)
    raise TimeoutError(done.stderr.decode())


def reader(view, large, floor, stop, reads, wrong):
    """Reads until told to stop: an entry is of one revision, none older than what a reload has published, the large file as it was written."""
    def say(what):
        wrong.put(f"{view}: {what}")

    turn = 0
    while not stop.is_set():
        turn += 1
        skill = turn * 7 % SKILLS
        before = floor.value
        try:
            directory = os.open(view / f".agents/skills/s{skill}", os.O_RDONLY | os.O_DIRECTORY)
            try:
                found = set()
                names = os.listdir(directory)
                for name in names:
                    with open(os.open(name, os.O_RDONLY, dir_fd=directory), "rb") as file:
                        lines = set(file.read().split())
                    found |= lines
                if len(found) != 1 or len(names) != FILES:
                    say(f"s{skill}: {len(names)} files of the revisions {sorted(found)}")
                elif int(next(iter(found))) < before:
                    say(f"s{skill}: revision {found} after {before}")
            finally:
                os.close(directory)
            if turn % 50 == 0:
                with open(view / ".agents/skills/large/file", "rb") as file:
                    if hashlib.sha256(file.read()).hexdigest() != large:
                        say("the large file is another")
            if turn % 20 == 0:
                count = sum(len(files) for _, _, files in os.walk(view / ".agents/skills"))
                if count < SKILLS * FILES + 1:
                    say(f"a walk found {count} files only")
        except OSError as error:
            say(f"s{skill}: {error}")
        reads.value += 1


class Sample:
    """What a process needs at one moment."""

    def __init__(self, pid):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        self.mib = int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024
        self.descriptors = len(os.listdir(f"/proc/{pid}/fd"))


def disk_mib(directory):
    done = subprocess.run(["du", "-sk", directory], capture_output=True, text=True)
    return int(done.stdout.split()[0]) / 1024


class Soak:
    def __init__(self, directory):
        self.directory, self.samples, self.counts, self.revision = directory, [], dict.fromkeys(["flips", "forced", "kills", "configurations", "dropped"], 0), 1
        self.floor, self.stop, self.wrong = multiprocessing.Value("q", 1), multiprocessing.Event(), multiprocessing.Queue()
        still = directory / "repos/acme/still"
        run("git", "init", "--quiet", "--initial-branch=main", still)
        run("git", "init", "--quiet", "--bare", "--initial-branch=main", directory / "repos/acme/moving")
        content = os.urandom(6 * MIB)
        self.large = hashlib.sha256(content).hexdigest()
        (still / ".agents/skills/large").mkdir(parents=True)
        (still / ".agents/skills/large/file").write_bytes(content)
        run("git", "-C", still, "add", "--all")
        run("git", "-C", still, *IDENTITY, "commit", "--quiet", "--message=large")
        (directory / "live/.agents/skills/live").mkdir(parents=True)
        (directory / "live/.agents/skills/live/SKILL.md").write_text("live\n")
        commit(directory / "repos/acme/moving", 1)

    def reload(self):
        for name in MOUNTS:
            # A worker that was killed at this moment answers nobody.
            for _ in range(200):
                done = subprocess.run([PROGRAM, "reload", self.directory / name], capture_output=True, env=ENVIRONMENT)
                if done.returncode == 0:
                    break
                time.sleep(0.1)
            else:
                self.wrong.put(f"reload {name}: {done.stderr.decode()}")

    def one_turn(self, turn):
        moving = self.directory / "repos/acme/moving"
        self.revision += 1
        is_forced = turn % 15 == 14
        commit(moving, self.revision, is_forced)
        if is_forced:
            run("git", "-C", moving, "gc", "--quiet", "--prune=now")
            self.counts["forced"] += 1
        if turn % 7 == 6:
            for name in MOUNTS:
                configure(self.directory, name, turn % 2 == 0)
            self.counts["configurations"] += 1
        if turn % 20 == 19:
            # It may have been replaced meanwhile, for a configuration that needs other files.
            with contextlib.suppress(ProcessLookupError):
                os.kill(status(self.directory / "kept")["pid"], 9)
                self.counts["kills"] += 1
        self.reload()
        self.floor.value = self.revision
        self.counts["flips"] += 1
        if turn % 3 == 0:
            Path("/proc/sys/vm/drop_caches").write_text("3")
            self.counts["dropped"] += 1

    def sample(self):
        alone, kept = status(self.directory / "alone")["pid"], status(self.directory / "kept")
        disk = sum(disk_mib(self.directory / f"state-{name}") for name in MOUNTS)
        # A worker that is replaced at this moment is not counted.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, StopIteration):
            self.samples.append((Sample(alone), Sample(kept["supervisor_pid"]), Sample(kept["pid"]), disk))

    def ended(self, readers):
        """What readers found wrong. One that hangs, or died of what it saw, says nothing, and is wrong itself."""
        wrong, end = [], time.monotonic() + 60
        while any(process.is_alive() for process in readers) and time.monotonic() < end:
            # A reader does not end before what it says is taken.
            with contextlib.suppress(queue.Empty):
                wrong.append(self.wrong.get(timeout=0.1))
        for process in readers:
            if process.exitcode != 0:
                wrong.append("a reader hangs" if process.exitcode is None else f"a reader ended with {process.exitcode}")
                process.kill()
        while not self.wrong.empty():
            wrong.append(self.wrong.get())
        return wrong

    def run(self):
        reads, readers = [], []
        for name in MOUNTS:
            for _ in range(2):
                reads.append(multiprocessing.Value("q", 0))
                readers.append(multiprocessing.Process(
                    target=reader, args=(self.directory / name, self.large, self.floor, self.stop, reads[-1], self.wrong)))
        for process in readers:
            process.start()
        end, turn = time.monotonic() + MINUTES * 60, 0
        try:
            while time.monotonic() < end:
                self.one_turn(turn)
                turn += 1
                self.sample()
                time.sleep(0.2)
        finally:
            self.stop.set()
            wrong = self.ended(readers)
        return sum(count.value for count in reads), wrong


PROCESSES = ["daemon alone", "keeper", "its worker"]


def report(soak):
    """The table; what grew."""
    columns = [column for name in PROCESSES for column in (f"{name}, MiB: mean, most", "descriptors: most")]
    print(f"| quarter | {' | '.join(columns)} | state directories, MiB |")
    print("|---" * (len(columns) + 2) + "|")
    quarters, size = [], max(1, len(soak.samples) // 4)
    for quarter in range(4):
        part = soak.samples[quarter * size:(quarter + 1) * size] or soak.samples[-1:]
        cells = []
        for each in range(len(PROCESSES)):
            mib = [sample[each].mib for sample in part]
            cells.append((sum(mib) / len(mib), max(mib), max(sample[each].descriptors for sample in part)))
        quarters.append(cells)
        texts = [text for mean, most, descriptors in cells for text in (f"{mean:.1f}, {most:.1f}", str(descriptors))]
        disk = max(sample[-1] for sample in part)
        print(f"| {quarter + 1} | {' | '.join(texts)} | {disk:.1f} |")
    grown = []
    for each, name in enumerate(PROCESSES):
        (mean, _, descriptors), (last_mean, _, last_descriptors) = quarters[1][each], quarters[3][each]
        if last_mean > mean * 1.1 + 8:
            grown.append(f"{name} grew from {mean:.1f} to {last_mean:.1f} MiB")
        if last_descriptors > descriptors + 8:
            grown.append(f"{name} went from {descriptors} to {last_descriptors} descriptors")
    return grown


def main():
    with tempfile.TemporaryDirectory(prefix="overlayfs-mount-soak-", dir=os.environ.get("TMPDIR")) as name:
        directory = Path(name)
        soak = Soak(directory)
        for mount, options in MOUNTS.items():
            configure(directory, mount, True)
            run(PROGRAM, "mount", "-c", directory / f"{mount}.yaml", "--log", directory / f"{mount}.log", *options)
        try:
            reads, wrong = soak.run()
        finally:
            soak.stop.set()
            for mount in MOUNTS:
                subprocess.run([PROGRAM, "unmount", directory / mount], env=ENVIRONMENT)
    grown = report(soak)
    counts = ", ".join(f"{count} {name}" for name, count in soak.counts.items())
    print(f"\n{MINUTES:g} minutes: {reads} reads of an entry, {counts}; {len(wrong)} wrong")
    for each in [*grown, *wrong[:20]]:
        print("FAILED", each)
    sys.exit(bool(grown or wrong))


main()
