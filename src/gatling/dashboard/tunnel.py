"""Several connections over one: what the browser sends to a laptop, over the SSH channel.

The laptop listens on loopback, and the server's end connects each connection to the pages. Both
speak in frames: the number of the connection, the kind, the length, and so many bytes. A sender
waits for credit of the other side, so that a page that is read slowly keeps no other one waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from typing import IO, TYPE_CHECKING

from gatling.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

OPEN, DATA, CLOSE, MORE = 1, 2, 3, 4
"""A new connection; its bytes; its end; so many bytes were passed on."""
_HEAD = struct.Struct("!IBI")
_COUNT = struct.Struct("!I")
CHUNK = 32 << 10
WINDOW = 256 << 10
"""Bytes of a connection that are under way, at most."""
CONNECTIONS = 128
"""Connections that are open at the same time, at most."""

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def piped(given: IO[bytes], taken: IO[bytes]) -> Ends:
    """The ends of a pair of pipes: one that is read from, one that is written to."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await loop.connect_read_pipe(lambda: protocol, given)
    flow: asyncio.Protocol
    transport, flow = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, taken)
    return reader, asyncio.StreamWriter(transport, flow, None, loop)


class _Line:
    """A connection, on this side of the tunnel."""

    def __init__(self, ends: Ends) -> None:
        self.reader, self.writer = ends
        self.credit = WINDOW
        self.granted = asyncio.Event()
        self.incoming: asyncio.Queue[bytes] = asyncio.Queue()
        """Bytes for the writer; empty ones are the end."""
        self.waiting = 0
        """How many bytes are in it."""


class Tunnel:
    """One end. `connect` makes the local side of a connection that the other end opens."""

    def __init__(self, ends: Ends, connect: Callable[[], Awaitable[Ends]] | None = None) -> None:
        self._reader, self._writer = ends
        self._connect = connect
        self._lines: dict[int, _Line] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._last = 0

    async def carry(self, ends: Ends) -> None:
        """Open a connection at the other end, and carry it until it ends."""
        if len(self._lines) >= CONNECTIONS:
            ends[1].close()
            return
        self._last += 1
        number = self._last
        self._send(number, OPEN)
        await self._carry(number, _Line(ends))

    async def run(self) -> None:
        """Receive until the other end is gone; raises InvalidInput for what is no tunnel."""
        try:
            while True:
                number, kind, length = _HEAD.unpack(await self._reader.readexactly(_HEAD.size))
                if length > CHUNK:
                    raise InvalidInput("The other end of the tunnel sent too much at once.")
                payload = await self._reader.readexactly(length)
                await self._take(number, kind, payload)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            for task in self._tasks:
                task.cancel()
            for line in self._lines.values():
                line.writer.close()

    async def _take(self, number: int, kind: int, payload: bytes) -> None:
        line = self._lines.get(number)
        if kind == OPEN and self._connect is not None and line is None:
            if len(self._lines) >= CONNECTIONS:
                self._send(number, CLOSE)
                return
            # here and not in the task: the first bytes may follow at once
            line = _Line(await self._connect())
            self._lines[number] = line
            task = asyncio.create_task(self._carry(number, line))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif line is None:
            return  # it has just ended here
        elif kind == DATA and payload:
            line.waiting += len(payload)
            if line.waiting > WINDOW:
                raise InvalidInput("The other end of the tunnel sent more than it may.")
            line.incoming.put_nowait(payload)
        elif kind == CLOSE:
            line.incoming.put_nowait(b"")
        elif kind == MORE and len(payload) == _COUNT.size:
            line.credit += _COUNT.unpack(payload)[0]
            line.granted.set()

    async def _carry(self, number: int, line: _Line) -> None:
        self._lines[number] = line
        try:
            async with asyncio.TaskGroup() as both:
                sending = both.create_task(self._outward(number, line))
                await self._inward(number, line)
                sending.cancel()
        except* (ConnectionError, OSError):
            pass
        finally:
            self._lines.pop(number, None)
            self._send(number, CLOSE)
            line.writer.close()

    async def _outward(self, number: int, line: _Line) -> None:
        while chunk := await line.reader.read(CHUNK):
            while line.credit < len(chunk):
                line.granted.clear()
                await line.granted.wait()
            line.credit -= len(chunk)
            self._send(number, DATA, chunk)
            await self._writer.drain()
        self._send(number, CLOSE)
        line.incoming.put_nowait(b"")

    async def _inward(self, number: int, line: _Line) -> None:
        while chunk := await line.incoming.get():
            line.writer.write(chunk)
            await line.writer.drain()
            line.waiting -= len(chunk)
            self._send(number, MORE, _COUNT.pack(len(chunk)))

    def _send(self, number: int, kind: int, payload: bytes = b"") -> None:
        with contextlib.suppress(ConnectionError, RuntimeError):
            if not self._writer.is_closing():
                self._writer.write(_HEAD.pack(number, kind, len(payload)) + payload)
