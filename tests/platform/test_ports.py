"""Who listens where, asked of the kernel with real sockets."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gatling.errors import InvalidInput
from gatling.platform import ports
from tests.conftest import until


def families() -> list[tuple[socket.AddressFamily, str]]:
    """The addresses of this machine that a server may listen on; it may have no IPv6."""
    found: list[tuple[socket.AddressFamily, str]] = []
    for family, address in (
        (socket.AF_INET, "127.0.0.1"), (socket.AF_INET, ""), (socket.AF_INET6, "::1"),
        (socket.AF_INET6, "::"),
    ):  # fmt: skip
        with contextlib.suppress(OSError), socket.socket(family) as probe:
            probe.bind((address, 0))
            found.append((family, address))
    return found


def listener(family: socket.AddressFamily = socket.AF_INET, address: str = "127.0.0.1") -> (
    socket.socket
):  # fmt: skip
    return socket.create_server((address, 0), family=family)


@pytest.mark.parametrize(("family", "address"), families())
def test_a_port_is_taken_on_whatever_address_somebody_listens(
    family: socket.AddressFamily, address: str
) -> None:
    with listener(family, address) as server:
        port: int = server.getsockname()[1]
        assert not ports.is_free(port)
    # the kernel may have given the port to a connection of another test
    until(lambda: ports.is_free(port), "the port")


def test_asking_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def free_port() -> int | None:
        with listener() as server:
            port: int = server.getsockname()[1]
        # other programs of this machine may take it at any time
        return port if all(ports.is_free(port) for _ in range(3)) else None

    port = next(filter(None, (free_port() for _ in range(10))))
    with socket.create_server(("127.0.0.1", port)):
        assert not ports.is_free(port)


def test_only_the_address_that_is_wanted_counts() -> None:
    with listener(address="127.0.0.2") as server:
        port: int = server.getsockname()[1]
        assert ports.is_free(port, "127.0.0.1")
        assert not ports.is_free(port, "127.0.0.2")
        assert not ports.is_free(port)


def test_connections_that_were_closed_a_moment_ago_do_not_count() -> None:
    with listener() as server:
        port: int = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            accepted.close()  # the side that closes first waits in TIME_WAIT
            assert client.recv(1) == b""
    with socket.socket() as plain, pytest.raises(OSError, match="in use") as caught:
        plain.bind(("127.0.0.1", port))
    assert caught.value.errno == errno.EADDRINUSE
    assert ports.is_free(port)


def test_whether_somebody_answers() -> None:
    with listener() as server:
        port: int = server.getsockname()[1]
        assert ports.answers(port)
        assert ports.answers(port, "127.0.0.1")
        assert not ports.answers(port, "127.0.0.2")
    assert not ports.answers(port)


def test_who_listens_is_told_by_name_and_pid() -> None:
    script = (
        "import socket, sys; s = socket.create_server(('127.0.0.1', 0));"
        "print(s.getsockname()[1], flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-I", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        with socket.create_connection(("127.0.0.1", port)):  # a client is no owner
            assert ports.owner(port) == f"{_name(child.pid)} (pid {child.pid})"
        child.communicate()
    assert ports.owner(port) == "another process"


@pytest.mark.parametrize(("family", "address"), families())
def test_whose_listeners_a_connection_may_come_to(
    family: socket.AddressFamily, address: str
) -> None:
    with listener(family, address) as server:
        port: int = server.getsockname()[1]
        with socket.create_connection((address or "127.0.0.1", port)):  # clients are none
            found = ports.listeners(port)
        assert found == (set() if address == "::1" else {os.getuid()})
    assert ports.listeners(port) == set()


def test_who_is_merely_connected_owns_nothing() -> None:
    with listener() as server:
        port: int = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
    with client, accepted:
        assert ports.owner(port) == "another process"


def _name(pid: int) -> str:
    with open(f"/proc/{pid}/comm", encoding="utf-8") as file:  # noqa: PTH123
        return file.read().strip()


def test_clients_that_are_connected_are_counted() -> None:
    own = os.getpid()
    with listener() as server, listener() as other, contextlib.ExitStack() as clients:
        port: int = server.getsockname()[1]
        assert ports.open_connections(own, port) == 0
        for expected in (1, 2, 3):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", port)))
            accepted = clients.enter_context(server.accept()[0])
            assert ports.open_connections(own, port) == expected
        assert ports.open_connections(own, other.getsockname()[1]) == 0
        client.close()
        accepted.close()
        until(lambda: ports.open_connections(own, port) == 2, "the end of one connection")


def test_a_process_that_is_gone_has_no_connections() -> None:
    with subprocess.Popen(["true"]) as child:
        pass
    assert ports.open_connections(child.pid, 80) == 0


def test_the_address_that_the_internet_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unreachable:
        def __init__(self, *_: object) -> None:
            raise OSError

    monkeypatch.setattr(socket, "socket", Unreachable)
    for said, wanted in (
        ("203.0.114.9 50000 198.51.101.7 22", "198.51.101.7"),
        ("fe80::1 50000 2a01:4f8::1 22", "2a01:4f8::1"),
        ("10.0.0.2 50000 10.0.0.1 22", None),
        ("fe80::1%eth0 5 fe80::2%eth0 22", None),
        ("", None),
        ("odd", None),
    ):
        monkeypatch.setenv("SSH_CONNECTION", said)
        assert ports.public_address() == wanted


def test_the_system_chooses_ports_from_the_ephemeral_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        assert chosen.getsockname()[1] in ports.ephemeral()
    (tmp_path / "range").write_text("40000\t50000\n")
    monkeypatch.setattr(ports, "_EPHEMERAL", tmp_path / "range")
    assert ports.ephemeral() == range(40000, 50001)
    monkeypatch.setattr(ports, "_EPHEMERAL", tmp_path / "missing")
    assert ports.ephemeral() == range(32768, 61000)


def test_a_port_of_root_s_is_refused_with_the_reason() -> None:
    """Another user asks: the tests may run as root, who may have any port."""
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 443:
        pytest.skip("everybody may listen on port 443 here")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said = "it may listen there"
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            ports.is_free(443, "127.0.0.1")
        except InvalidInput as error:
            said = f"{error.what} {error.hint}"
        finally:
            os.write(writing, said.encode())
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as answer:
        said = answer.read()
    assert said.startswith("Port 443 is reserved for root: Permission denied.")
    assert "net.ipv4.ip_unprivileged_port_start" in said
