"""Fills a mounted filesystem with everything that a tree can hold, the same way every time.

Usage: populate.py ROOT SECTION...

Each section is a folder of its own; `main` names them all. What a filesystem may refuse (a name or
a file too long for it, no room for an xattr) is wrapped in `may_refuse` and skipped there.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import random
import stat
import struct
import sys

REFUSALS = {errno.ENAMETOOLONG, errno.EFBIG, errno.ENOSPC, errno.E2BIG, errno.EOPNOTSUPP}
FALLOC_KEEP_SIZE = 1
FALLOC_PUNCH_HOLE = 2
FALLOC_ZERO_RANGE = 16
FS_IOC_GETFLAGS = 0x80086601
FS_IOC_SETFLAGS = 0x40086602
FS_IOC_FSSETXATTR = 0x401C5820
FS_IOC_FSGETXATTR = 0x801C581F

libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


@contextlib.contextmanager
def may_refuse():
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSALS:
            raise


def fallocate(fd, mode, offset, length):
    if libc.fallocate(fd, mode, offset, length) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def write(path, data, mode=0o644):
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, mode)


def noise(seed, length):
    return random.Random(seed).randbytes(length)


class Place:
    """The folder of one section, and the block size of the filesystem."""

    def __init__(self, root, name):
        self.path = os.path.join(os.fsencode(root), os.fsencode(name))
        os.makedirs(self.path, exist_ok=True)
        self.block = os.statvfs(root).f_bsize

    def __call__(self, name):
        return os.path.join(self.path, os.fsencode(name))


def types(at):
    os.mkfifo(at("fifo"), 0o640)
    os.mknod(at("socket"), stat.S_IFSOCK | 0o600)
    numbers = [(0, 0), (1, 3), (8, 1), (255, 255), (256, 0), (0, 256), (259, 1048575), (4095, 7)]
    for major, minor in numbers:
        for kind, letter in [(stat.S_IFCHR, "c"), (stat.S_IFBLK, "b")]:
            os.mknod(at(f"{letter}{major}-{minor}"), kind | 0o660, os.makedev(major, minor))
    os.mkdir(at("folder"))
    write(at("file"), b"a file\n")
    os.symlink("file", at("link"))
    os.symlink("nowhere", at("dangling"))


def owners(at):
    pairs = [
        (0, 0), (1, 2), (65534, 65535), (65535, 65536), (65536, 1 << 24), (0xFFFFFFFE, 0xFFFFFFFE),
        (0x12345678, 0x9ABCDEF0),
    ]
    for index, (uid, gid) in enumerate(pairs):
        write(at(f"file{index}"), b"x")
        os.chown(at(f"file{index}"), uid, gid)
        os.symlink("file0", at(f"link{index}"))
        os.chown(at(f"link{index}"), uid, gid, follow_symlinks=False)


def modes(at):
    for mode in [0, *(1 << bit for bit in range(12)), 0o777, 0o755, 0o4755, 0o2755, 0o6711, 0o7777]:
        write(at(f"f{mode:04o}"), b"x", mode)
        os.mkdir(at(f"d{mode:04o}"))
        os.chmod(at(f"d{mode:04o}"), mode)


def times(at):
    seconds = [
        -(1 << 31), -(1 << 31) + 1, -86400, -1, 0, 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1,
        1 << 32, (1 << 32) + (1 << 31), (1 << 33) + 7, 15032385535, 1000000000,
    ]
    for index, second in enumerate(seconds):
        for nano in (0, 1, 999999999, 123456789):
            path = at(f"t{index}-{nano}")
            write(path, b"")
            other = seconds[(index + 5) % len(seconds)]
            os.utime(path, ns=(second * 10**9 + nano, other * 10**9 + 999999999 - nano))
    os.mkdir(at("folder"))
    os.utime(at("folder"), ns=(-1, (1 << 32) * 10**9 + 5))
    os.symlink("x", at("link"))
    os.utime(at("link"), ns=(-5, 12345678901234567), follow_symlinks=False)


def symlinks(at):
    for length in (1, 58, 59, 60, 61, 155, 156, 157, 1022, 1023, 1024, 2047, 4094, 4095):
        with may_refuse():
            os.symlink(b"s" * length, at(f"length{length}"))
    os.symlink(b"bytes \xff\xfe \n\t and /slashes//", at("bytes"))


def names(at):
    for byte in range(1, 256):
        if byte != 0x2F and byte != 0x2E:
            write(at(b"" + bytes([byte])), b"")
    for length in (2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 127, 128, 254, 255):
        write(at(b"n" * length), b"%d" % length)
        write(at(b"\xff" * length), b"")
    write(at(b"..."), b"")
    write(at(b"..\xff"), b"")
    write(at(b"new\nline and \\ backslash \""), b"")


def acl(*entries):
    """struct posix_acl_xattr_header and entries of include/uapi/linux/posix_acl_xattr.h."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NO_ID = 0xFFFFFFFF
