"""The table that keeps the ports of apps to themselves, in the kernel of a network of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gatling.platform.server import firewall
from gatling.platform.server.firewall import Owned

if TYPE_CHECKING:
    from collections.abc import Mapping

SHOP, BLOG, NGINX, STRANGER = 4001, 4002, 4003, 4004
PORT, OTHERS, EPMD = 20001, 20002, firewall.EPMD
TRIES = Path(__file__).with_name("tries.py")
TABLE = firewall.table([Owned(SHOP, (PORT, 20003)), Owned(BLOG, (OTHERS,))], callers=[0, NGINX])


def in_a_network_of_its_own(table: str, attempts: list[Mapping[str, object]]) -> list[str]:
    """What became of connections, with this table in force."""
    if os.geteuid() != 0 or shutil.which("nft") is None:
        pytest.skip("a table needs root, and the package nftables")
    script = 'ip link set lo up && nft -f - && exec "$@"'
    done = subprocess.run(
        ["unshare", "--net", "sh", "-ec", script, "-", sys.executable, "-I", str(TRIES),
         json.dumps(attempts)],
        input=table, text=True, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    return found


def attempt(listener: int, client: int, port: int = PORT, **more: object) -> Mapping[str, object]:
    return {"listener": listener, "client": client, "port": port} | more


def test_who_reaches_an_app() -> None:
    allowed = [attempt(SHOP, client) for client in (0, NGINX, SHOP)]
    allowed += [attempt(SHOP, NGINX, address="::1"), attempt(BLOG, BLOG, OTHERS),
                attempt(STRANGER, STRANGER, 8080)]  # fmt: skip
    refused = [attempt(SHOP, client, address=address)
               for client in (BLOG, STRANGER) for address in ("127.0.0.1", "::1")]  # fmt: skip
    found = in_a_network_of_its_own(TABLE, allowed + refused)
    assert found == ["answered"] * len(allowed) + ["refused"] * len(refused)


def test_a_neighbour_on_an_apps_port_is_given_nobody() -> None:
    """Also one that has the kernel answer with cookies, by a queue that is full."""
    found = in_a_network_of_its_own(
        TABLE,
        [attempt(BLOG, NGINX), attempt(STRANGER, 0, backlog=1, clients=4),
         attempt(BLOG, STRANGER, EPMD), attempt(STRANGER, STRANGER, EPMD)],
    )  # fmt: skip
    assert found == ["unanswered", "unanswered", "unanswered", "answered"]


def test_a_host_without_apps_and_one_that_is_done_again() -> None:
    empty = firewall.table([], callers=[0])
    found = in_a_network_of_its_own(TABLE + empty, [attempt(SHOP, STRANGER)])
    assert found == ["answered"]
    assert firewall.table([Owned(SHOP, (PORT, 20003)), Owned(BLOG, (OTHERS,))], [NGINX, 0]) == TABLE
