"""What is measured: each kind of work is a function from a mount to a sample."""

import os
import resource
import subprocess
import time
from pathlib import Path

import clocks
from clocks import Sample
from systems import Mount, Ours, configure, environment
from tree import LARGE, SKILLS, run

RANDOM_PAGES = 20_000
IMPORTS = "import sys; sys.path.insert(0, 'tools/measured'); import measured.everything"


class Works:
    """All kinds of work over one tree."""

    def __init__(self, tree, reader):
        self.tree, self.reader = tree, str(reader)
        self.warm = {
            "find with sizes": self.find,
            "stat all": lambda mount: self.each(mount, "stat", "files"),
            "read all": lambda mount: self.each(mount, "read", "files"),
            "read all, 2 processes": lambda mount: self.each(mount, "read", "files.0", "files.1"),
            "absent names": lambda mount: self.each(mount, "absent", "absent"),
            "readlink": lambda mount: self.each(mount, "readlink", "links"),
            "Python imports": self.imports,
            "large file again": lambda mount: self.each(mount, "read", "large"),
            "random 4 KiB reads": self.random,
        }
        self.first = {
            "find": self.find,
            "read": lambda mount: self.each(mount, "read", "files"),
            "absent": lambda mount: self.each(mount, "absent", "absent"),
            "large file": lambda mount: self.each(mount, "read", "large"),
        }

    def each(self, mount, work, *lists):
        commands = [[self.reader, work, str(self.tree.list(name))] for name in lists]
        sample, seen = clocks.readers(commands, mount.at, mount.pids)
        wanted = {"read": {"large": self.tree.plan["large_bytes"]}.get(lists[0], self.tree.counts["bytes"])}
        if seen != wanted.get(work, seen):
            raise SystemExit(f"{mount.system.name}: {work} saw {seen} bytes, not {wanted[work]}")
        return sample

    def find(self, mount):
        return clocks.command(["find", SKILLS, "-printf", "%s\n"], mount.at, mount.pids)

    def imports(self, mount):
        return clocks.command(["python3", "-I", "-B", "-c", IMPORTS], mount.at, mount.pids)

    def random(self, mount):
        commands = [[self.reader, "random", LARGE, str(RANDOM_PAGES)]]
        return clocks.readers(commands, mount.at, mount.pids)[0]

    def check(self, mount):
        """That a mount shows the tree: as many entries, as many bytes."""
        seen = run("find", SKILLS, "-printf", "x", cwd=mount.at)
        if len(seen) != self.tree.counts["entries"]:
            raise SystemExit(f"{mount.system.name} shows {len(seen)} entries, not {self.tree.counts['entries']}")


