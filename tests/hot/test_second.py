"""Data and ports that the live node has open are never opened by a second one.

The app keeps an account in Mnesia, with tables on the disk. Each node that opens them says so in a
file, so a second one that did would be seen even if it lost nothing.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import threading
from typing import TYPE_CHECKING, Self

import pytest

from tests.conftest import CHECKED_ON, new_world
from tests.hot.conftest import APPLICATION, Hot, held

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import World

BOOK = """
defmodule Counter.Book do
  use GenServer

  def start_link(_), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  def write(key), do: {:atomic, :ok} = :mnesia.transaction(fn -> :mnesia.write({:book, key, 1}) end)
  def keys, do: :book |> :mnesia.dirty_all_keys() |> Enum.sort() |> Enum.join(" ")

  @impl true
  def init(_) do
    directory = System.fetch_env!("DATA_DIR")
    File.write!(Path.join(directory, "opened"), "#{System.pid()}\\n", [:append])
    Application.put_env(:mnesia, :dir, String.to_charlist(Path.join(directory, "mnesia")))
    :mnesia.create_schema([node()])
    :ok = :mnesia.start()
    :mnesia.create_table(:book, disc_copies: [node()], attributes: [:key, :value])
    :ok = :mnesia.wait_for_tables([:book], 10_000)
    {:ok, nil}
  end
end
"""


@pytest.fixture(scope="module", autouse=True)
def boots_quickly(on_demand: None) -> None:
    """Each test boots several instances, and is about what they open."""


class Ledger:
    """Writes keys one after another through the proxy, and knows which the app has confirmed."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.confirmed: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _write(self) -> None:
        number = 0
        while not self._stop.wait(0.01):
            number += 1
            with contextlib.suppress(OSError, http.client.HTTPException):
                answer = self.world.get(f"/write-{number:05}", method="POST")
                if answer.status == 200:
                    self.confirmed.append(answer.text)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def book(data: Path) -> Iterator[Hot]:
    with new_world() as world:
        app = Hot(world.load(strategy="auto"))
        world.run("settings", "set", "shop", "hot.watch=0.05")
        world.run("config", "set", "shop", f"DATA_DIR={data}")
        app.write("lib/counter/book.ex", BOOK)
        app.replace("mix.exs", ":logger]", ":logger], included_applications: [:mnesia]")
        app.replace(APPLICATION, "children = [", "children = [\n      Counter.Book,")
        app.replace(
            "lib/counter/router.ex",
            "    case @allowed do",
            '    case @allowed do\n      _ when binary_part(path, 0, 2) == "/w" -> write(path)\n',
        )
        app.replace(
            "lib/counter/router.ex",
            "  defp page do",
            '  defp write("/write-" <> key) do\n    Counter.Book.write(key)\n    text(200, key)\n'
            "  end\n\n  defp page do",
        )
        app.push()
        yield app


def opened(data: Path) -> int:
    """How many nodes have opened the tables so far."""
    return len((data / "opened").read_text().split())


def test_no_confirmed_transaction_is_lost(book: Hot, data: Path) -> None:
    """Over a hot upgrade, deployments that cannot be hot, restarts and rollbacks."""
    world = book.world
    held = f"has the Mnesia tables in {data}/mnesia open"
    before = opened(data)
    with Ledger(world) as ledger:
        book.project.title("hot")
        output = book.project.push()
        assert book.strategy() == "hot"
        assert f"not checked whether v2 boots: v1 {held}" in output
        assert opened(data) == before
        book.replace(
            APPLICATION, "strategy: :one_for_one", "max_restarts: 9, strategy: :one_for_one"
        )
        book.push()
        assert book.strategy() == "restart"
        assert "changes its strategy or limits" in book.reasons()
        assert f"not rolling: v2 {held}" in book.reasons()
        plan = world.json("plan", "shop", "v2")
        assert plan["strategy"] == "restart"
        assert f"not rolling: v3 {held}" in plan["reasons"]
        assert plan["second_instance"] == [f"v3 {held}"]
        world.run("rollback", "shop", "--strategy", "rolling")
        assert book.strategy() == "restart"
        assert f"not rolling: v3 {held}" in book.reasons()
    assert opened(data) == before + 2
    assert len(ledger.confirmed) > 50
    world.run("stop", "shop")
    world.run("start", "shop")
    kept = set(book.rpc("IO.puts(Counter.Book.keys())").split())
    assert set(ledger.confirmed) - kept == set()


def test_a_rehearsal_opens_nothing(book: Hot, data: Path) -> None:
    before = opened(data)
    book.replace(APPLICATION, "max_restarts: 9, ", "")  # as the live release has it
    book.project.title("rehearsed")
    book.project.commit()
    book.world.run("settings", "set", "shop", "hot.rehearse=true")
    output = book.project.push()
    book.world.run("settings", "unset", "shop", "hot.rehearse")
    assert book.strategy() == "hot"
    assert "not rehearsed: v" in output
    assert opened(data) == before


