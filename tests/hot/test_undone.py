"""What speaks against an upgrade takes it back: the push fails, the state is as it was."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import Client, until
from tests.hot.conftest import STORE, Stream
from tests.push.test_recovery import arm, check_whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.hot.conftest import Hot

OFTEN = 0.02
"""Seconds between requests of a client whose failures are counted."""
LAST_LINES = "    {:noreply, %{state | subscribers: Map.delete(state.subscribers, ref)}}\n  end\n"
PATIENT = """
import sys
from gatling.deploy.cutover import boot_check
boot_check.WAITED_SECONDS = 60.0
sys.argv[0] = "gatling"
from gatling.__main__ import main
main()
"""
"""A command that leaves no boot check to the background, however slow the machine is."""


def asked(hot: Hot) -> tuple[str, ...]:
    """The command of a hot upgrade to the work tree, even if a changed init/1 is for rolling."""
    commit = hot.project.commit()
    hot.project.push("--force", "HEAD:refs/heads/demanded")
    return ("deploy", "shop", commit, "--strategy", "hot")


def demand(hot: Hot, *, ok: bool = False) -> str:
    """The output of a hot upgrade that must fail (or not)."""
    return hot.world.run(*asked(hot), ok=ok)


@contextlib.contextmanager
def taken_back(hot: Hot, outcome: str = "failed") -> Iterator[None]:
    """The same node serves the same release with its state, its stream and no failed request."""
    status, count = hot.world.status(), hot.count()
    with Stream(hot.world) as stream, Client(hot.world) as client:
        yield
        assert hot.increment() == count + 1
        stream.expect(b"data: %d" % (count + 1))
    assert client.failures == []
    after = hot.world.status()
    assert [after[k] for k in ("pid", "release", "slot")] == [
        status[k] for k in ("pid", "release", "slot")
    ]
    assert hot.world.last()["outcome"] == outcome
    assert hot.strategy() == "hot"


def test_a_code_change_that_raises(hot: Hot) -> None:
    hot.replace(
        STORE,
        LAST_LINES,
        LAST_LINES + '\n  @impl true\n  def code_change(_, _, _), do: raise "cannot convert"\n',
    )
    with taken_back(hot):
        output = hot.push(ok=False)
    assert "The hot upgrade failed at code_change: Counter.Store: " in output
    assert "code_change/3 must accept every state" in output
    assert "Counter.Store" in output
    assert "cannot convert" in output


def test_a_process_that_crashes_afterwards(hot: Hot) -> None:
    # the state's shape changes without a code_change: the next message finds the old one
    store = (hot.project.directory / STORE).read_text()
    for old, new in (
        ("state.count", "state.total"),
        ("%{count: count, subscribers", "%{total: count, subscribers"),
        ("%{state | count: count}", "%{state | total: count}"),
    ):
        assert old in store
        store = store.replace(old, new)
    hot.write(STORE, store)
    count, status = hot.count(), hot.world.status()
    hot.world.run("settings", "set", "shop", "hot.watch=20")
    output = demand(hot)
    hot.world.run("settings", "set", "shop", "hot.watch=0.3")
    assert "crashed within" in output
    assert "Counter.Store" in output
    assert "code_change/3" in output
    after = hot.world.status()
    assert (after["release"], after["pid"]) == (status["release"], status["pid"]), output
    assert hot.increment() == count + 1, "the state from before the upgrade is back"


@pytest.mark.usefixtures("boot_check")
def test_a_release_that_does_not_boot(hot: Hot) -> None:
    hot.replace(
        "lib/counter/listener.ex",
        "    port = Keyword.fetch!(opts, :port)\n",
        '    port = Keyword.fetch!(opts, :port)\n    if port > 0, do: raise "no boot today"\n',
    )
    hot.world.run("settings", "set", "shop", "hot.watch=60")  # until the crash, at most
    with taken_back(hot):
        done = subprocess.run(
            [sys.executable, "-I", "-c", PATIENT, *asked(hot)], env=hot.world.env, text=True,
            stdin=subprocess.DEVNULL, capture_output=True, check=False,
        )  # fmt: skip
    output = done.stdout + done.stderr
    assert done.returncode != 0, output
    hot.world.run("settings", "set", "shop", "hot.watch=0.3")
    assert "boot_check" in hot.world.steps()
    assert "no boot today" in output


def test_the_boot_can_be_checked_before(hot: Hot) -> None:
    hot.world.run("settings", "set", "shop", "hot.boot_check=before")
    try:
        hot.replace(
            "lib/counter/listener.ex",
            "    port = Keyword.fetch!(opts, :port)\n",
            '    port = Keyword.fetch!(opts, :port)\n    if port > 0, do: raise "no boot today"\n',
        )
        with taken_back(hot):
            demand(hot)
        steps = [step["name"] for step in hot.world.last()["steps"]]
        assert steps[-1] == "boot_check"
        assert "hot_swap" not in steps
    finally:
        hot.world.run("settings", "set", "shop", "hot.boot_check=off")


def add_a_child_that_does_not_start(hot: Hot) -> None:
    hot.write(
        "lib/counter/extra.ex",
        "defmodule Counter.Extra do\n  use GenServer\n"
        "  def start_link(_), do: GenServer.start_link(__MODULE__, [])\n"
        "  def init(_), do: {:stop, :not_today}\nend\n",
    )
    hot.replace(
        "lib/counter/application.ex", "      Counter.Store,\n",
        "      Counter.Store,\n      Counter.Extra,\n",
    )  # fmt: skip


def test_a_child_that_does_not_start(hot: Hot) -> None:
    add_a_child_that_does_not_start(hot)
    with taken_back(hot):
        output = hot.push(ok=False)
    assert "not_today" in output


@pytest.mark.parametrize("point", ["begin swap_back", "end swap_back"])
def test_killed_while_it_is_taken_back(hot: Hot, point: str) -> None:
    add_a_child_that_does_not_start(hot)
    (hot.world.root / "point").write_text(point)
    with taken_back(hot, "interrupted"):
        arm(hot.world)
        hot.push(ok=False)
        hot.world.settled()
    check_whole(hot.project, {hot.world.status()["release"]}, booted=hot.chain()[0])


# as a web server catches what a request raises: no process exits, and the client sees a 500
CAUGHT = """  rescue
    error ->
      require Logger
      Logger.error("caught", crash_reason: {error, __STACKTRACE__})
      text(501, "")
