"""What fails, fails the push with the reason; what was live serves on, untouched."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from gatling import files
from tests.conftest import Client, interrupt, new_world, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Project, World

pytestmark = pytest.mark.usefixtures("on_demand", "shared_builds")

BALLAST = """
for n <- Stream.iterate(1, &(&1 + 1)) do
  File.write!("ballast-#{n}", :binary.copy(<<n>>, 1_048_576))
end
"""
DEFAULTS = ("health.timeout=60", "health.path=/", "instance.drain=10")
"""Of settings that tests change."""
SLOW = "defmodule Slow do\n  Process.sleep(60_000)\nend\n"


@pytest.fixture(scope="module")
def pushed() -> Iterator[Project]:
    """An app that the tests of this module fail to change."""
    with new_world() as world:
        yield load(world)


@pytest.fixture
def live(pushed: Project) -> Iterator[Project]:
    """With the example's own code in its work tree again, and settings, whatever is live."""
    restore(pushed)
    yield pushed
    (pushed.world.home / "nginx/conf.d/own.conf").unlink(missing_ok=True)


def load(world: World) -> Project:
    project = world.load()
    world.run("settings", "set", "shop", "releases.keep=50")
    project.push()
    return project


def restore(project: Project) -> None:
    first = project.git("rev-list", "--max-parents=0", "HEAD")
    project.git("rm", "-r", "--quiet", "--force", ".")
    project.git("checkout", "--quiet", first, "--", ".")
    project.world.run("settings", "set", project.app, *DEFAULTS)


@contextlib.contextmanager
def untouched(
    project: Project, outcome: str = "failed", *, step_recorded: bool = True
) -> Iterator[None]:
    """The live instance goes on, without a failed request, and nothing else is left."""
    world = project.world
    before = world.status()
    with Client(world) as client:
        yield
    after = world.status()
    same = ("release", "slot", "pid", "state")
    assert [after[key] for key in same] == [before[key] for key in same]
    assert client.failures == []
    deployment = world.last()
    assert deployment["outcome"] == outcome
    assert deployment["error"]
    assert not step_recorded or deployment["steps"][-1]["outcome"] == outcome
    beams = [line for line in world.processes() if "beam" in line]
    assert len(beams) == 1, beams
    trees = {p.name for p in (world.home / "apps" / project.app / "releases").iterdir()}
    assert trees == {r["release"] for r in world.json("releases", project.app) if r["kept"]}
    assert not (world.home / "apps" / project.app / "build/release").exists()


def test_does_not_compile(live: Project) -> None:
    live.write("lib/bad.ex", "defmodule Bad do\n  def f, do: missing()\nend\n")
    live.commit()
    with untouched(live):
        output = live.push(ok=False)
    assert "lib/bad.ex:2" in output
    assert "mix compile failed" in output
    (live.directory / "lib/bad.ex").unlink()
    live.title("mended")
    live.push()
    assert "mended" in live.world.get().text


def test_no_mix_exs(live: Project) -> None:
    live.git("rm", "--quiet", "mix.exs")
    live.commit()
    with untouched(live):
        output = live.push(ok=False)
    assert "no mix.exs" in output
    assert "`gatling settings set shop build.directory=DIR` sets its directory." in output


def test_first_push_that_fails_leaves_an_empty_app(pushed: Project) -> None:
    world = pushed.world
    project = world.load("blank")
    project.write("mix.exs", "raise ~s(mix.exs itself fails)")
    project.commit()
    assert "mix.exs itself fails" in project.push(ok=False)
    assert world.status("blank")["state"] == "empty"
    assert world.get(host="blank.localhost").status == 503
    world.run("unload", "blank", "--confirm", "blank")


def test_release_tool_fails(live: Project) -> None:
    live.replace(
        "mix.exs",
        "version:",
        "releases: [counter: [steps: [:assemble, fn _ -> raise ~s(no tool today) end]]], version:",
    )
    live.commit()
    with untouched(live):
        output = live.push(ok=False)
    assert "no tool today" in output
    assert "mix release failed" in output


