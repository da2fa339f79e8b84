"""The file systems that are compared: how each is mounted over the same trees, and taken away again."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tree import ENVIRONMENT, run

PATIENCE_SECONDS = 60
END_SECONDS = 5
LONG = "entry_timeout=86400,attr_timeout=86400,negative_timeout=86400"
MERGERFS_LONG = (
    "cache.files=full,cache.entry=86400,cache.negative_entry=86400,cache.attr=86400,cache.readdir=true,cache.symlinks=true"
)


def mounted_below(directory):
    """Mount points below a directory, the innermost first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split(" ")[4] for line in lines]
    return [point for point in reversed(points) if point.startswith(f"{directory}/")]


class System:
    """A file system over a tree. `foreground` and `background` give the command that mounts it; `program` must be there."""

    def __init__(self, name, program, package, foreground, background=None):
        self.name, self.program, self.package = name, program, package
        self.foreground, self.background = foreground, background or foreground

    def absent(self):
        """Why it cannot be measured, or None."""
        if self.program is None or shutil.which(self.program):
            return None
        return f"`{self.program}` is not installed: apt-get install {self.package}"

    def end(self, at):
        """Unmounts what went to the background by itself."""
        take_away(at)


class Mount:
    """A mounted system. Its daemon stays a child of ours, so that its clock can be read and it can be ended by its number."""

    children = []

    def __init__(self, system, at, log):
        self.system, self.at, self.child = system, Path(at), None
        self.log = log
        if system.foreground is None:
            return
        self.at.mkdir(parents=True, exist_ok=True)
        command = [str(word) for word in system.foreground(self.at)]
        with open(log, "ab") as output:
            child = subprocess.Popen(command, env=environment(), stdout=output, stderr=output)
        if command[0] == "mount":
            if child.wait() != 0:
                raise SystemExit(f"{command}: see {log}")
            return
        self.child = child
        Mount.children.append(child)
        self.wait_until(lambda: str(self.at) in mounted_below(self.at.parent))

    @property
    def pids(self):
        return [self.child.pid] if self.child else []

    def wait_until(self, condition):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            if time.monotonic() > deadline or self.child.poll() is not None:
                raise SystemExit(f"{self.system.name} did not mount:\n{Path(self.log).read_text()}")
            time.sleep(0.001)

    def unmount(self):
        if self.system.foreground is None:
            return
        take_away(self.at)
        if not self.child:
            return
        try:
            self.child.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            print(f"{self.system.name} is unmounted and has not ended after {END_SECONDS} s: killed", file=sys.stderr, flush=True)
            self.child.kill()
            self.child.wait()


def take_away(at):
    """Unmounts, with patience for whoever still closes a file."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while str(at) in mounted_below(Path(at).parent):
        done = subprocess.run(["umount", str(at)], capture_output=True)
        if done.returncode != 0 and time.monotonic() > deadline:
            raise SystemExit(f"umount {at}: {done.stderr.decode()}")
        if done.returncode != 0:
            time.sleep(0.01)


def environment():
    return dict(ENVIRONMENT, OVERLAYFS_MOUNT_LOG="debug", NO_COLOR="1")


class Ours(System):
    """`overlayfs-mount`, which also tells how many requests it was sent."""

    def __init__(self, program, config, name="overlayfs-mount"):
        mount = [program, "mount", "-c", config]
        super().__init__(name, str(program), "", lambda at: [*mount, "-f", at], lambda at: [*mount, at])
        self.path = program

    def requests(self, mount):
        """Requests of the kernel since the mount, by kind: `status` makes the daemon write them to its log."""
        run_as = dict(environment())
        done = subprocess.run([self.path, "status", mount.at, "--json"], env=run_as, capture_output=True)
        if done.returncode != 0:
            raise SystemExit(f"status {mount.at}: {done.stderr.decode()}")
        text = re.sub("\x1b\\[[0-9;]*m", "", Path(mount.log).read_text())
        line = re.findall(r"requests=\[(.*?)\]", text)[-1]
        return {kind: int(count) for kind, count in re.findall(r'\("(\w+)", (\d+)\)', line)}

    def end(self, at):
        """Unmounts and waits until the daemon has ended: the next one listens on the same socket."""
        run(self.path, "unmount", at)

    def pid(self, at):
        """The process that answers at a mount point."""
        done = subprocess.run([self.path, "status", at, "--json"], env=environment(), capture_output=True, check=True)
        return json.loads(done.stdout)["pid"]


def configure(directory, name, sources):
    """Writes a configuration of these repositories and gives its path."""
    path = directory / name
    lines = "".join(f"    - {{repo: bench/{source}}}\n" for source in sources)
    rows = "surfaces: {large: {at: large, subdir: large, entries: children}}\n"
    sources = f"overlays:\n  sources:\n{lines}" if lines else "overlays: {sources: []}\n"
    path.write_text(f"{sources}{rows}repoCache: {{path: repos}}\nstate: {{dir: state}}\nmount: {{at: view}}\n")
    return path


def systems(tree, program, is_tuned):
    """All of them, native first and ours last."""
    down = ":".join(str(branch) for branch in reversed(tree.branches))
    unionfs = ":".join(f"{branch}=RO" for branch in reversed(tree.branches))

    def fuse(name, program, package, *words):
        command = [program, *words]
        return System(name, program, package, lambda at: [*command, "-f", at], lambda at: [*command, at])

    overlay = System("overlayfs", None, "", lambda at: ["mount", "-t", "overlay", "overlay", "-o", f"ro,lowerdir={down}", at])
    found = [
        System("native", None, "", None),
        overlay,
        fuse("mergerfs", "mergerfs", "mergerfs", "-o", "ro", down),
        fuse("unionfs-fuse", "unionfs", "unionfs-fuse", "-o", "ro", unionfs),
        fuse("bindfs", "bindfs", "bindfs", "-r", tree.merged),
        fuse("fuse-overlayfs", "fuse-overlayfs", "fuse-overlayfs", "-o", f"lowerdir={down}"),
    ]
    if is_tuned:
        found += [
            fuse("mergerfs tuned", "mergerfs", "mergerfs", "-o", f"ro,{MERGERFS_LONG}", down),
            fuse("unionfs-fuse tuned", "unionfs", "unionfs-fuse", "-o", f"ro,kernel_cache,{LONG}", unionfs),
            fuse("bindfs tuned", "bindfs", "bindfs", "-r", "-o", f"kernel_cache,{LONG}", tree.merged),
        ]
    sources = [branch.name for branch in tree.branches]
    return [*found, Ours(program, configure(tree.directory, "overlays.yaml", sources))]


def clear(directory):
    """Takes away every mount below a directory, whatever state it is in."""
    for point in mounted_below(directory):
        subprocess.run(["umount", "-l", point], capture_output=True)
