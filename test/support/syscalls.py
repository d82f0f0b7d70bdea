"""System calls that Python's os module does not have, for the scripts beside this one."""

import ctypes
import mmap
import os

FALLOC_KEEP_SIZE = 0x1
FALLOC_PUNCH_HOLE = 0x2
FALLOC_COLLAPSE_RANGE = 0x8
FALLOC_ZERO_RANGE = 0x10
FALLOC_INSERT_RANGE = 0x20
AT_FDCWD = -100
AT_SYMLINK_FOLLOW = 0x400

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_libc.syncfs.argtypes = [ctypes.c_int]


def _checked(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def fallocate(fd, mode, offset, length):
    _checked(_libc.fallocate(fd, mode, offset, length))


def syncfs(fd):
    _checked(_libc.syncfs(fd))


def renameat2(source, target, flags):
    _checked(_libc.renameat2(AT_FDCWD, source, AT_FDCWD, target, flags))


def linkat(source, target, flags):
    _checked(_libc.linkat(AT_FDCWD, source, AT_FDCWD, target, flags))


def aligned_buffer(length):
    """Memory that O_DIRECT takes."""
    return mmap.mmap(-1, max(length, 4096))
