"""The laptop's side: a port on loopback, and the way of its connections to the server.

The server's answers are not trusted: it names a path, and the browser is sent to this machine's
own port with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import signal
from typing import TYPE_CHECKING

import msgspec

from gatling import decoding, process
from gatling.cli.afar import NotReached
from gatling.dashboard import tunnel
from gatling.dashboard.door import ADDRESS
from gatling.dashboard.serving import Greeting, listen

if TYPE_CHECKING:
    import socket
    import subprocess
    from collections.abc import Callable

    from gatling.cli.targets import Host

GREETING_SECONDS = 60.0
_PATH = re.compile(r"/[A-Za-z0-9_-]{8,64}/enter/[A-Za-z0-9_-]{16,128}\Z")


def opened(host: Host, port: int, ready: Callable[[str], None]) -> None:
    """Lead the pages of a server to a port of loopback here, until either side ends.

    `ready` gets the link. ssh cannot prompt: the key is in an agent, or has no passphrase. Raises
    NotReached, PortTaken, MissingProgram without ssh.
    """
    with listen(port) as taken:
        words = ["dashboard", "--stdio", "--port", str(taken.getsockname()[1])]
        options = ["-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10",
                   "-o", "ServerAliveInterval=15", *host.options]  # fmt: skip
        argv = ["ssh", *options, host.target, "--", shlex.join(words)]
        ssh = process.converse(argv, env=os.environ)
        try:
            asyncio.run(_carry(ssh, taken, host, ready))
        finally:
            ssh.terminate()
            ssh.wait()


async def _carry(
    ssh: subprocess.Popen[bytes], taken: socket.socket, host: Host, ready: Callable[[str], None]
) -> None:
    assert ssh.stdin is not None and ssh.stdout is not None  # noqa: S101, PT018 (they are pipes)
    loop = asyncio.get_running_loop()
    end = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end.set)
    ends = await tunnel.piped(ssh.stdout, ssh.stdin)
    path = await _greeted(ends[0], host)
    far = tunnel.Tunnel(ends)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # asyncio of Python 3.11 prints a trace for each that is cancelled when the loop ends
        with contextlib.suppress(asyncio.CancelledError):
            await far.carry((reader, writer))

    server = await asyncio.start_server(connected, sock=taken)
    ready(f"http://{ADDRESS}:{taken.getsockname()[1]}{path}")
    carried = asyncio.ensure_future(far.run())
    await asyncio.wait(
        [carried, asyncio.ensure_future(end.wait())], return_when=asyncio.FIRST_COMPLETED
    )
    server.close()
    if carried.done():
        carried.result()


async def _greeted(reader: asyncio.StreamReader, host: Host) -> str:
    try:
        raw = await asyncio.wait_for(reader.readline(), GREETING_SECONDS)
        path = decoding.from_json(raw, Greeting).path
    except (TimeoutError, ValueError, msgspec.DecodeError):
        path = ""
    if not _PATH.match(path):
        raise NotReached(
            f"{host.target} did not open the dashboard.",
            hint=f"`ssh {host.target} whoami` must work without a prompt, and Gatling on the server"
            " must be as new as here.",
        )
    return path
