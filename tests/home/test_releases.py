"""Going back, going forth and starting anew; what is recorded of it."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, Any

import pytest

from gatling.errors import Exit
from tests.conftest import Client, Project, new_world, output_of, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import World


@pytest.fixture(scope="module")
def shop() -> Iterator[Project]:
    """Three pushes: v1 to v3, entitled one, two, three."""
    with new_world() as world:
        project = world.load()
        for title in ("one", "two", "three"):
            project.title(title)
            project.push()
        yield project


@pytest.fixture
def world(shop: Project) -> World:
    """The home, with the newest release live."""
    shop.world.try_run("rollback", "shop", "v3")
    assert shop.world.status()["release"] == "v3"
    return shop.world


def title(world: World) -> str:
    found = re.search("<h1>(.*)</h1>", world.get().text)
    assert found
    return found[1]


def commit(project: Project, number: int) -> str:
    """The commit of one of the three pushes."""
    return project.git("log", "-1", "--format=%H", f":/{('one', 'two', 'three')[number - 1]}")


def test_status_as_json(world: World) -> None:
    status = world.status()
    head = world.json("releases", "shop")[0]
    assert status | {"port": 0, "pid": 0, "uptime": 0, "repository": "", "slot": 0} == status | {
        "app": "shop", "state": "running", "release": "v3", "version": "0.1.0",
        "url": f"http://shop.localhost:{world.port}", "port": 0, "pid": 0, "uptime": 0,
        "repository": "", "slot": 0, "domains": ["shop.localhost"], "last_outcome": "succeeded",
    }  # fmt: skip
    assert re.fullmatch("[0-9a-f]{40}", status["commit"])
    assert status["port"] == status["ports"][status["slot"] - 1]
    assert world.beams() == [status["pid"]]
    assert 0 < status["uptime"] < 600
    assert status["last_deployment"] == world.last()["id"]
    assert head.keys() >= {"release", "version", "commit", "created_at", "live"}
    (listed,) = world.json("apps")
    passing = {"uptime": 0, "cpu": 0, "cpu_seconds": 0, "memory": 0, "requests": None}
    assert listed | passing == {k: status[k] for k in listed} | passing


def test_status_for_people(world: World) -> None:
    status, text = world.status(), world.run("status", "shop")
    for word in (
        f"v3 (0.1.0, {status['commit'][:9]} ", status["url"], status["repository"],
        f"pid {status['pid']}", f"slot {status['slot']}", f"port {status['port']}",
    ):  # fmt: skip
        assert word in text
    assert re.search(r"^shop +running +v3 .*http://shop", world.run("apps"), re.MULTILINE)


def test_releases_as_json(shop: Project, world: World) -> None:
    every: list[Any] = world.json("releases", "shop")
    first = [r for r in every if r["release"] in ("v1", "v2", "v3")]
    assert [r["commit"] for r in first] == [commit(shop, n) for n in (3, 2, 1)]
    for release in every:
        assert release["version"] == "0.1.0"
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", release["created_at"])
        assert release["live"] == (release["release"] == "v3")
        assert release["elixir"].startswith("1.")
        assert int(release["otp"].split(".")[0]) >= 24
    times = [r["created_at"] for r in every]
    assert times == sorted(times, reverse=True)
    assert re.search(r"^v3 .* live$", world.run("releases", "shop"), re.MULTILINE)


def test_what_a_release_brought(shop: Project, world: World) -> None:
    found = world.json("releases", "shop", "v2")
    assert found["commit"] == commit(shop, 2)
    assert found["total_bytes"] > found["bytes"] > 0
    (brought,) = found["since"]["span"]["commits"]
    assert brought["id"] == commit(shop, 2)
    assert "two" in brought["subject"]
    compared = world.json("diff", "shop", "v1", "v3")
    assert [each["id"] for each in compared["span"]["commits"]] == [
        commit(shop, 3),
        commit(shop, 2),
    ]
    assert compared["config"] == {"added": [], "removed": [], "changed": []}


def test_deployments_as_json(shop: Project, world: World) -> None:
    every = world.json("deployments", "shop")
    second = next(d for d in every if d["release"] == "v2" and d["cause"] == "push")
    assert (second["previous"], second["strategy"]) == ("v1", "rolling")
    assert second["outcome"] == "succeeded"
    assert second["error"] is None
    old, new = commit(shop, 1)[:9], commit(shop, 2)[:9]
    assert f"commit {old} → {new}" in second["reasons"]
    assert second["commit"] == commit(shop, 2)
    for step in second["steps"]:
        assert step.keys() == {"name", "seconds", "outcome"}
        assert step["outcome"] == "succeeded"
    assert sum(s["seconds"] for s in second["steps"]) <= second["seconds"] < 900
    assert second["probe"].keys() >= {"requests", "failed", "longest_ms"}
    assert (second["probe"]["failed"], second["suspended_ms"]) == (0, None)
    assert re.fullmatch(r"20\d\d-.*Z", second["started_at"])
    assert world.json("deployments", "shop", str(second["id"])) == second
    shown = world.run("deployments", "shop", str(second["id"]))
    for word in (
        "succeeded",
        "push by ",
        "mix_compile",
        "Output:",
        " requests failed, the slowest took ",
    ):
        assert word in shown
    done = world.try_run("deployments", "shop", "999999")
    assert (done.returncode, "999999" in done.stdout) == (Exit.NOT_FOUND, True)


def test_rollback_to_one_that_is_named_and_to_the_one_before(world: World) -> None:
    before = len(world.json("releases", "shop"))
    with Client(world) as client:
        output = world.run("rollback", "shop", "v1")
    assert client.failures == []
    assert "shop v1 is live (rolling deployment) in" in output
    assert title(world) == "one"
    deployment = world.last()
    assert (deployment["release"], deployment["previous"]) == ("v1", "v3")
    assert deployment["cause"] == "rollback to v1"
    assert "mix_compile" not in [s["name"] for s in deployment["steps"]]
    # the one live before, whatever its number: after going back, that is where one came from
    world.run("rollback", "shop")
    assert (title(world), world.status()["release"]) == ("three", "v3")
    world.run("rollback", "shop")
    assert (title(world), world.status()["release"]) == ("one", "v1")
    assert len(world.json("releases", "shop")) == before, "no new ones"
    assert world.beams() == [world.status()["pid"]]


def test_rollback_to_what_cannot_be(world: World) -> None:
    last = world.last()["id"]
    done = world.try_run("rollback", "shop", "v3")
    assert (done.returncode, "v3 is already live" in done.stdout) == (Exit.INVALID, True)
    assert "gatling restart shop" in done.stdout
    done = world.try_run("rollback", "shop", "v999")
    assert (done.returncode, "no release v999" in done.stdout) == (Exit.NOT_FOUND, True)
    for bad in ("v0", "latest", "v1x", "v-1", "../v1"):
        assert world.try_run("rollback", "shop", bad).returncode == Exit.INVALID, bad
    assert world.last()["id"] == last
    world.run("load", "empty")
    for command in ("rollback", "restart", "start"):
        done = world.try_run(command, "empty")
        assert done.returncode == Exit.INVALID
        assert "empty has not been deployed yet" in done.stdout
    done = world.try_run("deploy", "empty")
    assert (done.returncode, "Nothing has been pushed" in done.stdout) == (Exit.NOT_FOUND, True)
    world.run("unload", "empty", "--confirm", "empty")


def test_an_empty_argument_is_not_a_missing_one(world: World) -> None:
    last = world.last()["id"]
    for command in ("rollback", "deploy"):
        assert world.try_run(command, "shop", "").returncode != Exit.OK, command
    assert world.last()["id"] == last


def test_deploy_a_release(world: World) -> None:
    world.run("deploy", "shop", "v2")
    assert (title(world), world.status()["release"]) == ("two", "v2")
    assert world.last()["cause"] == "deploy v2"
    # the live one, too: that is a restart
    pid = world.status()["pid"]
    world.run("deploy", "shop", "2")
    assert (world.status()["release"], world.status()["pid"] != pid) == ("v2", True)
    assert world.try_run("deploy", "shop", "v999").returncode == Exit.NOT_FOUND


def test_deploy_a_commit(shop: Project, world: World) -> None:
    world.run("deploy", "shop", commit(shop, 2)[:10])
    assert (title(world), world.status()["commit"]) == ("two", commit(shop, 2))
    newest = world.json("releases", "shop")[0]
    assert (newest["release"], newest["live"]) == (world.status()["release"], True)
    world.run("deploy", "shop")
    assert (title(world), world.last()["cause"]) == ("three", "deploy")
    assert world.status()["commit"] == shop.git("rev-parse", "main")
    last = world.last()["id"]
    for missing in ("0123456789abcdef", "no-such-branch", "--upload-pack=x", "HEAD~99999"):
        done = world.try_run("deploy", "shop", "--", missing)
        assert (done.returncode, world.last()["id"]) == (Exit.NOT_FOUND, last), missing


def test_restart(world: World) -> None:
    before = world.status()
    with Client(world) as client:
        world.run("restart", "shop")
    assert client.failures == []
    after = world.status()
    assert after["release"] == before["release"]
    assert (after["pid"] != before["pid"], after["slot"]) == (True, 3 - before["slot"])
    assert world.last()["reasons"] == ["v3 is restarted"]
    assert world.beams() == [after["pid"]]
    # a stopped app is started by it
    world.run("stop", "shop")
    world.run("restart", "shop")
    assert world.status()["state"] == "running"
    assert title(world) == "three"


def test_a_locked_app_takes_no_deployment(shop: Project, world: World) -> None:
    who = world.json("whoami")["name"]
    world.run("lock", "shop", "--message", "Freeze until Monday")
    before = world.last()["id"]
    refusals = [world.try_run(*words) for words in (
        ("rollback", "shop", "v1", "--confirm", "shop"), ("deploy", "shop", "v2"),
        ("deploy", "shop"), ("config", "set", "shop", "A=1"),
    )]  # fmt: skip
    shop.title("frozen")
    pushed = shop.push(ok=False)
    for said in (pushed, *(each.stdout for each in refusals)):
        assert re.search(f"shop is locked by {who} at 20.*Z: Freeze until Monday", said)
        assert "v3 still serves." in said
        assert "`gatling unlock shop` allows deployments again." in said
    assert {each.returncode for each in refusals} == {Exit.REFUSED}
    assert "rejected" in pushed
    assert world.last()["id"] == before
    assert world.json("info", "shop")["lock"]["reason"] == "Freeze until Monday"
    world.run("config", "set", "shop", "A=1", "--no-restart")
    world.run("config", "unset", "shop", "A", "--no-restart")
    world.run("restart", "shop")  # the same release
    world.run("unlock", "shop")
    assert (world.status()["release"], world.json("info", "shop")["lock"]) == ("v3", None)
    audit = [(each["action"], each["detail"]) for each in world.json("audit", "shop")]
    assert ("lock", "Freeze until Monday") in audit
    assert ("refused", "push: the app is locked") in audit
    world.run("deploy", "shop", "v2")


def test_a_deployment_is_followed_from_elsewhere(shop: Project, world: World) -> None:
    # an open stream makes the old instance drain for a while
    with socket.create_connection(("127.0.0.1", world.port), timeout=60) as stream:
        stream.sendall(b"GET /events HTTP/1.1\r\nHost: shop.localhost\r\n\r\n")
        assert stream.recv(100).startswith(b"HTTP/1.1 200")
        restart = world.start("restart", "shop")
        until(lambda: world.last()["outcome"] == "running", "a deployment")
        said = world.run("deployments", "shop", "--follow")
    output_of(restart)
    assert "   --> start_instance" in said
    assert said.endswith(f"Deployment {world.last()['id']} of shop: succeeded\n")
    assert "No deployment of shop is under way" in world.run(
        "deployments", "shop", "--follow", ok=False
    )
    assert world.run("deployments", "shop", "1", "--follow").endswith(" of shop: succeeded\n")
