"""Hot upgrades of all pods of a real cluster: all or none, and none is replaced."""

from __future__ import annotations

import functools
import re
import socket
import urllib.request
from typing import TYPE_CHECKING, Self

import pytest

from tests.cluster.conftest import NAMESPACE, get, killed_push, only, probing
from tests.conftest import until
from tests.hot.conftest import APPLICATION, STORE
from tests.push.test_recovery import arm

if TYPE_CHECKING:
    from tests.cluster.conftest import Pods
    from tests.conftest import Project, World

pytestmark = pytest.mark.timeout(1800)
REFUSES = """
  @impl true
  def code_change(_, state, _) do
    if File.exists?("/tmp/refuse"), do: raise("not in this pod")
    {:ok, state}
  end
end
"""
INIT = "  def init(count), do: {:ok, %{count: count, subscribers: %{}}}\n"
BROKEN = '  def init(_count), do: raise("no store in this one")\n'
STEPS = ("reach_nodes", "deliver", "plan", "hot_swap", "watch", "boot_check", "follow_template")
POINTS = [*(f"{when} {step}" for step in STEPS for when in ("begin", "end")), "decided", "ended"]
DECIDED = {"decided", "begin follow_template", "end follow_template", "ended"}


TELLS = """
  @impl true
  def config_change(_changed, _new, _removed), do: :ok
end
"""
EXTRA = """
defmodule Counter.Extra do
  use Agent

  def start_link(_) do
    if File.exists?("/tmp/refuse"), do: raise("not in this pod")
    Agent.start_link(fn -> "extra" end, name: __MODULE__)
  end

  def said, do: Agent.get(__MODULE__, & &1)
end
"""
ROUTER, RUNTIME = "lib/counter/router.ex", "config/runtime.exs"


def greets(shop: Project, word: str) -> None:
    """Config whose value is another one in each pod, and which the page shows."""
    text = (shop.directory / RUNTIME).read_text()
    wanted = f'greeting: "{word} " <> System.get_env("POD_IP", "")'
    shop.write(RUNTIME, re.sub(r"greeting: .*", wanted, text))


def all_greet(pods: Pods, word: str) -> bool:
    """Whether each pod greets with this word and its own address."""
    pages = {
        one["status"]["podIP"]: pods.ask(one["metadata"]["name"]) for one in pods.cluster.pods()
    }
    return all(f"{word} {address}" in page for address, page in pages.items())


def child(shop: Project, *, there: bool) -> None:
    """A new child with code that calls it, or without it."""
    changes = [
        (APPLICATION, "      Counter.Store,\n", "      Counter.Store,\n      Counter.Extra,\n"),
        (ROUTER, "text(200, Counter.version())", "text(200, Counter.Extra.said())"),
    ]
    for path, without, extended in changes:
        text = (shop.directory / path).read_text().replace(extended, without)
        shop.write(path, text.replace(without, extended) if there else text)
    shop.write("lib/counter/extra.ex", EXTRA if there else "")


def versions(pods: Pods) -> set[str]:
    return {pods.ask(name, "/version") for name in pods.names()}


def upgraded(shop: Project, world: World, pods: Pods, kept: set[str]) -> list[str]:
    """Push a change that no pod is replaced for; the reasons of its plan."""
    with probing():
        said = shop.push()
    assert world.last()["strategy"] == "hot", said
    until(lambda: pods.uids() == kept, f"the pods of before alone: {said}")
    reasons: list[str] = world.last()["reasons"]
    return reasons


def increment() -> None:
    """In the pod that the request comes to."""
    urllib.request.urlopen("http://10.78.0.11:30080/increment", data=b"", timeout=10).close()


def counted(pods: Pods) -> bool:
    """Whether each pod has counted something, after one more request."""
    increment()
    return all(pods.counts().values())


class Stream:
    """A connection over which the app sends events."""

    def __init__(self) -> None:
        self._socket = socket.create_connection(("10.78.0.11", 30080), timeout=10)
        self._socket.sendall(b"GET /events HTTP/1.1\r\nHost: shop\r\n\r\n")
        self._seen = b""

    def has(self, wanted: bytes) -> bool:
        self._socket.settimeout(0.2)
        try:
            data = self._socket.recv(65536)
        except TimeoutError:
            return wanted in self._seen
        assert data, "the connection was closed"
        self._seen += data
        return wanted in self._seen

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def hears(self) -> bool:
        """Whether something comes when one pod or another counts."""
        before = len(self._seen)
        increment()
        self.has(b"data: ")
        return len(self._seen) > before


