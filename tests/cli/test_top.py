"""The live view: its picture as text, and the view itself in a real terminal."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatling.beam.sight import Process, Table
from gatling.cli.top_screen import Shown, chosen, lines
from gatling.operations.stats import AppStats, Event, Events, InstanceStats, NodeStats, Requests
from gatling.operations.status import LastEnd
from tests.operations.test_metrics import NODE

REQUESTS = Requests(
    since="2026-01-01T00:00:00.000Z", until="2026-01-01T00:01:00.000Z", requests=60,
    per_second=1.0, statuses={"2xx": 60}, failed=0, error_rate=0.0, p50_ms=5, p95_ms=38,
    p99_ms=40, longest_ms=41, upgraded=0,
)  # fmt: skip


def process(pid: str, memory: int, reductions: int, queue: int = 0, name: str = "store") -> Process:
    return Process(pid, name, memory, reductions, queue, "Counter.Store.loop/1")


def node(*processes: Process, tables: tuple[Table, ...] = ()) -> NodeStats:
    return NodeStats(
        numbers=NODE, sockets=3, processes=list(processes), processes_seen=len(processes),
        queues=[each for each in processes if each.queue], busy=list(processes),
        tables=list(tables), tables_seen=1,
    )  # fmt: skip


def stats(**changed: Any) -> AppStats:
    known: dict[str, Any] = {
        "app": "shop", "state": "running", "release": "v7", "uptime": 720.0,
        "memory": 98_000_000, "memory_limit": "512M", "cpu": 3.0, "cpu_seconds": 20.0,
        "restarts": [], "requests": REQUESTS, "requests_unknown": None,
        "node": node(process("<0.1.0>", 2000, 100), process("<0.2.0>", 1000, 5000, 7)),
        "node_unknown": None, "events": None,
    }  # fmt: skip
    return AppStats(**known | changed)


def text(shown: Shown, width: int = 100, height: int = 30) -> str:
    return "\n".join(line.text for line in lines(shown, width, height))


def test_the_head_has_the_numbers_of_the_app() -> None:
    said = text(Shown(stats(), stats(cpu_seconds=19.0), 2.0))
    assert "shop v7   running, up 12m" in said
    assert "98.0 MB of 512M   CPU 50%" in said
    assert "1 per second   p50 5 ms   p95 38 ms   0 failed" in said
    assert "25% of 2   run queues 4" in said
    assert "3 atoms, 3 sockets" in said


@pytest.mark.parametrize(
    ("sort", "first"), [("memory", "<0.1.0>"), ("reductions", "<0.2.0>"), ("messages", "<0.2.0>")]
)
def test_processes_are_sorted(sort: Any, first: str) -> None:
    before = stats(node=node(process("<0.1.0>", 2000, 90), process("<0.2.0>", 1000, 1000)))
    found = lines(Shown(stats(), before, 2.0, "processes", sort), 100, 30)
    rows = [line.text for line in found if line.text.startswith("<0.")]
    assert rows[0].startswith(first)
    rates = {row.split()[0]: row.split()[4] for row in rows}
    assert rates == {"<0.1.0>": "5", "<0.2.0>": "2000"}


def test_a_node_that_was_started_again_has_no_rates_yet() -> None:
    before = stats(cpu_seconds=500.0, node=node(process("<0.1.0>", 1, 10_000)))
    said = text(Shown(stats(), before, 2.0))
    assert "CPU" not in said
    assert "-" not in said.partition("processes by memory")[2].replace("–", "")


def test_troubles_stand_out() -> None:
    end = LastEnd("2026-01-01T00:00:00.000Z", 3.0, "killed by SIGKILL")
    shown = Shown(stats(state="down", restarts=[end], node=None, node_unknown="no answer"), None, 0)
    warnings = [line.text for line in lines(shown, 100, 30) if line.style == "warning"]
    assert len(warnings) == 2
    assert "1 restart in the last hour" in warnings[0]
    assert "no answer" in warnings[1]


def test_other_views() -> None:
    tables = node(tables=(Table("sessions", 5_000_000, 1200),))
    said = text(Shown(stats(node=tables), None, 0, "tables"))
    assert "sessions   5.0 MB  1200" in said
    event = Event(name="GET /", count=9, failed=1, mean_ms=2.5, p95_ms=4.0, queue_ms=0.0)
    events = Events(since="x", routes=[event], live=[], queries=[], jobs=[])
    said = text(Shown(stats(events=events), None, 0, "events"))
    assert "route  GET /  9      1       2.5 ms  4 ms" in said
    assert "nothing over :telemetry" in text(Shown(stats(), None, 0, "events"))


def instance(name: str, memory: int, pid: str) -> InstanceStats:
    return InstanceStats(
        name=name, host="n1", release="v7", state="running", uptime=9.0, restarts=0, memory=memory,
        cpu_seconds=2.0, node=node(process(pid, 2000, 100)), node_unknown=None, events=None,
    )  # fmt: skip


def test_instances_of_a_cluster_are_shown_one_after_the_other() -> None:
    pods = [instance("shop-a", 5_000_000, "<0.7.0>"), instance("shop-b", 6_000_000, "<0.8.0>")]
    whole = stats(node=None, instances=pods)
    for number, pod in enumerate([*pods, pods[0]]):
        now, before = chosen(whole, stats(node=None, instances=pods[:1]), number)
        said = text(Shown(now, before, 2.0))
        assert f"pod        {pod.name} on n1 ({number % 2 + 1} of 2)" in said
        assert f"{'5.0' if pod is pods[0] else '6.0'} MB" in said
        assert pod.node is not None
        assert pod.node.processes[0].pid in said
        assert "i next instance" in said
        assert (before is None) == (pod is pods[1])
    assert chosen(stats(), None, 3) == (stats(), None)


@given(st.text(max_size=300), st.integers(1, 200), st.integers(1, 60))
def test_nothing_of_a_hostile_node_leaves_its_place(name: str, width: int, height: int) -> None:
    hostile = node(process("<0.1.0>", 1, 1, name=name), tables=(Table(name, 1, 1),))
    for view in ("processes", "tables", "events"):
        found = lines(Shown(stats(node=hostile), None, 0, view), width, height)
        assert len(found) <= height
        for line in found:
            assert "\n" not in line.text
            assert "\x1b" not in line.text


# ---------------------------------------------------------------- in a terminal

VIEW = """
import tests.cli.test_top as t
from gatling.cli import top
top.watch(lambda: t.stats(), 0.5)
print("ended")
"""


def seen(term: str, keys: str, expected: list[str]) -> tuple[str, int]:
    """The output of the view after each key, until what is expected is there; its exit status."""
    master, terminal = pty.openpty()
    env = os.environ | {"TERM": term, "LINES": "30", "COLUMNS": "100"}
    child = subprocess.Popen(
        [sys.executable, "-c", VIEW], stdin=terminal, stdout=terminal, stderr=terminal, env=env
    )
    os.close(terminal)
    output = ""
    try:
        for key, words in zip(["", *keys], expected, strict=True):
            if key == "\x03":
                child.send_signal(signal.SIGINT)  # as the terminal of a shell does
            else:
                os.write(master, key.encode())
            deadline = time.monotonic() + 60
            while words not in output and time.monotonic() < deadline:
                if select.select([master], [], [], 1)[0]:
                    try:
                        output += os.read(master, 65536).decode(errors="replace")
                    except OSError:  # the terminal is closed
                        break
            assert words in output, output
        return output, child.wait(timeout=60)
    finally:
        child.kill()
        child.wait()
        os.close(master)


def test_keys_change_the_view() -> None:
    expected = ["by memory", "reductions", "ETS table", ":telemetry", "paused", "ended"]
    _, status = seen("xterm", "r\t\t q", expected)
    assert status == 0


def test_ctrl_c_ends_it_and_leaves_the_terminal_as_it_was() -> None:
    output, status = seen("xterm", "\x03", ["by memory", "ended"])
    assert status == 0
    assert "\x1b[?1049l" in output  # the other screen is left


def test_an_unknown_terminal_is_an_error() -> None:
    output, status = seen("no-such-terminal", "", ["$TERM"])
    assert status == 1
    assert "is not known here" in output
