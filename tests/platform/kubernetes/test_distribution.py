"""The certificate of an app's nodes: what is in it, when it is renewed, and who accepts it."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import functools
import socket
import subprocess
import threading
from typing import TYPE_CHECKING, Any, cast

import pytest
from cryptography import x509

from gatling.beam import channel, handshake
from gatling.errors import NodeUnreachable
from gatling.platform.kubernetes import distribution, secured
from gatling.platform.kubernetes.pods import DISTRIBUTION
from tests.conftest import until
from tests.proxy.bench import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = dt.datetime.now(dt.UTC)
MADE = distribution.secret("shop", "prod", NOW)
NAME = "nodes-shop.prod.svc.cluster.local"
NODE = """
{ok, _} = application:ensure_all_started(ssl),
{ok, [Options]} = file:consult(File),
{ok, Listening} = ssl:listen(0, [binary, {active, false}, {ip, {127, 0, 0, 1}} | Options]),
{ok, {_, Port}} = ssl:sockname(Listening),
io:format("~b~n", [Port]),
Echo = fun Echo(Socket) ->
    case ssl:recv(Socket, 0) of {ok, Data} -> ok = ssl:send(Socket, Data), Echo(Socket); _ -> ok end
end,
Accept = fun Accept() ->
    {ok, Waiting} = ssl:transport_accept(Listening),
    case ssl:handshake(Waiting) of {ok, Socket} -> Echo(Socket); _ -> ok end,
    Accept()
end,
Accept().
"""


class Namespace:
    """The Secrets of a cluster."""

    namespace = "prod"

    def __init__(self, found: Any = None) -> None:
        self.secret, self.applied = found, 0

    def find(self, kind: str, name: str) -> Any:
        assert (kind, name) == ("Secret", "distribution-shop")
        return self.secret

    def apply(self, one: Any) -> None:
        self.secret, self.applied = one, self.applied + 1


def content(secret: Any, name: str) -> bytes:
    return base64.b64decode(secret["data"][name])


def ensured(found: Any) -> Namespace:
    there = Namespace(found)
    distribution.ensure(cast("Any", there), "shop")
    return there


def test_a_certificate_is_of_the_app_s_own_authority() -> None:
    authority, certificate = (
        x509.load_pem_x509_certificate(content(MADE, name)) for name in ("ca.crt", "tls.crt")
    )
    certificate.verify_directly_issued_by(authority)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [NAME]
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    other = distribution.secret("shop", "prod", NOW)
    assert content(other, "ca.crt") != content(MADE, "ca.crt")


def test_one_that_is_due_is_renewed_by_the_same_authority() -> None:
    assert ensured(MADE).applied == 0
    old = distribution.secret("shop", "prod", NOW - dt.timedelta(days=400))
    renewed = ensured(old)
    assert renewed.applied == 1
    assert content(renewed.secret, "ca.crt") == content(old, "ca.crt")
    assert content(renewed.secret, "tls.crt") != content(old, "tls.crt")
    ancient = distribution.secret("shop", "prod", NOW - dt.timedelta(days=6900))
    assert content(ensured(ancient).secret, "ca.crt") != content(ancient, "ca.crt")


@pytest.mark.parametrize("name", ["ca.crt", "ca.key", "tls.crt", "tls.key", "options.config"])
def test_one_that_is_damaged_is_replaced(name: str) -> None:
    for text in ("", "%", base64.b64encode(b"x").decode(), None):
        broken = MADE | {"data": MADE["data"] | {name: text}}
        there = ensured(broken)
        # nobody needs the key of the authority before it is due
        assert there.applied == (name != "ca.key")
        assert ensured(there.secret).applied == 0
    assert ensured(None).applied == 1


def context(secret: Any) -> Any:
    return distribution.context(cast("Any", Namespace(secret)), "shop")


def test_a_secret_that_is_missing_or_damaged_is_named() -> None:
    broken = [None, {}, *(MADE | {"data": MADE["data"] | {name: "AA=="}} for name in MADE["data"]
                          if name in ("ca.crt", "tls.crt", "tls.key"))]  # fmt: skip
    for secret in broken:
        with pytest.raises(NodeUnreachable, match="The Secret distribution-shop"):
            context(secret)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a pod."""
    made = tmp_path_factory.mktemp("node")
    for name in MADE["data"]:
        text = content(MADE, name).decode().replace(DISTRIBUTION, str(made))
        (made / name).write_text(text)
    return made


@pytest.fixture(scope="module")
def node(place: Path) -> Iterator[int]:
    """Erlang's TLS with the options of a node: what is sent comes back; the port."""
    first, _, _ = (place / "options.config").read_text().partition("]},")
    (place / "server").write_text(f"{first.removeprefix('[{server, ')}].\n")
    program = NODE.replace("File", f'"{place}/server"').replace("\n", " ")
    with subprocess.Popen(
        ["erl", "-noshell", "-boot", "start_clean", "-eval", program.strip()],
        stdout=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        try:
            yield int(running.stdout.readline())
        finally:
            running.kill()


def opened(port: int, secret: Any, name: str = NAME) -> socket.socket:
    raw = socket.create_connection(("127.0.0.1", port), timeout=60)
    return secured.over(raw, context(secret), name, 60)


def test_bytes_go_both_ways_from_two_threads(node: int) -> None:
    sent = bytes(range(256)) * 8192
    with opened(node, MADE) as connection:
        connection.settimeout(60)
        writing = threading.Thread(target=connection.sendall, args=(sent,))
        writing.start()
        received = bytearray()
        while len(received) < len(sent):
            received += connection.recv(1 << 16)
        writing.join()
    assert received == sent


def test_a_side_with_another_certificate_is_refused(node: int) -> None:
    other = distribution.secret("shop", "prod", NOW)
    with pytest.raises(NodeUnreachable, match="its certificate is not accepted"):
        opened(node, other)
    with pytest.raises(NodeUnreachable, match="its certificate is not accepted"):
        opened(node, MADE, "nodes-other.prod.svc.cluster.local")
    mixed = other | {"data": other["data"] | {"ca.crt": MADE["data"]["ca.crt"]}}
    # the node refuses this one: in TLS 1.3, that shows with the first answer
    with contextlib.suppress(NodeUnreachable), opened(node, mixed) as connection:
        connection.settimeout(60)
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"x")
            assert connection.recv(1) == b""


def test_a_node_is_called_over_tls(place: Path) -> None:
    port = free_port()
    dial = functools.partial(opened, port, MADE)

    def answered() -> object:
        with (
            contextlib.suppress(NodeUnreachable, ConnectionError),
            channel.connect(
                dial, "shop@127.0.0.1", "x", within=60, length=handshake.LENGTH_OVER_TLS
            ) as there,
        ):
            return there.call("erlang", "node")
        return None

    with subprocess.Popen(
        ["erl", "-noshell", "-boot", "start_clean", "-name", "shop@127.0.0.1", "-setcookie", "x",
         "-start_epmd", "false", "-erl_epmd_port", str(port), "-proto_dist", "inet_tls",
         "-ssl_dist_optfile", str(place / "options.config")],
        stdin=subprocess.DEVNULL,
    ) as running:  # fmt: skip
        try:
            assert until(answered, "an answer of the node") == "shop@127.0.0.1"
        finally:
            running.kill()


def test_what_speaks_no_tls_is_refused() -> None:
    left, right = socket.socketpair()
    with right:
        right.sendall(b"no TLS at all\n" * 10)
        with pytest.raises(NodeUnreachable, match="not reached over TLS"):
            secured.over(left, context(MADE), NAME, 60)
