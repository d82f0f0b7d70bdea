"""Fills a filesystem to the last block or inode, checks what was said to succeed, and empties it.

Usage: fill.py ROOT data|inodes|directories|mixed [--rounds N]

After each round the filesystem must be as full as it claims to be, hold all that it has accepted, and
have as much room as before once everything is removed. Prints how much fitted in, per round.
"""

import argparse
import errno
import os
import random
import shutil
import sys
import time

import syscalls

PATIENCE_SECONDS = 5


class Filler:
    def __init__(self, root, seed):
        self.root = os.path.join(root, "fill")
        self.random = random.Random(seed)
        self.files = {}
        self.directories = []

    def __enter__(self):
        os.mkdir(self.root)
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.root)

    def at(self, name):
        return os.path.join(self.root, name)

    def write_file(self, name, pieces):
        """Writes pieces until one does not fit whole. Returns whether all did."""
        self.files[name] = []
        fd = os.open(self.at(name), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        try:
            for length in pieces:
                seed = self.random.randrange(1 << 30)
                data = random.Random(seed).randbytes(length)
                count = write_durably(fd, data)
                self.files[name].append((seed, length, count))
                if count < length:
                    return False
        finally:
            os.close(fd)
        return True

    def data(self):
        number = 0
        while self.write_file(f"data{number}", [1 << 20] * 8 + [5000] * 3):
            number += 1
        # What is left takes small files only.
        while self.attempt(lambda: self.write_file(f"small{number}", [4096])):
            number += 1
        return sum(count for pieces in self.files.values() for _, _, count in pieces)

    def inodes(self):
        def make(number):
            os.close(os.open(self.at(f"i{number}"), os.O_CREAT | os.O_EXCL, 0o644))
            self.files[f"i{number}"] = []

        return self.until_full(make)

    def make_directories(self):
        def make(number):
            parent = self.directories[number // 50] if number // 50 < len(self.directories) else ""
            name = os.path.join(parent, f"d{number}")
            os.mkdir(self.at(name))
            self.directories.append(name)

        return self.until_full(make)

    def mixed(self):
        def make(number):
            if number % 7 == 0:
                os.mkdir(self.at(f"d{number}"))
                self.directories.append(f"d{number}")
            elif number % 11 == 0:
                os.symlink("l" * 300, self.at(f"l{number}"))
            elif not self.write_file(f"m{number}", [self.random.randrange(60_000)]):
                raise OSError(errno.ENOSPC, "a short write")

        return self.until_full(make)

    def until_full(self, make):
        number = 0
        while self.attempt(lambda: make(number) or True):
            number += 1
        return number

    def attempt(self, action):
        try:
            return action()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return False

    def verify(self):
        for name, pieces in self.files.items():
            with open(self.at(name), "rb") as file:
                for seed, length, count in pieces:
                    if file.read(count) != random.Random(seed).randbytes(length)[:count]:
                        raise AssertionError(f"{name} is not what was written")
                if file.read(1):
                    raise AssertionError(f"{name} is longer than what was written")
        for name in self.directories:
            if not os.path.isdir(self.at(name)):
                raise AssertionError(f"{name} is missing")


def write_durably(fd, data):
    """Writes and syncs as much of `data` as fits. Returns how much that was."""
    count = 0
    try:
        while count < len(data):
            count += os.write(fd, data[count:])
        os.fdatasync(fd)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    return count


def room(root):
    fd = os.open(root, os.O_RDONLY)
    syscalls.syncfs(fd)
    os.close(fd)
    found = os.statvfs(root)
    return found.f_bfree, found.f_ffree


def room_again(root, wanted):
    """The room when all has come back; a FUSE server hears of the last removal a little later."""
    end = time.monotonic() + PATIENCE_SECONDS
    found = room(root)
    while found != wanted and time.monotonic() < end:
        time.sleep(0.02)
        found = room(root)
    return found


def one_round(root, what, seed):
    before = room(root)
    with Filler(root, seed) as filler:
        actions = {
            "data": filler.data, "inodes": filler.inodes,
            "directories": filler.make_directories, "mixed": filler.mixed,
        }
        amount = actions[what]()
        full = room(root)
        block = os.statvfs(root).f_bsize
        # A fiftieth of all blocks, at most, is kept back for maps that must not fail.
        kept = os.statvfs(root).f_blocks // 40
        # A directory or a large file can be refused for want of a second block, or of an index.
        if full[0] > 8 + kept and full[1] > 0:
            raise AssertionError(f"refused with {full[0]} blocks of {block} and {full[1]} inodes free")
        filler.verify()
    after = room_again(root, before)
    if after != before:
        raise AssertionError(f"(blocks, inodes) free: {before} before, {after} after")
    return amount


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("root")
    parser.add_argument("what", choices=("data", "inodes", "directories", "mixed"))
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    for number in range(options.rounds):
        try:
            print(one_round(options.root, options.what, number), flush=True)
        except AssertionError as error:
            sys.exit(f"round {number} of {options.what}: {error}")


main()
