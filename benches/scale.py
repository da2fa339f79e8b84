#!/usr/bin/env python3
"""How mounting grows: time to the first listing, memory and what a flip costs, beside `cp -r` and `git clone` of the same, in one run.

Prints a Markdown table. Usage: benches/scale.py [--quick] [--realtime] [PROGRAM]; the program defaults to target/release/overlayfs-mount.
"""

import json
import os
import statistics
import subprocess
import time
from pathlib import Path

from program import ENVIRONMENT, PROGRAM, QUICK, run, undisturbed, workplace

ROUNDS = 3 if QUICK else 7


def repository(path, entries, files, surface=".agents/skills"):
    """A bare repository with `files` files of about 1 KiB spread over `entries` entries of a surface."""
    run("git", "init", "--quiet", "--bare", "--initial-branch=main", path)
    importer = subprocess.Popen(
        ["git", "-C", path, "fast-import", "--quiet"], stdin=subprocess.PIPE, env=ENVIRONMENT
    )
    write = importer.stdin.write
    write(b"commit refs/heads/main\ncommitter b <b@localhost> 1714564800 +0000\ndata 1\nx\n")
    for number in range(files):
        entry, rest = number % entries, number // entries
        name = "SKILL.md" if rest == 0 else f"part-{rest // 100}/file-{rest}.md"
        text = (f"{number} " * 200)[:1024].encode()
        write(f"M 100644 inline {surface}/entry-{entry:05}/{name}\ndata {len(text)}\n".encode() + text + b"\n")
    importer.stdin.close()
    assert importer.wait() == 0
    return path


def flipped(directory, repository, surface=".agents/skills"):
    """Time of a `reload` after one file of one entry changed; its ref has just moved."""
    text = f"commit refs/heads/next\ncommitter b <b@localhost> {time.time_ns() // 10**9} +0000\ndata 1\nx\nfrom refs/heads/main\n"
    text += f"M 100644 inline {surface}/entry-00000/SKILL.md\ndata <<END\n{time.time_ns()}\nEND\n"
    run("git", "-C", repository, "fast-import", "--quiet", "--force", input=text.encode())
    before = (directory / "view/.overlay/revision").read_text()
    with undisturbed():
        start = time.perf_counter()
        run("git", "-C", repository, "update-ref", "refs/heads/main", "refs/heads/next")
        run(PROGRAM, "reload", directory / "view")
        seconds = time.perf_counter() - start
    assert (directory / "view/.overlay/revision").read_text() != before
    return seconds


def resident_kib(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def mounted(directory, names, walk=False):
    """Median time from the call of `mount` to the first listing, and the daemon's memory then (and after a walk); what a flip takes."""
    sources = "".join(f"    - {{repo: {name}}}\n" for name in names)
    # What an earlier case pinned and kept is no part of this one.
    run("rm", "-rf", directory / "state")
    (directory / "overlays.yaml").write_text(
        f"overlays:\n  sources:\n{sources}repoCache: {{path: repos}}\nstate: {{dir: state}}\nmount: {{at: view}}\n"
    )
    times, memory, flips, walked = [], [], [], None
    for turn in range(ROUNDS):
        with undisturbed():
            start = time.perf_counter()
            run(PROGRAM, "mount", "-c", directory / "overlays.yaml")
            entries = len(os.listdir(directory / "view/.agents/skills"))
            times.append(time.perf_counter() - start)
        assert entries > 0
        status = json.loads(run(PROGRAM, "status", directory / "view", "--json"))
        memory.append(resident_kib(status["pid"]))
        if walk and turn == 0:
            start = time.perf_counter()
            run("sh", "-c", f"find '{directory}/view/.agents' -type f -exec cat {{}} + > /dev/null")
            walked = (time.perf_counter() - start, resident_kib(status["pid"]))
        flips.append(flipped(directory, directory / "repos" / names[0]))
        run(PROGRAM, "unmount", directory / "view")
    return statistics.median(times), statistics.median(memory), statistics.median(flips), walked


def timed(*command):
    start = time.perf_counter()
    run(*command)
    return time.perf_counter() - start


def row(*cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def main():
    files = [10**3, 10**4, 10**5] if QUICK else [10**3, 10**4, 10**5, 10**6]
    row("sources", "entries", "files below", "mount to first listing, ms", "RSS, MiB", "after reading all, MiB", "flip of one entry, ms", "cp -r, s", "git clone, s")
    row(*["---"] * 9)
    with workplace("scale") as directory:
        cases = [(1, entries, entries) for entries in [100, 1000, 10_000, 100_000]]
        cases += [(sources, 1000, 1000) for sources in [10, 100, 1000]]
        cases += [(1, 400, count) for count in files]
        cases = cases[::3] if QUICK else cases
        for sources, entries, count in cases:
            names = []
            for number in range(sources):
                source = f"s{sources}-{entries}/r{count}-{number}"
                repository(str(directory / "repos" / source), entries // sources, count // sources)
                names.append(source)
            seconds, memory, flip, walked = mounted(directory, names, walk=count <= 10**5)
            clone = copy = "-"
            if max(count, 10 * entries) <= 10**5 and sources == 1:
                run("git", "clone", "--quiet", directory / "repos" / names[0], directory / "warm")
                clone = f"{timed('git', 'clone', '--quiet', '--shared', directory / 'repos' / names[0], directory / 'clone'):.2f}"
                copy = f"{timed('cp', '-r', directory / 'warm', directory / 'copy'):.2f}"
                run("rm", "-rf", directory / "warm", directory / "clone", directory / "copy")
            after = f"{walked[1] / 1024:.0f} ({walked[0]:.1f} s)" if walked else "-"
            row(sources, entries, count, f"{seconds * 1000:.1f}", f"{memory / 1024:.1f}", after, f"{flip * 1000:.1f}", copy, clone)


main()
