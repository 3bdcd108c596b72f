"""The control channel, against a real node: what it answers, and what can go wrong."""

from __future__ import annotations

import re
import socket
import struct
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from gatling.beam import channel, handshake
from gatling.beam.channel import RemoteError, connect
from gatling.beam.etf import Atom
from gatling.errors import NodeUnreachable
from gatling.platform import ports
from tests.conftest import until
from tests.places import local

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME, COOKIE = "channel@127.0.0.1", "a cookie of its own"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def booted(port: int) -> bool:
    """Whether the node has loaded all that it loads by itself."""
    with connect(local(port), NAME, COOKIE) as node:
        status = node.call("init", "get_status")
        node.call("timer", "sleep", 1)  # loads what the tests use
        return bool(status == ("started", "started"))


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A node without epmd, as instances are."""
    port = free_port()
    node = subprocess.Popen(
        ["erl", "-noinput", "-start_epmd", "false", "-erl_epmd_port", str(port),
         "-kernel", "inet_dist_use_interface", "{127,0,0,1}", "-name", NAME,
         "-setcookie", COOKIE],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until(lambda: ports.answers(port), "the node")
        until(lambda: booted(port), "its boot")
        yield port
    finally:
        node.kill()
        node.wait()


def test_calls_and_their_answers(port: int) -> None:
    with connect(local(port), NAME, COOKIE) as node:
        assert node.call("erlang", "node") == Atom(NAME)
        assert node.call("lists", "reverse", [1, b"two", Atom("three")]) == ["three", b"two", 1]
        assert node.call("maps", "get", Atom("k"), {Atom("k"): (1.5, -(1 << 70))}) == (
            1.5,
            -(1 << 70),
        )
        large = b"x" * 3_000_000
        assert node.call("erlang", "byte_size", large) == len(large)
        assert node.call("binary", "copy", b"y", 3_000_000, limit=channel.LARGE) == b"y" * 3_000_000


def test_the_name_of_the_connection_is_one_atom_for_all(port: int) -> None:
    counts = []
    for _ in range(60):
        with connect(local(port), NAME, COOKIE) as node:
            counts.append(node.call("erlang", "system_info", Atom("atom_count")))
    assert counts[-1] - counts[9] < 25, counts  # not one for each


def test_who_lacks_the_cookie_knows_no_name_to_hold(port: int) -> None:
    """A handshake needs no cookie, and one of the same name delays or ends Gatling's."""
    with connect(local(port), NAME, COOKIE) as node:
        (name,) = node.call("erlang", "nodes", [Atom("hidden")])
    assert re.fullmatch(r"gatling-[0-9a-f]{16}@127\.0\.0\.1", name)
    ended = threading.Event()
    guessed = "gatling@127.0.0.1"
    holders = [threading.Thread(target=hold, args=(port, guessed, ended)) for _ in range(3)]
    for holder in holders:
        holder.start()
    try:
        for _ in range(30):
            with connect(local(port), NAME, COOKIE) as node:
                assert node.call("erlang", "nodes", [Atom("hidden")]) == [name]
    finally:
        ended.set()
        for holder in holders:
            holder.join()


def hold(port: int, name: str, ended: threading.Event) -> None:
    """Begin handshakes as a node of this name, again and again, and finish none."""
    while not ended.is_set():
        with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
            packet = struct.pack(">cQIH", b"N", handshake._FLAGS, 7, len(name)) + name.encode()
            sock.sendall(struct.pack(">H", len(packet)) + packet)
            sock.recv(64)


def test_a_function_that_raises_is_told_without_its_terms(port: int) -> None:
    with connect(local(port), NAME, COOKIE) as node:
        with pytest.raises(RemoteError) as caught:
            node.call("erlang", "binary_to_atom", [b"secret"])
        assert caught.value.what == "erlang:binary_to_atom failed in the node (badarg)."
        assert "secret" not in str(caught.value)
        with pytest.raises(RemoteError, match=r"no:where failed in the node \(undef\)"):
            node.call("no", "where")
        assert node.call("erlang", "node") == NAME, "the connection goes on"


def test_an_answer_that_does_not_come(port: int) -> None:
    with (
        connect(local(port), NAME, COOKIE) as node,
        pytest.raises(NodeUnreachable, match="in time"),
    ):
        node.call("timer", "sleep", 60_000, timeout=0.3)


def answered_late(node: channel.Node, milliseconds: int, timeout: float) -> None:
    """Ask what is answered after so long, until an answer is late: a slow machine may be later."""
    for _ in range(50):
        try:
            node.call("timer", "sleep", milliseconds, timeout=timeout)
        except NodeUnreachable as error:
            assert "in time" in error.what  # noqa: PT017
            return
    raise AssertionError("All answers came in time.")


def test_a_late_answer_is_nobody_else_s(port: int) -> None:
    with connect(local(port), NAME, COOKIE) as first:
        for _ in range(3):
            answered_late(first, 700, 0.05)
        assert first.call("erlang", "max", 1, 2) == 2
    with connect(local(port), NAME, COOKIE) as second:  # the answers to the first one come here
        assert second.call("timer", "sleep", 1500) == "ok"
        assert [second.call("erlang", "max", 0, n) for n in range(5)] == list(range(5))


def test_two_commands_at_once_each_get_their_own_answers(port: int, tmp_path: Path) -> None:
    wrong, gate = [], tmp_path / "node.lock"

    def ask(number: int) -> None:
        for _ in range(10):
            with connect(local(port), NAME, COOKIE, patience=60, gate=gate) as node:
                if node.call("erlang", "max", number, 0) != number:
                    wrong.append(number)
                answered_late(node, 30, 0.001)

    threads = [threading.Thread(target=ask, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert wrong == []


def test_a_connection_over_which_nothing_is_asked_for_a_while_goes_on(port: int) -> None:
    with connect(local(port), NAME, COOKIE) as node:
        assert node.call("net_kernel", "set_net_ticktime", 4, 1) == "change_initiated"
        time.sleep(9)
        assert node.call("erlang", "node") == NAME


def test_one_connection_at_a_time(port: int) -> None:
    with connect(local(port), NAME, COOKIE) as first:
        with (
            pytest.raises(NodeUnreachable, match="Another Gatling command"),
            connect(local(port), NAME, COOKIE, patience=0.2),
        ):
            pass
        ended = threading.Timer(0.3, first.close)
        ended.start()
        with connect(local(port), NAME, COOKIE) as second:
            assert second.call("erlang", "node") == NAME
        ended.join()


def test_another_cookie_another_name_and_nobody(port: int) -> None:
    with pytest.raises(NodeUnreachable), connect(local(port), NAME, "guessed"):
        pass
    with (
        pytest.raises(NodeUnreachable, match=r"instead of 'other@127\.0\.0\.1'"),
        connect(local(port), "other@127.0.0.1", COOKIE),
    ):
        pass
    without = pytest.raises(NodeUnreachable, match="turn distribution off")
    with without, connect(local(free_port()), NAME, COOKIE):
        pass


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\x03sok" * 9])
def test_somebody_else_listens_there(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "CONNECT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with (
            pytest.raises(NodeUnreachable),
            connect(local(listener.getsockname()[1]), NAME, COOKIE),
        ):
            pass
        thread.join()
