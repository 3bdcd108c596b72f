"""Measure what the numbers of an app cost it: handlers of :telemetry, and the sampler.

    python bench/sight.py [--rounds 30] [--seconds 2] [--idle 60]

An app answers requests on kept connections as fast as it can, and reports each with four events of
:telemetry: a request and three queries. Windows with Gatling's handlers alternate with windows
without them. The result is the processor time of a request in the node, and the requests of a
window: medians, and the median of the quotients of neighbouring windows, with their quartiles.

Then nobody asks the app, and its node's processor time is compared with `gatling watch` on and off.

In the end, a node with 100,000 processes and 10,000 routes is asked what the sampler asks: how long
that takes, and the memory that it needs.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bed import Bed, bed
from gatling.beam import toolbox

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLE = Path(__file__).parents[1] / "examples/counter"
HOST = "shop.localhost"
CLIENTS = 2
TICKS = os.sysconf("SC_CLK_TCK")
TELEMETRY = """\
%% The part of the library telemetry that reports: it looks handlers up and calls each.
-module(telemetry).
-export([attach/4, detach/1, list_handlers/1, execute/3, init/0]).
init() ->
    Made = ets:new(telemetry_handler_table, [duplicate_bag, named_table, public,
                                             {keypos, 2}, {read_concurrency, true}]),
    register(Made, self()).
attach(Id, Event, Function, Config) ->
    ets:insert(telemetry_handler_table, {handler, Event, Id, Function, Config}), ok.
detach(Id) ->
    ets:match_delete(telemetry_handler_table, {handler, '_', Id, '_', '_'}), ok.
