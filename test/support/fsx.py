"""Changes one file in all ways at random, and compares it with a copy in memory at every step.

Usage: fsx.py FILE --seed N --seconds N [--size BYTES] [--no-extents] [--no-moves]

Reads and writes, through the page cache, O_DIRECT and several at once (aio.py); mappings, new ones
and one that stays; truncations, every mode of fallocate, copy_file_range within the file and to and
from a second one (FILE.other), SEEK_DATA and SEEK_HOLE, syncs, caches dropped, reopening. Prints
how many calls it made; the first difference ends it with exit code 1, the last calls, and where the
file differs.
"""

import argparse
import collections
import errno
import mmap
import os
import random
import sys
import time

import aio
import syscalls

PAGE = 4096
AT_ONCE_MAX = 6
ADVICE = (mmap.MADV_DONTNEED, mmap.MADV_RANDOM, mmap.MADV_SEQUENTIAL, mmap.MADV_WILLNEED)
CALLS_SHOWN = 25


class Difference(Exception):
    pass


class Exerciser:
    def __init__(self, path, options):
        self.path = path
        self.random = random.Random(options.seed)
        self.max = options.size
        self.block = os.statvfs(os.path.dirname(path)).f_bsize
        self.expected = bytearray()
        self.calls = 0
        self.history = collections.deque(maxlen=CALLS_SHOWN)
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        self.direct = None
        self.context = aio.Context(AT_ONCE_MAX)
        self.kept = None
        # A FUSE server is asked for holes without what mappings have changed being written first.
        self.mapping_is_dirty = False
        self.other = os.open(f"{path}.other", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        self.other_expected = bytearray()
        self.choices = [
            (self.read, 8), (self.write, 12), (self.map_read, 6), (self.map_write, 8),
            (self.direct_read, 4), (self.direct_write, 5), (self.at_once, 6), (self.truncate, 6),
            (self.sync, 2), (self.forget, 4), (self.reopen, 2), (self.punch, 5), (self.append, 4),
            (self.copy, 3), (self.copy_out, 2), (self.copy_in, 2), (self.copy_over_itself, 1),
            (self.seek, 4),
        ]
        if not options.no_extents:
            self.choices += [(self.allocate, 4), (self.zero, 4)]
        # The kernel's FUSE client knows no way to ask for these.
        if not options.no_moves:
            self.choices += [(self.collapse, 3), (self.insert, 3)]

    def run(self, seconds):
        actions = [action for action, weight in self.choices for _ in range(weight)]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.random.choice(actions)()
            self.calls += 1
            if self.calls % 500 == 0:
                self.verify_all()
        self.verify_all()

    def why_gone(self):
        """What the filesystem answers when it has gone away."""
        try:
            os.fsync(self.fd)
        except OSError as error:
            return error
        return None

    def note(self, name, *numbers):
        self.history.append(f"{self.calls} {name} {' '.join(map(str, numbers))}")

    # Choices of ranges.

    def range_within(self, limit):
        """A range of at least one byte that ends at `limit` at the latest."""
        start = self.random.randrange(limit)
        length = min(self.random.choice((1, 50, PAGE, 5 * PAGE, 16 * PAGE)), limit - start)
        return start, self.random.randint(1, length)

    def blocks_within(self, limit):
        blocks = limit // self.block
        if blocks == 0:
            return None
        start = self.random.randrange(blocks)
        return start * self.block, self.random.randint(1, blocks - start) * self.block

    def bytes(self, length):
        return self.random.randbytes(length)

    def put(self, offset, data, contents=None):
        contents = self.expected if contents is None else contents
        if len(contents) < offset + len(data):
            contents.extend(bytes(offset + len(data) - len(contents)))
        contents[offset : offset + len(data)] = data

    def clear(self, offset, length):
        end = min(offset + length, len(self.expected))
        if offset < end:
            self.expected[offset:end] = bytes(end - offset)

    def verify(self, name, offset, found):
        wanted = self.expected[offset : offset + len(found)]
        if found == wanted:
            return
        at = next(i for i in range(len(found)) if i >= len(wanted) or found[i] != wanted[i])
        raise Difference(f"{name}: byte {offset + at} is {found[at:at + 16].hex()}, "
                         f"not {wanted[at:at + 16].hex()}")

    def verify_all(self):
        size = os.fstat(self.fd).st_size
        if size != len(self.expected):
            raise Difference(f"size is {size}, not {len(self.expected)}")
        self.verify("whole file", 0, os.pread(self.fd, size, 0))
        if os.pread(self.other, self.max + 1, 0) != self.other_expected:
            raise Difference("the other file is not what was copied there")

    # Calls.

    def read(self):
        offset, length = self.range_within(self.max)
        self.note("read", offset, length)
        found = os.pread(self.fd, length, offset)
        if len(found) != max(0, min(length, len(self.expected) - offset)):
            raise Difference(f"read {len(found)} bytes of {length} at {offset}")
        self.verify("read", offset, found)

    def write(self):
        offset, length = self.range_within(self.max)
        self.note("write", offset, length)
        data = self.bytes(length)
        durable = self.random.choice((0, 0, 0, os.RWF_DSYNC, os.RWF_SYNC))
        if os.pwritev(self.fd, [data], offset, durable) != length:
            raise Difference("short write")
        self.put(offset, data)

    def append(self):
        if len(self.expected) >= self.max:
            return
        length = self.range_within(self.max - len(self.expected))[1]
        self.note("append", length)
        data = self.bytes(length)
        if self.random.random() < 0.5:
            os.pwritev(self.fd, [data], 0, os.RWF_APPEND)
        else:
            fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)
            os.write(fd, data)
            os.close(fd)
        self.expected += data

    def mapping(self):
        """The whole file in memory: most often through the mapping that was there before."""
        if self.kept is None or len(self.kept) < len(self.expected) or self.random.random() < 0.2:
            self.drop_mapping()
            self.kept = mmap.mmap(self.fd, len(self.expected))
        if self.random.random() < 0.2:
            self.kept.madvise(self.random.choice(ADVICE))
        return self.kept

    def drop_mapping(self):
        if self.kept is not None:
            self.kept.close()
            self.kept = None

    def map_read(self):
        if not self.expected:
            return
        offset, length = self.range_within(len(self.expected))
        self.note("map-read", offset, length)
        self.verify("mapped", offset, self.mapping()[offset : offset + length])

    def map_write(self):
        if not self.expected:
            return
        offset, length = self.range_within(len(self.expected))
        self.note("map-write", offset, length)
        data = self.bytes(length)
        memory = self.mapping()
        memory[offset : offset + length] = data
        self.mapping_is_dirty = True
        if self.random.random() < 0.5:
            start = offset // PAGE * PAGE
            memory.flush(start, offset + length - start)
        self.put(offset, data)

    def direct_fd(self):
        if self.direct is None:
            self.direct = os.open(self.path, os.O_RDWR | os.O_DIRECT)
        return self.direct

    def direct_range(self):
        pages = self.max // PAGE
        start = self.random.randrange(pages)
        return start * PAGE, self.random.randint(1, min(16, pages - start)) * PAGE

    def direct_read(self):
        offset, length = self.direct_range()
        self.note("direct-read", offset, length)
        with syscalls.aligned_buffer(length) as buffer:
            count = os.preadv(self.direct_fd(), [memoryview(buffer)[:length]], offset)
            if count != max(0, min(length, len(self.expected) - offset)):
                raise Difference(f"direct read of {count} bytes of {length} at {offset}")
            self.verify("direct read", offset, buffer[:count])

    def direct_write(self):
        offset, length = self.direct_range()
        self.note("direct-write", offset, length)
        data = self.bytes(length)
        with syscalls.aligned_buffer(length) as buffer:
            buffer[:length] = data
            count = os.pwritev(self.direct_fd(), [memoryview(buffer)[:length]], offset)
            if count != length:
                raise Difference(f"short direct write: {count} of {length}")
        self.put(offset, data)

    def at_once(self):
        """Reads and writes of ranges that do not overlap, all in flight together."""
        pages = range(self.max // PAGE + 1)
        count = self.random.randint(2, AT_ONCE_MAX)
        cuts = sorted(self.random.sample(pages, 2 * count))
        fd, name = self.random.choice(((self.direct_fd(), "direct"), (self.fd, "buffered")))
        size_before = len(self.expected)
        requests = []
        for first, end in zip(cuts[::2], cuts[1::2]):
            offset, length = first * PAGE, (end - first) * PAGE
            if self.random.random() < 0.6:
                requests.append(aio.write(fd, offset, self.bytes(length)))
            else:
                requests.append(aio.read(fd, offset, length))
        self.note("at-once", name, *requests)
        self.context.submit(requests)
        self.context.completed(len(requests))
        for request in requests:
            if request.is_write:
                if request.result != request.length:
                    raise Difference(f"{request}: {request.result}")
                self.put(request.offset, request.data())
        for request in requests:
            # What another request makes the file longer by, a read may see or not.
            least, most = (
                max(0, min(request.length, size - request.offset))
                for size in (size_before, len(self.expected))
            )
            if not request.is_write and not least <= request.result <= most:
                raise Difference(f"{request}: {request.result}")
            self.verify("at once", request.offset, request.data())

    def truncate(self):
        size = self.random.choice((self.range_within(self.max)[0], len(self.expected) // 2, 0))
        self.note("truncate", size)
        os.ftruncate(self.fd, size)
        del self.expected[size:]
        self.expected.extend(bytes(size - len(self.expected)))

    def sync(self):
        self.note("sync")
        self.random.choice((os.fsync, os.fdatasync))(self.fd)
        self.mapping_is_dirty = False

    def forget(self):
        """Drops pages of the cache: those that are dirty stay."""
        offset, length = self.range_within(self.max)
        self.note("forget", offset, length)
        os.posix_fadvise(self.fd, offset, length, os.POSIX_FADV_DONTNEED)

    def seek(self):
        """No byte that was written may lie in a hole; where zeros pass for data is not asked."""
        if not self.expected:
            return
        position = self.random.randrange(len(self.expected))
        self.note("seek", position)
        if self.mapping_is_dirty:
            os.fsync(self.fd)
            self.mapping_is_dirty = False
        self.check_hole(position, self.seek_to(position, os.SEEK_DATA))
        hole = self.seek_to(position, os.SEEK_HOLE)
        self.check_hole(hole, self.seek_to(hole, os.SEEK_DATA))

    def check_hole(self, start, end):
        if not start <= end <= len(self.expected) or any(self.expected[start:end]):
            raise Difference(f"the hole from {start} to {end} has data")

    def seek_to(self, position, what):
        """Where the next data or hole is. Behind the last data there is the end."""
        try:
            return os.lseek(self.fd, position, what)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return len(self.expected)

    def reopen(self):
        self.note("reopen")
        self.drop_mapping()
        os.close(self.fd)
        if self.direct is not None:
            os.close(self.direct)
            self.direct = None
        self.fd = os.open(self.path, os.O_RDWR)

    def allocate(self):
        offset, length = self.range_within(self.max)
        keep = self.random.random() < 0.5
        self.note("allocate", offset, length, keep)
        syscalls.fallocate(self.fd, syscalls.FALLOC_KEEP_SIZE if keep else 0, offset, length)
        if not keep and offset + length > len(self.expected):
            self.expected.extend(bytes(offset + length - len(self.expected)))

    def punch(self):
        offset, length = self.range_within(self.max)
        self.note("punch", offset, length)
        mode = syscalls.FALLOC_PUNCH_HOLE | syscalls.FALLOC_KEEP_SIZE
        syscalls.fallocate(self.fd, mode, offset, length)
        self.clear(offset, length)

    def zero(self):
        offset, length = self.range_within(self.max)
        keep = self.random.random() < 0.5
        self.note("zero", offset, length, keep)
        mode = syscalls.FALLOC_ZERO_RANGE | (syscalls.FALLOC_KEEP_SIZE if keep else 0)
        syscalls.fallocate(self.fd, mode, offset, length)
        self.clear(offset, length)
        if not keep and offset + length > len(self.expected):
            self.expected.extend(bytes(offset + length - len(self.expected)))

    def collapse(self):
        found = self.blocks_within(len(self.expected))
        if found is None or sum(found) >= len(self.expected):
            return
        offset, length = found
        self.note("collapse", offset, length)
        syscalls.fallocate(self.fd, syscalls.FALLOC_COLLAPSE_RANGE, offset, length)
        del self.expected[offset : offset + length]

    def insert(self):
        found = self.blocks_within(len(self.expected))
        if found is None or found[0] >= len(self.expected):
            return
        offset, length = found
        if len(self.expected) + length > self.max:
            return
        self.note("insert", offset, length)
        syscalls.fallocate(self.fd, syscalls.FALLOC_INSERT_RANGE, offset, length)
        self.expected[offset:offset] = bytes(length)

    def copy(self):
        if not self.expected:
            return
        source, length = self.range_within(len(self.expected))
        target = self.random.randrange(self.max - length + 1)
        if source < target + length and target < source + length:
            return
        self.note("copy", source, target, length)
        ours = (self.fd, self.expected)
        self.copy_between(ours, ours, source, target, length)

    def copy_out(self):
        if not self.expected:
            return
        source, length = self.range_within(len(self.expected))
        target = self.random.randrange(self.max - length + 1)
        self.note("copy-out", source, target, length)
        theirs = (self.other, self.other_expected)
        self.copy_between((self.fd, self.expected), theirs, source, target, length)

    def copy_in(self):
        if not self.other_expected:
            return
        source, length = self.range_within(len(self.other_expected))
        target = self.random.randrange(self.max - length + 1)
        self.note("copy-in", source, target, length)
        theirs = (self.other, self.other_expected)
        self.copy_between(theirs, (self.fd, self.expected), source, target, length)

    def copy_between(self, source, target, source_at, target_at, length):
        source_fd, source_contents = source
        target_fd, target_contents = target
        data = source_contents[source_at : source_at + length]
        if os.copy_file_range(source_fd, target_fd, length, source_at, target_at) != length:
            raise Difference("short copy")
        self.put(target_at, data, target_contents)

    def copy_over_itself(self):
        if len(self.expected) < 2:
            return
        source, length = self.range_within(len(self.expected) - 1)
        target = source + self.random.randrange(length)
        length = min(length, len(self.expected) - target)
        if target >= source + length:
            return
        self.note("copy-over-itself", source, target, length)
        try:
            os.copy_file_range(self.fd, self.fd, length, source, target)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        else:
            raise Difference("a copy within a file over its own source was not refused")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--size", type=int, default=256 * 1024)
    parser.add_argument("--no-extents", action="store_true")
    parser.add_argument("--no-moves", action="store_true")
    options = parser.parse_args()
    exerciser = Exerciser(os.path.abspath(options.file), options)
    try:
        exerciser.run(options.seconds)
    except (Difference, OSError) as error:
        # What the death of a server has left undone is no difference.
        cause = exerciser.why_gone() or error
        print(f"seed {options.seed}, call {exerciser.calls}: {cause}", file=sys.stderr)
        print("\n".join(exerciser.history), file=sys.stderr)
        sys.exit(1)
    print(exerciser.calls)


main()
