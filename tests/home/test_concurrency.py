"""Several commands and pushes at the same time: one after another for an app, and none is lost."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gatling.errors import Exit
from tests.conftest import Client, Project, output_of, until
from tests.home import echo
from tests.home.processes import kill, tree

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from tests.conftest import World

SLOW = """\
defmodule Slow do
  wait = fn wait -> unless File.exists?("%s"), do: Process.sleep(20) && wait.(wait) end
  wait.(wait)
end
"""


@pytest.fixture
def world(shop: Project) -> World:
    return shop.world


@contextlib.contextmanager
def builds_wait(*projects: Project) -> Iterator[Path]:
    """The next builds of these projects wait for a file, which there is at the end."""
    gate = Path(tempfile.mkdtemp(dir=projects[0].world.root)) / "open"
    for project in projects:
        project.write("lib/slow.ex", SLOW % gate)
        project.commit("slow")
    try:
        yield gate
    finally:
        gate.touch()


def clone(project: Project) -> Project:
    """Somebody else's clone of what has been pushed."""
    directory = Path(tempfile.mkdtemp(prefix="clone-", dir=project.world.root))
    url = project.git("remote", "get-url", "gatling")
    project.git("clone", "--quiet", "--origin", "gatling", url, str(directory))
    return Project(project.world, project.app, directory)


def says(process: subprocess.Popen[str]) -> str:
    """The next line that a command prints, while it goes on."""
    assert process.stdout is not None
    return process.stdout.readline()


def period(deployment: Any) -> tuple[datetime, datetime]:
    begin = datetime.fromisoformat(deployment["started_at"])
    return begin, begin + timedelta(seconds=deployment["seconds"])


def test_a_second_push_waits_and_is_refused_when_the_branch_has_moved(shop: Project) -> None:
    world, other = shop.world, clone(shop)
    other.title("by somebody else")
    with builds_wait(shop) as gate:
        first = shop.start_push()
        world.at_step("mix_compile")
        number, head = world.last()["id"], shop.git("rev-parse", "HEAD")
        second = other.start_push()
        waiting = f"shop: waiting for deployment {number} (push of {head[:9]} by "
        line = says(second)
        assert waiting in line
        assert ", now at mix compile)" in line
        # also when it only goes on from where the first one is: git has sent it for the old head
        third = clone(shop)
        third.git("pull", "--quiet", "--ff-only", str(shop.directory), "main")
        third.title("on top of the first")
        descendant = third.start_push()
        assert waiting in says(descendant)
        gate.touch()
        output_of(first)
    for push in (second, descendant):
        output = output_of(push, 1)
        assert f"main has moved to {head[:9]} by another push" in output
        assert "Fetch, merge or rebase, and push again." in output
    assert world.status()["commit"] == head
    assert shop.git("ls-remote", "gatling", "refs/heads/main").split()[0] == head
    # sent again, it is welcome
    third.push()
    assert "on top of the first" in world.get().text
    assert "fetch first" in other.push(ok=False)
    shop.git("pull", "--quiet", "--ff-only", "gatling", "main")


def test_restart_and_config_wait_for_a_push(shop: Project) -> None:
    world, before = shop.world, shop.world.status()
    with builds_wait(shop) as gate, Client(world) as client:
        push = shop.start_push()
        world.at_step("mix_compile")
        number = world.last()["id"]
        restart = world.start("restart", "shop")
        assert f"shop: waiting for deployment {number} (push of " in says(restart)
        config = world.start("config", "set", "shop", "GREETING=hello meanwhile")
        assert f"shop: waiting for deployment {number} (push of " in says(config)
        assert world.status()["pid"] == before["pid"]
        gate.touch()
        output_of(push)
        output_of(restart)
        output_of(config)
    assert client.failures == []
    deployments = [d for d in world.json("deployments", "shop") if d["id"] >= number]
    causes = {d["cause"]: d for d in deployments}
    assert causes.keys() == {"push", "restart", "config set GREETING"}
    assert all(d["outcome"] == "succeeded" for d in deployments)
    periods = sorted(period(d) for d in deployments)
    for (_, end), (begin, _) in itertools.pairwise(periods):
        assert end <= begin + timedelta(milliseconds=50), "one after another"
    assert world.status()["commit"] == shop.git("rev-parse", "HEAD")
    assert "hello meanwhile" in world.get().text
    assert world.beams() == [world.status()["pid"]]


