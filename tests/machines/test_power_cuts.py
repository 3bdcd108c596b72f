"""Power cuts at random moments of deployments: what was not written to the disk is lost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.conftest import until
from tests.machines.test_scenario import SECONDS
from tests.scale import scaled
from tests.server.whole import check_whole, recovered, seeded, shown

if TYPE_CHECKING:
    from tests.server.server import Checkout, Server

CUTS = scaled(2, 30)
STRATEGIES = "auto", "rolling"
pytestmark = pytest.mark.timeout(6 * 3600)


def change(project: Checkout, number: int, strategy: str) -> str:
    """A new edition, which asks for a strategy; its commit."""
    project.write("gatling.toml", f'[deploy]\nstrategy = "{strategy}"\n')
    return project.title(f"edition {number} {strategy}")


def test_one_release_serves_after_each(server: Server, shop: Checkout) -> None:
    random = seeded("moments")
    lengths = {}
    for number, strategy in enumerate(STRATEGIES):
        change(shop, -number, strategy)
        begun = time.monotonic()
        shop.push()
        lengths[strategy] = time.monotonic() - begun
    live = {"old": 0, "new": 0}
    for number in range(1, CUTS + 1):
        strategy = STRATEGIES[number % 2]
        old, new = server.status()["commit"], change(shop, number, strategy)
        push = shop.start_push()
        try:
            # after a boot the same push takes longer, and the moments after its decision count, too
            time.sleep(random.uniform(0, 1.7 * lengths[strategy]))
            status = push.poll()
            server.box.crash()
        finally:
            push.kill()
            push.communicate()
        server.box.start(SECONDS)
        until(lambda: shown(server), "the app after the boot", SECONDS)
        recovered(server)
        seen = check_whole(server, shop, old=old, new=new)
        if status == 0:
            assert seen.status["commit"] == new, "it had been said to be live"
        live["new" if seen.status["commit"] == new else "old"] += 1
        print(f"cut {number}: {live}")
    shop.push()
    assert server.status()["commit"] == shop.git("rev-parse", "HEAD")
    print(f"{live}; pushes took {lengths}")