def test_all_pods_are_upgraded_and_none_is_replaced(
    shop: Project, world: World, pods: Pods
) -> None:
    before, kept = world.status()["release"], pods.uids()
    with Stream() as stream:
        until(lambda: stream.has(b"data: "), "the first event")
        until(lambda: counted(pods), "something that each has counted")
        counts = pods.counts()
        shop.title("in memory")
        with probing():
            said = shop.push()
        assert "is live on prod (hot upgrade" in said, said
        apart = re.search(r"side by side for at most (\d+) ms", " ".join(said.split()))
        assert apart, said
        live = world.status()["release"]
        assert live != before
        assert pods.all_show("in memory")
        assert pods.uids() == kept
        assert pods.labels() == {live}
        assert pods.restarts() == 0

        with probing():
            said = world.run("rollback", "shop")
        assert "hot upgrade" in said, said
        assert world.status()["release"] == before
        assert not pods.all_show("in memory")
        assert pods.uids() == kept
        assert pods.counts() == counts
        until(stream.hears, "an event over the connection from before both upgrades")


def test_a_plan_is_what_a_deployment_then_does(shop: Project, world: World, pods: Pods) -> None:
    before, kept = world.status()["release"], pods.uids()
    shop.title("planned")
    shop.push()
    assert world.status()["release"] != before
    found = world.json("plan", "shop", before)
    assert found["strategy"] == "hot"
    assert found["changed"]
    assert "2 pods at once" in found["reasons"]
    assert pods.all_show("planned"), "nothing was changed"
    assert before in world.run("plan", "shop", before, "--files")
    world.run("rollback", "shop")
    assert (world.last()["strategy"], world.last()["reasons"]) == ("hot", found["reasons"])
    assert pods.uids() == kept
    assert "is restarted" in world.run("plan", "shop", before, "--strategy", "restart")


def test_a_container_and_a_pod_that_start_later_run_the_release(
    shop: Project, world: World, pods: Pods
) -> None:
    shop.title("for later")
    shop.push()
    live, kept = world.status()["release"], pods.uids()
    first, second = pods.names()
    pods.run(first, "sh", "-c", "kill 1")
    until(lambda: pods.restarts() == 1, "the restart")
    until(lambda: pods.all_show("for later"), "both pods")
    assert pods.uids() == kept
    pods.cluster.kubectl("delete", "pod", "-n", NAMESPACE, second)
    until(lambda: pods.all_show("for later") and second not in pods.names(), "another pod")
    assert pods.labels() == {live}
    until(lambda: world.status()["instance"].startswith("2 of 2 ready"), "the pods")
    # each was started in a way of its own, and they go on together
    kept = pods.uids()
    shop.title("and on")
    with probing():
        said = shop.push()
    assert "hot upgrade" in said, said
    assert pods.all_show("and on")
    assert pods.uids() == kept


def test_one_pod_that_fails_takes_all_back(shop: Project, world: World, pods: Pods) -> None:
    before, kept = world.status()["release"], pods.uids()
    store = (shop.directory / STORE).read_text()
    shop.write(STORE, store.rstrip().removesuffix("end") + REFUSES)
    shop.title("refused by one")
    pods.run(pods.names()[1], "touch", "/tmp/refuse")
    with probing():
        said = " ".join(shop.push(ok=False).split())
    assert f"The hot upgrade failed in a pod: {pods.names()[1]}: code_change" in said, said
    assert "not in this pod" in said
    assert f"{before} is still live" in said
    assert world.status()["release"] == before
    assert pods.uids() == kept
    assert not any("refused by one" in pods.ask(name) for name in pods.names())
    pods.run(pods.names()[1], "rm", "/tmp/refuse")
    with probing():
        said = shop.push()
    assert "hot upgrade" in said
    assert pods.all_show("refused by one")
    assert pods.uids() == kept


@pytest.mark.parametrize("when", ["after", "before"])
def test_a_release_that_does_not_boot_is_taken_back(
    shop: Project, world: World, pods: Pods, when: str
) -> None:
    """It serves in the nodes that were upgraded, and no pod could be started any more."""
    before, kept = world.status()["release"], pods.uids()
    world.run("settings", "set", "shop", f"hot.boot_check={when}")
    store = (shop.directory / STORE).read_text().replace(INIT, BROKEN)
    if "code_change" in store:  # a changed one: without it, the deployment is rolling
        store = store.replace("not in this pod", "never in this pod")
    else:
        store = store.rstrip().removesuffix("end") + REFUSES
    assert BROKEN in store
    shop.write(STORE, store)
    shop.commit("does not boot")
    with probing():
        said = " ".join(shop.push(ok=False).split())
    shop.git("reset", "--quiet", "--hard", "HEAD~1")
    world.run("settings", "unset", "shop", "hot.boot_check")
    assert "does not boot" in said, said
    assert "no store in this one" in said
    assert f"{before} is still live" in said
    assert (f"{before} runs again in all pods" in said) == (when == "after")
    assert pods.uids() == kept
    until(lambda: pods.labels() == {before}, "the end of the pod of the check")


