"""The numbers of a node: measured in a real one, and refused where they are none."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given

from gatling.beam import sight, toolbox
from gatling.beam.channel import connect
from gatling.beam.etf import Atom
from gatling.errors import NodeUnreachable
from gatling.platform import ports
from tests.beam.test_channel import COOKIE, NAME, booted, free_port
from tests.beam.test_etf import TERMS
from tests.conftest import suspend, until
from tests.places import local

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APP = cast("Any", SimpleNamespace(name="shop", live_slot=1))
RELEASE = cast(
    "Any", SimpleNamespace(name="channel", config={"RELEASE_COOKIE": COOKIE}, label="v1")
)


@pytest.fixture(scope="module")
def beams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("beams")
    sources = [toolbox.SOURCES / f"{module}.erl" for module in toolbox.SIGHT]
    subprocess.run(["erlc", "-Werror", "-o", directory, *sources], check=True)
    return directory


@pytest.fixture(scope="module")
def node() -> Iterator[tuple[int, int]]:
    """A node without epmd, as instances are; its port and its OS process."""
    port = free_port()
    process = subprocess.Popen(
        ["erl", "-noinput", "-start_epmd", "false", "-erl_epmd_port", str(port),
         "-kernel", "inet_dist_use_interface", "{127,0,0,1}", "-name", NAME,
         "-setcookie", COOKIE, "+P", "200000"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until(lambda: ports.answers(port), "the node")
        until(lambda: booted(port), "its boot")
        yield port, process.pid
    finally:
        process.kill()
        process.wait()


def connected(port: int, beams: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(toolbox, "beams", lambda *_: beams)
    paths = cast("Any", SimpleNamespace(root=beams, cache_anchor=beams))
    return sight.connected(paths, APP, RELEASE, local(port))


def test_a_node_is_measured(
    node: tuple[int, int], beams: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, _ = node
    with connected(port, beams, monkeypatch) as seen:
        numbers = seen.numbers(50)
        assert numbers.memory.total >= numbers.memory.processes > 1_000_000
        assert numbers.memory.total == numbers.memory.processes + numbers.memory.system
        assert numbers.limits.process.limit >= 200_000 > numbers.limits.process.count > 20
        assert numbers.limits.atom.count > 5000
        assert 0 <= numbers.utilisation <= 1000
        assert seen.numbers(0).utilisation == -1
        assert numbers.schedulers >= 1
        rows, looked_at = seen.processes("memory", 5)
        assert len(rows) == 5
        assert looked_at > 20
        assert [row.memory for row in rows] == sorted((row.memory for row in rows), reverse=True)
        assert "code_server" in {row.name for row in seen.processes("memory", 50)[0]}
        tables, _ = seen.tables(50)
        assert "ac_tab" in {table.name for table in tables}
        assert seen.sockets() >= 1


def test_a_node_without_telemetry_has_no_events(
    node: tuple[int, int], beams: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, _ = node
    with connected(port, beams, monkeypatch) as seen:
        assert seen.attach() is False
        assert seen.telemetry() is None
        seen.detach()


def test_a_busy_node_shows_it(
    node: tuple[int, int], beams: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes that work, one with messages that it does not read, and a socket."""
    port, _ = node
    code = (
        b"Spin = fun L() -> L() end, P = spawn(fun() ->"
        b" register(hoarder, self()), [spawn_link(Spin) || _ <- lists:seq(1, 40)],"
        b" {ok, _} = gen_tcp:listen(0, []), receive stop -> exit(stop) end end), P."
    )
    with connect(local(port), NAME, COOKIE) as plain:
        ok, tokens, _ = plain.call("erl_scan", "string", list(code))
        ok, expressions = plain.call("erl_parse", "parse_exprs", tokens)
        before = plain.call("erlang", "length", plain.call("erlang", "ports"))
        assert ok == "ok"
        plain.call("erl_eval", "exprs", expressions, [])
        until(lambda: plain.call("erlang", "whereis", Atom("hoarder")) != "undefined", "it")
        for n in range(30):
            plain.call("erlang", "send", Atom("hoarder"), n)
    with connected(port, beams, monkeypatch) as seen:
        numbers = seen.numbers()
        queues, _ = seen.processes("message_queue_len", 3)
        sockets = seen.sockets()
    with connect(local(port), NAME, COOKIE) as plain:
        plain.call("erlang", "send", Atom("hoarder"), Atom("stop"))
    assert (queues[0].name, queues[0].queue) == ("hoarder", 30)
    assert numbers.run_queues > 10
    assert numbers.utilisation > 500
    assert sockets >= 2
    assert before >= 1


