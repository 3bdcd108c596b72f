"""Log drains: each line arrives, in order, whatever becomes of the receiver or of the program."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from gatling import times
from gatling.errors import InvalidInput, NotFound
from gatling.operations import drains, log_sinks
from gatling.operations.log_sinks import NotAccepted
from gatling.platform import applog, logs
from gatling.platform.applog import AppLog
from gatling.platform.logs import Line
from gatling.state import drains as state
from gatling.state.database import open_database
from tests.api.served import new_home
from tests.operations.sinks import http_sink, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gatling.platform.open import Gatling
    from tests.operations.sinks import Sink

Stop = "Callable[[Callable[[], None]], object]"


@pytest.fixture
def stop() -> Iterator[Callable[[Callable[[], None]], object]]:
    with contextlib.ExitStack() as ends:
        yield ends.callback


@pytest.fixture
def sink(stop: Callable[[Callable[[], None]], object]) -> Sink:
    return http_sink(stop)


@pytest.fixture
def gatling(tmp_path: Path) -> Iterator[Gatling]:
    db = open_database(tmp_path / "state.db")
    with db.transaction():
        db.execute("INSERT INTO apps (name, created_at) VALUES ('shop', '')")
        db.execute("INSERT INTO apps (name, created_at) VALUES ('blog', '')")
    asked: list[tuple[str, int, bool]] = []
    file = tmp_path / "instances.log"
    parts = SimpleNamespace(
        entries=lambda _, after, since: logs.entries(file, after, since),
        forward=lambda app, ident, *, wanted: asked.append((app, ident, wanted)),
    )
    made = SimpleNamespace(db=db, actor="ann", logs=parts, asked=asked, file=file)
    yield cast("Gatling", made)
    db.close()


def write(gatling: Gatling, *texts: str) -> bool:
    """Print lines as an instance; False, for conditions that are waited for meanwhile."""
    with contextlib.closing(AppLog(gatling.file)) as log:  # type: ignore[attr-defined]
        for text in texts:
            log.write("v1[worker.1]", text.encode())
    return False


@pytest.fixture
def started(gatling: Gatling, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], threading.Thread]:
    """Runs a drain in a thread, with a state file of its own, until it is removed."""
    monkeypatch.setattr(drains, "PAUSES", (0.05,))
    monkeypatch.setattr(drains, "GATHER_SECONDS", 0.05)

    def start(ident: int) -> threading.Thread:
        def run() -> None:
            place = gatling.file.parent / "state.db"  # type: ignore[attr-defined]
            with contextlib.closing(open_database(place)) as db:
                own = SimpleNamespace(db=db, actor="ann", logs=gatling.logs)
                drains.drain(cast("Gatling", own), ident)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    return start


def texts_of(sink: Sink) -> list[str]:
    return [json.loads(line)["text"] for got in sink.got for line in got.body.splitlines()]


# ---------------------------------------------------------------- the log's positions


def test_a_log_is_read_on_from_a_position_over_rotations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applog, "MAX_BYTES", 400)
    file = tmp_path / "a.log"
    log = AppLog(file)
    for number in range(12):
        log.write("v1", f"line {number}".encode())
    source = logs.entries(file, "0-0-0", "")  # unknown: from the oldest file on
    first = [next(source) for _ in range(7)]
    source.close()
    source = logs.entries(file, first[-1].position, "")
    rest = [next(source) for _ in range(5)]
    for number in range(12, 30):  # rotated while it is read
        log.write("v1", f"line {number}".encode())
        rest.append(next(source))
    source.close()
    log.close()
    assert [entry.line.text for entry in (*first, *rest)] == [f"line {n}" for n in range(30)]


def test_without_a_position_the_lines_of_a_time_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of an older file: the log was rotated since."""
    monkeypatch.setattr(applog, "MAX_BYTES", 100)
    file = tmp_path / "a.log"
    with contextlib.closing(AppLog(file)) as log:
        log.write("v1", b"old")
        time.sleep(0.01)  # times have milliseconds
        since = times.now()
        for number in range(6):
            log.write("v1", f"line {number}".encode())
        source = logs.entries(file, "", since)
        found = [next(source) for _ in range(6)]
        log.write("v1", b"new")
        found.append(next(source))
        source.close()
    assert [one.line.text for one in found] == [*(f"line {n}" for n in range(6)), "new"]


