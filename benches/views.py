#!/usr/bin/env python3
"""What many views of one node cost: page cache of a large file that ten of them read, memory of the daemon, time to add one.

The same with a daemon for each beside it, and what it takes to start with many, with and without a keeper. Prints Markdown tables. Root only: it
empties the kernel's caches, but with `--small`, which leaves the large file out.
Usage: benches/views.py [--quick] [--small] [--supervised] [--realtime] [PROGRAM]; the program defaults to target/release/overlayfs-mount. With
`--supervised` the views that are added one by one have a keeper and a broker too. Needs three times the size of the file as free disk, and for the ten
mounts eleven times as free memory.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from program import ENVIRONMENT, MIB, PROGRAM, QUICK, READ, run, undisturbed

SMALL = "--small" in sys.argv
SUPERVISED = ["--supervised"] if "--supervised" in sys.argv else []
SIZE = (1 if SMALL else 64 if QUICK else 512) * MIB
VIEWS = 10
COUNTS = [1, 2, 10, 20, 50, 100]
AT_ONCE = [10, 60, 200]
ROUNDS = 5


def ours(*arguments):
    return run(PROGRAM, *arguments)


def resident(paths):
    """How much of these files the page cache holds, in bytes; of those that are one file, once."""
    files = {(os.stat(path).st_dev, os.stat(path).st_ino): path for path in paths}
    return sum(int(number) for number in run("fincore", "--noheadings", "--bytes", "--output", "RES", *files.values()).split())


def largest(directory):
    """The largest file below a directory, as a list."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    return sorted(files, key=lambda path: path.stat().st_size)[-1:]


def empty():
    run("sync")
    Path("/proc/sys/vm/drop_caches").write_text("3")


