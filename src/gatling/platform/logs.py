"""Reading the logs: the lines that the log sink wrote, across rotated files, and following them."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import stat
import threading
import time
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling import times
from gatling.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from pathlib import Path
    from typing import TextIO

FOLLOW_SECONDS = 0.2
_ROTATIONS = 3
"""How many may happen while the files of a log are opened."""
_SPAN = re.compile(r"(\d+)\s*([smhd])\Z")
_POSITION = re.compile(r"([0-9]{1,20})-([0-9]{1,20})-([0-9]{1,20})")
"""Device, inode, and offset in bytes."""
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


WEB = "web"
"""The name of the app's own instances, beside those of its workers."""
CHECK = "boot-check"
"""The name of an instance that never serves: one of a boot check or a rehearsal."""


class Line(Struct, frozen=True):
    """One line of an app's log."""

    time: str
    release: str
    text: str
    process: str = WEB
    """The name of the instance that printed the line, such as `worker.1`."""

    def __str__(self) -> str:
        if self.process == CHECK:
            return f"{self.time} {self.release} (boot check) {self.text}"
        return f"{self.time} {label(self.release, self.process)} {self.text}"


def label(release: str, process: str) -> str:
    """Release and process as one word, which is how they are stored: `v3`, `v3[worker.1]`."""
    return release if process == WEB else f"{release}[{process}]"


class Entry(Struct, frozen=True):
    """A line with its position in the log, from which the log can be read on."""

    position: str
    line: Line


class Wanted(Struct, frozen=True):
    """A selection of log lines: by default, all of them."""

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
    for reader in _opened(path):
        with contextlib.closing(reader):
            found.extend(_chosen(reader.all(), since, wanted))
    return list(found)


def follow(
    path: Path, *, lines: int = 0, since: str | None = None, wanted: Wanted = EVERYTHING
) -> Generator[Line]:
    """Yield the lines that `read` yields, then new lines as they are written; never ends.

    No line is missing or repeated. The log may not exist yet. A file that is rotated is read to
    its end, and so is each file that took its place.
    """
    older = _opened(path)
    reader = older.pop() if older else None
    try:
        found: deque[Line] = deque(maxlen=lines)
        for each in older:
            with contextlib.closing(each):
                found.extend(_chosen(each.all(), since, wanted))
        if reader is not None:
            found.extend(_chosen(reader.new(), since, wanted))
        yield from found
        while True:
            reader = reader or _newer(path, None)  # a new log is read from its beginning
            if reader is None:
                time.sleep(FOLLOW_SECONDS)
                continue
            yield from filter(wanted.takes, reader.new())
            newer = _newer(path, reader)
            if newer is None:
                time.sleep(FOLLOW_SECONDS)
                continue
            # a line may have been written between the last read and the rotation
            yield from filter(wanted.takes, reader.new())
            reader.close()
            reader = newer
    finally:
        if reader is not None:
            reader.close()


def entries(path: Path, after: str, since: str) -> Generator[Entry]:
    """Yield the lines behind a position, each with its own, then new ones; never ends.

    No line is missing, as long as the files keep it. Without a position, it begins with the first
    line from `since` on, which is a time as `times.stamp` writes it.
    """
    begun = bool(after)
    reader, offset = _placed(path, after)
    newer: _Reader | None = None
    try:
        while True:
            # looked for before the read: a line may be written between the read and the rotation
            newer = _newer(path, reader)
            if reader is not None:
                for offset, line in reader.numbered(offset):  # noqa: B020 (the next begins there)
                    begun = begun or line.time >= since
                    if begun:
                        yield Entry(f"{reader.identity[0]}-{reader.identity[1]}-{offset}", line)
            if newer is None:
                time.sleep(FOLLOW_SECONDS)
                continue
            if reader is not None:
                reader.close()
            reader, offset, newer = newer, 0, None
    finally:
        for each in (reader, newer):
            if each is not None:
                each.close()


