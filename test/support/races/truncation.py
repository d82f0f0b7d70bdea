"""Files become shorter and longer under mappings and readers.

What lies between an old end of a file and a new one is zeros, whoever has it mapped, and whatever
was there before. In "cut" only one process writes behind LOW, so that it can tell; in "torn"
mappings are written to everywhere, and only the bytes that belong there and zeros can be told from
others. What races/blocks.py says of direct reads on the kernel's ext4 holds here, too.
"""

import os

import syscalls
from races.base import (
    PAGE, Race, Recycler, Views, check_equal, check_own_or_zero, own, page_range,
)

SIZE = 1 << 20
LOW = SIZE // 4


class Truncation(Race):
    def __init__(self, folder, rng, extents):
        super().__init__(folder, rng, extents)
        self.pattern = own(rng.random(), SIZE)
        for name in ("cut", "torn"):
            with open(self.at(name), "wb") as file:
                file.write(self.pattern)
        self.views_of_cut = Views(self.at("cut"), SIZE)
        self.views_of_torn = Views(self.at("torn"), SIZE)
        self.recycler = Recycler(self.at("other"))

    def roles(self):
        return [self.cut, self.tear, self.write, self.read, self.read, self.recycler.recycle]

    def cut(self, turns, rng):
        views = self.views_of_cut
        for _ in turns:
            end = rng.randrange(LOW, SIZE)
            os.ftruncate(views.fd, end)
            expected = self.pattern[:end] + bytes(SIZE - end)
            expected = self.lengthen(views, rng, expected, end)
            for how in rng.sample(views.ways, 2):
                start = end // PAGE * PAGE
                check_equal(views.read(how, start, SIZE - start), expected[start:], start, how)
            start = end // PAGE * PAGE
            views.write(rng.choice(views.ways), start, self.pattern[start:])
        check_equal(views.read_buffered(0, SIZE), self.pattern, 0, "buffered")

    def lengthen(self, views, rng, expected, end):
        """Gives the file its old size, from `end`. @returns what it must hold then."""
        way = rng.randrange(4)
        if way == 0 and self.extents:
            syscalls.fallocate(views.fd, 0, end, SIZE - end)
        elif way == 1:
            start = rng.randrange(end, SIZE)
            views.write_buffered(start, self.pattern[start:])
            return expected[:start] + self.pattern[start:]
        elif way == 2:
            start = -(-end // PAGE) * PAGE
            start = min(start + rng.randrange(4) * PAGE, SIZE - PAGE)
            if start >= end:
                views.write_direct(start, self.pattern[start:])
                return expected[:start] + self.pattern[start:]
        os.ftruncate(views.fd, SIZE)
        return expected

    def tear(self, turns, rng):
        fd = self.views_of_torn.fd
        for _ in turns:
            os.ftruncate(fd, rng.randrange(SIZE))
            if rng.random() < 0.3:
                os.pwrite(fd, self.pattern[-PAGE:], SIZE - PAGE)
            os.ftruncate(fd, SIZE)
        os.ftruncate(fd, SIZE)

    def write(self, turns, rng):
        """Through mappings: before the end that moves, and behind it."""
        cut, torn = self.views_of_cut, self.views_of_torn
        for _ in turns:
            offset, length = page_range(rng, LOW)
            cut.write_mapped(offset, self.pattern[offset : offset + length])
            offset, length = page_range(rng, SIZE)
            torn.write_mapped(offset, self.pattern[offset : offset + length])
            if rng.random() < 0.05:
                os.fsync(rng.choice((cut.fd, torn.fd)))

    def read(self, turns, rng):
        for _ in turns:
            offset, length = page_range(rng, SIZE)
            views = rng.choice((self.views_of_cut, self.views_of_torn))
            how, found = views.read_any(rng, offset, length)
            wanted = self.pattern[offset : offset + len(found)]
            check_own_or_zero(found, wanted, offset, how)
