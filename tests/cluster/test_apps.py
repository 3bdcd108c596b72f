"""An app on a real cluster of two nodes: what a person does with it, and what fails."""

from __future__ import annotations

import json
import select
import threading
from typing import TYPE_CHECKING, Self

from tests.cluster.conftest import NAMESPACE, Cluster, answers, get, load, probing
from tests.conftest import until

if TYPE_CHECKING:
    from tests.conftest import Project, World


SERVING = "app.kubernetes.io/name=shop,app.kubernetes.io/component=web"


def releases(cluster: Cluster) -> list[str]:
    return [one["metadata"]["labels"]["gatling/release"] for one in cluster.pods()]


def live(world: World) -> str:
    return str(world.status()["release"])


def test_the_cluster_is_checked(world: World) -> None:
    found = {
        one["name"]: one["state"] for one in world.json("platform", "check", "prod")["findings"]
    }
    assert {found[name] for name in ("cluster", "rights", "namespace", "nodes", "registry")} == {
        "ok"
    }
    assert found["version"] == "warning"  # 1.20
    assert found["ingress"] == "warning"


def test_an_app_is_pushed_and_shown(shop: Project, world: World, cluster: Cluster) -> None:
    assert get("/health") == "ok"
    assert get("/health", node=2) == "ok"
    # pods of an app that was there before may still end
    until(lambda: world.status()["instance"] == "2 of 2 ready on prod", "these pods alone")
    status = world.status()
    assert status["state"] == "running"
    assert {one["state"] for one in status["processes"]} == {"running"}
    # one on each node
    assert {one["instance"] for one in status["processes"]} == {"node gk1", "node gk2"}
    listed = world.run("apps")
    assert "shop" in listed
    assert "prod" in world.run("status", "shop")
    assert shop.app == "shop"
    # the image is named by its digest
    assert all("@sha256:" in one["spec"]["containers"][0]["image"] for one in cluster.pods())


def test_a_release_replaces_the_one_before_without_a_failed_request(
    shop: Project, world: World, cluster: Cluster
) -> None:
    before = live(world)
    shop.title("second")
    with probing() as prober:
        said = shop.push()
    assert prober.answers > 20
    assert "is live on prod (rolling" in said
    assert "image" in said
    assert live(world) != before
    until(lambda: set(releases(cluster)) == {live(world)}, "the new pods")
    assert "second" in get("/")

    with probing():
        world.run("rollback", "shop")
    assert live(world) == before
    assert "second" not in get("/")


def test_a_release_that_does_not_start_is_withdrawn_with_its_log(
    shop: Project, world: World, cluster: Cluster
) -> None:
    before = live(world)
    shop.replace(
        "config/runtime.exs", "import Config", 'import Config\nraise "no key for the shop"'
    )
    shop.commit("broken")
    with probing():
        said = shop.push(ok=False)
        assert "no key" in said, said
        assert "ended with status 1" in said
        assert f"{before} is still live" in said
        until(lambda: set(releases(cluster)) == {before}, "the withdrawal")
    assert live(world) == before
    shop.git("reset", "--quiet", "--hard", "HEAD~1")


def test_a_release_that_is_never_ready_is_withdrawn(
    shop: Project, world: World, cluster: Cluster
) -> None:
    before = live(world)
    shop.replace(
        "lib/counter/router.ex",
        'answer("/health"), do: text(200',
        'answer("/health"), do: text(501',
    )
    shop.commit("ill")
    world.run("settings", "set", "shop", "health.timeout=8")
    with probing():
        said = shop.push(ok=False)
    assert "runs, but is not ready" in said, said
    assert "statuscode: 501" in " ".join(said.split()), said
    assert live(world) == before
    until(lambda: set(releases(cluster)) == {before}, "the withdrawal")
    world.run("settings", "unset", "shop", "health.timeout")
    shop.git("reset", "--quiet", "--hard", "HEAD~1")


