"""The rehearsal: an upgrade is made first on a copy, and what fails there never meets the node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import Client, until
from tests.hot.conftest import STORE, Stream
from tests.push.test_recovery import arm, check_whole

if TYPE_CHECKING:
    from tests.hot.conftest import Hot

LAST_LINES = "    {:noreply, %{state | subscribers: Map.delete(state.subscribers, ref)}}\n  end\n"
RAISES = LAST_LINES + '\n  @impl true\n  def code_change(_, _, _), do: raise "cannot convert"\n'


@pytest.fixture(scope="module", autouse=True)
def boots_quickly(on_demand: None) -> None:
    """Each test boots a copy, and is about what surrounds that."""


def instances(hot: Hot) -> int:
    return len([line for line in hot.world.processes() if "beam" in line])


@pytest.mark.usefixtures("boot_check")
def test_a_good_upgrade_is_rehearsed_and_made(hot: Hot) -> None:
    before, count = hot.world.status(), hot.count()
    hot.world.run("settings", "set", "shop", "hot.rehearse=true")
    try:
        with Stream(hot.world) as stream, Client(hot.world) as client:
            hot.project.title("rehearsed")
            hot.push()
            assert hot.increment() == count + 1
            stream.expect(b"data: %d" % (count + 1))
        assert client.failures == []
        assert hot.strategy() == "hot"
        assert "rehearsed" in hot.world.get().text
        assert hot.world.status()["pid"] == before["pid"]
        steps = [step["name"] for step in hot.world.last()["steps"]]
        assert steps[-5:] == ["plan", "rehearsal", "hot_swap", "watch", "boot_check"]
        until(lambda: instances(hot) == 1, "the end of the boot check")
    finally:
        hot.world.run("settings", "unset", "shop", "hot.rehearse")
    hot.world.run("rollback", "shop", "--rehearse")
    assert hot.strategy() == "hot"
    assert "rehearsal" in [step["name"] for step in hot.world.last()["steps"]]
    assert hot.world.status()["pid"] == before["pid"]


def test_what_fails_in_the_rehearsal_never_meets_the_live_node(hot: Hot) -> None:
    hot.world.run("settings", "set", "shop", "hot.rehearse=true")
    try:
        hot.replace(STORE, LAST_LINES, RAISES)
        output = hot.push()
    finally:
        hot.world.run("settings", "unset", "shop", "hot.rehearse")
    assert hot.strategy() == "rolling"
    assert "rehearsal: code_change" in hot.reasons()
    assert "cannot convert" in hot.reasons()
    assert "Counter.Store" in output
    steps = [step["name"] for step in hot.world.last()["steps"]]
    assert "hot_swap" not in steps
    assert instances(hot) == 1


def test_hot_or_nothing_with_a_failing_rehearsal(hot: Hot) -> None:
    hot.replace(STORE, LAST_LINES, RAISES)
    hot.world.run("settings", "set", "shop", "deploy.strategy=rolling")
    try:
        hot.push()
    finally:
        hot.world.run("settings", "unset", "shop", "deploy.strategy")
    release = hot.world.last()["release"]
    hot.world.run("rollback", "shop", "--strategy", "rolling")
    before, count = hot.world.status(), hot.increment()
    done = hot.world.try_run("deploy", "shop", release, "--strategy", "hot", "--rehearse")
    assert done.returncode != 0
    assert "A hot upgrade is not possible: rehearsal: code_change" in done.stdout
    after = hot.world.status()
    assert (after["pid"], after["release"]) == (before["pid"], before["release"])
    assert hot.increment() == count + 1
    assert instances(hot) == 1


def test_killed_while_rehearsing(hot: Hot) -> None:
    world = hot.world
    world.run("settings", "set", "shop", "hot.rehearse=true")
    before, count = world.status(), hot.count()
    (world.root / "point").write_text("begin rehearsal")
    try:
        hot.project.title("killed")
        arm(world)
        hot.project.push(ok=False)
        world.settled()
    finally:
        world.run("settings", "unset", "shop", "hot.rehearse")
    after = world.status()
    assert (after["pid"], after["release"]) == (before["pid"], before["release"])
    check_whole(hot.project, {after["release"]}, booted=hot.chain()[0])
    assert hot.increment() == count + 1
