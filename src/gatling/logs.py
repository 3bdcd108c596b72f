"""Reading the logs: the lines that the log sink wrote, across rotated files, and following them."""

from __future__ import annotations

import os
import re
import select
import signal
import stat
import threading
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from gatling.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from typing import TextIO

FOLLOW_SECONDS = 0.2
_SPAN = re.compile(r"(\d+)\s*([smhd])\Z")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


WEB = "web"
"""What the app's own instances are called, beside its further processes."""
CHECK = "boot-check"
"""What an instance is called that never serves: of a boot check or a rehearsal."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an app's log."""

    time: str
    release: str
    text: str
    process: str = WEB
    """Who printed it, such as `worker.1`."""

    def __str__(self) -> str:
        if self.process == CHECK:
            return f"{self.time} {self.release} (boot check) {self.text}"
        return f"{self.time} {label(self.release, self.process)} {self.text}"


def label(release: str, process: str) -> str:
    """Release and process as one word, which is how they are stored: `v3`, `v3[worker.1]`."""
    return release if process == WEB else f"{release}[{process}]"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines are asked for: all, unless something is said."""

    release: str | None = None
    process: str | None = None
    """`web`, `worker` for all of that name, `worker.1` for one."""

    def takes(self, line: Line) -> bool:
        """Whether a line is one of them."""
        if self.release not in (None, line.release):
            return False
        return self.process in (None, line.process, line.process.partition(".")[0])


EVERYTHING = Wanted()


def parted(word: str) -> tuple[str, str]:
    """Release and process of a label."""
    release, _, process = word.removesuffix("]").partition("[")
    return release, process or WEB


def read(
    path: Path, *, lines: int, since: str | None = None, wanted: Wanted = EVERYTHING
) -> list[Line]:
    """The last `lines` of the lines that are wanted, not older than `since` (as stored)."""
    found: deque[Line] = deque(maxlen=lines)
    for file in _generations(path):
        with file.open(encoding="utf-8", errors="replace") as opened:
            for line in _parse(opened):
                if (since is None or line.time >= since) and wanted.takes(line):
                    found.append(line)
    return list(found)


def follow(path: Path, *, wanted: Wanted = EVERYTHING) -> Iterator[Line]:
    """Lines as they are written, from now on, for ever; a rotated file is read to its end."""
    while True:
        try:
            file = path.open(encoding="utf-8", errors="replace")
            break
        except FileNotFoundError:
            time.sleep(FOLLOW_SECONDS)
    with file:
        file.seek(0, os.SEEK_END)
        yield from _follow_from(file, path, wanted)
    while True:  # each file that takes its place is read from its beginning
        try:
            file = path.open(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            time.sleep(FOLLOW_SECONDS)
            continue
        with file:
            yield from _follow_from(file, path, wanted)


def end_with_reader(fd: int, end: Callable[[], object] = lambda: os._exit(0)) -> None:
    """End this process as soon as nobody reads `fd` any more: also while there is nothing to write.

    Whoever followed an app's log over a connection that was lost would leave it behind otherwise.
    """

    def watch() -> None:
        # signals are the main thread's, which may wait for a line
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        poller = select.poll()
        poller.register(fd, 0)  # what is always told: POLLERR, POLLHUP
        poller.poll()
        end()

    if stat.S_ISFIFO(os.fstat(fd).st_mode) or stat.S_ISSOCK(os.fstat(fd).st_mode):
        threading.Thread(target=watch, daemon=True).start()


def parse_since(text: str) -> str:
    """A point in time as it is stored, from `15m`, `2h`, or an ISO 8601 time (by default UTC).

    Raises InvalidInput.
    """
    span = _SPAN.match(text.strip())
    try:
        if span:
            moment = datetime.now(UTC) - timedelta(**{_UNITS[span[2]]: int(span[1])})
        else:
            moment = datetime.fromisoformat(text.strip())
            moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidInput(
            f"{text!r} is not a time.", hint="For example 15m, 2h, 1d or 2026-01-31T12:00."
        ) from None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _follow_from(file: TextIO, path: Path, wanted: Wanted) -> Iterator[Line]:
    """Follow an open file until another has taken its place."""
    rest = ""
    rotated = False
    while True:
        for piece in file:
            rest += piece
            if rest.endswith("\n"):
                yield from (x for x in _parse([rest]) if wanted.takes(x))
                rest = ""
        if rotated:  # and read to its end after that was seen
            return
        try:
            rotated = path.stat().st_ino != os.fstat(file.fileno()).st_ino
        except FileNotFoundError:
            rotated = False
        if not rotated:
            time.sleep(FOLLOW_SECONDS)


def _generations(path: Path) -> list[Path]:
    """The log and its rotated predecessors, the oldest first."""
    older = sorted(path.parent.glob(f"{path.name}.[0-9]*"), key=lambda p: -int(p.suffix[1:]))
    return [*older, *([path] if path.exists() else [])]


def _parse(raw: Iterable[str]) -> Iterator[Line]:
    for line in raw:
        time_, _, rest = line.rstrip("\n").partition(" ")
        word, _, text = rest.partition(" ")
        release, process = parted(word)
        yield Line(time_, release, text, process)
