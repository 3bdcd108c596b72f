"""An app that is upgraded hot, and what the tests of this package do with it."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
from typing import TYPE_CHECKING, Self

import pytest

from gatling.beam import channel
from gatling.beam.etf import Atom
from gatling.platform.base import Address
from gatling.platform.embedded import node_key
from gatling.platform.local import LOOPBACK
from tests.conftest import Project, World, scratch, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatling.beam.channel import Node

STORE = "lib/counter/store.ex"
APPLICATION = "lib/counter/application.ex"
NODE = """
    SELECT p.port, (SELECT value FROM config WHERE app = a.name AND name = 'RELEASE_COOKIE')
    FROM ports p JOIN apps a ON a.name = p.app AND a.live_slot = p.slot
    WHERE p.use = 'node' AND a.name = 'shop'
"""
PRINTED = b"""
{:ok, printed} = StringIO.open("")
Process.group_leader(self(), printed)
Code.eval_string(source)
{:ok, {_, text}} = StringIO.close(printed)
text
"""
"""Evaluates a source; its value is what that prints."""


class Stream:
    """A client of the app's event stream, through the proxy."""

    def __init__(self, world: World) -> None:
        self._socket = socket.create_connection(("127.0.0.1", world.port), timeout=60)
        self._socket.sendall(b"GET /events HTTP/1.1\r\nHost: shop.localhost\r\n\r\n")
        self.seen = b""

    def __enter__(self) -> Self:
        self.expect(b"data: ")
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def expect(self, text: bytes) -> None:
        """Read until this comes; fails when the stream ends before."""
        while text not in self.seen:
            piece = self._socket.recv(4096)
            assert piece, f"the stream ended, without {text!r} in {self.seen!r}"
            self.seen += piece


def held(code: str) -> str:
    """An expression that runs code in a process of the live node, which keeps what it opens."""
    return (
        f"me = self(); spawn(fn -> {code}; send(me, :held); Process.sleep(:infinity) end);"
        ' receive do :held -> :ok after 60_000 -> raise "it is not held" end'
    )


class Hot:
    """The app, its project, and short words for what happens to it."""

    def __init__(self, project: Project) -> None:
        self.project, self.world = project, project.world

    def push(self, *, ok: bool = True) -> str:
        """Commit everything and push it."""
        self.project.commit()
        return self.project.push(ok=ok)

    def increment(self) -> int:
        return int(self.world.get("/increment", method="POST").text)

    def count(self) -> int:
        return int(self.world.get("/count").text)

    def rpc(self, expression: str) -> str:
        """What an expression prints in the node.

        `gatling run shop -- rpc` does the same in a VM of its own, whose boot takes 0.4 s of CPU.
        """
        source = [(Atom("source"), expression.encode())]
        with node(self.world) as connected:
            text, _ = connected.call("Elixir.Code", "eval_string", PRINTED, source, timeout=120,
                                     limit=channel.LARGE)  # fmt: skip
        return bytes(text).decode()

    def write(self, path: str, text: str) -> None:
        self.project.write(path, text)

    def replace(self, path: str, old: str, new: str) -> None:
        self.project.replace(path, old, new)

    def restore(self) -> None:
        """Back to the project's first commit, as a change of the work tree."""
        first = self.project.git("rev-list", "--max-parents=0", "HEAD")
        self.project.git("rm", "-r", "--quiet", "--force", ".")
        self.project.git("checkout", "--quiet", first, "--", ".")

    def strategy(self) -> str:
        strategy: str = self.world.last()["strategy"]
        return strategy

    def reasons(self) -> str:
        return "; ".join(self.world.last()["reasons"])

    def chain(self) -> list[str]:
        """The releases that the node has run; asked when it has noticed who asked before."""
        chain: list[str] = until(lambda: self.world.status()["chain"], "the chain")
        return chain

    def pid(self) -> int:
        pid: int = self.world.status()["pid"]
        return pid


@contextlib.contextmanager
def node(world: World) -> Iterator[Node]:
    """A connection to the node of shop."""
    with contextlib.closing(sqlite3.connect(world.home / "state.db")) as state:
        port, cookie = state.execute(NODE).fetchone()
    key = node_key.options(world.home / "apps/shop" / node_key.NAME)
    address = Address(LOOPBACK, port, key)
    with channel.connect(address, "counter@127.0.0.1", cookie, patience=60) as connected:
        yield connected


@pytest.fixture(scope="module", autouse=True)
def builds_quickly(shared_builds: None) -> None:
    """Compile the example once: `push` and others are about builds."""


@pytest.fixture(scope="module")
def running() -> Iterator[Hot]:
    """A deployed app that the tests of one module upgrade one after another."""
    world = World(scratch())
    try:
        project = world.load(strategy="auto")
        # whether releases boot is checked in the tests that use `boot_check`, which takes seconds
        world.run("settings", "set", "shop", "hot.watch=0.3", "hot.boot_check=off",
                  "releases.keep=200")  # fmt: skip
        project.push()
        yield Hot(project)
    finally:
        world.close()


@pytest.fixture
def hot(running: Hot) -> Hot:
    """The app with the example's own code again, hot or not; its count above zero."""
    running.restore()
    world = running.world
    if world.status()["release"] != "v1":
        back, rolling = ("deploy", "shop", "v1"), ("--strategy", "rolling")
        # a boot on demand takes half the CPU of the nodes that compare two releases; and the test
        # before may have left code that refuses to be converted back
        if world.loads_on_demand or world.try_run(*back).returncode != 0:
            world.run(*back, *rolling)
            until(lambda: len(world.beams()) == 1, "the end of the instance before")
    until(lambda: world.get("/health").status == 200, "the app")
    running.increment()
    return running


@pytest.fixture
def boot_check(hot: Hot) -> Iterator[None]:
    """Each release of a hot upgrade is started beside the running one, which is the default."""
    hot.world.run("settings", "unset", "shop", "hot.boot_check")
    yield
    hot.world.run("settings", "set", "shop", "hot.boot_check=off")
