"""Several connections over one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Self

import pytest

from gatling.dashboard import tunnel
from gatling.dashboard.tunnel import CHUNK, WINDOW, Tunnel
from gatling.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gatling.dashboard.tunnel import Ends


class Pairs:
    """Connections within this process, which are closed at the end of the block."""

    def __init__(self) -> None:
        self._made: list[Ends] = []

    async def made(self) -> tuple[Ends, Ends]:
        one, other = socket.socketpair()
        ends = (await asyncio.open_connection(sock=one), await asyncio.open_connection(sock=other))
        self._made += ends
        return ends

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for _reader, writer in self._made:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def joined(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    use: Callable[[Callable[[], Awaitable[Ends]]], Awaitable[None]],
) -> None:
    """Two ends: `serve` gets each connection there, `use` makes them here."""
    async with Pairs() as pairs:
        ours, theirs = await pairs.made()
        tasks = set()

        async def connect() -> Ends:
            outer, inner = await pairs.made()
            tasks.add(asyncio.ensure_future(serve(*inner)))
            return outer

        near, far = Tunnel(ours), Tunnel(theirs, connect)
        running = [asyncio.create_task(near.run()), asyncio.create_task(far.run())]

        async def dial() -> Ends:
            outer, inner = await pairs.made()
            tasks.add(asyncio.ensure_future(near.carry(outer)))
            return inner

        await asyncio.wait_for(use(dial), 60)
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
        ours[1].close()
        await asyncio.wait_for(asyncio.gather(*running), 10)


def test_connections_do_not_mix() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    async def use(dial: Callable[[], Awaitable[Ends]]) -> None:
        async def one(number: int) -> None:
            reader, writer = await dial()
            writer.write(f"{number}\n".encode())
            assert await reader.read() == f"{number}\n".encode()
            writer.close()

        await asyncio.gather(*(one(number) for number in range(50)))

    asyncio.run(joined(echo, use))


def test_a_connection_that_is_not_read_keeps_no_other_one_waiting() -> None:
    size = 8 * WINDOW

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"x" * size)
        await writer.drain()
        writer.close()

    async def use(dial: Callable[[], Awaitable[Ends]]) -> None:
        slow, slow_writer = await dial()
        slow_writer.write(b"\n")
        for _ in range(3):
            reader, writer = await dial()
            writer.write(b"\n")
            assert len(await reader.read()) == size
            writer.close()
        assert len(await slow.read()) == size
        slow_writer.close()

    asyncio.run(joined(pour, use))


@pytest.mark.parametrize(
    "sent",
    [
        tunnel._HEAD.pack(1, tunnel.DATA, CHUNK + 1),
        tunnel._HEAD.pack(1, tunnel.OPEN, 0)
        + (tunnel._HEAD.pack(1, tunnel.DATA, CHUNK) + b"x" * CHUNK) * (4 * WINDOW // CHUNK),
    ],
)
def test_an_end_that_sends_too_much_is_left(sent: bytes) -> None:
    async def look() -> None:
        async with Pairs() as pairs:
            ours, theirs = await pairs.made()

            async def connect() -> Ends:
                outer, _ = await pairs.made()  # which nobody reads
                return outer

            ours[1].write(sent)
            with pytest.raises(InvalidInput, match="sent"):
                await asyncio.wait_for(Tunnel(theirs, connect).run(), 10)

    asyncio.run(look())
