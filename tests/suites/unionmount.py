#!/usr/bin/env python3
"""unionmount-testsuite, on an overlay whose lower layer is a view, and on one whose lower layer is a copy of that view.

The suite makes its lower layer anew for each test and mounts by mount(8). It gets another one: this file, under the name `mount`, which first
mounts a view of what the suite made. The view is live, since git has no empty directories, and everything in it belongs to `bin`, as most of what the suite makes.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

MOUNT = "/usr/bin/mount"
CONFIGURATION = "overlays: {{sources: [{{path: {lower}, name: suite/lower, visibility: public}}]}}\nstate: {{dir: {top}/state}}\nmount: {{at: {view}, uid: 1, gid: 1}}\n"


def outcomes(suite, program, top):
    """The outcome of each test over a view, beside that over a copy."""
    names = sorted(path.stem for path in (suite / "tests").glob("*.py"))
    results = {}
    for kind in "view", "copy":
        base = top / f"union-{kind}"
        for place in base, base / "bin", base / "base", base / "lower":
            place.mkdir()
        (base / "bin/mount").symlink_to(Path(__file__).resolve())
        # The layers are to be on another file system than the lower one.
        subprocess.run([MOUNT, "-t", "tmpfs", "layers", base / "base"], check=True)
        environment = dict(
            os.environ, PATH=f"{base}/bin:{os.environ['PATH']}", UNIONMOUNT_BASEDIR=str(base / "base"), UNIONMOUNT_LOWERDIR=str(base / "lower"),
            SUITE_KIND=kind, SUITE_PROGRAM=str(program), SUITE_TOP=str(base), PYTHONDONTWRITEBYTECODE="1",
        )
        try:
            for name in names:
                done = subprocess.run([sys.executable, "run", "--ov", name], cwd=suite, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
                said = [line for line in done.stdout.splitlines() if line.strip()]
                results.setdefault(name, {})[kind] = "ok" if done.returncode == 0 else re.sub(rf"{base}|\d+", "N", said[-1] if said else "says nothing")[:160]
            subprocess.run([sys.executable, "run", "--clean-up"], cwd=suite, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        finally:
            subprocess.run([program, "unmount", "--lazy", base / "view"], stderr=subprocess.DEVNULL)
            subprocess.run(["umount", "-l", base / "base"])
    return results


def stand_in(lower, top):
    """What is the lower layer in the place of what the suite made: the same until the suite has made another."""
    made = json.dumps([os.stat(lower / "a").st_ino, os.stat(lower / "a").st_mtime_ns])
    known, program, view = top / "known", os.environ["SUITE_PROGRAM"], top / "view"
    place = view / "suite/lower" if os.environ["SUITE_KIND"] == "view" else top / "copy"
    if known.exists() and known.read_text() == made:
        return place
    (top / "overlays.yaml").write_text(CONFIGURATION.format(lower=lower, top=top, view=view))
    subprocess.run([program, "unmount", "--lazy", view], stderr=subprocess.DEVNULL)
    subprocess.run([program, "mount", "-c", top / "overlays.yaml"], check=True)
    if os.environ["SUITE_KIND"] == "copy":
        subprocess.run(["rm", "-rf", place], check=True)
        subprocess.run(["cp", "-a", view / "suite/lower", place], check=True)
    known.write_text(made)
    return place


def mount():
    """mount(8) with another lower layer."""
    arguments = sys.argv[1:]
    if "overlay" in arguments:
        lower = os.environ["UNIONMOUNT_LOWERDIR"]
        place = str(stand_in(Path(lower), Path(os.environ["SUITE_TOP"])))
        arguments = [re.sub(rf"(?<=[=:]){re.escape(lower)}(?=[,:])", place, word) for word in arguments]
    os.execv(MOUNT, [MOUNT, *arguments])


if __name__ == "__main__":
    mount()
