"""Runs one race on a mounted filesystem: several processes that want the same thing at once.

Usage: race.py NAME FOLDER --seed N --seconds N [--no-extents]

races/ holds the races, one file for each kind; each says what no process may ever see. Prints how
many turns the processes had. A finding ends all of them, with exit code 1. The seed replays what
each process does, not how they meet.
"""

import argparse
import os
import random
import sys
import traceback

from races.appends import Appends
from races.base import Finding, Turns
from races.blocks import Punching, Unwritten
from races.direct import Direct
from races.flood import Flood
from races.names import Names
from races.truncation import Truncation

RACES = {
    "punching": Punching, "unwritten": Unwritten, "truncation": Truncation, "direct": Direct,
    "flood": Flood, "names": Names, "appends": Appends,
}


def play(race, role, seed, turns):
    """The life of one process. @returns its exit code."""
    try:
        role(turns, random.Random(seed))
        os.write(sys.stdout.fileno(), b"%d\n" % turns.count)
        return 0
    except Finding as finding:
        complaint = str(finding)
    except Exception:
        complaint = traceback.format_exc()
    turns.stop()
    print(f"{role.__name__}, turn {turns.count}: {complaint}", file=sys.stderr, flush=True)
    return 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=RACES)
    parser.add_argument("folder")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--no-extents", action="store_true")
    options = parser.parse_args()
    os.mkdir(options.folder)
    race = RACES[options.name](options.folder, random.Random(options.seed), not options.no_extents)
    turns = Turns(options.seconds)
    children = []
    for number, role in enumerate(race.roles()):
        child = os.fork()
        if child == 0:
            os._exit(play(race, role, options.seed * 100 + number, turns))
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if any(codes):
        sys.exit(f"seed {options.seed}: {options.name} ended with {codes}")
    race.verify()


main()
