"""Further processes: they run beside the app, follow its releases, and take nothing else down."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from gatling.errors import Exit
from tests.conftest import kill_and_wait, new_world, until
from tests.home.workers import MANIFEST, WORKER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Project, World


def prepared(world: World, strategy: str = "rolling") -> Project:
    """An app with two processes, not yet pushed."""
    project = world.load(strategy=strategy)
    project.write("lib/counter/worker.ex", WORKER)
    project.write("gatling.toml", MANIFEST)
    project.commit("processes")
    return project


@pytest.fixture(scope="module")
def shop() -> Iterator[Project]:
    with new_world() as world:
        project = prepared(world)
        project.push()
        yield project


@pytest.fixture
def world(shop: Project) -> World:
    """With the processes of the live release, as many as its gatling.toml says."""
    shop.world.run("scale", "shop", "worker=1", "patient=1")
    until(lambda: all_run(shop.world), "both processes")
    return shop.world


def processes(world: World) -> dict[str, Any]:
    return {p["process"]: p for p in world.status()["processes"]}


def all_run(world: World, *names: str) -> bool:
    found = processes(world)
    return set(found) == set(names or ("worker.1", "patient.1")) and all(
        p["state"] == "running" for p in found.values()
    )


def said(world: World, process: str, text: str) -> bool:
    return text in world.run("logs", "shop", "-n", "200", "--process", process)


def test_they_run_beside_the_app_and_print_to_its_log(world: World) -> None:
    found, release = processes(world), world.status()["release"]
    assert {p["release"] for p in found.values()} == {release}
    pids = [p["pid"] for p in found.values()]
    assert sorted(world.beams()) == sorted([*pids, world.status()["pid"]])
    assert world.get().status == 200
    own = f" {release}[worker.1] worker.1 does "
    until(lambda: said(world, "worker.1", own), "the worker's line")
    assert own in world.run("logs", "shop", "-n", "200")
    assert " does " not in world.run("logs", "shop", "-n", "200", "--process", "web")
    assert own in world.run("logs", "shop", "-n", "200", "--process", "worker")
    shown = world.run("status", "shop")
    assert f"worker.1         running, {release}, pid" in shown


def test_each_deployment_replaces_them_when_it_is_live(world: World, shop: Project) -> None:
    before = processes(world)
    shop.replace("gatling.toml", "sorting", "counting")
    shop.commit()
    output = shop.push()
    after, release = processes(world), world.status()["release"]
    assert "processes" in [step["name"] for step in world.last()["steps"]]
    assert {p["release"] for p in after.values()} == {release}
    assert not any(psutil.pid_exists(p["pid"]) for p in before.values())
    until(lambda: said(world, "worker.1", "worker.1 does counting"), "the new worker's line")
    assert "keeps exiting" not in output
    # it was given the time to end what it was at
    until(lambda: said(world, "patient", "finished"), "the old one's last words")
    world.run("rollback", "shop")
    assert {p["release"] for p in processes(world).values()} == {world.status()["release"]}


def test_how_many_there_are_and_how_long_they_have_to_end() -> None:
    with new_world() as world:
        project = prepared(world)
        project.replace("lib/counter/worker.ex", "Process.sleep(500)", "Process.sleep(60_000)")
        project.replace("gatling.toml", "stop = 10", "stop = 5\ninstances = 2")
        project.commit()
        project.push()
        names = ("worker.1", "patient.1", "patient.2")
        until(lambda: all_run(world, *names), "all three")
        until(lambda: said(world, "patient.2", "patient one is there"), "the last one's line")
        before = processes(world)
        # those of the next release end at once, and so does the test
        project.replace("lib/counter/worker.ex", "Process.sleep(60_000)", "Process.sleep(1)")
        project.title("again")
        project.push()
        step = next(s for s in world.last()["steps"] if s["name"] == "processes")
        assert 4.9 < step["seconds"] < 50
        assert not any(psutil.pid_exists(p["pid"]) for p in before.values())
        assert said(world, "patient", "finishing")
        assert not said(world, "patient", "finished")


def test_one_that_takes_its_time_holds_no_other_up() -> None:
    with new_world() as world, ThreadPoolExecutor() as pool:
        project = prepared(world)
        project.replace("lib/counter/worker.ex", "Process.sleep(500)", "Process.sleep(60_000)")
        project.replace("gatling.toml", "stop = 10", "stop = 60")
        project.commit()
        project.push()
        until(lambda: all_run(world), "both processes")
        until(lambda: said(world, "patient.1", "patient one is there"), "its line")
        slow = processes(world)["patient.1"]["pid"]
        # that of the next release ends at once, and so does the test
        project.replace("lib/counter/worker.ex", "Process.sleep(60_000)", "Process.sleep(1)")
        project.title("again")
        pushing = pool.submit(project.push)
        until(lambda: processes(world)["worker.1"]["release"] == "v2", "the new worker")
        assert psutil.pid_exists(slow), "the other one has not ended"
        os.kill(slow, signal.SIGKILL)
        pushing.result()
        until(lambda: all_run(world), "both processes")
        assert {p["release"] for p in processes(world).values()} == {"v2"}


def test_a_deployment_that_fails_leaves_them_alone(world: World, shop: Project) -> None:
    before = processes(world)
    shop.write("config/runtime.exs", 'raise "not today"\n')
    shop.commit("breaks at boot")
    shop.push(ok=False)
    shop.git("reset", "--quiet", "--hard", "HEAD~1")
    after = processes(world)
    assert {n: p["pid"] for n, p in after.items()} == {n: p["pid"] for n, p in before.items()}


def test_one_that_fails_takes_nothing_down_and_is_told(world: World, shop: Project) -> None:
    # without a BEAM: it has to fail while it is looked at
    bad = '[processes.bad]\ncommand = "fail"\n'
    program = shop.directory / "rel/overlays/bin/fail"
    shop.write(str(program.relative_to(shop.directory)), "#!/bin/sh\necho no such queue\nexit 1\n")
    program.chmod(0o755)
    shop.write("gatling.toml", MANIFEST + bad)
    shop.commit("a process that fails")
    output = shop.push()
    assert "bad.1 keeps exiting" in output
    assert world.last()["outcome"] == "succeeded"
    assert world.get().status == 200
    until(lambda: processes(world)["worker.1"]["state"] == "running", "the worker")
    assert said(world, "bad", "no such queue")
    shop.write("gatling.toml", MANIFEST)
    shop.commit("and goes")
    shop.push()
    assert set(processes(world)) == {"worker.1", "patient.1"}
    assert "bad" not in (world.home / "supervisor/apps/shop.conf").read_text()


def test_they_are_scaled(world: World, shop: Project) -> None:
    before = processes(world)["worker.1"]["pid"]
    shown = world.run("scale", "shop", "worker=3", "patient=0")
    assert ["worker", "3"] in [line.split()[:2] for line in shown.splitlines()]
    until(lambda: all_run(world, "worker.1", "worker.2", "worker.3"), "three workers")
    assert processes(world)["worker.1"]["pid"] == before, "what runs goes on"
    shop.title("scaled")
    shop.push()
    assert set(processes(world)) == {"worker.1", "worker.2", "worker.3"}, "the host's word stays"
    named = {p["process"]: p["instances"] for p in world.json("scale", "shop")}
    assert named == {"worker": 3, "patient": 0}
    world.run("scale", "shop", "worker=1")
    assert set(processes(world)) == {"worker.1"}


@pytest.mark.parametrize(
    ("word", "told"),
    [("nobody=1", "has no worker 'nobody'"), ("worker=31", "at most 30"),
     ("worker=many", "is not PROCESS=NUMBER"),
     ("web=2", "web is the app itself, of which one instance runs. It has: ")],
)  # fmt: skip
def test_what_cannot_be_scaled_is_refused(world: World, word: str, told: str) -> None:
    done = world.try_run("scale", "shop", word)
    assert (done.returncode, told in done.stdout) == (Exit.INVALID, True), done.stdout
    assert all_run(world)


def test_one_is_restarted_alone(world: World) -> None:
    before = processes(world)
    world.run("restart", "shop", "--process", "worker")
    after = processes(world)
    assert after["worker.1"]["pid"] != before["worker.1"]["pid"]
    assert after["patient.1"]["pid"] == before["patient.1"]["pid"]
    world.run("restart", "shop", "--process", "nobody", ok=False)
    pids = {p["pid"] for p in processes(world).values()}
    world.run("restart", "shop")
    assert not pids & {p["pid"] for p in processes(world).values()}


def test_a_new_value_of_config_reaches_them(world: World) -> None:
    before = processes(world)
    world.run("config", "set", "shop", "QUEUE=high")
    after = processes(world)
    environment = Path(f"/proc/{after['worker.1']['pid']}/environ").read_bytes()
    assert b"QUEUE=high" in environment.split(b"\0")
    assert not psutil.pid_exists(before["worker.1"]["pid"])


def test_a_killed_one_is_started_again(world: World) -> None:
    before = processes(world)["worker.1"]["pid"]
    os.kill(before, signal.SIGKILL)

    def again() -> bool:
        found = processes(world)["worker.1"]
        return found["state"] == "running" and found["pid"] not in (None, before)

    until(again, "another one")


def test_stopped_with_the_app_and_started_with_it(world: World) -> None:
    world.run("stop", "shop")
    assert world.beams() == []
    world.run("start", "shop")
    until(lambda: all_run(world), "both processes")
    world.run("down")
    assert world.beams() == []
    world.run("up")
    until(lambda: all_run(world), "both processes, after a reboot")
    kill_and_wait(world.supervisord())
    until(lambda: not alive_supervisor(world), "supervisord's end")
    world.run("up")
    until(lambda: all_run(world), "both processes, and no second ones")
    assert len(world.beams()) == 3


def alive_supervisor(world: World) -> bool:
    return any("supervisord -c" in line for line in world.processes())


def test_a_killed_deployment_leaves_those_of_what_is_live(world: World, shop: Project) -> None:
    shop.title("killed")
    push = shop.start_push()
    world.at_step("processes")
    os.kill(world.hook(), signal.SIGKILL)
    push.communicate()
    world.settled()
    release = world.status()["release"]
    until(lambda: all_run(world), "both processes")
    assert {p["release"] for p in processes(world).values()} == {release}


def test_files_that_are_being_written_are_no_processes(world: World) -> None:
    slots = world.home / "apps/shop/slots"
    left = [slots / ".schedule.json.4242.new", slots / ".worker.1.new", slots / "limits.json"]
    for file in left:
        file.touch()
    try:
        assert set(processes(world)) == {"worker.1", "patient.1"}
    finally:
        for file in left:
            file.unlink()


def test_what_supervisord_was_not_told_of_is_told_later(world: World) -> None:
    """A command that is killed has written its configuration, and no more."""
    conf = world.home / "supervisor/apps/shop.conf"
    one = conf.read_text().split("[program:")[-1]
    assert one.startswith("shop.worker.1]")
    (world.home / "apps/shop/slots/worker.2").mkdir()
    conf.write_text(conf.read_text() + "[program:" + one.replace("worker.1", "worker.2"))
    world.run("scale", "shop", "worker=2")
    until(lambda: all_run(world, "worker.1", "worker.2", "patient.1"), "the second worker")


def test_a_neighbour_by_name_is_in_nobodys_way(world: World) -> None:
    world.run(
        "settings", "set", "shop", "processes.other2.command=start", "processes.other2.instances=0"
    )
    world.run("settings", "set", "shop", "processes.other.instances=2", ok=False)
    world.run("settings", "unset", "shop", "processes.other2.command", "processes.other2.instances")


def test_an_app_is_unloaded_with_them() -> None:
    with new_world() as world:
        prepared(world, "auto").push()
        until(lambda: all_run(world), "both processes")
        # and a hot upgrade replaces them, too
        project = world.project()
        web = world.status()["pid"]
        project.write("lib/counter/worker.ex", WORKER)
        project.write("gatling.toml", MANIFEST.replace("sorting", "packing"))
        project.title("hot")
        project.push("+main")
        assert world.last()["strategy"] == "hot", world.last()["reasons"]
        assert world.status()["pid"] == web
        until(lambda: said(world, "worker", "worker.1 does packing"), "the new worker's line")
        world.run("unload", "shop", "--confirm", "shop")
        assert world.beams() == []
        assert not (world.home / "apps/shop").exists()
