"""Makes the same random system calls in two directories, and compares all that comes back.

Usage: side_by_side.py ONE OTHER --seed N --calls N [--no-extents] [--users]

After each call: the result or the errno, and of every path that it named what stat(2) says, and
sometimes whether the call has changed its times. What the kernel's FUSE client refuses by itself, such
as fallocate(2) to collapse or insert ranges, is not asked. With --users some calls are made by others than
root. Prints up to twenty differences, one line each.
"""

import argparse
import errno
import os
import random
import stat
import struct
import time

import syscalls

NAMES = [b"a", b"b", b"c", b"dir", b"file", b"x" * 255, b"y" * 256, "é".encode(), b"long-name" * 9]
XATTRS = ["user.a", "user.b", "user.longer-name", "trusted.t", "security.s", "system.none", "none"]
ACLS = ["system.posix_acl_access", "system.posix_acl_default"]
USERS = [(0, 0, []), (1000, 1000, [7]), (1001, 7, [])]
DIFFERENCES_MAX = 20
PATHS_MAX = 400
# Timestamps come from a clock that ticks: a change shows only when some time has gone by.
TIMED_SHARE = 0.1
CLOCK_TICK_SECONDS = 0.011

ACL_VERSION = 2
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
NO_ID = 0xFFFFFFFF


def acl(rng):
    """An ACL as setxattr(2) takes it; one in ten is wrong."""
    entries = [(USER_OBJ, rng.randrange(8), NO_ID)]
    named = rng.sample((1000, 1001, 70000), rng.randrange(3))
    entries += [(USER, rng.randrange(8), uid) for uid in sorted(named)]
    entries.append((GROUP_OBJ, rng.randrange(8), NO_ID))
    groups = rng.sample((7, 1000, 80000), rng.randrange(2))
    entries += [(GROUP, rng.randrange(8), gid) for gid in groups]
    if named or groups or rng.random() < 0.3:
        entries.append((MASK, rng.randrange(8), NO_ID))
    entries.append((OTHER, rng.randrange(8), NO_ID))
    if rng.random() < 0.1:
        entries.pop(rng.randrange(len(entries)))
    packed = b"".join(struct.pack("<HHI", *entry) for entry in entries)
    return struct.pack("<I", ACL_VERSION) + packed


class Call:
    """One system call: its name, what it does to a root, and the paths that it names."""

    def __init__(self, name, action, *paths):
        self.name = name
        self.action = action
        self.paths = paths


class Side:
    """What one of the two roots answers."""

    def __init__(self, root):
        self.root = os.fsencode(root)
        self.open_files = {}

    def at(self, path):
        return self.root + b"/" + path

    def facts(self, path):
        try:
            found = os.lstat(self.at(path))
        except OSError as error:
            return errno.errorcode[error.errno], None
        size = found.st_size if not stat.S_ISDIR(found.st_mode) else None
        shown = (found.st_mode, found.st_uid, found.st_gid, found.st_nlink, size, found.st_rdev)
        return shown, (found.st_ino, found.st_mtime_ns, found.st_ctime_ns)

    def make(self, call, timed):
        """The outcome of `call`, and what it did to its paths; to their times if `timed`."""
        involved = sorted({p for path in call.paths for p in (path, os.path.dirname(path))})
        before = {path: self.facts(path)[1] for path in involved}
        try:
            outcome = call.action(self)
        except OSError as error:
            outcome = errno.errorcode[error.errno]
        # What a call has changed that was refused halfway is taken back, but for the times.
        timed = timed and not isinstance(outcome, str)
        after = []
        for path in involved:
            shown, times = self.facts(path)
            changed = None
            # Of two files, one in the other's place, the times may be equal by chance.
            if timed and times and before[path] and times[0] == before[path][0]:
                changed = [now != then for now, then in zip(times[1:], before[path][1:])]
            after.append((path, shown, changed))
        return outcome, after


