"""The latest ends of an instance, with cause and time: lines in a file that its supervisor adds.

On a server the app's own user writes them (enter.py), so they are read like any other output of an
app: a limited number of bytes, and lines of another form count for nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling import times
from gatling.platform import enter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HOUR = 3600.0
HOPELESS = 10
"""Ends in a row, each soon after a start, from which on an instance counts as failed."""
MAX_BYTES = 64 * 1024
_LINE = re.compile(r"([0-9]{1,11}(?:\.[0-9]{1,6})?) ([0-9]{1,11}(?:\.[0-9]{1,6})?) ([ -~]{1,200})")


class End(Struct, frozen=True):
    """An end that nobody asked for, after which the instance was started again."""

    at: float
    """Seconds since the epoch."""
    after: float
    """Seconds since it had been started."""
    cause: str
    """Such as `killed by SIGKILL`."""

    @property
    def stamp(self) -> str:
        """When it was, as times are stored."""
        moment = datetime.fromtimestamp(self.at, UTC)
        return times.stamp(moment)


def read(file: Path) -> list[End]:
    """The latest ends, the oldest first."""
    try:
        opened = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return []
    try:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            return []
        text = os.read(opened, MAX_BYTES).decode("ascii", "replace")
    finally:
        os.close(opened)
    matches = (_LINE.fullmatch(line) for line in text.splitlines())
    return [End(float(m[1]), float(m[2]), m[3]) for m in matches if m]


def recent(ends: Sequence[End], now: float | None = None) -> list[End]:
    """Those of the last hour."""
    since = (time.time() if now is None else now) - HOUR
    return [end for end in ends if end.at > since]


def pause(ends: Sequence[End]) -> float:
    """How long an instance waits after the last of them: the longer, the more often in a row."""
    settled = [at for at, end in enumerate(ends) if end.after >= enter.SETTLED_SECONDS]
    row = len(ends) - (settled[-1] + 1 if settled else 0)
    return float(enter.PAUSES[min(row, len(enter.PAUSES) - 1)])


def hopeless(ends: Sequence[End]) -> bool:
    """Whether the instance ends soon after each start; it is started again all the same."""
    last = ends[-HOPELESS:]
    return len(last) == HOPELESS and all(end.after < enter.SETTLED_SECONDS for end in last)


def forget(file: Path) -> None:
    """The instance was stopped on purpose: the count of restarts starts again."""
    with contextlib.suppress(OSError):
        file.unlink()
