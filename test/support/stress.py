"""Several processes that create, change, move, sync and remove files at random; and what must be left.

Usage: stress.py run ROOT LOG --seed N --seconds N [--workers N]
       stress.py verify ROOT LOG

Each worker has a folder of its own below ROOT, and all meet in one. A worker writes down in LOG.n,
which must lie elsewhere, what it is about to do and what was synced. `verify` reads that and says what
is not as promised, whether the filesystem was unmounted in between, killed, or neither; a run that
ends by itself syncs everything first. A filesystem that goes away ends a run, too, with exit code 0.
"""

import argparse
import errno
import json
import mmap
import os
import random
import shutil
import signal
import sys
import time

import syscalls

GONE = (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.ESTALE, errno.ENODEV, errno.EROFS)
LENGTHS = (0, 1, 60, 700, 4096, 5000, 20_000, 70_000, 300_000)
RECORD = 100
VERSION_BYTES = 65_536
SECTOR = 512
FILES_MAX = 60
FINDINGS_MAX = 20


def noise(seed, length):
    return random.Random(seed).randbytes(length)


def record(index):
    return noise(index, RECORD)


class Worker:
    def __init__(self, root, log, number, seed):
        # Paths are relative, or work would go on below a mount that has gone away.
        os.chdir(root)
        if not os.path.ismount("."):
            raise OSError(errno.ENOTCONN, "not mounted any more")
        self.folder = f"worker{number}"
        self.shared = "shared"
        self.random = random.Random(seed)
        self.log = open(f"{log}.{number}", "a", buffering=1)
        self.files = {}
        self.unsynced = set()
        self.records = 0
        self.version = 0
        self.count = 0
        os.makedirs(self.folder, exist_ok=True)
        os.makedirs(self.shared, exist_ok=True)

    def note(self, *words):
        self.log.write(json.dumps(words) + "\n")

    def at(self, name):
        return os.path.join(self.folder, name)

    def run(self, seconds):
        self.start_over()
        actions = (
            [self.create] * 10 + [self.sync_file] * 6 + [self.rename] * 5 + [self.remove] * 6
            + [self.append] * 6 + [self.new_version] * 4 + [self.folders] * 3 + [self.meet] * 6
            + [self.sync_all] + [self.attribute] * 3 + [self.read] * 5
        )
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.random.choice(actions)()
            self.count += 1
        self.sync_all()

    def start_over(self):
        """What an earlier run has left goes away."""
        self.note("nothing")
        shutil.rmtree(self.folder)
        os.mkdir(self.folder)
        for name in ("records", "versions"):
            os.close(os.open(self.at(name), os.O_CREAT | os.O_RDWR, 0o644))
        self.sync(".")
        self.note("started")

    def sync_all(self):
        """Everything. A FUSE server is not told of syncfs(2), so each file has its own sync."""
        for name in self.unsynced:
            if name in self.files:
                self.sync(name)
        self.sync(".")
        for name in self.unsynced:
            self.note("is", name, self.files.get(name))
        self.unsynced.clear()
        self.sync("records")
        self.note("records", self.records)
        self.sync("versions")
        self.note("version", self.version)

    def sync(self, name):
        fd = os.open(self.at(name), os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)

    def pick(self):
        return self.random.choice(list(self.files)) if self.files else None

    def create(self):
        if len(self.files) >= FILES_MAX:
            return self.remove()
        name = f"f{self.count}" + "-" * self.random.randrange(60)
        length = self.random.choice(LENGTHS)
        seed = self.random.randrange(1 << 30)
        self.note("will", name, [seed, length])
        fd = os.open(self.at(name), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
        self.fill(fd, noise(seed, length))
        os.close(fd)
        self.files[name] = [seed, length]
        self.unsynced.add(name)
        return None

    def fill(self, fd, data):
        way = self.random.randrange(4)
        if way == 0 and data:
            os.ftruncate(fd, len(data))
            with mmap.mmap(fd, len(data)) as memory:
                memory[:] = data
        elif way == 1 and data:
            syscalls.fallocate(fd, 0, 0, len(data))
            for at in reversed(range(0, len(data), 8192)):
                os.pwrite(fd, data[at : at + 8192], at)
        else:
            os.write(fd, data)

    def sync_file(self):
        name = self.pick()
        if name is None:
            return
        self.sync(name)
        self.note("is", name, self.files[name])
        self.unsynced.discard(name)

    def read(self):
        name = self.pick()
        if name is None:
            return
        with open(self.at(name), "rb") as file:
            if file.read() != noise(*self.files[name]):
                raise AssertionError(f"{self.at(name)} is not what was written")

    def rename(self):
        name = self.pick()
        if name is None:
            return
        other = self.pick() if self.random.random() < 0.4 else f"m{self.count}"
        if other == name:
            return
        self.note("moves", name, other, self.files[name])
        os.rename(self.at(name), self.at(other))
        self.files[other] = self.files.pop(name)
        wrote_all = name not in self.unsynced
        self.unsynced |= {name, other}
        if wrote_all and self.random.random() < 0.5:
            self.sync(".")
            for each in (name, other):
                self.note("is", each, self.files.get(each))
                self.unsynced.discard(each)

    def remove(self):
        name = self.pick()
        if name is None:
            return
        self.note("will", name, None)
        os.unlink(self.at(name))
        del self.files[name]
        self.unsynced.add(name)
        if self.random.random() < 0.3:
            self.sync(".")
            self.note("is", name, None)
            self.unsynced.discard(name)

    def append(self):
        fd = os.open(self.at("records"), os.O_WRONLY | os.O_APPEND)
        for _ in range(self.random.randrange(1, 60)):
            os.write(fd, record(self.records))
            self.records += 1
        if self.random.random() < 0.7:
            os.fdatasync(fd)
            self.note("records", self.records)
        os.close(fd)

    def new_version(self):
        self.note("next-version", self.version + 1)
        self.version += 1
        fd = os.open(self.at("versions"), os.O_RDWR)
        os.pwrite(fd, noise(self.version, VERSION_BYTES), 0)
        os.fdatasync(fd)
        os.close(fd)
        self.note("version", self.version)

    def attribute(self):
        name = self.pick()
        if name is None:
            return
        os.setxattr(self.at(name), "user.note", noise(self.count, self.random.choice((10, 300))))
        os.chmod(self.at(name), self.random.choice((0o600, 0o644, 0o755)))

    def folders(self):
        top = self.at(f"d{self.count}")
        for depth in range(3):
            os.makedirs(f"{top}/{depth}/inner")
            os.symlink("somewhere" * 10, f"{top}/{depth}/link")
        shutil.rmtree(top)

    def meet(self):
        """Names that all workers use: each call may find that another was quicker."""
        name = os.path.join(self.shared, f"s{self.random.randrange(30)}")
        other = os.path.join(self.shared, f"s{self.random.randrange(30)}")
        try:
            self.random.choice((
                lambda: os.close(os.open(name, os.O_CREAT | os.O_RDWR, 0o666)),
                lambda: os.unlink(name),
                lambda: os.rename(name, other),
                lambda: os.link(name, other),
                lambda: os.truncate(name, self.random.randrange(50_000)),
                lambda: syscalls.renameat2(name.encode(), other.encode(), 2),
            ))()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EEXIST):
                raise