def test_a_release_that_is_unhealthy_is_taken_back(shop: Project, world: World, pods: Pods) -> None:
    before, kept = world.status()["release"], pods.uids()
    world.run("settings", "set", "shop", "hot.boot_check=off")
    shop.replace(
        "lib/counter/router.ex",
        'answer("/health"), do: text(200',
        'answer("/health"), do: text(501',
    )
    shop.commit("ill")
    said = " ".join(shop.push(ok=False).split())
    assert "failed its health check in the pod shop-" in said, said
    assert "GET /health: it answered 501" in said
    assert f"{before} runs again in all pods" in said
    shop.git("reset", "--quiet", "--hard", "HEAD~1")
    world.run("settings", "unset", "shop", "hot.boot_check")
    assert pods.uids() == kept
    assert all(pods.ask(name, "/health") == "ok" for name in pods.names())
    assert world.status()["release"] == before


def test_what_cannot_be_changed_in_memory_is_rolling(
    shop: Project, world: World, pods: Pods
) -> None:
    kept = pods.uids()
    said = world.run("config", "set", "shop", "GREETING=rolls")
    assert "rolling deployment" in said
    assert not kept & pods.uids()
    assert shop.app == "shop"


def test_config_and_children_change_in_all_pods_and_back(
    shop: Project, world: World, pods: Pods
) -> None:
    text = (shop.directory / APPLICATION).read_text()
    shop.write(APPLICATION, text.rstrip().removesuffix("end") + TELLS)
    greets(shop, "hello from")
    shop.commit("config that nobody takes over yet")
    said = " ".join(shop.push().split())
    assert "config of counter, :greeting, changes and is read when its process starts" in said
    until(lambda: only(pods, world.status()["release"]), "the new pods alone")
    first, kept = world.status()["release"], pods.uids()
    assert all_greet(pods, "hello from")
    until(lambda: counted(pods), "something that each has counted")
    counts = pods.counts()

    greets(shop, "good day from")
    shop.commit("config")
    assert "config of counter: :greeting" in upgraded(shop, world, pods, kept)
    second = world.status()["release"]
    assert all_greet(pods, "good day from")
    found = world.json("plan", "shop", first)
    assert (found["strategy"], "config of counter: :greeting" in found["reasons"]) == ("hot", True)
    assert all_greet(pods, "good day from"), "nothing was changed"

    child(shop, there=True)
    shop.commit("a child")
    assert "starts Counter.Extra" in upgraded(shop, world, pods, kept)
    assert versions(pods) == {"extra"}
    assert pods.counts() == counts

    # a container that starts again has what was changed in memory
    restarts = pods.restarts()
    pods.run(pods.names()[0], "sh", "-c", "kill 1")
    until(lambda: pods.restarts() > restarts, "the restart")
    until(lambda: pods.all_show("good day from"), "both pods")
    assert versions(pods) == {"extra"}
    until(lambda: world.status()["instance"].startswith("2 of 2 ready"), "the pods")
    for back, word in ((second, "good day from"), (first, "hello from")):
        with probing():
            world.run("rollback", "shop", back)
        assert (world.status()["release"], world.last()["strategy"]) == (back, "hot")
        assert all_greet(pods, word)
        assert "extra" not in versions(pods)
    assert pods.uids() == kept


