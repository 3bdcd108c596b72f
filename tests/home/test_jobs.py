"""Jobs on the embedded home: by the clock and by hand, their limits, and what ends them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gatling.deploy import deployment_log
from gatling.errors import Exit
from tests.conftest import Project, World, interrupt, kill_and_wait, new_world, output_of, until

if TYPE_CHECKING:
    from collections.abc import Iterator

NEVER = "0 0 29 2 *"
STOP_CLOCK = """\
import sys
from pathlib import Path
from gatling.platform.embedded.supervisord import Supervisord
from gatling.platform.homes import open_home
Supervisord(open_home(Path(sys.argv[1]))).stop("clock", 15)
"""
SLEEPS = "eval 'IO.puts(:up); Process.sleep(100000)'"


@pytest.fixture
def world(shop: Project) -> World:
    return shop.world


def job(
    world: World, name: str, command: str, cron: str = NEVER, app: str = "shop", **more: Any
) -> None:
    values = {"cron": cron, "command": command, **more}
    pairs = [f"schedule.{name}.{key}={value}" for key, value in values.items()]
    assert "applied" in world.run("settings", "set", app, *pairs)


def runs(world: World, name: str, app: str = "shop") -> list[Any]:
    found: list[Any] = world.json("jobs", "runs", app, name)
    return found


def outcomes(world: World, name: str, app: str = "shop") -> list[str]:
    """The oldest first."""
    with contextlib.suppress(Exception):  # there is none yet
        return [run["outcome"] for run in reversed(runs(world, name, app))]
    return []


def log(world: World, name: str, app: str = "shop") -> str:
    return world.run("logs", app, "--job", name, "-n", "1000")


def begun(world: World, name: str, app: str = "shop", count: int = 1) -> None:
    until(lambda: world.home.joinpath(f"apps/{app}/logs/job-{name}.log").exists()
          and log(world, name, app).count(" up\n") >= count, "a run")  # fmt: skip


@contextlib.contextmanager
def running(world: World, name: str, app: str = "shop") -> Iterator[subprocess.Popen[str]]:
    """A run by hand that goes on."""
    process = world.start("jobs", "run", app, name)
    begun(world, name, app)
    try:
        yield process
    finally:
        if process.poll() is None:
            interrupt(process)
        process.communicate(timeout=60)


def one_offs(world: World) -> list[str]:
    return [line for line in world.processes() if "/bin/beam" in line and "sleep(1000" in line]


def test_by_hand(world: World) -> None:
    release = world.status()["release"]
    job(world, "hello", """eval 'IO.puts("I am " <> System.fetch_env!("GATLING_PROCESS"))'""")
    said = world.run("jobs", "run", "shop", "hello")
    assert said == "I am hello\n"
    lines = log(world, "hello").splitlines()
    assert [line.split(" ", 2)[1] for line in lines] == [release] * 3
    begins, text, ends = [line.split(" ", 2)[2] for line in lines]
    assert (begins.endswith("begins (by hand)"), text) == (True, "I am hello")
    assert " succeeded after " in ends
    (run,) = runs(world, "hello")
    assert (run["outcome"], run["cause"], run["release"]) == ("succeeded", "by hand", release)
    assert run["actor"]
    assert run["seconds"] > 0
    (listed,) = [j for j in world.json("jobs", "list", "shop") if j["job"] == "hello"]
    assert (listed["cron"], listed["last"]["id"]) == (NEVER, run["id"])
    assert "-02-29 00:00" in world.run("jobs", "list", "shop")
    assert "hello" in world.run("jobs", "runs", "shop")
    assert world.json("audit", "shop")[0]["action"] == "jobs run"


def test_it_can_reach_the_node(world: World) -> None:
    job(world, "ask", "rpc 'IO.puts(node())'")
    assert world.run("jobs", "run", "shop", "ask") == "counter@127.0.0.1\n"


def test_one_that_fails(world: World) -> None:
    job(world, "bad", "eval 'IO.puts(:before); System.halt(3)'")
    done = world.try_run("jobs", "run", "shop", "bad")
    assert done.returncode == Exit.FAILURE
    assert "failed. counter exited with status 3." in done.stdout
    assert (runs(world, "bad")[0]["error"]) == "counter exited with status 3."
    assert " failed after " in log(world, "bad")
    job(world, "nothing", "no-such-program")
    assert world.try_run("jobs", "run", "shop", "nothing").returncode == Exit.FAILURE


def test_a_time_limit(world: World) -> None:
    job(world, "slow", SLEEPS, timeout="3")
    done = world.try_run("jobs", "run", "shop", "slow")
    assert done.returncode == Exit.FAILURE
    assert "timed out. counter did not end within 3 seconds" in done.stdout
    assert outcomes(world, "slow") == ["timed out"]
    assert one_offs(world) == []


def test_what_it_leaves_is_ended(world: World) -> None:
    job(world, "leaves", """eval ':os.cmd(~c"setsid sleep 1000.25 >/dev/null 2>&1 &")'""")
    world.run("jobs", "run", "shop", "leaves")
    found = [p for p in Path("/proc").glob("[0-9]*/cmdline") if b"1000.25" in _read(p)]
    assert found == []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_overlap_skip(world: World) -> None:
    job(world, "alone", SLEEPS)
    with running(world, "alone"):
        done = world.try_run("jobs", "run", "shop", "alone")
        assert done.returncode == Exit.INVALID
        assert "skipped. The previous run has not ended." in done.stdout
        assert outcomes(world, "alone") == ["running", "skipped"]
    assert outcomes(world, "alone") == ["cancelled", "skipped"]


def test_overlap_wait(world: World) -> None:
    job(world, "patient", SLEEPS, overlap="wait")
    with running(world, "patient") as first:
        second = world.start("jobs", "run", "shop", "patient")
        queue = world.home / "apps/shop/jobs/patient.next"
        until(lambda: queue.exists() and queue.read_text(), "who waits")
        third = world.try_run("jobs", "run", "shop", "patient")
        assert "skipped" in third.stdout
        interrupt(first)
        begun(world, "patient", count=2)
        fourth = world.start("jobs", "run", "shop", "patient")  # there is room to wait again
        until(lambda: queue.read_text() == str(fourth.pid), "who waits")
        interrupt(fourth)
        assert "was cancelled before it began" in output_of(fourth, Exit.INTERRUPTED)
        interrupt(second)
        assert "waiting for the current run" in output_of(second, Exit.INTERRUPTED)
    assert outcomes(world, "patient") == ["cancelled", "skipped", "cancelled"]


def test_overlap_allow(world: World) -> None:
    job(world, "many", SLEEPS, overlap="allow")
    with running(world, "many"):
        second = world.start("jobs", "run", "shop", "many")
        begun(world, "many", count=2)
        assert outcomes(world, "many") == ["running", "running"]
        said = world.run("jobs", "cancel", "shop", "many")
        assert "has ended" in said
        assert "cancelled" in output_of(second, Exit.INTERRUPTED)
    assert outcomes(world, "many") == ["cancelled", "cancelled"]
    assert one_offs(world) == []
    assert world.try_run("jobs", "cancel", "shop", "many").returncode == Exit.NOT_FOUND


def test_a_run_whose_process_is_killed(world: World) -> None:
    job(world, "killed", SLEEPS)
    with running(world, "killed") as process:
        process.kill()
        process.wait()
        assert outcomes(world, "killed") == ["interrupted"]
        assert one_offs(world) == []
    assert list((world.home / "apps/shop/jobs").glob("*.run")) == []


def test_what_there_is_not(world: World) -> None:
    for words in (("run", "shop", "none"), ("runs", "shop", "none"), ("cancel", "shop", "none"),
                  ("run", "shop", "../x"), ("run", "none", "x")):  # fmt: skip
        assert world.try_run("jobs", *words).returncode == Exit.NOT_FOUND, words
    for name in ("none", "../instances", "x/../../y"):
        assert world.try_run("logs", "shop", "--job", name).returncode == Exit.NOT_FOUND
    world.run("job", "shop.none")  # a timer may come a moment too late
    world.run("job", "gone.none")
    world.run("job", "../x", ok=True)


def test_what_the_host_cannot_set(world: World) -> None:
    for pairs in (["schedule.a.cron=* * * * *"],
                  ["schedule.a.cron=61 * * * *", "schedule.a.command=x"],
                  ["schedule.A.cron=* * * * *", "schedule.A.command=x"],
                  ["schedule.web.cron=* * * * *", "schedule.web.command=x"],
                  ["schedule.a/b.cron=* * * * *", "schedule.a/b.command=x"]):  # fmt: skip
        assert world.try_run("settings", "set", "shop", *pairs).returncode == Exit.INVALID, pairs


def test_what_a_project_cannot_say(shop: Project, world: World) -> None:
    before = world.json("jobs", "list", "shop")
    for text in ('[schedule."../x"]\ncron = "* * * * *"\ncommand = "x"',
                 '[schedule.x]\ncron = "* * * * *\\n[Service]"\ncommand = "x"',
                 '[schedule.x]\ncron = "0 0 30 2 *"\ncommand = "x"',
                 '[schedule.x]\ncron = "* * * * *"'):  # fmt: skip
        shop.write("gatling.toml", text + "\n")
        shop.commit()
        assert "gatling.toml" in shop.push(ok=False)
    assert world.json("jobs", "list", "shop") == before
    (shop.directory / "gatling.toml").unlink()
    shop.commit()


def test_deployments_leave_a_run_alone(shop: Project, world: World) -> None:
    job(world, "long", SLEEPS)
    world.run("settings", "set", "shop", "releases.keep=1")
    release = world.status()["release"]
    tree = world.home / "apps/shop/releases" / release
    with running(world, "long"):
        for title in ("One", "Two"):
            shop.title(title)
            shop.push()
        assert world.status()["release"] != release
        assert tree.exists()  # though one only is kept
        shop.replace("lib/counter/page.ex", "def title", "def title(")
        shop.commit()
        shop.push(ok=False)
        assert outcomes(world, "long") == ["running"]
        assert len(one_offs(world)) == 1
    shop.replace("lib/counter/page.ex", "def title(", "def title")
    shop.title("Three")
    shop.push()
    assert not tree.exists()
    assert runs(world, "long")[0]["release"] == release
    world.run("settings", "unset", "shop", "releases.keep")


def test_a_stopped_app(world: World) -> None:
    job(world, "paused", SLEEPS)
    schedule = world.home / "apps/shop/schedule.json"
    assert json.loads(schedule.read_text())["paused"] == NEVER
    with running(world, "paused"):
        world.run("stop", "shop")
        assert not schedule.exists()
        assert clocks(world) == []
        assert outcomes(world, "paused") == ["running"]  # as one-off commands do
        assert {j["next"] for j in world.json("jobs", "list", "shop")} == {None}
        assert world.try_run("jobs", "run", "shop", "paused").returncode == Exit.INVALID
        world.run("job", "shop.paused")
        assert outcomes(world, "paused") == ["running"]
        world.run("start", "shop")
        assert schedule.exists()
        until(lambda: clocks(world), "the clock")


def clocks(world: World) -> list[int]:
    return [int(line.split()[0]) for line in world.processes() if "embedded.clock" in line]


def test_down_and_up(world: World) -> None:
    job(world, "ends", SLEEPS)
    process = world.start("jobs", "run", "shop", "ends")
    begun(world, "ends")
    by_command = world.start("run", "shop", "--", "eval", "IO.puts(:a); Process.sleep(100001)")
    until(lambda: len(one_offs(world)) == 2, "both")
    world.run("down")
    assert world.processes() == []
    output_of(process, Exit.INTERRUPTED)
    output_of(by_command, None)
    assert outcomes(world, "ends") == ["cancelled"]
    world.run("up")
    until(lambda: clocks(world), "the clock")


def test_the_clock_is_ended_with_a_supervisord_that_is_killed(world: World) -> None:
    job(world, "any", SLEEPS)
    (before,) = until(lambda: clocks(world), "the clock")
    kill_and_wait(world.supervisord())
    until(lambda: not clocks(world), "its end")
    world.run("up")
    (after,) = until(lambda: clocks(world), "the clock")
    assert after != before
    os.kill(after, signal.SIGKILL)
    until(lambda: clocks(world) not in ([], [after]), "another one")


def test_a_clock_that_was_ended_is_started_again(world: World) -> None:
    """As by a `gatling down` that was broken off."""
    job(world, "later", SLEEPS, cron="0 3 * * *")
    until(lambda: clocks(world), "the clock")
    (before,) = clocks(world)
    subprocess.run([sys.executable, "-c", STOP_CLOCK, str(world.home)], env=world.env, check=True)
    assert clocks(world) == []
    world.run("up")
    until(lambda: clocks(world) not in ([], [before]), "another clock")


def test_it_runs_by_the_clock(world: World) -> None:
    job(world, "minutely", "eval 'IO.puts(:ticks)'", cron="* * * * *")
    until(lambda: "succeeded" in outcomes(world, "minutely"), "a run", 300)
    run = runs(world, "minutely")[-1]  # another minute may have begun
    assert (run["cause"], run["actor"]) == ("schedule", None)
    assert float(run["started_at"][17:-1]) < 40, "not at the beginning of the minute"
    assert " ticks\n" in log(world, "minutely")
    world.run("settings", "unset", "shop", "schedule.minutely.cron", "schedule.minutely.command")
    assert "minutely" not in {j["job"] for j in world.json("jobs", "list", "shop")}
    assert runs(world, "minutely")  # its history is there still
    assert " ticks\n" in log(world, "minutely")


def test_a_project_brings_its_jobs(shop: Project, world: World) -> None:
    before = {j["job"] for j in world.json("jobs", "list", "shop")}
    shop.write("gatling.toml", f'[schedule.own]\ncron = "{NEVER}"\ncommand = "eval 1"\n')
    shop.commit()
    shop.push()
    file = world.home / "apps/shop/schedule.json"
    assert json.loads(file.read_text())["own"] == NEVER
    world.run("rollback", "shop")
    assert {j["job"] for j in world.json("jobs", "list", "shop")} == before
    assert "own" not in json.loads(file.read_text())


def test_what_no_kept_release_has_any_more_is_forgotten() -> None:
    with new_world() as world:
        project = world.load()
        world.run("settings", "set", "shop", "releases.keep=1")
        logs = world.home / "apps/shop/logs"
        for number in range(1, deployment_log.KEPT + 5):  # as if there had been so many deployments
            (logs / f"deployment-{number + 1000}.log").write_text("built\n")
        two = [f'[schedule.{name}]\ncron = "{NEVER}"\ncommand = "eval 1"\n' for name in "ab"]
        project.write("gatling.toml", "".join(two))
        project.commit()
        project.push()
        for name in "ab":
            world.run("jobs", "run", "shop", name)
        project.write("gatling.toml", two[0])
        project.commit()
        project.push()
        assert log(world, "b"), "as long as one can go back to it"
        project.title("once more")
        project.push()
        assert outcomes(world, "a") == ["succeeded"]
        assert log(world, "a")
        world.run("jobs", "runs", "shop", "b", ok=False)
        assert not list(world.home.glob("apps/shop/*/*b.l*")), "neither log nor lock"
        kept = sorted(int(file.stem.partition("-")[2]) for file in logs.glob("deployment-*.log"))
        assert kept == list(range(1005, 1005 + deployment_log.KEPT)), "the newest by number"
        assert "Its output is no longer retained." in world.run("deployments", "shop", "1")


def test_an_app_that_is_removed(world: World) -> None:
    project = world.load("gone")
    project.push()
    job(world, "last", SLEEPS, app="gone", overlap="wait")
    process = world.start("jobs", "run", "gone", "last")
    begun(world, "last", "gone")
    second = world.start("jobs", "run", "gone", "last")
    queue = world.home / "apps/gone/jobs/last.next"
    until(lambda: queue.exists() and queue.read_text(), "who waits")
    world.run("unload", "gone", "--confirm", "gone")
    output_of(process, Exit.INTERRUPTED)
    output_of(second, Exit.INTERRUPTED)
    assert not (world.home / "apps/gone").exists()
    assert [line for line in world.processes() if "/gone/" in line] == []
