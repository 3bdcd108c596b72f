"""No request fails while code is switched that loses a function which live pages call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.hot.test_calls import FMT, ROUTER
from tests.scale import scaled
from tests.window import PAUSE_MS, Load, proxies

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hot.conftest import Hot

pytestmark = pytest.mark.timeout(3600)

SWAPS = scaled(2, 100)
RATE = scaled(40, 100)
"""Requests a second, through each of the two proxies."""
# a page that lasts a few milliseconds, some of which it waits
PAGE = """
defmodule Counter.Slow do
  def page do
    Counter.Store.count()
    Process.sleep(:rand.uniform(16))
    Enum.each(1..20_000, fn n -> n end)
    Counter.Fmt.{name}(3)
  end
end
"""


def page(hot: Hot, name: str) -> None:
    hot.write("lib/counter/fmt.ex", FMT.format(name=name))
    hot.write("lib/counter/slow.ex", PAGE.format(name=name))


def test_no_request_is_lost(hot: Hot, tmp_path: Path) -> None:
    hot.replace(ROUTER, '    "/count" =>', '    "/slow" => ["GET"],\n    "/count" =>')
    hot.replace(
        ROUTER, '  defp answer("/events")',
        '  defp answer("/slow"), do: text(200, Counter.Slow.page())\n  defp answer("/events")',
    )  # fmt: skip
    for name in ("price", "cost"):
        page(hot, name)
        hot.push()
    # on a busy machine, requests take much longer than on an idle one
    hot.world.run("settings", "set", "shop", "hot.suspend=60")
    releases = [hot.world.last()["previous"], hot.world.status()["release"]]
    status = hot.world.status()
    front, kept = hot.world.port, hot.world.port - 1
    pauses = []
    with (
        proxies(tmp_path, status["port"], kept, hot.world.port - 2),
        Load(front, "/slow", RATE) as one,
        Load(kept, "/slow", RATE) as two,
    ):
        for number in range(SWAPS):
            hot.world.run("deploy", "shop", releases[number % 2])
            assert hot.strategy() == "hot", hot.reasons()
            pauses.append(hot.world.last()["probe"]["paused_ms"])
            for load in (one, two):
                load.see(f"{('price', 'cost')[number % 2]} 3")
    hot.world.run("settings", "unset", "shop", "hot.suspend")
    for load in (one, two):
        assert load.failures == []
        assert load.texts == {"price 3", "cost 3"}
    assert all(0 < pause < PAUSE_MS for pause in pauses)
    assert hot.pid() == status["pid"]
