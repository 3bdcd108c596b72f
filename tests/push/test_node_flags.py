"""An env.sh that sets flags of its own: the node can be talked to, or it is said why not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest

from tests.conftest import new_world

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Project

BY_FLY = 'export ERL_AFLAGS="-proto_dist inet6_tcp"\n'
"""As `fly launch` writes it."""
NO_DISTRIBUTION = "export RELEASE_DISTRIBUTION=none\n"
WHY = "distribution is off: rel/env.sh.eex sets RELEASE_DISTRIBUTION=none."


@pytest.fixture(scope="module")
def shop() -> Iterator[Project]:
    with new_world() as world:
        project = world.load("shop", "auto")
        project.write("rel/env.sh.eex", BY_FLY)
        project.commit("from elsewhere")
        yield project


def test_flags_of_its_own_take_nothing_away(shop: Project) -> None:
    world = shop.world
    assert "are not possible" not in shop.push()
    connections = psutil.Process(world.status()["pid"]).net_connections(kind="tcp")
    listening = {c.laddr.port: c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}
    assert listening.pop(world.status()["port"]) in ("0.0.0.0", "::")  # noqa: S104
    assert list(listening.values()) == ["127.0.0.1"]
    assert not [line for line in world.processes() if "/epmd" in line]
    shop.title("Upgraded")
    assert " is live (hot upgrade) in " in shop.push()


def test_distribution_that_is_turned_off_is_said_with_the_line(shop: Project) -> None:
    shop.write("rel/env.sh.eex", NO_DISTRIBUTION)
    shop.title("Alone")
    assert f" are not possible: {WHY}" in shop.push()
    shop.title("Alone again")
    assert f"Rolling deployment: {WHY}" in shop.push()
    assert "Alone again" in shop.world.get().text
