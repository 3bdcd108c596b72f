"""`kill -9` of the deploying process at every step: the old or the new release is fully live.

No command recovers it: that happens by itself.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT, Client, until
from tests.push.test_push import STEPS

if TYPE_CHECKING:
    from tests.conftest import Project, World

pytestmark = [pytest.mark.timeout(1800), pytest.mark.usefixtures("on_demand", "shared_builds")]

# The hook's command, with a process that ends itself by SIGKILL at one point. Nothing in Gatling
# itself knows of it.
SUICIDE = """
import os, signal, sys
from gatling.deploy import journal
from gatling.deploy.cutover import boot_check
from gatling.platform.embedded.router import EmbeddedRouter
from gatling.state import apps, deployments, moves, releases

point = open({file!r}).read()
boot_check.WAITED_SECONDS = float(os.environ.get("WAITED_SECONDS", 60))

def dying(function, where, before):
    def wrapper(*args, **kwargs):
        name = where + (str(args[-2 if where == "end " else -1]) if where[-1] == " " else "")
        if before and name == point:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **kwargs)
        if not before and name == point:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return wrapper

Journal = journal.Journal
Journal.begin = dying(Journal.begin, "begin ", before=False)
Journal.end = dying(Journal.end, "end ", before=True)
apps.make_live = dying(apps.make_live, "decided", before=False)
moves.decide = dying(moves.decide, "decided", before=False)
releases.add = dying(releases.add, "stored", before=True)
EmbeddedRouter.point = dying(EmbeddedRouter.point, "pointed", before=False)
deployments.end = dying(deployments.end, "ended", before=True)
sys.path.append({tests!r})
from tests import builds
sys.path.pop()
builds.reuse()
from gatling.__main__ import main
main()
"""
POINTS = [
    *(f"{when} {step}" for step in STEPS for when in ("begin", "end")),
    "stored", "decided", "pointed", "ended",
]  # fmt: skip
BUILDING = POINTS[: POINTS.index("end mix_release") + 1]
"""Points at which a build is killed. The others are about what comes after it."""


def arm(world: World) -> None:
    """Make the home's own command die at the point that a file names."""
    file = str(world.root / "point")
    script = world.root / "suicide.py"
    script.write_text(SUICIDE.format(file=file, tests=str(ROOT)))
    command = world.home / "bin/gatling"
    command.write_text(
        "#!/bin/sh\n"
        f"GATLING_HOME={shlex.quote(str(world.home))}; export GATLING_HOME\n"
        f'exec {sys.executable} -I {shlex.quote(str(script))} "$@"\n'
    )


def check_whole(project: Project, allowed: set[str], *, booted: str | None = None) -> None:
    """One of the allowed releases is fully live, and nothing else is left.

    `booted` is the release that its node was started as, where that is another one.
    """
    world = project.world
    status = world.status()
    assert status["release"] in allowed
    assert status["state"] == "running"
    releases = {r["release"]: r for r in world.json("releases", project.app)}
    assert releases[status["release"]]["live"]
    page = project.git("show", f"{status['commit']}:lib/counter/page.ex")
    (title,) = re.findall(r'^  def title, do: "(.*)"$', page, re.MULTILINE)
    assert f"<h1>{title}</h1>" in world.get().text

    def nodes() -> list[str]:
        return [line for line in world.processes() if "beam" in line]

    until(lambda: len(nodes()) == 1, "the end of a boot check")
    beams = nodes()
    assert beams[0].startswith(f"{status['pid']} ")
    assert f"/releases/{booted or status['release']}/" in beams[0]
    root = world.home / "apps" / project.app
    assert {p.name for p in (root / "releases").iterdir()} == {
        name for name, release in releases.items() if release["kept"]
    }
    live = f"static-{status['release']}"
    (files,) = [p.name for p in (root / "route").iterdir() if p.name.startswith("static-")]
    assert files == live or files.startswith(f"{live}-")
    route = {p.name for p in (root / "route").iterdir()}
    assert route == {str(status["slot"]), "static", files}
    assert not (root / "build/release").exists()
    assert all(d["outcome"] != "running" for d in world.json("deployments", project.app))


def test_killed_at_every_step(world: World) -> None:
    project = world.load()
    project.title("edition 0")
    project.push()
    outcomes = {}
    with Client(world) as client:
        for number, point in enumerate(POINTS, start=1):
            before = world.status()["release"]
            (world.root / "point").write_text(point)
            domain = f"edition{number}.example"
            project.write("domains", f"{domain}\n")
            if point in BUILDING:
                project.title(f"edition {number}")
            else:  # what has been built before, as a rule, and is not live
                project.title("tails" if "<h1>heads</h1>" in world.get().text else "heads")
            arm(world)
            project.push(ok=False)
            world.settled()
            newest = world.json("releases", "shop")[0]["release"]
            check_whole(project, {before, newest})
            outcomes[point] = world.last()["outcome"]
            live = world.status()["release"]
            assert (live == before) == (outcomes[point] == "interrupted"), point
            # a domain that the project names is in force with its release, or not at all
            named = domain in world.json("domains", "list", "shop")
            served = world.get(host=domain).status == 200
            assert named == served == (live != before), point
        assert client.failures == []
    decided = POINTS.index("end switch_proxy")
    for point, outcome in outcomes.items():
        late = POINTS.index(point) >= decided and point != "stored"
        assert outcome == ("succeeded" if late else "interrupted"), point
    project.title("the last one")
    project.push()
    assert "the last one" in world.get().text


def test_gatling_up_recovers_as_well(world: World) -> None:
    project = world.load()
    project.title("first")
    project.push()
    (world.root / "point").write_text("begin health_check")
    project.title("second")
    arm(world)
    project.push(ok=False)
    assert "v1 serves" in world.run("up")
    check_whole(project, {"v1"})
    restarted_by_itself(project)


def restarted_by_itself(project: Project) -> None:
    """An app that is down while its release is replaced comes up again within seconds."""
    world = project.world
    world.run("settings", "set", "shop", "deploy.strategy=restart", "instance.drain=0")
    (world.root / "point").write_text("begin health_check")
    project.title("third")
    before = world.last()["id"]
    arm(world)
    project.push(ok=False)
    assert world.get().status in (200, 502, 503)
    seconds = world.settled()
    until(lambda: world.get().status == 200, "the page")
    print(f"recovered after {seconds:.1f} s")
    # a node that boots ignores SIGTERM, and instance.stop is 30 seconds
    assert seconds < 25
    last = world.last()
    assert (last["id"], last["outcome"]) == (before + 1, "interrupted")
    assert "killed during health check. v1 is still live." in last["error"]
    check_whole(project, {"v1"})


@pytest.mark.quick("a recovery")
def test_killed_during_the_very_first_deployment(world: World) -> None:
    project = world.load()
    (world.root / "point").write_text("begin health_check")
    arm(world)
    project.push(ok=False)
    world.settled()
    assert world.status()["state"] == "empty"
    assert world.get().status == 503
    assert not [line for line in world.processes() if "beam" in line]
    project.push()
    assert world.get().status == 200


def test_a_killed_build_leaves_no_process(world: World) -> None:
    project = world.load()
    project.write("lib/slow.ex", "defmodule Slow do\n  Process.sleep(60_000)\nend\n")
    project.commit()
    push = project.start_push()
    world.at_step("mix_compile")
    os.kill(world.hook(), signal.SIGKILL)
    push.communicate(timeout=60)
    world.settled()
    assert not [line for line in world.processes() if "build.exs" in line]
    assert world.last()["outcome"] == "interrupted"
