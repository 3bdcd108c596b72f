"""Many releases and many steps on one node: nothing lost, memory and atoms stable."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

import pytest

from tests.hot.conftest import Stream
from tests.scale import scaled

if TYPE_CHECKING:
    from tests.hot.conftest import Hot

pytestmark = pytest.mark.timeout(1800)

RELEASES = scaled(4, 10)
STEPS = scaled(20, 50)
PROCESSES = scaled(5_000, 20_000)

# A GenServer, a gen_statem and a handler of gen_event, whose states carry the number of the release
# that converted them last, and a sum that must never be lost.
KINDS = """
defmodule Counter.Kinds do
  use Supervisor
  def start_link(_), do: Supervisor.start_link(__MODULE__, [], name: __MODULE__)

  def init(_) do
    children = [
      Counter.Kinds.Server,
      %{
        id: :statem,
        start:
          {:gen_statem, :start_link, [{:local, :kinds_statem}, Counter.Kinds.Statem, [], []]}
      },
      %{id: :event, start: {:gen_event, :start_link, [{:local, :kinds_event}]}}
    ]
    Supervisor.init(children, strategy: :one_for_one)
  end

  def add(n) do
    unless Counter.Kinds.Event in :gen_event.which_handlers(:kinds_event) do
      :ok = :gen_event.add_handler(:kinds_event, Counter.Kinds.Event, [])
    end
    GenServer.call(Counter.Kinds.Server, {:add, n})
    :gen_statem.call(:kinds_statem, {:add, n})
    :gen_event.sync_notify(:kinds_event, {:add, n})
  end

  def sums do
    {GenServer.call(Counter.Kinds.Server, :sum), :gen_statem.call(:kinds_statem, :sum),
     :gen_event.call(:kinds_event, Counter.Kinds.Event, :sum)}
  end
end

defmodule Counter.Kinds.Server do
  use GenServer
  def start_link(_), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)
  def init(_), do: {:ok, {NUMBER, 0}}
  def handle_call({:add, n}, _, {NUMBER, sum}), do: {:reply, :ok, {NUMBER, sum + n}, :hibernate}
  def handle_call(:sum, _, {NUMBER, sum} = state), do: {:reply, sum, state, :hibernate}
  def code_change({:down, vsn}, {_, sum}, _), do: {:ok, {number(vsn), sum}}
  def code_change(_, {_, sum}, _), do: {:ok, {NUMBER, sum}}
  @vsn NUMBER
  defp number(vsn), do: vsn
end

defmodule Counter.Kinds.Statem do
  @behaviour :gen_statem
  @vsn NUMBER
  def callback_mode, do: :handle_event_function
  def init(_), do: {:ok, :here, {NUMBER, 0}}
  def handle_event({:call, from}, {:add, n}, _, {NUMBER, sum}) do
    {:keep_state, {NUMBER, sum + n}, {:reply, from, :ok}}
  end

  def handle_event({:call, from}, :sum, _, {NUMBER, sum}) do
    {:keep_state_and_data, {:reply, from, sum}}
  end

  def code_change({:down, vsn}, state, {_, sum}, _), do: {:ok, state, {vsn, sum}}
  def code_change(_, state, {_, sum}, _), do: {:ok, state, {NUMBER, sum}}
end

defmodule Counter.Kinds.Event do
  @behaviour :gen_event
  @vsn NUMBER
  def init(_), do: {:ok, {NUMBER, 0}}
  def handle_event({:add, n}, {NUMBER, sum}), do: {:ok, {NUMBER, sum + n}}
  def handle_call(:sum, {NUMBER, sum} = state), do: {:ok, sum, state}
  def handle_info(_, state), do: {:ok, state}
  def code_change({:down, vsn}, {_, sum}, _), do: {:ok, {vsn, sum}}
  def code_change(_, {_, sum}, _), do: {:ok, {NUMBER, sum}}
