"""Whether a domain leads to this server: found out before a CA is asked."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from gatling.operations import hops, reachability
from gatling.proxy.challenges import HttpChallenge
from tests.ca.front import serving
from tests.proxy.bench import Bench, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    root = tmp_path_factory.mktemp("nginx")
    with serving(root, "localhost", without=("other.localhost",)) as bench:
        yield bench


@pytest.fixture
def resolved(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """The addresses of names, which no DNS has."""
    known = {"localhost": ["127.0.0.1"], "other.localhost": ["127.0.0.1"]}

    def addresses(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        if host not in known:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in known[host]]

    monkeypatch.setattr(socket, "getaddrinfo", addresses)
    monkeypatch.setattr(hops, "PORT", bench.port)
    known["127.0.0.1"] = ["127.0.0.1"]
    known["127.0.0.9"] = ["127.0.0.9"]
    return known


def fault(bench: Bench, domain: str) -> tuple[str, str]:
    challenge = HttpChallenge(bench.root / "challenges")
    found = reachability.faults([domain], challenge, "192.0.2.7").get(domain)
    assert list((bench.root / "challenges").iterdir()) == []
    return (found.what, found.hint) if found else ("", "")


def test_one_that_leads_here(bench: Bench, resolved: dict[str, list[str]]) -> None:
    assert fault(bench, "localhost") == ("", "")


def test_one_that_does_not_resolve(bench: Bench, resolved: dict[str, list[str]]) -> None:
    what, hint = fault(bench, "gone.example")
    assert what == "gone.example does not resolve: Name or service not known."
    assert hint == "Add an A or AAAA record for gone.example that points to 192.0.2.7."


def test_one_that_leads_elsewhere(bench: Bench, resolved: dict[str, list[str]]) -> None:
    what, hint = fault(bench, "other.localhost")
    assert "leads to another server: 127.0.0.1 answered with status 200" in what
    assert "point to 192.0.2.7" in hint


def test_all_addresses_have_to_lead_here(bench: Bench, resolved: dict[str, list[str]]) -> None:
    resolved["localhost"] = ["127.0.0.1", "127.0.0.9"]
    what, hint = fault(bench, "localhost")
    assert "localhost (127.0.0.9) cannot be reached on port" in what
    assert "Connection refused" in what
    assert "certificates.check=false" in hint


def test_a_closed_port(
    bench: Bench, resolved: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hops, "PORT", free_port())
    what, hint = fault(bench, "localhost")
    assert "Connection refused" in what
    assert "to the internet" in hint


class Stranger:
    """A server of somebody else's, which gives the same bytes to each that asks, slowly or not."""

    def __init__(self, said: bytes, pause: float = 0) -> None:
        self.asked: list[bytes] = []
        self._said, self._pause = said, pause
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self.asked.append(connection.recv(4096))
            if not self._pause:
                connection.sendall(self._said)
                connection.recv(1)  # it keeps the connection open
            for one in self._said if self._pause else b"":
                connection.sendall(bytes([one]))
                time.sleep(self._pause)


@pytest.fixture
def stranger(
    resolved: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Stranger]]:
    resolved["far.example"] = ["127.0.0.1"]
    with contextlib.ExitStack() as stack:

        def make(said: str, pause: float = 0) -> Stranger:
            made = Stranger(said.encode(), pause)
            stack.callback(made.close)
            monkeypatch.setattr(hops, "PORT", made.port)
            return made

        yield make


def redirect(location: str) -> str:
    return f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 9999999\r\n\r\n"


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("http://[", "not valid HTTP"),
        ("http://a,b.example/", "no valid one"),
        ("http://[::1]/", "redirects to ::1, which is not on the internet"),
        ("http://" + "a" * 64 + ".example/", "not resolve"),
        ("http://gone.example/", "redirects to gone.example, which does not resolve"),
        ("http://inside.example/", "redirects to inside.example, which is not on the internet"),
        ("http://meta.example/", "redirects to meta.example, which is not on the internet"),
        ("http://127.0.0.1/", "redirects to 127.0.0.1, which is not on the internet"),
        ("http://far.example:20001/", "redirects to another port"),
        ("https://far.example:20001/", "redirects to another port"),
        ("file:///etc/passwd", "redirects to another port or protocol"),
        ("http://far.example:x/", "not valid HTTP"),
        ("/again", "redirects more than 10 times"),
    ],
)
def test_redirects_that_are_not_followed(
    bench: Bench, resolved: dict[str, list[str]], stranger: Callable[..., Stranger],
    location: str, said: str,
) -> None:  # fmt: skip
    resolved["inside.example"] = ["192.0.2.1", "127.0.0.1"]
    resolved["meta.example"] = ["169.254.169.254"]
    resolved["::1"] = ["::1"]
    other = stranger(redirect(location))
    what, _ = fault(bench, "far.example")
    assert said in what
    assert len(other.asked) == (11 if location == "/again" else 1)


