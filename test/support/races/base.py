"""What the races share: turns, bytes that say where they belong, and a file seen in many ways."""

import errno
import functools
import mmap
import os
import random
import time

PAGE = 4096
SECTOR = 512
_OWN = bytes(1 + byte % 127 for byte in range(256))
_FOREIGN = bytes(128 + byte % 128 for byte in range(256))


class Finding(Exception):
    """Somebody has seen what nobody may see."""


class Race:
    """Processes (`roles`: methods that take turns and random numbers), and what they agree on."""

    def __init__(self, folder, rng, extents):
        self.folder = folder
        self.extents = extents

    def at(self, name):
        return os.path.join(self.folder, name)

    def verify(self):
        """Called when all have ended."""


class Turns:
    """Counts the turns of a process until time is over or one process has stopped all of them."""

    def __init__(self, seconds):
        self.end = time.monotonic() + seconds
        self.stopped = shared_numbers(1)
        self.count = 0

    def __iter__(self):
        while not self.is_over():
            yield self.count
            self.count += 1

    def is_over(self):
        return time.monotonic() >= self.end or self.stopped[0] != 0

    def stop(self):
        self.stopped[0] = 1


def shared_numbers(count):
    """Numbers below 2^32 that this process and those it forks see alike."""
    return memoryview(mmap.mmap(-1, count * 4)).cast("I")


def own(seed, length):
    """Bytes of the file that is raced for: from 1 to 127, different at every place."""
    return random.Random(seed).randbytes(length).translate(_OWN)


def foreign(seed, length):
    """Bytes of any other file: from 128 to 255."""
    return random.Random(seed).randbytes(length).translate(_FOREIGN)


def check_own_or_zero(found, wanted, offset, how):
    """Every byte of `found` is that of `wanted`, or zero."""
    if found == wanted:
        return
    for at in range(0, len(found), SECTOR):
        piece, same = found[at : at + SECTOR], wanted[at : at + SECTOR]
        if piece == same or piece == bytes(len(piece)):
            continue
        for index, byte in enumerate(piece):
            if byte not in (0, same[index]):
                raise Finding(describe(found, wanted, at + index, offset, how))


def check_equal(found, wanted, offset, how):
    if found == wanted:
        return
    shorter = min(len(found), len(wanted))
    at = next((at for at in range(shorter) if found[at] != wanted[at]), shorter)
    raise Finding(describe(found, wanted, at, offset, how))


def describe(found, wanted, at, offset, how):
    return (f"{how} {offset}+{len(wanted)}: {len(found)} bytes, at {offset + at} "
            f"{found[at : at + 16].hex()}, not {wanted[at : at + 16].hex()}")


def page_range(rng, size, pages_max=16):
    """Whole pages below `size`: offset and length."""
    first = rng.randrange(size // PAGE)
    return first * PAGE, rng.randint(1, min(pages_max, size // PAGE - first)) * PAGE


class Views:
    """A file through the page cache, past it, and mapped; for all processes that are forked later.

    It must have `size` bytes at first.
    """

    ways = ("buffered", "direct", "mapped")

    def __init__(self, path, size):
        self.fd = os.open(path, os.O_RDWR)
        self.direct = os.open(path, os.O_RDWR | os.O_DIRECT)
        self.map = mmap.mmap(self.fd, size)
        self.memory = memoryview(self.map)

    @functools.cached_property
    def aligned(self):
        """Memory for O_DIRECT, of the process that asks."""
        return mmap.mmap(-1, len(self.map))

    @functools.cached_property
    def copied(self):
        """Where the kernel copies what is mapped to, and from: it answers EFAULT where the process
        would die of SIGBUS, because the file has become shorter."""
        return os.memfd_create("copied")

    def read(self, how, offset, length):
        """What is there, by one of `ways`; less than `length` at the end of the file."""
        return getattr(self, f"read_{how}")(offset, length)

    def read_any(self, rng, offset, length):
        """The same by any way, sometimes with caches dropped before. @returns way and bytes."""
        if rng.random() < 0.1:
            os.posix_fadvise(self.fd, offset, length, os.POSIX_FADV_DONTNEED)
        if rng.random() < 0.1:
            self.map.madvise(mmap.MADV_DONTNEED)
        how = rng.choice(self.ways)
        return how, self.read(how, offset, length)

    def read_buffered(self, offset, length):
        return os.pread(self.fd, length, offset)

    def read_direct(self, offset, length):
        """Offset and length are multiples of a page."""
        count = os.preadv(self.direct, [memoryview(self.aligned)[:length]], offset)
        return self.aligned[:count]

    def read_mapped(self, offset, length):
        try:
            count = os.pwrite(self.copied, self.memory[offset : offset + length], 0)
        except OSError as error:
            if error.errno != errno.EFAULT:
                raise
            count = 0
        return os.pread(self.copied, count, 0)

    def write(self, how, offset, data):
        """Writes all of `data`; as much as the file is long where that is `mapped`."""
        getattr(self, f"write_{how}")(offset, data)

    def write_buffered(self, offset, data):
        self.check_written(os.pwrite(self.fd, data, offset), data)

    def write_direct(self, offset, data):
        self.aligned[: len(data)] = data
        target = memoryview(self.aligned)[: len(data)]
        self.check_written(os.pwritev(self.direct, [target], offset), data)

    def write_mapped(self, offset, data):
        os.pwrite(self.copied, data, 0)
        try:
            os.preadv(self.copied, [self.memory[offset : offset + len(data)]], 0)
        except OSError as error:
            if error.errno != errno.EFAULT:
                raise

    def check_written(self, count, data):
        if count != len(data):
            raise Finding(f"wrote {count} bytes of {len(data)}")


class Recycler:
    """Another file that takes what blocks become free, and gives them back: `recycle` is a role."""

    KEPT_FREE_BYTES = 2 << 20
    CHUNK = 1 << 18

    def __init__(self, path):
        self.path = path
        self.root = os.path.dirname(path)

    def recycle(self, turns, rng):
        for turn in turns:
            fd = os.open(self.path, os.O_CREAT | os.O_TRUNC | os.O_RDWR)
            data = foreign(turn, self.CHUNK)
            size = 0
            while self.room() > self.KEPT_FREE_BYTES and not turns.is_over():
                os.pwrite(fd, data, size)
                size += len(data)
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            for at in range(0, size, len(data)):
                check_equal(os.pread(fd, len(data), at), data, at, "another file:")
            if rng.random() < 0.5:
                os.unlink(self.path)
            os.close(fd)
        if os.path.exists(self.path):
            os.unlink(self.path)

    def room(self):
        found = os.statvfs(self.root)
        return found.f_bavail * found.f_frsize
