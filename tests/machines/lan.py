"""The network of machines: a bridge in a namespace, taps, and a way out by slirp4netns."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.conftest import until
from tests.machines import disk
from tests.server import network
from tests.server.host import run

HERE = f"{disk.ADDRESSES}50"
"""The address of the tests."""


class MachineLan(network.Lan):
    """As the network of boxes, but with a way out, and taps. The host's network is as before."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._slirp: subprocess.Popen[bytes] | None = None

    def up(self) -> None:
        """Make the namespace, the bridge, the taps and the way out."""
        run("ip", "netns", "add", self.name)
        for words in (
            "link set lo up",
            "link add br0 type bridge",
            f"addr add {HERE}/24 dev br0",
            "link set br0 up",
        ):
            self.ip(*words.split())
        for number in range(disk.MACHINES):
            self.ip("tuntap", "add", f"t{number}", "mode", "tap")
            self.ip("link", "set", f"t{number}", "master", "br0", "up")
        # its end in the namespace becomes a port of the bridge; user sockets, no firewall rule
        self._slirp = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "slirp4netns", "--mtu=1500", "--netns-type=path",
             str(self.path), "sl0"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until(self._has_way_out, "slirp4netns", 30)
        self.ip("link", "set", "sl0", "master", "br0", "up")
        # a connection that brings much into a machine stalls when segments arrive in one piece
        for device in ("br0", "sl0", *(f"t{number}" for number in range(disk.MACHINES))):
            self.ip("link", "set", device, "gso_max_segs", "1")

    def _has_way_out(self) -> bool:
        if self._slirp is None or self._slirp.poll() is not None:
            raise RuntimeError("slirp4netns has ended")
        return run("ip", "-n", self.name, "link", "show", "sl0", check=False).returncode == 0

    def close(self) -> None:
        """Remove it."""
        if self._slirp is not None:
            self._slirp.kill()
            self._slirp.wait()
        run("ip", "netns", "del", self.name, check=False)


def sweep() -> None:
    """Remove what test runs that were killed have left: networks, and disks of machines."""
    for left in (disk.directory() / "run").glob("gtm*-lan"):
        if not Path(f"/proc/{left.name.removeprefix('gtm').removesuffix('-lan')}").exists():
            run("ip", "netns", "del", left.name, check=False)
            run("rm", "-rf", "--one-file-system", left, seconds=300)