def end_with_reader(fd: int, end: Callable[[], object] = lambda: os._exit(0)) -> None:
    """End this process as soon as nobody reads `fd` any more: also while there is nothing to write.

    A process that followed an app's log over a connection that was lost would leave it behind
    otherwise.
    """

    def watch() -> None:
        # signals are the main thread's, which may wait for a line
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        poller = select.poll()
        poller.register(fd, 0)  # POLLERR and POLLHUP are always reported
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
    return times.stamp(moment)


class _Reader:
    """A log file that is being read; what is written to it later, too."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._rest = ""
        self.identity = _identity(os.fstat(file.fileno()))

    @classmethod
    def of(cls, path: Path) -> _Reader | None:
        """A reader, unless the file is not there."""
        try:
            return cls(path.open(encoding="utf-8", errors="replace"))
        except FileNotFoundError:
            return None

    def new(self) -> Iterator[Line]:
        """The whole lines that have not been read yet."""
        for piece in self._file:
            self._rest += piece
            if self._rest.endswith("\n"):
                yield from _parse([self._rest])
                self._rest = ""

    def all(self) -> Iterator[Line]:
        """All lines of a file that no line is added to, also a last one without its end."""
        yield from _parse(self._file)

    def numbered(self, offset: int) -> Iterator[tuple[int, Line]]:
        """The whole lines from an offset in bytes on, each with the offset behind it."""
        raw = self._file.buffer
        raw.seek(offset)
        while (piece := raw.readline()).endswith(b"\n"):
            offset += len(piece)
            for line in _parse([piece.decode("utf-8", "replace")]):
                yield offset, line

    def size(self) -> int:
        """The number of bytes that the file has now."""
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def _chosen(lines: Iterable[Line], since: str | None, wanted: Wanted) -> Iterator[Line]:
    return (x for x in lines if (since is None or x.time >= since) and wanted.takes(x))


def _opened(path: Path) -> list[_Reader]:
    """The log and its rotated predecessors, the oldest first; none is missing or twice.

    A rotation only gives a file a higher number. So the files are opened from the newest on: one
    that is rotated during this is found again under its next number, and counted once. The last
    number of each file gives the order: after two rotations, a file that was begun since then has
    a lower number than the first that was opened.
    """
    numbers = [int(file.suffix[1:]) for file in path.parent.glob(f"{path.name}.[0-9]*")]
    last = max(numbers, default=0) + _ROTATIONS
    found: dict[tuple[int, int], _Reader] = {}
    for file in (path, *(path.with_name(f"{path.name}.{n}") for n in range(1, last + 1))):
        reader = _Reader.of(file)
        if reader is None:
            continue
        known = found.pop(reader.identity, None)
        found[reader.identity] = known or reader
        if known is not None:
            reader.close()
    return [*found.values()][::-1]


def _placed(path: Path, after: str) -> tuple[_Reader | None, int]:
    """The file and offset of a position; the oldest file without one, or where its file is gone."""
    readers = _opened(path)
    if not readers:
        return None, 0
    chosen, offset = readers[0], 0
    place = _POSITION.fullmatch(after)
    if place:
        wanted = int(place[1]), int(place[2])
        known = [reader for reader in readers if reader.identity == wanted]
        chosen, offset = (known[0], int(place[3])) if known else (readers[0], 0)
    for reader in readers:
        if reader is not chosen:
            reader.close()
    return chosen, min(offset, chosen.size())


def _newer(path: Path, than: _Reader | None) -> _Reader | None:
    """The file that came after the one that is open, or the first one, if there is one."""
    identity = than.identity if than is not None else None
    with contextlib.suppress(FileNotFoundError):
        if _identity(path.stat()) == identity:
            return None
    readers = _opened(path)
    known = [reader.identity for reader in readers]
    # when it is not among them, it has been deleted by a rotation, and all of them are newer
    at = known.index(identity) + 1 if identity in known else 0
    for reader in (*readers[:at], *readers[at + 1 :]):
        reader.close()
    return readers[at] if at < len(readers) else None


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _parse(raw: Iterable[str]) -> Iterator[Line]:
    for line in raw:
        time_, _, rest = line.rstrip("\n").partition(" ")
        word, _, text = rest.partition(" ")
        release, process = parted(word)
        yield Line(time_, release, text, process)
