"""Asks a mounted filesystem what Node has no calls for, and prints the answer as JSON.

Usage: probe.py QUESTION PATH...
"""

import ctypes
import errno
import hashlib
import json
import mmap
import os
import random
import struct
import sys

libc = ctypes.CDLL(None, use_errno=True)
ALIGNMENT = 4096


def getdents(fd, size):
    """(name, d_off) of the entries that one getdents64 with a buffer of `size` bytes returns."""
    buffer = ctypes.create_string_buffer(size)
    length = libc.getdents64(fd, buffer, size)
    if length < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    entries = []
    at = 0
    while at < length:
        _, position, record_length, _ = struct.unpack_from("=QqHB", buffer.raw, at)
        name = buffer.raw[at + 19 : buffer.raw.index(b"\0", at + 19)]
        entries.append((os.fsdecode(name), position))
        at += record_length
    return entries


def listing(fd, size):
    entries = []
    while part := getdents(fd, size):
        entries.extend(part)
    return entries


def positions(path):
    """Lists a directory, then goes to its positions in a random order and looks what follows."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    entries = listing(fd, 1 << 16)
    names = [name for name, _ in entries]
    wrong = []
    order = list(range(len(entries)))
    random.Random(1).shuffle(order)
    for index in order:
        os.lseek(fd, entries[index][1], os.SEEK_SET)
        following = [name for name, _ in getdents(fd, 600)]
        if following != names[index + 1 : index + 1 + len(following)]:
            wrong.append([index, following])
        if not following and index + 1 < len(names):
            wrong.append([index, "end"])
    os.lseek(fd, 0, os.SEEK_SET)
    again = [name for name, _ in listing(fd, 300)]
    os.close(fd)
    return {
        "names": names,
        "distinct": len(set(names)),
        "distinctPositions": len({position for _, position in entries}),
        "wrong": wrong,
        "sameInSmallSteps": again == names,
    }


def lookups(root):
    """The inode number, or the name of the errno, of each path that the standard input lists."""
    answers = {}
    for path in json.load(sys.stdin):
        try:
            answers[path] = os.lstat(os.path.join(os.fsencode(root), os.fsencode(path))).st_ino
        except OSError as error:
            answers[path] = errno.errorcode[error.errno]
    return answers


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def direct(path):
    """Reads with O_DIRECT: in order, then in a random order of aligned pieces."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    size = os.fstat(fd).st_size
    buffer = mmap.mmap(-1, 1 << 20)
    whole = bytearray()
    while count := os.preadv(fd, [buffer], len(whole)):
        whole += buffer[:count]
        if count % ALIGNMENT:
            break
    choose = random.Random(2)
    pieces = True
    for _ in range(200):
        offset = choose.randrange(0, size + ALIGNMENT) // ALIGNMENT * ALIGNMENT
        length = ALIGNMENT * choose.choice((1, 2, 3, 16, 64, 200))
        piece = mmap.mmap(-1, length)
        count = os.preadv(fd, [piece], offset)
        pieces = pieces and piece[:count] == bytes(whole[offset : offset + length])
    os.close(fd)
    return {"sha256": sha256(whole), "pieces": pieces}


def mapped(path):
    """Reads through a mapping, backwards; then what lies between the end of file and of page."""
    fd = os.open(path, os.O_RDONLY)
    size = os.fstat(fd).st_size
    pages = (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    mapping = mmap.mmap(fd, size, prot=mmap.PROT_READ)
    pointer = libc.mmap
    pointer.restype = ctypes.c_void_p
    pointer.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
    address = pointer(None, pages, mmap.PROT_READ, mmap.MAP_PRIVATE, fd, 0)
    tail = ctypes.string_at(address + size, pages - size)
    parts = [mapping[at : at + ALIGNMENT] for at in reversed(range(0, size, ALIGNMENT))]
    os.close(fd)
    return {"sha256": sha256(b"".join(reversed(parts))), "tailIsZero": not any(tail)}


def pieces(path):
    """Buffered reads of random pieces, unaligned, some of them past the end."""
    with open(path, "rb") as file:
        whole = file.read()
    fd = os.open(path, os.O_RDONLY)
    choose = random.Random(3)
    right = True
    for _ in range(500):
        offset = choose.randrange(0, len(whole) + 5000)
        length = choose.choice((0, 1, 511, 512, 513, 4095, 4096, 4097, 100_000))
        right = right and os.pread(fd, length, offset) == whole[offset : offset + length]
    os.close(fd)
    return {"sha256": sha256(whole), "pieces": right}


def main():
    question, *paths = sys.argv[1:]
    json.dump([globals()[question](path) for path in paths], sys.stdout)


main()
