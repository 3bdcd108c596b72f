"""The boot check of a hot upgrade goes on after the push has returned.

The app's second instance waits for a file, which says whether it boots. Until the new release has
been seen to boot, any start of the app starts the release before.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.conftest import Client, until
from tests.hot.conftest import STORE, Stream
from tests.hot.test_undone import demand
from tests.push.test_recovery import arm, check_whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.hot.conftest import Hot

INIT = "  def init(count), do: {:ok, %{count: count, subscribers: %{}}}\n"
WAITS = """  def init(count) do
    if System.get_env("GATLING_BOOT_CHECK") do
      wait(40)
      if File.read!("FILE") == "no", do: raise "no boot today"
    end

    {:ok, %{count: count, subscribers: %{}}}
  end

  defp wait(pause) do
    if not File.exists?("FILE") do
      Process.sleep(pause)
      wait(pause)
    end
  end
"""


@pytest.fixture(scope="module", autouse=True)
def boots_quickly(on_demand: None) -> None:
    """Each test boots two instances, and is about what surrounds these boots."""


class Slow:
    """A release whose boot check waits until a test says whether it boots."""

    def __init__(self, hot: Hot, answer: Path) -> None:
        self.hot, self.world, self._answer = hot, hot.world, answer
        self.before, self.count = hot.world.status(), hot.count()

    def change(self, title: str) -> None:
        self.hot.project.title(title)
        if "wait(40)" not in (self.hot.project.directory / STORE).read_text():
            self.hot.replace(STORE, INIT, WAITS.replace("FILE", str(self._answer)))

    def push(self, title: str = "slow") -> str:
        """Upgrade the node; the push returns before the second instance has booted."""
        self.change(title)
        output = demand(self.hot, ok=True)
        assert "continues in the background. If v" in output
        assert self.step() == "running"
        return output

    def boots(self, answer: str) -> None:
        self._answer.write_text(answer)

    def prepared(self) -> str:
        """The release that the next start of the live instance starts."""
        number = self.world.status()["slot"]
        slot = self.world.home / f"apps/shop/slots/{number}/instance.json"
        return f"v{json.loads(slot.read_text())['release']}"

    def last(self) -> str:
        """The release that is known to boot."""
        return str(self.before["release"])

    def step(self, number: int = 0) -> str:
        """The outcome of the boot check of the newest deployment, or of an earlier one."""
        steps = self.world.json("deployments", "shop")[number]["steps"]
        return str(next(step["outcome"] for step in steps if step["name"] == "boot_check"))

    def live(self) -> str:
        return str(self.world.status()["release"])

    def returned(self) -> None:
        """Wait until the release of before is live again."""
        until(lambda: self.live() == self.last(), "the release before")

    def alone(self) -> None:
        """Nothing watches, and the live instance is the only one."""
        until(lambda: not self.world.watching(), "the end of the boot check")
        status = self.world.status()
        check_whole(self.hot.project, {status["release"]}, booted=self.hot.chain()[0])


@pytest.fixture
def slow(hot: Hot, tmp_path: Path) -> Iterator[Slow]:
    hot.world.run("settings", "unset", "shop", "hot.boot_check")
    made = Slow(hot, tmp_path / "answer")
    yield made
    made.boots("yes")
    until(lambda: not hot.world.watching(), "the end of the boot check")
    hot.world.run("settings", "set", "shop", "hot.boot_check=off")


def test_it_boots(slow: Slow) -> None:
    with Stream(slow.world) as stream, Client(slow.world) as client:
        slow.push()
        new = slow.live()
        assert (new != slow.last(), slow.prepared()) == (True, slow.last())
        slow.boots("yes")
        until(lambda: not slow.world.watching(), "the end of the boot check")
        assert slow.hot.increment() == slow.count + 1
        stream.expect(b"data: %d" % (slow.count + 1))
    assert client.failures == []
    assert (slow.live(), slow.prepared(), slow.step()) == (new, new, "succeeded")
    assert any(one["action"] == "boot check" for one in slow.world.json("audit", "shop"))
    slow.alone()


def test_it_does_not_boot(slow: Slow) -> None:
    # init/1 differs, so the way back is rolling (test_undone.py has one in memory)
    with Client(slow.world) as client:
        slow.push()
        slow.boots("no")
        slow.returned()
    assert client.failures == []
    slow.alone()
    assert slow.prepared() == slow.last()
    undo, undone = slow.world.json("deployments", "shop")[:2]
    assert (undo["cause"], undo["outcome"]) == ("watch", "succeeded")
    assert "was undone. It does not boot" in undone["error"]
    assert "no boot today" in undone["error"]


def test_it_goes_on_when_the_checking_process_was_killed(slow: Slow) -> None:
    slow.push()
    new = slow.live()
    (pid,) = until(slow.world.watching, "the checking process")
    os.kill(pid, signal.SIGKILL)
    slow.world.run("up")
    until(lambda: slow.world.watching() - {pid}, "another one")
    assert (slow.live(), slow.step()) == (new, "running")
    slow.boots("yes")
    until(lambda: slow.prepared() == new, "the end of the check")
    slow.alone()


@pytest.mark.parametrize("point", ["decided", "ended"])
def test_gatling_is_killed_before_the_push_has_returned(slow: Slow, point: str) -> None:
    slow.change(point)
    commit = slow.hot.project.commit()
    slow.hot.project.push("--force", "HEAD:refs/heads/demanded")
    (slow.world.root / "point").write_text(point)
    arm(slow.world)
    subprocess.run(
        [slow.world.home / "bin/gatling", "deploy", "shop", commit, "--strategy", "hot"],
        check=False, env=slow.world.env | {"WAITED_SECONDS": "0"},
    )  # fmt: skip
    slow.world.settled()
    until(slow.world.watching, "the checking process")
    assert slow.live() != slow.last()
    assert slow.prepared() == slow.last()
    slow.boots("no")
    slow.returned()
    slow.alone()


def test_a_node_that_is_killed_starts_as_the_release_before(slow: Slow) -> None:
    slow.push()
    os.kill(slow.world.status()["pid"], signal.SIGKILL)
    slow.returned()
    until(lambda: slow.world.get("/health").status == 200, "the app")
    slow.alone()
    assert slow.step() == "interrupted"
    error = slow.world.last()["error"]
    assert error.endswith(
        f"was undone: its instance ended before its boot check did. {slow.last()} runs."
    )


def test_so_does_an_app_that_is_stopped_and_started(slow: Slow) -> None:
    slow.push()
    slow.world.run("stop", "shop")
    slow.world.run("start", "shop")
    assert slow.live() == slow.last()
    slow.alone()


def test_a_second_push_meanwhile(slow: Slow) -> None:
    slow.push()
    slow.push("slower")
    new = slow.live()
    assert slow.prepared() == slow.last(), "neither has been seen to boot"
    assert slow.step(1) == "cancelled"
    slow.boots("no")
    slow.returned()
    assert new != slow.last()
    slow.alone()


def test_a_rolling_push_meanwhile(slow: Slow) -> None:
    """The new instance needs the slot. Where it does not become healthy, the check begins again."""
    slow.push()
    new = slow.live()
    slow.world.run("settings", "set", "shop", "health.timeout=0.1")
    assert "did not become healthy within 0.1 s" in slow.world.run("restart", "shop", ok=False)
    slow.world.run("settings", "unset", "shop", "health.timeout")
    assert (slow.live(), slow.prepared()) == (new, slow.last())
    slow.boots("yes")
    until(lambda: slow.prepared() == new, "the end of the check")
    slow.alone()


def test_a_rollback_meanwhile_waits_for_nothing(slow: Slow) -> None:
    slow.push()
    started = time.monotonic()
    output = slow.world.run("rollback", "shop")
    print(f"rolled back in {time.monotonic() - started:.1f} s")
    assert "continues in the background" not in output
    assert (slow.live(), slow.prepared(), slow.step(1)) == (slow.last(), slow.last(), "cancelled")
    slow.alone()
