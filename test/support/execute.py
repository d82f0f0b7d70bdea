"""Carries system calls out below a directory, as test/support/posix/operation.ts describes them.

Usage: execute.py ROOT < OPERATIONS

Each line of the input is one operation as JSON; each line of the output is what it answered: `ok`, a
count of bytes, or the name of an errno. `#n` stands for an open file.
"""

import errno
import json
import os
import stat
import sys

import syscalls

RENAME_FLAGS = {"replace": 0, "noReplace": 1, "exchange": 2, "whiteout": 4}
FALLOCATE_MODES = {
    "allocate": 0,
    "keepSize": 0x1,
    "punch": 0x2 | 0x1,
    "collapse": 0x8,
    "zero": 0x10 | 0x1,
    "zeroExtend": 0x10,
    "insert": 0x20,
}
# Two names of one number: which one Python knows is chance.
NAMES = {errno.EOPNOTSUPP: "EOPNOTSUPP", errno.EAGAIN: "EAGAIN"}
XATTR_FLAGS = {"any": 0, "create": os.XATTR_CREATE, "replace": os.XATTR_REPLACE}


def pattern(tag, offset, length):
    """As operation.ts has it."""
    first = (tag + 1) * 0x9E3779B1 & 0xFFFFFFFF
    start, end = offset >> 2, (offset + length + 3) >> 2
    words = (((first ^ word) * 0x85EBCA6B >> 11 & 0x1FFFFF) + 4 * word for word in range(start, end))
    whole = bytes(1 + (word + byte) % 255 for word in words for byte in range(4))
    return whole[offset - 4 * start :][:length]


class Executor:
    def __init__(self, root):
        self.root = root
        self.open_files = {}

    def path(self, path):
        if path.startswith("#"):
            return b"/proc/self/fd/%d" % self.open_files[path]
        return self.root + path.encode("latin-1")

    def file(self, path, flags=os.O_RDWR):
        """A descriptor, and whether it has to be closed again."""
        if path.startswith("#"):
            return self.open_files[path], False
        kind = stat.S_IFMT(os.lstat(self.path(path)).st_mode)
        if kind != stat.S_IFREG and kind != stat.S_IFDIR:
            raise OSError(errno.EINVAL, "not a file of this filesystem")
        return os.open(self.path(path), flags), True

    def with_file(self, path, action, flags=os.O_RDWR):
        fd, opened = self.file(path, flags)
        try:
            return action(fd)
        finally:
            if opened:
                os.close(fd)

    def create(self, op):
        os.close(os.open(self.path(op["path"]), os.O_CREAT | os.O_EXCL | os.O_WRONLY, op["mode"]))

    def mkdir(self, op):
        os.mkdir(self.path(op["path"]), op["mode"])

    def mknod(self, op):
        device = os.makedev(op["major"], op["minor"])
        os.mknod(self.path(op["path"]), op["mode"], device)

    def symlink(self, op):
        os.symlink(op["target"].encode("latin-1"), self.path(op["path"]))

    def link(self, op):
        flags = syscalls.AT_SYMLINK_FOLLOW if op["from"].startswith("#") else 0
        syscalls.linkat(self.path(op["from"]), self.path(op["to"]), flags)

    def unlink(self, op):
        os.unlink(self.path(op["path"]))

    def rmdir(self, op):
        os.rmdir(self.path(op["path"]))

    def rename(self, op):
        source, target = self.path(op["from"]), self.path(op["to"])
        syscalls.renameat2(source, target, RENAME_FLAGS[op["how"]])

    def tmpfile(self, op):
        path = self.path(op["directory"])
        self.open_files[op["as"]] = os.open(path, os.O_TMPFILE | os.O_RDWR, 0o600)

    def open(self, op):
        fd, opened = self.file(op["path"])
        self.open_files[op["as"]] = fd if opened else os.dup(fd)

    def close(self, op):
        os.close(self.open_files.pop(op["path"]))

    def write(self, op):
        data = pattern(op["tag"], op["offset"], op["length"])
        return self.with_file(op["path"], lambda fd: os.pwrite(fd, data, op["offset"]))

    def truncate(self, op):
        self.with_file(op["path"], lambda fd: os.ftruncate(fd, op["size"]))

    def fallocate(self, op):
        mode = FALLOCATE_MODES[op["how"]]
        self.with_file(
            op["path"],
            lambda fd: syscalls.fallocate(fd, mode, op["offset"], op["length"]),
        )

    def copy(self, op):
        def copy_between(source, target):
            return os.copy_file_range(
                source, target, op["length"], op["fromOffset"], op["toOffset"]
            )

        return self.with_file(
            op["from"],
            lambda source: self.with_file(op["to"], lambda target: copy_between(source, target)),
        )

    def chmod(self, op):
        path = self.path(op["path"])
        # Of a symlink, the mode cannot be changed.
        if not op["path"].startswith("#") and stat.S_ISLNK(os.lstat(path).st_mode):
            raise OSError(errno.EOPNOTSUPP, "a symlink")
        os.chmod(path, op["mode"])

    def chown(self, op):
        follow = op["path"].startswith("#")
        os.chown(self.path(op["path"]), op["uid"], op["gid"], follow_symlinks=follow)

    def setxattr(self, op):
        value = pattern(op["tag"], 0, op["length"])
        follow = op["path"].startswith("#")
        path, flags = self.path(op["path"]), XATTR_FLAGS[op["how"]]
        os.setxattr(path, op["name"], value, flags, follow_symlinks=follow)

    def removexattr(self, op):
        follow = op["path"].startswith("#")
        os.removexattr(self.path(op["path"]), op["name"], follow_symlinks=follow)

    def fsync(self, op):
        self.sync_by(op["path"], os.fsync)

    def fdatasync(self, op):
        self.sync_by(op["path"], os.fdatasync)

    def sync_by(self, path, sync):
        try:
            self.with_file(path, sync, os.O_RDONLY)
        except OSError as error:
            # What cannot be opened cannot be synced on its own.
            if error.errno != errno.EINVAL:
                raise

    def sync(self, _):
        self.with_file("/", syscalls.syncfs, os.O_RDONLY)

    def run(self, op):
        try:
            result = getattr(self, op["kind"])(op)
        except OSError as error:
            return NAMES.get(error.errno) or errno.errorcode[error.errno]
        return "ok" if result is None or op["kind"] not in ("write", "copy") else str(result)


def main():
    os.umask(0)
    executor = Executor(os.fsencode(sys.argv[1]))
    for line in sys.stdin:
        print(executor.run(json.loads(line)))


main()
