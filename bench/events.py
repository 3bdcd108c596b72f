"""Measure what the counting of events costs an app of your own, in processor time of its node.

    python bench/events.py shop / /products [--rounds 300] [--requests 50] [--copies 16]
    python bench/events.py --stand-in [--queries 3]

The app runs on this machine, in the home that `gatling` uses. Each round has two windows: one with
Gatling's handlers of :telemetry and one without them, in changing order. Both ask for the same path
over kept connections, past nginx. The result is the processor time of a request in the node, which
other programs on the machine change less than the requests per second. It is given as the median
of the differences within a round, with its 95 % confidence interval. Windows of the same kind are
compared in the same way: their interval is what the benchmark can resolve.

The handlers of one request cost less than windows of the same kind differ. So a window has many
copies of the module instead of one: each has code, names and counts of its own, as the one that is
measured has, and touches memory of its own. The difference is divided by their number, and so is
its interval. `--copies 1` measures the module alone.

`--stand-in` measures an app that is made for it, whose requests are smaller than those of Phoenix:
each reports one route and some queries. It says what the events of such a request cost.

A small process is started in the node, which attaches and detaches the handlers when it is asked.
It ends with the benchmark.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import os
import socket
import statistics
import subprocess
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from bed import PYTHON, bed, free_port
from gatling.beam import toolbox
from sight import interval, processor_seconds, quotients, reporting

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENTS = 2
MODULE = "gatling_telemetry"
KINDS = ("with", "without", "with again", "without again")
SWITCH = """
modules = MODULES
for module <- modules, module != :gatling_telemetry do
  {:module, _} = :code.load_abs(~c"BEAMS/#{module}")
end
options = [:binary, packet: :line, active: false, ip: {127, 0, 0, 1}]
{:ok, listening} = :gen_tcp.listen(PORT, options)
detach = fn ->
  for %{id: {module, _} = id} <- :telemetry.list_handlers([]), module in modules do
    :telemetry.detach(id)
  end
end
attach = fn -> for module <- modules, do: :attached = module.attach() end
switch = fn
  _again, _socket, {:error, _} ->
    detach.()
    :gatling_telemetry.attach()
    for module <- modules, module != :gatling_telemetry, do: module.detach()
  again, socket, {:ok, word} ->
    detach.()
    if word == "with\\n", do: attach.()
    :gen_tcp.send(socket, "done\\n")
    again.(again, socket, :gen_tcp.recv(socket, 0))
end
owner = spawn(fn ->
  receive do: (:go -> :ok)
  {:ok, socket} = :gen_tcp.accept(listening, 60_000)
  switch.(switch, socket, :gen_tcp.recv(socket, 0))
end)
:ok = :gen_tcp.controlling_process(listening, owner)
send(owner, :go)
"""


def main() -> None:
    """Measure each path, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("app", nargs="?", default="shop")
    parser.add_argument("paths", nargs="*", help="that the app answers with 200")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--requests", type=int, default=50, help="in each window")
    parser.add_argument("--copies", type=int, default=16)
    parser.add_argument("--stand-in", action="store_true")
    parser.add_argument("--queries", type=int, default=3, help="reported by the stand-in")
    given = parser.parse_args()
    if not given.stand_in:
        measure(given)
        return
    with bed() as home:
        home.gatling("up")
        project = reporting(home.root, given.queries)
        home.repository(project, "shop")
        home.output(["git", "push", "--quiet", "gatling", "main"], project)
        os.environ.update(home.env)
        given.paths = ["/count"]
        measure(given)


def measure(given: argparse.Namespace) -> None:
    """Measure the paths of an app."""
    found = json.loads(gatling("apps", "--json"))
    (app,) = [one for one in found if one["app"] == given.app]
    pid, port = int(app["pid"]), int(app["port"])
    gatling("stats", given.app, "--json")  # loads the handlers
    with switch(given.app, given.copies) as turn, ProcessPoolExecutor(CLIENTS) as clients:
        for path in given.paths:
            orders = itertools.cycle(itertools.permutations(KINDS))
            us: dict[str, list[float]] = {kind: [] for kind in KINDS}
            for order in itertools.islice(orders, given.rounds):
                for kind in order:
                    turn(kind.partition(" ")[0])
                    window(clients, pid, port, path, 20)  # what was changed is in the caches
                    us[kind].append(window(clients, pid, port, path, given.requests))
            show(path, us, given.copies)


def show(path: str, us: dict[str, list[float]], copies: int) -> None:
    """Print the result of a path."""
    first, second, third, fourth = (us[kind] for kind in KINDS)
    more = [one / copies for one in quotients(first, second) + quotients(third, fourth)]
    same = [one / copies for one in quotients(second, fourth)]
    print(f"{path}: {statistics.median(second + fourth):.0f} us of processor time for a request,"
          f" {interval(more)} with handlers (windows of the same kind: {interval(same)};"
          f" load {os.getloadavg()[0]:.1f})", flush=True)  # fmt: skip


def gatling(*arguments: str) -> str:
    """Run a command in the user's home; what it printed. Raises CalledProcessError."""
    argv = [PYTHON, "-I", "-m", "gatling", *arguments]
    return subprocess.run(argv, check=True, text=True, stdout=subprocess.PIPE).stdout


class Turn:
    """Attaches or detaches the handlers in the node."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._answers = connection.makefile("rb")

    def __call__(self, word: str) -> None:
        """Have requests with or without handlers. Raises OSError if the node does not answer."""
        self._connection.sendall(f"{word}\n".encode())
        if self._answers.readline() != b"done\n":
            raise ConnectionError(word)


@contextlib.contextmanager
def switch(app: str, copies: int) -> Iterator[Turn]:
    """Start the process in the node that attaches and detaches handlers."""
    port, names = free_port(), [MODULE, *(f"{MODULE}_{number}" for number in range(1, copies))]
    with tempfile.TemporaryDirectory() as beams:
        source = (toolbox.SOURCES / f"{MODULE}.erl").read_text()
        files = [Path(beams) / f"{name}.erl" for name in names[1:]]
        for file in files:
            file.write_text(source.replace(f"-module({MODULE})", f"-module({file.stem})"))
        if files:
            subprocess.run(["erlc", "-o", beams, *map(str, files)], check=True)
        code = SWITCH.replace("PORT", str(port)).replace("BEAMS", beams)
        gatling("run", app, "--", "rpc", code.replace("MODULES", f"~w({' '.join(names)})a"))
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        yield Turn(connection)


def window(clients: ProcessPoolExecutor, pid: int, port: int, path: str, requests: int) -> float:
    """Ask so often; microseconds of processor time for each request."""
    each = requests // CLIENTS
    before = processor_seconds(pid)
    list(clients.map(ask, [port] * CLIENTS, [path] * CLIENTS, [each] * CLIENTS))
    return 1e6 * (processor_seconds(pid) - before) / (each * CLIENTS)


_kept: dict[int, http.client.HTTPConnection] = {}


def ask(port: int, path: str, requests: int) -> None:
    """Ask so often, over the connection of this process. Raises ValueError for other than 200."""
    connection = _kept.setdefault(port, http.client.HTTPConnection("127.0.0.1", port, timeout=30))
    for _ in range(requests):
        connection.request("GET", path, headers={"Host": "localhost", "X-Forwarded-Proto": "https"})
        response = connection.getresponse()
        response.read()
        if response.status != http.HTTPStatus.OK:
            raise ValueError(f"{path}: {response.status}")


if __name__ == "__main__":
    main()
