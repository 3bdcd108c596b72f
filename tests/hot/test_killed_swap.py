"""`kill -9` of the deploying process inside a swap whose code_change takes long.

The swap ends in the node by itself, or gives up. Records, node and next boot agree afterwards.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from typing import TYPE_CHECKING

from tests.conftest import output_of
from tests.hot.conftest import STORE
from tests.scale import scaled

if TYPE_CHECKING:
    from tests.hot.conftest import Hot

CODE_CHANGE_SECONDS = 2.0
SLOW = f"""
  def code_change(_from, count, _) do
    Process.sleep({round(CODE_CHANGE_SECONDS * 1000)})
    {{:ok, count}}
  end

  @impl true
  def init(count)"""


def test_killed_at_random_moments_inside_the_swap(hot: Hot) -> None:
    world = hot.world
    hot.replace(STORE, "  def init(count)", SLOW)
    hot.project.title("slow")
    hot.push()
    live, count, pid = world.status()["release"], hot.increment(), hot.pid()
    for number in range(scaled(3, 50)):
        hot.project.title(f"killed {number}")
        # a process is converted only when its module changes
        milliseconds = round(CODE_CHANGE_SECONDS * 1000) + number
        hot.replace(STORE, f"sleep({milliseconds})", f"sleep({milliseconds + 1})")
        hot.project.commit()
        push = hot.project.start_push()
        world.at_step("hot_swap")
        time.sleep(random.uniform(0, CODE_CHANGE_SECONDS + 0.3))
        os.kill(world.hook(), signal.SIGKILL)
        output_of(push, None)
        world.settled()  # a process that watches the deployment recovers the app
        after = world.status()
        assert after["release"] == live
        assert after["pid"] == pid, "the node goes on"
        assert (after["chain_unknown"], after["chain"][-1:]) == (None, [live])
        assert world.last()["outcome"] == "interrupted"
        title = re.search("<h1>(.*)</h1>", world.get().text)
        assert title is not None
        assert title[1] == "slow"
        assert hot.count() == count
        slot = world.home / f"apps/shop/slots/{after['slot']}/instance.json"
        assert f"v{json.loads(slot.read_text())['release']}" == live
    hot.project.title("afterwards")
    hot.push()
    assert hot.strategy() == "hot"
    assert hot.count() == count
