"""Several processes that create, change, move, sync and remove files at random; and what must be left.

Usage: stress.py run ROOT LOG --seed N --seconds N [--workers N]
       stress.py verify ROOT LOG

Files are made, filled, copied, linked and renamed in all the ways there are, with xattrs, ACLs and
flags. Each worker has a folder of its own below ROOT, and all meet in one, where they also pull the
same files from under each other. A worker writes down in LOG.n, which must lie elsewhere, what it
is about to do and what was synced. `verify` reads that and says what is not as promised, whether
the filesystem was unmounted in between, killed, or neither; a run that ends by itself syncs
everything first. A filesystem that goes away ends a run, too, with exit code 0.
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

import aio
import syscalls

GONE = (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.ESTALE, errno.ENODEV, errno.EROFS)
LENGTHS = (0, 1, 60, 700, 4096, 5000, 20_000, 70_000, 300_000)
RECORD = 100
VERSION_BYTES = 65_536
SECTOR = 512
PAGE = 4096
AT_ONCE = 4
NODUMP, NOATIME, SYNC = 0x40, 0x80, 0x8
SHARED_BYTES = 50_000
OTHERS_WERE_QUICKER = (errno.ENOENT, errno.EEXIST, errno.ELOOP, errno.EFAULT)
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
            + [self.sync_all, self.sync_filesystem] + [self.attribute] * 3 + [self.read] * 5
            + [self.link] * 3 + [self.exchange] * 3 + [self.copy] * 3 + [self.nameless] * 2
            + [self.flags] * 2 + [self.access_list] * 2
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

    def sync_filesystem(self):
        fd = os.open(".", os.O_RDONLY)
        syscalls.syncfs(fd)
        os.close(fd)

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
        self.made(name, [seed, length])
        return None

    def made(self, name, state):
        self.files[name] = state
        self.unsynced.add(name)

    def fill(self, fd, data):
        if not data:
            return
        ways = (
            self.fill_mapped, self.fill_backwards, self.fill_over_others, self.fill_at_once,
            self.fill_plainly, self.fill_plainly,
        )
        self.random.choice(ways)(fd, data)

    def fill_plainly(self, fd, data):
        os.write(fd, data)

    def fill_mapped(self, fd, data):
        os.ftruncate(fd, len(data))
        with mmap.mmap(fd, len(data)) as memory:
            memory[:] = data

    def fill_backwards(self, fd, data):
        """Into blocks that were allocated before."""
        syscalls.fallocate(fd, 0, 0, len(data))
        for at in reversed(range(0, len(data), 8192)):
            os.pwrite(fd, data[at : at + 8192], at)

    def fill_over_others(self, fd, data):
        """Over other bytes, with holes and zeros in between, and more behind that is cut off."""
        os.write(fd, b"x" * (len(data) + 10_000))
        syscalls.fallocate(fd, syscalls.FALLOC_PUNCH_HOLE | syscalls.FALLOC_KEEP_SIZE, 0, len(data))
        syscalls.fallocate(fd, syscalls.FALLOC_ZERO_RANGE, len(data) // 2, 5000)
        os.pwrite(fd, data, 0)
        os.ftruncate(fd, len(data))

    def fill_at_once(self, fd, data):
        """Past the page cache, several pieces in flight; then the rest, which is no whole page."""
        whole = len(data) // PAGE * PAGE
        direct = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_DIRECT)
        with aio.Context(AT_ONCE) as context:
            piece = max(PAGE, -(-whole // AT_ONCE // PAGE) * PAGE)
            context.submit(
                aio.write(direct, at, data[at : min(at + piece, whole)])
                for at in range(0, whole, piece)
            )
            while context.in_flight:
                for request in context.completed():
                    if request.result != request.length:
                        code = -request.result if request.result < 0 else errno.EIO
                        raise OSError(code, f"{request}: {request.result}")
        os.close(direct)
        os.pwrite(fd, data[whole:], whole)

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
        # Of two names of one file, rename(2) leaves both.
        if self.files.get(other) is self.files[name]:
            return
        flags = self.random.choice((0, 0, syscalls.RENAME_NOREPLACE, syscalls.RENAME_WHITEOUT))
        if flags == syscalls.RENAME_NOREPLACE and other in self.files:
            self.expect(errno.EEXIST, lambda: self.rename_with(name, other, flags))
            return
        self.note("moves", name, other, self.files[name])
        self.rename_with(name, other, flags)
        if flags == syscalls.RENAME_WHITEOUT:
            os.unlink(self.at(name))
        self.files[other] = self.files.pop(name)
        wrote_all = name not in self.unsynced
        self.unsynced |= {name, other}
        if wrote_all and self.random.random() < 0.5:
            self.sync(".")
            for each in (name, other):
                self.note("is", each, self.files.get(each))
                self.unsynced.discard(each)

    def rename_with(self, name, other, flags):
        syscalls.renameat2(os.fsencode(self.at(name)), os.fsencode(self.at(other)), flags)

    def expect(self, number, action):
        try:
            action()
        except OSError as error:
            if error.errno == number:
                return
            raise
        raise AssertionError(f"{errno.errorcode[number]} did not come")

    def exchange(self):
        name, other = self.pick(), self.pick()
        if name == other:
            return
        self.note("will", name, self.files[other])
        self.note("will", other, self.files[name])
        self.rename_with(name, other, syscalls.RENAME_EXCHANGE)
        self.files[name], self.files[other] = self.files[other], self.files[name]
        self.unsynced |= {name, other}

    def link(self):
        name = self.pick()
        if name is None or len(self.files) >= FILES_MAX:
            return
        other = f"l{self.count}"
        self.note("will", other, self.files[name])
        os.link(self.at(name), self.at(other))
        self.made(other, self.files[name])

    def copy(self):
        name = self.pick()
        if name is None or len(self.files) >= FILES_MAX:
            return
        state = self.files[name]
        other = f"c{self.count}"
        self.note("will", other, state)
        source = os.open(self.at(name), os.O_RDONLY)
        target = os.open(self.at(other), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        left = state[1]
        while left > 0:
            left -= os.copy_file_range(source, target, left)
        os.close(source)
        os.close(target)
        # Another file than the first, though it has the same contents.
        self.made(other, [*state])

    def nameless(self):
        """A file that gets its name when it is complete."""
        if len(self.files) >= FILES_MAX:
            return
        state = [self.random.randrange(1 << 30), self.random.choice(LENGTHS)]
        name = f"t{self.count}"
        fd = os.open(self.folder, os.O_TMPFILE | os.O_RDWR, 0o644)
        self.fill(fd, noise(*state))
        self.note("will", name, state)
        syscalls.linkat(
            b"/proc/self/fd/%d" % fd, os.fsencode(self.at(name)), syscalls.AT_SYMLINK_FOLLOW
        )
        os.close(fd)
        self.made(name, state)

    def flags(self):
        name = self.pick()
        if name is None:
            return
        fd = os.open(self.at(name), os.O_RDONLY)
        flags = self.random.choice((NODUMP, NOATIME, SYNC, NODUMP | SYNC))
        before = syscalls.get_flags(fd)
        syscalls.set_flags(fd, before ^ flags)
        if syscalls.get_flags(fd) != before ^ flags:
            raise AssertionError(f"{self.at(name)} does not have the flags that were set")
        os.close(fd)

    def access_list(self):
        name = self.pick()
        if name is None:
            return
        value = syscalls.acl(
            (syscalls.ACL_USER_OBJ, 6, syscalls.ACL_NO_ID), (syscalls.ACL_USER, 4, self.count),
            (syscalls.ACL_GROUP_OBJ, 4, syscalls.ACL_NO_ID),
            (syscalls.ACL_MASK, 6, syscalls.ACL_NO_ID),
            (syscalls.ACL_OTHER, 0, syscalls.ACL_NO_ID),
        )
        os.setxattr(self.at(name), "system.posix_acl_access", value)
        if os.getxattr(self.at(name), "system.posix_acl_access") != value:
            raise AssertionError(f"{self.at(name)} does not have the ACL that was set")

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
        value = noise(self.count, self.random.choice((10, 300)))
        os.setxattr(self.at(name), "user.note", value)
        if os.getxattr(self.at(name), "user.note") != value:
            raise AssertionError(f"{self.at(name)} does not have the xattr that was set")
        if self.random.random() < 0.3:
            os.removexattr(self.at(name), "user.note")
        os.chmod(self.at(name), self.random.choice((0o600, 0o644, 0o755)))

    def folders(self):
        top = self.at(f"d{self.count}")
        for depth in range(3):
            os.makedirs(f"{top}/{depth}/inner")
            os.symlink("somewhere" * 10, f"{top}/{depth}/link")
            if os.readlink(f"{top}/{depth}/link") != "somewhere" * 10:
                raise AssertionError(f"{top}/{depth}/link leads elsewhere")
        self.expect(errno.ENOTEMPTY, lambda: os.rmdir(top))
        os.rename(f"{top}/0/inner", f"{top}/1/moved")
        shutil.rmtree(top)

    def meet(self):
        """Names that all workers use: each call may find that another was quicker."""
        name = os.path.join(self.shared, f"s{self.random.randrange(30)}")
        other = os.path.join(self.shared, f"s{self.random.randrange(30)}")
        flags = self.random.choice((syscalls.RENAME_NOREPLACE, syscalls.RENAME_EXCHANGE))
        try:
            self.random.choice((
                lambda: os.close(os.open(name, os.O_CREAT | os.O_RDWR, 0o666)),
                lambda: os.unlink(name),
                lambda: os.rename(name, other),
                lambda: os.link(name, other),
                lambda: os.symlink(os.path.basename(other), name),
                lambda: os.truncate(name, self.random.randrange(SHARED_BYTES)),
                lambda: syscalls.renameat2(os.fsencode(name), os.fsencode(other), flags),
                lambda: self.change_shared(name, other),
                lambda: self.change_shared(name, other),
            ))()
        except OSError as error:
            if error.errno not in OTHERS_WERE_QUICKER:
                raise

    def change_shared(self, name, other):
        """Contents that others change, too; nobody checks them, but the filesystem must be sound."""
        fd = os.open(name, os.O_RDWR)
        offset, length = self.random.randrange(SHARED_BYTES), self.random.randrange(1, SHARED_BYTES)
        keep = syscalls.FALLOC_KEEP_SIZE
        try:
            self.random.choice((
                lambda: os.pwrite(fd, noise(offset, length), offset),
                lambda: syscalls.fallocate(fd, 0, offset, length),
                lambda: syscalls.fallocate(fd, keep, offset, length),
                lambda: syscalls.fallocate(fd, keep | syscalls.FALLOC_PUNCH_HOLE, offset, length),
                lambda: syscalls.fallocate(fd, keep | syscalls.FALLOC_ZERO_RANGE, offset, length),
                lambda: self.copy_shared(fd, other, offset, length),
                lambda: self.write_at_once(name),
                lambda: self.write_mapped(fd),
                lambda: os.fdatasync(fd),
            ))()
        finally:
            os.close(fd)

    def copy_shared(self, fd, other, offset, length):
        target = os.open(other, os.O_WRONLY)
        # A file is not copied over itself.
        if not os.path.sameopenfile(fd, target):
            os.copy_file_range(fd, target, length, offset, offset)
        os.close(target)

    def write_at_once(self, name):
        fd = os.open(name, os.O_RDWR | os.O_DIRECT)
        with aio.Context(AT_ONCE) as context:
            context.submit(aio.write(fd, at * PAGE, noise(at, PAGE)) for at in range(AT_ONCE))
            context.completed(AT_ONCE)
        os.close(fd)

    def write_mapped(self, fd):
        """By way of the kernel, which answers EFAULT when the file has become shorter meanwhile."""
        size = os.fstat(fd).st_size
        if size > 0:
            with mmap.mmap(fd, size) as memory, open("/dev/zero", "rb", buffering=0) as zeros:
                zeros.readinto(memory)


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
