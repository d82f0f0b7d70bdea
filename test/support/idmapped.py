"""Mounts what is mounted at one place at another, with the IDs of users and groups shifted.

Usage: idmapped.py FROM TO SHIFT

The files of user 0 at FROM belong to user SHIFT at TO, and so on for 65,536 users and groups.
@see mount_setattr(2), "ID-mapped mounts"
"""

import ctypes
import os
import struct
import sys

import syscalls

SYS_OPEN_TREE, SYS_MOVE_MOUNT, SYS_MOUNT_SETATTR = 428, 429, 442
AT_EMPTY_PATH = 0x1000
OPEN_TREE_CLONE = 1
MOVE_MOUNT_F_EMPTY_PATH = 4
MOUNT_ATTR_IDMAP = 0x100000
CLONE_NEWUSER = 0x10000000
IDS = 65536

libc = ctypes.CDLL(None, use_errno=True)


def user_namespace(shift):
    """A descriptor of a user namespace whose user 0 is user `shift` outside."""
    made_read, made_write = os.pipe()
    done_read, done_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(done_write)
        libc.unshare(CLONE_NEWUSER)
        os.write(made_write, b"x")
        os.read(done_read, 1)
        os._exit(0)
    os.read(made_read, 1)
    for kind in ("uid_map", "gid_map"):
        with open(f"/proc/{child}/{kind}", "w") as ids:
            ids.write(f"0 {shift} {IDS}")
    namespace = os.open(f"/proc/{child}/ns/user", os.O_RDONLY)
    os.close(done_write)
    os.waitpid(child, 0)
    return namespace


def main():
    source, target, shift = sys.argv[1:]
    here = syscalls.AT_FDCWD
    tree = syscalls.by_number(SYS_OPEN_TREE, here, os.fsencode(source), OPEN_TREE_CLONE)
    attributes = struct.pack("QQQQ", MOUNT_ATTR_IDMAP, 0, 0, user_namespace(int(shift)))
    syscalls.by_number(SYS_MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH, attributes, len(attributes))
    where = (here, os.fsencode(target), MOVE_MOUNT_F_EMPTY_PATH)
    syscalls.by_number(SYS_MOVE_MOUNT, tree, b"", *where)


main()
