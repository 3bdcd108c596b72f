"""Who listens on which TCP port of this machine."""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from typing import TYPE_CHECKING, Any

from gatling.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence


def is_free(port: int, address: str = "*") -> bool:
    """Whether a server could listen on the port now.

    With `*`, on all addresses, as Phoenix' endpoints do; sockets that merely wait after closing
    (TIME_WAIT) do not count.
    """
    wanted = [(socket.AF_INET, "0.0.0.0")]  # noqa: S104 (bound for an instant, never listened on)
    if address == "*":
        wanted.append((socket.AF_INET6, "::"))
    else:
        wanted = [(socket.AF_INET, address)]
    for family, host in wanted:
        with contextlib.closing(socket.socket(family)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind((host, port))
                probe.listen(1)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return False
                if error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    continue  # a machine without IPv6
                if error.errno == errno.EACCES:
                    raise InvalidInput(
                        f"Port {port} is not for ordinary users: {error.strerror}.",
                        hint="Choose one from 1024 on, or see net.ipv4.ip_unprivileged_port_start.",
                    ) from None
                raise
    return True


def answers(port: int, address: str = "127.0.0.1") -> bool:
    """Whether something accepts connections there."""
    with contextlib.closing(socket.socket(socket.AF_INET)) as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


def listeners(port: int) -> set[int]:
    """The user ids of those to whom a connection to 127.0.0.1 on this port may come: proc(5)."""
    found = set()
    addresses = [socket.inet_aton("127.0.0.1"), bytes(4), bytes(16),
                 bytes(10) + b"\xff\xff" + socket.inet_aton("127.0.0.1")]  # fmt: skip
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open(f"/proc/net/{table}") as file:  # noqa: PTH123
            for fields in (line.split() for line in file.readlines()[1:]):
                words, _, number = fields[1].rpartition(":")
                if fields[3] != "0A" or int(number, 16) != port:  # TCP_LISTEN
                    continue
                # words of four bytes, each as a number of this machine
                each = (int(words[at : at + 8], 16) for at in range(0, len(words), 8))
                if b"".join(n.to_bytes(4, sys.byteorder) for n in each) in addresses:
                    found.add(int(fields[7]))
    return found


def owner(port: int) -> str:
    """Who listens on a port, in words: `python3 (pid 123)`, or `another process`."""
    import psutil  # noqa: PLC0415 (slow to load, seldom needed)

    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections(kind="tcp"):
            listening = connection.status == psutil.CONN_LISTEN
            if listening and connection.laddr and connection.laddr.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return "another process"


def open_connections(pid: int, port: int) -> int:
    """How many clients are connected to `port` of the process `pid`; 0 when it is gone."""
    import psutil  # noqa: PLC0415 (slow to load, seldom needed)

    try:
        return _established(psutil.Process(pid).net_connections(kind="tcp"), port)
    except psutil.AccessDenied:  # another user's: all of the machine's, then
        return _established(psutil.net_connections(kind="tcp"), port)
    except psutil.Error:
        return 0


def _established(connections: Sequence[Any], port: int) -> int:
    return sum(
        c.status == "ESTABLISHED" and bool(c.laddr) and c.laddr.port == port for c in connections
    )