class Chooser:
    """Makes up calls. It knows paths that were created once; some do not exist any more."""

    def __init__(self, rng, extents):
        self.rng = rng
        self.extents = extents
        self.paths = [b"."]
        self.tag = 0

    def path(self):
        return self.rng.choice(self.paths)

    def new_path(self):
        parent = self.path()
        name = self.rng.choice(NAMES) if self.rng.random() < 0.5 else b"n%d" % self.rng.randrange(999)
        path = name if parent == b"." else parent + b"/" + name
        return path if len(path) < 1500 else name

    def offset(self):
        return self.rng.choice((0, 1, 100, 1024, 4096, 5000, 40960, self.rng.randrange(100_000)))

    def mode(self):
        return self.rng.choice((0o644, 0o600, 0o755, 0o777, 0o2770, 0o4755, 0o1777, 0o070, 0))

    def data(self):
        self.tag += 1
        return random.Random(self.tag).randbytes(self.rng.choice((1, 50, 500, 4096, 9000)))

    def call(self):
        makers = (
            [self.create] * 8 + [self.mkdir] * 5 + [self.open_flags] * 4 + [self.write] * 10
            + [self.read] * 5 + [self.truncate] * 4 + [self.fallocate] * 5 + [self.unlink] * 6
            + [self.rmdir] * 3 + [self.rename] * 9 + [self.link] * 4 + [self.symlink] * 3
            + [self.readlink] + [self.mknod] * 2 + [self.chmod] * 4 + [self.chown] * 4
            + [self.utimes] * 3 + [self.set_xattr] * 6 + [self.get_xattrs] * 3
            + [self.remove_xattr] * 3 + [self.set_acl] * 5 + [self.listing] * 3 + [self.umask]
            + [self.copy_range] * 2 + [self.access] * 2
        )
        return self.rng.choice(makers)()

    def learn(self, call, side):
        """Which of the paths that `call` named are there now."""
        for path in call.paths:
            exists = side.facts(path)[1] is not None
            if exists and path not in self.paths:
                self.paths.append(path)
            elif not exists and path in self.paths and self.rng.random() < 0.8:
                self.paths.remove(path)
        while len(self.paths) > PATHS_MAX:
            self.paths.pop(self.rng.randrange(1, len(self.paths)))

    def create(self):
        path, mode = self.new_path(), self.mode()

        def action(side):
            os.close(os.open(side.at(path), os.O_CREAT | os.O_EXCL | os.O_RDWR, mode))

        return Call(f"create {mode:o}", action, path)

    def open_flags(self):
        path = self.rng.choice((self.path(), self.new_path()))
        flags = self.rng.choice((os.O_RDONLY, os.O_WRONLY, os.O_RDWR)) | os.O_NONBLOCK
        for flag in (os.O_CREAT, os.O_TRUNC, os.O_EXCL, os.O_DIRECTORY, os.O_NOFOLLOW, os.O_APPEND):
            if self.rng.random() < 0.25:
                flags |= flag

        def action(side):
            # A device or pipe would be opened as what it is, not by the filesystem.
            if not is_special(side.at(path)):
                os.close(os.open(side.at(path), flags, 0o666))

        return Call(f"open {flags:o}", action, path)

    def mkdir(self):
        path, mode = self.new_path(), self.mode()
        return Call(f"mkdir {mode:o}", lambda side: os.mkdir(side.at(path), mode), path)

    def on_file(self, name, path, flags, action):
        def whole(side):
            if is_special(side.at(path)):
                return "special"
            fd = os.open(side.at(path), flags)
            try:
                return action(fd)
            finally:
                os.close(fd)

        return Call(name, whole, path)

    def write(self):
        path, offset, data = self.path(), self.offset(), self.data()
        append = self.rng.random() < 0.2
        flags = os.O_WRONLY | (os.O_APPEND if append else 0)
        act = (lambda fd: os.write(fd, data)) if append else (lambda fd: os.pwrite(fd, data, offset))
        return self.on_file(f"write {offset}+{len(data)} append={append}", path, flags, act)

    def read(self):
        path, offset = self.path(), self.offset()
        return self.on_file(f"read {offset}", path, os.O_RDONLY, lambda fd: os.pread(fd, 9000, offset))

    def truncate(self):
        path, size = self.path(), self.offset()
        return Call(f"truncate {size}", lambda side: os.truncate(side.at(path), size), path)

    def fallocate(self):
        path, offset, length = self.path(), self.offset(), self.offset()
        # The kernel changes times before it refuses the others without extents.
        mode = self.rng.choice((0, 1, 3, 3, 0x10, 0x11) if self.extents else (3,))

        def action(fd):
            syscalls.fallocate(fd, mode, offset, length)

        return self.on_file(f"fallocate {mode:#x} {offset}+{length}", path, os.O_RDWR, action)

    def copy_range(self):
        source, target = self.path(), self.path()
        start, end, length = self.offset(), self.offset(), self.offset()

        def action(side):
            if is_special(side.at(source)) or is_special(side.at(target)):
                return "special"
            read = os.open(side.at(source), os.O_RDONLY)
            try:
                written = os.open(side.at(target), os.O_WRONLY)
                try:
                    return os.copy_file_range(read, written, length, start, end)
                finally:
                    os.close(written)
            finally:
                os.close(read)

        return Call(f"copy {start} {end} {length}", action, source, target)

    def unlink(self):
        path = self.path()
        return Call("unlink", lambda side: os.unlink(side.at(path)), path)

    def rmdir(self):
        path = self.path()
        return Call("rmdir", lambda side: os.rmdir(side.at(path)), path)

    def rename(self):
        source = self.path()
        target = self.rng.choice((self.path(), self.new_path()))
        flags = self.rng.choice((0, 0, 0, 1, 2, 4, 3, 6))

        def action(side):
            syscalls.renameat2(side.at(source), side.at(target), flags)

        return Call(f"rename {flags}", action, source, target)

    def link(self):
        source, target = self.path(), self.new_path()

        def action(side):
            os.link(side.at(source), side.at(target), follow_symlinks=False)

        return Call("link", action, source, target)

    def symlink(self):
        path, target = self.new_path(), b"t" * self.rng.choice((1, 59, 60, 61, 500, 1023, 1024, 4095))
        return Call(f"symlink {len(target)}", lambda s: os.symlink(target, s.at(path)), path)

    def readlink(self):
        path = self.path()
        return Call("readlink", lambda side: os.readlink(side.at(path)), path)

    def mknod(self):
        path = self.new_path()
        kind = self.rng.choice((stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFREG))
        mode, device = kind | self.mode(), os.makedev(self.rng.randrange(4000), self.rng.randrange(99_999))
        return Call(f"mknod {mode:o}", lambda s: os.mknod(s.at(path), mode, device), path)

    def chmod(self):
        path, mode = self.path(), self.mode()
        return Call(f"chmod {mode:o}", lambda side: os.chmod(side.at(path), mode), path)

    def chown(self):
        path = self.path()
        ids = (-1, 0, 7, 1000, 1001, 70000)
        uid, gid = self.rng.choice(ids), self.rng.choice(ids)
        # Of a call that changes neither the kernel does not tell a FUSE server.
        uid = uid if gid != -1 or uid != -1 else 0
        return Call(f"chown {uid} {gid}", lambda side: os.lchown(side.at(path), uid, gid), path)

    def utimes(self):
        path = self.path()
        times = self.rng.choice((None, (0, 1), (-(10**9), 10**18), (2**33 * 10**9, 5)))

        def action(side):
            if times is None:
                os.utime(side.at(path), follow_symlinks=False)
                return "now"
            os.utime(side.at(path), ns=times, follow_symlinks=False)
            found = os.lstat(side.at(path))
            return found.st_atime_ns, found.st_mtime_ns

        return Call(f"utimes {times}", action, path)

    def set_xattr(self):
        path, name, flags = self.path(), self.rng.choice(XATTRS), self.rng.choice((0, 0, 0, 1, 2))
        value = self.data()[: self.rng.choice((0, 10, 100, 300))]

        def action(side):
            os.setxattr(side.at(path), name, value, flags, follow_symlinks=False)

        return Call(f"setxattr {name} {len(value)} {flags}", action, path)

    def remove_xattr(self):
        path, name = self.path(), self.rng.choice(XATTRS + ACLS)

        def action(side):
            os.removexattr(side.at(path), name, follow_symlinks=False)

        return Call(f"removexattr {name}", action, path)

    def get_xattrs(self):
        path = self.path()

        def action(side):
            names = os.listxattr(side.at(path), follow_symlinks=False)
            values = [os.getxattr(side.at(path), name, follow_symlinks=False) for name in names]
            return sorted(zip(names, values))

        return Call("xattrs", action, path)

    def set_acl(self):
        path, name, value = self.path(), self.rng.choice(ACLS), acl(self.rng)

        def action(side):
            os.setxattr(side.at(path), name, value, follow_symlinks=False)

        return Call(f"setxattr {name}", action, path)

    def listing(self):
        path = self.path()
        return Call("list", lambda side: sorted(os.listdir(side.at(path))), path)

    def umask(self):
        mask = self.rng.choice((0, 0o022, 0o077, 0o027))

        def action(_):
            os.umask(mask)

        return Call(f"umask {mask:o}", action)

    def access(self):
        path, mode = self.path(), self.rng.randrange(8)
        return Call(f"access {mode}", lambda s: os.access(s.at(path), mode, effective_ids=True), path)


