"""Does to a mounted filesystem what the steps on stdin say, and prints what came of it.

A step is a JSON list:
    ["set", path, name, value in hex]      setxattr
    ["remove", path, name]                 removexattr
    ["chmod", path, mode]
    ["mkdir" | "create", path, mode, umask]
Prints one JSON object: "errnos" of the steps (0 where one succeeded), and of each path that a step
named its "mode" and ACLs in "states".
"""

import json
import os
import sys

ACLS = ["system.posix_acl_access", "system.posix_acl_default"]


def perform(kind, path, *rest):
    if kind == "set":
        os.setxattr(path, rest[0], bytes.fromhex(rest[1]))
    elif kind == "remove":
        os.removexattr(path, rest[0])
    elif kind == "chmod":
        os.chmod(path, rest[0])
    elif kind == "mkdir":
        os.umask(rest[1])
        os.mkdir(path, rest[0])
    elif kind == "create":
        os.umask(rest[1])
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, rest[0]))


def errno_of(step):
    try:
        perform(*step)
    except OSError as error:
        return error.errno
    return 0


def value_of(path, name):
    try:
        return os.getxattr(path, name).hex()
    except OSError:
        return None


def main():
    os.chdir(sys.argv[1])
    steps = json.load(sys.stdin)
    errnos = [errno_of(step) for step in steps]
    states = {
        path: [os.stat(path).st_mode, *(value_of(path, name) for name in ACLS)]
        for path in sorted({step[1] for step in steps})
        if os.path.exists(path)
    }
    json.dump({"errnos": errnos, "states": states}, sys.stdout)


main()