def test_exits_at_boot(live: Project) -> None:
    live.replace(
        "lib/counter/application.ex", "children = [", 'raise "not today"\n    children = ['
    )
    live.commit()
    with untouched(live):
        output = live.push(ok=False)
    assert "exited at boot" in output
    assert "not today" in output  # what the instance itself printed


def test_missing_variable_at_boot_names_it(live: Project) -> None:
    live.write(
        "config/runtime.exs",
        'import Config\nconfig :counter, port: 0, url: System.fetch_env!("SHOP_URL")\n',
    )
    live.commit()
    with untouched(live):
        output = live.push(ok=False)
    assert "SHOP_URL" in output
    assert "gatling config set" in output


def test_never_healthy(live: Project) -> None:
    live.world.run("settings", "set", "shop", "health.timeout=2")
    live.write("config/runtime.exs", "import Config\nconfig :counter, port: 0\n")
    live.commit()
    with untouched(live):
        output = live.push(ok=False)
    assert "did not become healthy within 2 s" in output
    assert "nothing listens on port" in output
    assert "PORT" in output


def test_answers_with_errors_only(live: Project) -> None:
    live.world.run("settings", "set", "shop", "health.timeout=20", "health.path=/health")
    live.replace(
        "lib/counter/router.ex",
        'answer("/health"), do: text(200',
        'answer("/health"), do: text(501',
    )
    live.commit()
    with untouched(live):
        output = live.push(ok=False)
    assert "GET /health: it answered 501" in output


def test_port_taken_by_a_stranger(live: Project) -> None:
    slot = live.world.status()["slot"]
    port = live.world.status()["ports"][2 - slot]
    live.title("change")
    with socket.create_server(("127.0.0.1", port)), untouched(live):
        output = live.push(ok=False)
    assert f"Port {port}" in output
    assert f"(pid {os.getpid()})" in output
    live.push()
    assert live.world.status()["slot"] == 3 - slot


def test_nginx_refuses_its_configuration(live: Project) -> None:
    (live.world.home / "nginx/conf.d/own.conf").write_text("no_such_directive on;\n")
    live.title("change")
    with untouched(live):
        output = live.push(ok=False)
    assert "nginx refuses the configuration" in output
    assert "no_such_directive" in output


def test_a_domain_that_nginx_refuses_is_put_back(live: Project) -> None:
    world = live.world
    before = (world.home / "nginx/nginx.conf").read_text()
    (world.home / "nginx/conf.d/own.conf").write_text("no_such_directive on;\n")
    output = world.run("domains", "add", "shop", "shop.example.com", ok=False)
    assert "no_such_directive" in output
    assert world.json("domains", "list", "shop") == ["shop.localhost"]
    assert (world.home / "nginx/nginx.conf").read_text() == before
    assert world.get().status == 200


def test_interrupted_by_ctrl_c_while_building(live: Project) -> None:
    live.write("lib/slow.ex", SLOW)
    live.commit()
    with untouched(live, "cancelled"):
        push = live.start_push()
        live.world.at_step("mix_compile")
        interrupt(push)
        push.communicate(timeout=120)
        assert push.returncode != 0
        until(lambda: live.world.last()["outcome"] != "running", "the end of the deployment")
    (live.directory / "lib/slow.ex").unlink()
    live.title("afterwards")
    live.push()
    assert "afterwards" in live.world.get().text


def test_interrupted_while_the_new_instance_boots(live: Project) -> None:
    live.replace(
        "lib/counter/application.ex", "children = [", "Process.sleep(60_000)\n    children = ["
    )
    live.commit()
    with untouched(live, "cancelled"):
        push = live.start_push()
        live.world.at_step("health_check")
        interrupt(push)
        push.communicate(timeout=120)
        until(lambda: live.world.last()["outcome"] != "running", "the end of the deployment")


def test_lost_connection_while_building(live: Project) -> None:
    live.write("lib/slow.ex", SLOW)
    live.commit()
    with untouched(live, "cancelled"):
        push = live.start_push()
        live.world.at_step("mix_compile")
        push.kill()  # the client alone: the hook has to notice
        push.communicate(timeout=120)
        until(lambda: live.world.last()["outcome"] != "running", "the end of the deployment")
    assert "pusher disconnected" in live.world.last()["error"]


