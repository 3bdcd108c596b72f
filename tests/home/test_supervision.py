"""Instances are kept running, whatever is killed, and brought back after a reboot."""

from __future__ import annotations

import contextlib
import http.server
import os
import signal
import threading
from typing import TYPE_CHECKING

import psutil
import pytest

from gatling.errors import Exit
from gatling.platform import lock
from tests.conftest import Client, kill_and_wait, new_world, output_of, until
from tests.home import echo
from tests.home.processes import alive, kill, name, tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Project, World


@pytest.fixture(scope="module")
def shop() -> Iterator[Project]:
    """`shop`, which is live, and `echo`, which is stopped."""
    with new_world() as world:
        echo.load(world).push()
        world.run("stop", "echo")
        project = world.load()
        project.push()
        yield project


@pytest.fixture
def world(shop: Project) -> World:
    return shop.world


def serves_alone(world: World, release: str) -> None:
    """The release serves, by one BEAM behind one proxy."""
    assert "Counter" in world.get().text
    status = world.status()
    assert (status["state"], status["release"]) == ("running", release)
    assert world.beams() == [status["pid"]]
    for one in ("nginx: master", "supervisord -c"):
        assert len([line for line in world.processes() if one in line]) == 1


@contextlib.contextmanager
def echo_running(world: World) -> Iterator[None]:
    """With the other app started, too."""
    world.run("start", "echo")
    try:
        yield
    finally:
        world.run("stop", "echo")


def said(world: World, text: str) -> bool:
    return text in world.run("logs", "shop", "-n", "30")


def test_a_killed_instance_is_started_again(world: World) -> None:
    before = world.status()
    os.kill(before["pid"], signal.SIGKILL)

    def again() -> bool:
        pid = world.status()["pid"]
        return pid not in (None, before["pid"]) and world.get().status == 200

    until(again, "another instance")
    serves_alone(world, before["release"])
    assert world.status()["slot"] == before["slot"]
    label = before["release"]
    until(lambda: said(world, f" {label} -- instance killed by SIGKILL after "), "a line")
    status = world.status()
    assert status["restarts"] == 1
    assert status["last_end"]["cause"] == "killed by SIGKILL"
    assert "1 in the last hour; last " in world.run("status", "shop")
    assert "running (1 restart" in world.run("apps")
    assert world.last()["release"] == label, "no deployment"


def test_a_killed_proxy_is_started_again(world: World) -> None:
    before = world.status()
    proxy = next(p for p in tree(world) if name(p).startswith("nginx: master"))
    workers = proxy.children()
    proxy.kill()

    def again() -> bool:
        others = [p for p in tree(world) if name(p).startswith("nginx: master") and p != proxy]
        return bool(others) and bool(others[0].children())

    try:
        until(again, "another proxy")
        until(lambda: not alive(workers), "the end of the old one's workers")
        # it can be told of a new domain
        world.run("domains", "add", "shop", "shop.test")
        until(lambda: world.get(host="shop.test").status == 200, "the new domain")
        world.run("domains", "remove", "shop", "shop.test")
        serves_alone(world, before["release"])
        assert world.status()["pid"] == before["pid"]
    finally:
        kill(workers)
        until(again, "another proxy")


DAEMONS = (
    'Port.open({:spawn_executable, "/bin/sleep"}, args: ["3977"]);'
    'Port.open({:spawn_executable, "/usr/bin/setsid"}, args: ["sleep", "3977"])'
)


def daemons() -> int:
    """How many programs that `DAEMONS` has started go on, one in a session of its own."""
    found = [p for p in psutil.process_iter(["cmdline"]) if "3977" in (p.info["cmdline"] or [])]
    return sum(p.status() != psutil.STATUS_ZOMBIE for p in found)


def test_what_an_instance_has_started_ends_with_it(world: World) -> None:
    world.run("run", "shop", "--", "rpc", DAEMONS)
    until(lambda: daemons() == 2, "both programs")
    world.run("restart", "shop")
    assert daemons() == 0
    assert world.status()["restarts"] == 0
    world.run("run", "shop", "--", "rpc", DAEMONS)
    until(lambda: daemons() == 2, "both programs")
    os.kill(world.status()["pid"], signal.SIGKILL)
    until(lambda: world.status()["restarts"] == 1 and daemons() == 0, "another instance")
    until(lambda: world.get().status == 200, "the page")


