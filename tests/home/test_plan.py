"""`gatling plan`: who may have what of it, and what it does beside other commands."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from tests.conftest import new_world, output_of
from tests.hot.conftest import APPLICATION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Project


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, Path]]:
    """An app with two releases whose start/2 leaves a trace wherever it runs; v2 is live."""
    trace = tmp_path_factory.mktemp("trace") / "ran"
    with new_world() as world:
        project = world.load()
        for number in (1, 2):
            project.replace(
                APPLICATION,
                "    children = [",
                f'    File.write!("{trace}", "{number}", [:append])\n    children = [',
            )
            project.commit()
            project.push()
        yield project, trace


def test_a_reader_gets_what_files_tell(traced: tuple[Project, Path]) -> None:
    project, trace = traced
    world = project.world
    trace.unlink()
    done = subprocess.run(
        [sys.executable, "-I", "-m", "gatling", "plan", "shop", "v1", "--strategy", "auto"],
        env=world.env | {"GATLING_ROLE": "reader"}, check=True, text=True, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert "v2 → v1: hot, rolling or restart" in done.stdout
    assert "counter  Counter.Application" in done.stdout
    assert "The running node was not queried" in done.stdout
    told = world.json("plan", "shop", "v1", "--files", "--strategy", "auto")
    assert told["strategy"] is None
    assert told["changed"] == [{"app": "counter", "module": "Counter.Application"}]
    assert world.json("plan", "shop", "v1", "--files")["strategy"] == "rolling"
    assert not trace.exists()
    loaded = "IO.puts(:code.is_loaded(:gatling_agent) != false)"
    assert world.run("run", "shop", "--", "rpc", loaded).strip() == "false"
    # the node was asked: what start/2 does besides its supervisor differs, so it is not hot
    asked = world.json("plan", "shop", "v1", "--strategy", "auto")
    assert asked["strategy"] == "rolling"
    assert "start/2" in str(asked["reasons"])
    assert trace.exists()  # others get the answers of throw-away nodes, too


def test_the_live_release_is_the_newest(traced: tuple[Project, Path]) -> None:
    said = traced[0].world.run("plan", "shop")
    assert said == "v2 is live and the newest; `gatling restart shop` starts it again.\n"


def test_one_at_a_time(traced: tuple[Project, Path]) -> None:
    world = traced[0].world
    world.run("settings", "set", "shop", "instance.stop=1")
    with (world.home / "apps/shop/lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = world.try_run("plan", "shop", "v1")
    assert refused.returncode == 5
    assert "Another command is working on shop." in refused.stdout
    world.run("settings", "unset", "shop", "instance.stop")


def test_a_command_that_is_no_deployment_is_waited_for(traced: tuple[Project, Path]) -> None:
    world = traced[0].world
    with (world.home / "apps/shop/lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        threading.Timer(0.5, fcntl.flock, (lock, fcntl.LOCK_UN)).start()
        assert "v1" in world.run("plan", "shop", "v1")


def test_not_while_a_deployment_is_in_progress(traced: tuple[Project, Path]) -> None:
    project, _ = traced
    project.title("third")
    push = project.start_push()
    project.world.at_step("start_instance")
    refused = project.world.try_run("plan", "shop", "v1")
    output_of(push)
    assert refused.returncode == 5
    number = project.world.last()["id"]
    assert f"Deployment {number} of shop is in progress (push by " in refused.stdout
