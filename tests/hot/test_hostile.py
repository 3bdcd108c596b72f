"""Nodes that are busy with another command, and one that answers in place of Erlang's own code."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

from gatling.beam.etf import Atom
from tests.conftest import output_of
from tests.hot.conftest import node

if TYPE_CHECKING:
    from tests.conftest import Project, World

EVIL = """
defmodule Counter.Evil do
  def start do
    real = Process.whereis(:rex)
    pid = spawn(fn -> loop(real, []) end)
    Process.unregister(:rex)
    Process.register(pid, :rex)
  end

  def loop(real, before) do
    receive do
      {from, {:call, module, function, _, _}} = message ->
        case answer(File.read!("MODE"), module, function) do
          :honest -> send(real, message)
          :never -> :ok
          :flood -> for _ <- 1..200_000, to <- before, do: send(to, {:rex, :late})
          {:all, term} -> send(from, {:rex, term})
        end
        loop(real, [from | before])

      other ->
        send(real, other)
        loop(real, before)
    end
  end

  defp answer("swap", :gatling_swap, :swap), do: {:all, 42}
  defp answer("swap", :gatling_agent, :chain), do: {:all, 42}
  defp answer("random", _, _) do
    terms = [42, [], %{}, {}, "", :ok, {:ok, :ok}, {:ok, []}, {:busy, 1}, [{"v1", 1}, {"v7", 2}],
             {:ok, [{"../../v1", 1}]}, {:ok, [{"v99", 1}]}, self(), fn -> 1 end, 1.5]
    {:all, Enum.random(terms)}
  end
  defp answer("lists", _, _), do: {:all, List.duplicate([], 5_000_000)}
  defp answer("bytes", _, _), do: {:all, :binary.copy("x", 100_000_000)}
  defp answer("integer", _, _), do: {:all, Bitwise.bsl(1, 50_000_000)}
  defp answer("deep", _, _), do: {:all, Enum.reduce(1..100_000, [], fn _, acc -> [acc] end)}
  defp answer("flood", module, _) when module != :erlang, do: :flood
  defp answer("never", _, _), do: :never
  defp answer(_, _, _), do: :honest
end
"""
MEMORY_KB = 160 << 10
"""What a command may take: it needs some 45 MB by itself."""


IMPATIENT = """
import sys
from gatling.beam import control
control.ASK_SECONDS = 3.0
sys.argv[0] = "gatling"
from gatling.__main__ import main
main()
"""
"""A command that waits for an answer of the node for three seconds instead of ten."""
MEASURE = """
import os, resource, subprocess, sys
status = subprocess.call(sys.argv[1:])
print(status, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""A small process in between: what a process had before exec(2) counts in its ru_maxrss as well."""


def measured(world: World, *arguments: str) -> tuple[int, int, str]:
    """A command's exit status, the most memory that it had in KB, and what it printed."""
    command = [sys.executable, "-I", "-c", IMPATIENT, *arguments]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", MEASURE, *command], env=world.env, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True,
    )  # fmt: skip
    text, _, last = done.stdout.rstrip().rpartition("\n")
    status, memory = last.split()
    return int(status), int(memory), text


def evil_one(world: World) -> Project:
    evil = world.load("evil", "auto")
    evil.write("lib/counter/evil.ex", EVIL.replace("MODE", str(world.root / "mode")))
    evil.replace(
        "lib/counter/application.ex",
        "    children = [",
        "    Counter.Evil.start()\n    children = [",
    )
    return evil


def title(world: World, app: str) -> str:
    return world.get(host=f"{app}.localhost").text.partition("<h1>")[2].partition("</h1>")[0]


def test_an_app_that_answers_in_place_of_the_node(shop: Project) -> None:
    world = shop.world
    mode = world.root / "mode"
    mode.write_text("honest")
    evil = evil_one(world)
    evil.title("evil one")
    evil.push()

    # the swap: it cannot be known whether it took place, so another instance takes over
    mode.write_text("swap")
    evil.title("evil two")
    said = evil.push(ok=False)
    assert "is not valid" in said
    assert world.last("evil")["outcome"] == "failed"
    assert title(world, "evil") == "evil one"
    others_work(world)

    most, worst = 0, ""
    for what in ("random", "lists", "bytes", "integer", "deep", "flood", "never"):
        mode.write_text(what)
        status, memory, text = measured(world, "status", "evil")
        assert status == 0, text
        assert "Traceback" not in text
        most, worst = max((most, worst), (memory, f"status, {what}"))
        if what == "never":
            continue  # a plan would wait for a minute
        status, memory, text = measured(world, "plan", "evil")
        assert status == 0, text
        assert re.search("rolling|restart", text), text
        most, worst = max((most, worst), (memory, f"plan, {what}"))
    assert most < MEMORY_KB, f"{most >> 10} MB at {worst}"

    # its own next release goes by rolling, and other apps are none the wiser
    mode.write_text("random")
    evil.title("evil three")
    evil.push()
    assert title(world, "evil") == "evil three"
    others_work(world)
    shop.title("shop goes on")
    shop.push()
    assert title(world, "shop") == "shop goes on"

    world.run("unload", "evil", "--confirm", "evil")
    assert [app["app"] for app in world.json("apps")] == ["shop"]


def others_work(world: World) -> None:
    for words in (("status", "shop"), ("apps",), ("logs", "shop", "-n", "1"), ("up",)):
        output_of(world.start(*words))


def test_reading_commands_leave_the_node_alone_and_say_when_it_is_busy(shop: Project) -> None:
    world = shop.world
    shop.title("another")
    shop.push()
    assert world.status()["chain_unknown"] is None
    with node(world) as connected:
        assert connected.call("code", "is_loaded", Atom("gatling_agent")) is False
        status = world.run("status", "shop")
        assert "unknown: Another Gatling command is connected to the node." in status
        planned = world.run("plan", "shop", "v1", "--strategy", "auto", ok=False)
        assert "Another Gatling command is connected to the node." in planned
        assert "gatling deployments shop --follow" in planned
    assert world.run("plan", "shop", "v1", "--strategy", "auto").startswith("v")