def test_heart_starts_nothing_beside_gatling(shop: Project) -> None:
    """What `-heart` of a project's vm.args starts when a node ends would hold the app's port."""
    world = shop.world
    shop.write("rel/vm.args.eex", "-heart\n")
    shop.commit("heart")
    world.run("config", "set", "shop", "HEART_COMMAND=setsid sleep 3977", "--no-restart")
    shop.push()
    try:
        pid = world.status()["pid"]
        started = psutil.Process(pid)
        until(lambda: "heart" in [p.name() for p in started.children(recursive=True)], "heart")
        restarts = world.status()["restarts"]
        os.kill(pid, signal.SIGKILL)
        until(lambda: world.status()["restarts"] == restarts + 1, "another instance")
        until(lambda: world.get().status == 200, "the page")
        assert daemons() == 0
        everything = tree(world)
        world.run("down")
        assert (alive(everything), daemons(), world.processes()) == ([], 0, [])
    finally:
        world.run("up")
        world.run("config", "unset", "shop", "HEART_COMMAND", "--no-restart")
        shop.git("revert", "--no-edit", "HEAD")
        shop.push()


def test_a_crash_writes_no_dump_and_the_next_instance_starts_soon(world: World) -> None:
    """A node that writes one has closed its sockets: the app is down for as long as that takes."""
    dumps = world.home / "apps/shop"
    restarts = world.status()["restarts"]
    world.try_run("run", "shop", "--", "rpc", ':erlang.halt(~c"a crash of the VM itself")')
    until(lambda: world.status()["restarts"] == restarts + 1, "another instance")
    until(lambda: world.get().status == 200, "the page")
    assert said(world, "a crash of the VM itself")
    assert list(dumps.rglob("erl_crash.dump*")) == []


def test_up_says_what_it_waits_for(world: World) -> None:
    with lock.hold(world.home / "apps/shop/lock", lambda: None):
        up = world.start("up")
        assert up.stdout is not None
        waiting = up.stdout.readline()
        assert waiting == "shop: waiting for the deployment in progress\n"
    assert "waiting" not in output_of(up)
    assert up.returncode == Exit.OK


def test_what_a_one_off_command_has_started_ends_with_it(world: World) -> None:
    world.run("run", "shop", "--", "eval", DAEMONS)
    assert daemons() == 0


CRASHES = """\
spawn(fn ->
      Process.sleep(1_500)

      Stream.repeatedly(fn -> Process.sleep(50) end)
      |> Enum.find(fn _ -> File.exists?("{}") end)

      System.halt(1)
    end)

    children = ["""


@contextlib.contextmanager
def crashing(shop: Project) -> Iterator[str]:
    """A release that is live and crashes again and again; at last the one before is live again.

    It crashes while the file `crash` is there, 1.5 s after each start. Without the file it would
    have to be proved, on a busy machine too, in these 1.5 s.
    """
    world = shop.world
    shop.replace(
        "lib/counter/application.ex", "children = [", CRASHES.format(world.home.parent / "crash")
    )
    shop.commit("crashes soon")
    shop.push()
    bad = world.status()["release"]
    (world.home.parent / "crash").touch()
    until(lambda: world.status()["state"] == "restarting", "the crash")
    try:
        yield bad
    finally:
        rollback = until(lambda: try_ok(world, "rollback", "shop"), "the rollback")
        (world.home.parent / "crash").unlink(missing_ok=True)
        assert f"{world.status()['release']} is live" in rollback
        shop.git("revert", "--no-edit", "HEAD")


def try_ok(world: World, *arguments: str) -> str:
    """What a command printed, or nothing when it failed."""
    done = world.try_run(*arguments)
    return done.stdout if done.returncode == 0 else ""


