"""Times as Gatling stores and prints them, and waiting for something for some time."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def now() -> str:
    """The present time, as `stamp` writes it."""
    return stamp(datetime.now(UTC))


def stamp(moment: datetime) -> str:
    """A time in UTC: ISO 8601 with milliseconds and `Z`, so that times sort as text."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def stamp_of(seconds: float) -> str:
    """A Unix time, as `stamp` writes it."""
    return stamp(datetime.fromtimestamp(seconds, UTC))


def seconds_since(stamped: str) -> float:
    """The seconds since a time in ISO 8601, such as `stamp` writes; not below 0."""
    then = datetime.fromisoformat(stamped)
    return round(max(0.0, (datetime.now(UTC) - then).total_seconds()), 3)


def day(seconds: float) -> str:
    """The date, in UTC, of a Unix time: 2027-02-01."""
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def looks(seconds: float, pause: float) -> Iterator[bool]:
    """Yield for each look for something that is waited for so long; whether it is the last one.

    The last look begins when the time is up, however long the process was suspended before: a
    result that was there in time is not missed. `pause` is the time between two looks, in seconds.
    """
    deadline = time.monotonic() + seconds
    while True:
        last = time.monotonic() >= deadline
        yield last
        if last:
            return
        time.sleep(pause)
