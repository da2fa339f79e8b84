#!/usr/bin/env python3
"""What large files cost: first read, again, after a restart, beside a plain file; the daemon's memory; look-ups meanwhile.

Prints a Markdown table. Usage: benches/large.py [--quick] [PROGRAM]; the program defaults to target/release/overlayfs-mount.
As root it also measures what is not in the kernel's memory. Needs three times the size of the files as free disk.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from program import ENVIRONMENT, MIB, PROGRAM, QUICK, READ, run

SIZE = (128 if QUICK else 512) * MIB


def random_bytes(count):
    with open("/dev/urandom", "rb") as source:
        return source.read(count)


def text_bytes(count):
    piece = b"".join(b"%015d\n" % (n * 7919 % 1000003) for n in range(MIB))
    return (piece * (count // len(piece) + 1))[:count]


def commit(repository, files, options):
    """A bare repository with these files in one pack, made in one commit."""
    run("git", "init", "--quiet", "--bare", "--initial-branch=main", repository)
    importer = subprocess.Popen(
        ["git", "-C", repository, *options, "fast-import", "--quiet"], stdin=subprocess.PIPE, env=ENVIRONMENT
    )
    importer.stdin.write(b"commit refs/heads/main\ncommitter b <b@localhost> 1714564800 +0000\ndata 1\nx\n")
    for name, content in files:
        importer.stdin.write(f"M 100644 inline .agents/skills/large/{name}\ndata {len(content)}\n".encode())
        importer.stdin.write(content)
        importer.stdin.write(b"\n")
    importer.stdin.close()
    assert importer.wait() == 0


def forget(paths):
    """Drops files from the kernel's memory."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def read_seconds(path):
    """A child reads: whoever reads a mount is another process than the daemon."""
    start = time.perf_counter()
    run(sys.executable, "-c", READ, path)
    return time.perf_counter() - start


def memory_mib(pid, field):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


class Mount:
    def __init__(self, directory, names):
        sources = "".join(f"    - {{repo: {name}}}\n" for name in names)
        (directory / "overlays.yaml").write_text(
            f"overlays:\n  sources:\n{sources}repoCache: {{path: repos}}\nstate: {{dir: state}}\nmount: {{at: view}}\n"
        )
        self.directory, self.view = directory, directory / "view"

    def __enter__(self):
        run(PROGRAM, "mount", "-c", self.directory / "overlays.yaml")
        self.pid = json.loads(run(PROGRAM, "status", self.view, "--json"))["pid"]
        return self

    def __exit__(self, *error):
        run(PROGRAM, "unmount", self.view)

    def file(self, name):
        return self.view / ".agents/skills/large" / name


def row(*cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def lookups_while(view, work):
    """The longest look-up of an absent name while something else happens."""
    longest, stop = [0.0], threading.Event()

    def look():
        turn = 0
        while not stop.is_set():
            turn += 1
            start = time.perf_counter()
            os.path.exists(view / f".agents/skills/absent-{turn}")
            longest[0] = max(longest[0], time.perf_counter() - start)
            time.sleep(0.002)

    looker = threading.Thread(target=look)
    looker.start()
    try:
        outcome = work()
    finally:
        stop.set()
        looker.join()
    return outcome, longest[0]


def one_file(directory, name, content):
    plain = directory / "plain"
    plain.write_bytes(content)
    repository = directory / f"repos/large/{name}"
    commit(str(repository), [("file", content)], ["-c", "core.compression=-1"])
    packs = list((repository / "objects/pack").glob("*.pack"))
    read_seconds(plain)
    forget([plain])
    native_cold = read_seconds(plain)
    native = min(read_seconds(plain) for _ in range(3))
    with Mount(directory, [f"large/{name}"]) as mount:
        forget(packs)
        (first, longest) = lookups_while(mount.view, lambda: read_seconds(mount.file("file")))
        again = min(read_seconds(mount.file("file")) for _ in range(3))
        peak = memory_mib(mount.pid, "VmHWM")
    with Mount(directory, [f"large/{name}"]) as mount:
        forget((directory / "state/blobs").iterdir())
        restarted = read_seconds(mount.file("file"))
    row(
        f"{len(content) // MIB} MiB, {name}", f"{native_cold:.2f}", f"{native:.2f}",
        f"{first:.2f} ({first / native_cold:.1f} x)", f"{again:.2f} ({again / native:.1f} x)",
        f"{restarted:.2f}", f"{peak:.0f}", f"{longest * 1000:.0f}",
    )
    plain.unlink()


def many_files(directory):
    """Eight readers of eight large blobs that are stored whole, then of eight that are stored as differences."""
    size = (16 if QUICK else 64) * MIB
    whole = [(f"f{n}", random_bytes(size)) for n in range(8)]
    common = random_bytes(size)
    alike = [(f"f{n}", common[:-1] + bytes([n])) for n in range(8)]
    for name, files in (("whole", whole), ("differences", alike)):
        repository = directory / f"repos/many/{name}"
        commit(str(repository), files, [])
        if name == "differences":
            run("git", "-C", repository, "repack", "-adfq", "--window=8", "--depth=8")
        with Mount(directory, [f"many/{name}"]) as mount:
            idle = memory_mib(mount.pid, "VmRSS")
            start = time.perf_counter()
            readers = [subprocess.Popen([sys.executable, "-c", READ, mount.file(f"f{n}")]) for n in range(8)]
            assert all(reader.wait() == 0 for reader in readers)
            seconds, peak = time.perf_counter() - start, memory_mib(mount.pid, "VmHWM")
        row(f"8 readers, 8 x {size // MIB} MiB, {name}", "-", "-", f"{seconds:.2f}", "-", "-", f"{peak:.0f} (idle {idle:.0f})", "-")


def main():
    row("file", "plain cold, s", "plain, s", "first read, s", "again, s", "after a restart, s", "peak RSS, MiB", "longest look-up meanwhile, ms")
    row(*["---"] * 8)
    with tempfile.TemporaryDirectory(prefix="overlayfs-mount-large-", dir=os.environ.get("TMPDIR")) as name:
        directory = Path(name)
        one_file(directory, "random", random_bytes(SIZE))
        one_file(directory, "text", text_bytes(SIZE))
        many_files(directory)


main()
