"""CPU and wall time of readers and daemons."""

import os
import subprocess
import time
from dataclasses import dataclass


@dataclass
class Sample:
    """One run: seconds on the wall, of CPU in the readers, of CPU in the daemon."""

    wall: float
    reader: float
    daemon: float

    @property
    def cpu(self):
        return self.reader + self.daemon


def cpu_of(pid):
    """User and system time of a process with all threads that it ever had, in seconds (clock_getcpuclockid(3), by hand)."""
    return time.clock_gettime((~pid << 3) | 2)


def cpu_of_all(pids):
    return sum(cpu_of(pid) for pid in pids)


def readers(commands, directory, pids=()):
    """Runs readers at once, from the moment at which all are ready until all have said what they saw."""
    children = [
        subprocess.Popen(command, cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        for command in commands
    ]
    try:
        for child in children:
            if child.stdout.readline() != b"ready\n":
                raise SystemExit(f"{child.args}: not ready")
        own = [child.pid for child in children]
        daemon, reader, start = cpu_of_all(pids), cpu_of_all(own), time.perf_counter()
        for child in children:
            child.stdin.write(b"\n")
        seen = [child.stdout.readline() for child in children]
        # A reader that has answered is a zombie at most: its clock still stands.
        wall = time.perf_counter() - start
        sample = Sample(wall, cpu_of_all(own) - reader, cpu_of_all(pids) - daemon)
    finally:
        for child in children:
            child.stdin.close()
            child.stdout.close()
            child.wait()
    if any(child.returncode != 0 for child in children):
        raise SystemExit(f"{commands[0]} in {directory} failed")
    return sample, sum(int(count) for count in seen)


def command(words, directory, pids=()):
    """Runs a program from start to end."""
    daemon, start = cpu_of_all(pids), time.perf_counter()
    child = subprocess.Popen(words, cwd=directory, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit(f"{words} in {directory}: exit {child.returncode}")
    return Sample(wall, usage.ru_utime + usage.ru_stime, cpu_of_all(pids) - daemon)
