"""What the scripts beside this one share: the program that is measured, how it is named on their command lines, and how commands are run."""

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
QUICK = "--quick" in sys.argv
REALTIME = "--realtime" in sys.argv
ARGUMENTS = [word for word in sys.argv[1:] if not word.startswith("--")]
PROGRAM = Path(ARGUMENTS[0] if ARGUMENTS else TOP / "target/release/overlayfs-mount").resolve()
ENVIRONMENT = dict(os.environ, GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_NOSYSTEM="1")
MIB = 1 << 20
# Reads a file to its end in pieces of 1 MiB, as a program for `python3 -c`.
READ = "import sys\nfile = open(sys.argv[1], 'rb', buffering=0)\nwhile file.read(1 << 20): pass"


def run(*command, **more):
    """The standard output of a command, which must succeed."""
    return subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT, **more).stdout


@contextlib.contextmanager
def workplace(name):
    """A directory that goes at the end with the mounts below it, also if something fails."""
    with tempfile.TemporaryDirectory(prefix=f"overlayfs-mount-{name}-", dir=os.environ.get("TMPDIR")) as made:
        directory = Path(made).resolve()
        try:
            yield directory
        finally:
            places = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
            for place in places:
                if place.startswith(f"{directory}/"):
                    subprocess.run([PROGRAM, "unmount", "--lazy", place], env=ENVIRONMENT)


@contextlib.contextmanager
def undisturbed():
    """With `--realtime` what is started meanwhile, and daemons for good, come before everything else on the machine. Root only."""
    if REALTIME:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    try:
        yield
    finally:
        if REALTIME:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
