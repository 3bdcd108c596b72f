"""Nobody without the key of an app connects to its nodes, on an embedded home as on a server."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from gatling.platform.embedded import node_key
from tests.conftest import new_world, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Project, World

pytestmark = pytest.mark.skipif(not node_key.is_supported(), reason="the kernel signs nothing")
FLAGS = (2, 4, 7, 8, 9, 10, 11, 16, 17, 18, 24, 25, 34)
ATOMS = "IO.puts(:erlang.system_info(:atom_count))"


@pytest.fixture(scope="module")
def shop() -> Iterator[Project]:
    with new_world() as world:
        project = world.load(strategy="auto")
        project.push()
        yield project


def file(world: World) -> Path:
    return world.home / "apps/shop/node.config"


def rpc(world: World, expression: str) -> str:
    return world.run("run", "shop", "--", "rpc", expression).strip()


def node_port(world: World) -> int:
    """The port on which the distribution of the live node listens."""
    record = json.loads((world.home / f"apps/shop/slots/{slot(world)}/instance.json").read_text())
    words = record["env"]["ERL_ZFLAGS"].split()
    return int(words[words.index("-erl_epmd_port") + 1])


def slot(world: World) -> int:
    found: int = world.status()["slot"]
    return found


def knocks(port: int, number: int, source: str, key: bytes | None = None) -> bool:
    """Whether the node begins a handshake under a new name, as one of its neighbours would."""
    with socket.socket() as client:
        if key is not None:
            client.setsockopt(*node_key.option(key))
        client.settimeout(2)
        client.bind((source, 0))
        name = f"n{number}@127.0.0.1".encode()
        flags = sum(1 << bit for bit in FLAGS)
        packet = struct.pack(">cQIH", b"N", flags, 7, len(name)) + name
        try:
            client.connect(("127.0.0.1", port))
            client.sendall(struct.pack(">H", len(packet)) + packet)
            return client.recv(64) != b""
        except TimeoutError:
            return False


def test_nobody_without_the_key_makes_a_handshake(shop: Project) -> None:
    """Each would add an atom to the node, which ends when its table is full."""
    world = shop.world
    port, before = node_port(world), int(rpc(world, ATOMS))
    sources = ("127.0.0.1", "127.0.0.9")
    assert not any(knocks(port, number, source) for number, source in enumerate(sources))
    assert not knocks(port, 3, "127.0.0.1", b"another key")
    assert int(rpc(world, ATOMS)) <= before + 2, "those of this very command"
    assert world.get().status == 200


def test_the_key_is_its_owner_s_alone(shop: Project) -> None:
    world = shop.world
    assert file(world).stat().st_mode & 0o777 == 0o600
    (option,) = node_key.options(file(world))
    key = option[2][136 : 136 + node_key.KEY_BYTES].hex()
    assert key in file(world).read_text()
    for pid in filter(str.isdecimal, os.listdir("/proc")):  # noqa: PTH208
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as opened:  # noqa: PTH123
                assert key.encode() not in opened.read()
        except OSError:
            continue  # it has ended


def test_gatling_and_its_commands_connect(shop: Project) -> None:
    world = shop.world
    shop.title("Signed")
    assert " is live (hot upgrade) in " in shop.push()
    assert rpc(world, 'IO.puts("within")') == "within"
    assert world.status()["chain_unknown"] is None
    world.run("rollback", "shop")
    assert world.last()["strategy"] == "hot"
    # its end writes how the instance starts, which the next test changes
    until(lambda: not world.is_checked(), "the end of the boot check")


def test_a_node_that_an_older_gatling_started_can_be_reached(shop: Project) -> None:
    world = shop.world
    record = world.home / f"apps/shop/slots/{slot(world)}/instance.json"
    described = json.loads(record.read_text())
    flags = described["env"]["ERL_ZFLAGS"]
    argument = node_key.argument(file(world))
    assert flags.endswith(argument)
    described["env"]["ERL_ZFLAGS"] = flags.removesuffix(argument)
    record.write_text(json.dumps(described))
    restarts = world.status()["restarts"]
    os.kill(world.status()["pid"], signal.SIGKILL)
    until(lambda: world.status()["restarts"] == restarts + 1, "another instance")
    until(lambda: world.get().status == 200, "the page")
    assert knocks(node_port(world), 4, "127.0.0.1")
    assert rpc(world, 'IO.puts("within")') == "within"
    shop.title("From an older one")
    assert " is live (hot upgrade) in " in shop.push()
    world.run("restart", "shop")
    assert not knocks(node_port(world), 5, "127.0.0.1")
    assert rpc(world, 'IO.puts("within")') == "within"
