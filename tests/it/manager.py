"""Does what systemd does for a unit with `Type=notify` and a store of descriptors. Arguments: the command of the unit.

Starts it and prints "ready" when it says so. For each line on standard input it kills all of the unit and starts it again, with what it was
given to keep. At the end of standard input it asks the unit to end, and prints the names of what is still kept.
"""

import array
import contextlib
import os
import signal
import socket
import subprocess
import sys

place = os.path.abspath("notify")
manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
manager.bind(place)
# A unit that does not start says nothing.
manager.settimeout(int(os.environ.get("OVERLAYFS_MOUNT_PATIENCE", "60")))
store = {}


def hear():
    """One message. Its lines."""
    text, parts, _, _ = manager.recvmsg(4096, socket.CMSG_SPACE(16))
    lines = text.decode().split("\n")
    said = dict(line.split("=", 1) for line in lines if line)
    for _, _, data in parts:
        numbers = array.array("i")
        numbers.frombytes(data)
        store[said["FDNAME"]] = numbers[0]
    if "FDSTOREREMOVE" in said:
        descriptor = store.pop(said["FDNAME"], None)
        if descriptor is not None:
            os.close(descriptor)
    return said


def start():
    names, numbers = list(store), list(store.values())
    environment = dict(os.environ, NOTIFY_SOCKET=place)
    if names:
        environment.update(LISTEN_FDS=str(len(names)), LISTEN_FDNAMES=":".join(names))
    # They have to be the numbers from 3 on; those that are there already are in the way.
    moves = "".join(f" {3 + index}<&{number}" for index, number in enumerate(numbers))
    high = [os.dup2(number, 100 + index) for index, number in enumerate(numbers)]
    moves = "".join(f" {3 + index}<&{number} {number}<&-" for index, number in enumerate(high))
    script = f'export LISTEN_PID=$$; exec "$@"{moves}'
    unit = subprocess.Popen(["bash", "-c", script, "unit", *sys.argv[1:]], env=environment, pass_fds=high)
    for number in high:
        os.close(number)
    while "READY" not in hear():
        pass
    print("ready", flush=True)
    return unit


def all_of(unit):
    """The keeper and its children."""
    found = [unit.pid]
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                if int(file.read().rsplit(") ", 1)[1].split()[1]) == unit.pid:
                    found.append(int(name))
        except OSError:
            pass
    return found


unit = start()
for _ in sys.stdin:
    for pid in all_of(unit):
        # One of them may end by itself meanwhile.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    unit.wait()
    unit = start()
unit.terminate()
unit.wait()
manager.setblocking(False)
try:
    while True:
        hear()
except BlockingIOError:
    pass
print(*sorted(store), flush=True)
