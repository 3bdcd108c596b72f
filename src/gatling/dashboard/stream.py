"""New lines of a log as server-sent events, by the command `logs` with `--follow`."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import StreamingResponse

from gatling import names, process, visible
from gatling.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.responses import Response

    from gatling.dashboard.visit import Visit

BEAT_SECONDS = 15.0
STREAM_SECONDS = 3600.0
"""After which a stream ends. Browsers connect again by themselves."""
LONGEST = 64 << 10
"""Bytes of a line."""


def following(visit: Visit, touch: Callable[[], None]) -> Response:
    """The lines of an app's log from now on; raises InvalidInput."""
    argv = [sys.executable, "-P", "-m", "gatling", "logs", visit.app, "--follow", "--lines", "0"]
    argv += chosen(visit)
    text = visit.query.get("q", "").casefold()
    return StreamingResponse(
        _events(argv, text, touch), media_type="text/event-stream",
        headers={"Cache-Control": "no-store"},
    )  # fmt: skip


def chosen(visit: Visit) -> list[str]:
    """The options of `gatling logs` for a page's filter; raises InvalidInput."""
    found = []
    release = visit.query.get("release", "")
    if release:
        if names.release_number(release) is None:
            raise InvalidInput(f"{release[:40]!r} is not a release.", hint="For example v7.")
        found.append(f"--release={release}")
    if wanted := visit.query.get("process", ""):
        found.append(f"--process={wanted}")
    return found


async def _events(argv: list[str], text: str, touch: Callable[[], None]) -> AsyncIterator[bytes]:
    ours, theirs = os.pipe()
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        started = process.start(argv, cwd=Path("/"), env=os.environ, stdin=nothing, output=theirs)
    finally:
        os.close(nothing)
        os.close(theirs)
    reader = asyncio.StreamReader(limit=LONGEST)
    loop = asyncio.get_running_loop()
    pipe, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours, "rb")
    )
    end = time.monotonic() + STREAM_SECONDS
    try:
        yield b"retry: 2000\n\n"
        while time.monotonic() < end:
            touch()
            try:
                raw = await asyncio.wait_for(reader.readline(), BEAT_SECONDS)
            except TimeoutError:
                yield b": \n\n"
                continue
            except ValueError:  # a longer line; the next begins within it
                continue
            if not raw:
                return
            line = visible.one_line(raw.decode("utf-8", "replace").rstrip("\n"))
            if text in line.casefold():
                yield b"data: " + msgspec.json.encode(line) + b"\n\n"
    finally:
        pipe.close()
        started.terminate()
        await loop.run_in_executor(None, started.wait)
