"""A peer that speaks the distribution protocol and means harm: every call ends in time."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from gatling.beam import etf, handshake
from gatling.beam.channel import Limit, connect
from gatling.beam.etf import Atom, Opaque
from gatling.errors import NodeUnreachable
from tests.places import local

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME, COOKIE = "evil@127.0.0.1", "known to both"
LIMIT = Limit(10_000, 100)


def packet(connection: socket.socket) -> bytes:
    (size,) = struct.unpack(">H", exactly(connection, 2))
    return exactly(connection, size)


def exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        if not chunk:
            raise ConnectionResetError
        data += chunk
    return data


def shake_hands(connection: socket.socket) -> None:
    """The accepting side, up to its proof that it knows the cookie."""
    packet(connection)
    name = NAME.encode()
    challenge = struct.pack(">cQIIH", b"N", handshake._FLAGS, 7, 9, len(name)) + name
    for answer in (b"sok", challenge):
        connection.sendall(struct.pack(">H", len(answer)) + answer)
    (theirs,) = struct.unpack_from(">I", packet(connection), 1)
    proof = b"a" + handshake._digest(COOKIE, theirs)
    connection.sendall(struct.pack(">H", len(proof)) + proof)


def message(control: tuple[object, ...], term: bytes = b"") -> bytes:
    data = b"\x70" + etf.encode(control) + term
    return struct.pack(">I", len(data)) + data


def answer(asker: Opaque, term: bytes) -> bytes:
    """`{rex, Term}` to the process that asked; the term is encoded already."""
    return message((2, Atom(""), asker), b"\x83h\x02w\x03rex" + term)


def asker_of(connection: socket.socket) -> Opaque:
    """Whose call comes next."""
    (size,) = struct.unpack(">I", exactly(connection, 4))
    control, _ = etf.decode_first(exactly(connection, size)[1:])
    asker: Opaque = control[1]
    return asker


@contextlib.contextmanager
def peer(behaviour: Callable[[socket.socket, Opaque], None]) -> Iterator[int]:
    """A node that does this when it is called; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                shake_hands(connection)
                behaviour(connection, asker_of(connection))
                connection.recv(1 << 16)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)
        assert not thread.is_alive()


def called(behaviour: Callable[[socket.socket, Opaque], None], timeout: float = 20) -> object:
    with peer(behaviour) as port, connect(local(port), NAME, COOKIE) as node:
        return node.call("erlang", "node", timeout=timeout, limit=LIMIT)


def test_the_fake_node_answers_like_a_real_one() -> None:
    assert called(lambda c, asker: c.sendall(answer(asker, b"a\x07"))) == 7


def ticks(connection: socket.socket, _: Opaque) -> None:
    while True:
        connection.sendall(bytes(4) * 100)


def strangers(connection: socket.socket, asker: Opaque) -> None:
    """Answers to somebody who asked before; one has the same number, of another creation."""
    other = Opaque(asker.encoded[:-4] + b"\0\0\0\1")
    while True:
        connection.sendall(answer(other, b"a\x07"))


def large_strangers(connection: socket.socket, asker: Opaque) -> None:
    other = Opaque(asker.encoded[:-4] + b"\0\0\0\1")
    while True:
        connection.sendall(answer(other, b"m" + struct.pack(">I", 8 << 20) + bytes(8 << 20)))


def a_large_answer(connection: socket.socket, asker: Opaque) -> None:
    connection.sendall(answer(asker, b"m" + struct.pack(">I", 20_000) + bytes(20_000)))


def many_elements(connection: socket.socket, asker: Opaque) -> None:
    connection.sendall(answer(asker, b"l" + struct.pack(">I", 9_000) + b"j" * 9_001))


def a_string_of_many(connection: socket.socket, asker: Opaque) -> None:
    connection.sendall(answer(asker, b"k" + struct.pack(">H", 9_000) + bytes(9_000)))


def a_huge_integer(connection: socket.socket, asker: Opaque) -> None:
    connection.sendall(answer(asker, b"o" + struct.pack(">IB", 9_000, 0) + b"\xff" * 9_000))


def nested(connection: socket.socket, asker: Opaque) -> None:
    connection.sendall(answer(asker, b"h\x01" * 70 + b"j"))


def nonsense(connection: socket.socket, asker: Opaque) -> None:
    connection.sendall(answer(asker, b"\xff"))


