"""Times a system call on each of the names on standard input, so many times: probe.py CALL TIMES.

Prints the nanoseconds of all calls together. `access` does not raise where `lstat` would, so it is
the one to ask for names that do not exist.
"""

import gc
import os
import sys
import time

CALLS = {
    "lstat": os.lstat,
    "access": lambda name: os.access(name, os.F_OK),
    "listdir": os.listdir,
}
call = CALLS[sys.argv[1]]
names = sys.stdin.buffer.read().split(b"\n") * int(sys.argv[2])
gc.disable()
start = time.perf_counter_ns()
for name in names:
    call(name)
print(time.perf_counter_ns() - start)