def test_interrupted_after_the_decision_goes_on(live: Project) -> None:
    world = live.world
    world.run("settings", "set", "shop", "instance.drain=60")
    # an open stream makes the old instance drain
    with socket.create_connection(("127.0.0.1", world.port), timeout=60) as stream:
        stream.sendall(b"GET /events HTTP/1.1\r\nHost: shop.localhost\r\n\r\n")
        assert stream.recv(100).startswith(b"HTTP/1.1 200")
        live.title("decided")
        push = live.start_push()
        world.at_step("drain")
        interrupt(push)
        push.communicate(timeout=120)
    until(lambda: world.last()["outcome"] != "running", "the end of the deployment")
    assert world.last()["outcome"] == "succeeded"
    assert "decided" in world.get().text
    assert world.status()["release"] == world.json("releases", "shop")[0]["release"]
    until(lambda: len([each for each in world.processes() if "beam" in each]) == 1, "one instance")
    # git may have died before it moved the branch; either way the same push again has nothing to do
    output = live.push()
    assert "is already live" in output or "Everything up-to-date" in output


@pytest.fixture(scope="module")
def on_small_disk() -> Iterator[Project]:
    """An app of a home on a disk of its own, which a test can fill."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    with new_world() as world, small_disk(world):
        yield load(world)


@pytest.fixture
def crowded(on_small_disk: Project) -> Iterator[Project]:
    """With room again on the disk, and the example's own code in its work tree."""
    restore(on_small_disk)
    yield on_small_disk
    (on_small_disk.world.home / "filler").unlink(missing_ok=True)
    shutil.rmtree(on_small_disk.world.home / "crowd", ignore_errors=True)


@contextlib.contextmanager
def small_disk(world: World) -> Iterator[None]:
    """Mount a small disk in the place of a home."""
    world.home.mkdir()
    # more than the reserve that a build needs to begin
    options = "size=384m,nr_inodes=20000,mode=0700"
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "gatling-test", str(world.home)], check=True
    )
    try:
        yield
    finally:
        world.run("down")
        subprocess.run(["umount", "--lazy", str(world.home)], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Fill the disk up to `leave` bytes."""
    stat = os.statvfs(disk)
    filler = disk / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, stat.f_bavail * stat.f_frsize - leave)
    return filler


def test_disk_full_while_building(crowded: Project) -> None:
    filler = fill(crowded.world.home, files.RESERVE_BYTES + (4 << 20))
    crowded.write("lib/ballast.ex", BALLAST)
    crowded.title("too much")
    # mix may be quicker to fill the disk than the state to record that its step has begun
    with untouched(crowded, step_recorded=False):
        output = crowded.push(ok=False)
    assert "no space is left on the disk" in output
    (crowded.directory / "lib/ballast.ex").unlink()
    crowded.commit()
    filler.unlink()
    crowded.push()
    assert "too much" in crowded.world.get().text


def test_no_build_begins_on_a_disk_that_is_almost_full(crowded: Project) -> None:
    filler = fill(crowded.world.home, files.RESERVE_BYTES - (4 << 20))
    crowded.title("too late")
    before = crowded.world.last()
    assert "256 MB stay reserved" in crowded.push(ok=False)
    assert crowded.world.last() == before, "no deployment has begun"
    filler.unlink()
    crowded.push()
    assert "too late" in crowded.world.get().text


def test_disk_full_while_storing(crowded: Project) -> None:
    # a change of config stores a tree of links: no blocks, but directories, which need inodes
    disk = crowded.world.home
    inodes = os.statvfs(disk).f_favail
    crowd = disk / "crowd"
    crowd.mkdir()
    for n in range(inodes - 20):
        os.mknod(crowd / str(n))
    with untouched(crowded):
        output = crowded.world.run("config", "set", "shop", "GREETING=hi", ok=False)
    assert "no space is left on the disk" in output.lower()
    assert "GREETING" not in crowded.world.json("config", "list", "shop")
    for file in crowd.iterdir():
        file.unlink()
    crowded.world.run("config", "set", "shop", "GREETING=hi")
