"""The server of the pages: on loopback, or at the other end of an SSH connection.

Over SSH it listens nowhere. Requests of the laptop's browser come through the channel of the SSH
session (`tunnel.py`), and the process ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
from msgspec import Struct

from gatling.dashboard import tunnel
from gatling.dashboard.door import ADDRESS, Door
from gatling.errors import MissingProgram, NotFound, PortTaken
from gatling.platform.homes import is_missing
from gatling.ssh.policy import Grant
from gatling.state import keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatling.dashboard.application import Dashboard
    from gatling.dashboard.tunnel import Ends
    from gatling.platform.open import Gatling
    from gatling.state.database import Database

IDLE_SECONDS = 600.0
"""After which it ends, if no page is looked at."""
LOOK_SECONDS = 1.0
CONNECTIONS = 128
HEADER_BYTES = 32 << 10


class Greeting(Struct, frozen=True):
    """The first line that the server's end of a tunnel sends."""

    path: str
    """The path of the link."""
    host: str


def listen(port: int) -> socket.socket:
    """A socket on loopback, by default on any free port; raises PortTaken."""
    # with the protocol, which asyncio wants for TCP_NODELAY: an answer would take 40 ms without
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((ADDRESS, port))
    except OSError as error:
        made.close()
        raise PortTaken(f"Port {port} cannot be used: {error.strerror}.") from None
    made.listen(CONNECTIONS)
    return made


def on_loopback(gatling: Gatling, port: int, ready: Callable[[str], None]) -> None:
    """Serve the pages on this machine until nobody looks at them, or a signal comes.

    `ready` gets the link. The person at the machine may do everything.
    """
    grant = Grant(gatling.actor, "admin", frozenset({keys.EVERY_APP}))
    with listen(port) as taken:
        door = Door(taken.getsockname()[1])
        dashboard = _made(gatling, door, lambda _: grant)

        async def serve() -> None:
            loop = asyncio.get_running_loop()
            end = asyncio.Event()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, end.set)
            server = await loop.create_server(_protocols(dashboard), sock=taken)
            ready(door.origin + door.path)
            loop.run_in_executor(None, dashboard.warm_up)
            await _until_idle(dashboard, asyncio.ensure_future(end.wait()))
            server.close()
            _leave()

        asyncio.run(serve())


def over_stdio(gatling: Gatling, port: int) -> None:
    """Serve the pages to the other end of standard input and output, until it is gone.

    `port` is that of the other end. The permissions are those of the SSH key, at each request.
    """
    name = gatling.actor
    by_key = "GATLING_ROLE" in os.environ

    def who(db: Database) -> Grant:
        if not by_key:
            return Grant(name, "admin", frozenset({keys.EVERY_APP}))
        key = keys.get(db, name)  # it may have been removed, or given another role
        return Grant(key.name, key.role, frozenset(key.apps))

    door = Door(port)
    dashboard = _made(gatling, door, who)
    given, taken = os.fdopen(os.dup(0), "rb", 0), os.fdopen(os.dup(1), "wb", 0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):  # what a library prints would be taken for a frame
        os.dup2(nothing, number)

    async def serve() -> None:
        ends = await tunnel.piped(given, taken)
        greeting = Greeting(door.path, os.uname().nodename)
        ends[1].write(msgspec.json.encode(greeting) + b"\n")
        make = _protocols(dashboard)

        async def connect() -> Ends:
            ours, theirs = socket.socketpair()
            await asyncio.get_running_loop().connect_accepted_socket(make, theirs)
            return await asyncio.open_connection(sock=ours)

        asyncio.get_running_loop().run_in_executor(None, dashboard.warm_up)
        carried = asyncio.ensure_future(tunnel.Tunnel(ends, connect).run())
        await _until_idle(dashboard, carried)
        _leave()

    asyncio.run(serve())


def _made(gatling: Gatling, door: Door, who: Callable[[Database], Grant]) -> Dashboard:
    try:
        from gatling.dashboard.application import Dashboard
    except ModuleNotFoundError as error:
        raise MissingProgram(
            f"The dashboard needs {str(error.name).partition('.')[0]}, which is not installed.",
            hint="Install starlette, uvicorn and jinja2 in the environment of Gatling:"
            f" `{sys.executable} -m pip install starlette uvicorn jinja2`.",
        ) from None
    if is_missing(gatling.home):
        raise NotFound("There are no apps here yet.", hint="`gatling load APP` creates one.")
    return Dashboard(gatling.home.database, gatling.home.root, door, who)


def _protocols(dashboard: Dashboard) -> Callable[[], asyncio.Protocol]:
    """Make the protocol of a connection: uvicorn's, which tests/test_relied_upon.py covers."""
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol
    from uvicorn.server import ServerState

    config = uvicorn.Config(
        dashboard.application(), http="h11", ws="none", loop="asyncio", lifespan="off",
        log_config=None, access_log=False, server_header=False, proxy_headers=False,
        limit_concurrency=CONNECTIONS, h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_keep_alive=30,
    )  # fmt: skip
    config.load()
    state = ServerState()

    def protocol() -> asyncio.Protocol:
        return H11Protocol(config=config, server_state=state, app_state={})

    return protocol


async def _until_idle(dashboard: Dashboard, other: asyncio.Future[Any]) -> None:
    """Wait for that, or until no page was loaded for a while."""
    while not other.done() and dashboard.idle < IDLE_SECONDS:
        await asyncio.wait([other], timeout=LOOK_SECONDS)
    if other.done():
        other.result()
    else:
        other.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await other


def _leave() -> NoReturn:
    """End the process: threads may wait for a node, or for a change, which goes on without it.

    The event loop is not closed before. A thread that ends just then would print that it is closed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
