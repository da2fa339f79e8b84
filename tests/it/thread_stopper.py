"""Stops the threads of a process that answer the kernel, as a debugger does, and lets go of them when standard input ends.

Argument: the process. Prints "stopped" when they have been.
"""

import ctypes
import os
import sys

SEIZE, INTERRUPT = 0x4206, 0x4207
WAIT_ALL = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def trace(request, thread):
    if libc.ptrace(request, thread, None, None) != 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x} of {thread}")


process = sys.argv[1]
for thread in sorted(map(int, os.listdir(f"/proc/{process}/task"))):
    with open(f"/proc/{process}/task/{thread}/comm") as file:
        if file.read().startswith("fuser-"):
            trace(SEIZE, thread)
            trace(INTERRUPT, thread)
            os.waitpid(thread, WAIT_ALL)
print("stopped", flush=True)
sys.stdin.read()
