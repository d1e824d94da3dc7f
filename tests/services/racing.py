"""A program: many processes register the same student at once, and one of them, by chance, is killed.

    python racing.py STUDENT TRACKING_URI NAME RACERS SEED

It prints how many ended well and which moment the kill had. Forked, for importing MLflow takes longer than registering.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from sidlsg.registry.registration import register

LATEST_S = 6.0
"""The kill comes within so many seconds."""


def main() -> None:
    """Race once."""
    student, uri, name, racers, seed = sys.argv[1:]
    by_chance = random.Random(int(seed))
    children = [start(Path(student), uri, name) for _ in range(int(racers))]
    moment = by_chance.uniform(0.1, LATEST_S)
    time.sleep(moment)
    os.kill(by_chance.choice(children), signal.SIGKILL)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    well = statuses.count(0)
    killed = sum(os.WIFSIGNALED(status) for status in statuses)
    print(f"{well} well, {killed} killed after {moment:.1f} s, {len(statuses) - well - killed} failed")  # noqa: T201
    sys.exit(len(statuses) - well - killed)


def start(student: Path, uri: str, name: str) -> int:
    """A process that registers and ends."""
    child = os.fork()
    if child:
        return child
    try:
        register(student, uri, name)
        os._exit(0)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)  # noqa: T201
        os._exit(1)


if __name__ == "__main__":
    main()
