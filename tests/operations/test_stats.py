"""The numbers of a running app, as the commands print them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING

import psutil
import pytest

from gatling.beam import sight
from gatling.operations import stats
from tests.conftest import ROOT, suspend, until
from tests.fetched import unpacked
from tests.operations.test_metrics import parsed
from tests.proxy.bench import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Project, World


GAUGES = """\
erlang_vm_dets_tables erlang_vm_ets_limit erlang_vm_ets_tables erlang_vm_port_count
erlang_vm_port_limit erlang_vm_process_count erlang_vm_process_limit
erlang_vm_memory_bytes_total,kind="processes" erlang_vm_memory_system_bytes_total,usage="atom"
erlang_vm_memory_system_bytes_total,usage="binary" erlang_vm_memory_system_bytes_total,usage="code"
erlang_vm_memory_system_bytes_total,usage="ets" erlang_vm_statistics_run_queues_length_total
process_max_fds process_open_fds process_resident_memory_bytes process_threads_total
process_uptime_seconds process_virtual_memory_bytes
"""
COUNTERS = """\
erlang_vm_statistics_bytes_output_total erlang_vm_statistics_bytes_received_total
erlang_vm_statistics_context_switches erlang_vm_statistics_garbage_collection_bytes_reclaimed
erlang_vm_statistics_garbage_collection_number_of_gcs erlang_vm_statistics_reductions_total
erlang_vm_statistics_runtime_milliseconds
"""
BOARD = [
    *(f'{name}{{instance="$node"{"," if more else ""}{more}}}'
      for name, _, more in (one.partition(",") for one in GAUGES.split())),
    *(f'irate({name}{{instance="$node"}}[1m])' for name in COUNTERS.split()),
    'sum(irate(process_cpu_seconds_total{instance="$node"}[1m])) without (kind) * 100',
]  # fmt: skip
"""All expressions of BEAM-dashboard.json, the board of github.com/deadtrickster/beam-dashboards
(commit b5c0723) for nodes with prometheus.erl and prometheus_process_collector."""


@pytest.fixture(scope="module")
def world(shop: Project) -> World:
    shop.push()
    return shop.world


def requested(world: World, number: int) -> None:
    """Ask for the page so often, and wait until the proxy has counted that."""
    before = world.json("stats", "shop")["requests"]["requests"]
    for _ in range(number):
        assert world.get("/").status == 200
    until(lambda: world.json("stats", "shop")["requests"]["requests"] == before + number, "lines")


def test_stats_counts_requests_and_measures_the_node(world: World) -> None:
    requested(world, 20)
    assert world.get("/nothing-here").status == 404
    until(lambda: "4xx" in world.json("stats", "shop")["requests"]["statuses"], "the line")
    found = world.json("stats", "shop")
    assert found["requests"]["statuses"] == {"2xx": found["requests"]["requests"] - 1, "4xx": 1}
    assert found["requests"]["failed"] == 0
    assert 0 <= found["requests"]["p50_ms"] <= found["requests"]["p95_ms"]
    assert found["node_unknown"] is None
    numbers = found["node"]["numbers"]
    # the operating system counts shared pages, and pages that the emulator keeps for later
    assert numbers["memory"]["total"] < 2 * found["memory"]
    assert numbers["limits"]["process"][0] > 40
    assert found["restarts"] == []
    said = world.run("stats", "shop", "--since", "1h")
    for label in ("requests", "statuses", "latency", "memory", "schedulers", "atoms"):
        assert f"\n{label} " in f"\n{said}", said
    assert "Processes with the most memory" in said


def test_the_probe_of_a_deployment_is_no_request(world: World) -> None:
    before = world.json("stats", "shop", "--since", "1h")["requests"]["requests"]
    world.run("restart", "shop")
    assert world.last()["probe"]["requests"] > 3
    time.sleep(1.5)  # as long as nginx may hold lines back
    assert world.json("stats", "shop", "--since", "1h")["requests"]["requests"] == before


def samplers(world: World) -> list[psutil.Process]:
    """The processes of a home that sample its apps."""
    found = []
    for child in psutil.Process(world.supervisord()).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.cmdline()[-2:] == ["watch", "run"]:
                found.append(child)
    return found


def test_numbers_over_time(world: World) -> None:
    assert "The watch is off" in world.run("watch", "status")
    assert "No numbers of shop" in world.run("watch", "show", "shop")
    assert "every ten seconds" in world.run("watch", "on")
    (first,) = until(lambda: samplers(world), "the sampler")
    until(lambda: world.json("watch", "status")["working"], "a sample")
    before = world.json("watch", "show", "shop", "--since", "3m")["points"]
    requested(world, 9)
    first.kill()
    (second,) = until(lambda: [one for one in samplers(world) if one != first], "another sampler")

    def newest() -> dict[str, object] | None:
        points = world.json("watch", "show", "shop", "--since", "3m")["points"]
        return points[-1] if len(points) > len(before) + 1 else None

    point = until(newest, "samples of both processes")
    assert point["memory"] > 20_000_000
    assert point["node_memory"] > 10_000_000
    assert point["processes"] > 40
    assert point["up"] == point["seconds"]
    requested(world, 5)
    until(
        lambda: (
            sum(
                p["requests"]
                for p in world.json("watch", "show", "shop", "--since", "3m")["points"]
            )
            >= 5
        ),
        "the requests in a sample",
    )
    shown = world.run("watch", "show", "shop")
    assert "req/s" in shown
    assert "deployment" in shown
    assert second.memory_info().rss < 40e6
    assert "no more" in world.run("watch", "off")
    until(lambda: not samplers(world), "its end")
    assert world.json("watch", "show", "shop", "--since", "3m")["points"]


def test_metrics_are_those_of_every_app(world: World) -> None:
    first = parsed(world.run("metrics"))
    requested(world, 7)
    second = parsed(world.run("metrics"))
    asked = ("gatling_http_requests_total", 'app="shop",status="200"')
    assert second[asked] == first[asked] + 7
    durations = ("gatling_http_request_duration_seconds_count", 'app="shop"')
    assert second[durations] == first[durations] + 7
    for name in ("gatling_app_up", "gatling_app_node_reachable", "erlang_vm_process_count"):
        assert second[name, 'app="shop"'] >= 1
    assert world.json("status", "shop")["memory"] > 0


def test_a_real_prometheus_scrapes_them(world: World, tmp_path: Path) -> None:
    """As with a systemd socket: each connection is the command's standard input and output."""
    requested(world, 7)
    program = unpacked("prometheus", "bookworm") / "usr/bin"
    checked = subprocess.run([program / "promtool", "check", "metrics"], text=True, check=False,
                             input=world.run("metrics"), timeout=60)  # fmt: skip
    assert checked.returncode in (0, 3)  # 3: prometheus.erl names gauges as counters
    port = free_port()
    config = tmp_path / "prometheus.yml"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener, world), daemon=True).start()
        target = f"127.0.0.1:{listener.getsockname()[1]}"
        config.write_text(
            "scrape_configs: [{job_name: gatling, scrape_interval: 5s, scrape_timeout: 5s,"
            f' static_configs: [{{targets: ["{target}"]}}],'
            f" metric_relabel_configs: [{relabelled()}]}}]\n"
        )
        with subprocess.Popen(
            [program / "prometheus", f"--config.file={config}",
             f"--storage.tsdb.path={tmp_path}/db", f"--web.listen-address=127.0.0.1:{port}",
             "--log.level=error"],
        ) as prometheus:  # fmt: skip
            try:
                until(lambda: asked(port, "up") == ["1"], "a scrape")
                assert int(asked(port, "erlang_vm_process_count")[0]) > 40
                assert int(asked(port, "sum(gatling_http_requests_total)")[0]) >= 7
                share = "histogram_quantile(0.95, gatling_http_request_duration_seconds_bucket)"
                assert 0 < float(asked(port, share)[0]) < 10
                missing = set(BOARD)
                until(lambda: not drop_answered(port, missing), f"data for {missing}")
            finally:
                prometheus.terminate()


