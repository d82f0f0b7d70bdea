"""Names come and go in a folder that is searched and listed meanwhile.

A name that nobody touches is found by every search, and once by every listing, with its inode. So
is one whose file is replaced by rename(2), or exchanged with another. Whoever makes a name, or takes it
away, sees that in the next listing, whoever else lists and changes the folder at the time.
"""

import json
import os

import syscalls
from races.base import Finding, Race

STABLE = 300
LIVE_MAX = 200
CONTENTS_BYTES = 5000


class Names(Race):
    def __init__(self, folder, rng, extents):
        super().__init__(folder, rng, extents)
        os.mkdir(self.at("away"))
        self.stable = {}
        for number in range(STABLE):
            name = f"stable{number}" + "-" * rng.randrange(60)
            os.close(os.open(self.at(name), os.O_CREAT | os.O_EXCL))
            self.stable[name] = os.stat(self.at(name)).st_ino
            # What goes away leaves room between the others.
            os.close(os.open(self.at(f"gone{number}" + "-" * rng.randrange(60)), os.O_CREAT))
        for name in os.listdir(folder):
            if name.startswith("gone"):
                os.unlink(self.at(name))
        self.replace_file(0)
        for name in ("left", "right"):
            os.close(os.open(self.at(name), os.O_CREAT))
        self.pair = {os.stat(self.at(name)).st_ino for name in ("left", "right")}

    def roles(self):
        return [self.storm, self.storm, self.replace, self.look_up, self.list, self.list]

    def storm(self, turns, rng):
        prefix = f"storm{os.getpid()}"
        live = []
        for turn in turns:
            if len(live) > LIVE_MAX or (live and rng.random() < 0.4):
                name = live.pop(rng.randrange(len(live)))
                self.remove(name)
                self.check(name, False)
            elif live and rng.random() < 0.5:
                at = rng.randrange(len(live))
                folder = rng.choice(("", "away/"))
                name = f"{folder}{prefix}-{turn}" + "-" * rng.randrange(60)
                os.rename(self.at(live[at]), self.at(name))
                live[at] = name
            else:
                name = f"{prefix}-{turn}" + "-" * rng.randrange(60)
                self.make(rng, name)
                live.append(name)
                self.check(name, True)
        with open(self.at(f"log-{prefix}"), "w") as log:
            json.dump(live, log)

    def check(self, name, is_left):
        name = os.path.basename(name)
        if (name in os.listdir(self.folder)) != is_left:
            raise Finding(f"{name} is {'not ' if is_left else ''}listed, but {'is' if is_left else 'was'}")

    def make(self, rng, name):
        path = self.at(name)
        rng.choice((
            lambda: os.close(os.open(path, os.O_CREAT | os.O_EXCL)),
            lambda: os.mkdir(path),
            lambda: os.symlink("nowhere", path),
            lambda: os.link(self.at(rng.choice(list(self.stable))), path),
        ))()

    def remove(self, name):
        if os.path.isdir(self.at(name)):
            os.rmdir(self.at(name))
        else:
            os.unlink(self.at(name))

    def replace(self, turns, rng):
        for turn in turns:
            self.replace_file(turn)
            pair = [os.fsencode(self.at(name)) for name in ("left", "right")]
            syscalls.renameat2(*pair, syscalls.RENAME_EXCHANGE)

    def replace_file(self, version):
        with open(self.at("new"), "wb") as file:
            file.write(bytes([version % 256]) * CONTENTS_BYTES)
        os.rename(self.at("new"), self.at("current"))

    def look_up(self, turns, rng):
        names = list(self.stable)
        for _ in turns:
            name = rng.choice(names)
            if os.stat(self.at(name)).st_ino != self.stable[name]:
                raise Finding(f"{name} is another file")
            with open(self.at("current"), "rb") as file:
                found = file.read()
            if len(found) != CONTENTS_BYTES or found != found[:1] * CONTENTS_BYTES:
                raise Finding(f"what is current has {len(found)} bytes, {found[:16].hex()}...")
            if os.stat(self.at(rng.choice(("left", "right")))).st_ino not in self.pair:
                raise Finding("of the two that are exchanged, one is another file")

    def list(self, turns, rng):
        for _ in turns:
            with os.scandir(self.folder) as entries:
                found = [(entry.name, entry.inode()) for entry in entries]
            names = [name for name, _ in found]
            for name in (*self.stable, "current", "left", "right"):
                if names.count(name) != 1:
                    raise Finding(f"{name} is listed {names.count(name)} times of {len(names)}")
            for name, inode in found:
                if inode != self.stable.get(name, inode):
                    raise Finding(f"{name} is listed as inode {inode}, not {self.stable[name]}")

    def verify(self):
        """What is there is what the storms have left, and everything else."""
        expected = {*self.stable, "current", "left", "right", "away"}
        for log in [name for name in os.listdir(self.folder) if name.startswith("log")]:
            with open(self.at(log)) as file:
                expected.update(json.load(file))
            os.unlink(self.at(log))
        found = {f"away/{name}" for name in os.listdir(self.at("away"))}
        found.update(os.listdir(self.folder))
        if found != expected:
            raise Finding(f"in the end {sorted(found - expected)} are too many, and "
                          f"{sorted(expected - found)} are missing")
