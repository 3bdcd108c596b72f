"""Answers each request to root's helper in a process of its own.

The process that listens has the helper's code loaded. It reads nothing that a client sends, and
forks for each connection. So a request knows nothing of others, and costs a fork instead of the
start of Python, which a deployment would pay for ten times. When no request has come for
`IDLE_SECONDS`, the process ends: systemd keeps the socket, and starts it for the next one.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys
import time
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

IDLE_SECONDS = 60.0
"""How long the process that listens waits for a request when none is under way."""
MOST = 256
"""Requests that are under way at the same time."""
FIRST_FILE = 3
"""The file descriptor of the socket that systemd passes: sd_listen_fds(3)."""


def passed() -> socket.socket:
    """The socket that systemd has passed; the programs that are run do not inherit it."""
    for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    os.set_inheritable(FIRST_FILE, False)
    return socket.socket(fileno=FIRST_FILE)


def serve(
    listening: socket.socket,
    answer: Callable[[socket.socket], None],
    prepare: Callable[[], None],
    *,
    idle_seconds: float = IDLE_SECONDS,
    most: int = MOST,
) -> None:
    """Have `answer` take each connection, in a process of its own, until none comes any more.

    `prepare` is called once, when nothing waits: it loads what answers will need. While `most`
    requests are under way, others wait.
    """
    listening.setblocking(False)
    under_way: dict[int, int] = {}
    with selectors.DefaultSelector() as events:
        events.register(listening, selectors.EVENT_READ)
        prepared = False
        while True:
            patience = None if under_way else idle_seconds
            ready = events.select(patience if prepared else 0)
            if not ready and prepared:
                return
            if not ready:
                prepare()
                prepared = True
            for key, _ in ready:
                if key.fileobj is not listening:
                    events.unregister(key.fileobj)
                    os.waitpid(under_way.pop(key.fd), 0)
                    os.close(key.fd)
                    if len(under_way) == most - 1:
                        events.register(listening, selectors.EVENT_READ)
                elif (began := _begin(listening, answer, under_way)) is not None:
                    events.register(began, selectors.EVENT_READ)
                    if len(under_way) == most:
                        events.unregister(listening)


def _begin(
    listening: socket.socket,
    answer: Callable[[socket.socket], None],
    under_way: dict[int, int],
) -> int | None:
    """Take a connection and begin to answer it; the process that does so, as pidfd_open(2)."""
    try:
        connection = listening.accept()[0]
    except (BlockingIOError, ConnectionAbortedError):
        return None  # the client is gone
    except OSError:
        traceback.print_exc()
        time.sleep(0.1)  # the machine lacks memory or files; the client waits
        return None
    with connection:
        try:
            pid = os.fork()
        except OSError:
            traceback.print_exc()
            return None  # the client sees the end of the connection
        if pid == 0:
            _answer(listening, connection, answer, under_way)
        began = os.pidfd_open(pid)
        under_way[began] = pid
        return began


def _answer(
    listening: socket.socket,
    connection: socket.socket,
    answer: Callable[[socket.socket], None],
    others: dict[int, int],
) -> None:
    """The work of the new process; does not return."""
    status = 1
    try:
        listening.close()
        for other in others:
            os.close(other)
        answer(connection)
        status = 0
    except BaseException:  # noqa: BLE001 (this process must not go on as the one that listens)
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)
