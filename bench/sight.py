"""Measure what the numbers of an app cost it: handlers of :telemetry, and the sampler.

    python bench/sight.py [--rounds 150] [--requests 400] [--queries 3] [--idle 60] [--only PART]

An app answers requests on kept connections as fast as it can, and reports each with events of
:telemetry: one of the request, and one for each of some queries that it does not make. A round has
four short windows: two with Gatling's handlers and two without them, in changing order. The first
result is the processor time of a request in the node, which other programs on the machine change
less than the requests per second. It is given as the median of the quotients within a round, with
its 95 % confidence interval. Windows of the same kind are compared in the same way: their interval
is what the benchmark can resolve. It is within 1 % on a machine that does nothing else.
The second result is the same of the requests per second, which need such a machine.

Then nobody asks the app, and its node's processor time is compared with `gatling watch` on and off.

In the end, a node with 100,000 processes, 10,000 sockets and 10,000 routes is asked what the
sampler asks: how long that takes, and the memory that it needs.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import math
import shutil
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bed import Bed, bed
from gatling.beam import toolbox

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLE = Path(__file__).parents[1] / "examples/counter"
HOST = "shop.localhost"
CLIENTS = 2
PARTS = ("telemetry", "sampler", "large")
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
ECTO = """\
# What Gatling asks of Ecto: the repositories that run, and the events of their queries.
defmodule Ecto.Repo do
  def all_running, do: [Counter.Repo]
end

defmodule Ecto.Adapter do
  def lookup_meta(repo), do: %{telemetry: {repo, :debug, [:counter, :repo, :query]}}
