"""Processes append records to one file, through the page cache or past it, while others read it.

No record is torn, lost or there twice, and those of one process are in the order in which it wrote
them. A file takes RECORDS of each process; then they go on to the next.
"""

import os
import struct
import time
import zlib

import syscalls
from races.base import PAGE, Finding, Race, own, shared_numbers

RECORDS = 300
FILES_AHEAD = 2
PAUSE_SECONDS = 0.001
CHUNK = 1 << 20
# Writer, number, bytes in all, CRC-32 of what follows.
HEADER = struct.Struct("<IIII")


def record(writer, number, length):
    payload = own(number, length - HEADER.size)
    return HEADER.pack(writer, number, length, zlib.crc32(payload)) + payload


class Appends(Race):
    def __init__(self, folder, rng, extents):
        super().__init__(folder, rng, extents)
        self.logs = [BufferedLog(self.at("buffered"), 3), DirectLog(self.at("direct"), 2)]

    def roles(self):
        return [role for log in self.logs for role in log.roles()]

    def verify(self):
        for log in self.logs:
            log.verify()


class Log:
    """Files PATH.0, PATH.1 … ; how a record is written is the business of a subclass."""

    def __init__(self, path, writers):
        self.path = path
        self.writers = writers
        # Records that were reported, of each writer, and files that the reader is through with.
        self.reported = shared_numbers(writers)
        self.checked = shared_numbers(1)

    def roles(self):
        return [self.writer(number) for number in range(self.writers)] + [self.follow]

    def file(self, number):
        return f"{self.path}.{number}"

    def writer(self, writer):
        def append(turns, rng):
            for number in turns:
                if number % RECORDS == 0:
                    while number // RECORDS > self.checked[0] + FILES_AHEAD:
                        if turns.is_over():
                            return
                        time.sleep(PAUSE_SECONDS)
                    fd = self.open(self.file(number // RECORDS))
                self.append(fd, rng, writer, number)
                self.reported[writer] = number + 1
                if rng.random() < 0.02:
                    os.fdatasync(fd)
                if number % RECORDS == RECORDS - 1:
                    os.close(fd)

        return append

    def follow(self, turns, rng):
        """Reads what is new; takes a file away that has all its records."""
        reading = Reading(self, 0)
        for _ in turns:
            if not os.path.exists(self.file(self.checked[0])) or not reading.go_on():
                time.sleep(PAUSE_SECONDS)
            if reading.is_complete():
                reading.check_end()
                os.unlink(self.file(self.checked[0]))
                self.checked[0] += 1
                reading = Reading(self, self.checked[0])

    def verify(self):
        """What no reader is through with: all that was reported is there."""
        first = self.checked[0]
        last = (max(self.reported) - 1) // RECORDS
        for number in range(first, last + 1):
            reading = Reading(self, number)
            while reading.go_on():
                pass
            reading.check_end()
            for writer, count in enumerate(reading.next):
                start, end = number * RECORDS, (number + 1) * RECORDS
                if count != min(max(self.reported[writer], start), end):
                    raise Finding(f"{self.file(number)}: writer {writer} reported "
                                  f"{self.reported[writer]} records, and there are {count}")


class BufferedLog(Log):
    def open(self, path):
        return os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)

    def append(self, fd, rng, writer, number):
        data = record(writer, number, rng.choice((20, 100, 1000, 5000, 20_000)))
        write = rng.choice((
            lambda: os.write(fd, data),
            lambda: os.writev(fd, [data[:10], data[10:]]),
            lambda: os.pwritev(fd, [data], 0, os.RWF_APPEND | os.RWF_DSYNC),
        ))
        if write() != len(data):
            raise Finding("a record was written in part")


class DirectLog(Log):
    def open(self, path):
        return os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_DIRECT, 0o644)

    def append(self, fd, rng, writer, number):
        data = record(writer, number, rng.randint(1, 4) * PAGE)
        with syscalls.aligned_buffer(len(data)) as buffer:
            buffer[:] = data
            if os.write(fd, buffer) != len(data):
                raise Finding("a record was written in part")


class Reading:
    """A reader of one file of a log: how far it is, and which record of each writer is the next."""

    def __init__(self, log, number):
        self.path = log.file(number)
        self.position = 0
        self.first = number * RECORDS
        self.next = [self.first] * log.writers

    def is_complete(self):
        return all(count == self.first + RECORDS for count in self.next)

    def go_on(self):
        """Checks the records that are there as a whole. @returns whether there were any."""
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self.position)
            data = file.read(CHUNK)
        at = 0
        while len(data) - at >= HEADER.size:
            writer, number, length, checksum = HEADER.unpack_from(data, at)
            if writer >= len(self.next) or number != self.next[writer] or length < HEADER.size:
                raise Finding(f"{self.path}: no next record at {self.position + at}: "
                              f"{data[at : at + HEADER.size].hex()}; next are {self.next}")
            if len(data) - at < length:
                break
            if zlib.crc32(data[at + HEADER.size : at + length]) != checksum:
                raise Finding(f"{self.path}: record {number} of writer {writer} is torn")
            self.next[writer] += 1
            at += length
        self.position += at
        return at > 0

    def check_end(self):
        size = os.path.getsize(self.path)
        if size != self.position:
            raise Finding(f"{self.path} has {size} bytes, of which {self.position} are records")