def drop_caches():
    """Nothing that is on disk stays in memory. The machine's other programs lose it too."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def timed(*steps):
    """Wall time of calls, one after the other."""
    start = time.perf_counter()
    for step in steps:
        step()
    return time.perf_counter() - start


class Jobs:
    """Whole jobs: from nothing to a first listing, to the skills of a new sandbox, and with a disk from which nothing was read."""

    def __init__(self, tree, works, program):
        self.tree, self.works = tree, works
        self.at = tree.directory / "at/job"
        self.empty = Ours(program, configure(tree.directory, "empty.yaml", []), "an empty FUSE mount")
        self.skills = Ours(program, configure(tree.directory, "skills.yaml", tree.names))
        self.sandboxes = 0

    def first_listing(self, system):
        """From the call of the command that mounts to the first listing; the daemon goes to the background by itself."""
        self.at.mkdir(parents=True, exist_ok=True)
        command = [str(word) for word in system.background(self.at)]
        start = time.perf_counter()
        done = subprocess.run(command, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if done.returncode != 0:
            raise SystemExit(f"{command}: {done.stderr.decode()}")
        names = os.listdir(self.at / SKILLS)
        wall = time.perf_counter() - start
        system.end(self.at)
        if len(names) != (0 if system is self.empty else self.tree.plan["entries"]):
            raise SystemExit(f"{system.name}: {len(names)} entries at the first listing")
        return Sample(wall, 0.0, 0.0)

    def cold(self, system, log):
        """Mounting, a walk with sizes, and reading everything; nothing in memory before. CPU without that of mounting."""
        self.forget()
        drop_caches()
        start = time.perf_counter()
        mount = Mount(system, self.at if system.foreground else self.tree.merged, log)
        samples = [self.works.find(mount), self.works.each(mount, "read", "files")]
        wall = time.perf_counter() - start
        mount.unmount()
        return Sample(wall, sum(s.reader for s in samples), sum(s.daemon for s in samples))

    def cold_large(self, system, log):
        """The large file, from disk."""
        self.forget()
        mount = Mount(system, self.at if system.foreground else self.tree.merged, log)
        drop_caches()
        sample = self.works.each(mount, "read", "large")
        mount.unmount()
        return sample

    def cold_copy(self):
        """`cp -r` of the checkouts, from disk to disk; nobody has read the copy yet."""
        self.begin()
        drop_caches()
        return self.of_children(self.copy)

    def cold_clone(self):
        """`git clone --shared` of every source, then a walk and reading everything."""
        self.begin()
        drop_caches()
        return self.of_children(self.clone, self.walk_clones)

    def new_sandbox(self, way):
        """From nothing to all skills listed and each `SKILL.md` read."""
        self.begin()
        steps = {"cp -r": self.copy, "git worktree add": self.worktrees, "git clone --shared": self.clone}
        if way in steps:
            return self.of_children(steps[way], self.read_skills)
        self.forget()
        command = [str(word) for word in self.skills.background(self.at)]
        self.at.mkdir(parents=True, exist_ok=True)
        sample = self.of_children(lambda: run(*command), lambda: self.list_and_read(self.at))
        sample.daemon = clocks.cpu_of(self.skills.pid(self.at))
        self.skills.end(self.at)
        return sample

    def forget(self):
        """What earlier daemons kept on disk goes."""
        run("rm", "-rf", self.tree.directory / "state")

    def of_children(self, *steps):
        """Wall time of steps, and the CPU time of their children and of this process, which reads for them."""
        both = (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)
        before = [resource.getrusage(who) for who in both]
        wall = timed(*steps)
        after = [resource.getrusage(who) for who in both]
        used = [new.ru_utime + new.ru_stime - old.ru_utime - old.ru_stime for new, old in zip(after, before)]
        return Sample(wall, sum(used), 0.0)

    def begin(self):
        """A new place for each job. What earlier jobs made stays until the end: ext4 looks for inodes that were not freed lately, so that
        making files soon after removing many takes several times as long."""
        self.sandboxes += 1
        self.sandbox = self.tree.directory / "sandboxes" / str(self.sandboxes)
        self.sandbox.mkdir(parents=True)
        os.sync()

    def clear(self):
        """Removes what all jobs made."""
        run("rm", "-rf", self.tree.directory / "sandboxes")
        for name in self.tree.names:
            run("git", "-C", self.tree.directory / "repos/bench" / name, "worktree", "prune")

    def copy(self):
        for name in self.tree.names:
            run("cp", "-r", self.tree.directory / "branches" / name, self.sandbox / name)

    def clone(self):
        for name in self.tree.names:
            run("git", "clone", "--quiet", "--shared", self.tree.directory / "repos/bench" / name, self.sandbox / name)

    def worktrees(self):
        for name in self.tree.names:
            repository = self.tree.directory / "repos/bench" / name
            run("git", "-C", repository, "worktree", "add", "--quiet", "--detach", self.sandbox / name, "main")

    def walk_clones(self):
        run("find", ".", "-path", "*/.agents/*", "-printf", "%s\n", cwd=self.sandbox)
        run("find", ".", "-path", "*/.agents/*", "-type", "f", "-exec", "cat", "{}", "+", cwd=self.sandbox)

    def read_skills(self):
        for name in self.tree.names:
            self.list_and_read(self.sandbox / name)

    def list_and_read(self, top):
        for name in os.listdir(top / SKILLS):
            (top / SKILLS / name / "SKILL.md").read_bytes()
