"""Stops the threads of a process that answer the kernel, as a debugger does, and lets go of them when standard input ends.

Each is stopped while it waits for the kernel: one that does something may hold a lock that the others need.

Arguments: the process, how many of them at most. Prints "stopped" when they have been.
"""

import ctypes
import os
import select
import sys
import time

SEIZE, INTERRUPT, CONTINUE = 0x4206, 0x4207, 7
READ = {"x86_64": "0", "aarch64": "63"}[os.uname().machine]
WAIT_ALL = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def trace(request, thread):
    if libc.ptrace(request, thread, None, None) != 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x} of {thread}")


def waits_for_kernel(thread):
    """Whether a thread that is stopped was reading from the kernel's descriptor."""
    with open(f"/proc/{process}/task/{thread}/syscall") as file:
        call = file.read().split()
    return call[0] == READ and os.readlink(f"/proc/{process}/fd/{int(call[1], 16)}") == "/dev/fuse"


process, left = sys.argv[1], int(sys.argv[2])
for thread in sorted(map(int, os.listdir(f"/proc/{process}/task"))):
    with open(f"/proc/{process}/task/{thread}/comm") as file:
        if file.read().startswith("fuser-") and left > 0:
            left -= 1
            trace(SEIZE, thread)
            trace(INTERRUPT, thread)
            os.waitpid(thread, WAIT_ALL)
            while not waits_for_kernel(thread):
                trace(CONTINUE, thread)
                time.sleep(0.001)
                trace(INTERRUPT, thread)
                os.waitpid(thread, WAIT_ALL)
print("stopped", flush=True)
while not select.select([sys.stdin], [], [], 0.01)[0]:
    try:
        # Those that were killed meanwhile do not end before their tracer has heard of it.
        os.waitpid(-1, WAIT_ALL | os.WNOHANG)
    except ChildProcessError:
        break
