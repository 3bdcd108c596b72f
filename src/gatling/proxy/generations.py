"""Waiting until nginx has read its configuration: the workers of the new generation serve alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gatling import times

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 10.0


def reloaded(master: int, reload: Callable[[], object]) -> bool:
    """Reload the nginx of a master process; whether it took the configuration over in time.

    nginx keeps the configuration before, and only logs it, when it cannot apply the new one:
    where it cannot bind an address, say. Then no worker of a new generation appears.
    """
    before = _workers(master)
    reload()
    # nginx.org/en/docs/control.html: new workers are started, old ones take no more connections
    for _ in times.looks(SECONDS, 0.005):
        if _workers(master) - before and not any(map(_takes_connections, before)):
            return True
    return False


def _takes_connections(worker: int) -> bool:
    try:
        title = Path(f"/proc/{worker}/cmdline").read_bytes()
    except OSError:
        return False
    return bool(title) and b"shutting down" not in title


def _workers(master: int) -> set[int]:
    """The worker processes of a master; none when it is gone."""
    try:
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    except OSError:
        return set()
    return {int(pid) for pid in children}
