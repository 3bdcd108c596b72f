"""Databases of 1 GB: creation, backup and proof, fork, rewind, upgrade, and what pgbench sees.

    python bench/databases.py [--scale 68] [--seconds 10] [--place DIRECTORY] [--xfs]

It needs pgbench and pgBackRest, and a home that is not root's: root runs it as another user of a
namespace, as the tests do. `--scale` is that of pgbench, some 15 MB each. `--xfs` (root) measures
on an XFS file system in a file of 12 GB, where forks and upgrades share blocks. Every figure is of
one run, with the load of the machine beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.home.test_databases import UNPRIVILEGED, Home
from tests.home.test_restore_points import Shop
from tests.home.test_upgrades import LATER, later

from bed import Beside, KeepAliveClient

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENTS = 4


def say(text: str) -> None:
    """Print a line with the load of the machine."""
    print(f"{text:<78} load {os.getloadavg()[0]:.1f}", flush=True)


class Bench:
    """A home with an app and its database."""

    def __init__(self, place: Path, seconds: int) -> None:
        self.home, self.place, self.seconds = Home(place), place, seconds

    def connected(self, program: str, *words: str, name: str = "shop") -> list[str]:
        """A program of PostgreSQL in a database, as the app."""
        sockets = self.home.home / f"databases/{name}/current/socket"
        return [*UNPRIVILEGED, program, "-h", str(sockets), "-U", "gatling-shop", *words, name]

    def timed(self, *words: str) -> tuple[float, str]:
        """Seconds of a command, and what it printed."""
        began = time.monotonic()
        said = self.home.run(*words)
        return time.monotonic() - began, said

    def pgbench(self, seconds: float) -> subprocess.Popen[str]:
        """Pgbench, under way."""
        argv = self.connected("pgbench", "-n", "-c", str(CLIENTS), "-j", "2", "-T",
                              str(max(2, round(seconds))))  # fmt: skip
        return subprocess.Popen(argv, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def rate(self) -> str:
        """The transactions a second while nothing else happens."""
        said, _ = self.pgbench(self.seconds).communicate()
        return _rate(said)

    @contextlib.contextmanager
    def under_load(self, what: str) -> Iterator[None]:
        """Let pgbench run, and print its rate with failed transactions."""
        argv = self.connected("pgbench", "-n", "-c", str(CLIENTS), "-j", "2", "-T", "600",
                              "-P", "1")  # fmt: skip
        with subprocess.Popen(argv, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as running:  # fmt: skip
            time.sleep(1)
            yield
            running.terminate()
            _, progress = running.communicate()
        rates = [float(one) for one in re.findall(r"s, ([0-9.]+) tps", progress)]
        waits = [float(one) for one in re.findall(r"lat ([0-9.]+) ms", progress)]
        failed = sum(int(one) for one in re.findall(r"([0-9]+) failed", progress))
        mean = sum(rates) / max(1, len(rates))
        say(f"  pgbench during {what}: {mean:.0f} transactions/s, {failed} failed")
        say(f"    the worst second: {min(rates, default=0):.0f}, {max(waits, default=0):.0f} ms")

    def bytes_taken(self) -> int:
        """Bytes that are taken on the file system."""
        os.sync()
        return shutil.disk_usage(self.place).used


class Writer(Beside):
    """Commits one row after the other, each over a connection of its own."""

    def __init__(self, bench: Bench, name: str = "shop") -> None:
        super().__init__()
        words = ("-Xq", "-c", "INSERT INTO beats DEFAULT VALUES", "-d")
        self._argv = bench.connected("psql", *words, name=name)
        self.longest, self.failed = 0.0, 0

    def _run(self) -> None:
        last = time.monotonic()
        while not self._stop.is_set():
            done = subprocess.run(self._argv, check=False, capture_output=True)
            if done.returncode == 0:
                now = time.monotonic()
                self.longest, last = max(self.longest, now - last), now
            else:
                self.failed += 1
                time.sleep(0.02)


def measure(place: Path, scale: int, seconds: int) -> None:
    """All figures, on the file system of a directory."""
    bench = Bench(place, seconds)
    home = bench.home
    try:
        began = time.monotonic()
        home.run("load", "try")
        home.run("db", "create", "try", "--version", "15")
        home.sql("try", "SELECT 1")
        say(f"created, to the first query: {time.monotonic() - began:.1f} s (with `load`)")
        home.run("db", "destroy", "try", "--confirm", "try")
        shop = Shop(home)
        shop.migration("1_orders", "CREATE TABLE orders (id serial, name text)")
        shop.project.push()
        home.sql("shop", "CREATE TABLE beats (at timestamptz DEFAULT clock_timestamp())")
        subprocess.run(bench.connected("pgbench", "-i", "-q", "-s", str(scale)), check=True,
                       capture_output=True)  # fmt: skip
        size = home.facts("db", "info", "shop")["facts"]["bytes"]
        say(f"the database has {size / 1e6:.0f} MB")
        say(f"pgbench without backups: {bench.rate()}")
        first = home.facts("db", "backup", "shop")
        say(f"full backup {first['backup_seconds']:.1f} s ({first['backup']['stored'] / 1e6:.0f} MB"
            f" stored), proof {first['proof_seconds']:.1f} s")  # fmt: skip
        say(f"pgbench with the log archived: {bench.rate()}")
        with bench.under_load("a full backup and its proof"):
            second = home.facts("db", "backup", "shop", "--full")
        say(f"  backup {second['backup_seconds']:.1f} s, proof {second['proof_seconds']:.1f} s:"
            f" {second['backup']['state']}")  # fmt: skip
        third = home.facts("db", "backup", "shop")
        say(f"incremental backup {third['backup_seconds']:.1f} s"
            f" ({third['backup']['stored'] / 1e6:.0f} MB stored), proof"
            f" {third['proof_seconds']:.1f} s")  # fmt: skip
        before = bench.bytes_taken()
        took, _ = bench.timed("db", "fork", "shop", "shop-try")
        grown = (bench.bytes_taken() - before) / 1e6
        how = home.json("db", "forks")[0]["how"]
        say(f"fork ({how}): {took:.1f} s, {grown:.0f} MB on the disk")
        home.run("db", "fork", "shop", "shop-try", "--destroy", "--confirm", "shop-try")
        with bench.under_load(f"a fork ({how})"):
            took, _ = bench.timed("db", "fork", "shop", "shop-try")
        home.run("db", "fork", "shop", "shop-try", "--destroy", "--confirm", "shop-try")
        rewind(bench, shop)
        upgrade(bench)
    finally:
        home.close()


def upgrade(bench: Bench) -> None:
    """An upgrade, while rows are written, and the way back; `shop` is the database of before."""
    # Debian 12's pgBackRest cannot back up the later version, so a fork without backups is upgraded
    bench.home.run("db", "fork", "shop", "shop-new")
    bench.home.env["PATH"] = f"{later()}:{bench.home.env['PATH']}"
    name = ("--name", "shop-new")
    with Writer(bench, "shop-new") as writer:
        took, said = bench.timed("db", "upgrade", "shop", "--to", str(LATER), *name)
    printed = re.search(r"could not be used for ([0-9.]+) s", said)
    how = "clone" if "copy-on-write" in said else "copy"
    say(f"upgrade 15 → {LATER} ({how}): {took:.1f} s with its rehearsal, no write for"
        f" {writer.longest:.1f} s (printed: {printed[1] if printed else '?'})")  # fmt: skip
    with Writer(bench, "shop-new") as writer:
        took, _ = bench.timed("db", "upgrade", "shop", "--undo", "--confirm", "shop-new", *name)
    say(f"upgrade undone: {took:.1f} s, no write for {writer.longest:.1f} s")


def rewind(bench: Bench, shop: Shop) -> None:
    """A rollback with data, while clients ask and rows are written."""
    bench.home.run("db", "backup", "shop")
    shop.migration("2_price", "ALTER TABLE orders ADD price int")
    shop.project.push()
    with (
        KeepAliveClient(bench.home.port, "shop.localhost") as client,
        Writer(bench, "shop") as writer,
        bench.under_load("a rewind"),
    ):
        took, _ = bench.timed("rollback", "shop", "--with-data", "--confirm", "shop")
    say(f"rewind: {took:.1f} s, {client.failed} of {client.requests} requests failed, no write to"
        f" the database of before for {writer.longest:.1f} s")  # fmt: skip


def _rate(said: str) -> str:
    tps = re.search(r"tps = ([0-9.]+) ", said)
    wait = re.search(r"latency average = ([0-9.]+) ms", said)
    return f"{float(tps[1]):.0f} transactions/s, {wait[1]} ms" if tps and wait else said


@contextlib.contextmanager
def xfs(beside: Path) -> Iterator[Path]:
    """A directory of an XFS file system in a file."""
    image, place = beside / "bench.xfs", Path(tempfile.mkdtemp(prefix="gt-"))
    with image.open("wb") as file:
        file.truncate(12 << 30)
    subprocess.run(["mkfs.xfs", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)
        place.rmdir()


def main() -> None:
    """Measure, as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=int, default=68)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--place", type=Path, default=Path("/var/tmp"))  # noqa: S108
    parser.add_argument("--xfs", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gt-", dir=given.place) as directory:
        place = Path(directory)
        place.chmod(0o755)
        with xfs(place) if given.xfs else contextlib.nullcontext(place) as where:
            measure(where / "h", given.scale, given.seconds)


if __name__ == "__main__":
    main()
