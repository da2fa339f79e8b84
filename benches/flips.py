#!/usr/bin/env python3
"""What flips cost: `reload` with many changed entries, look-ups meanwhile, time from a commit to its being seen, idle time, memory.

Prints a Markdown table. Usage: benches/flips.py [--quick] [PROGRAM]; the program defaults to target/release/overlayfs-mount.
"""

import json
import os
import statistics
import subprocess
import threading
import time
from pathlib import Path

from program import PROGRAM, QUICK, run, workplace


def commit(repository, entries, text):
    """Sets `entries` (names) to `text` on a new commit, and leaves the others."""
    stream = [b"commit refs/heads/next\ncommitter b <b@localhost> %d +0000\ndata 1\nx\n" % int(time.time())]
    head = subprocess.run(["git", "-C", repository, "rev-parse", "--verify", "-q", "main"], capture_output=True)
    if head.returncode == 0:
        stream.append(b"from " + head.stdout.strip() + b"\n")
    data = text.encode()
    for name in entries:
        stream.append(f"M 100644 inline .agents/skills/{name}/SKILL.md\ndata {len(data)}\n".encode() + data + b"\n")
    run("git", "-C", repository, "fast-import", "--quiet", "--force", input=b"".join(stream))
    return run("git", "-C", repository, "rev-parse", "next").decode().strip()


def move(repository, commit_id):
    run("git", "-C", repository, "update-ref", "refs/heads/main", commit_id)


def configure(directory, names):
    sources = "".join(f"    - {{repo: {name}, ref: main}}\n" for name in names)
    (directory / "overlays.yaml").write_text(
        f"overlays:\n  sources:\n{sources}repoCache: {{path: repos}}\nstate: {{dir: state}}\nmount: {{at: view}}\n"
    )


def mount(directory):
    run(PROGRAM, "mount", "-c", directory / "overlays.yaml")
    return json.loads(run(PROGRAM, "status", directory / "view", "--json"))["pid"]


def wait_for_pins(directory):
    """Pins follow the mount: what comes after is idle time."""
    while True:
        status = json.loads(run(PROGRAM, "status", directory / "view", "--json"))
        if all(source["pinned"] is not None for source in status["sources"]):
            return
        time.sleep(0.1)


def resident_kib(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def row(*cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def reloads(directory, repository, names):
    """`reload` after 1, 100 and all entries changed, with a reader that looks up an entry that does not change."""
    view = directory / "view"
    for count in (1, 100, len(names) - 1):
        new = commit(repository, names[1 : count + 1], f"changed {count} {time.time()}\n")
        os.listdir(view / ".agents/skills")
        run("sh", "-c", f"cat '{view}'/.agents/skills/*/SKILL.md > /dev/null")
        move(repository, new)
        times, stop = [], threading.Event()

        def look():
            path = view / f".agents/skills/{names[0]}/SKILL.md"
            while not stop.is_set():
                start = time.perf_counter()
                os.stat(path)
                times.append(time.perf_counter() - start)

        reader = threading.Thread(target=look)
        reader.start()
        start = time.perf_counter()
        try:
            run(PROGRAM, "reload", view)
            seconds = time.perf_counter() - start
        finally:
            stop.set()
            reader.join()
        times.sort()
        row(f"`reload`, {count} of {len(names)} entries changed", f"{seconds * 1000:.0f} ms")
        row(f"stat of an unchanged entry meanwhile, p99 of {len(times)}", f"{times[int(len(times) * 0.99)] * 1000:.2f} ms")


def latencies(directory, repository, names):
    path = directory / f"view/.agents/skills/{names[0]}/SKILL.md"
    times = []
    for turn in range(20 if QUICK else 100):
        text = f"turn {turn}\n"
        new = commit(repository, names[:1], text)
        start = time.perf_counter()
        move(repository, new)
        while path.read_text() != text:
            time.sleep(0.001)
        times.append(time.perf_counter() - start)
    times.sort()
    row("from the move of a ref to its being seen, median", f"{statistics.median(times) * 1000:.0f} ms")
    row(f"the same, the longest of {len(times)}", f"{times[-1] * 1000:.0f} ms")


def memory(directory, repository, names, pid):
    for turn in range(1000 if not QUICK else 200):
        move(repository, commit(repository, names[:3], f"memory {turn}\n"))
        run(PROGRAM, "reload", directory / "view")
        os.stat(directory / f"view/.agents/skills/{names[0]}/SKILL.md")
        if turn + 1 in (100, 200, 1000):
            row(f"RSS after {turn + 1} flips", f"{resident_kib(pid) / 1024:.1f} MiB")


def main():
    row("what", "measured")
    row("---", "---")
    with workplace("flips") as directory:
        repository = directory / "repos/big/one"
        run("git", "init", "--quiet", "--bare", "--initial-branch=main", repository)
        names = [f"entry-{number:05}" for number in range(10_000)]
        move(repository, commit(repository, names, "first\n"))
        configure(directory, ["big/one"])
        mount(directory)
        reloads(directory, repository, names)
        latencies(directory, repository, names)
        run(PROGRAM, "unmount", directory / "view")
        small = directory / "repos/small/one"
        run("git", "init", "--quiet", "--bare", "--initial-branch=main", small)
        move(small, commit(small, names[:40], "first\n"))
        configure(directory, ["small/one"])
        pid = mount(directory)
        memory(directory, small, names, pid)
        run(PROGRAM, "unmount", directory / "view")
        many = []
        for number in range(100):
            source = directory / f"repos/many/r{number}"
            run("git", "init", "--quiet", "--bare", "--initial-branch=main", source)
            move(source, commit(source, [f"entry-{number}"], "x\n"))
            many.append(f"many/r{number}")
        configure(directory, many)
        pid = mount(directory)
        wait_for_pins(directory)
        before = cpu_seconds(pid)
        seconds = 15 if QUICK else 60
        time.sleep(seconds)
        share = (cpu_seconds(pid) - before) / seconds
        row("idle with 100 sources", f"{share * 100:.2f} % of a core")
        run(PROGRAM, "unmount", directory / "view")


main()