class Watch(threading.Thread):
    """Looks which releases have pods, those that end included."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self.cluster = cluster
        self.seen: list[frozenset[str]] = []
        self._over = threading.Event()

    def __enter__(self) -> Self:
        # pods of an earlier test may still end
        until(lambda: len(self.look()) == 1, "the pods of one release")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def look(self) -> frozenset[str]:
        pods = self.cluster.get("pods", "-l", SERVING)["items"]
        return frozenset(one["metadata"]["labels"]["gatling/release"] for one in pods)

    def run(self) -> None:
        while not self._over.wait(0.2):
            self.seen.append(self.look())


def test_an_app_that_must_run_alone(shop: Project, world: World, cluster: Cluster) -> None:
    """Pods of one release end before those of another start, also if that one is withdrawn."""
    world.run("settings", "set", "shop", "deploy.strategy=restart")
    before = live(world)
    shop.title("alone")
    with Watch(cluster) as watch:
        said = shop.push()
        assert "is live on prod (restart" in said, said
        shop.replace("config/runtime.exs", "import Config", 'import Config\nraise "no key"')
        shop.commit("broken")
        assert "no key" in shop.push(ok=False)
        until(lambda: answers(1) and answers(2), "the release before")
    assert len(watch.seen) > 5
    assert {before, live(world)} <= set().union(*watch.seen)
    assert max(map(len, watch.seen)) == 1, set(watch.seen)
    shop.git("reset", "--quiet", "--hard", "HEAD~1")
    world.run("settings", "set", "shop", "deploy.strategy=rolling")
    with Watch(cluster) as watch:
        world.run("rollback", "shop", "--strategy", "restart")
    assert max(map(len, watch.seen)) == 1, set(watch.seen)
    with probing():
        world.run("restart", "shop")


def test_config_reaches_the_instances(shop: Project, world: World) -> None:
    with probing():
        world.run("config", "set", "shop", "GREETING=hello from two nodes")
    assert "hello from two nodes" in get("/")
    assert shop.app == "shop"


def test_a_restart_has_new_instances(shop: Project, world: World, cluster: Cluster) -> None:
    before = {one["metadata"]["name"] for one in cluster.pods()}
    with probing():
        world.run("restart", "shop")
    until(lambda: not before & {one["metadata"]["name"] for one in cluster.pods()}, "new instances")
    assert shop.app == "shop"


def test_it_is_scaled_stopped_and_started(shop: Project, world: World, cluster: Cluster) -> None:
    assert shop.app == "shop"
    world.run("scale", "shop", "web=1")
    until(lambda: len(cluster.pods()) == 1, "one instance")
    assert world.json("scale", "shop") == [{"process": "web", "instances": 1, "command": ""}]
    world.run("stop", "shop")
    until(lambda: not cluster.pods(), "the end of all")
    assert world.status()["state"] == "stopped"
    world.run("start", "shop")
    until(lambda: answers(1), "an answer")
    world.run("scale", "shop", "web=2")
    assert len(cluster.pods()) == 2


def test_logs_have_the_output_of_all_instances(
    shop: Project, world: World, cluster: Cluster
) -> None:
    assert shop.app == "shop"
    said = world.run("logs", "shop", "-n", "10000")
    for one in cluster.pods():
        assert f"[{one['metadata']['name']}]" in said
    assert "listens on port 4000" in said
    following = world.start("logs", "shop", "-f", "-n", "0")
    try:
        name = cluster.pods()[0]["metadata"]["name"]
        assert following.stdout is not None
        output = following.stdout

        def shown() -> bool:
            """Whether it is shown, as soon as the command follows."""
            cluster.kubectl("exec", "-n", NAMESPACE, name, "-c", "app", "--", "sh", "-c",
                            "echo said-in-the-pod > /proc/1/fd/1")  # fmt: skip
            return bool(select.select([output], [], [], 3)[0])

        until(shown, "a line")
        assert "said-in-the-pod" in output.readline()
    finally:
        following.terminate()
        following.communicate()


def test_what_does_not_work_there_is_refused(shop: Project, world: World) -> None:
    assert shop.app == "shop"
    for words in (
        ("settings", "set", "shop", "proxy.hsts=9"),
        ("auth", "add", "shop", "*", "ann"),
        ("deploy", "shop", "--rehearse"),
    ):  # fmt: skip
        done = world.try_run(*words, stdin="secret\n")
        assert done.returncode == 3, (words, done.stdout)
        assert "cluster" in done.stdout
    assert "Apps run on the platform prod: shop" in world.run(
        "platform", "remove", "prod", ok=False
    )


def test_domains_are_in_an_ingress(shop: Project, world: World, cluster: Cluster) -> None:
    assert shop.app == "shop"
    world.run("domains", "add", "shop", "shop.example.com")
    world.run("domains", "add", "shop", "www.example.com")

    def hosts() -> list[str]:
        return [one["host"] for one in cluster.get("ingress", "shop")["spec"]["rules"]]

    assert hosts() == ["shop.example.com", "www.example.com"]
    assert world.status()["url"] == "http://shop.example.com/"
    world.run("settings", "set", "shop", "cluster.issuer=letsencrypt")
    world.run("restart", "shop")
    found = cluster.get("ingress", "shop")
    assert found["metadata"]["annotations"] == {"cert-manager.io/cluster-issuer": "letsencrypt"}
    assert found["spec"]["tls"] == [
        {"hosts": ["shop.example.com", "www.example.com"], "secretName": "tls-shop"}
    ]
    assert world.status()["url"] == "https://shop.example.com/"
    world.run("settings", "unset", "shop", "cluster.issuer")
    world.run("domains", "remove", "shop", "www.example.com")
    assert "tls" not in cluster.get("ingress", "shop")["spec"]
    assert hosts() == ["shop.example.com"]
    world.run("restart", "shop")
    said = world.run("run", "shop", "--", "eval", 'IO.puts(System.get_env("PHX_HOST"))')
    assert "shop.example.com" in said
    world.run("domains", "remove", "shop", "shop.example.com")
    assert cluster.get("ingress")["items"] == []


def test_instances_find_each_other(shop: Project, cluster: Cluster) -> None:
    """By the names that `dns_cluster` makes of addresses, with the cookie of the release."""
    assert shop.app == "shop"
    one, two = [
        each for each in cluster.pods()
        if each["metadata"]["labels"]["app.kubernetes.io/component"] == "web"  # and no job's
    ]  # fmt: skip
    call = f'IO.inspect(Node.connect(:"counter@{one["status"]["podIP"]}"))'
    said = cluster.kubectl(
        "exec", "-n", NAMESPACE, two["metadata"]["name"], "-c", "app", "--", "sh", "-c",
        'ERL_ZFLAGS="$ERL_ZFLAGS -dist_listen false" exec bin/counter rpc "$1"', "sh", call,
    )  # fmt: skip
    assert said.strip() == "true"


def test_nothing_is_left_of_an_app_that_is_removed(world: World, cluster: Cluster) -> None:
    project = load(world, "other")
    project.push()
    assert len(cluster.pods("other")) == 1
    world.run("unload", "other", "--confirm", "other")
    kinds = "deployments,services,secrets,jobs,ingresses,networkpolicies"
    found = json.loads(cluster.kubectl("get", kinds, "-n", NAMESPACE, "-o", "json", "-l",
                                       "app.kubernetes.io/name=other"))  # fmt: skip
    assert found["items"] == []
    until(lambda: not cluster.pods("other"), "the end of its pods")