def test_a_release_that_crashes_later_is_restarted_and_can_be_left(shop: Project) -> None:
    world, good = shop.world, shop.world.status()["release"]
    with crashing(shop) as bad:
        assert bad != good
        expected = f" {bad} -- instance exited with status 1 after "
        until(lambda: said(world, expected), "a line in the log")
        until(lambda: world.get().status == 503, "the page that says it is down")
        until(lambda: world.get().status == 200, "another start")
        until(lambda: world.status()["state"] == "restarting", "another crash")
    serves_alone(world, good)


def test_commands_while_an_instance_waits_to_be_started_again(shop: Project) -> None:
    world, good = shop.world, shop.world.status()["release"]
    with crashing(shop):
        shop.git("rm", "--quiet", "mix.exs")
        shop.git("commit", "--quiet", "--message", "no project")
        output = shop.push(ok=False)
        shop.git("reset", "--quiet", "--hard", "HEAD~1")
        assert "no mix.exs" in output
        assert "cleanup did not finish" not in output
        assert world.last()["outcome"] == "failed"
        until(lambda: world.status()["state"] == "restarting", "another crash")
        (world.home.parent / "crash").unlink()
        done = world.try_run("start", "shop")
        assert (done.returncode, done.stdout) == (Exit.OK, "shop is running.\n")
    serves_alone(world, good)


def test_a_killed_supervisor(world: World) -> None:
    before = world.status()
    kill_and_wait(world.supervisord())
    until(lambda: world.status()["state"] == "down", "the end of the supervisor")
    world.run("up")
    serves_alone(world, before["release"])
    assert world.status()["pid"] != before["pid"], "the orphan was ended"


def test_up_changes_nothing_that_runs(world: World) -> None:
    before = [p.pid for p in tree(world)]
    with Client(world) as client:
        output = world.run("up")
    assert f"shop: {world.status()['release']} serves http://shop.localhost:" in output
    assert "echo: stopped" in output
    assert client.failures == []
    assert [p.pid for p in tree(world)] == before


@pytest.mark.parametrize("how", ["power cut", "shutdown"])
def test_up_after_a_reboot(world: World, how: str) -> None:
    release = world.status()["release"]
    everything = tree(world)
    if how == "power cut":
        kill(everything)
    else:
        everything[0].terminate()
        until(lambda: not alive(everything), "the end of all")
    assert world.status()["state"] == "down"
    world.run("up")
    serves_alone(world, release)
    assert world.status("echo")["state"] == "stopped"
    assert world.get(host="echo.localhost").status == 503


def test_a_push_after_a_reboot_brings_back_everything(shop: Project) -> None:
    world = shop.world
    with echo_running(world):
        kill(tree(world))
        shop.title("after the power cut")
        shop.push()
        assert "after the power cut" in world.get().text
        until(lambda: world.get(host="echo.localhost").status == 200, "the other app")
    shop.title("Counter")
    shop.push()
    serves_alone(world, world.status()["release"])


def test_down_and_up(world: World) -> None:
    before = world.status()
    everything = tree(world)
    world.run("down")
    assert alive(everything) == []
    assert world.processes() == []
    with pytest.raises(ConnectionRefusedError):
        world.get()
    down = world.status()
    assert (down["state"], down["release"], down["pid"]) == ("down", before["release"], None)
    assert world.status("echo")["state"] == "stopped"
    world.run("down")  # is fine as well
    world.run("up")
    serves_alone(world, before["release"])
    assert world.status("echo")["state"] == "stopped"
    actions = [entry["action"] for entry in world.json("audit")]
    assert actions[:3] == ["up", "down", "down"]


class Stranger(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextlib.contextmanager
def stranger_on(port: int) -> Iterator[None]:
    """A server on this port that answers, and that Gatling knows nothing of."""
    with http.server.ThreadingHTTPServer(("", port), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def test_one_app_that_does_not_come_up_is_told_and_keeps_no_other_down(world: World) -> None:
    release = world.status()["release"]
    with echo_running(world):
        world.run("down")
        with stranger_on(world.status("echo")["port"]):
            done = world.try_run("up")
            assert world.get().status == 200
            assert f"shop: {release} serves" in done.stdout
            assert "echo: v1 serves" not in done.stdout
            assert done.returncode != Exit.OK
        assert "echo: v1 serves" in world.run("up")
    serves_alone(world, release)
