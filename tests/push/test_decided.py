"""What fails after the decision for a release is a warning: the release is live, and says so."""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import until

if TYPE_CHECKING:
    from tests.conftest import Project, World

pytestmark = pytest.mark.usefixtures("on_demand", "shared_builds")

# The hook's command, in which one call fails once after the decision. Such faults (a supervisor
# that does not answer for a moment, a disk that is full for a moment) cannot be had on demand.
FAULTY = """
from gatling.deploy import settle
from gatling.errors import DiskFull, SupervisorFailed
from gatling.state import apps, deployments
from gatling.beam.control import Control
from gatling.platform.embedded.router import EmbeddedRouter
from gatling.platform.embedded.instances import EmbeddedInstances

fault = {fault!r}
state = {{"decided": False, "failed": False}}

def decided(function):
    def wrapper(*args, **kwargs):
        result = function(*args, **kwargs)
        state["decided"] = True
        return result
    return wrapper

def faulty(name, function, error):
    def wrapper(*args, **kwargs):
        if name == fault and state["decided"] and not state["failed"]:
            state["failed"] = True
            raise error
        return function(*args, **kwargs)
    return wrapper

apps.make_live = decided(apps.make_live)
Instances = EmbeddedInstances
Instances.stop = faulty("stop", Instances.stop, SupervisorFailed("supervisord was away."))
Instances.prepare = faulty("prepare", Instances.prepare, OSError(28, "No space left"))
Control.keep = faulty("keep", Control.keep, ValueError("not what was expected"))
deployments.end_step = faulty("end_step", deployments.end_step, DiskFull("The state is full."))
deployments.end = faulty("end", deployments.end, DiskFull("The state is full."))
settle._summary = faulty("summary", settle._summary, KeyError("a mistake in Gatling"))
from gatling.__main__ import main
main()
"""


def break_once(world: World, fault: str) -> None:
    """Let the home's own command fail once; the next command puts the command right again."""
    script = world.root / "faulty.py"
    script.write_text(FAULTY.format(fault=fault))
    (world.home / "bin/gatling").write_text(
        "#!/bin/sh\n"
        f"GATLING_HOME={shlex.quote(str(world.home))}; export GATLING_HOME\n"
        f'exec {sys.executable} -I {shlex.quote(str(script))} "$@"\n'
    )


@pytest.mark.parametrize(
    ("strategy", "fault", "text"),
    [
        ("rolling", "stop", "supervisord was away."),
        ("rolling", "end_step", "The state is full."),
        ("rolling", "summary", "a mistake in Gatling"),
        ("restart", "end_step", "The state is full."),
        ("auto", "prepare", "No space left"),
        ("auto", "keep", "not what was expected"),
        ("auto", "end", None),
    ],
)
def test_a_failure_after_the_decision_is_a_warning(
    shop: Project, strategy: str, fault: str, text: str | None
) -> None:
    world = shop.world
    world.run("settings", "set", "shop", f"deploy.strategy={strategy}")
    before = world.status()["release"]
    shop.title(f"edition {strategy} {fault}")
    break_once(world, fault)
    said = shop.push()
    assert "live, but: " in said
    world.settled()  # also where the record itself could not be written
    status, last = world.status(), world.last()
    assert status["release"] != before
    assert f"edition {strategy} {fault}" in world.get().text
    assert (last["outcome"], last["release"]) == ("succeeded", status["release"])
    if text:
        assert last["error"].startswith(f"{status['release']} is live, but: ")
        assert text in last["error"]
    else:
        assert last["error"] is None or "killed" in last["error"]
    listed = {r["release"]: r for r in world.json("releases", "shop")}
    assert listed[status["release"]]["live"]
    assert listed[status["release"]]["kept"]
    # nothing is left of what the failed step should have ended, and the next start is right
    until(lambda: len(world.beams()) == 1, "the end of a node that checked the boot")
    slot = world.home / f"apps/shop/slots/{status['slot']}/instance.json"
    until(lambda: f"v{json.loads(slot.read_text())['release']}" == status["release"], "the record")
    assert shop.git("ls-remote", "gatling", "main").split()[0] == status["commit"]


def test_a_release_with_a_warning_is_one_to_roll_back_to(shop: Project) -> None:
    world = shop.world
    world.run("settings", "set", "shop", "deploy.strategy=rolling")
    live = world.status()["release"]
    shop.title("broken after all")
    shop.push()
    world.run("config", "set", "shop", "LOST=1", "--no-restart")
    said = world.run("rollback", "shop")
    assert live in said
    assert "stored for the next deployment are dropped (LOST)" in said
    assert "LOST" not in world.json("config", "list", "shop")
    assert world.status()["release"] == live
