"""Times changes in the current folder: change.py WORK COUNT. Prints the nanoseconds of all together.

    create     COUNT files of 4 KiB, 100 to a folder
    enter      COUNT empty files in one folder
    delete     takes these out again
    rename     COUNT times one file, from one folder to the other and back
    overwrite  COUNT times 4 KiB somewhere in the file `data`, then fsync
    append     COUNT times 4 KiB at the end of a new file, each followed by fsync

`create` takes a third argument, the name of its top folder, so that several can run side by side.
"""

import gc
import os
import random
import sys
import time

BLOCK = b"fuse4fs-ts" * 410
BLOCK = BLOCK[:4096]
WRITE_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL


def new_file(name, content):
    fd = os.open(name, WRITE_NEW, 0o644)
    if content:
        os.write(fd, content)
    os.close(fd)


def create(count):
    top = sys.argv[3] if len(sys.argv) > 3 else "created"
    os.mkdir(top)
    for index in range(count):
        if index % 100 == 0:
            folder = f"{top}/{index // 100}"
            os.mkdir(folder)
        new_file(f"{folder}/file-{index}", BLOCK)


def enter(count):
    os.mkdir("entries")
    for index in range(count):
        new_file(f"entries/entry-{index * 31}.data", b"")


def delete(count):
    for index in range(count):
        os.unlink(f"entries/entry-{index * 31}.data")


def rename(count):
    os.mkdir("here")
    os.mkdir("there")
    new_file("here/file", BLOCK)
    for index in range(count):
        ends = ("here/file", "there/file")
        os.rename(ends[index % 2], ends[1 - index % 2])


def overwrite(count):
    choose = random.Random(1)
    fd = os.open("data", os.O_WRONLY)
    blocks = os.fstat(fd).st_size // len(BLOCK)
    for _ in range(count):
        os.pwrite(fd, BLOCK, choose.randrange(blocks) * len(BLOCK))
    os.fsync(fd)
    os.close(fd)


def append(count):
    fd = os.open("log", WRITE_NEW | os.O_APPEND, 0o644)
    for _ in range(count):
        os.write(fd, BLOCK)
        os.fsync(fd)
    os.close(fd)


WORK = {work.__name__: work for work in (create, enter, delete, rename, overwrite, append)}
gc.disable()
start = time.perf_counter_ns()
WORK[sys.argv[1]](int(sys.argv[2]))
print(time.perf_counter_ns() - start)
