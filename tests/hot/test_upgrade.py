"""Changes that are made in the running node: nothing is lost, up and down."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING

import pytest

from tests.conftest import Client, until
from tests.hot.conftest import APPLICATION, STORE, Stream

if TYPE_CHECKING:
    from tests.hot.conftest import Hot

CONVERTING = """
  @impl true
  def code_change({:down, _}, {:v2, count, subscribers}, _extra) do
    {:ok, %{count: count, subscribers: subscribers}}
  end

  def code_change(_old, %{count: count, subscribers: subscribers}, _extra) do
    {:ok, {:v2, count, subscribers}}
  end
end
"""

STORE_V2 = """
defmodule Counter.Store do
  use GenServer

  def start_link(_opts), do: GenServer.start_link(__MODULE__, 0, name: __MODULE__)
  def count, do: GenServer.call(__MODULE__, :count)
  def increment, do: GenServer.call(__MODULE__, :increment)
  def subscribe, do: GenServer.call(__MODULE__, :subscribe)

  @impl true
  def init(count), do: {:ok, {:v2, count, %{}}}

  @impl true
  def handle_call(:count, _from, {:v2, count, _} = state), do: {:reply, count, state}

  def handle_call(:increment, _from, {:v2, count, subscribers}) do
    for {_ref, pid} <- subscribers, do: send(pid, {:count, count + 10})
    {:reply, count + 10, {:v2, count + 10, subscribers}}
  end

  def handle_call(:subscribe, {pid, _tag}, {:v2, count, subscribers}) do
    {:reply, count, {:v2, count, Map.put(subscribers, Process.monitor(pid), pid)}}
  end

  @impl true
  def handle_info(_message, state), do: {:noreply, state}
"""


@pytest.mark.quick("a hot upgrade")
@pytest.mark.usefixtures("boot_check")
def test_a_plain_module_changes_and_everything_goes_on(hot: Hot) -> None:
    pid, count = hot.pid(), hot.count()
    with Stream(hot.world) as stream, Client(hot.world) as client:
        hot.project.title("Changed in memory")
        output = hot.project.push()
        assert "Changed in memory" in hot.world.get().text
        assert hot.increment() == count + 1
        stream.expect(b"data: %d" % (count + 1))
    assert client.failures == []
    assert hot.strategy() == "hot"
    assert hot.pid() == pid
    # a request of the client that waits for a slow machine may count as a kept one, too
    deployment = hot.world.last()
    assert deployment["probe"]["kept"] >= 1
    assert re.search(r"\d connections? kept", output)
    names = [step["name"] for step in deployment["steps"]]
    assert names[-4:] == ["plan", "hot_swap", "watch", "boot_check"]
    assert deployment["probe"]["failed"] == 0


def test_state_is_converted_up_and_down(hot: Hot) -> None:
    pid, before = hot.pid(), hot.world.status()["release"]
    count = hot.count()
    with Stream(hot.world) as stream, Client(hot.world) as client:
        hot.write(STORE, STORE_V2 + CONVERTING)
        hot.push()
        assert hot.strategy() == "hot"
        assert hot.increment() == count + 10
        stream.expect(b"data: %d" % (count + 10))
        assert hot.world.last()["probe"]["processes"] == 1
        assert 0 < hot.world.last()["suspended_ms"] < 20_000
        hot.world.run("rollback", "shop", before)
        assert hot.strategy() == "hot"
        assert hot.increment() == count + 11
        stream.expect(b"data: %d" % (count + 11))
    assert client.failures == []
    assert hot.pid() == pid


def test_a_new_child_is_started_and_a_removed_one_is_stopped(hot: Hot) -> None:
    pid, before, count = hot.pid(), hot.world.status()["release"], hot.count()
    hot.write(
        "lib/counter/extra.ex",
        "defmodule Counter.Extra do\n  use Agent\n"
        "  def start_link(_), do: Agent.start_link(fn -> 42 end, name: __MODULE__)\nend\n",
    )
    hot.replace(
        APPLICATION, "      Counter.Store,\n", "      Counter.Store,\n      Counter.Extra,\n"
    )
    output = hot.push()
    assert "starts Counter.Extra" in output
    assert "42" in hot.rpc("IO.inspect(Agent.get(Counter.Extra, & &1))")
    hot.world.run("rollback", "shop", before)
    assert hot.strategy() == "hot"
    assert "nil" in hot.rpc("IO.inspect(Process.whereis(Counter.Extra))")
    assert (hot.pid(), hot.count()) == (pid, count)


def test_jumps_over_releases(hot: Hot) -> None:
    pid = hot.pid()
    releases = []
    for title in ("one", "two", "three"):
        hot.project.title(title)
        hot.project.push()
        releases.append(hot.world.status()["release"])
    for number in (0, 2, 1):
        hot.world.run("rollback", "shop", releases[number])
        assert ("one", "two", "three")[number] in hot.world.get().text
        assert hot.strategy() == "hot"
    assert hot.pid() == pid
    chain = hot.chain()
    assert chain[-4:] == [releases[2], releases[0], releases[2], releases[1]]


def test_after_a_crash_the_live_release_starts(hot: Hot) -> None:
    hot.project.title("survives a crash")
    hot.project.push()
    assert hot.strategy() == "hot"
    live = hot.world.status()["release"]
    hot.world.run("restart", "shop")
    assert "survives a crash" in hot.world.get().text
    hot.project.title("then this")
    hot.project.push()
    assert hot.strategy() == "hot"
    old = hot.pid()
    os.kill(old, signal.SIGKILL)
    until(lambda: hot.world.status()["pid"] not in (None, old), "a new process")
    until(lambda: hot.world.get("/health").status == 200, "the app")
    assert "then this" in hot.world.get().text
    assert hot.world.status()["release"] != live


def test_the_applications_version_and_environment_follow(hot: Hot) -> None:
    hot.replace("mix.exs", 'version: "0.1.0"', 'version: "0.2.0"')
    hot.push()
    assert hot.strategy() == "hot"
    told = hot.rpc(
        "IO.inspect({Application.spec(:counter, :vsn), Application.get_env(:counter, :port) != nil,"
        ' System.get_env("RELEASE_VSN"), Application.app_dir(:counter)})'
    )
    assert "'0.2.0', true, \"0.2.0\"" in told or '~c"0.2.0", true, "0.2.0"' in told
    assert f"/releases/{hot.world.status()['release']}/lib/counter-0.2.0" in told
