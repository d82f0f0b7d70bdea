"""Blocks of a file come and go under its readers, while another file uses what becomes free.

A reader sees, at each place, the byte that belongs there or zero: never another file's. Where a
write has been reported, and nothing was begun since, it sees no zero either.

That is more than Linux's own ext4 promises (6.18): where mapped writes allocate blocks, a direct
read that meets them gets EIO or, mounted with nodelalloc, bytes of another file.
"""

import os

import syscalls
from races.base import (
    PAGE, SECTOR, Finding, Race, Recycler, Views, check_equal, check_own_or_zero, own, page_range,
    shared_numbers,
)

SIZE = 2 << 20


class Blocks(Race):
    """One process changes the file; `changes` of a subclass are its calls."""

    def __init__(self, folder, rng, extents):
        super().__init__(folder, rng, extents)
        self.pattern = own(rng.random(), SIZE)
        with open(self.at("raced"), "wb") as file:
            file.write(self.pattern)
        self.views = Views(self.at("raced"), SIZE)
        self.expected = bytearray(self.pattern)
        # For each page: odd as long as it has to be there as a whole.
        self.epochs = shared_numbers(SIZE // PAGE)
        self.recycler = Recycler(self.at("other"))

    def roles(self):
        return [self.change, self.read, self.read, self.recycler.recycle]

    def read(self, turns, rng):
        for _ in turns:
            offset, length = page_range(rng, SIZE)
            pages = slice(offset // PAGE, (offset + length) // PAGE)
            before = self.epochs[pages].tolist()
            how, found = self.views.read_any(rng, offset, length)
            after = self.epochs[pages].tolist()
            wanted = self.pattern[offset : offset + length]
            if len(found) != length:
                raise Finding(f"{how} {offset}+{length}: {len(found)} bytes")
            check_own_or_zero(found, wanted, offset, how)
            for index, epoch in enumerate(before):
                if epoch % 2 == 1 and after[index] == epoch:
                    page = slice(index * PAGE, (index + 1) * PAGE)
                    check_equal(found[page], wanted[page], offset + page.start, how)

    def change(self, turns, rng):
        for _ in turns:
            rng.choice(self.changes)(self, rng)
        for how in self.views.ways:
            check_equal(self.views.read(how, 0, SIZE), self.expected, 0, how)

    # Calls.

    def write(self, rng):
        offset, length = page_range(rng, SIZE)
        self.promise(offset, length, False)
        data = self.pattern[offset : offset + length]
        self.views.write(rng.choice(self.views.ways), offset, data)
        self.expected[offset : offset + length] = data
        self.promise(offset, length, True)

    def clear(self, rng, mode):
        """Sectors, so that blocks are cut in two as well."""
        offset = rng.randrange(SIZE // SECTOR) * SECTOR
        length = min(rng.choice((SECTOR, PAGE, 16 * PAGE, 64 * PAGE)), SIZE - offset)
        self.promise(offset, length, False)
        syscalls.fallocate(self.views.fd, mode, offset, length)
        self.expected[offset : offset + length] = bytes(length)

    def punch(self, rng):
        self.clear(rng, syscalls.FALLOC_PUNCH_HOLE | syscalls.FALLOC_KEEP_SIZE)

    def zero(self, rng):
        if self.extents:
            self.clear(rng, syscalls.FALLOC_ZERO_RANGE)

    def allocate(self, rng):
        if self.extents:
            syscalls.fallocate(self.views.fd, 0, *page_range(rng, SIZE, 64))

    def sync(self, rng):
        rng.choice((os.fsync, os.fdatasync))(self.views.fd)

    def promise(self, offset, length, whole):
        for page in range(offset // PAGE, (offset + length - 1) // PAGE + 1):
            if self.epochs[page] % 2 != int(whole):
                self.epochs[page] += 1


class Punching(Blocks):
    """Holes, and zeros that keep their blocks, are made and written to again."""

    changes = [Blocks.punch] * 3 + [Blocks.zero] * 2 + [Blocks.write] * 5 + [Blocks.sync]


class Unwritten(Blocks):
    """Blocks are allocated before they are written to, a piece at a time, and synced in between."""

    changes = [Blocks.punch] + [Blocks.allocate] * 4 + [Blocks.write] * 5 + [Blocks.sync] * 2