def run(options):
    children = []
    for number in range(options.workers):
        child = os.fork()
        if child == 0:
            os._exit(work(options, number))
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    # A mapping of a file that has gone away.
    bad = [code for code in codes if code not in (0, -signal.SIGBUS)]
    sys.exit(1 if bad else 0)


def work(options, number):
    log = os.path.abspath(options.log)
    try:
        worker = Worker(options.root, log, number, options.seed * 1000 + number)
        worker.run(options.seconds)
        print(worker.count, flush=True)
        return 0
    except OSError as error:
        if error.errno in GONE:
            return 0
        print(f"seed {options.seed}, worker {number}: {error}", file=sys.stderr, flush=True)
        return 1
    except AssertionError as error:
        print(f"seed {options.seed}, worker {number}: {error}", file=sys.stderr, flush=True)
        return 1


class Expected:
    """What one worker's log says must, and may, be there."""

    def __init__(self):
        self.clear()

    def clear(self):
        self.started = False
        # Acceptable states by name: None, [seed, length], or "any" for what was not synced yet.
        self.states = {}
        # The last rename, as long as nothing else has happened to its names.
        self.move = None
        self.records = 0
        self.version = 0
        self.version_max = 0

    def read(self, line):
        what, *words = json.loads(line)
        if what == "nothing":
            self.clear()
        elif what == "started":
            self.started = True
        elif what == "will":
            name, state = words
            self.allow(name, None if state is None else "any")
            self.forget_move(name)
        elif what == "moves":
            source, target, state = words
            # Of contents that are not synced yet, anything may be there, under either name.
            synced = self.states.get(source) == [state]
            self.move = (source, target, state) if synced else None
            self.allow(source, None)
            self.allow(target, state if synced else "any")
        elif what == "is":
            name, state = words
            self.states[name] = [state]
            self.forget_move(name)
        elif what == "records":
            self.records = words[0]
        elif what == "next-version":
            self.version_max = words[0]
        elif what == "version":
            self.version = self.version_max = words[0]

    def forget_move(self, name):
        if self.move is not None and name in self.move[:2]:
            self.move = None

    def allow(self, name, state):
        states = self.states.setdefault(name, [None])
        if state not in states:
            states.append(state)