def test_two_apps_are_deployed_at_the_same_time(shop: Project) -> None:
    world = shop.world
    other = echo.load(world)
    with builds_wait(shop, other) as gate:
        pushes = [shop.start_push(), other.start_push()]
        world.at_step("mix_compile")
        world.at_step("mix_compile", "echo")
        gate.touch()
        for push in pushes:
            output_of(push)
    (a, b), (c, d) = period(world.last()), period(world.last("echo"))
    assert max(a, c) < min(b, d)
    assert world.status()["commit"] == shop.git("rev-parse", "HEAD")
    assert world.get().status == 200
    assert world.get(host="echo.localhost").status == 200
    world.run("unload", "echo", "--confirm", "echo")


def test_no_variable_is_lost(world: World) -> None:
    numbers = range(8)
    sets = [world.start("config", "set", "shop", f"N{n}={n}", "--no-restart") for n in numbers]
    for command in sets:
        output_of(command)
    values = world.json("config", "list", "shop")
    assert {n: values.get(f"N{n}") for n in numbers} == {n: str(n) for n in numbers}
    # some change what runs, some only what is stored
    sets = [
        world.start("config", "set", "shop", f"M{n}={n}", *(["--no-restart"] if n % 2 else []))
        for n in range(4)
    ]
    for command in sets:
        output_of(command)
    values = world.json("config", "list", "shop")
    assert {n: values.get(f"M{n}") for n in range(4)} == {n: str(n) for n in range(4)}


def test_apps_loaded_at_the_same_time(world: World) -> None:
    names = [f"app{n}" for n in range(5)]
    loads = [world.start("load", name) for name in names]
    outputs = [output_of(load, None) for load in loads]
    listed = [app["app"] for app in world.json("apps")]
    taken = [port for name in listed for port in world.status(name)["ports"]]
    answers = {name: world.get(host=f"{name}.localhost").status for name in names}
    for name in set(names) & set(listed):
        world.run("unload", name, "--confirm", name)
    assert [load.returncode for load in loads] == [0] * 5, outputs
    assert len(set(taken)) == len(taken) == 2 * len(listed)
    assert answers == dict.fromkeys(names, 503)
    assert world.get().status == 200


def test_unload_waits_for_a_push(world: World) -> None:
    project = echo.load(world, "passing")
    with builds_wait(project) as gate:
        push = project.start_push()
        world.at_step("mix_compile", "passing")
        unload = world.start("unload", "passing", "--confirm", "passing")
        assert says(unload) == "passing: waiting for the deployment in progress\n"
        late = project.start_push("HEAD:refs/heads/main", options=("--force",))
        assert "waiting for deployment" in says(late)
        gate.touch()
        assert "passing v1 is live (first start)" in output_of(push, None)
        assert "passing was removed." in output_of(unload)
        output_of(late, 1)
    assert not [line for line in world.processes() if "passing" in line]
    assert world.try_run("status", "passing").returncode == Exit.NOT_FOUND
    assert not (world.home / "apps/passing").exists()
    assert not (world.home / "apps/passing.git").exists()
    assert world.get().status == 200


@pytest.mark.parametrize("after", ["down", "power cut"])
def test_several_ups_at_the_same_time(world: World, after: str) -> None:
    if after == "down":
        world.run("down")
    else:
        kill(tree(world))
    ups = [world.start("up") for _ in range(3)]
    outputs = [output_of(up, None) for up in ups]
    try:
        assert [up.returncode for up in ups] == [0, 0, 0], outputs
        assert world.get().status == 200
        assert world.beams() == [world.status()["pid"]]
        for one in ("nginx: master", "supervisord -c"):
            assert len([line for line in world.processes() if one in line]) == 1
    finally:
        world.run("up")


def test_the_first_pushes_of_a_home_at_the_same_time(world: World) -> None:
    projects = [echo.load(world, name) for name in ("one", "two")]
    try:
        world.run("down")
        pushes = [project.start_push() for project in projects]
        outputs = [output_of(push, None) for push in pushes]
        assert [push.returncode for push in pushes] == [0, 0], outputs
        for name in ("one", "two"):
            assert world.get(host=f"{name}.localhost").status == 200
        until(lambda: world.get().status == 200, "the app that was live before")
        assert len(world.beams()) == 3
    finally:
        world.run("up")
        for name in ("one", "two"):
            world.run("unload", name, "--confirm", name)
