"""Run in a network of its own (test_firewall.py): what became of connections."""

from __future__ import annotations

import contextlib
import encodings.idna  # noqa: F401 (other users cannot load it)
import json
import os
import signal
import socket
import sys
from typing import Any

SECONDS = 1.0


def become(user: int) -> None:
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)


def listen(user: int, port: int, backlog: int, ready: int) -> None:
    become(user)
    with socket.socket(socket.AF_INET6) as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(("::", port))
        opened.listen(backlog)
        os.write(ready, b"1")
        while True:
            with opened.accept()[0] as connection, contextlib.suppress(OSError):
                connection.settimeout(SECONDS)
                connection.sendall(b"said: " + connection.recv(10))


def call(user: int, address: str, port: int) -> str:
    become(user)
    try:
        with socket.create_connection((address, port), timeout=SECONDS) as connection:
            connection.sendall(b"secret")
            return "answered" if connection.recv(20) else "closed"
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return "unanswered"


def child(act: Any, *arguments: Any) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            act(*arguments)
        finally:
            os._exit(0)
    return pid


def attempted(listener: int, client: int, port: int, *, address: str = "127.0.0.1",
              backlog: int = 16, clients: int = 1) -> str:  # fmt: skip
    reading, writing = os.pipe()
    server = child(listen, listener, port, backlog, writing)
    os.read(reading, 1)
    callers = [child(lambda: os.write(writing, call(client, address, port).encode() + b" "))
               for _ in range(clients)]  # fmt: skip
    for pid in callers:
        os.waitpid(pid, 0)
    os.close(writing)
    os.kill(server, signal.SIGKILL)
    os.waitpid(server, 0)
    with os.fdopen(reading) as said:
        return ", ".join(sorted(set(said.read().split())))


print(json.dumps([attempted(**each) for each in json.loads(sys.argv[1])]))
