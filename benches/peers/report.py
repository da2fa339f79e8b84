"""Samples become tables, verdicts and JSON."""

import datetime
import os
import platform
import shutil
import statistics
import subprocess

OURS, NATIVE, EMPTY = "overlayfs-mount", "native", "an empty FUSE mount"
START, END = "<!-- benches/peers: begin -->", "<!-- benches/peers: end -->"
NAIVE = ("mergerfs", "unionfs-fuse", "bindfs")


def median(samples, what):
    return statistics.median(getattr(sample, what) for sample in samples)


class Numbers:
    """Medians by part, work and system; None where something was not measured."""

    def __init__(self, measured):
        self.samples = measured.samples

    def get(self, part, work, system, what):
        samples = self.samples[part].get(work, {}).get(system)
        return median(samples, what) if samples else None

    def ratio(self, part, work, system, what, to=NATIVE):
        one, other = self.get(part, work, system, what), self.get(part, work, to, what)
        return one / other if one is not None and other else None

    def systems(self, part):
        names = {}
        for by_system in self.samples[part].values():
            names.update(dict.fromkeys(by_system))
        first = [name for name in (NATIVE, OURS) if name in names]
        rest = [name for name in names if name not in first]
        return sorted(first, key=(NATIVE, OURS).index) + sorted(rest, key=order)


def order(name):
    known = ["overlayfs", "fuse-overlayfs", "mergerfs", "bindfs", "unionfs-fuse"]
    return (name.endswith("tuned"), known.index(name.split(" ")[0]) if name.split(" ")[0] in known else 9, name)


def table(heads, rows):
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def number(value, digits=2):
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if value < 100 else f"{value:.0f}"


def machine(measured):
    tree, now = measured.tree, datetime.date.today()
    versions = [f"{name} {version}" for name, version in peer_versions()]
    lines = [
        f"{now}, Linux {platform.release()}, {os.cpu_count()} cores, Python {platform.python_version()}; {', '.join(versions)}.",
        f"{tree.counts['files']} files of 1 to 8 KiB ({tree.counts['bytes'] / 2**20:.0f} MiB) in {tree.plan['entries']} skills of 10 sources, "
        f"{tree.counts['entries']} entries walked; a file of {tree.plan['large_bytes'] >> 20} MiB of "
        f"{'text' if tree.plan['text'] else 'random bytes'}. Medians of {measured.rounds} rounds warm, {measured.fewer} else, "
        "all file systems in turn.",
    ]
    lines += [f"**Absent**: {name}, {cause}." for name, cause in measured.missing.items()]
    return "\n".join(lines) + "\n"


def peer_versions():
    packages = ["mergerfs", "unionfs-fuse", "bindfs", "fuse-overlayfs"]
    if not shutil.which("dpkg-query"):
        return
    for package in packages:
        command = ["dpkg-query", "-W", "-f", "${Version}", package]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0 and done.stdout:
            yield package, done.stdout


def warm(numbers):
    systems = numbers.systems("warm")
    text = ""
    for what, title in (("cpu", "CPU time of reader and daemon"), ("wall", "Wall time")):
        heads = ["warm", "native, ms", *(f"{name}, ×" for name in systems if name != NATIVE)]
        rows = []
        for work in numbers.samples["warm"]:
            base = numbers.get("warm", work, NATIVE, what)
            cells = [number(numbers.ratio("warm", work, name, what)) for name in systems if name != NATIVE]
            rows.append([work, number(base * 1000, 1), *cells])
        text += f"{title}, × native:\n\n{table(heads, rows)}\n"
    return text


def first(numbers, counts):
    systems = [name for name in numbers.systems("first") if name != NATIVE]
    units = {"find": ("an entry, µs", "entries"), "read": ("a file, µs", "files"), "absent": ("an absent name, µs", "absent")}
    rows = []
    for work in numbers.samples["first"]:
        if work in units:
            title, unit = units[work]
            scale = 1e6 / counts[unit]
            cell = lambda name: " / ".join(number(numbers.get("first", work, name, what) * scale, 1) for what in ("wall", "cpu"))
        else:
            title = "the large file, × native warm"
            cell = lambda name: " / ".join(number(numbers.ratio("first", work, name, what)) for what in ("wall", "cpu"))
        rows.append([title, *map(cell, systems)])
    return f"First touch of a new mount, what it serves being in memory: wall / CPU.\n\n{table(['first', *systems], rows)}\n"


def seconds(part, title, numbers):
    systems = numbers.systems(part)
    rows = []
    for work in numbers.samples[part]:
        pairs = {name: [numbers.get(part, work, name, what) for what in ("wall", "cpu")] for name in systems}
        rows.append([work, *(f"{number(p[0])} / {number(p[1])}" if p[0] is not None else "-" for p in pairs.values())])
    return f"{title}\n\n{table([part, *systems], rows)}\n"