def test_a_redirect_that_is_followed(
    bench: Bench, resolved: dict[str, list[str]], stranger: Callable[..., Stranger],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    resolved["own.example"] = ["127.0.0.1"]
    monkeypatch.setattr(hops, "is_allowed", lambda _: True)
    other = stranger(redirect("http://own.example/there?x=1#y"))
    assert "redirects more than 10 times" in fault(bench, "far.example")[0]
    assert other.asked[1].startswith(b"GET /there?x=1 HTTP/1.1\r\nHost: own.example\r\n")


@pytest.mark.parametrize(
    "said",
    ["HTTP/1.1 200 OK\r\n\r\n" + "x" * 9999,
     "HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 9\r\n\r\nx",
     "HTTP/1.1 100 Continue\r\n\r\n" * 1000, redirect("/")],
)  # fmt: skip
def test_no_slow_answer_takes_longer_than_the_limit(
    bench: Bench, stranger: Callable[..., Stranger], monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setattr(reachability, "SECONDS", 0.5)
    stranger(said, pause=0.05)
    began = time.monotonic()
    assert "no answer in time" in fault(bench, "far.example")[0]
    assert time.monotonic() - began < 20  # all of it would take minutes


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ("HTTP/1.1 200 OK\r\n\r\n" + "x" * 200_000, "answered with status 200"),
        ("HTTP/1.1 404 No\r\nContent-Length: 1\r\n\r\nx", "answered with status 404"),
        ("HTTP/1.1 302 Found\r\nContent-Length: 1\r\n\r\nx", "answered with status 302"),
        ("SSH-2.0-x\r\n", "not valid HTTP"),
        ("HTTP/1.1 100 Continue\r\n\r\n" * 9000, "not valid HTTP"),
    ],
)
def test_an_answer_of_another_server(
    bench: Bench, stranger: Callable[..., Stranger], said: str, what: str
) -> None:
    stranger(said)
    assert what in fault(bench, "far.example")[0]
    assert "leads to another server" in fault(bench, "far.example")[0]


def test_many_dead_domains_take_no_longer_than_the_limit_of_all(
    bench: Bench, resolved: dict[str, list[str]], stranger: Callable[..., Stranger],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(reachability, "SECONDS", 0.4)
    monkeypatch.setattr(reachability, "ALL_SECONDS", 2.0)
    stranger("HTTP/1.1 200 OK\r\n" * 99, pause=0.1)
    dead = [f"d{n}.example" for n in range(100)]
    resolved |= {one: ["127.0.0.1"] for one in dead}
    began = time.monotonic()
    challenge = HttpChallenge(bench.root / "challenges")
    found = reachability.faults(dead, challenge, None)
    assert time.monotonic() - began < 20  # all of it would take minutes
    assert set(found) == set(dead)
    assert "no answer in time" in found["d0.example"].what
    assert "was not checked" in found["d99.example"].what


def test_addresses_that_are_no_place_for_a_check() -> None:
    allowed = ["8.8.8.8", "2606:4700::1111"]
    others = ["127.0.0.1", "::1", "::ffff:127.0.0.1", "10.255.255.254", "169.254.169.254",
              "0.0.0.1", "224.0.0.1", "ff02::1", "fe80::1%eth0", "100.64.0.1", "x",
              "::"]  # fmt: skip
    assert [one for one in (*allowed, *others) if hops.is_allowed(one)] == allowed


def test_a_private_address_that_is_not_this_machines(
    bench: Bench, resolved: dict[str, list[str]]
) -> None:
    resolved["meta.example"] = ["169.254.169.254"]
    what, hint = fault(bench, "meta.example")
    assert what == "meta.example leads to 169.254.169.254, which no CA can reach."
    assert "certificates.check=false" in hint