end
"""


def test_up_and_down_at_random(hot: Hot) -> None:
    world = hot.world
    hot.replace("lib/counter/application.ex", "      Counter.Store,\n",
                "      Counter.Store,\n      Counter.Kinds,\n")  # fmt: skip
    releases: list[str] = []
    with Stream(world) as stream:
        for number in range(1, RELEASES + 1):
            hot.write("lib/counter/kinds.ex", KINDS.replace("NUMBER", str(number)))
            hot.push()
            assert hot.strategy() == "hot", hot.reasons()
            releases.append(world.status()["release"])
            hot.rpc("Counter.Kinds.add(7)")
        world.run("settings", "set", "shop", "hot.watch=0.01")
        pid, total, live = hot.pid(), 7 * RELEASES, RELEASES - 1
        for target in (*range(live), live):  # what the first swaps load in the node stays
            world.run("rollback", "shop", releases[target])
        hot.rpc("Counter.Kinds.add(0); IO.inspect(Counter.Kinds.sums())")
        figures(hot)  # its own first call makes 300 atoms
        before = figures(hot)
        chosen = random.Random(4)
        for step in range(STEPS):
            target = chosen.choice([n for n in range(RELEASES) if n != live])
            world.run("rollback", "shop", releases[target])
            live = target
            assert hot.strategy() == "hot"
            if step % 10 == 9:  # not oftener: each such call makes atoms in the node
                total += step
                sums = hot.rpc(f"Counter.Kinds.add({step}); IO.inspect(Counter.Kinds.sums())")
                assert f"{{{total}, {total}, {total}}}" in sums
        after = figures(hot)
        count = hot.increment()
        stream.expect(b"data: %d" % count)
    world.run("settings", "set", "shop", "hot.watch=0.3")
    assert hot.pid() == pid
    # each of the calls makes the name of its own node, and little else
    assert after["atoms"] - before["atoms"] < STEPS, new_atoms(hot, before, after)
    assert after["memory"] < before["memory"] * 1.2, (before, after)


def new_atoms(hot: Hot, before: dict[str, int], after: dict[str, int]) -> str:
    # ATOM_INTERNAL_REF2 of the emulator's external.h: an atom by its index
    return hot.rpc(
        f"for i <- {before['atoms']}..{after['atoms'] - 1},"
        " do: IO.inspect(:erlang.binary_to_term(<<131, 75, i::24>>))"
    )


def figures(hot: Hot) -> dict[str, int]:
    said = hot.rpc(
        "Enum.each(Process.list(), &:erlang.garbage_collect/1);"
        "IO.inspect({:erlang.system_info(:atom_count), :erlang.memory(:total)})"
    )
    found = re.search(r"\{(\d+), (\d+)\}", said)
    assert found, said
    return {"atoms": int(found[1]), "memory": int(found[2])}


def test_thousands_of_processes(hot: Hot) -> None:
    worker = (
        "defmodule Counter.Worker do\n  use GenServer\n  @vsn NUMBER\n"
        "  def start(n), do: GenServer.start(__MODULE__, n)\n"
        "  def init(n), do: {:ok, {NUMBER, n}, :hibernate}\n"
        "  def handle_call(:get, _, {NUMBER, n} = state), do: {:reply, n, state}\n"
        "  def code_change({:down, vsn}, {_, n}, _), do: {:ok, {vsn, n}}\n"
        "  def code_change(_, {_, n}, _), do: {:ok, {NUMBER, n}}\nend\n"
    )
    hot.world.run("settings", "set", "shop", "hot.suspend=60")
    hot.write("lib/counter/worker.ex", worker.replace("NUMBER", "1"))
    hot.push()
    hot.rpc(
        f"pids = for n <- 1..{PROCESSES}, do: elem(Counter.Worker.start(n), 1);"
        " :persistent_term.put(:workers, pids)"
    )
    hot.write("lib/counter/worker.ex", worker.replace("NUMBER", "2"))
    hot.push()
    assert hot.strategy() == "hot"
    assert hot.world.last()["probe"]["processes"] == PROCESSES
    assert hot.world.last()["suspended_ms"] < 60_000
    told = hot.rpc(
        "IO.inspect(Enum.sum(for p <- :persistent_term.get(:workers), do: GenServer.call(p, :get)))"
    )
    assert str(PROCESSES * (PROCESSES + 1) // 2) in told
