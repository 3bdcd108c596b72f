"""Counters of requests that only grow, for Prometheus: each update reads what the log has gained.

They are kept in a file with the place in the log up to which they count. Lines that were rotated
away before any update read them are not counted.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO

import msgspec
from msgspec import Struct, field

from gatling import decoding, files
from gatling.proxy import figures, request_log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FIRST, _LAST = 0.0, 9_999_999_999.0


class Totals(Struct):
    """The requests of an app since they were counted first."""

    statuses: dict[int, int] = field(default_factory=dict)
    histogram: list[int] = field(default_factory=lambda: [0] * (len(figures.BOUNDS) + 1))
    """As figures.Figures.histogram."""
    milliseconds: int = 0
    """The latencies of all together."""

    def add(self, found: figures.Figures) -> None:
        """Count more requests."""
        for status, count in found.statuses.items():
            self.statuses[status] = self.statuses.get(status, 0) + count
        self.histogram = [a + b for a, b in zip(self.histogram, found.histogram(), strict=True)]
        self.milliseconds += sum(took * count for took, count in found.latencies.items())


class _Kept(Struct):
    inode: int = 0
    offset: int = 0
    apps: dict[str, Totals] = field(default_factory=dict)


def update(log: Path, kept: Path, limit: int = request_log.READ_BYTES) -> dict[str, Totals]:
    """Count what the log has gained since the last call; the totals by app.

    `kept` is the file of the totals. One process at a time; at most `limit` bytes are read.
    Raises OSError.
    """
    with files.locked(kept.with_name(f"{kept.name}.lock")):
        state = _read(kept)
        new = figures.count(_gained(log, state, limit), _FIRST, _LAST)
        for app, found in new.items():
            state.apps.setdefault(app, Totals()).add(found)
        files.write(kept, msgspec.json.encode(state).decode(), mode=0o600)
    return state.apps


def _read(kept: Path) -> _Kept:
    try:
        state = decoding.from_json(kept.read_bytes(), _Kept)
    except (FileNotFoundError, msgspec.DecodeError):
        return _Kept()
    wanted = len(figures.BOUNDS) + 1
    sound = all(len(each.histogram) == wanted for each in state.apps.values())
    return state if sound else _Kept()


def _gained(log: Path, state: _Kept, limit: int) -> Iterator[bytes]:
    """The whole lines behind the place that the state names; it is moved to their end."""
    unread: list[tuple[BinaryIO, int, int]] = []
    for file in request_log.opened(log):
        status = os.fstat(file.fileno())
        known = status.st_ino == state.inode and state.offset <= status.st_size
        start = max(state.offset if known else 0, status.st_size - limit)
        limit -= status.st_size - start
        unread.insert(0, (file, start, status.st_size))
        # without a known place it begins with the log of now
        if known or limit <= 0 or not state.inode:
            break
    for file, start, size in unread:
        with file:
            state.inode, state.offset = os.fstat(file.fileno()).st_ino, start
            for piece in request_log.lines(file, start, size):
                state.offset += len(piece)
                yield piece
