"""The output of instances in the system's journal, with the release that printed it.

The journal knows unit and time. The releases that ran in a slot, with times, are in a small file
beside it, to which each start and each upgrade adds a line (`TIME vN`).
"""

from __future__ import annotations

import bisect
import itertools
import json
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gatling import files, times
from gatling.platform import logs
from gatling.platform.logs import EVERYTHING, WEB, Line, Wanted
from gatling.platform.server import units
from gatling.platform.server.helper import client
from gatling.times import now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import IO

    from gatling.platform.base import Slot

KEPT = 500
"""Lines of a history; what is older has long left the journal."""
FILTERED = 200_000
"""Number of lines to search for those of one release."""


def note(history: Path, release: int, *, check: bool = False) -> None:
    """Add a line: from now on this release runs in the slot, or only boots there (`check`)."""
    lines = history.read_text().splitlines()[-KEPT:] if history.exists() else []
    label = logs.label(f"v{release}", logs.CHECK if check else WEB)
    if not lines or lines[-1].split(" ")[1] != label:
        files.write(history, "\n".join([*lines, f"{now()} {label}"]) + "\n")


def read(
    app: str, histories: dict[Slot, Path], *, lines: int, since: str | None, wanted: Wanted
) -> list[Line]:
    """The last lines of an app's instances, as logs.read."""
    return _read(app, _Releases(app, histories), lines, since, wanted)


def follow(
    app: str,
    histories: Callable[[], dict[Slot, Path]],
    *,
    lines: int,
    since: str | None,
    wanted: Wanted,
) -> Iterator[Line]:
    """Yield the lines of `read`, then new lines as they are printed, from the last entry read."""
    known = _Releases(app, histories())
    begun = time.time()
    if lines:
        yield from _read(app, known, lines, since, wanted)
    place = {"after": known.newest} if known.newest else {"since": begun}
    with _journal(app, {"follow": True, **place}) as (stream, call):
        for raw in stream:
            yield from _Releases(app, histories()).lines([raw], wanted)
        call.answer()  # it has no end, unless something is wrong


def entries(
    app: str, histories: Callable[[], dict[Slot, Path]], after: str, since: str
) -> Iterator[logs.Entry]:
    """Yield the lines after a journal cursor, each with its own; without one, from a time on.

    `journalctl --follow` leaves out what was printed before the last boot, so the log is read to
    its end before it is followed.
    """
    begin, position = datetime.fromisoformat(since).timestamp(), after
    for how in ("forward", "follow"):
        place: dict[str, Any] = {"after": position} if position else {"since": begin}
        with _journal(app, {how: True, **place}) as (stream, call):
            for raw in stream:
                position = json.loads(raw).get("__CURSOR", "")
                for line in _Releases(app, histories()).lines([raw], EVERYTHING):
                    yield logs.Entry(position, line)
            call.answer()  # a followed one has no end, unless something is wrong


def _read(app: str, known: _Releases, lines: int, since: str | None, wanted: Wanted) -> list[Line]:
    asked: dict[str, Any] = {"lines": lines if wanted == EVERYTHING else FILTERED}
    if since is not None:
        asked["since"] = datetime.fromisoformat(since).timestamp()
    with _journal(app, {"slots": known.slots, **asked}) as (stream, call):
        # the last line comes first: no more than what is shown is kept in memory
        found = list(itertools.islice(known.lines(stream, wanted), lines))
    if len(found) < lines:
        call.answer()
    else:  # enough: journalctl may have much more to search
        call.connection.close()
    return found[::-1]


class _journal:  # noqa: N801 (a context manager of this module)
    """journalctl's output, by the helper; the call is cancelled when the block is left early."""

    def __init__(self, app: str, wanted: dict[str, Any]) -> None:
        self._app, self._wanted = app, wanted

    def __enter__(self) -> tuple[IO[str], client.Call]:
        reading, writing = os.pipe()
        with open(os.devnull) as nothing:  # noqa: PTH123
            files = (nothing.fileno(), writing, 2)
            self._call = client.Call("logs", {"app": self._app, **self._wanted}, files)
        os.close(writing)
        self._stream = os.fdopen(reading, encoding="utf-8", errors="replace")
        return self._stream, self._call

    def __exit__(self, kind: object, *_: object) -> None:
        self._stream.close()
        if kind is not None:
            self._call.connection.close()


class _Releases:
    """The releases that ran in a unit, by time."""

    def __init__(self, app: str, histories: dict[Slot, Path]) -> None:
        self._known: dict[str, tuple[list[str], list[str]]] = {}
        self._processes: dict[str, str] = {}
        self.slots = list(histories)
        self.newest = ""
        """The journal cursor of the first entry that was read, which is the last one printed."""
        for slot, file in histories.items():
            pairs = [
                line.split(" ") for line in (file.read_text() if file.exists() else "").splitlines()
            ]
            unit = units.instance(app, slot)
            self._known[unit] = ([p[0] for p in pairs], [p[1] for p in pairs])
            self._processes[unit] = slot if isinstance(slot, str) else WEB

    def lines(self, stream: Any, wanted: Wanted) -> Iterator[Line]:
        """Lines of journalctl's JSON."""
        for raw in stream:
            entry = json.loads(raw)
            self.newest = self.newest or entry.get("__CURSOR", "")
            moment = datetime.fromtimestamp(int(entry["__REALTIME_TIMESTAMP"]) / 1e6, UTC)
            stamp = times.stamp(moment)
            unit = entry.get("_SYSTEMD_UNIT", "")
            if unit not in self._processes:
                continue  # of a build, say
            release, own = logs.parted(self._at(unit, stamp))
            process = own if self._processes[unit] == WEB else self._processes[unit]
            line = Line(stamp, release, _message(entry.get("MESSAGE")), process)
            if wanted.takes(line):
                yield line

    def _at(self, unit: str, time: str) -> str:
        times, labels = self._known.get(unit, ([], []))
        at = bisect.bisect_right(times, time)
        return labels[max(0, at - 1)] if labels else "-"


def _message(value: object) -> str:
    """A message as journalctl writes it in JSON (journalctl(1), "json").

    A text that is not UTF-8 is a list of bytes, a long one is null. An entry may have the field
    several times, as any program can write to the journal: then it is a list of those.
    """
    if isinstance(value, list):
        if all(isinstance(one, int) for one in value):
            return bytes(one & 0xFF for one in value).decode("utf-8", "replace")
        return " ".join(map(_message, value))
    return value if isinstance(value, str) else ""
