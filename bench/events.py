"""Measure what the counting of events costs an app of your own, in processor time of its node.

    python bench/events.py shop / /products [--rounds 300] [--requests 50]

The app runs on this machine, in the home that `gatling` uses. Each round has two windows: one with
Gatling's handlers of :telemetry and one without them, in changing order. Both ask for the same path
over kept connections, past nginx. The result is the processor time of a request in the node, which
other programs on the machine change less than the requests per second. It is given as the median
of the differences within a round, with its 95 % confidence interval. Windows of the same kind are
compared in the same way: their interval is what the benchmark can resolve.

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
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

from bed import PYTHON, free_port
from sight import interval, processor_seconds, quotients

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENTS = 2
KINDS = ("with", "without", "with again", "without again")
SWITCH = """
options = [:binary, packet: :line, active: false, ip: {127, 0, 0, 1}]
{:ok, listening} = :gen_tcp.listen(PORT, options)
detach = fn ->
  for %{id: {:gatling_telemetry, _} = id} <- :telemetry.list_handlers([]) do
    :telemetry.detach(id)
  end
end
switch = fn
  _again, _socket, {:error, _} -> detach.(); :gatling_telemetry.attach()
  again, socket, {:ok, word} ->
    detach.()
    if word == "with\\n", do: :gatling_telemetry.attach()
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
    parser.add_argument("app")
    parser.add_argument("paths", nargs="+", help="that the app answers with 200")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--requests", type=int, default=50, help="in each window")
    given = parser.parse_args()
    found = json.loads(gatling("apps", "--json"))
    (app,) = [one for one in found if one["app"] == given.app]
    pid, port = int(app["pid"]), int(app["port"])
    gatling("stats", given.app, "--json")  # loads the handlers
    with switch(given.app) as turn, ProcessPoolExecutor(CLIENTS) as clients:
        for path in given.paths:
            orders = itertools.cycle(itertools.permutations(KINDS))
            us: dict[str, list[float]] = {kind: [] for kind in KINDS}
            for order in itertools.islice(orders, given.rounds):
                for kind in order:
                    turn(kind.partition(" ")[0])
                    window(clients, pid, port, path, 20)  # what was changed is in the caches
                    us[kind].append(window(clients, pid, port, path, given.requests))
            show(path, us)


def show(path: str, us: dict[str, list[float]]) -> None:
    """Print the result of a path."""
    first, second, third, fourth = (us[kind] for kind in KINDS)
    more = quotients(first, second) + quotients(third, fourth)
    same = quotients(first, third) + quotients(second, fourth)
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
def switch(app: str) -> Iterator[Turn]:
    """Start the process in the node that attaches and detaches handlers."""
    port = free_port()
    gatling("run", app, "--", "rpc", SWITCH.replace("PORT", str(port)))
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