end
"""
REPORTS = """\
  def call(%{path: "/on"}) do
    :attached = :gatling_telemetry.attach()
    text(200, "on")
  end

  # the counts stay: without them, each window would begin with a collection in all processes
  def call(%{path: "/off"}) do
    for %{id: {:gatling_telemetry, _} = id} <- :telemetry.list_handlers([]) do
      :telemetry.detach(id)
    end

    text(200, "off")
  end

  def call(request) do
    started = System.monotonic_time()
    answer = answered(request)

    for table <- TABLES do
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
    {ok, Listening} = gen_tcp:listen(0, [{active, false}, {ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listening),
    _ = [begin
             {ok, _} = gen_tcp:connect({127, 0, 0, 1}, Port, [{active, false}]),
             {ok, _} = gen_tcp:accept(Listening)
         end || _ <- lists:seq(1, 5000)],
    io:format("a node with ~b processes and ~b sockets:~n",
              [erlang:system_info(process_count), gatling_numbers:sockets()]),
    Asked("the sockets (`stats`, `top`)", fun() -> gatling_numbers:sockets() end),
    Asked("all numbers, every ten seconds", fun() -> gatling_numbers:all(0) end),
    Asked("the longest queue, each minute",
          fun() -> gatling_numbers:processes(message_queue_len, 1) end),
    Asked("the largest processes (`stats`, `top`)",
          fun() -> gatling_numbers:processes(memory, 20) end),
    halt().
"""


class Window(NamedTuple):
    """A stretch of time under load."""

    us: float
    """Processor time of the node for each request."""
    per_second: float
    """Requests in each second."""


def main() -> None:
    """Measure once, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--requests", type=int, default=400, help="in each window")
    parser.add_argument("--queries", type=int, default=3, help="reported by each request")
    parser.add_argument("--idle", type=float, default=60)
    parser.add_argument("--only", choices=PARTS, help="measure one part")
    given = parser.parse_args()
    parts = {given.only} if given.only else set(PARTS)
    if parts != {"large"}:
        with bed() as home:
            home.gatling("up")
            project = reporting(home.root, given.queries)
            home.repository(project, "shop")
            home.output(["git", "push", "--quiet", "gatling", "main"], project)
            (app,) = json.loads(home.gatling("apps", "--json"))
            if "telemetry" in parts:
                handlers(home, app, given.rounds, given.requests, given.queries)
            if "sampler" in parts:
                sampler(home, int(app["pid"]), given.idle)
    if "large" in parts:
        large_node()


def handlers(home: Bed, app: dict[str, Any], rounds: int, requests: int, queries: int) -> None:
    """Compare windows with and without handlers."""
    pid, port = int(app["pid"]), int(app["port"])
    home.gatling("stats", "shop", "--json")  # loads them
    kinds = ("with", "without", "with again", "without again")
    orders = itertools.cycle(itertools.permutations(kinds))
    found: dict[str, list[Window]] = {kind: [] for kind in kinds}
    with ProcessPoolExecutor(CLIENTS) as clients:
        window(clients, pid, port, 5 * requests)  # the first one warms everything
        for order in itertools.islice(orders, rounds):
            for kind in order:
                ask_once(port, "/off" if kind.startswith("without") else "/on")
                found[kind].append(window(clients, pid, port, requests))
        ask_once(port, "/on")
        events = ("routes", "queries") if queries else ("routes",)
        before = counted(home)
        window(clients, pid, port, requests)
        after = counted(home)
    said = " and ".join(str(after[one] - before[one]) for one in events)
    print(f"of {requests} requests with {queries} queries each, {said} were counted")
    for name, at in (("processor time of a request, in us", 0), ("requests per second", 1)):
        first, second, third, fourth = ([one[at] for one in found[kind]] for kind in kinds)
        more = quotients(first, second) + quotients(third, fourth)
        same = quotients(first, third) + quotients(second, fourth)
        print(f"{name}: {statistics.median(second + fourth):.1f} without handlers,"
              f" {statistics.median(first + third):.1f} with: {interval(more)}"
              f" (windows of the same kind: {interval(same)})")  # fmt: skip


def quotients(these: list[float], those: list[float]) -> list[float]:
    """How much more these are. Without a difference, more and less are equally likely."""
    return [a / b - 1 for a, b in zip(these, those, strict=True)]


def counted(home: Bed) -> Counter[str]:
    """The requests and queries that the node has counted."""
    events = json.loads(home.gatling("stats", "shop", "--json"))["events"]
    kinds = ("routes", "queries")
    return Counter({kind: sum(one["count"] for one in events[kind]) for kind in kinds})


def interval(values: list[float]) -> str:
    """The median with its 95 % confidence interval, which supposes no distribution."""
    ordered, count = sorted(values), len(values)
    low = max(0, math.floor((count - 1.96 * math.sqrt(count)) / 2))
    return (f"{statistics.median(ordered):+.2%}"
            f" ({ordered[low]:+.2%} … {ordered[count - 1 - low]:+.2%})")  # fmt: skip


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


def reporting(root: Path, queries: int) -> Path:
    """A copy of the example that reports events: a request, and so many queries in each."""
    project = root / "shop"
    ignore = shutil.ignore_patterns("_build", "deps", "test")
    shutil.copytree(EXAMPLE, project, ignore=ignore)
    (project / "src").mkdir()
    (project / "src/telemetry.erl").write_text(TELEMETRY)
    (project / "lib/ecto.ex").write_text(ECTO)
    tables = json.dumps([f"table_{number}" for number in range(queries)])
    change(project / "lib/counter/router.ex", lambda text: text.replace(
        "  def call(", REPORTS.replace("TABLES", tables), 1))  # fmt: skip
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


def window(clients: ProcessPoolExecutor, pid: int, port: int, requests: int) -> Window:
    """Ask so often, from processes of their own."""
    each = requests // CLIENTS
    began, before = time.monotonic(), processor_seconds(pid)
    list(clients.map(ask, [port] * CLIENTS, [each] * CLIENTS))
    used, took = processor_seconds(pid) - before, time.monotonic() - began
    return Window(1e6 * used / (each * CLIENTS), each * CLIENTS / took)


def ask_once(port: int, path: str) -> None:
    """One request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers={"Host": HOST})
    connection.getresponse().read()
    connection.close()


def ask(port: int, requests: int) -> None:
    """Ask so often, over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for _ in range(requests):
        connection.request("GET", "/count", headers={"Host": HOST})
        connection.getresponse().read()
    connection.close()


def processor_seconds(pid: int) -> float:
    """What the node has used so far. /proc has hundredths of a second; this clock, nanoseconds."""
    return time.clock_gettime(~pid << 3 | 2)  # clock_getcpuclockid(3)


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
