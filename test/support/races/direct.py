"""O_DIRECT beside the page cache: overwrites under readers, and a file that grows by many at once.

Once a direct write has been reported, nobody reads what was there before, however he reads. Of a
file that grows, what was reported is there as it was written; behind that may be zeros, but nothing
else.
"""

import os
import struct

import aio
from races.base import (
    PAGE, Finding, Race, Recycler, Views, check_equal, check_own_or_zero, own, page_range,
    shared_numbers,
)

SIZE = 1 << 20
STRIPE_PAGES = 16
AT_ONCE = 4
LOG_SIZE = 2 << 20


def stamped(page, version):
    """A page that says at every eighth byte where it belongs, and how often it was written."""
    return struct.pack("<II", version, page) * (PAGE // 8)


class Direct(Race):
    def __init__(self, folder, rng, extents):
        super().__init__(folder, rng, extents)
        pages = SIZE // PAGE
        with open(self.at("versions"), "wb") as file:
            file.write(b"".join(stamped(page, 0) for page in range(pages)))
        self.views = Views(self.at("versions"), SIZE)
        # The versions of each page that somebody has begun to write, and that were reported.
        self.begun, self.done = shared_numbers(pages), shared_numbers(pages)
        self.pattern = own(rng.random(), LOG_SIZE)
        with open(self.at("log"), "wb") as file:
            file.write(self.pattern)
        self.log_views = Views(self.at("log"), LOG_SIZE)
        self.epoch, self.reported = shared_numbers(1), shared_numbers(1)
        self.recycler = Recycler(self.at("other"))

    def roles(self):
        return [
            self.overwrite, self.overwrite_at_once, self.read, self.read, self.append, self.follow,
            self.recycler.recycle,
        ]

    # A file whose pages are written again and again. Its stripes belong to two writers in turn.

    def some_pages(self, rng, writer):
        stripe = rng.randrange(SIZE // PAGE // STRIPE_PAGES // 2) * 2 + writer
        start = rng.randrange(STRIPE_PAGES)
        first = stripe * STRIPE_PAGES + start
        return range(first, first + rng.randint(1, STRIPE_PAGES - start))

    def begin(self, pages):
        """The next version of `pages`."""
        for page in pages:
            self.begun[page] += 1
        return b"".join(stamped(page, self.begun[page]) for page in pages)

    def finish(self, pages):
        for page in pages:
            self.done[page] = self.begun[page]

    def overwrite(self, turns, rng):
        for _ in turns:
            pages = self.some_pages(rng, 0)
            self.views.write_direct(pages.start * PAGE, self.begin(pages))
            self.finish(pages)
        self.check_versions()

    def overwrite_at_once(self, turns, rng):
        with aio.Context(AT_ONCE) as context:
            for _ in turns:
                chosen = {}
                for _ in range(AT_ONCE):
                    pages = self.some_pages(rng, 1)
                    chosen[pages.start // STRIPE_PAGES] = pages
                requests = {}
                for pages in chosen.values():
                    request = aio.write(self.views.direct, pages.start * PAGE, self.begin(pages))
                    requests[request] = pages
                context.submit(requests)
                while context.in_flight:
                    for request in context.completed():
                        check_whole(request)
                        self.finish(requests[request])

    def read(self, turns, rng):
        for _ in turns:
            offset, length = page_range(rng, SIZE)
            pages = range(offset // PAGE, (offset + length) // PAGE)
            least = self.done[pages.start : pages.stop].tolist()
            how, found = self.views.read_any(rng, offset, length)
            most = self.begun[pages.start : pages.stop].tolist()
            if len(found) != length:
                raise Finding(f"{how} {offset}+{length}: {len(found)} bytes")
            for at, page in enumerate(pages):
                self.check_page(how, found[at * PAGE : (at + 1) * PAGE], page, least[at], most[at])

    def check_page(self, how, found, page, least, most):
        for word in set(memoryview(found).cast("Q")):
            version, place = word & 0xFFFFFFFF, word >> 32
            if place != page or not least <= version <= most:
                raise Finding(f"{how}: page {page} holds version {version} of page {place}, when "
                              f"{least} was written and {most} begun")

    def check_versions(self):
        for page in range(SIZE // PAGE):
            for how in self.views.ways:
                found = self.views.read(how, page * PAGE, PAGE)
                self.check_page(how, found, page, self.done[page], self.begun[page])

    # A file that grows.

    def append(self, turns, rng):
        fd = self.log_views.direct
        size = LOG_SIZE
        with aio.Context(AT_ONCE) as context:
            for _ in turns:
                if size == LOG_SIZE:
                    self.reported[0] = 0
                    self.epoch[0] += 1
                    os.ftruncate(fd, 0)
                    size = 0
                requests = []
                for _ in range(rng.randint(1, AT_ONCE)):
                    length = min(rng.randint(1, 4) * PAGE, LOG_SIZE - size)
                    if length > 0:
                        requests.append(aio.write(fd, size, self.pattern[size : size + length]))
                        size += length
                context.submit(requests)
                while context.in_flight:
                    for request in context.completed():
                        check_whole(request)
                    self.report(requests)

    def report(self, requests):
        """As far as all have completed."""
        for request in requests:
            if request.result is None:
                break
            self.reported[0] = request.offset + request.length

    def follow(self, turns, rng):
        for _ in turns:
            offset, length = page_range(rng, LOG_SIZE)
            epoch, reported = self.epoch[0], self.reported[0]
            how, found = self.log_views.read_any(rng, offset, length)
            wanted = self.pattern[offset : offset + length]
            check_own_or_zero(found, wanted[: len(found)], offset, how)
            if self.epoch[0] == epoch:
                sure = max(0, min(length, reported - offset))
                check_equal(found[:sure], wanted[:sure], offset, f"{how}, of {reported} bytes,")


def check_whole(request):
    if request.result != request.length:
        raise Finding(f"{request}: {request.result}")