def mounting(numbers):
    systems = numbers.systems("mount")
    rows = [[work, *(number(numbers.get("mount", work, name, "wall") * 1000, 1) for name in systems)] for work in numbers.samples["mount"]]
    return f"From the call of the command that mounts to the first listing of the skills, ms.\n\n{table(['mount', *systems], rows)}\n"


def requests(measured):
    rows = [[work, ", ".join(f"{kind} {count}" for kind, count in kinds.items()) or "none"] for work, kinds in measured.requests.items()]
    works = len(rows) - 1
    evicted, asked = sum(measured.requests.get("all rounds", {}).values()), measured.rounds * works * measured.tree.counts["files"]
    warning = ""
    if evicted > asked / 100:
        warning = (
            f"**Not warm**: {evicted} requests in rounds that should cost none. Something took names or pages from the kernel meanwhile "
            "(`drop_caches`, memory pressure): measure again.\n\n"
        )
    title = f"Requests that the daemon of `{OURS}` was sent by warm work, once each and by all {measured.rounds} rounds together."
    return f"{warning}{title}\n\n{table(['warm', 'requests'], rows)}\n"


def targets(numbers, counts):
    """Each target with what was measured: (what, at most, measured)."""
    ratio, get = numbers.ratio, numbers.get

    def per(work, unit):
        value = get("first", work, OURS, "wall")
        return value and value * 1e6 / counts[unit]

    for work, most in (("find with sizes", 1.05), ("stat all", 1.2), ("read all", 1.35), ("absent names", 1.3)):
        for what in ("cpu", "wall"):
            yield f"{work}, {what.replace('cpu', 'CPU')}, × native", most, ratio("warm", work, OURS, what)
        yield f"{work}, CPU, × kernel overlayfs", 1.0, ratio("warm", work, OURS, "cpu", "overlayfs")
        for name in NAIVE:
            yield f"{work}, CPU, × {name}", 0.1, ratio("warm", work, OURS, "cpu", name)
    yield "first touch of an entry, µs", 12, per("find", "entries")
    yield "first read of a file, µs", 40, per("read", "files")
    yield "first look for an absent name, µs", 25, per("absent", "absent")
    for name in ("cp -r", "git clone --shared", "mergerfs", "bindfs"):
        yield f"cold walk and read, wall, × {name}", 1.0, ratio("cold", "walk and read", OURS, "wall", name)
    yield "large file, first and from the disk, wall, × native", 5, ratio("cold", "large file", OURS, "wall")
    yield "large file, again, wall, × native", 1.9, ratio("warm", "large file again", OURS, "wall")
    yield "mount to first listing, × an empty FUSE mount", 2, ratio("mount", "first listing", OURS, "wall", EMPTY)
    listing, copy = get("mount", "first listing", OURS, "wall"), get("job", "new sandbox", "cp -r", "wall")
    yield "mount to first listing, × copying", 0.02, listing / copy if listing and copy else None


def verdicts(numbers, counts):
    rows = []
    for what, most, value in targets(numbers, counts):
        if value is not None:
            rows.append([what, f"≤ {most}", number(value, 3 if value < 0.1 else 2), "met" if value <= most else "**missed**"])
    return f"Targets.\n\n{table(['what', 'target', 'measured', ''], rows)}"


def tables(measured):
    numbers, samples = Numbers(measured), measured.samples
    text = machine(measured) + "\n"
    if samples["warm"]:
        text += warm(numbers) + requests(measured)
    if samples["first"]:
        text += first(numbers, measured.tree.counts)
    if samples["cold"]:
        title = "Nothing in memory: mounting, walking and reading everything; the large file alone. Seconds, wall / CPU (`cp -r` only copies)."
        text += seconds("cold", title, numbers)
    if samples["mount"]:
        text += mounting(numbers)
    if samples["job"]:
        text += seconds("job", "From nothing to all skills listed and every `SKILL.md` read. Seconds, wall / CPU.", numbers)
    return text + verdicts(numbers, measured.tree.counts)


def plain(measured):
    """Everything that was measured, as JSON takes it."""
    samples = {
        part: {work: {name: [vars(sample) for sample in all_] for name, all_ in systems.items()} for work, systems in works.items()}
        for part, works in measured.samples.items()
    }
    return {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "tree": measured.tree.plan | measured.tree.counts,
        "absent": measured.missing,
        "requests": measured.requests,
        "samples": samples,
    }


def put_into(page, text):
    before, rest = page.read_text().split(START)
    _, after = rest.split(END)
    page.write_text(f"{before}{START}\n\n{text}\n{END}{after}")