def test_many_processes_take_no_longer_than_the_time_limit(
    node: tuple[int, int], beams: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, _ = node
    spawned = "[spawn(fun() -> receive stop -> ok end end) || _ <- lists:seq(1, 100000)]."
    with connect(local(port), NAME, COOKIE) as plain:
        _, tokens, _ = plain.call("erl_scan", "string", list(spawned.encode()))
        _, expressions = plain.call("erl_parse", "parse_exprs", tokens)
        plain.call("erlang", "spawn", Atom("erl_eval"), Atom("exprs"), [expressions, []])
        count = (Atom("process_count"),)
        until(lambda: plain.call("erlang", "system_info", *count) > 100_000, "the processes")
    with connected(port, beams, monkeypatch) as seen:
        began = time.monotonic()
        rows, looked_at = seen.processes("memory", 10)
        took = time.monotonic() - began
    assert len(rows) == 10
    assert looked_at >= 500
    assert took < sight.SECONDS


def test_a_node_that_is_stopped_is_given_up_within_seconds(
    node: tuple[int, int], beams: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, process = node
    suspend(process)
    began = time.monotonic()
    try:
        with (
            pytest.raises(NodeUnreachable, match="did not answer in time"),
            connected(port, beams, monkeypatch),
        ):
            pass
        assert time.monotonic() - began < 10 * sight.CONNECT_SECONDS
    finally:
        os.kill(process, signal.SIGCONT)


# ---------------------------------------------------------------- answers of a hostile node


def seen(answer: Any) -> sight.Sight:
    return sight.Sight(cast("Any", SimpleNamespace(call=lambda *_, **__: answer)))


@given(TERMS)
def test_whatever_is_answered_is_of_the_type_or_refused(answer: Any) -> None:
    asked = seen(answer)
    for ask in (asked.numbers, asked.processes, asked.tables, asked.sockets, asked.telemetry,
                asked.attach):  # fmt: skip
        try:
            found = ask()
        except NodeUnreachable as error:
            assert "is not valid" in error.what  # noqa: PT017
        else:
            assert isinstance(found, (int, tuple, sight.Numbers, sight.Telemetry))


def row(**changed: Any) -> dict[Atom, Any]:
    found = {"pid": b"<0.1.0>", "name": b"x", "memory": 1, "reductions": 1, "queue": 0,
             "current": b"y"}  # fmt: skip
    return {Atom(key): value for key, value in (found | changed).items()}


def event(**changed: Any) -> dict[Atom, Any]:
    found = {"kind": Atom("route"), "name": [b"GET", b"/"], "count": 1, "failed": 0, "us": 1,
             "queue_us": 0, "ranges": [1, *[0] * 11]}  # fmt: skip
    return {Atom(key): value for key, value in (found | changed).items()}


def test_no_more_events_are_taken_than_there_are_slots() -> None:
    found = seen((7, [event()] * 1000)).telemetry()
    assert found is not None
    assert (found.since, len(found.events)) == (7, sight.MOST_EVENTS)
    assert seen(Atom("none")).telemetry() is None


@pytest.mark.parametrize(
    "changed", [{"ranges": [1]}, {"kind": Atom("x")}, {"name": [b"x" * 1001]}, {"count": -1},
                {"name": [b"x"] * 5}],
)  # fmt: skip
def test_events_have_limits(changed: dict[str, Any]) -> None:
    with pytest.raises(NodeUnreachable):
        seen((7, [event(**changed)])).telemetry()


def test_no_more_rows_are_taken_than_were_asked_for() -> None:
    rows, _ = seen(([row()] * 500, 1)).processes()
    assert len(rows) == sight.MOST_ROWS


@pytest.mark.parametrize(
    "changed", [{"memory": -1}, {"memory": 1 << 60}, {"name": b"x" * 1001}, {"queue": 1.5},
                {"pid": [1]}],
)  # fmt: skip
def test_values_have_limits(changed: dict[str, Any]) -> None:
    with pytest.raises(NodeUnreachable):
        seen(([row(**changed)], 1)).processes()