"""
# a status that Counter.HTTP does not know, which crashes there, in code that did not change
UNKNOWN = '  rescue\n    _ -> text(500, "")\n'


@pytest.mark.parametrize(
    ("rescue", "said"),
    [
        (CAUGHT, "ArgumentError"),
        (UNKNOWN, "× :badkey in :erlang.map_get/2"),
    ],
    ids=["caught", "elsewhere"],
)
def test_requests_that_fail_after_it(hot: Hot, rescue: str, said: str) -> None:
    """They miss what init/1 should have made, and the path of the health check does not."""
    hot.replace(
        STORE, "  def init(count), do: {:ok, %{count: count, subscribers: %{}}}\n",
        "  def init(count) do\n    :ets.new(:counter_extra, [:named_table, :public])\n"
        "    {:ok, %{count: count, subscribers: %{}}}\n  end\n\n"
        "  def extra, do: :ets.lookup(:counter_extra, :x)\n",
    )  # fmt: skip
    hot.replace(
        "lib/counter/router.ex",
        '  defp answer("/count"), do: text(200, Integer.to_string(Counter.Store.count()))\n',
        '  defp answer("/count") do\n    Counter.Store.extra()\n'
        f"    text(200, Integer.to_string(Counter.Store.count()))\n{rescue}  end\n",
    )
    count = hot.count()
    hot.world.run("settings", "set", "shop", "hot.watch=2")
    with taken_back(hot), Client(hot.world, path="/count", pause=OFTEN):
        output = demand(hot)
    hot.world.run("settings", "set", "shop", "hot.watch=0.3")
    assert "the app logged errors" in output
    assert said in output
    assert "gatling logs shop --release" in output, "where the app's own words are"
    assert hot.count() == count + 1  # taken_back adds one


def test_a_release_that_fails_one_request_in_ten(hot: Hot) -> None:
    """Nothing crashes, the app logs nothing, and the health check passes: clients see it alone."""
    hot.replace(
        "lib/counter/router.ex",
        '  defp answer("/count"), do: text(200, Integer.to_string(Counter.Store.count()))\n',
        '  defp answer("/count") do\n'
        "    status = if :rand.uniform(10) == 1, do: 501, else: 200\n"
        "    text(status, Integer.to_string(Counter.Store.count()))\n  end\n",
    )
    hot.world.run("settings", "set", "shop", "hot.watch=4")
    with contextlib.ExitStack() as clients:
        asking = [
            clients.enter_context(Client(hot.world, path="/count", pause=OFTEN)) for _ in range(2)
        ]
        # what is known of the release before decides how soon a difference is none of chance
        until(lambda: sum(len(one.texts) for one in asking) > 200, "requests before it")
        with taken_back(hot):
            output = demand(hot)
    hot.world.run("settings", "set", "shop", "hot.watch=0.3")
    share = r"of [0-9]+ requests failed \(([0-9.]+) %\)"
    found = re.search(rf"after the switch [0-9]+ {share}, .*{share} before it", output)
    assert found, output
    assert float(found[1]) > 2 * float(found[2])


def test_a_watch_goes_on_after_the_push(hot: Hot) -> None:
    """Without clients nothing speaks against a release; they come after the push has returned."""
    status = hot.world.status()
    hot.replace(
        "lib/counter/router.ex",
        '  defp answer("/count"), do: text(200, Integer.to_string(Counter.Store.count()))\n',
        '  defp answer("/count") do\n'
        "    status = if :rand.uniform(2) == 1, do: 501, else: 200\n"
        "    text(status, Integer.to_string(Counter.Store.count()))\n  end\n",
    )
    hot.world.run("settings", "set", "shop", "hot.watch=10m")
    try:
        output = demand(hot, ok=True)
        pid = next(iter(until(hot.world.watching, "the watching process")))
        os.kill(pid, signal.SIGKILL)
        hot.world.run("up")  # begins it again
        until(lambda: hot.world.watching() - {pid}, "another one")
        count = hot.world.status()["pid"]
        with Client(hot.world, path="/count", pause=OFTEN):
            until(lambda: hot.world.status()["release"] == status["release"], "the release before")
    finally:
        hot.world.run("settings", "set", "shop", "hot.watch=0.3")
    assert "is watched for 9m" in output
    until(lambda: not hot.world.watching(), "the end of the watch")
    undone, watched = hot.world.json("deployments", "shop")[:2]
    assert (undone["cause"], undone["outcome"], undone["strategy"]) == ("watch", "succeeded", "hot")
    assert "was undone. Within " in watched["error"]
    assert (hot.world.status()["pid"], count) == (status["pid"], status["pid"])
    assert any(entry["action"] == "undo" for entry in hot.world.json("audit", "shop"))