def repository(work):
    repo = work / "repo"
    repo.mkdir()
    git = ["git", "-C", repo, "-c", "user.name=b", "-c", "user.email=b@b", "-c", "core.compression=0"]
    run("git", "init", "-q", repo)
    for kind, marker in [("tools", "pyproject.toml"), (".agents/skills", "SKILL.md"), ("workflows", "flow.py")]:
        for number in range(100):
            directory = repo / kind / f"entry-{number:03}"
            directory.mkdir(parents=True)
            (directory / marker).write_text(f"{kind} {number}\n")
            (directory / "more.md").write_text("x" * 4000)
    large = repo / ".agents/skills/large"
    large.mkdir()
    with open("/dev/urandom", "rb") as source, open(large / "data", "wb") as file:
        for _ in range(SIZE // MIB):
            file.write(source.read(MIB))
    run(*git, "add", "-A")
    run(*git, "commit", "-qm", "x")


def configure(work, name, beside=""):
    text = f"""overlays: {{sources: [{{path: {work}/repo, name: o/r, mode: git}}]}}
state: {{dir: {work}/state{beside}}}
mount: {{at: {work}/at/{name}}}
"""
    whole = work / "views" / f"{name}.yaml"
    (work / "views" / f".{name}").write_text(text)
    (work / "views" / f".{name}").rename(whole)
    return whole


def memory(pid):
    """Resident and private memory of a process in KiB, and its threads."""
    fields = dict(line.split(":", 1) for line in open(f"/proc/{pid}/smaps_rollup") if ":" in line and "-" not in line.split(":")[0])
    number = lambda name: int(fields[name].split()[0])
    return number("Rss"), number("Private_Clean") + number("Private_Dirty"), len(os.listdir(f"/proc/{pid}/task"))


def processes(mountpoint):
    """Who serves a view, and who has to be told to end."""
    status = json.loads(ours("status", mountpoint, "--json"))
    return status["pid"], status["supervisor_pid"] or status["pid"]


def pid_of(mountpoint):
    return processes(mountpoint)[0]


def all_of(pid):
    """A process and its children."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def processor(pid):
    """Processor time of a process that lives, in milliseconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1000 // os.sysconf("SC_CLK_TCK")


def wait(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


def has_ended(pid):
    """Whether a process has ended, also where whoever should collect it takes its time."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def end(pid):
    os.kill(pid, signal.SIGTERM)
    wait(lambda: has_ended(pid))


def is_mounted(path):
    return any(line.split()[4] == str(path) for line in open("/proc/self/mountinfo"))


def read_all(work):
    """Every view reads the large file; what the page cache then has: of the repository, of the state directory, of the views."""
    empty()
    seconds = []
    for number in range(VIEWS):
        started = time.monotonic()
        subprocess.run([sys.executable, "-c", READ, work / f"at/v{number}/.agents/skills/large/data"], check=True)
        seconds.append(time.monotonic() - started)
    views = [work / f"at/v{number}/.agents/skills/large/data" for number in range(VIEWS)]
    places = largest(work / "repo/.git/objects"), largest(work / "state/blobs"), views
    return [resident(paths) for paths in places], seconds


def large(work):
    print(f"{VIEWS} views of one file of {SIZE // MIB} MiB\n")
    print("| served by | page cache, times the file | object + kept file + views | first read | each other | resident memory of all daemons |")
    print("|---|---|---|---|---|---|")

    def row(name, parts, seconds, pids):
        rss = sum(memory(pid)[0] for pid in pids)
        others = sum(seconds[1:]) / len(seconds[1:])
        shares = " + ".join(f"{part / SIZE:.2f}" for part in parts)
        print(f"| {name} | {sum(parts) / SIZE:.2f} | {shares} | {seconds[0]:.2f} s | {others:.2f} s | {rss / 1024:.0f} MiB |", flush=True)

    def rows(name, pids):
        # The first time the file is decoded out of the repository, which is in the page cache too then.
        row(f"{name}, nothing decoded before", *read_all(work), pids)
        row(name, *read_all(work), pids)

    for number in range(VIEWS):
        configure(work, f"v{number}")
    ours("mount", "--views", work / "views", "--log", work / "log")
    pid = pid_of(work / "at/v0")
    rows("one daemon, one superblock", [pid])
    end(pid)
    run("sh", "-c", f"rm -rf {work}/state")
    for number in range(VIEWS):
        ours("mount", "-c", work / f"views/v{number}.yaml", "--log", work / f"log{number}")
    pids = [pid_of(work / f"at/v{number}") for number in range(VIEWS)]
    rows("a daemon and a mount each", pids)
    for pid in pids:
        end(pid)
    for number in range(VIEWS):
        (work / f"views/v{number}.yaml").unlink()


def many(work):
    print("\nViews of one daemon, of one source with 301 entries\n")
    print("| views | resident | private | each more: private | threads | to add one | to walk it |")
    print("|---|---|---|---|---|---|---|")
    configure(work, "v0")
    ours("mount", "--views", work / "views", "--log", work / "log", *SUPERVISED)
    pid, first = processes(work / "at/v0")
    walk = "find {} -path '*/o' -prune -o -type f ! -name data -print0 | xargs -0 cat > /dev/null"
    last = None
    seconds, walks, made = [], [], 1
    run("sh", "-c", walk.format(work / "at/v0"))
    for count in COUNTS:
        while made < count:
            started = time.monotonic()
            configure(work, f"v{made}")
            wait(lambda: is_mounted(work / f"at/v{made}"))
            seconds.append(time.monotonic() - started)
            started = time.monotonic()
            run("sh", "-c", walk.format(work / f"at/v{made}"))
            walks.append(time.monotonic() - started)
            made += 1
        # Pins and archives of the last one are written after it is mounted.
        time.sleep(2)
        resident, private, threads = memory(pid)
        each = f"{(private - last[1]) / (count - last[0]):.0f} KiB" if last else ""
        median = lambda values: f"{sorted(values)[len(values) // 2] * 1000:.0f} ms" if values else ""
        print(f"| {count} | {resident / 1024:.1f} MiB | {private / 1024:.1f} MiB | {each} | {threads} | {median(seconds)} | {median(walks)} |", flush=True)
        last, seconds, walks = (count, private), [], []
    started = time.monotonic()
    end(first)
    print(f"\nEnding all {made}: {time.monotonic() - started:.2f} s.")


def at_once(work):
    print(f"\nMounting many at once, medians of {ROUNDS}; processor time is that of all processes of the daemon\n")
    print("| views | | until all are there | processor | to end all |")
    print("|---|---|---|---|---|")
    for path in (work / "views").iterdir():
        path.unlink()
    made, took = 0, {}
    for count in AT_ONCE:
        while made < count:
            configure(work, f"v{made}")
            made += 1
        for _ in range(ROUNDS):
            for how in ([], ["--supervised"]):
                run("rm", "-rf", work / "state")
                started = time.monotonic()
                ours("mount", "--views", work / "views", "--log", work / "log", *how)
                there = time.monotonic() - started
                _, first = processes(work / "at/v0")
                spent = sum(map(processor, all_of(first)))
                started = time.monotonic()
                end(first)
                took.setdefault((count, *how), []).append((there, spent, time.monotonic() - started))
        for how in ([], ["--supervised"]):
            there, spent, ended = (sorted(values)[ROUNDS // 2] for values in zip(*took[(count, *how)]))
            print(f"| {count} | {' '.join(how)} | {there * 1000:.0f} ms | {spent} ms | {ended * 1000:.0f} ms |", flush=True)


def alone(work):
    print("\nThe same views by a daemon each, all with one state directory\n")
    print("| daemons | resident | private | each more: private | threads | to mount one | to walk it |")
    print("|---|---|---|---|---|---|---|")
    for path in (work / "views").iterdir():
        path.unlink()
    walk = "find {} -path '*/o' -prune -o -type f ! -name data -print0 | xargs -0 cat > /dev/null"
    pids, last, seconds, walks = [], None, [], []
    for count in COUNTS:
        while len(pids) < count:
            number = len(pids)
            path = configure(work, f"v{number}")
            started = time.monotonic()
            ours("mount", "-c", path, "--log", work / f"log{number}")
            seconds.append(time.monotonic() - started)
            started = time.monotonic()
            run("sh", "-c", walk.format(work / f"at/v{number}"))
            walks.append(time.monotonic() - started)
            pids.append(pid_of(work / f"at/v{number}"))
        # Pins and archives of the last one are written after it is mounted.
        time.sleep(2)
        resident, private, threads = (sum(numbers) for numbers in zip(*map(memory, pids)))
        each = f"{(private - last[1]) / (count - last[0]):.0f} KiB" if last else ""
        median = lambda values: f"{sorted(values)[len(values) // 2] * 1000:.0f} ms" if values else ""
        print(f"| {count} | {resident / 1024:.1f} MiB | {private / 1024:.1f} MiB | {each} | {threads} | {median(seconds)} | {median(walks)} |", flush=True)
        last, seconds, walks = (count, private), [], []
    started = time.monotonic()
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    for pid in pids:
        wait(lambda pid=pid: has_ended(pid))
    print(f"\nEnding all {len(pids)}: {time.monotonic() - started:.2f} s.")


def main():
    with tempfile.TemporaryDirectory(prefix="overlayfs-mount-views-") as name:
        work = Path(name)
        ENVIRONMENT["OVERLAYFS_MOUNT_RUN_DIR"] = str(work / "run")
        (work / "views").mkdir()
        repository(work)
        try:
            if not SMALL:
                large(work)
            with undisturbed():
                many(work)
                at_once(work)
                alone(work)
        finally:
            for line in open("/proc/self/mountinfo"):
                if f" {work}/" in line:
                    subprocess.run(["umount", "-l", line.split()[4]], check=False)


if __name__ == "__main__":
    main()