def test_a_start_function_that_opens_data_is_not_run_by_a_planner(book: Hot, data: Path) -> None:
    """Nodes that are asked for a release's supervision tree run what is in start/2."""
    book.replace(
        APPLICATION,
        "    children = [",
        '    {:ok, _} = :dets.open_file(:early, file: ~c"#{System.fetch_env!("DATA_DIR")}/early")\n'
        "    children = [",
    )
    book.push()
    assert "start/2 opens data, dets:open_file/2" in book.reasons()
    assert book.strategy() == "restart"
    assert (data / "early").exists()


def test_what_else_a_node_has_open(running: Hot, tmp_path: Path) -> None:
    port = running.world.port - 1
    running.rpc(held(f'{{:ok, _}} = :dets.open_file(:a, file: ~c"{tmp_path}/a")'))
    running.rpc(held(f'{{:ok, _}} = :disk_log.open(name: :b, file: ~c"{tmp_path}/b")'))
    running.rpc(held(f"{{:ok, _}} = :gen_tcp.listen({port}, [])"))
    running.rpc(held(f'{{:ok, _}} = :gen_tcp.listen(0, ifaddr: {{:local, "{tmp_path}/c"}})'))
    running.rpc(held("{:ok, _} = :gen_tcp.listen(0, [])"))  # any port: another one gets another
    running.project.title("much is open")
    output = running.project.push()
    assert running.strategy() == "hot"
    said = (
        f"v1 has the DETS file {tmp_path}/a open; v1 has the disk_log file {tmp_path}/b open;"
        f" v1 listens on tcp port {port} and the socket {tmp_path}/c, which"
    )
    assert said in output
    running.world.run("restart", "shop")
    assert running.strategy() == "restart"
    assert f"v2 has the DETS file {tmp_path}/a open" in running.reasons()


def test_the_project_can_say_whether_two_may_run(running: Hot) -> None:
    set_to = running.world.run
    set_to("settings", "set", "shop", "deploy.second_instance=never")
    set_to("restart", "shop")
    assert running.strategy() == "restart"
    assert "deploy.second_instance=never" in running.reasons()
    listening = f"{{:ok, _}} = :gen_tcp.listen({running.world.port - 1}, [])"
    running.rpc(held(listening))
    set_to("settings", "set", "shop", "deploy.second_instance=allow")
    set_to("restart", "shop")
    assert running.strategy() == "rolling"
    set_to("settings", "unset", "shop", "deploy.second_instance")


def test_a_fixed_port_deploys_again_and_again(running: Hot) -> None:
    """An app with a port of its own, as an exporter of metrics has one."""
    running.restore()
    port = running.world.port - 2
    running.replace(
        APPLICATION,
        "    children = [",
        f"    children = [\n      %{{id: :metrics, start: {{__MODULE__, :metrics, [{port}]}}}},",
    )
    running.replace(
        APPLICATION,
        "  # Stopped in",
        "  def metrics(port) do\n    Agent.start_link(fn -> {:ok, s} = :gen_tcp.listen(port,"
        " reuseaddr: true); s end)\n  end\n\n  # Stopped in",
    )
    running.push()
    running.replace(APPLICATION, "strategy: :one", "max_restarts: 9, strategy: :one")
    running.push()
    assert running.strategy() == "restart"
    assert f"listens on tcp port {port}, which is not derived from PORT" in running.reasons()
    running.project.title("hot with a port")
    output = running.project.push()
    assert f"listens on tcp port {port}" in output


def test_a_second_instance_knows_that_it_is_one_and_is_reported(running: Hot, data: Path) -> None:
    """So that runtime.exs can leave out what acts by itself, such as queues and timers."""
    running.restore()
    running.replace(
        "config/runtime.exs",
        "import Config",
        'import Config\nFile.write!("' + str(data / "told") + '", '
        'System.get_env("GATLING_BOOT_CHECK", "0"), [:append])',
    )
    keys = ("deploy.second_instance", "hot.boot_check")
    running.world.run("settings", "set", "shop", f"{keys[0]}=allow", f"{keys[1]}=after")
    running.push()
    assert "0" in (data / "told").read_text()
    (data / "told").unlink()
    live = running.world.status()["release"]
    running.project.title("checked")
    output = running.project.push()
    running.world.run("settings", "unset", "shop", keys[0])
    running.world.run("settings", "set", "shop", f"{keys[1]}=off")
    assert running.strategy() == "hot"
    assert (data / "told").read_text() == "1"
    target = running.world.status()["release"]
    said = rf"boot check: a second instance of {target} ran beside the live one for [\d.]+ m?s"
    assert CHECKED_ON in output or re.search(said, output)
    words = ("logs", "shop", "--release", target)
    assert f"{target} (boot check) " in running.world.run(*words)
    assert "SIGTERM received" not in running.world.run(*words, "--process", "web")
    assert live != target
