"""Exchanges a directory and a link again and again while children read through the view, and counts what they got.

usage: link_swapper.py SECONDS SOURCE READ...   (SOURCE has `here` and `there`; READ are files to read, with the content `good` or, where it
leaks, `secret` in it). Prints: swaps, good reads, errors, reads and listings that leaked, reads of anything else.
"""

import ctypes
import os
import sys
import time

SECONDS, SOURCE, READ = float(sys.argv[1]), sys.argv[2], sys.argv[3:]
AT_FDCWD, RENAME_EXCHANGE = -100, 2
libc = ctypes.CDLL(None, use_errno=True)
end = time.monotonic() + SECONDS


def read(pipe):
    good = errors = leaks = others = 0
    while time.monotonic() < end:
        for path in READ:
            try:
                with open(path, "rb", buffering=0) as file:
                    content = file.read()
                if b"secret" in content:
                    leaks += 1
                elif content == b"good\n":
                    good += 1
                else:
                    others += 1
                    print("read", content[:99], path, file=sys.stderr)
            except OSError:
                errors += 1
            try:
                if "secret" in " ".join(os.listdir(os.path.dirname(path))):
                    leaks += 1
                    print("listed", path, file=sys.stderr)
            except OSError:
                pass
    os.write(pipe, f"{good} {errors} {leaks} {others}\n".encode())
    os._exit(0)


ours, theirs = os.pipe()
readers = []
for _ in range(2):
    if not (pid := os.fork()):
        read(theirs)
    readers.append(pid)
os.close(theirs)
here, there = (os.path.join(SOURCE, name).encode() for name in ["here", "there"])
swaps = 0
while time.monotonic() < end:
    if libc.renameat2(AT_FDCWD, here, AT_FDCWD, there, RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), "renameat2")
    swaps += 1
    # What is looked up between two swaps that follow at once is seen by nobody.
    time.sleep(0 if swaps % 50 else 0.002)
for pid in readers:
    os.waitpid(pid, 0)
with os.fdopen(ours) as pipe:
    counts = [sum(column) for column in zip(*([int(word) for word in line.split()] for line in pipe))]
print(swaps, *counts)
