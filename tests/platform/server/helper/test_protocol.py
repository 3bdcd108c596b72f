"""How a request comes to root's helper: whole, from Gatling alone, with at most three files."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import socket
import struct
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gatling.platform.server.helper import machine, running, service
from gatling.platform.server.helper.shapes import Refused
from tests.scale import scaled

if TYPE_CHECKING:
    from collections.abc import Iterator

Pair = tuple[socket.socket, socket.socket]
REQUEST = json.dumps({"verb": "end", "app": "shop"}).encode()


@pytest.fixture(autouse=True)
def gatling_is_me(monkeypatch: pytest.MonkeyPatch) -> None:
    gatling_is(monkeypatch, os.getuid())


def gatling_is(monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    own = pwd.struct_passwd(("gatling", "x", uid, uid, "", "/", "/bin/sh"))
    users = SimpleNamespace(getpwnam={"gatling": own}.__getitem__)
    monkeypatch.setattr(machine, "pwd", users)


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, its = socket.socketpair()
    with ours, its:
        yield ours, its


def framed(payload: bytes) -> bytes:
    return struct.pack("!I", len(payload)) + payload


def received(its: socket.socket, files: list[int] | None = None) -> dict[str, Any]:
    return service._received(its, files if files is not None else [])


def test_byte_by_byte(pair: Pair) -> None:
    ours, its = pair

    def send() -> None:
        for byte in framed(REQUEST):
            ours.sendall(bytes([byte]))

    sending = threading.Thread(target=send)
    sending.start()
    assert received(its) == json.loads(REQUEST)
    sending.join()


@settings(max_examples=scaled(50, 200))
@given(st.binary(max_size=60))
@example(framed(REQUEST)[:-1])
@example(framed(REQUEST)[:3])
@example(struct.pack("!I", len(REQUEST) - 1) + REQUEST)
@example(struct.pack("!I", len(REQUEST) + 1) + REQUEST)
@example(struct.pack("!I", 0))
@example(struct.pack("!I", 0xFFFFFFFF) + REQUEST)
@example(struct.pack("!I", service.MAX_REQUEST))
@example(framed(b"[]"))
@example(framed(b"null"))
@example(framed(b"\xff\xfe"))
@example(framed(b'{"verb": "end"}{}'))
@example(framed(b"[" * 100_000))
@example(framed(b'{"a":' * 100_000))
@example(framed(b"1" * 10_000))
@example(b"")
def test_what_is_no_request_is_refused(raw: bytes) -> None:
    ours, its = socket.socketpair()
    with ours, its:

        def send() -> None:
            with contextlib.suppress(OSError):  # it may be refused before its end
                ours.sendall(raw)
                ours.shutdown(socket.SHUT_WR)

        sending = threading.Thread(target=send)
        sending.start()
        with pytest.raises(Refused):
            received(its)
        its.close()
        sending.join()


def test_what_is_too_long_is_not_waited_for(pair: Pair) -> None:
    ours, its = pair
    ours.sendall(struct.pack("!I", service.MAX_REQUEST))  # and nothing more
    with pytest.raises(Refused):
        received(its)


def test_what_comes_after_a_request_is_kept_for_later(pair: Pair) -> None:
    """A client may take back at once what he has requested."""
    ours, its = pair
    ours.sendall(framed(REQUEST) + b"c")
    assert received(its) == json.loads(REQUEST)
    assert its.recv(10) == b"c"


def test_files_come_along(pair: Pair) -> None:
    ours, its = pair
    reading, writing = os.pipe()
    socket.send_fds(ours, [framed(REQUEST)[:4]], [writing])
    ours.sendall(framed(REQUEST)[4:])
    files: list[int] = []
    received(its, files)
    os.close(writing)
    (came,) = files
    os.write(came, b"x")
    assert os.read(reading, 1) == b"x"
    os.close(came)
    assert os.read(reading, 1) == b""
    os.close(reading)


@pytest.mark.parametrize("per_byte", [1, 2, 4, 100])
def test_no_more_than_three_files(pair: Pair, per_byte: int) -> None:
    ours, its = pair
    with open(os.devnull) as nothing:  # noqa: PTH123
        for byte in framed(REQUEST):
            socket.send_fds(ours, [bytes([byte])], [nothing.fileno()] * per_byte)
    files: list[int] = []
    with pytest.raises(Refused):
        received(its, files)
    assert len(files) <= 6  # those of the last piece are there already
    for fd in files:
        os.close(fd)


def test_root_and_gatling_may_ask_and_no_third(monkeypatch: pytest.MonkeyPatch) -> None:
    class Peer:
        def __init__(self, uid: int) -> None:
            self.uid = uid

        def getsockopt(self, level: int, option: int, size: int) -> bytes:
            assert (level, option, size) == (socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            return struct.pack("3i", 1, self.uid, 1)

    gatling_is(monkeypatch, 990)
    for uid in (1, 33, 989, 991, 65534, -1):
        with pytest.raises(Refused, match="may not ask"):
            service._received(Peer(uid), [])  # type: ignore[arg-type]
    for uid in (0, 990):
        with pytest.raises(AttributeError):  # it goes on to read
            service._received(Peer(uid), [])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shown", "ended"),
    [
        ("Result=timeout\nExecMainCode=1\nExecMainStatus=0", {"result": "timeout"}),
        ("Result=success\nExecMainCode=0\nExecMainStatus=0", {"result": "success"}),
        ("Result=exit-code\nExecMainCode=1\nExecMainStatus=7",
         {"result": "exit-code", "status": 7}),
        ("Result=signal\nExecMainCode=2\nExecMainStatus=9", {"result": "signal", "status": -9}),
        ("", {"result": ""}),
    ],
)  # fmt: skip
def test_what_did_not_end_well_never_counts_as_if_it_had(
    monkeypatch: pytest.MonkeyPatch, shown: str, ended: dict[str, Any]
) -> None:
    """systemd-run has failed: its own status stays unless there is a better one."""
    told = SimpleNamespace(stdout=shown)
    fake = SimpleNamespace(run=lambda *_, **__: told, DEVNULL=None)
    monkeypatch.setattr(running, "subprocess", fake)
    assert running._how_it_ended("gatling-build-shop.x.service") == ended
