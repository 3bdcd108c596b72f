"""Requests as the proxy counts them: numbers, status classes and latencies of a window of time.

Pure. nginx writes a line for each request when it ends (parts.LINE), with numbers of its own
only, so that neither a path nor a client's address is kept:

    TIME APP PORT STATUS SECONDS UPSTREAM

`SECONDS` is the duration of the whole request, and `UPSTREAM` how long the app took to begin its
response. The latter is the latency, as long as the app was involved: neither a slow client nor a
long download is the app's fault. An upgraded connection (a websocket) has no latency.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct, field

from gatling import names

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BOUNDS = (5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000)
"""The upper bounds of the histogram in ms, which clients of Prometheus use by default."""
UPGRADED = 101
MAX_MS = 10_000_000
_APP = rb"[a-z][a-z0-9-]*"
_NUMBER = re.compile(rb"[0-9]+\.[0-9]{3}")


class Figures(Struct):
    """The requests of an app within a window of time."""

    statuses: dict[int, int] = field(default_factory=dict)
    """How many responses had each status, upgraded connections included."""
    latencies: dict[int, int] = field(default_factory=dict)
    """How many requests took so many ms."""

    @property
    def requests(self) -> int:
        """The requests that have ended, upgraded connections not included."""
        return sum(self.statuses.values()) - self.upgraded

    @property
    def upgraded(self) -> int:
        """The upgraded connections that have ended."""
        return self.statuses.get(UPGRADED, 0)

    @property
    def failed(self) -> int:
        """The responses of status 500 and above."""
        return self.in_class(5)

    @property
    def error_rate(self) -> float | None:
        """The share of requests that failed, from 0 to 1; None without any request."""
        return self.failed / self.requests if self.requests else None

    def in_class(self, first_digit: int) -> int:
        """How many responses had a status such as 4xx; no upgraded connections are among 1xx."""
        return sum(
            count
            for status, count in self.statuses.items()
            if status // 100 == first_digit and status != UPGRADED
        )

    def quantile(self, share: float) -> int | None:
        """The latency in ms that such a share of requests did not exceed; None without any."""
        total = sum(self.latencies.values())
        seen = 0
        for took, count in sorted(self.latencies.items()):
            seen += count
            if seen >= share * total:
                return took
        return None

    def histogram(self) -> list[int]:
        """How many requests took at most each of BOUNDS; all of them come last."""
        found = [0] * (len(BOUNDS) + 1)
        for took, count in self.latencies.items():
            found[sum(took > bound for bound in BOUNDS)] += count
        for at in range(1, len(found)):
            found[at] += found[at - 1]
        return found

    def add(self, other: Figures) -> None:
        """Count the requests of others as well."""
        for mine, theirs in (
            (self.statuses, other.statuses),
            (self.latencies, other.latencies),
        ):
            for key, count in theirs.items():
                mine[key] = mine.get(key, 0) + count


def estimated(ranges: Sequence[int], share: float) -> float:
    """A quantile in ms of numbers of events that took up to each of BOUNDS, and longer.

    Within a range they are taken to be spread evenly. The last range has no end.
    """
    wanted, seen = share * sum(ranges), 0
    for at, number in enumerate(ranges[: len(BOUNDS)]):
        if number and seen + number >= wanted:
            low, high = (BOUNDS[at - 1] if at else 0), BOUNDS[at]
            return round(low + (high - low) * (wanted - seen) / number, 1)
        seen += number
    return float(BOUNDS[-1]) if sum(ranges) else 0.0


def count(
    pieces: Iterable[bytes],
    since: float,
    until: float,
    *,
    app: str | None = None,
    port: int | None = None,
    own: bool = True,
) -> dict[str, Figures]:
    """The requests that ended between two Unix times, by app: of all apps, or of one of them.

    `port` restricts them to those that the proxy sent to one slot. Without `own`, responses that
    the proxy gave itself, such as fingerprinted assets, are left out. `pieces` are whole lines of
    the log. A line of another form is skipped.
    """
    begin, end = b"%.3f" % since, b"%.3f" % until
    seen: dict[tuple[bytes, bytes, bytes, bytes], int] = {}
    pattern = _pattern(app, port)
    for piece in pieces:
        for at, name, status, took, upstream in pattern.findall(piece):
            if begin <= at < end and (own or _concerns_app(status, upstream)):
                key = (name, status, took, upstream)
                seen[key] = seen.get(key, 0) + 1
    return _summed(seen)


def _concerns_app(status: bytes, upstream: bytes) -> bool:
    """Whether the app answered a request, failed to, or was given up on by the client."""
    return upstream != b"-" or status == b"499" or status[:1] == b"5"


def _pattern(app: str | None, port: int | None) -> re.Pattern[bytes]:
    name = _APP if app is None else re.escape(names.app_name(app).encode())
    slot = rb"[0-9]*" if port is None else b"%d" % port
    # ten digits of a second, as until the year 2286, so that times compare as text
    return re.compile(
        rb"^([0-9]{10}\.[0-9]{3}) (" + name + rb") " + slot
        + rb" ([1-5][0-9][0-9]) ([0-9]{1,9}\.[0-9]{3}) ([-0-9., :]+)$",
        re.MULTILINE,
    )  # fmt: skip


def _summed(seen: dict[tuple[bytes, bytes, bytes, bytes], int]) -> dict[str, Figures]:
    """The same by app: there are far fewer different combinations than requests."""
    found: dict[str, Figures] = {}
    for (name, status, took, upstream), number in seen.items():
        figures = found.setdefault(name.decode(), Figures())
        code = int(status)
        figures.statuses[code] = figures.statuses.get(code, 0) + number
        if code != UPGRADED:
            latency = _latency(took, upstream)
            figures.latencies[latency] = figures.latencies.get(latency, 0) + number
    return found


def _latency(took: bytes, upstream: bytes) -> int:
    """The latency of a request in ms.

    A request that was handed to the app more than once has several times, of which the last counts.
    """
    answered = _NUMBER.findall(upstream)
    return min(MAX_MS, int((answered[-1] if answered else took).replace(b".", b"")))
