"""Programs that tests run, and how two workers keep out of each other's way."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class Said:
    """How a command ended, and what it said."""

    status: int
    out: str
    err: str


def called(*call: str | Path, **how: Any) -> str:
    """Run a program that must succeed; give what it printed. A failure shows all that it said."""
    done = subprocess.run(call, check=False, capture_output=True, text=True, **how)
    if done.returncode:
        words = " ".join(map(str, call))
        raise RuntimeError(f"{words} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


@contextmanager
def alone(place: Path) -> Iterator[None]:
    """Keep other processes of the tests out while something is made at a place."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f".{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def free_port() -> int:
    """Give a loopback port for a server that is to be started.

    Each worker has a range of its own, below the ports that the system gives to connections: nobody
    takes it before the server does.
    """
    first = 12_000 + 1_000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    while True:
        port = random.SystemRandom().randrange(first, first + 1_000)
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)):
                return port
