"""The storm when an instance with many open sockets ends: everything reconnects.

    python bench/sockets.py [--sockets 5000] [--mount-us 2000] [--rates 0 250 500]

For each rate one rolling deployment of a commit (0: all sockets reconnect when the instance
stops), of an app with websockets and channels that stand in for Phoenix' (tests/home/sockets.py).
Each mount takes some time of a processor. Reported are how long each page was without a socket, how
requests of other clients, 20 a second, were answered from its begin until all pages had a socket
again, and the resident memory of nginx and of all nodes, that of the build included. Pages connect
from several addresses of the loopback.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.home.sockets import APP, MIX, Browsers  # noqa: E402 (the root is on the path now)

from bed import PYTHON, Bed, Beside, bed  # noqa: E402 (it lies beside this file)

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDE = (
    "import gatling.proxy.parts as p; p.CONNECTIONS = 40000;"
    " from gatling.__main__ import main; main()"
)
"""Gatling with an nginx of more connections than an embedded home has."""
BETWEEN_SECONDS = 0.05
SAMPLE_SECONDS = 0.5
ADDRESSES = 8
PROGRAMS = ("beam.smp", "nginx")


class Visitor(Beside):
    """Sends a request every 50 ms, and notes how long each answer took."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port
        self.times: list[float] = []
        self.failed = 0

    def _run(self) -> None:
        while not self._stop.wait(BETWEEN_SECONDS):
            begun = time.monotonic()
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
            try:
                connection.request("GET", "/", headers={"Host": "sockets.localhost"})
                self.failed += connection.getresponse().status >= 500
            except OSError:
                self.failed += 1
            finally:
                connection.close()
            self.times.append(time.monotonic() - begun)


class Memory(Beside):
    """Notes the most memory that the nodes and nginx of a home had at one time, in MB."""

    def __init__(self, home: Bed) -> None:
        super().__init__()
        self._home = str(home.home).encode()
        self.most = dict.fromkeys(PROGRAMS, 0.0)

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            now = dict.fromkeys(PROGRAMS, 0.0)
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError, StopIteration):
                    program = (process / "comm").read_text().strip()
                    if program not in now or not self._belongs(process):
                        continue
                    lines = (process / "status").read_text().splitlines()
                    resident = next(line for line in lines if line.startswith("VmRSS"))
                    now[program] += int(resident.split()[1]) / 1024
            self.most = {name: max(self.most[name], megabytes) for name, megabytes in now.items()}

    def _belongs(self, process: Path) -> bool:
        # the title of a worker of nginx does not name its configuration
        return any(self._home in (process / file).read_bytes() for file in ("cmdline", "environ"))

    def __str__(self) -> str:
        return ", ".join(f"{name} {megabytes:.0f} MB" for name, megabytes in self.most.items())


def gatling(home: Bed, *words: str) -> str:
    """`gatling …` with a wide nginx; what it printed."""
    return home.output([PYTHON, "-I", "-c", WIDE, *words])


def spread(seconds: Sequence[float]) -> str:
    """Median, 95th percentile and maximum."""
    ordered = sorted(seconds)
    p95 = ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)]
    return (
        f"p50 {statistics.median(ordered) * 1000:.0f} ms, p95 {p95 * 1000:.0f} ms,"
        f" max {ordered[-1] * 1000:.0f} ms"
    )


def await_open(browsers: Browsers, count: int, reconnected: int) -> None:
    """Wait until so many sockets are open, and so many have been opened again."""
    while browsers.open < count or len(browsers.reconnected) < reconnected:
        time.sleep(0.05)


def storm(home: Bed, project: Path, sockets: int, rate: int) -> None:
    """One deployment."""
    gatling(home, "settings", "set", "sockets", "instance.drain=5", f"instance.drain_rate={rate}")
    source = project / "lib" / "sockets.ex"
    source.write_text(f"{source.read_text()}# before rate {rate}\n")
    home.commit(project)
    commit = home.output(["git", "rev-parse", "HEAD"], project).strip()
    home.output(["git", "push", "--quiet", "gatling", "HEAD:refs/heads/next"], project)
    with Browsers(home.port, sockets, ADDRESSES) as browsers, Memory(home) as memory:
        await_open(browsers, sockets, 0)
        time.sleep(2)
        failed = browsers.failed
        with Visitor(home.port) as visitor:
            begun = time.monotonic()
            # what a push does, with an nginx as wide as before
            output = gatling(home, "deploy", "sockets", commit, "--strategy", "rolling")
            returned = time.monotonic() - begun
            await_open(browsers, sockets, sockets)
        over = max(at for at, _ in browsers.closed) - min(at for at, _ in browsers.closed)
        asked = sum(restart for _, restart in browsers.closed)
    said = [line.strip() for line in output.splitlines() if "background" in line]
    print(f"rate {rate}, load {os.getloadavg()[0]:.1f}: {' '.join(said)}")
    print(f"  the deployment returned after {returned:.1f} s")
    print(f"  {len(browsers.closed)} sockets closed over {over:.1f} s, {asked} of them with 1012")
    print(f"  without a socket: {spread(browsers.reconnected)}; {browsers.failed - failed} refused")
    print(f"  {len(visitor.times)} requests: {spread(visitor.times)}; {visitor.failed} failed")
    print(f"  most memory: {memory}")


def main() -> None:
    """Push the app, and once more for each rate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sockets", type=int, default=5000)
    parser.add_argument("--mount-us", type=int, default=2000)
    parser.add_argument("--rates", type=int, nargs="+", default=[0, 250, 500])
    given = parser.parse_args()
    needed, (_, most) = 2 * given.sockets + 1000, resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < needed:
        parser.error(f"nginx needs {needed} open files, and the limit is {most}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with bed() as home:
        project = home.root / "sockets"
        (project / "lib").mkdir(parents=True)
        (project / "mix.exs").write_text(MIX)
        (project / "lib" / "sockets.ex").write_text(APP)
        home.repository(project, "sockets")
        gatling(home, "config", "set", "sockets", f"MOUNT_US={given.mount_us}")
        home.output(["git", "push", "--quiet", "gatling", "main"], project)
        gatling(home, "restart", "sockets")
        for rate in given.rates:
            storm(home, project, given.sockets, rate)
            time.sleep(10)  # the drain of the one before is over


if __name__ == "__main__":
    main()