def relabelled() -> str:
    """The rule that docs/how-to/metrics.md gives to those who use a board, word for word."""
    page = (ROOT / "docs/how-to/metrics.md").read_text()
    (found,) = re.findall(r"metric_relabel_configs:\n +- (\{.*\})\n", page)
    return str(found)


def drop_answered(port: int, missing: set[str]) -> set[str]:
    """Remove the expressions that have one value each; what is left."""
    missing -= {one for one in missing if len(asked(port, one.replace("$node", "shop"))) == 1}
    return missing


def serve(listener: socket.socket, world: World) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection:
                subprocess.run(
                    [sys.executable, "-I", "-m", "gatling", "metrics", "--http"], env=world.env,
                    stdin=connection.fileno(), stdout=connection.fileno(), check=True,
                )  # fmt: skip


def asked(port: int, query: str) -> list[str]:
    """The values that Prometheus answers a query with."""
    url = f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(query)}"
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            found = json.load(response)["data"]["result"]
    except OSError:  # it does not listen yet
        return []
    return [each["value"][1] for each in found]


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK"),
        ("GET /metrics?x=1 HTTP/1.0\r\n\r\n", "200 OK"),
        ("GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("POST /metrics HTTP/1.1\r\n\r\n", "400 Bad Request"),
        ("GET /metrics\r\n\r\n", "400 Bad Request"),
        ("x" * 20_000, "400 Bad Request"),
        ("", "400 Bad Request"),
    ],
)
def test_only_a_request_for_metrics_is_answered_with_them(
    world: World, request_text: str, status: str
) -> None:
    head, _, body = world.run("metrics", "--http", stdin=request_text).partition("\n\n")
    assert head.startswith(f"HTTP/1.1 {status}")
    assert bool(body) == (status == "200 OK")


