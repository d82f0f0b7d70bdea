"""More asynchronous direct writes at once than the kernel sends, beside read-ahead of the same pages.

All go on; no reader waits for writes that wait for him. What was written last is there in the end,
however it is read.
"""

import os

import aio
from races.base import PAGE, Finding, Race, Views, page_range

SIZE = 4 << 20
# Requests that the kernel has in the background at a time: src/fuse/negotiation.ts, MAX_BACKGROUND.
AT_ONCE = 3 * 64
CHUNK = 1 << 17


class Flood(Race):
    def __init__(self, folder, rng, extents):
        super().__init__(folder, rng, extents)
        with open(self.at("stream"), "wb") as file:
            file.write(bytes(SIZE))
        self.views = Views(self.at("stream"), SIZE)

    def roles(self):
        return [self.write, self.stream, self.stream, self.pick]

    def write(self, turns, rng):
        """Page after page, from the start again and again."""
        last = [0] * (SIZE // PAGE)
        with aio.Context(AT_ONCE) as context:
            for turn in turns:
                page = turn % len(last)
                last[page] = turn
                request = aio.write(self.views.direct, page * PAGE, stamped(turn))
                context.submit([request])
                if len(context.in_flight) == AT_ONCE:
                    check_whole(context.completed())
            while context.in_flight:
                check_whole(context.completed())
        for page, turn in enumerate(last):
            for how in self.views.ways:
                if self.views.read(how, page * PAGE, PAGE) != stamped(turn):
                    raise Finding(f"{how}: page {page} is not that of turn {turn}")

    def stream(self, turns, rng):
        """The kernel reads ahead."""
        for turn in turns:
            offset = turn * CHUNK % SIZE
            self.views.read_buffered(offset, CHUNK)
            os.posix_fadvise(self.views.fd, offset, CHUNK, os.POSIX_FADV_DONTNEED)

    def pick(self, turns, rng):
        for _ in turns:
            self.views.read_any(rng, *page_range(rng, SIZE))


def stamped(turn):
    return turn.to_bytes(8, "little") * (PAGE // 8)


def check_whole(requests):
    for request in requests:
        if request.result != request.length:
            raise Finding(f"{request}: {request.result}")
