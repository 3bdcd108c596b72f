"""The network of a bed: a bridge in a namespace, and a namespace for each box.

Nothing is added to the host's own network, and no box has a way out of the bed. All beds use the
same addresses: they do not see each other.
"""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from tests.server.host import in_network, run

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

PREFIX = "198.51.100."  # set aside for documentation (RFC 5737): no real network is hidden
LAST = 200
NAMESPACES = Path("/run/netns")


class Lan:
    """The bridge that the boxes of a bed are plugged into."""

    def __init__(self, bed: str) -> None:
        self.bed = bed
        self.name = f"{bed}-lan"

    @property
    def path(self) -> Path:
        """The namespace, as a file."""
        return NAMESPACES / self.name

    def up(self) -> None:
        """Make the namespace and the bridge."""
        run("ip", "netns", "add", self.name)
        self.ip("link", "set", "lo", "up")
        # Each address has a hardware address of its own, for good: with a random one, a box with
        # the address of one that was destroyed is not found for many seconds (ARP caches).
        self.ip("link", "add", "br0", "address", hardware(1), "type", "bridge")
        self.ip("addr", "add", f"{PREFIX}1/24", "dev", "br0")
        self.ip("link", "set", "br0", "up")
        # There is no way out. The bridge itself is all the world and refuses what it is asked for,
        # so that nobody in a box waits in vain for a name server, say. (Without a route there would
        # be answers, too, but the kernel limits their rate.)
        self.ip("route", "add", "local", "default", "dev", "lo")
        run(
            "nsenter", f"--net={self.path}",
            "sh", "-c", "echo 0 > /proc/sys/net/ipv4/icmp_ratelimit",
        )  # fmt: skip

    def ip(self, *arguments: str, check: bool = True) -> None:
        """`ip …` in the namespace."""
        run("ip", "-n", self.name, *arguments, check=check)

    def namespace(self, number: int) -> str:
        """The name of a box's namespace."""
        return f"{self.bed}-{number}"

    def plug_in(self, number: int) -> None:
        """A namespace for a box, with its address, connected to the bridge."""
        name = self.namespace(number)
        if (NAMESPACES / name).exists():
            return
        run("ip", "netns", "add", name)
        port = f"p{number}"
        self.ip("link", "add", port, "type", "veth", "peer", "name", "host0", "netns", name)
        run("ip", "-n", name, "link", "set", "host0", "address", hardware(10 + number))
        self.ip("link", "set", port, "master", "br0", "up")
        for words in (
            "link set lo up",
            f"addr add {address(number)}/24 dev host0",
            "link set host0 up",
            f"route add default via {PREFIX}1",  # as on any server
        ):
            run("ip", "-n", name, *words.split())

    def in_lan(self) -> AbstractContextManager[None]:
        """A block in which the calling thread opens its sockets in the bed's network."""
        return in_network(self.path)

    def connect(self, ip: str, port: int, seconds: float = 10) -> socket.socket:
        """A connection from the bridge; the socket can be used by any thread, anywhere."""
        with self.in_lan():  # a socket stays in the namespace in which it was made
            opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            opened.settimeout(seconds)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            opened.connect((ip, port))
        except BaseException:
            opened.close()
            raise
        return opened


def address(number: int) -> str:
    """The address of a box."""
    return f"{PREFIX}{10 + number}"


def hardware(last: int) -> str:
    """The hardware address that belongs to an address, by its last part."""
    return f"02:00:c6:33:64:{last:02x}"


def remove_namespaces(bed: str) -> None:
    """Remove all namespaces of a bed."""
    with contextlib.suppress(FileNotFoundError):
        for path in NAMESPACES.iterdir():
            if path.name.startswith(f"{bed}-"):
                run("ip", "netns", "del", path.name, check=False)
