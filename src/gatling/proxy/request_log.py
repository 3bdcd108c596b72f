"""The log in which nginx writes a line for each request: one window of time is read from it.

The log of all apps is one file, which is rotated by its size. Its lines are in the order of their
times, but for the second in which an nginx worker may hold lines back. So the begin of a window is
found by bisection, and reading costs what the window has, up to a limit.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from gatling.proxy import figures
from gatling.proxy.log_rotation import BACKUPS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

READ_BYTES = 32 << 20
"""The latest part of a log that is read for one window, which takes a second or two."""
HELD_BACK_SECONDS = 2.0
"""Longer than a worker holds lines back: `flush` of `access_log` in parts.py."""
_PIECE = 1 << 20
_PROBE = 4096
_TIME = re.compile(rb"(?:^|\n)([0-9]{10}\.[0-9]{3}) ")


class Window(NamedTuple):
    """The requests of a window of time, by app."""

    since: float
    """The Unix time from which on the log is complete: not before that which was asked for."""
    until: float
    apps: dict[str, figures.Figures]
    cut: bool = False
    """Whether it begins later because only so much of the log is read."""


def read(
    log: Path,
    since: float,
    until: float,
    *,
    app: str | None = None,
    port: int | None = None,
    own: bool = True,
    limit: int = READ_BYTES,
) -> Window:
    """The requests that ended between two Unix times, as `figures.count`.

    At most the last `limit` bytes are read. Without a log there are no requests.
    """
    reader = _Reader(log, since, limit)
    try:
        apps = figures.count(reader.pieces(), since, until, app=app, port=port, own=own)
    finally:
        reader.close()
    return Window(max(since, reader.begins), until, apps, reader.cut)


class _Reader:
    """The files that a window reaches into, opened before any of them can be rotated away."""

    def __init__(self, log: Path, since: float, limit: int) -> None:
        self._parts: list[tuple[BinaryIO, int, int]] = []
        self.begins, self.cut = since, False
        start = since - HELD_BACK_SECONDS
        for file in opened(log):
            if limit <= 0:  # the files before are not read at all
                file.close()
                break
            size = os.fstat(file.fileno()).st_size
            first = _time_after(file, 0, size)
            found = _found(file, size, start)
            at = max(found, size - limit)
            self._parts.insert(0, (file, at, size))
            limit -= size - at
            if at > found:
                self.begins, self.cut = _time_after(file, at, size) or since, True
                break
            if first is not None:
                if first < start:  # what came before is not of the window
                    self.begins = since
                    break
                self.begins = max(since, first)

    def pieces(self) -> Iterator[bytes]:
        """The lines of the window and some around it, in the order in which they came."""
        for file, at, size in self._parts:
            yield from lines(file, at, size)

    def close(self) -> None:
        for file, _, _ in self._parts:
            file.close()


def opened(log: Path) -> Iterator[BinaryIO]:
    """The log and those before it, the latest first, each file once even during a rotation."""
    seen: set[int] = set()
    for name in (log.name, *(f"{log.name}.{n}" for n in range(1, BACKUPS + 1))):
        try:
            fd = os.open(log.with_name(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        file = os.fdopen(fd, "rb")
        inode = os.fstat(fd).st_ino
        if inode in seen:
            file.close()
            continue
        seen.add(inode)
        yield file


def lines(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    """The whole lines between two places of a file, about a megabyte of them at a time."""
    file.seek(start)
    rest, left = b"", end - start
    while left > 0:
        data = file.read(min(_PIECE, left))
        if not data:
            break
        left -= len(data)
        head, newline, tail = (rest + data).rpartition(b"\n")
        yield head + newline
        rest = tail


def _found(file: BinaryIO, size: int, since: float) -> int:
    """A place in a file before which no line has that time or a later one."""
    low, high = 0, size
    while high - low > _PROBE:
        middle = (low + high) // 2
        at = _time_after(file, middle, high)
        if at is None or at >= since:
            high = middle
        else:
            low = middle
    return low


def _time_after(file: BinaryIO, place: int, end: int) -> float | None:
    """The time of the first line behind a place, if one begins within some thousand bytes."""
    file.seek(place)
    data = file.read(min(_PROBE, end - place))
    if place == 0:
        data = b"\n" + data
    match = _TIME.search(data) if place == 0 else re.search(rb"\n([0-9]{10}\.[0-9]{3}) ", data)
    return float(match[1]) if match else None