def verify(options):
    findings = []
    for number in range(options.workers):
        path = f"{options.log}.{number}"
        expected = Expected()
        if os.path.exists(path):
            with open(path) as lines:
                for line in lines:
                    expected.read(line)
        if expected.started:
            findings += verify_worker(os.path.join(options.root, f"worker{number}"), expected)
    for finding in findings[:FINDINGS_MAX]:
        print(finding)
    sys.exit(1 if findings else 0)


def verify_worker(folder, expected):
    found = {}
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            with open(path, "rb") as file:
                found[name] = file.read()
    records, versions = found.pop("records", None), found.pop("versions", None)
    findings = verify_records(records, expected) + verify_versions(versions, expected)
    for name, data in found.items():
        if name not in expected.states:
            findings.append(f"{name} of {len(data)} bytes was never made")
    for name, states in expected.states.items():
        data = found.get(name)
        if not any(fits(data, state) for state in states):
            length = "missing" if data is None else f"{len(data)} bytes that differ"
            findings.append(f"{name}: {length}, expected one of {states}")
    if expected.move is not None:
        source, target, state = expected.move
        if not any(fits(found.get(name), state) for name in (source, target)):
            findings.append(f"{source} is lost between its old name and {target}")
    return [f"{folder}: {finding}" for finding in findings]


def fits(data, state):
    if state == "any":
        return data is not None
    if state is None or data is None:
        return state is None and data is None
    seed, length = state
    return len(data) == length and data == noise(seed, length)


def verify_records(data, expected):
    if data is None:
        return ["records: missing"]
    synced = b"".join(record(index) for index in range(expected.records))
    if data[: len(synced)] == synced:
        return []
    same = next((i for i in range(min(len(data), len(synced))) if data[i] != synced[i]), len(data))
    return [f"records: {len(data)} bytes, wrong at {same}; {len(synced)} bytes were synced"]


def verify_versions(data, expected):
    if data is None:
        return ["versions: missing"]
    if expected.version_max == 0:
        return []
    if len(data) != VERSION_BYTES and expected.version > 0:
        return [f"versions: {len(data)} bytes"]
    known = [noise(expected.version, VERSION_BYTES) if expected.version > 0 else bytes(VERSION_BYTES)]
    known.append(noise(expected.version_max, VERSION_BYTES))
    for at in range(0, len(data), SECTOR):
        sector = data[at : at + SECTOR]
        if not any(version[at : at + SECTOR][: len(sector)] == sector for version in known):
            return [f"versions: the bytes at {at} are neither version {expected.version} nor later"]
    return []


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("run", "verify"))
    parser.add_argument("root")
    parser.add_argument("log")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--workers", type=int, default=4)
    options = parser.parse_args()
    if options.what == "run":
        run(options)
    verify(options)


main()
