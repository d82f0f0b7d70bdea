#!/usr/bin/env python3
"""Mounts a filesystem at a second place: mount-again.py MOUNTED_AT TARGET [ro]

The kernel does so by itself when a device is mounted that it has mounted already. A bind mount differs:
it would share what is mounted below it with the first mount. So the copy is made private before it gets
its place.
"""
import ctypes
import sys

SYS_OPEN_TREE, SYS_MOVE_MOUNT, SYS_MOUNT_SETATTR = 428, 429, 442
OPEN_TREE_CLONE, AT_EMPTY_PATH, MOVE_MOUNT_F_EMPTY_PATH = 1, 0x1000, 4
AT_FDCWD, MOUNT_ATTR_RDONLY, MS_PRIVATE = -100, 1, 1 << 18

libc = ctypes.CDLL(None, use_errno=True)


def call(number, *arguments):
    result = libc.syscall(number, *arguments)
    if result < 0:
        error = ctypes.get_errno()
        sys.exit(f"mount: {sys.argv[2]}: {OSError(error, '')}")
    return result


source, target = (word.encode() for word in sys.argv[1:3])
read_only = MOUNT_ATTR_RDONLY if sys.argv[3:] == ["ro"] else 0
attributes = (ctypes.c_uint64 * 4)(read_only, 0, MS_PRIVATE, 0)  # struct mount_attr

tree = call(SYS_OPEN_TREE, AT_FDCWD, source, OPEN_TREE_CLONE)
call(SYS_MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH, attributes, ctypes.sizeof(attributes))
call(SYS_MOVE_MOUNT, tree, b"", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH)