MINIMAL_ACL = acl((1, 6, NO_ID), (4, 4, NO_ID), (0x20, 4, NO_ID))
FULL_ACL = acl(
    (1, 7, NO_ID), (2, 5, 1000), (2, 0, 70000), (4, 5, NO_ID), (8, 7, 10), (8, 1, 0xFFFFFFF0),
    (0x10, 7, NO_ID), (0x20, 0, NO_ID),
)


def xattrs(at):
    def put(path, name, value):
        with may_refuse():
            os.setxattr(path, name, value, follow_symlinks=False)

    write(at("one"), b"x")
    put(at("one"), "user.a", b"value")
    write(at("empty-value"), b"x")
    put(at("empty-value"), "user.empty", b"")
    write(at("all-kinds"), b"x")
    for name in ("user.u", "trusted.t", "security.s", "user.with.dots", "trusted.overlay.opaque"):
        put(at("all-kinds"), name, name.encode())
    capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    put(at("all-kinds"), "security.capability", capability)
    write(at("in-block"), b"x")
    put(at("in-block"), "user.long", noise("in-block", at.block // 2))
    write(at("both"), b"x")
    put(at("both"), "user.small", b"1")
    put(at("both"), "user.big", noise("both", at.block // 2))
    put(at("both"), "user.small2", b"2")
    for size in (at.block - 200, at.block, at.block * 3, 40000, 65536):
        write(at(f"value{size}"), b"x")
        put(at(f"value{size}"), "user.v", noise(size, size))
        put(at(f"value{size}"), "user.after", b"after")
    write(at("same-value"), b"x")
    put(at("same-value"), "user.v", noise(40000, 40000))
    write(at("many"), b"x")
    for index in range(100):
        put(at("many"), f"user.n{index}", b"v%d" % index)
    write(at("long-name"), b"x")
    put(at("long-name"), "user." + "n" * 250, b"v")
    for index in range(5):
        write(at(f"shared{index}"), b"x")
        put(at(f"shared{index}"), "user.shared", noise("shared", 300))
    os.mkdir(at("folder"))
    put(at("folder"), "user.on-folder", b"f")
    put(at("folder"), "system.posix_acl_access", FULL_ACL)
    put(at("folder"), "system.posix_acl_default", FULL_ACL)
    write(at("folder/inherits"), b"x")
    os.mkdir(at("folder/inherits-too"))
    write(at("acl-full"), b"x")
    put(at("acl-full"), "system.posix_acl_access", FULL_ACL)
    write(at("acl-minimal"), b"x")
    put(at("acl-minimal"), "system.posix_acl_access", MINIMAL_ACL)
    os.symlink("x", at("link"))
    put(at("link"), "trusted.on-link", b"l")
    put(at("link"), "security.on-link", b"l")
    os.symlink(b"l" * 200, at("slow-link"))
    put(at("slow-link"), "trusted.on-link", noise("slow-link", 100))
    os.mkfifo(at("fifo"))
    put(at("fifo"), "trusted.on-fifo", b"f")
    os.mknod(at("device"), stat.S_IFCHR | 0o600, os.makedev(1, 3))
    put(at("device"), "security.on-device", b"d")
    write(at("removed"), b"x")
    for index in range(12):
        put(at("removed"), f"user.r{index}", b"r" * 20)
    for name in os.listxattr(at("removed"))[::2]:
        os.removexattr(at("removed"), name)


def links(at):
    write(at("original"), b"linked\n")
    for folder in ("a", "b"):
        os.mkdir(at(folder))
        os.link(at("original"), at(f"{folder}/name"))
    write(at("many"), b"m")
    for index in range(120):
        os.link(at("many"), at(f"many{index}"))
    os.mkfifo(at("fifo"))
    os.link(at("fifo"), at("fifo-again"))
    os.symlink("original", at("symlink"))
    os.link(at("symlink"), at("symlink-again"), follow_symlinks=False)


def folders(at):
    """Every shape of directory that is not huge."""
    path = at("deep")
    os.mkdir(path)
    for level in range(30):
        path = os.path.join(path, b"level%d" % level)
        os.mkdir(path)
    write(os.path.join(path, b"bottom"), b"bottom\n")
    os.mkdir(at("many-folders"))
    for index in range(70):
        os.mkdir(at(f"many-folders/{index}"))
    os.mkdir(at("hashed"))
    write(at("one-inode"), b"")
    for index in range(400):
        os.link(at("one-inode"), at(f"hashed/a name of middling length, number {index:05}"))
    os.mkdir(at("emptied"))
    for index in range(300):
        os.link(at("one-inode"), at(f"emptied/{index:05}-{'x' * 100}"))
    for index in range(300):
        os.unlink(at(f"emptied/{index:05}-{'x' * 100}"))
    os.mkdir(at("reused"))
    for index in range(200):
        os.link(at("one-inode"), at(f"reused/{'r' * (index % 40)}{index}"))
    for index in range(0, 200, 3):
        os.unlink(at(f"reused/{'r' * (index % 40)}{index}"))
    for index in range(0, 100, 3):
        os.link(at("one-inode"), at(f"reused/{'again' * (index % 5)}{index}"))
    os.mkdir(at("renamed"))
    for index in range(0, 60, 3):
        os.rename(at(f"reused/{'again' * (index % 5)}{index}"), at(f"renamed/{index}"))
    os.rename(at("renamed"), at("many-folders/5/moved"))
    for count in range(1, 12):
        os.mkdir(at(f"small{count}"))
        for index in range(count):
            os.link(at("one-inode"), at(f"small{count}/{'abcdefghijk'[index] * (index + 1)}"))


def hashed(at):
    """A directory whose htree has an inner level on 1 KiB blocks."""
    write(at("inode"), b"")
    for index in range(3000):
        os.link(at("inode"), at(f"{'name ' * 10}{index:06}"))


def three_levels(at):
    """A directory whose htree has two inner levels on 1 KiB blocks."""
    write(at("inode"), b"")
    for index in range(40_000):
        os.link(at("inode"), at(f"{'n' * 240}{index:06}"))


def big_directory(at):
    """100,000 entries, each a file of its own."""
    for index in range(100_000):
        os.close(os.open(at(f"entry-{index:06}"), os.O_CREAT | os.O_WRONLY))


def ten_thousand(at):
    """10,000 small files in 100 folders."""
    for folder in range(100):
        os.mkdir(at(f"{folder:02}"))
        for index in range(100):
            number = folder * 100 + index
            with open(at(f"{folder:02}/file{index:02}"), "wb") as file:
                file.write(b"%d\n" % number * (number % 700))


def sparse(at):
    """Data at the offsets where each level of an indirect map and of an extent tree begins."""
    block = at.block
    per_block = block // 4
    write(at("all-hole"), b"")
    os.truncate(at("all-hole"), 10 * block + 1)
    ends = [0, 11, 12, 13, 11 + per_block, 12 + per_block, 12 + per_block + per_block**2]
    with open(at("levels"), "wb") as file:
        for index in ends:
            with may_refuse():
                os.pwrite(file.fileno(), b"at block %d" % index, index * block)
    tera = 1 << 40
    offsets = [0, 1 << 20, (4 << 30) - 3, 5 << 30, tera + 12345, 2 * tera, 2 * tera + block - 1]
    with open(at("far"), "wb") as file:
        for offset in offsets:
            with may_refuse():
                os.pwrite(file.fileno(), b"at offset %d" % offset, offset)
    with open(at("edges"), "wb") as file:
        os.pwrite(file.fileno(), b"x", 3 * block - 1)
        os.pwrite(file.fileno(), b"y" * (block + 2), 7 * block - 1)
        os.ftruncate(file.fileno(), 20 * block - 1)
    with open(at("huge-size"), "wb") as file:
        os.pwrite(file.fileno(), b"start" * block, 0)
        with may_refuse():
            os.ftruncate(file.fileno(), 3 << 40)
    for size in (0, 1, block - 1, block, block + 1, 12 * block, 13 * block, 300 * block + 77):
        write(at(f"size{size}"), noise(size, size))


def fragmented(at):
    """1,500 extents: a tree with inner nodes on every block size."""
    with open(at("every-other"), "wb") as file:
        for index in range(1500):
            data = struct.pack("<I", index) * (at.block // 4)
            os.pwrite(file.fileno(), data, 2 * index * at.block)
    with open(at("punched"), "wb") as file:
        file.write(noise("punched", 200 * at.block))
        file.flush()
        mode = FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE
        with may_refuse():
            for index in range(0, 200, 2):
                fallocate(file.fileno(), mode, index * at.block, at.block)
    with open(at("interleaved-a"), "wb") as a, open(at("interleaved-b"), "wb") as b:
        for index in range(40):
            for file in (a, b):
                os.pwrite(file.fileno(), noise(index, at.block), index * at.block)
                os.fsync(file.fileno())


def deep_extents(at):
    """33,000 extents: an extent tree of depth 3 on 1 KiB blocks."""
    with open(at("file"), "wb") as file:
        for index in range(33_000):
            os.pwrite(file.fileno(), struct.pack("<I", index), 2 * index * at.block)


def unwritten(at):
    """Space that was promised but not written."""
    block = at.block
    with open(at("promised"), "wb") as file:
        fallocate(file.fileno(), 0, 0, 64 * block)
        os.pwrite(file.fileno(), b"in the middle", 20 * block + 5)
        os.fsync(file.fileno())
    with open(at("beyond-the-end"), "wb") as file:
        file.write(b"short")
        file.flush()
        fallocate(file.fileno(), FALLOC_KEEP_SIZE, 0, 64 * block)
    with open(at("zeroed"), "wb") as file:
        file.write(noise("zeroed", 64 * block))
        file.flush()
        os.fsync(file.fileno())
        with may_refuse():
            fallocate(file.fileno(), FALLOC_ZERO_RANGE, 9 * block + 3, 30 * block)
    with open(at("alternating"), "wb") as file:
        fallocate(file.fileno(), 0, 0, 100 * block)
        for index in range(0, 100, 2):
            os.pwrite(file.fileno(), b"%d" % index, index * block)
        os.fsync(file.fileno())
    with open(at("swapfile"), "wb") as file:
        fallocate(file.fileno(), 0, 0, 256 * block)
        os.pwrite(file.fileno(), b"SWAPSPACE2", 4086)
    os.chmod(at("swapfile"), 0o600)
    with open(at("long-run"), "wb") as file:
        with may_refuse():
            fallocate(file.fileno(), 0, 0, 40_000 * min(block, 1024))


def inline(at):
    """Around the sizes where inline data moves from the inode to its xattrs and to a block."""
    for size in [*range(0, 70, 5), 59, 60, 61, 68, 69, *range(90, 220, 6), 420, 430, 900]:
        write(at(f"file{size}"), noise(size, size))
    for size in (10, 60, 61, 100, 150):
        path = at(f"with-xattr{size}")
        write(path, noise(size, size))
        os.setxattr(path, "user.a", b"b")
        write(path + b"-first", b"")
        os.setxattr(path + b"-first", "user.a", b"b")
        write(path + b"-first", noise(size, size))
    write(at("shrunk"), noise("shrunk", 500))
    os.truncate(at("shrunk"), 20)
    write(at("grown-sparse"), b"start")
    os.truncate(at("grown-sparse"), 100)
    os.truncate(at("grown-sparse"), 5000)
    for count in range(0, 14):
        os.mkdir(at(f"dir{count}"))
        for index in range(count):
            write(at(f"dir{count}/f{index}"), b"")
    os.mkdir(at("dir-with-holes"))
    for index in range(9):
        write(at(f"dir-with-holes/{'n' * (index + 1)}"), b"")
    for index in range(0, 9, 2):
        os.unlink(at(f"dir-with-holes/{'n' * (index + 1)}"))
    os.mkdir(at("dir-with-xattr"))
    os.setxattr(at("dir-with-xattr"), "user.a", b"b" * 10)
    for index in range(6):
        write(at(f"dir-with-xattr/{index}"), b"")


def flags(at):
    """The FS_*_FL of include/uapi/linux/fs.h that chattr sets."""
    for name, flag in (("sync", 8), ("immutable", 16), ("append", 32), ("nodump", 64)):
        write(at(name), name.encode())
        set_flags(at(name), flag)
    for name, flag in (("dirsync", 0x10000), ("topdir", 0x20000), ("noatime", 128)):
        os.mkdir(at(name))
        set_flags(at(name), flag)
    os.mkdir(at("immutable-folder"))
    write(at("immutable-folder/file"), b"x")
    set_flags(at("immutable-folder"), 16)


def project(at):
    write(at("file"), b"of project 4711\n")
    with open(at("file"), "rb") as file:
        attributes = bytearray(28)
        fcntl.ioctl(file.fileno(), FS_IOC_FSGETXATTR, attributes)
        struct.pack_into("=I", attributes, 12, 4711)
        fcntl.ioctl(file.fileno(), FS_IOC_FSSETXATTR, bytes(attributes))


def set_flags(path, flag):
    fd = os.open(path, os.O_RDONLY)
    try:
        (before,) = struct.unpack_from("=I", fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(8)))
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("=II", before | flag, 0))
    finally:
        os.close(fd)


def encrypted(at):
    """The folder must be there, empty, with a policy whose key is present."""
    os.mkdir(at("folder"))
    write(at("folder/inner"), b"inner")
    for length in (1, 2, 15, 16, 17, 31, 32, 33, 100, 127, 148, 149, 150, 200, 254, 255):
        write(at(b"e" * length), noise(length, length * 40))
    for length in (1, 10, 30, 31, 57, 58, 59, 200, 1000):
        with may_refuse():
            os.symlink(b"t" * length, at(f"link{length}"))
    os.mkfifo(at("fifo"))
    os.mkdir(at("hashed"))
    for index in range(500):
        os.link(at("e"), at(f"hashed/name {index:05}{'h' * (index % 60)}"))


SECTIONS = {
    name: function
    for name, function in list(globals().items())
    if callable(function) and getattr(function, "__code__", None) is not None
    and function.__code__.co_varnames[:1] == ("at",)
}


def main():
    os.umask(0o022)
    root, *sections = sys.argv[1:]
    for name in sections:
        SECTIONS[name](Place(root, name))
    os.sync()


main()