def without_rex(connection: socket.socket, asker: Opaque) -> None:
    connection.sendall(message((2, Atom(""), asker), b"\x83a\x01"))


def nothing_at_all(connection: socket.socket, asker: Opaque) -> None:
    connection.sendall(message((2, Atom(""), asker)))


def no_address(connection: socket.socket, _: Opaque) -> None:
    connection.sendall(message((2,)))


def an_empty_control(connection: socket.socket, _: Opaque) -> None:
    connection.sendall(struct.pack(">I", 1) + b"\x70")


def another_kind(connection: socket.socket, _: Opaque) -> None:
    connection.sendall(struct.pack(">I", 2) + b"\x44\x00")


def a_long_address(connection: socket.socket, _: Opaque) -> None:
    connection.sendall(message((2, [Atom("x")] * 500, Atom("y"))))


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        (ticks, "floods"),
        (strangers, "floods"),
        (large_strangers, "floods"),
        (a_large_answer, "has 20"),
        (many_elements, "protocol"),
        (a_string_of_many, "protocol"),
        (a_huge_integer, "protocol"),
        (nested, "protocol"),
        (nonsense, "protocol"),
        (without_rex, "belongs to no call"),
        (nothing_at_all, "protocol"),
        (no_address, "without an address"),
        (an_empty_control, "protocol"),
        (another_kind, "kind 68"),
        (a_long_address, "protocol"),
    ],
)
def test_what_is_no_answer(behaviour: Callable[[socket.socket, Opaque], None], said: str) -> None:
    with pytest.raises(NodeUnreachable, match=said):
        called(behaviour)


def test_an_answer_that_comes_drop_by_drop_ends_with_the_time_for_the_call() -> None:
    def drop_by_drop(connection: socket.socket, asker: Opaque) -> None:
        for byte in answer(asker, b"a\x07"):
            connection.sendall(bytes([byte]))
            time.sleep(0.05)

    begun = time.monotonic()
    with pytest.raises(NodeUnreachable, match="in time"):
        called(drop_by_drop, timeout=0.4)
    assert time.monotonic() - begun < 5


def test_a_few_late_answers_do_no_harm() -> None:
    def late(connection: socket.socket, asker: Opaque) -> None:
        other = Opaque(asker.encoded[:-4] + b"\0\0\0\1")
        for _ in range(20):
            connection.sendall(answer(other, b"a\x01") + bytes(4))
        connection.sendall(answer(asker, b"a\x02"))

    assert called(late) == 2


def test_a_node_that_does_not_read_does_not_hold_the_command() -> None:
    over = threading.Event()

    def deaf(connection: socket.socket, _: Opaque) -> None:
        over.wait(60)

    with peer(deaf) as port, connect(local(port), NAME, COOKIE) as node:
        with pytest.raises(NodeUnreachable):
            node.call("erlang", "node", timeout=0.2)
        with pytest.raises(NodeUnreachable, match="in time"):
            node.call("erlang", "byte_size", bytes(64 << 20), timeout=0.5)
        over.set()


HOSTILE = {
    "empty lists": "b'l' + struct.pack('>I', n) + b'j' * (n + 1)",
    "characters": "b'k' + struct.pack('>H', 65535) + bytes(65535)",
    "atoms": "b'l' + struct.pack('>I', n // 4) + b'w\\2ab' * (n // 4) + b'j'",
    "tuples": "b'l' + struct.pack('>I', n // 3) + b'h\\1j' * (n // 3) + b'j'",
    "maps": "b'l' + struct.pack('>I', n // 7) + b't\\0\\0\\0\\1w\\0j' * (n // 7) + b'j'",
    "floats": "b'l' + struct.pack('>I', n // 9) + b'F\\0\\0\\0\\0\\0\\0\\0\\1' * (n // 9) + b'j'",
    "an integer": "b'o' + struct.pack('>IB', n, 0) + b'\\xff' * n",
}
MEASURED = """
import resource, struct
from gatling.beam import channel, etf
n = (8 << 20) - 100
data = b'\\x83' + {term}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    etf.decode(data, channel.LARGE.elements)
except etf.MalformedTerm:
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("term", HOSTILE.values(), ids=HOSTILE.keys())
def test_the_largest_answer_takes_little_memory(term: str) -> None:
    code = MEASURED.format(term=term)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 100 << 10, f"{int(done.stdout) >> 10} MB"
