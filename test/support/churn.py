"""Changes a mounted filesystem in ways that leave work in its journal, then cuts its power.

Usage: churn.py ROOT WORKLOAD END

WORKLOAD is a function below. END says what becomes of the running mount:

    sync        everything is committed; the mount goes on (the caller copies the device)
    running     the last changes are in a transaction that was not committed
    shutdown    committed, then the filesystem is shut down without a further write
    logflush    shut down after the log was flushed
"""

import ctypes
import fcntl
import os
import random
import struct
import sys

EXT4_IOC_SHUTDOWN = 0x8004587D
GOING_FLAGS_LOGFLUSH = 1
GOING_FLAGS_NOLOGFLUSH = 2
FALLOC_KEEP_SIZE = 1
FALLOC_PUNCH_HOLE = 2

libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def noise(seed, length):
    return random.Random(seed).randbytes(length)


def commit(root):
    fd = os.open(root, os.O_RDONLY)
    libc.syncfs(fd)
    os.close(fd)


def fsync(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def nothing(at):
    """Only what mounting leaves."""


def creates(at):
    for folder in range(5):
        os.mkdir(at(f"folder{folder}"))
        for index in range(60):
            write(at(f"folder{folder}/file{index}"), noise(index, index * 50))
    os.symlink("s" * 200, at("slow-link"))
    os.mkfifo(at("fifo"))


def deletes(at):
    """Blocks of directories and of indirect maps go, and come back as data: revokes."""
    for folder in range(8):
        os.mkdir(at(f"gone{folder}"))
        for index in range(80):
            write(at(f"gone{folder}/{'n' * 60}{index}"), noise(index, 3000))
    with open(at("sparse"), "wb") as file:
        for index in range(600):
            os.pwrite(file.fileno(), b"x", index * 2 * at.block)
    commit(at("."))
    for folder in range(8):
        for index in range(80):
            os.unlink(at(f"gone{folder}/{'n' * 60}{index}"))
        os.rmdir(at(f"gone{folder}"))
    os.unlink(at("sparse"))
    commit(at("."))
    for index in range(40):
        write(at(f"reuses{index}"), noise(index, 30_000))
    commit(at("."))


def renames(at):
    creates(at)
    commit(at("."))
    for index in range(60):
        os.rename(at(f"folder0/file{index}"), at(f"folder1/moved{index}"))
    os.rename(at("folder2"), at("folder3/below"))
    os.rename(at("folder1/file3"), at("folder1/file4"))
    os.link(at("folder1/file5"), at("linked"))


def truncates(at):
    with open(at("shrinks"), "wb") as file:
        for index in range(800):
            os.pwrite(file.fileno(), noise(index, 100), index * 2 * at.block)
    write(at("grows"), b"short")
    commit(at("."))
    os.truncate(at("shrinks"), 333 * at.block + 7)
    os.truncate(at("grows"), 50 * at.block)


def attributes(at):
    creates(at)
    commit(at("."))
    for index in range(60):
        path = at(f"folder0/file{index}")
        os.chmod(path, 0o600 + index % 8)
        os.chown(path, index, index * 1000)
        os.utime(path, ns=(index * 10**9 + 1, -index * 10**9 + 2))
        os.setxattr(path, "user.a", noise(index, 10 + index))
    os.setxattr(at("folder1"), "trusted.big", noise("big", at.block // 2))


def grows_a_directory(at):
    os.mkdir(at("hashed"))
    write(at("inode"), b"x")
    for index in range(100):
        os.link(at("inode"), at(f"hashed/{'name' * 20}{index}"))
    commit(at("."))
    for index in range(100, 1500):
        os.link(at("inode"), at(f"hashed/{'name' * 20}{index}"))


def looks_like_a_journal(at):
    """Blocks of a directory that begin with the journal's magic have to be escaped."""
    for index in range(30):
        write(at(f"magic{index}"), struct.pack(">III", 0xC03B3998, 1, index) + bytes(at.block - 12))
        os.symlink(b"\xc0\x3b\x39\x98" + b"m" * 100, at(f"link{index}"))


def orphans(at):
    """Files that are unlinked, but open until this process ends."""
    for index in range(10):
        write(at(f"open{index}"), noise(index, 20_000))
    commit(at("."))
    at.keep = [open(at(f"open{index}"), "rb") for index in range(10)]
    for index in range(10):
        os.unlink(at(f"open{index}"))


def many_commits(at):
    """More transactions than the journal holds, so that it wraps around."""
    for index in range(120):
        write(at(f"file{index % 30}"), noise(index, 5000))
        if index % 3 == 0 and index > 30:
            os.unlink(at(f"file{(index - 10) % 30}"))
        commit(at("."))


def everything(at):
    for workload in (creates, truncates, grows_a_directory, looks_like_a_journal):
        workload(at)
        commit(at("."))


# With the feature fast_commit, an fsync writes what changed of one file and no transaction.


def fast_creates(at):
    commit(at("."))
    for index in range(12):
        write(at(f"new{index}"), noise(index, index * 700))
        fsync(at(f"new{index}"))
    os.mkdir(at("folder"))
    write(at("folder/inner"), b"inner")
    fsync(at("folder/inner"))
    os.symlink("target", at("link"))
    os.mkfifo(at("fifo"))
    fsync(at("new0"))


def fast_names(at):
    for index in range(20):
        write(at(f"file{index}"), noise(index, 1000))
    os.mkdir(at("folder"))
    commit(at("."))
    for index in range(5):
        os.link(at(f"file{index}"), at(f"folder/link{index}"))
        fsync(at(f"folder/link{index}"))
    for index in range(5, 10):
        os.unlink(at(f"file{index}"))
    fsync(at("file10"))
    for index in range(10, 15):
        os.rename(at(f"file{index}"), at(f"folder/renamed{index}"))
        fsync(at(f"folder/renamed{index}"))
    os.unlink(at("folder/link0"))
    write(at("folder/link0"), b"again")
    fsync(at("folder/link0"))


def fast_data(at):
    for name in ("appended", "truncated", "punched", "attributes", "sparse"):
        write(at(name), noise(name, 40 * at.block))
    commit(at("."))
    with open(at("appended"), "ab") as file:
        for index in range(6):
            file.write(noise(index, at.block + 13))
            file.flush()
            os.fsync(file.fileno())
    os.truncate(at("truncated"), 7 * at.block + 5)
    fsync(at("truncated"))
    fd = os.open(at("punched"), os.O_RDWR)
    for index in range(0, 40, 4):
        libc.fallocate(fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, index * at.block, at.block)
    os.fsync(fd)
    libc.fallocate(fd, 0, 60 * at.block, 30 * at.block)
    os.fsync(fd)
    os.close(fd)
    with open(at("sparse"), "r+b") as file:
        for index in range(40):
            os.pwrite(file.fileno(), noise(index, 500), (100 + index * 3) * at.block)
        os.fsync(file.fileno())
    os.chmod(at("attributes"), 0o4711)
    os.chown(at("attributes"), 70000, 80000)
    os.utime(at("attributes"), ns=(1, 2))
    fsync(at("attributes"))


def fast_xattrs(at):
    """An xattr makes the next commit a full one; fast ones follow it."""
    write(at("file"), b"x")
    commit(at("."))
    os.setxattr(at("file"), "user.small", b"small")
    fsync(at("file"))
    os.setxattr(at("file"), "user.big", noise("big", at.block // 2))
    fsync(at("file"))
    for index in range(5):
        with open(at("file"), "ab") as file:
            file.write(b"more")
            file.flush()
            os.fsync(file.fileno())


def fast_inline(at):
    for index in range(8):
        write(at(f"inline{index}"), noise(index, 20 * index))
    commit(at("."))
    for index in range(8):
        with open(at(f"inline{index}"), "ab") as file:
            file.write(b"more")
            file.flush()
            os.fsync(file.fileno())
    write(at("new-inline"), b"new")
    fsync(at("new-inline"))


def fast_many(at):
    """More than the fast commit area holds, so that full commits come between."""
    commit(at("."))
    for index in range(300):
        write(at(f"file{index}"), noise(index, 100 + index))
        fsync(at(f"file{index}"))
        if index % 7 == 6:
            os.unlink(at(f"file{index - 3}"))


class Place:
    def __init__(self, root):
        self.root = os.fsencode(root)
        self.block = os.statvfs(root).f_bsize
        self.keep = []

    def __call__(self, name):
        return os.path.join(self.root, os.fsencode(name))


def uncommitted(at):
    """A last change that is in memory only."""
    for index in range(20):
        write(at(f"never-committed{index}"), b"x" * 100)


def shutdown(root, flags):
    fd = os.open(root, os.O_RDONLY)
    fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("=I", flags))
    os.close(fd)


def main():
    os.umask(0o022)
    root, workload, end = sys.argv[1:]
    at = Place(root)
    globals()[workload](at)
    fast = workload.startswith("fast")
    if not fast:
        commit(root)
    if end == "running":
        uncommitted(at)
    elif end == "shutdown":
        uncommitted(at)
        shutdown(root, GOING_FLAGS_NOLOGFLUSH)
    elif end == "logflush":
        shutdown(root, GOING_FLAGS_LOGFLUSH)


main()
