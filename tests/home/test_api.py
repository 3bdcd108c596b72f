"""The API of a home in which an app runs: changes over HTTP, and what serves meanwhile."""

from __future__ import annotations

import os
import re
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.api.served import Answer, Served, server
from tests.api.test_events import Stream
from tests.conftest import Client, new_world, until
from tests.home.workers import MANIFEST, WORKER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import World


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Two releases, of which the second has a worker."""
    with new_world() as made:
        project = made.load(strategy="auto")
        project.title("one")
        project.push()
        project.write("lib/counter/worker.ex", WORKER)
        project.write("gatling.toml", MANIFEST)
        project.title("two")
        project.push()
        made.run("settings", "set", "shop", "instance.drain=0")
        yield made


@pytest.fixture(scope="module")
def served(world: World) -> Iterator[Served]:
    made = Served(world.root, world.env)
    with server(made):
        yield made


@pytest.fixture(scope="module")
def token(world: World) -> str:
    shown = world.run("tokens", "add", "ci", "--role", "deployer", "--app", "shop")
    found = re.search(r"^gatling_\S+$", shown, re.MULTILINE)
    assert found
    return found[0]


@pytest.fixture
def ask(served: Served, token: str) -> Any:
    def asked(method: str, path: str, body: object = None, status: int = 200) -> Any:
        found: Answer = served.ask(method, f"/v1/apps/shop{path}", token, body)
        assert found.status == status, found.text
        return found.json

    return asked


def test_config_is_changed_and_no_request_fails(world: World, ask: Any) -> None:
    before = ask("GET", "")["release"]
    with Client(world) as client:
        done = ask("PATCH", "/config", {"GREETING": "hello"})
    assert client.failures == []
    assert done["deployment"]["outcome"] == "succeeded"
    assert done["deployment"]["actor"] == "ci"
    assert done["deployment"]["previous"] == before
    assert world.json("config", "list", "shop")["GREETING"] == "hello"
    assert ask("GET", "")["release"] == done["deployment"]["release"]
    waiting = ask("PATCH", "/config?restart=false", {"GREETING": None})
    assert (waiting["deployment"], waiting["waiting"]) == (None, ["GREETING"])
    assert {"name": "GREETING", "waiting": True} in ask("GET", "/config")


def test_a_rollback_with_its_plan_and_its_events(
    world: World, ask: Any, served: Served, token: str
) -> None:
    plan = ask("GET", "/plan?release=v1")
    assert (plan["target"], plan["strategy"]) == ("v1", ask("GET", "/plan?release=1")["strategy"])
    stream = Stream(served, token, "?app=shop")
    assert stream.next() == {"retry": "2000"}
    with Client(world) as client:
        done = ask("POST", "/rollback", {"release": "v1"})
    assert client.failures == []
    assert (done["outcome"], done["release"], done["probe"]["failed"]) == ("succeeded", "v1", 0)
    seen = [stream.next()]
    while seen[-1]["event"] != "deployment.ended":
        seen.append(stream.next())
    stream.close()
    assert seen[0]["event"] == "deployment.started"
    assert {one["data"]["deployment"]["id"] for one in seen} == {done["id"]}
    assert seen[-1]["data"]["deployment"] == done
    assert "one" in world.get().text
    back = ask("POST", "/rollback")
    assert back["cause"].startswith("rollback to v")
    assert ask("POST", "/rollback", {"release": back["release"]}, status=422)


def test_stop_start_restart_and_maintenance(world: World, ask: Any) -> None:
    ask("POST", "/rollback", {"release": "v2"})
    assert ask("POST", "/stop")["state"] == "stopped"
    assert world.get().status == 503
    assert ask("POST", "/start")["state"] == "running"
    pid = ask("GET", "")["pid"]
    assert ask("POST", "/restart")["outcome"] == "succeeded"
    assert ask("GET", "")["pid"] != pid
    assert ask("PUT", "/maintenance", {"message": "Back soon."})["maintenance"]
    assert "Back soon." in world.get().text
    assert not ask("DELETE", "/maintenance")["maintenance"]
    assert world.get().status == 200
    actions = [(one["actor"], one["action"]) for one in ask("GET", "/audit")]
    assert {("ci", name) for name in ("stop", "start", "maintenance on")} <= set(actions)


def test_workers_are_scaled(world: World, ask: Any) -> None:
    world.try_run("rollback", "shop", "v2")
    assert ask("PATCH", "/processes", {"worker": 2})
    found = {one["process"]: one["instances"] for one in ask("GET", "/processes")}
    assert found["worker"] == 2
    until(lambda: "worker.2" in [one["process"] for one in ask("GET", "")["processes"]], "worker.2")
    assert ask("POST", "/restart", {"process": "worker.2"}) is None
    assert ask("PATCH", "/processes", {"nobody": 1}, status=422)["error"]["code"] == "invalid-input"


def test_numbers_and_the_log_of_a_deployment(ask: Any, served: Served, token: str) -> None:
    assert ask("GET", "/stats?since=1h")["requests"]["requests"] > 0
    newest = ask("GET", "/deployments?limit=1")[0]
    log = served.ask("GET", f"/v1/apps/shop/deployments/{newest['id']}/log", token)
    assert (log.status, "-----> " in log.text) == (200, True)


def test_a_change_goes_on_when_the_server_is_killed(world: World, token: str) -> None:
    """And a client that is gone changes nothing of it, either."""
    world.try_run("rollback", "shop", "v2")
    second = Served(world.root, world.env)
    kill = (
        "import os, threading\n"
        "from gatling.api import changes, serving\n"
        "serving.SOCKET = 'second.sock'\n"
        "real = changes.process.output\n"
        "def output(*given, **named):\n"
        "    threading.Timer(1.5, os.kill, (os.getpid(), 9)).start()\n"
        "    return real(*given, **named)\n"
        "changes.process.output = output\n"
        "from contextlib import nullcontext\n"
        "serving._alone = nullcontext\n"
    )
    newest = world.last()["id"]
    failed: list[Exception] = []

    def ask() -> None:
        try:
            second.ask("PATCH", "/v1/apps/shop/config", token, {"AFTER": "it"})
        except OSError as error:
            failed.append(error)
        except Exception as error:  # noqa: BLE001 (http.client's own)
            failed.append(error)

    with server(second, before=kill):
        asking = threading.Thread(target=ask)
        asking.start()
        asking.join(60)
    assert failed
    until(
        lambda: (last := world.last())["id"] > newest and last["outcome"] != "running",
        "the end of the deployment",
    )
    assert world.last()["outcome"] == "succeeded"
    assert world.json("config", "list", "shop")["AFTER"] == "it"


def test_the_server_ends_when_it_is_asked_to(world: World) -> None:
    third = Served(world.root, world.env)
    alone = (
        "from contextlib import nullcontext\n"
        "from gatling.api import serving\n"
        "serving.SOCKET = 'third.sock'\n"
        "serving._alone = nullcontext\n"
    )
    for _ in range(5):  # at different moments of its start
        with server(third, before=alone):
            assert os.path.exists(third.place)  # noqa: PTH110
        assert not os.path.exists(third.place)  # noqa: PTH110
