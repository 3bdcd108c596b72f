"""Notifications of an embedded home: sent at once after a deployment, and by the clock."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from typing import TYPE_CHECKING

from tests.conftest import until
from tests.operations.sinks import http_sink

if TYPE_CHECKING:
    from tests.conftest import Project


def test_a_push_that_fails_is_reported_at_once_and_a_crash_by_the_clock(shop: Project) -> None:
    world = shop.world
    with contextlib.ExitStack() as ends:
        sink = http_sink(ends.callback)
        assert "ops accepted" in _added(shop, sink.url)
        (test,) = sink.got
        assert json.loads(test.body)["type"] == "test"

        shop.write("mix.exs", "this is no Elixir (")
        shop.commit("broken")
        shop.push(ok=False)
        until(lambda: len(sink.got) == 2, "the notification", 30)
        told = json.loads(sink.got[1].body)
        assert told["type"] == "deployment.failed"
        assert told["data"]["app"] == "shop"

        os.kill(world.status()["pid"], signal.SIGKILL)
        until(lambda: len(sink.got) == 3, "the notification by the clock", 150)
        told = json.loads(sink.got[2].body)
        assert (told["type"], told["data"]["cause"]) == ("instance.ended", "killed by SIGKILL")
        world.run("notify", "remove", "ops")
        assert not (world.home / "notify").exists()
        assert not (world.home / "supervisor/apps/_clock.conf").exists()


def _added(shop: Project, url: str) -> str:
    shop.world.run("notify", "add", "ops", url)
    return shop.world.run("notify", "test", "ops")
