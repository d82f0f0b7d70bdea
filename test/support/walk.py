"""Prints a directory tree as JSON lines: one per entry, with all that an application can see of it.

Usage: walk.py ROOT [--no-content]

The first line is the statvfs of the root. A path is relative to ROOT; bytes that are not UTF-8 are
lone surrogates. Times are nanoseconds since 1970 as decimal strings. An operation that fails is
recorded by the name of its errno, for that is an answer, too.

Contents up to WHOLE_MAX bytes are read from start to end. Of longer files the data segments that
SEEK_DATA and SEEK_HOLE name are read, and the edges of each hole.
"""

import ctypes
import errno
import hashlib
import json
import os
import stat
import struct
import sys

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
STATX_BASIC_AND_BTIME = 0xFFF
WHOLE_MAX = 32 << 20
CHUNK = 1 << 20
HOLE_EDGE = 4096

libc = ctypes.CDLL(None, use_errno=True)


def errno_name(error):
    return errno.errorcode.get(error.errno, str(error.errno))


def statx(path):
    """struct statx of include/uapi/linux/stat.h, as a dictionary."""
    buffer = ctypes.create_string_buffer(256)
    if libc.statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_BASIC_AND_BTIME, buffer) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), path)
    raw = buffer.raw
    mask, block_size, _, nlink, uid, gid, mode = struct.unpack_from("=IIQIIIH", raw, 0)
    ino, size, blocks = struct.unpack_from("=QQQ", raw, 32)
    rdev_major, rdev_minor = struct.unpack_from("=II", raw, 128)

    def time(at):
        seconds, nanoseconds = struct.unpack_from("=qI", raw, at)
        return str(seconds * 1_000_000_000 + nanoseconds)

    return {
        "ino": ino,
        "type": stat.S_IFMT(mode),
        "mode": "%04o" % stat.S_IMODE(mode),
        "nlink": nlink,
        "uid": uid,
        "gid": gid,
        "size": size,
        "blocks512": blocks,
        "blockSize": block_size,
        "rdev": "%d:%d" % (rdev_major, rdev_minor),
        "atime": time(64),
        "btime": time(80) if mask & 0x800 else None,
        "ctime": time(96),
        "mtime": time(112),
    }


def list_directory(path):
    """(name, d_ino, d_type) of every entry, "." and ".." included, as getdents64 has them."""
    entries = []
    buffer = ctypes.create_string_buffer(1 << 18)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        while True:
            length = libc.getdents64(fd, buffer, len(buffer))
            if length < 0:
                error = ctypes.get_errno()
                raise OSError(error, os.strerror(error), path)
            if length == 0:
                return entries
            raw = buffer.raw[:length]
            at = 0
            while at < length:
                ino, _, record_length, kind = struct.unpack_from("=QQHB", raw, at)
                name = raw[at + 19 : raw.index(b"\0", at + 19)]
                entries.append((name, ino, kind))
                at += record_length
    finally:
        os.close(fd)


def xattrs(path):
    result = {}
    for name in os.listxattr(path, follow_symlinks=False):
        try:
            result[name] = os.getxattr(path, name, follow_symlinks=False).hex()
        except OSError as error:
            result[name] = errno_name(error)
    return dict(sorted(result.items()))


def segments(fd, size):
    """The data segments of a file as [start, end] pairs."""
    found = []
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            raise
        end = os.lseek(fd, start, os.SEEK_HOLE)
        found.append([start, end])
        at = end
    return found


def feed(digest, fd, start, end):
    while start < end:
        data = os.pread(fd, min(CHUNK, end - start), start)
        if not data:
            digest.update(b"short read at %d" % start)
            return
        digest.update(data)
        start += len(data)


def verify_holes(fd, data, size):
    """What SEEK_HOLE calls a hole must read as zeros."""
    at = 0
    for start, end in data + [[size, size]]:
        if os.pread(fd, start - at, at).strip(b"\0"):
            raise OSError(errno.EILSEQ, "data in a hole")
        at = end


def content(path, size):
    fd = os.open(path, os.O_RDONLY)
    try:
        digest = hashlib.sha256()
        data = segments(fd, size)
        if size <= WHOLE_MAX:
            feed(digest, fd, 0, size)
            verify_holes(fd, data, size)
        else:
            last = 0
            for start, end in data + [[size, size]]:
                feed(digest, fd, last, min(last + HOLE_EDGE, start))
                feed(digest, fd, max(last, start - HOLE_EDGE), start)
                digest.update(b"%d-%d" % (start, end))
                feed(digest, fd, start, end)
                last = end
        shown = data if len(data) <= 8 else hashlib.sha256(repr(data).encode()).hexdigest()
        return {"sha256": digest.hexdigest(), "segments": shown}
    finally:
        os.close(fd)


def attempt(record, key, function, *arguments):
    """Stores what a call returns, or the name of its errno."""
    try:
        record[key] = function(*arguments)
    except OSError as error:
        record[key] = errno_name(error)


def describe(path, with_content):
    try:
        record = statx(path)
    except OSError as error:
        return {"error": errno_name(error)}
    attempt(record, "xattrs", xattrs, path)
    kind = record["type"]
    if kind == stat.S_IFLNK:
        attempt(record, "target", lambda: os.fsdecode(os.readlink(path)))
    elif kind == stat.S_IFREG and with_content:
        attempt(record, "content", content, path, record["size"])
    return record


def walk(root, with_content, emit):
    stack = [(b".", None, None)]
    while stack:
        path, ino, kind = stack.pop()
        full = os.path.join(root, path)
        record = describe(full, with_content)
        record["path"] = os.fsdecode(path)
        record["dirent"] = [ino, kind]
        if record.get("type") == stat.S_IFDIR:
            try:
                entries = sorted(list_directory(full), reverse=True)
            except OSError as error:
                record["entries"] = errno_name(error)
            else:
                # What ".." of the root says depends on where it is mounted.
                dots = [e for e in entries if e[0] == b"." or (e[0] == b".." and path != b".")]
                record["dots"] = [[os.fsdecode(n), i, k] for n, i, k in dots]
                names = [e for e in entries if e[0] not in (b".", b"..")]
                record["entries"] = len(names)
                stack.extend((os.path.join(path, n), i, k) for n, i, k in names)
        emit(record)


def main():
    root = os.fsencode(sys.argv[1])
    with_content = "--no-content" not in sys.argv[2:]
    out = sys.stdout

    def emit(record):
        out.write(json.dumps(record, sort_keys=True))
        out.write("\n")

    vfs = os.statvfs(root)
    emit({
        "path": "statvfs",
        "bsize": vfs.f_bsize,
        "frsize": vfs.f_frsize,
        "blocks": vfs.f_blocks,
        "bfree": vfs.f_bfree,
        "bavail": vfs.f_bavail,
        "files": vfs.f_files,
        "ffree": vfs.f_ffree,
        "favail": vfs.f_favail,
        "namemax": vfs.f_namemax,
    })
    walk(root, with_content, emit)


main()
