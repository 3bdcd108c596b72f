"""One deployment per app at a time.

A kernel lock (flock(2)) on a file of the app: it dies with the process that holds it, whatever
kills it, so there is no stale lock.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from gatling import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from gatling.paths import AppPaths

POLL_SECONDS = 0.05


@contextlib.contextmanager
def hold(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock; `waiting` is called once when somebody else has it at first."""
    with files.open_lock(path) as file:
        told = False
        while not files.try_lock(file):
            if not told:
                waiting()
                told = True
            time.sleep(POLL_SECONDS)
        yield


def hold_app(paths: AppPaths, say: Callable[[str], None]) -> AbstractContextManager[None]:
    """Hold an app's lock; report through `say` if it has to wait for the lock."""
    return hold(paths.lock, lambda: say(f"{paths.name}: waiting for the deployment in progress"))


@contextlib.contextmanager
def try_hold(path: Path) -> Iterator[bool]:
    """Hold the lock if nobody else does; yields whether it is held."""
    try:
        file = files.open_lock(path)
    except FileNotFoundError:
        yield False
        return
    with file:
        yield files.try_lock(file)