def test_config_and_children_of_an_upgrade_that_fails_are_taken_back(
    shop: Project, world: World, pods: Pods
) -> None:
    text = (shop.directory / APPLICATION).read_text()
    if TELLS not in text:
        shop.write(APPLICATION, text.rstrip().removesuffix("end") + TELLS)
    greets(shop, "hello from")
    child(shop, there=False)
    shop.commit("config that can be taken over")
    shop.push()
    until(lambda: only(pods, world.status()["release"]), "the pods of the release alone")
    before, kept = world.status()["release"], pods.uids()

    def nothing_is_left() -> bool:
        return (
            only(pods, before) and all_greet(pods, "hello from") and "extra" not in versions(pods)
        )

    greets(shop, "not for long from")
    child(shop, there=True)
    shop.commit("a child that fails in one pod")
    pods.run(pods.names()[1], "touch", "/tmp/refuse")
    said = " ".join(shop.push(ok=False).split())
    assert f"After the switch in the pod {pods.names()[1]}: Counter.Extra" in said, said
    assert f"{before} runs again in all pods" in said
    until(nothing_is_left, "the release of before")
    assert (world.status()["release"], pods.uids()) == (before, kept)
    pods.run(pods.names()[1], "rm", "/tmp/refuse")

    # all pods have the new config and children, and nobody is left to take them back
    (world.root / "point").write_text("begin watch")
    arm(world)
    shop.start_push().communicate()
    (world.root / "point").write_text("")
    world.settled()
    until(nothing_is_left, "the release of before, by recovery")
    assert (world.status()["release"], pods.uids()) == (before, kept)

    upgraded(shop, world, pods, kept)
    assert all_greet(pods, "not for long from")
    assert versions(pods) == {"extra"}


@pytest.mark.parametrize("step", ["deliver", "watch"])
def test_a_pod_that_is_deleted_in_the_middle(
    shop: Project, world: World, pods: Pods, step: str
) -> None:
    shop.title(f"while one ends at {step}")
    push = shop.start_push()
    world.at_step(step)
    pods.cluster.kubectl(
        "delete", "pod", "-n", NAMESPACE, pods.names()[0], "--grace-period=0", "--force"
    )
    said = push.communicate()[0]
    live = world.status()["release"]
    title = f"while one ends at {step}"
    shown = "is live on prod" in said
    until(lambda: pods.labels() == {live} and len(pods.names()) == 2, f"{live} alone: {said}")
    until(lambda: pods.all_show(title if shown else "<title>"), said)
    assert shown == any(title in pods.ask(name) for name in pods.names())


def differing(shop: Project, world: World, pods: Pods) -> tuple[str, str]:
    """A pod whose app was started again with the release before; its name, and the release."""
    before = world.status()["release"]
    shop.title(f"after {before}")
    shop.push()
    assert world.last()["strategy"] == "hot"
    name = pods.names()[1]
    restarts = pods.restarts()
    pods.run(name, "sh", "-c", f"ln -sfn /gatling/releases/{before} /gatling/current && kill 1")
    until(lambda: pods.restarts() > restarts, "the restart")
    until(lambda: world.status()["instance"].startswith("2 of 2 ready"), "the pods")
    assert f"after {before}" not in pods.ask(name)
    return name, before


def test_a_pod_that_differs_is_replaced_first(shop: Project, world: World, pods: Pods) -> None:
    """And the others are upgraded in memory, in spite of it."""
    name, older = differing(shop, world, pods)
    live, kept = world.status()["release"], pods.uids()
    first = f"the pod {name} is replaced first, as it has a node that runs {older}"
    assert first in world.json("plan", "shop", older)["reasons"]
    assert pods.uids() == kept, "a plan changes nothing"
    shop.title("all of them")
    with probing():
        said = " ".join(shop.push().split())
    assert "is live on prod (hot upgrade" in said, said
    assert f"the pod {name} has a node that runs {older}, and was replaced first" in said
    until(lambda: len(pods.names()) == 2, "the end of the pod")
    assert len(pods.uids() & kept) == 1
    assert name not in pods.names()
    assert pods.all_show("all of them")
    live = world.status()["release"]
    assert pods.labels() == {live}

    for point in ("begin replace_pods", "end replace_pods"):
        name, _ = differing(shop, world, pods)
        live = world.status()["release"]
        with probing():
            assert killed_push(shop, point, f"never {point}") == ("interrupted", live)
        until(lambda: only(pods, world.status()["release"]), f"one release after {point}")
        assert not any("never" in pods.ask(one) for one in pods.names())


def test_killed_at_every_step(shop: Project, world: World, pods: Pods) -> None:
    outcomes, kept = {}, pods.uids()
    titles = {world.status()["release"]: "<title>"}
    with probing():
        for number, point in enumerate(POINTS):
            outcomes[point], live = killed_push(shop, point, f"edition {number}!")
            titles.setdefault(live, f"edition {number}!")
            until(functools.partial(only, pods, live), f"{live} alone after {point}")
            assert pods.all_show(titles[live]), f"{live} after {point}"
            assert (
                not any(f"edition {number}!" in pods.ask(name) for name in pods.names())
                or titles[live] == f"edition {number}!"
            )
    assert {point for point in POINTS if outcomes[point] == "succeeded"} == DECIDED, outcomes
    assert pods.uids() == kept, "no pod was replaced"
    assert "edition" in get("/")
