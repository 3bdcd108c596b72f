"""Connections that are lost, and people who do things at the same time."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.conftest import until
from tests.scale import scaled
from tests.server.whole import (
    check_whole,
    look,
    newest_log,
    seeded,
    shown,
    steps_in,
    title_of,
)

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from tests.server.server import Checkout, Person, Server
    from tests.server.whole import Seen

LOSSES = scaled(2, 10)
"""Two have each strategy and each way of losing a connection; which go together is random."""
PATIENCE_SECONDS = 900
LISTENERS = """
  @impl true
  def prep_stop(state) do
    if map_size(:sys.get_state(Counter.Store).subscribers) == 0 do
      state
    else
      Process.sleep(100)
      prep_stop(state)
    end
  end
end
"""
"""An app that does not end before its visitors have gone."""
DECIDED = {"rolling": "switch_proxy", "auto": "hot_swap"}
"""The step with which the cut-over begins."""


@pytest.fixture(scope="module")
def bob(server: Server) -> Person:
    return server.let_in("bob", "*")


def change(project: Checkout, title: str, strategy: str = "rolling") -> str:
    """A commit that asks for a strategy, and for all the time that the app needs to end."""
    settings = f'[deploy]\nstrategy = "{strategy}"\n[instance]\ndrain = 0\nstop = 300\n'
    project.write("gatling.toml", settings)
    return project.title(title)


def ended(push: subprocess.Popen[str]) -> str:
    """What a push has printed, once it is over."""
    text, _ = push.communicate(timeout=PATIENCE_SECONDS)
    return text


def kill(push: subprocess.Popen[str]) -> None:
    """End git and its ssh as a crash of that machine would."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(push.pid, signal.SIGKILL)
    push.communicate(timeout=60)


def at_step(server: Server, after: int, step: str, push: subprocess.Popen[str]) -> None:
    """Wait until a deployment newer than `after` has begun a step."""

    def there() -> bool:
        assert step in steps_in(server, after) or push.poll() is None, ended(push)
        return step in steps_in(server, after)

    until(there, step, PATIENCE_SECONDS)


def settled(server: Server) -> Seen:
    """Wait until nothing of a push goes on."""

    def nothing() -> Seen | None:
        if server.processes("gatling"):
            return None
        seen = look(server)  # runs commands, which take longer
        over = not seen.tasks and seen.last["outcome"] != "running"
        return seen if over and not server.processes("gatling") else None

    return until(nothing, "the end of all that", PATIENCE_SECONDS)  # type: ignore[no-any-return]


@contextlib.contextmanager
def visitor(server: Server) -> Iterator[None]:
    """A connection to the app that lasts, for which a patient instance waits before it ends."""
    with contextlib.closing(server.box.connect(timeout=60)) as connection:
        connection.request("GET", "/events", headers={"Host": "shop.localhost"})
        assert connection.getresponse().status == 200
        yield


def lose(server: Server, push: subprocess.Popen[str], *, cable: bool) -> None:
    """Lose the connection of a push: its end is told to the server, or only much later."""
    if not cable:
        kill(push)
        return
    server.box.unplug()
    try:
        kill(push)
        # its end has no way to the server; what becomes of it is seen when there is one again
        begun = len(steps_in(server, 0))
        until(lambda: len(steps_in(server, 0)) > begun or not look(server).tasks, "a step", 120)
    finally:
        server.box.plug()


