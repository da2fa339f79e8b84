"""Mounts as many FUSE file systems as it can count, takes them away again and holds their descriptors until the end of standard input. Prints the
numbers by which the kernel knew them, which it gives to others from then on.
"""

import ctypes
import os
import sys
import tempfile

COUNT = 32
libc = ctypes.CDLL(None, use_errno=True)


def checked(outcome):
    if outcome:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


numbers = []
with tempfile.TemporaryDirectory(dir=".") as top:
    places = [os.path.join(top, str(count)).encode() for count in range(COUNT)]
    for place in places:
        os.mkdir(place)
        device = os.open("/dev/fuse", os.O_RDWR)
        checked(libc.mount(b"old", place, b"fuse", 0, b"fd=%d,rootmode=40000,user_id=0,group_id=0" % device))
    with open("/proc/self/mountinfo", "rb") as table:
        for line in table:
            words = line.split()
            if any(words[4].endswith(place.removeprefix(b".")) for place in places):
                numbers.append(words[2].decode().split(":")[1])
    for place in places:
        checked(libc.umount2(place, 2))
print(*numbers, flush=True)
sys.stdin.read()
