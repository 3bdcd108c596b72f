"""`kill -9` of the deploying process in the midst of a hot upgrade: one release, whole, remains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import Client
from tests.hot.conftest import Stream
from tests.push.test_recovery import arm, check_whole

if TYPE_CHECKING:
    from tests.hot.conftest import Hot

POINTS = [
    "begin plan", "end plan", "begin hot_swap", "end hot_swap", "begin watch", "end watch",
    "begin boot_check", "end boot_check", "decided", "ended",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def boots_quickly(on_demand: None) -> None:
    """Most boots are those of boot checks and of recoveries."""


@pytest.mark.usefixtures("boot_check")
@pytest.mark.parametrize("point", POINTS)
def test_killed(hot: Hot, point: str) -> None:
    world = hot.world
    before, count = world.status(), hot.count()
    (world.root / "point").write_text(point)
    with Stream(world) as stream, Client(world) as client:
        hot.project.title(f"killed at {point}")
        arm(world)
        hot.project.push(ok=False)
        world.settled()
        after = world.status()
        late = point in ("decided", "ended")
        assert (after["release"] == before["release"]) == (not late)
        assert after["pid"] == before["pid"], "the node goes on, also when it is swapped back"
        check_whole(hot.project, {after["release"]}, booted=hot.chain()[0])
        assert hot.increment() == count + 1
        stream.expect(b"data: %d" % (count + 1))
    assert client.failures == []
    assert world.last()["outcome"] == ("succeeded" if late else "interrupted")
