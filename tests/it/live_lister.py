"""Lists a live directory piece by piece while names come and go. Prints what was wrong, a line each.

Arguments: the directory in the view, the same on disk, the size of the buffer in bytes, and the process that is killed on the way, or 0.
"""

import ctypes
import os
import struct
import sys
import time

view, disk, size, process = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
library = ctypes.CDLL(None, use_errno=True)


def piece(directory):
    """The next names, each with the offset after it."""
    buffer = ctypes.create_string_buffer(size)
    length = library.getdents64(directory, buffer, size)
    if length < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    found, at = [], 0
    while at < length:
        _, offset, record, _ = struct.unpack_from("<QqHB", buffer, at)
        name = buffer.raw[at + 19:at + record].split(b"\0")[0].decode()
        found.append((name, offset))
        at += record
    return [(name, offset) for name, offset in found if name not in (".", "..")], bool(found)


def rest(directory):
    found = []
    while True:
        names, is_more = piece(directory)
        found += names
        if not is_more:
            return found


def wait_for(condition):
    for _ in range(500):
        if condition():
            return True
        time.sleep(0.01)
    return False


def remove(name):
    os.unlink(os.path.join(disk, name))
    staying.discard(name)


def create(name):
    open(os.path.join(disk, name), "w").close()


staying = {f"f{number:03}" for number in range(400)}
for name in staying:
    create(name)
# That it was not there may be known for half a second, and nothing else of it is.
wait_for(lambda: os.path.isdir(view))
directory = os.open(view, os.O_RDONLY | os.O_DIRECTORY)
shown, turn = [], 0
while True:
    names, is_more = piece(directory)
    if not is_more:
        break
    shown += names
    if names and names[-1][0] < "f380":
        # Before the position and after it one goes and one comes, more of them before it go.
        last = names[-1][0]
        remove(shown[len(shown) // 2][0]) if shown[len(shown) // 2][0] in staying else None
        after = f"f{int(last[1:4]) + 7:03}"
        remove(after) if after in staying else None
        if turn % 3 == 2:
            create(f"e{turn:03}")
        create(f"{last}-new")
    turn += 1
    if turn == 3 and process:
        os.kill(process, 9)
found = [name for name, _ in shown]
if found != sorted(set(found)):
    print("not sorted, or a name twice:", found)
if not staying <= set(found):
    print("left out:", sorted(staying - set(found)))
if turn < 5:
    print("too few pieces:", turn)
# From any position of the stream, back and forth.
for index in (len(shown) // 3, 2 * len(shown) // 3, 10):
    os.lseek(directory, shown[index][1], os.SEEK_SET)
    after = [name for name, _ in rest(directory) if name in staying]
    expected = [name for name in found[index + 1:] if name in staying]
    if after != expected:
        print("after", shown[index], "came", after, "and not", expected)
def rewound():
    os.lseek(directory, 0, os.SEEK_SET)
    return [name for name, _ in rest(directory)]


# Rewound, it is the directory as it is. What the kernel knows of it may be half a second old.
if not wait_for(lambda: rewound() == sorted(os.listdir(disk))):
    print("rewound:", rewound())