def is_special(path):
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def become(user):
    os.seteuid(0)
    uid, gid, groups = user
    os.setgroups(groups)
    os.setegid(gid)
    os.seteuid(uid)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("one")
    parser.add_argument("other")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--no-extents", action="store_true")
    parser.add_argument("--users", action="store_true")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    sides = Side(options.one), Side(options.other)
    for side in sides:
        os.chmod(side.root, 0o777)
    chooser = Chooser(rng, not options.no_extents)
    differences = 0
    for number in range(options.calls):
        call = chooser.call()
        user = rng.choice(USERS) if options.users and rng.random() < 0.5 else USERS[0]
        timed = rng.random() < TIMED_SHARE
        if timed:
            time.sleep(CLOCK_TICK_SECONDS)
        answers = []
        for side in sides:
            become(user)
            answers.append(side.make(call, timed))
        become(USERS[0])
        chooser.learn(call, sides[0])
        if answers[0] == answers[1]:
            continue
        differences += 1
        paths = [path.decode("latin-1")[-60:] for path in call.paths]
        print(f"{number} {call.name} {paths} as {user[0]}: {short(answers[0])} / {short(answers[1])}")
        if differences >= DIFFERENCES_MAX:
            break
    os.umask(0o022)


def short(answer):
    text = repr(answer)
    return text if len(text) < 700 else text[:700] + "..."


if __name__ == "__main__":
    main()