list_handlers(_) ->
    [#{id => Id} || {handler, _, Id, _, _} <- ets:tab2list(telemetry_handler_table)].
execute(Event, Measured, Metadata) ->
    lists:foreach(
        fun({handler, _, Id, Function, Config}) ->
            try Function(Event, Measured, Metadata, Config)
            catch _:_ -> detach(Id)
            end
        end, ets:lookup(telemetry_handler_table, Event)).
"""
REPORTS = """\
  def call(%{path: "/on"}) do
    :attached = :gatling_telemetry.attach()
    event = [:counter, :repo, :query]
    :telemetry.attach({:gatling_telemetry, event}, event, &:gatling_telemetry.handle/4, :query)
    text(200, "on")
  end

  def call(%{path: "/off"}) do
    :gatling_telemetry.detach()
    text(200, "off")
  end

  def call(request) do
    started = System.monotonic_time()
    answer = answered(request)

    for table <- ["orders", "items", "users"] do
      :telemetry.execute([:counter, :repo, :query], %{query_time: 900_000, queue_time: 20_000}, %{
        repo: Counter.Repo,
        source: table,
        result: {:ok, %{}}
      })
    end

    :telemetry.execute(
      [:phoenix, :router_dispatch, :stop],
      %{duration: System.monotonic_time() - started},
      %{route: request.path, conn: %{method: request.method, status: 200}}
    )

    answer
  end

  defp answered("""
LARGE = """\
    _ = gatling_telemetry:state(),
    Before = maps:get(memory, persistent_term:info()),
    Event = fun(N) ->
        Route = <<"/posts/", (integer_to_binary(N rem 10000))/binary>>,
        gatling_telemetry:handle([phoenix, router_dispatch, stop], #{duration => 12000000},
            #{route => Route, conn => #{method => <<"GET">>, status => 200}}, route)
    end,
    {Took, ok} = timer:tc(fun() -> lists:foreach(Event, lists:seq(1, 200000)) end),
    After = maps:get(memory, persistent_term:info()),
    #{memory := Array} = counters:info(maps:get(counts, gatling_telemetry:state())),
    {_, Rows} = gatling_telemetry:read(),
    io:format("200,000 requests for 10,000 routes: ~.2f us each, ~b routes are kept,"
              " ~.1f kB of counts and ~.1f kB of names~n",
              [Took / 200000, length(Rows), Array / 1000, (After - Before) / 1000]),
    _ = [spawn(fun() -> receive stop -> ok end end) || _ <- lists:seq(1, 100000)],
    Asked = fun(Name, Do) ->
        {_, Ref} = spawn_monitor(fun() ->
            {Us, _} = timer:tc(Do),
            {memory, Bytes} = process_info(self(), memory),
            exit({Us, Bytes})
        end),
        receive {'DOWN', Ref, process, _, {Us, Bytes}} ->
            io:format("~8.1f ms, ~.1f MB of its own process  ~s~n",
                      [Us / 1000, Bytes / 1.0e6, Name])
        end
    end,
    io:format("a node with ~b processes:~n", [erlang:system_info(process_count)]),
    Asked("all numbers, every ten seconds", fun() -> gatling_numbers:all(0) end),
    Asked("the longest queue, each minute",
          fun() -> gatling_numbers:processes(message_queue_len, 1) end),
    Asked("the largest processes (`stats`, `top`)",
          fun() -> gatling_numbers:processes(memory, 20) end),
    halt().
"""


class Window(NamedTuple):
    """A stretch of time under load."""

    requests: int
    us: float
    """Processor time of the node for each request."""


def main() -> None:
    """Measure once, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--idle", type=float, default=60)
    given = parser.parse_args()
    with bed() as home:
        home.gatling("up")
        project = reporting(home.root)
        home.repository(project, "shop")
        home.output(["git", "push", "--quiet", "gatling", "main"], project)
        (app,) = json.loads(home.gatling("apps", "--json"))
        handlers(home, int(app["pid"]), int(app["port"]), given.rounds, given.seconds)
        sampler(home, int(app["pid"]), given.idle)
    large_node()


def handlers(home: Bed, pid: int, port: int, rounds: int, seconds: float) -> None:
    """Let windows with and without handlers alternate."""
    home.gatling("stats", "shop", "--json")  # loads them
    found: dict[bool, list[Window]] = {True: [], False: []}
    window(pid, port, 2 * seconds)  # the first one warms everything
    for number in range(rounds):
        for wanted in (True, False) if number % 2 else (False, True):
            ask_once(port, "/on" if wanted else "/off")
            found[wanted].append(window(pid, port, seconds))
    ask_once(port, "/off")
    ask_once(port, "/on")
    sent = window(pid, port, seconds).requests
    events = json.loads(home.gatling("stats", "shop", "--json"))["events"]
    counted = [sum(one["count"] for one in events[kind]) for kind in ("routes", "queries")]
    print(f"of {sent} requests with 3 queries each, {counted[0]} and {counted[1]} were counted")
    for name, at in (("processor time of a request, in us", 1), ("requests of a window", 0)):
        pairs = zip(found[True], found[False], strict=True)
        more = [a[at] / b[at] - 1 for a, b in pairs]
        low, middle, high = statistics.quantiles(more, n=4)
        without, attached = (statistics.median(one[at] for one in found[each])
                             for each in (False, True))  # fmt: skip
        print(f"{name}: {without:.1f} without handlers, {attached:.1f} with; {middle:+.2%}"
              f" ({low:+.2%} … {high:+.2%})")  # fmt: skip


def sampler(home: Bed, pid: int, seconds: float) -> None:
    """Leave the app alone, with and without samples."""
    used = {}
    for switch in ("off", "on"):
        home.gatling("watch", switch)
        time.sleep(5)
        before = processor_seconds(pid)
        time.sleep(seconds)
        used[switch] = processor_seconds(pid) - before
    print(f"an idle node used {1000 * used['off']:.0f} ms of processor time in {seconds:g} s, and"
          f" {1000 * used['on']:.0f} ms with samples:"
          f" {(used['on'] - used['off']) / seconds:+.2%} of one processor")  # fmt: skip


def reporting(root: Path) -> Path:
    """A copy of the example that reports events."""
    project = root / "shop"
    ignore = shutil.ignore_patterns("_build", "deps", "test")
    shutil.copytree(EXAMPLE, project, ignore=ignore)
    (project / "src").mkdir()
    (project / "src/telemetry.erl").write_text(TELEMETRY)
    change(project / "lib/counter/router.ex", lambda text: text.replace(
        "  def call(", REPORTS, 1))  # fmt: skip
    change(project / "lib/counter/application.ex", lambda text: text.replace(
        "  def start(_type, _args) do\n",
        "  def start(_type, _args) do\n    spawn(fn ->\n      :telemetry.init()\n"
        "      Process.sleep(:infinity)\n    end)\n\n    Process.sleep(50)\n", 1))  # fmt: skip
    return project


def change(file: Path, edit: Callable[[str], str]) -> None:
    """Edit a file; raises ValueError if that changes nothing."""
    text = file.read_text()
    if edit(text) == text:
        raise ValueError(file)
    file.write_text(edit(text))


def window(pid: int, port: int, seconds: float) -> Window:
    """Ask for so many seconds, from processes of their own."""
    end = time.monotonic() + seconds
    before = processor_seconds(pid)
    with ProcessPoolExecutor(CLIENTS) as pool:
        requests = sum(pool.map(ask, [port] * CLIENTS, [end] * CLIENTS))
    return Window(requests, 1e6 * (processor_seconds(pid) - before) / requests)


def ask_once(port: int, path: str) -> None:
    """One request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers={"Host": HOST})
    connection.getresponse().read()
    connection.close()


def ask(port: int, end: float) -> int:
    """Ask until that time; how many requests were answered."""
    connection, done = http.client.HTTPConnection("127.0.0.1", port, timeout=30), 0
    while time.monotonic() < end:
        connection.request("GET", "/count", headers={"Host": HOST})
        connection.getresponse().read()
        done += 1
    connection.close()
    return done


def processor_seconds(pid: int) -> float:
    """What the node has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def large_node() -> None:
    """Ask a node with many processes and routes."""
    with tempfile.TemporaryDirectory() as beams:
        sources = [toolbox.SOURCES / f"gatling_{name}.erl" for name in ("telemetry", "numbers")]
        module = Path(beams) / "bench.erl"
        module.write_text(f"-module(bench).\n-export([run/0]).\nrun() ->\n{LARGE}")
        subprocess.run(["erlc", "+export_all", "+nowarn_export_all", "-o", beams, *sources, module],
                       check=True)  # fmt: skip
        subprocess.run(["erl", "-noinput", "-pa", beams, "-s", "bench", "run"], check=True)


if __name__ == "__main__":
    main()
