"""On a server each instance of a process is a unit, as the app's user, in the app's sandbox."""

from __future__ import annotations

import re
import select
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import until
from tests.home.workers import MANIFEST, WORKER

if TYPE_CHECKING:
    from tests.server.server import Checkout, Person, Server

BOTH = {"worker.1", "patient.1"}


@pytest.fixture(scope="module")
def dan(server: Server) -> Person:
    return server.let_in("dan", "queue")


@pytest.fixture(scope="module")
def queue(dan: Person) -> Checkout:
    project = dan.project("queue")
    project.write("lib/counter/worker.ex", WORKER)
    project.write("gatling.toml", MANIFEST)
    project.commit()
    project.push()
    return project


@pytest.fixture
def processes(server: Server, dan: Person, queue: Checkout) -> dict[str, Any]:
    """Both, one of each, at work."""
    dan.run("scale", "queue", "worker=1", "patient=1")
    until(lambda: set(running(server)) == BOTH, "both processes")
    return running(server)


def running(server: Server) -> dict[str, Any]:
    found = server.status("queue")["processes"]
    return {p["process"]: p for p in found if p["state"] == "running"}


def unit(slot: str, *names: str) -> tuple[str, ...]:
    return (f"gatling@queue.{slot}.service", *names)


def test_they_are_units_of_the_app_and_follow_its_releases(
    server: Server, dan: Person, queue: Checkout, processes: dict[str, Any]
) -> None:
    shown = server.show(*unit("worker.1", "User", "ActiveState", "MainPID", "NoNewPrivileges"))
    assert shown == {"User": "gatling-queue", "ActiveState": "active", "NoNewPrivileges": "yes",
                     "MainPID": str(processes["worker.1"]["pid"])}  # fmt: skip
    until(lambda: "[worker.1] worker.1 does sorting" in dan.run("logs", "queue"), "its line")
    assert "sorting" not in dan.run("logs", "queue", "--process", "web")
    secret = server.box.exec(["cat", f"/proc/{shown['MainPID']}/cmdline"]).stdout
    assert "in-its-file" in secret
    web = server.status("queue")["pid"]
    queue.title("hot")
    assert " is live (hot upgrade) in " in queue.push()
    after = running(server)
    assert server.status("queue")["pid"] == web
    assert {p["release"] for p in after.values()} == {server.status("queue")["release"]}
    assert not {p["pid"] for p in after.values()} & {p["pid"] for p in processes.values()}
    until(lambda: "finished" in dan.run("logs", "queue", "--process", "patient"), "its last words")


def test_they_are_scaled_restarted_and_killed(
    server: Server, dan: Person, queue: Checkout, processes: dict[str, Any]
) -> None:
    dan.run("scale", "queue", "patient=0")
    assert running(server)["worker.1"]["pid"] == processes["worker.1"]["pid"]
    with dan.session("logs", "queue", "-f", "-n", "0") as following:
        dan.run("scale", "queue", "worker=2")
        until(lambda: set(running(server)) == {"worker.1", "worker.2"}, "two workers")
        assert following.stdout is not None
        heard = [following.stdout]
        until(lambda: dan.run("restart", "queue", "--process", "worker.1") is not None
              and select.select(heard, [], [], 5)[0], "any line")  # fmt: skip
        dan.run("restart", "queue", "--process", "worker.2")
        assert any("[worker.2]" in line for line in following.stdout), "it came meanwhile"
    # what one that is gone has said is asked for just then
    line = dan.run("logs", "queue", "--process", "patient.1").splitlines()[-1]
    assert re.search(r"Z v\d+\[patient.1\] finished", line), line
    assert server.show(*unit("patient.1", "ActiveState"))["ActiveState"] == "inactive"
    dropped = ["ls", "/etc/systemd/system/gatling@queue.patient.1.service.d"]
    assert server.box.exec(dropped, check=False).returncode != 0
    killed = running(server)["worker.1"]
    server.box.exec(["kill", "-9", str(killed["pid"])])

    def both() -> dict[str, Any] | None:
        now = running(server)
        other = {"worker.1", "worker.2"} == set(now) and now["worker.1"]["pid"]
        return now if other not in (False, None, killed["pid"]) else None

    before = until(both, "another one")
    dan.run("restart", "queue", "--process", "worker.2")
    until(lambda: set(running(server)) == {"worker.1", "worker.2"}, "two workers")
    assert running(server)["worker.1"]["pid"] == before["worker.1"]["pid"]
    assert running(server)["worker.2"]["pid"] != before["worker.2"]["pid"]


def test_a_unit_of_which_it_is_not_known_whose_it_is_starts_nothing(
    server: Server, dan: Person, queue: Checkout, processes: dict[str, Any]
) -> None:
    name = unit("worker.1")[0]
    server.box.exec(["rm", "-r", f"/etc/systemd/system/{name}.d"])
    server.box.exec(["systemctl", "daemon-reload"])
    server.box.exec(["systemctl", "restart", name], check=False)
    assert server.show(name, "ActiveState", "User") == {
        "ActiveState": "inactive",
        "User": "_gatling",
    } or (server.show(name, "ActiveState")["ActiveState"] == "failed")
    text = dan.run("restart", "queue", "--process", "worker", status=1)
    assert "it is not known whose it is" in text
    server.gatling("recover", "--units")
    until(lambda: set(running(server)) == BOTH, "both processes")
    assert server.show(name, "User")["User"] == "gatling-queue"


def test_stopped_and_rebooted_with_the_app(
    server: Server, dan: Person, queue: Checkout, processes: dict[str, Any]
) -> None:
    dan.run("stop", "queue")
    assert server.processes("gatling-queue") == []
    server.box.reboot()
    recovery = ("gatling-recover.service", "ActiveState")
    until(lambda: server.show(*recovery)["ActiveState"] == "active", "recovery")
    assert server.processes("gatling-queue") == []
    dan.run("start", "queue")
    until(lambda: set(running(server)) == BOTH, "both processes")
    server.box.reboot()
    until(lambda: set(running(server)) == BOTH, "both processes", 60)
    server.gatling("server", "check")


def test_nothing_is_left_of_them(server: Server) -> None:
    person = server.let_in("eve", "gone")
    project = person.project("gone")
    project.write("lib/counter/worker.ex", WORKER)
    project.write("gatling.toml", MANIFEST)
    project.commit()
    project.push()
    assert server.box.exec(["ls", "/etc/systemd/system"]).stdout.count("gatling@gone.worker.1") == 1
    server.gatling("unload", "gone", "--confirm", "gone")
    assert server.processes("gatling-gone") == []
    for directory in ("", "/multi-user.target.wants"):
        left = server.box.exec(["ls", f"/etc/systemd/system{directory}"]).stdout
        assert "gatling@gone" not in left