# ---------------------------------------------------------------- from the log to the receiver


def test_lines_arrive_with_all_that_is_known_of_them(
    gatling: Gatling, sink: Sink, started: Callable[[int], threading.Thread]
) -> None:
    write(gatling, "before")
    time.sleep(0.01)  # times have milliseconds
    added = drains.add(gatling, "shop", f"{sink.url}?token=secret")
    assert "secret" not in added.url
    assert gatling.asked == [("shop", added.id, True)]  # type: ignore[attr-defined]
    started(added.id)
    until(lambda: write(gatling, "now") or texts_of(sink))
    (first, *_) = (json.loads(line) for line in sink.got[0].body.splitlines())
    assert first["text"] == "now"
    assert (first["app"], first["process"], first["release"]) == ("shop", "worker.1", "v1")
    assert first["host"] == socket.gethostname()
    assert first["time"].endswith("Z")
    assert sink.got[0].headers["Content-Type"] == "application/x-ndjson"


def test_no_line_is_lost_while_the_receiver_fails_or_the_program_is_ended(
    gatling: Gatling, sink: Sink, started: Callable[[int], threading.Thread]
) -> None:
    ident = drains.add(gatling, "shop", sink.url).id
    thread = started(ident)
    until(lambda: write(gatling, "first") or texts_of(sink))
    until(lambda: (found := state.get(gatling.db, ident)) and found.position)
    sink.status = 503
    write(gatling, *(f"while it fails {n}" for n in range(50)))
    until(lambda: (found := state.get(gatling.db, ident)) and found.failures > 1)
    (entry,) = drains.of_app(gatling, "shop")
    assert "status 503" in entry.error
    refused = len(sink.got)
    # ended in the middle of it: what comes next goes on where the last accepted line was
    position = cast("state.Drain", state.get(gatling.db, ident)).position
    state.remove(gatling.db, ident)
    thread.join(10)
    again = state.add(gatling.db, "shop", sink.url).id
    gatling.db.execute("UPDATE drains SET position = ? WHERE id = ?", position, again)
    write(gatling, "while nothing runs")
    sink.status, sink.got[:refused] = 200, []
    sink.got.clear()
    started(again)
    until(lambda: "while nothing runs" in texts_of(sink))
    seen = [text for text in texts_of(sink) if text != "first"]
    assert seen == [*(f"while it fails {n}" for n in range(50)), "while nothing runs"]


def test_no_line_is_lost_before_the_first_is_accepted(
    gatling: Gatling, sink: Sink, started: Callable[[int], threading.Thread]
) -> None:
    """The program starts after the drain was added, and is ended before anything was accepted."""
    write(gatling, "before")
    time.sleep(0.01)  # times have milliseconds
    ident = drains.add(gatling, "shop", sink.url).id
    write(gatling, "before it starts")
    sink.status = 503
    started(ident)
    until(lambda: (found := state.get(gatling.db, ident)) and found.failures)
    write(gatling, "while it fails")
    gatling.db.execute("UPDATE drains SET id = ? WHERE id = ?", ident + 1, ident)  # it ends
    sink.status = 200
    sink.got.clear()
    started(ident + 1)
    until(lambda: "while it fails" in texts_of(sink))
    assert texts_of(sink) == ["before it starts", "while it fails"]


def test_a_drain_ends_when_it_is_removed(
    gatling: Gatling, sink: Sink, started: Callable[[int], threading.Thread]
) -> None:
    ident = drains.add(gatling, "shop", sink.url).id
    thread = started(ident)
    until(lambda: write(gatling, "x") or texts_of(sink))
    drains.remove(gatling, "shop", ident)
    assert gatling.asked[-1] == ("shop", ident, False)  # type: ignore[attr-defined]
    until(lambda: write(gatling, "y") or not thread.is_alive())


