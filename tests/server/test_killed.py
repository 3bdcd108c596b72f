"""`kill -9` of what deploys on a server: the machine itself recovers within seconds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.conftest import NEWEST_STEP, output_of, until
from tests.server.whole import check_whole, shown

if TYPE_CHECKING:
    from tests.server.server import Checkout, Person, Server

PATIENCE_SECONDS = 300


READ = """
import json, sqlite3, sys
state = sqlite3.connect("file:/var/lib/gatling/home/state.db?mode=ro", uri=True, timeout=60)
print(json.dumps(state.execute(sys.argv[1], ("shop",)).fetchone()))
"""
AWAIT = """
import sqlite3, sys, time
end = time.monotonic() + float(sys.argv[2])
while True:
    state = sqlite3.connect("file:/var/lib/gatling/home/state.db?mode=ro", uri=True, timeout=60)
    if state.execute(sys.argv[1], ("shop",)).fetchone()[0] != "running":
        break
    state.close()
    if time.monotonic() > end:
        sys.exit("the recovery did not come about")
    time.sleep(0.1)
"""


def await_recovery(server: Server, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until the newest deployment has an outcome, without a command, which would recover it.

    One program in the box looks again and again: to start one costs more than to look.
    """
    words = ["python3", "-c", AWAIT, NEWEST_STEP, str(seconds)]
    server.box.exec(words, timeout=seconds + 60)


def recovered_after(server: Server, unit: str) -> float:
    """Kill the main process of a unit; the seconds until its deployment has an outcome."""
    server.box.exec(["systemctl", "kill", "--signal=KILL", "--kill-whom=main", unit])
    killed = time.monotonic()
    await_recovery(server)
    return time.monotonic() - killed


@pytest.mark.parametrize(
    ("strategy", "step"),
    [("restart", "start_instance"), ("rolling", "health_check")],
)
def test_a_push_that_is_killed(server: Server, shop: Checkout, strategy: str, step: str) -> None:
    old = server.status()["commit"]
    shop.write("gatling.toml", f'[deploy]\nstrategy = "{strategy}"\n[instance]\ndrain = 0\n')
    new = shop.title(f"killed {strategy}")
    with server.until_step(step):
        push = shop.start_push()
    seconds = recovered_after(server, "gatling-push-shop.*.service")
    text, _ = push.communicate(timeout=PATIENCE_SECONDS)
    assert push.returncode != 0, text
    until(lambda: shown(server), "the page", PATIENCE_SECONDS)
    served = time.monotonic()
    print(f"{strategy}: recovered {seconds:.1f} s after the kill")
    assert served
    seen = check_whole(server, shop, old=old, new=new)
    assert seen.last["outcome"] == "interrupted"
    assert "is still live" in seen.last["error"]


def test_the_timer_finds_what_nobody_watches(server: Server, ann: Person, shop: Checkout) -> None:
    """A command of an SSH session that is killed with everything around it."""
    shop.push()
    old = server.status()["commit"]
    with server.until_step("health_check"):
        begun = server.box.start_ssh("gatling", ["restart", "shop"], key=ann.key)
    server.box.exec(["systemctl", "kill", "--signal=KILL", "--kill-whom=all", "session-*.scope"])
    killed = time.monotonic()
    await_recovery(server)
    print(f"the timer: {time.monotonic() - killed:.1f} s")
    begun.communicate(timeout=60)
    assert check_whole(server, shop, old=old, new=None).status["commit"] == old


def test_a_build_goes_on_when_systemd_is_reloaded(server: Server, shop: Checkout) -> None:
    """As when another app is created, or a package is upgraded."""
    new = shop.title("reloaded")
    push = shop.start_push()
    while push.poll() is None:
        server.box.exec(["systemctl", "daemon-reload"])
        time.sleep(0.2)  # a reload takes as long, and a core
    text = output_of(push)
    assert push.returncode == 0, text
    assert server.status()["commit"] == new