def test_a_crash_is_shown_with_its_cause(world: World) -> None:
    os.kill(world.status()["pid"], signal.SIGKILL)
    until(lambda: world.json("stats", "shop")["restarts"], "the restart")
    until(lambda: world.get("/").status == 200, "the app")
    (end,) = world.json("stats", "shop")["restarts"]
    assert end["cause"] == "killed by SIGKILL"
    # the new node has none of the modules yet
    until(lambda: world.json("stats", "shop")["node"] is not None, "the node")


def test_a_node_that_hangs_is_reported_as_such(world: World) -> None:
    pid = world.status()["pid"]
    suspend(pid)
    try:
        began = time.monotonic()
        found = world.json("stats", "shop")
        metrics = parsed(world.run("metrics"))
        took = time.monotonic() - began
    finally:
        os.kill(pid, signal.SIGCONT)
    assert found["node"] is None
    assert found["node_unknown"] == "The node did not answer in time."
    assert found["requests"] is not None
    assert metrics["gatling_app_node_reachable", 'app="shop"'] == 0
    assert took < 15


def test_an_app_that_is_stopped_has_no_node(world: World) -> None:
    world.run("stop", "shop")
    found = world.json("stats", "shop")
    assert (found["state"], found["node"]) == ("stopped", None)
    assert "node" in world.run("stats", "shop")
    assert parsed(world.run("metrics"))["gatling_app_up", 'app="shop"'] == 0
    world.run("start", "shop")


# ---------------------------------------------------------------- what libraries report