# ---------------------------------------------------------------- syslog


@dataclass
class SyslogServer:
    """Takes octet-counted messages (RFC 6587) as long as it is open."""

    port: int = 0
    messages: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    close: Callable[[], None] = lambda: None
    hang_up: Callable[[], None] = lambda: None


def syslog_server(context: ssl.SSLContext | None = None, *, reads: bool = True) -> SyslogServer:
    made, listener = SyslogServer(), socket.create_server(("127.0.0.1", 0))
    made.port = listener.getsockname()[1]
    connections: list[socket.socket] = []

    def attend(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection.makefile("rb") as stream:
            while count := _until_blank(stream):
                made.messages.append(stream.read(int(count)).decode())

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                try:
                    connections.append(
                        context.wrap_socket(connection, server_side=True) if context else connection
                    )
                except (ssl.SSLError, OSError) as error:
                    made.faults.append(str(error))
                    connection.close()
                    continue
                if reads:
                    threading.Thread(target=attend, args=(connections[-1],), daemon=True).start()

    def hang_up() -> None:
        while connections:
            one = connections.pop()
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def close() -> None:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        hang_up()

    made.close, made.hang_up = close, hang_up
    threading.Thread(target=accept, daemon=True).start()
    return made


def _until_blank(stream: object) -> bytes:
    found = b""
    while (byte := stream.read(1)) and byte != b" ":  # type: ignore[attr-defined]
        found += byte
    return found


LINE = Line("2026-11-28T20:15:04.123Z", "v3", "text", "worker.1")


def test_syslog_messages_have_the_form_of_the_standard() -> None:
    server = syslog_server()
    sink = log_sinks.opened(f"syslog+tcp://127.0.0.1:{server.port}", "shop")
    hostile = Line(LINE.time, "v3", "a\nb\x1b[31m \u20ac", "web")
    sink.send([LINE, hostile])
    host = socket.gethostname()
    until(lambda: len(server.messages) == 2)
    assert server.messages[0] == f"<134>1 {LINE.time} {host} shop worker.1 v3 - text"
    assert server.messages[1].endswith(" shop web v3 - a\\nb \u20ac")
    sink.close()
    server.close()


def test_a_long_line_is_sent_in_parts() -> None:
    server = syslog_server()
    sink = log_sinks.opened(f"syslog+tcp://127.0.0.1:{server.port}", "shop")
    sink.send([Line(LINE.time, "v3", "x" * 20_000, "web")])
    until(lambda: len(server.messages) == 3)
    assert max(len(message) for message in server.messages) <= log_sinks.MAX_MESSAGE
    assert "".join(m.split(" - ", 1)[1] for m in server.messages) == "x" * 20_000
    sink.close()
    server.close()


def test_a_connection_that_was_closed_is_noticed_before_lines_are_sent() -> None:
    server = syslog_server()
    sink = log_sinks.opened(f"syslog+tcp://127.0.0.1:{server.port}", "shop")
    sink.send([LINE])
    until(lambda: server.messages)
    server.hang_up()
    sink.send([LINE])  # over a new one
    until(lambda: len(server.messages) == 2)
    server.close()
    with pytest.raises(NotAccepted, match="connection failed"):
        sink.send([LINE])
    sink.close()


def test_lines_that_are_not_acknowledged_are_not_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other side keeps its window closed: the bytes stay in this machine's kernel."""
    monkeypatch.setattr(log_sinks, "SECONDS", 0.5)
    server = syslog_server(reads=False)
    sink = log_sinks.opened(f"syslog+tcp://127.0.0.1:{server.port}", "shop")
    lines = [Line(LINE.time, "v3", "x" * 7000, "web")] * 2000
    with pytest.raises(NotAccepted, match="in time"):
        sink.send(lines)
    sink.close()
    server.close()


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The key and the certificate of a receiver."""
    place = tmp_path_factory.mktemp("tls")
    key, certificate = place / "key.pem", place / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return key, certificate


def test_tls(credentials: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = credentials
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = syslog_server(context)
    sink = log_sinks.opened(f"syslog+tls://localhost:{server.port}", "shop")
    with pytest.raises(NotAccepted, match="certificate is not valid"):
        sink.send([LINE])
    monkeypatch.setenv("SSL_CERT_FILE", os.fspath(certificate))
    sink.send([LINE])
    until(lambda: server.messages)
    assert server.messages[0].endswith(" - text")
    sink.close()
    server.close()


def test_a_drain_that_is_stopped_ends_its_tls_connection(credentials: tuple[Path, Path]) -> None:
    """The whole program, and openssl(1), which prints ERROR for a connection that just breaks."""
    key, certificate = credentials
    with new_home() as home, contextlib.ExitStack() as ends:
        receiver = ends.enter_context(subprocess.Popen(
            ["openssl", "s_server", "-accept", "localhost:0", "-naccept", "1", "-cert", certificate,
             "-key", key],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0,
        ))  # fmt: skip
        ends.callback(receiver.kill)
        assert receiver.stdout is not None
        port = next(line for line in receiver.stdout if line.startswith(b"ACCEPT")).split(b":")[-1]
        with home.opened() as gatling:
            added = drains.add(gatling, "shop", f"syslog+tls://localhost:{int(port)}")
            log = gatling.home.app("shop").deployment_log(1).parent / "instances.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(AppLog(log)) as written:
                written.write("v1", b"the only line")
        program = subprocess.Popen(
            [sys.executable, "-I", "-m", "gatling", "drains", "run", f"shop.{added.id}"],
            env=home.env | {"SSL_CERT_FILE": os.fspath(certificate)},
        )
        ends.callback(program.kill)
        got = b""
        while b"the only line" not in got:  # a message has no end of a line
            got += (chunk := receiver.stdout.read(65536))
            assert chunk, got
        program.terminate()
        assert program.wait(30) == 0
        rest = receiver.stdout.read()
    assert b"DONE" in rest
    assert b"ERROR" not in rest


def test_https_connections_end_with_close_notify(
    credentials: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = credentials
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", os.fspath(certificate))
    seen: list[str] = []

    def attend() -> None:
        with context.wrap_socket(
            listener.accept()[0], server_side=True, suppress_ragged_eofs=False
        ) as connection:
            while not seen or "text" not in seen[-1]:
                seen.append(connection.recv(65536).decode())
            connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            try:
                seen.append(f"ended: {connection.recv(1)!r}")
            except OSError as error:
                seen.append(str(error))

    with socket.create_server(("localhost", 0)) as listener:
        thread = threading.Thread(target=attend, daemon=True)
        thread.start()
        sink = log_sinks.opened(f"https://localhost:{listener.getsockname()[1]}/", "shop")
        sink.send([LINE])
        sink.close()
        thread.join(30)
    assert seen[-1] == "ended: b''"
    with pytest.raises(NotAccepted):
        sink.send([LINE])


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "url",
    [
        "", "logs.example.com", "ftp://x.example/", "syslog://x:514", "https://", "https:///x",
        "https://x.example:0/", "https://x.example:99999/", "https://x.example/a b",
        "https://x.example/\n", "syslog+tcp://", "https://x/" + "y" * 3000, "file:///etc/passwd",
    ],
)  # fmt: skip
def test_what_is_no_sink(gatling: Gatling, url: str) -> None:
    with pytest.raises(InvalidInput):
        drains.add(gatling, "shop", url)
    assert drains.of_app(gatling, "shop") == []


def test_a_drain_of_another_app_is_not_removed(gatling: Gatling) -> None:
    ident = drains.add(gatling, "blog", "https://x.example/").id
    with pytest.raises(NotFound):
        drains.remove(gatling, "shop", ident)
    drains.end(gatling, "blog")
    assert gatling.asked[-1] == ("blog", ident, False)  # type: ignore[attr-defined]
