"""Fills the filesystem that FILE lies on with asynchronous writes past the page cache, many at a time.

Usage: fill_by_aio.py FILE

Prints what the writes after the first that failed answered: a count by errno name, or by `short`.
"""

import collections
import errno
import os
import sys

import aio

WRITE_BYTES = 128 * 1024
DEPTH = 16
# Writes that are made after the first one that fails.
REFUSED_WRITES = 64


def main(path):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
    answers = collections.Counter()
    offset = 0
    with aio.Context(DEPTH) as context:
        while sum(answers.values()) < REFUSED_WRITES:
            requests = [aio.write(fd, offset + n * WRITE_BYTES, b"x" * WRITE_BYTES) for n in range(DEPTH)]
            offset += DEPTH * WRITE_BYTES
            context.submit(requests)
            for request in context.completed(DEPTH):
                if request.result < 0:
                    answers[errno.errorcode[-request.result]] += 1
                elif request.result < WRITE_BYTES:
                    answers["short"] += 1
    print(" ".join(sorted(answers)))


main(sys.argv[1])
