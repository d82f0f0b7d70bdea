"""System calls that Python's os module does not have, for the scripts beside this one."""

import ctypes
import fcntl
import mmap
import os
import struct

FALLOC_KEEP_SIZE = 0x1
FALLOC_PUNCH_HOLE = 0x2
FALLOC_COLLAPSE_RANGE = 0x8
FALLOC_ZERO_RANGE = 0x10
FALLOC_INSERT_RANGE = 0x20
RENAME_NOREPLACE = 0x1
RENAME_EXCHANGE = 0x2
RENAME_WHITEOUT = 0x4
AT_FDCWD = -100
AT_SYMLINK_FOLLOW = 0x400
ACL_USER_OBJ, ACL_USER, ACL_GROUP_OBJ, ACL_MASK, ACL_OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
ACL_NO_ID = 0xFFFFFFFF

_FS_IOC_GETFLAGS, _FS_IOC_SETFLAGS = 0x80086601, 0x40086602

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_libc.syncfs.argtypes = [ctypes.c_int]


def _checked(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def by_number(number, *arguments):
    """The call that the kernel knows by `number` on this machine."""
    return _checked(_libc.syscall(ctypes.c_long(number), *arguments))


def fallocate(fd, mode, offset, length):
    _checked(_libc.fallocate(fd, mode, offset, length))


def syncfs(fd):
    _checked(_libc.syncfs(fd))


def renameat2(source, target, flags):
    _checked(_libc.renameat2(AT_FDCWD, source, AT_FDCWD, target, flags))


def linkat(source, target, flags):
    _checked(_libc.linkat(AT_FDCWD, source, AT_FDCWD, target, flags))


def acl(*entries):
    """The value of system.posix_acl_access with entries of (tag, permissions, id)."""
    version = struct.pack("<I", 2)
    return version + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def get_flags(fd):
    """What lsattr(1) shows."""
    return struct.unpack("i", fcntl.ioctl(fd, _FS_IOC_GETFLAGS, bytes(4)))[0]


def set_flags(fd, flags):
    fcntl.ioctl(fd, _FS_IOC_SETFLAGS, struct.pack("i", flags))


def aligned_buffer(length):
    """Memory that O_DIRECT takes."""
    return mmap.mmap(-1, max(length, 4096))
