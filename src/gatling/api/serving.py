"""The socket of the API, and the server on it."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gatling import files
from gatling.errors import InvalidInput, MissingProgram, NotFound, PortTaken
from gatling.platform.homes import is_missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gatling.platform.open import Gatling

SOCKET = "api.sock"
BACKLOG = 128
CONNECTIONS = 256
"""Connections that are open at the same time; of more, requests get status 503."""
HEADER_BYTES = 32 << 10
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[0-9.]+):([0-9]{1,5})", re.ASCII)


def serve(gatling: Gatling, listen: str, ready: Callable[[str], None]) -> None:
    """Serve the API until the process is ended.

    `listen` is a path or an address of loopback with a port; empty: a socket in the home. Raises
    InvalidInput for anything else, or if the API of this home is served already, and
    MissingProgram without the libraries.
    """
    try:
        import uvicorn

        from gatling.api.application import Server
    except ModuleNotFoundError as error:
        raise MissingProgram(
            f"The HTTP API needs {str(error.name).partition('.')[0]}, which is not installed.",
            hint="Install starlette and uvicorn in the environment of Gatling:"
            f" `{sys.executable} -m pip install starlette uvicorn`.",
        ) from None
    if is_missing(gatling.home):
        raise NotFound("There are no apps here yet.", hint="`gatling load APP` creates one.")
    server = Server(gatling.home.database, gatling.home.root)
    config = uvicorn.Config(
        server.application(), http="h11", ws="none", loop="asyncio", lifespan="off",
        log_config=None, access_log=False, server_header=False, proxy_headers=False,
        limit_concurrency=CONNECTIONS, h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_keep_alive=15, timeout_graceful_shutdown=5,
    )  # fmt: skip
    with _alone(gatling.home.root / "api.lock"), listening(gatling, listen) as (place, taken):
        serving = uvicorn.Server(config)

        def end(*_: object) -> None:
            """End the server: uvicorn's own handlers are only there while it serves."""
            serving.should_exit = True

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, end)
        ready(place)
        serving.run(sockets=[taken])
        file = Path(place)
        if file.is_absolute():
            file.unlink(missing_ok=True)
        # threads that wait for a change would keep this process; the change goes on without it
        os._exit(0)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    with files.open_lock(path) as lock:
        if not files.try_lock(lock):
            raise InvalidInput("The HTTP API of this home is served already.")
        yield


@contextlib.contextmanager
def listening(gatling: Gatling, listen: str) -> Iterator[tuple[str, socket.socket]]:
    """The socket, which only this user can use if it is a file, and its name."""
    address = _ADDRESS.fullmatch(listen)
    if address is None:
        with _in_file(Path(listen) if listen else gatling.home.run / SOCKET) as (name, made):
            yield name, made
        return
    try:
        host = ipaddress.ip_address(address[1].strip("[]"))
    except ValueError:
        raise InvalidInput(f"{address[1]!r} is no address.") from None
    port = int(address[2])
    if not host.is_loopback or not 0 < port < 65536:
        raise InvalidInput(
            f"{listen} is not an address of loopback with a port.",
            hint="A proxy such as nginx makes the API reachable from other machines, over HTTPS.",
        )
    family = socket.AF_INET6 if host.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((str(host), port))
        except OSError as error:
            raise PortTaken(f"{listen} cannot be used: {error.strerror}.") from None
        made.listen(BACKLOG)
        yield listen, made


@contextlib.contextmanager
def _in_file(path: Path) -> Iterator[tuple[str, socket.socket]]:
    if not path.is_absolute():
        raise InvalidInput(
            f"{str(path)!r} is neither an address with a port nor an absolute path.",
            hint="For example 127.0.0.1:8090, or /run/gatling/api.sock.",
        )
    if path.exists() and not path.is_socket():
        raise InvalidInput(f"{path} is there already, and no socket.")
    path.unlink(missing_ok=True)  # of a server that was killed: another one would hold the lock
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        before = os.umask(0o177)
        try:
            made.bind(str(path))
        except OSError as error:
            raise InvalidInput(f"{path} cannot be made: {error.strerror or error}.") from None
        finally:
            os.umask(before)
        made.listen(BACKLOG)
        yield str(path), made