def test_a_push_whose_connection_is_lost(server: Server, shop: Checkout) -> None:
    random = seeded("moments")
    strategies = list(DECIDED)
    before, _ = newest_log(server)
    change(shop, "measured")
    push = shop.start_push()
    at_step(server, before, "export_source", push)
    begun = time.monotonic()
    text = ended(push)
    assert push.returncode == 0, text
    length = time.monotonic() - begun  # a hot one takes about as long
    outcomes = []
    cables = random.sample([False, True], 2)
    for number in range(LOSSES):
        strategy = strategies[number % 2]
        before, _ = newest_log(server)
        old = server.status()["commit"]
        new = change(shop, f"lost {number}", strategy)
        push = shop.start_push()
        at_step(server, before, "export_source", push)
        time.sleep(random.uniform(0, length))
        late = DECIDED[strategy] in steps_in(server, before)
        said = push.poll()
        lose(server, push, cable=cables[(number + number // 2) % 2])
        settled(server)
        seen = check_whole(server, shop, old=old, new=new)
        last = seen.last
        assert last["commit"] == new
        assert last["outcome"] in ("cancelled", "succeeded"), last
        assert last["outcome"] == "succeeded" or not (late or said == 0), last
        if last["outcome"] == "cancelled":
            assert DECIDED[strategy] not in [step["name"] for step in last["steps"]]
            assert seen.branch != new
        outcomes.append((last["outcome"], steps_in(server, before)[-1]))
    print(outcomes)
    new = change(shop, "after all of them")
    shop.push()
    assert check_whole(server, shop, old=new, new=None).branch == new


def test_a_cable_that_is_put_back(server: Server, shop: Checkout) -> None:
    before, _ = newest_log(server)
    new = change(shop, "cable")
    push = shop.start_push()
    try:
        at_step(server, before, "mix_compile", push)
        server.box.unplug()
        at_step(server, before, "mix_release", push)
    finally:
        server.box.plug()
    text = ended(push)
    assert push.returncode == 0, text
    assert " is live (rolling deployment) in " in text
    assert check_whole(server, shop, old=new, new=None).branch == new


def sshd(server: Server) -> None:
    server.box.exec(["systemctl", "kill", "--signal=KILL", "--kill-whom=all", "ssh.service"])


def sessions(server: Server) -> None:
    """With sshd's part of each, git-receive-pack and the hook."""
    server.box.exec(["systemctl", "kill", "--signal=KILL", "--kill-whom=all", "session-*.scope"])


@pytest.fixture(scope="module")
def patient(shop: Checkout) -> Checkout:
    """The app, whose instances wait for their visitors before they end."""
    path = "lib/counter/application.ex"
    shop.write(path, (shop.directory / path).read_text().rstrip().removesuffix("end") + LISTENERS)
    change(shop, "patient")
    shop.push()
    return shop


@pytest.mark.parametrize("killed", [sshd, sessions])
def test_a_deployment_outlives_what_it_came_by(
    server: Server, ann: Person, patient: Checkout, killed: Callable[[Server], None]
) -> None:
    shop = patient
    before, _ = newest_log(server)
    new = change(shop, f"without {killed.__name__}")
    with visitor(server):
        push = shop.start_push()
        at_step(server, before, "stop_previous", push)
        killed(server)
        server.box.wait_ready()
        assert server.last()["outcome"] == "running"
        assert shown(server) == f"without {killed.__name__}"
        following = server.box.start_ssh(
            "gatling", ["deployments", "shop", "--follow"], key=ann.key
        )
        assert following.stdout is not None
        assert following.stdout.readline().startswith("-----> Building ")
        assert following.stdout.readline() == "   --> export_source\n"
        assert server.last()["outcome"] == "running"
    text = ended(following)
    assert following.returncode == 0, text
    assert "stop_previous" in text
    assert "succeeded" in text
    kill(push)
    settled(server)
    seen = check_whole(server, shop, old=new, new=None)
    assert seen.last["outcome"] == "succeeded"
    shop.push()  # what git has not been told of, perhaps
    assert look(server).branch == new


def push_both(projects: dict[str, tuple[Checkout, Checkout]]) -> dict[str, Checkout]:
    """Push all at once; of each app whose push has gone well."""
    pushes = {
        app: [(project, project.start_push()) for project in both] for app, both in projects.items()
    }
    winners = {}
    for app, both in pushes.items():
        said = [ended(push) for _, push in both]
        won = [project for project, push in both if push.returncode == 0]
        assert len(won) == 1, said
        assert "rejected" in said[1 - [project for project, _ in both].index(won[0])]
        winners[app] = won[0]
    return winners


def test_two_people_push_to_several_apps(server: Server, ann: Person, bob: Person) -> None:
    apps = [f"app{number}" for number in range(1, scaled(2, 5) + 1)]
    projects = {app: (ann.project(app), bob.project(app)) for app in apps}
    for number in (1, 2):
        for app, both in projects.items():
            for project in both:
                change(project, f"{app} {number} by {project.person.name}", "auto")
        winners = push_both(projects)
        for app, winner in winners.items():
            commit = winner.git("rev-parse", "HEAD")
            seen = check_whole(server, winner, old=commit, new=None)
            assert seen.branch == commit
            assert shown(server, app) == title_of(winner, commit)
        for both in projects.values():
            for project in both:
                project.git("fetch", "--quiet", "gatling")
                project.git("reset", "--quiet", "--hard", "gatling/main")
    for app in apps:
        server.gatling("unload", app, "--confirm", app)


def test_a_push_and_a_config_at_once(server: Server, ann: Person, shop: Checkout) -> None:
    for number in range(scaled(1, 3)):
        new = change(shop, f"with {number}", "auto")
        push = shop.start_push()
        words = ["config", "set", "shop", f"GREETING=hello {number}"]
        setting = server.box.start_ssh("gatling", words, key=ann.key)
        said = ended(push), ended(setting)
        assert (push.returncode, setting.returncode) == (0, 0), said
        seen = check_whole(server, shop, old=new, new=None)
        assert seen.branch == new
        assert f"hello {number}" in server.get().text
