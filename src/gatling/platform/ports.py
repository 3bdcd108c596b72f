"""The listeners on the TCP ports of this machine."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gatling.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from ipaddress import IPv4Address, IPv6Address


_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


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
                        f"Port {port} is reserved for root: {error.strerror}.",
                        hint=(
                            "Choose a port of 1024 or higher, or see"
                            " net.ipv4.ip_unprivileged_port_start."
                        ),
                    ) from None
                raise
    return True


def answers(port: int, address: str = "127.0.0.1") -> bool:
    """Whether something accepts connections there."""
    with contextlib.closing(socket.socket(socket.AF_INET)) as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


def ephemeral() -> range:
    """The ports of which the system takes one for a program that asks for none: ip(7)."""
    try:
        first, last = _EPHEMERAL.read_text().split()
        return range(int(first), int(last) + 1)
    except (OSError, ValueError):
        return range(32768, 61000)


def public_address() -> str | None:
    """The address under which the internet reaches this machine, as far as it knows one."""
    found = os.environ.get("SSH_CONNECTION", "").split()[2:3]  # what an SSH client connected to
    for family, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((far, 9))  # chooses a source address; nothing is sent
            found.append(str(probe.getsockname()[0]))
    for text in found:
        with contextlib.suppress(ValueError):
            if ipaddress.ip_address(text).is_global:
                return text
    return None


def listeners(port: int) -> set[int]:
    """The user ids of those to whom a connection to 127.0.0.1 on this port may come: proc(5)."""
    loopback = ipaddress.ip_address("127.0.0.1")
    reached = {loopback, ipaddress.ip_address("0.0.0.0"), ipaddress.ip_address("::"),  # noqa: S104
               ipaddress.ip_address("::ffff:127.0.0.1")}  # fmt: skip
    return {one.user for one in _listening() if one.port == port and one.address in reached}


def listening(pid: int, user: int | None = None) -> list[str]:
    """List the addresses on which an OS process listens, for people.

    Such as `127.0.0.1:4000`, `[::1]:4000`, the path of a socket. The kernel does not show the
    sockets of another user's process: then all TCP ports of `user`.
    """
    try:
        inodes = _sockets(pid)
    except PermissionError:
        return sorted({str(one) for one in _listening() if one.user == user})
    except OSError:
        return []
    found = {str(one) for one in _listening() if one.inode in inodes}
    return sorted(found | set(_unix_sockets(inodes)))


class _Listener(NamedTuple):
    address: IPv4Address | IPv6Address
    port: int
    user: int
    inode: str

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else self.address
        return f"{host}:{self.port}"


def _listening() -> Iterator[_Listener]:
    """All TCP sockets of this machine that listen."""
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open(f"/proc/net/{table}") as file:  # noqa: PTH123
            for fields in (line.split() for line in file.readlines()[1:]):
                if fields[3] != "0A":  # TCP_LISTEN
                    continue
                words, _, port = fields[1].rpartition(":")
                # words of four bytes, each as a number of this machine
                each = (int(words[at : at + 8], 16) for at in range(0, len(words), 8))
                address = b"".join(n.to_bytes(4, sys.byteorder) for n in each)
                yield _Listener(
                    ipaddress.ip_address(address), int(port, 16), int(fields[7]), fields[9]
                )


def _unix_sockets(inodes: Collection[str]) -> Iterator[str]:
    """The paths of those of these sockets that listen (flag __SO_ACCEPTCON)."""
    with contextlib.suppress(OSError), open("/proc/net/unix") as file:  # noqa: PTH123
        for fields in (line.split(maxsplit=7) for line in file.readlines()[1:]):
            if len(fields) == 8 and int(fields[3], 16) & 0x10000 and fields[6] in inodes:
                yield fields[7].rstrip("\n")


def _sockets(pid: int) -> set[str]:
    """The inodes of a process' sockets."""
    found = set()
    with os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                link = os.readlink(entry.path)  # noqa: PTH115
                if link.startswith("socket:["):
                    found.add(link[8:-1])
    return found


class Program(NamedTuple):
    """An OS process by the name of its program."""

    name: str
    pid: int


def owner(port: int) -> str:
    """Describe the listener on a port: `python3 (pid 123)`, or `another process`."""
    found = program_on(port)
    return "another process" if found is None else f"{found.name} (pid {found.pid})"


def program_on(port: int) -> Program | None:
    """The program that listens on a port; None if this user cannot see it."""
    import psutil

    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections(kind="tcp"):
            listening = connection.status == psutil.CONN_LISTEN
            if listening and connection.laddr and connection.laddr.port == port and connection.pid:
                return Program(psutil.Process(connection.pid).name(), connection.pid)
    return None


def open_connections(pid: int, port: int) -> int:
    """How many clients are connected to `port` of the process `pid`; 0 when it is gone."""
    import psutil

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
