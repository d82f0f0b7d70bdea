"""Makes system calls that change a mounted filesystem, and prints what they answered as JSON.

Usage: writing.py SCENARIO FOLDER

Answers that two filesystems can be expected to share: results, names of errnos, modes, sizes.
"""

import ctypes
import errno
import fcntl
import json
import mmap
import os
import stat
import struct
import sys

libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
libc.renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
AT_FDCWD = -100
AT_SYMLINK_FOLLOW = 0x400
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 0x10
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS = 0x80086601, 0x40086602
IMMUTABLE, APPEND, NODUMP = 0x10, 0x20, 0x40
STATX_MODE, STATX_MODE_OFFSET = 2, 28
STRANGER = 54321


def attempt(action):
    """What `action` returns, or the name of its errno."""
    try:
        return action()
    except OSError as error:
        return errno.errorcode[error.errno]


def call(result):
    return errno.errorcode[ctypes.get_errno()] if result < 0 else "ok"


def create(name, flags=os.O_RDWR, mode=0o644):
    return os.open(name, os.O_CREAT | flags, mode)


def mode(name):
    """The mode, asked for by itself: who asks for more may refresh what the kernel remembers of it."""
    answer = (ctypes.c_uint16 * 128)()
    if libc.statx(AT_FDCWD, name.encode(), 0, STATX_MODE, answer) < 0:
        raise OSError(ctypes.get_errno(), "statx", name)
    return oct(answer[STATX_MODE_OFFSET // 2])


def open_modes():
    answers = []
    fd = create("read-only", os.O_WRONLY, 0o444)
    answers.append(os.write(fd, b"written all the same"))
    answers.append(attempt(lambda: create("read-only", os.O_EXCL)))
    fd = os.open("read-only", os.O_RDWR | os.O_TRUNC)
    answers.append([os.fstat(fd).st_size, os.fstat(fd).st_blocks])
    fd = create("append", os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"one")
    os.write(fd, b"two")
    answers.append(os.stat("append").st_size)
    before = os.umask(0o027)
    create("masked", mode=0o666)
    os.mkdir("masked-folder", 0o777)
    os.umask(before)
    answers.append([mode("masked"), mode("masked-folder")])
    return answers


def without_name():
    answers = []
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(fd, b"temporary" * 1000)
    answers.append(os.fstat(fd).st_nlink)
    path = b"/proc/self/fd/%d" % fd
    answers.append(call(libc.linkat(AT_FDCWD, path, AT_FDCWD, b"linked", AT_SYMLINK_FOLLOW)))
    answers.append([os.fstat(fd).st_nlink, os.stat("linked").st_size])
    os.write(os.open(".", os.O_TMPFILE | os.O_RDWR), b"never linked")

    fd = create("unlinked")
    os.write(fd, b"x" * 100_000)
    os.unlink("unlinked")
    os.pwrite(fd, b"after", 200_000)
    answers.append([os.fstat(fd).st_nlink, os.fstat(fd).st_size, os.pread(fd, 3, 99_999).hex()])
    create("victim")
    kept = os.open("victim", os.O_RDWR)
    os.write(kept, b"the old one")
    os.write(create("winner"), b"the new one")
    os.rename("winner", "victim")
    answers.append([os.pread(kept, 20, 0).decode(), open("victim").read(), os.fstat(kept).st_nlink])
    os.mkdir("folder")
    inside = os.open("folder", os.O_RDONLY)
    os.rmdir("folder")
    answers.append([os.fstat(inside).st_nlink, os.listdir(inside)])
    answers.append(attempt(lambda: os.open("new", os.O_CREAT, dir_fd=inside)))
    return answers


def set_flags(name, flags):
    fd = os.open(name, os.O_RDONLY)
    (before,) = struct.unpack("i", fcntl.ioctl(fd, FS_IOC_GETFLAGS, b"\0" * 4))
    fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("i", before & ~(IMMUTABLE | APPEND | NODUMP) | flags))
    os.close(fd)


def open_descriptors():
    """Flags that are set while the file is open count for it."""
    answers = []
    for flags in (IMMUTABLE, APPEND):
        name = f"flags-{flags}"
        fd = create(name)
        os.write(fd, b"x" * 10_000)
        os.pwrite(fd, b"overwritten in place", 100)
        set_flags(name, flags)
        answers.append(attempt(lambda: os.ftruncate(fd, 5)))
        answers.append(call(libc.fallocate(fd, KEEP_SIZE | PUNCH_HOLE, 0, 4096)))
        answers.append(attempt(lambda: os.unlink(name)))
        answers.append(attempt(lambda: os.rename(name, "elsewhere")))
        answers.append(attempt(lambda: os.link(name, "elsewhere")))
        answers.append(attempt(lambda: os.chmod(name, 0o600)))
        answers.append(attempt(lambda: os.utime(name, (1, 1))))
        answers.append(attempt(lambda: os.setxattr(name, "user.x", b"y")))
        set_flags(name, 0)
        answers.append(attempt(lambda: os.pwrite(fd, b"again", 0)))
    return answers


def as_stranger(action):
    """What `action` answers when it is called by a user without privileges."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setgroups([])
        os.setgid(STRANGER)
        os.setuid(STRANGER)
        os.write(writing, json.dumps(attempt(action)).encode())
        os._exit(0)
    os.wait()
    return json.loads(os.read(reading, 10_000))


def privileges():
    """What takes set-id bits and capabilities away."""
    capability = struct.pack("<IIIII", 0x02000000, 1, 0, 0, 0)
    answers = []
    actions = {
        "write": lambda name: os.write(os.open(name, os.O_WRONLY), b"x"),
        "write directly": lambda name: os.write(os.open(name, os.O_WRONLY | os.O_DIRECT), mmap.mmap(-1, 4096)),
        "truncate": lambda name: os.truncate(name, 1),
        "open to truncate": lambda name: os.close(os.open(name, os.O_WRONLY | os.O_TRUNC)),
        "fallocate": lambda name: call(libc.fallocate(os.open(name, os.O_WRONLY), 0, 0, 100)),
    }
    for title, action in actions.items():
        for bits in (0o6777, 0o2777, 0o4666, 0o2666):
            name = f"{title} {bits:o}"
            os.write(create(name), b"some contents")
            os.chmod(name, bits)
            os.setxattr(name, "security.capability", capability)
            result = as_stranger(lambda: action(name))
            left = "security.capability" in os.listxattr(name)
            answers.append([title, oct(bits), result, mode(name), left])
    for bits in (0o6777, 0o2777):
        os.close(create("owned"))
        os.chmod("owned", bits)
        os.chown("owned", STRANGER, STRANGER)
        answers.append(["chown", oct(bits), mode("owned")])
    os.chmod("owned", 0o6777)
    os.pwrite(os.open("owned", os.O_WRONLY), b"root keeps them", 0)
    answers.append(mode("owned"))
    return answers


def ranges():
    answers = []
    fd = create("sparse")
    os.pwrite(fd, b"end", 1 << 20)
    # Whole pages, so that both filesystems have something on the device to talk about.
    os.pwrite(fd, b"x" * 65536, 0)
    os.fsync(fd)
    for flags in (KEEP_SIZE | PUNCH_HOLE, ZERO_RANGE, 0):
        answers.append(call(libc.fallocate(fd, flags, 8192, 16384)))
        answers.append([os.fstat(fd).st_size, os.fstat(fd).st_blocks])
        answers.append(sum(os.pread(fd, 65536, 0)))
    answers.append(call(libc.fallocate(fd, KEEP_SIZE, 2 << 20, 65536)))
    answers.append([os.fstat(fd).st_size, os.fstat(fd).st_blocks])
    target = create("copied")
    answers.append(os.copy_file_range(fd, target, 30_000, 0, 5000))
    answers.append([os.fstat(target).st_size, sum(os.pread(target, 50_000, 0))])
    answers.append(attempt(lambda: os.ftruncate(fd, 1 << 45)))
    answers.append(attempt(lambda: os.pwrite(fd, b"x", (1 << 62))))
    os.ftruncate(fd, 100)
    os.ftruncate(fd, 4000)
    answers.append([os.fstat(fd).st_size, sum(os.pread(fd, 5000, 0)), os.fstat(fd).st_blocks])
    return answers


def mapped():
    answers = []
    fd = create("mapped")
    os.ftruncate(fd, 300_000)
    view = mmap.mmap(fd, 300_000)
    view[0:5] = b"first"
    view[150_000:150_004] = b"last"
    view.flush()
    answers.append([os.pread(fd, 5, 0).decode(), os.pread(fd, 4, 150_000).decode()])
    os.pwrite(fd, b"write", 0)
    answers.append(view[0:5].decode())
    view[299_995:300_000] = b"edges"
    view.close()
    os.close(fd)
    answers.append(open("mapped", "rb").read()[-6:].hex())
    return answers


def direct():
    answers = []
    buffer = mmap.mmap(-1, 1 << 20)
    buffer.write(b"direct! " * (1 << 17))
    fd = create("direct", os.O_RDWR | os.O_DIRECT)
    answers.append(os.write(fd, buffer))
    answers.append(os.pwritev(fd, [memoryview(buffer)[:4096]], 64 * 4096))
    answers.append(os.pwritev(fd, [memoryview(buffer)[:65536]], (1 << 20) + 4096))
    answers.append(os.fstat(fd).st_size)
    answers.append(os.preadv(fd, [buffer], (1 << 20) - 4096))
    answers.append(buffer[:4100].count(b"\0"))
    return answers


def names():
    answers = []
    for name in ("one", "two"):
        os.write(create(name), name.encode())
    rename = lambda old, new, flags: call(libc.renameat2(AT_FDCWD, old, AT_FDCWD, new, flags))
    answers.append(rename(b"one", b"two", NOREPLACE))
    answers.append(rename(b"one", b"two", EXCHANGE))
    answers.append([open("one").read(), open("two").read()])
    answers.append(rename(b"one", b"three", WHITEOUT))
    answers.append([mode("one"), os.stat("one").st_rdev])
    os.mkdir("folder")
    os.mkdir("folder/inner")
    answers.append([os.stat("folder").st_nlink, attempt(lambda: os.rmdir("folder"))])
    answers.append(attempt(lambda: os.rename("folder", "folder/inner/x")))
    os.rename("folder/inner", "moved")
    answers.append([os.stat("folder").st_nlink, os.listdir("folder"), os.stat("moved/..").st_ino == os.stat(".").st_ino])
    os.symlink("s" * 300, "link")
    answers.append([os.readlink("link"), os.lstat("link").st_size])
    os.mknod("fifo", stat.S_IFIFO | 0o600)
    os.mknod("device", stat.S_IFBLK | 0o600, os.makedev(300, 70_000))
    answers.append([mode("fifo"), os.stat("device").st_rdev])
    answers.append(attempt(lambda: os.mkdir("n" * 256)))
    os.link("two", "again")
    answers.append([os.stat("two").st_nlink, attempt(lambda: os.link("folder", "f"))])
    os.mkdir("inherits")
    os.chown("inherits", 0, 123_456)
    os.chmod("inherits", 0o2755)
    os.mkdir("inherits/folder")
    os.close(create("inherits/file"))
    answers.append([os.stat("inherits/file").st_gid, mode("inherits/folder")])
    # What was listed must not be remembered.
    for index in range(50):
        os.close(create(f"folder/{index}"))
        answers.append(len(os.listdir("folder")))
    for index in range(0, 50, 2):
        os.unlink(f"folder/{index}")
        answers.append(len(os.listdir("folder")))
    return answers


def times():
    answers = []
    os.close(create("timed"))
    for instant in ((1, 2), (-5, 123_456_789), (2**33, 999_999_999), (2**32 - 1, 0)):
        os.utime("timed", ns=(instant[0] * 10**9 + instant[1], 7))
        answers.append(os.stat("timed").st_atime_ns)
    before = os.stat("timed")
    os.write(os.open("timed", os.O_WRONLY), b"x")
    after = os.stat("timed")
    answers.append([after.st_mtime_ns > before.st_mtime_ns, after.st_ctime_ns > before.st_ctime_ns])
    folder = os.stat(".").st_mtime_ns
    os.close(create("younger"))
    answers.append(os.stat(".").st_mtime_ns > folder)
    fd = os.open("timed", os.O_WRONLY)
    os.write(fd, b"y")
    stamp = os.fstat(fd).st_mtime_ns
    os.pwrite(fd, b"in place", 0)
    os.pwrite(fd, b"once more", 0)
    answers.append(os.fstat(fd).st_mtime_ns > stamp)
    stamp = os.fstat(fd).st_ctime_ns
    set_flags("timed", NODUMP)
    answers.append(os.fstat(fd).st_ctime_ns > stamp)
    return answers


def handles():
    """A handle is good for as long as there is a name, or somebody has the file open."""
    answers = []
    root = os.open(".", os.O_RDONLY)

    def reopen(handle):
        fd = libc.open_by_handle_at(root, handle, os.O_RDONLY)
        if fd < 0:
            return call(fd)
        contents = os.read(fd, 100).decode()
        os.close(fd)
        return contents

    for name in ("closed", "open"):
        fd = create(name)
        os.write(fd, name.encode())
        handle = struct.pack("Ii128x", 128, 0)
        mount = ctypes.c_int()
        answers.append(libc.name_to_handle_at(AT_FDCWD, name.encode(), handle, ctypes.byref(mount), 0))
        answers.append(reopen(handle))
        os.link(name, "elsewhere")
        os.unlink(name)
        answers.append(reopen(handle))
        if name == "closed":
            os.close(fd)
        os.unlink("elsewhere")
        answers.append(reopen(handle))
    return answers


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (open_modes, without_name, open_descriptors, privileges, ranges, mapped, direct, names, times, handles)
}

if __name__ == "__main__":
    os.chdir(sys.argv[2])
    print(json.dumps(SCENARIOS[sys.argv[1]]()))
