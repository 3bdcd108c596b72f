"""How much a token may ask: a rate, and so many requests at the same time.

Without it, one token could keep the machine busy and all others waiting.
"""

from __future__ import annotations

import contextlib
import math
import time
from typing import TYPE_CHECKING

from gatling.api.answers import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RATE, BURST = 5.0, 60
"""Requests of one token: so many each second, and so many at once before that counts."""
AT_ONCE = 4
"""Requests of one token that are under way."""
CHANGES_OF_ALL = 8
"""Changes of all tokens that are under way. Each is a process."""
STREAMS, STREAMS_OF_ALL = 4, 32
"""Event streams of one token, and of all."""
UNKNOWN_RATE, UNKNOWN_BURST = 1.0, 20
"""Requests of all together that have no valid token."""


class Bucket:
    """Fills at a rate, and lets a request through for each whole drop."""

    def __init__(
        self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._level, self._at = float(burst), clock()

    def take(self) -> float:
        """0 if a request may pass; else the seconds until one may."""
        moment = self._clock()
        self._level = min(self._burst, self._level + (moment - self._at) * self._rate)
        self._at = moment
        if self._level >= 1:
            self._level -= 1
            return 0
        return (1 - self._level) / self._rate


class Limits:
    """The limits of all tokens. Only the thread of the server's event loop uses them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}
        self._under_way: dict[tuple[str, str], int] = {}
        self._unknown = Bucket(UNKNOWN_RATE, UNKNOWN_BURST, clock)

    def admit(self, token: str) -> None:
        """Count a request of a token; raises Refused if there were too many."""
        if token not in self._buckets:
            self._buckets[token] = Bucket(RATE, BURST, self._clock)
        _refuse_for(self._buckets[token].take())

    def admit_unknown(self) -> None:
        """Count a request without a valid token; raises Refused if there were too many."""
        _refuse_for(self._unknown.take())

    @contextlib.contextmanager
    def under_way(self, token: str, kind: str, at_once: int) -> Iterator[None]:
        """Hold one of the token's places; raises Refused if all are taken."""
        place = (token, kind)
        number = self._under_way.get(place, 0)
        if number >= at_once:
            _refuse_for(1)
        self._under_way[place] = number + 1
        try:
            yield
        finally:
            self._under_way[place] -= 1
            if not self._under_way[place]:
                del self._under_way[place]


def _refuse_for(seconds: float) -> None:
    if seconds:
        raise Refused(
            429, "too-many-requests", "Too many requests.",
            headers={"Retry-After": str(math.ceil(seconds))},
        )  # fmt: skip