TELEMETRY = """
defmodule :telemetry do
  # as the library of that name: handlers by event, and a process of this name
  def start_link(_), do: Agent.start_link(fn -> %{} end, name: :telemetry_handler_table)

  def child_spec(_), do: %{id: :telemetry, start: {__MODULE__, :start_link, [nil]}}

  def attach(id, event, function, config) do
    Agent.update(:telemetry_handler_table, &Map.put(&1, id, {event, function, config}))
  end

  def detach(id), do: Agent.update(:telemetry_handler_table, &Map.delete(&1, id))

  def list_handlers([]) do
    Agent.get(:telemetry_handler_table, & &1)
    |> Enum.map(fn {id, {event, function, config}} ->
      %{id: id, event_name: event, function: function, config: config}
    end)
  end

  def execute(event, measurements, metadata) do
    for %{event_name: ^event, function: function, config: config} <- list_handlers([]) do
      function.(event, measurements, metadata, config)
    end
  end
end
"""
REPORTING = """
  defp answer("/count") do
    :telemetry.execute(
      [:phoenix, :router_dispatch, :stop],
      %{duration: System.convert_time_unit(30, :millisecond, :native)},
      %{route: "/count", conn: %{method: "GET", status: 200}}
    )

    text(200, Integer.to_string(Counter.Store.count()))
  end

"""


@pytest.fixture(scope="module")
def reporting(world: World, shop: Project) -> World:
    """The app, which now reports requests as Phoenix does."""
    shop.write("lib/counter/telemetry.ex", TELEMETRY)
    answer = '  defp answer("/count"), do: text(200, Integer.to_string(Counter.Store.count()))\n'
    shop.replace("lib/counter/router.ex", answer, REPORTING)
    shop.replace("lib/counter/application.ex", "      Counter.Store,\n",
                 "      :telemetry,\n      Counter.Store,\n")  # fmt: skip
    shop.commit()
    shop.push()
    return world


def routes(world: World) -> list[tuple[str, int]]:
    events = world.json("stats", "shop")["events"]
    return [(each["name"], each["count"]) for each in events["routes"]]


def test_requests_are_counted_by_route_from_the_deployment_on(reporting: World) -> None:
    for _ in range(4):
        assert reporting.get("/count").status == 200
    assert routes(reporting) == [("GET /count", 4)]
    said = reporting.run("stats", "shop")
    assert "Requests by route" in said
    assert "GET /count" in said
    found = parsed(reporting.run("metrics"))
    own = 'app="shop",kind="route",name="GET /count"'
    assert found["gatling_event_duration_seconds_count", own] == 4
    assert found["gatling_event_duration_seconds_bucket", f'{own},le="0.05"'] == 4


def test_a_hot_upgrade_keeps_the_counts(reporting: World, shop: Project) -> None:
    reporting.run("settings", "set", "shop", "deploy.strategy=auto")
    shop.title("counted")
    shop.push()
    assert reporting.last()["strategy"] == "hot"
    before = dict(routes(reporting))["GET /count"]
    assert before >= 4
    assert reporting.get("/count").status == 200
    assert routes(reporting) == [("GET /count", before + 1)]


def test_the_counts_can_be_turned_off(reporting: World) -> None:
    reporting.run("settings", "set", "shop", "stats.telemetry=false")
    reporting.run("restart", "shop")
    assert reporting.json("stats", "shop")["events"] is None
    left = reporting.run("run", "shop", "--", "rpc", "IO.inspect(:telemetry.list_handlers([]))")
    assert left.strip().endswith("[]")


def test_the_events_of_several_nodes_are_added_up() -> None:
    def seen(since: int, name: str, count: int) -> sight.Telemetry:
        event = sight.Reported("route", ["GET", name], count, 1, 1000, 5, [count, *[0] * 11])
        return sight.Telemetry(since, [event])

    found = stats._together([seen(20, "/", 2), seen(10, "/", 3), seen(30, "/other", 1)])
    assert found is not None
    assert found.since == 10
    both, other = found.events
    assert (both.count, both.failed, both.us, both.queue_us) == (5, 2, 2000, 10)
    assert both.ranges[0] == 5
    assert other.name == ["GET", "/other"]
    assert stats._together([]) is None
