"""Apps on a cluster that is away, or lacks something; tests/cluster has a real one."""

from __future__ import annotations

import io
import re
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from msgspec import structs

from gatling.cli import cli
from gatling.deploy.wish import Wish
from gatling.errors import ClusterFailed, InvalidInput, NotFound, NotOnCluster
from gatling.operations import apps as loading
from gatling.operations import (
    cluster_stats,
    clusters,
    deploys,
    issuing,
    lifecycle,
    metrics,
    overview,
    session,
    stats,
    toolchains,
)
from gatling.operations import domains as named
from gatling.platform import lock
from gatling.platform.kubernetes import distribution
from gatling.platform.kubernetes.rollout import Pod
from gatling.platform.open import open_gatling
from gatling.platform.restarts import End
from gatling.state import apps, deployments, domains, platforms, releases
from gatling.state.platforms import Connection, Store
from gatling.ui.progress import Progress
from tests.host.archives import release
from tests.platform.kubernetes.test_check import TOKEN
from tests.proxy.bench import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gatling.operations.status import AppStatus
    from gatling.platform.open import Gatling


@pytest.fixture
def gatling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gatling]:
    yield from away(tmp_path, monkeypatch)


def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gatling]:
    """A home with a cluster that does not answer, and an app there."""
    monkeypatch.setenv("GATLING_HOME", str(tmp_path / "home"))
    cluster = Connection(server=f"http://127.0.0.1:{free_port()}", namespace="shop", token=TOKEN)
    with open_gatling() as opened:
        platforms.add(opened.db, "prod", cluster, Store(place="registry.example.com/team"))
        platforms.add(opened.db, "bare", cluster, None)
        apps.create(opened.db, "shop", lambda _: True, "prod")
        yield opened


def test_an_app_is_refused_for_a_platform_that_cannot_have_it(gatling: Gatling) -> None:
    with pytest.raises(NotFound, match="no platform other"):
        loading.check(gatling, "new", {}, "other")
    with pytest.raises(InvalidInput, match="bare has no registry"):
        loading.check(gatling, "new", {}, "bare")
    with pytest.raises(InvalidInput, match="too long for a cluster"):
        loading.check(gatling, "n" * 41, {}, "prod")
    loading.check(gatling, "n" * 41, {})


def test_a_platform_with_apps_is_not_forgotten(gatling: Gatling) -> None:
    with pytest.raises(InvalidInput, match="Apps run on the platform prod: shop"):
        platforms.remove(gatling.db, "prod")
    platforms.remove(gatling.db, "bare")


def test_what_is_for_this_machine_leaves_the_app_alone(gatling: Gatling) -> None:
    apps.create(gatling.db, "here", lambda _: True)
    assert [app.name for app in apps.every(gatling.db)] == ["here"]
    assert [app.name for app in apps.every(gatling.db, clusters=True)] == ["here", "shop"]


def test_certificates_of_distribution_are_renewed_by_the_timer(
    gatling: Gatling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of apps that have any; one whose cluster is away does not keep another from it."""
    tried: list[str] = []

    def ensure(_: object, app: str) -> None:
        tried.append(app)
        raise ClusterFailed("away", reason="unreachable")

    monkeypatch.setattr(distribution, "ensure", ensure)
    for name, tls in (("shop", True), ("plain", False), ("other", True)):
        if name != "shop":
            apps.create(gatling.db, name, lambda _: True, "prod")
        gatling.home.app(name).root.mkdir(parents=True, exist_ok=True)
        manifest = {"cluster.tls": "true"} if tls else {}
        releases.add(gatling.db, structs.replace(release(1), app=name, manifest=manifest))
        apps.make_live(gatling.db, name, release=1, slot=1, config={}, deployment=1)
    issuing.renew(gatling, scheduled=True)
    assert tried == ["other", "shop"]
    with lock.try_hold(gatling.home.app("other").lock) as held:
        assert held
        issuing.renew(gatling, scheduled=True)
    assert tried == ["other", "shop", "shop"]


@pytest.mark.usefixtures("gatling")
def test_a_command_that_does_not_name_clusters_is_refused() -> None:
    for way in (session.opened, session.reading):
        with (
            pytest.raises(NotOnCluster, match="shop runs on the cluster prod") as refused,
            way("shop"),
        ):
            pass
        assert "docs/kubernetes.md lists" in refused.value.hint
        with way("shop", clusters=True):
            pass


def test_a_rehearsal_is_refused_before_anything_is_built(gatling: Gatling) -> None:
    with pytest.raises(NotOnCluster, match="where nothing can be rehearsed") as refused:
        deploys.deploy_commit(
            gatling, "shop", "a" * 40, cause="push", progress=Progress(io.StringIO()),
            wish=Wish(rehearse=True),
        )  # fmt: skip
    assert "Try the migrations on a copy of the database" in refused.value.hint
    assert deployments.of_app(gatling.db, "shop") == []


def test_a_domain_moves_between_places(gatling: Gatling, monkeypatch: pytest.MonkeyPatch) -> None:
    """The app that has it now is served first; what fails changes nothing."""
    apps.create(gatling.db, "local", lambda _: True)
    domains.add(gatling.db, "local", "a.test")
    served: list[str] = []
    fails: dict[str, str] = {}

    def serve(_: Gatling, name: str) -> None:
        served.append(name)
        if reason := fails.pop(name, ""):
            raise ClusterFailed("It failed.", reason=reason)

    monkeypatch.setattr(named, "_serve", serve)
    done = named.move(gatling, "shop", "a.test", "local")
    assert (served, done.place) == (["shop", "local"], "prod")
    assert done.notes[0] == "Let the DNS record of a.test lead to prod."
    served.clear()
    fails["shop"] = "unreachable"
    with pytest.raises(ClusterFailed):
        named.move(gatling, "local", "a.test", "shop")
    assert served == ["local", "shop", "shop", "local"]
    assert "a.test" in apps.get(gatling.db, "shop").domains
    # two apps of one cluster, whose controller admits a domain in one Ingress alone
    apps.create(gatling.db, "other", lambda _: True, "prod")
    served.clear()
    fails["other"] = "refused"
    done = named.move(gatling, "other", "a.test", "shop")
    assert (served, done.place) == (["other", "shop", "other"], None)
    assert apps.get(gatling.db, "other").domains == ("other.localhost", "a.test")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("auth add shop * ann", "docs/kubernetes.md, Passwords"),
        ("auth remove shop * ann", "docs/kubernetes.md, Passwords"),
        ("certificates add shop", "gatling settings set shop cluster.issuer=NAME"),
        ("certificates issue shop", "gatling settings set shop cluster.issuer=NAME"),
        ("certificates remove shop x", "gatling settings set shop cluster.issuer=NAME"),
        ("db create shop", "gatling config set shop DATABASE_URL=ecto://"),
        ("db attach shop other", "gatling config set shop DATABASE_URL=ecto://"),
        ("db backup shop", "gatling config set shop DATABASE_URL=ecto://"),
        ("db pool shop", "gatling config set shop DATABASE_URL=ecto://"),
    ],
)
@pytest.mark.usefixtures("gatling")
def test_a_command_that_does_not_work_there_says_what_to_do(words: str, hint: str) -> None:
    error = CliRunner().invoke(cli, words.split()).exception
    assert isinstance(error, NotOnCluster), error
    assert "shop runs on the cluster prod" in error.what
    assert hint in error.hint


def test_what_only_the_records_know_works_there_as_well(gatling: Gatling) -> None:
    def said(*words: str) -> str:
        done = CliRunner().invoke(cli, words, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    assert re.search(r"^cluster +prod$", said("info", "shop"), re.MULTILINE)
    with pytest.raises(InvalidInput, match="no domain on its cluster") as refused:
        said("open", "shop", "--print")
    assert "gatling domains add shop DOMAIN" in refused.value.hint
    domains.insert(gatling.db, "shop", "shop.example.com", 1)
    assert said("open", "shop", "--print") == "http://shop.example.com\n"
    said("toolchain", "use", "shop", "system")
    (system,) = [one for one in toolchains.every(gatling) if one.name == "system"]
    assert system.apps == ["shop"]


def test_numbers_of_an_app_on_a_cluster_that_is_away_are_unknown(gatling: Gatling) -> None:
    found = stats.of_app(gatling, "shop")
    assert found.state.startswith("unknown: ")
    assert "cannot be reached" in str(found.node_unknown)
    assert found.instances == []
    with pytest.raises(NotFound, match="no instance 'a'"):
        stats.of_instance(found, "a")
    apps.create(gatling.db, "here", lambda _: True)
    text = metrics.of_apps(gatling, list(apps.every(gatling.db, clusters=True)))
    assert 'gatling_app_up{app="shop"} 0' in text
    assert 'gatling_app_up{app="here"} 0' in text


def test_a_cluster_that_does_not_answer_is_waited_for_briefly(
    gatling: Gatling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metrics of all apps come in one answer, for which Prometheus waits ten seconds."""
    assert cluster_stats.PATIENCE_SECONDS < 5
    monkeypatch.setattr(cluster_stats, "PATIENCE_SECONDS", 0.2)
    address = platforms.get(gatling.db, "prod").cluster.server.removeprefix("http://")
    host, _, port = address.partition(":")
    with socket.create_server((host, int(port))):  # which accepts no connection, and is silent
        began = time.monotonic()
        found = stats.of_app(gatling, "shop")
    assert time.monotonic() - began < 8  # and not the 30 s of a deployment
    assert found.state.startswith("unknown: ")


def test_the_state_of_an_app_on_a_cluster_that_hangs_is_waited_for_briefly(
    gatling: Gatling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The records say how many instances there should be."""
    assert clusters.LOOK_SECONDS < 5
    monkeypatch.setattr(clusters, "LOOK_SECONDS", 0.2)
    releases.add(gatling.db, release(1))
    apps.make_live(gatling.db, "shop", release=1, slot=1, config={}, deployment=1)
    address = platforms.get(gatling.db, "prod").cluster.server.removeprefix("http://")
    host, _, port = address.partition(":")
    with socket.create_server((host, int(port))):  # which accepts no connection, and is silent
        began = time.monotonic()
        (one,) = overview.every(gatling, apps.every(gatling.db, clusters=True))
        assert overview.details(gatling, "shop").instance == "1 on prod, as recorded"
    assert time.monotonic() - began < 16  # and not twice the 30 s of a deployment
    assert one.state.startswith("unknown: ")
    assert (one.release, one.instance) == ("v1", "1 on prod, as recorded")


def test_all_clusters_are_asked_at_the_same_time_and_each_once(
    gatling: Gatling, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Connection(server="http://127.0.0.1:1", namespace="shop", token=TOKEN)
    platforms.add(gatling.db, "far", there, Store(place="registry.example.com/team"))
    for name, platform in (("second", "prod"), ("third", "far")):
        apps.create(gatling.db, name, lambda _: True, platform)
    together, asked = threading.Barrier(2, timeout=30), []

    def look(
        platform: platforms.Platform, _: str | None = None
    ) -> tuple[dict[str, list[Pod]], str]:
        asked.append(platform.name)
        together.wait()
        return {}, f"{platform.name} hangs"

    monkeypatch.setattr(clusters, "_look", look)
    found = overview.every(gatling, apps.every(gatling.db, clusters=True))
    assert sorted(asked) == ["far", "prod"]
    assert {one.app: one.state for one in found} == {
        "shop": "unknown: prod hangs", "second": "unknown: prod hangs",
        "third": "unknown: far hangs",
    }  # fmt: skip


def test_an_app_on_a_cluster_that_is_away_is_removed_only_if_that_is_said(
    gatling: Gatling,
) -> None:
    gatling.home.app("shop").root.mkdir(parents=True)
    with pytest.raises(ClusterFailed, match="cannot be reached") as failed:
        loading.unload(gatling, "shop", Progress(io.StringIO()))
    assert "gatling unload shop --leave-objects" in failed.value.hint
    assert apps.get(gatling.db, "shop").platform == "prod"
    loading.unload(gatling, "shop", Progress(io.StringIO()), leave_objects=True)
    assert apps.every(gatling.db, clusters=True) == []


def test_the_state_is_unknown_while_the_cluster_does_not_answer(gatling: Gatling) -> None:
    (one,) = overview.every(gatling, apps.every(gatling.db, clusters=True))
    assert one.state.startswith("unknown: The cluster http://127.0.0.1:")
    assert overview.details(gatling, "shop").processes == []


def instance(
    state: str, *, ready: bool, restarts: int = 0, ago: float | None = None, after: float = 7.0
) -> Pod:
    end = None if ago is None else End(time.time() - ago, after, "killed by SIGKILL")
    return Pod("shop-a", "n1", "v1", "1", state, ready, restarts, "", "web", end)


def test_states_and_restarts_are_those_of_apps_elsewhere(gatling: Gatling) -> None:
    def seen(*pods: Pod) -> AppStatus:
        return clusters.described(gatling, apps.get(gatling.db, "shop"), list(pods))

    assert seen().state == "empty"
    releases.add(gatling.db, release(1))
    apps.make_live(gatling.db, "shop", release=1, slot=1, config={}, deployment=1)
    assert seen().state == "down"
    assert seen(instance("CrashLoopBackOff", ready=False)).state == "down"
    assert seen(instance("starting", ready=False)).state == "starting"
    assert seen(instance("starting", ready=False), instance("running", ready=True)).state == (
        "running"
    )
    # after a deployment, old pods answer their last requests
    ending = instance("stopping", ready=True), instance("stopping", ready=False)
    assert seen(instance("running", ready=True), *ending).instance == "1 of 1 ready on prod"
    assert seen(*ending).instance == ""
    again = seen(instance("running", ready=True, restarts=2, ago=60))
    assert again.last_end is not None
    assert (again.restarts, again.last_end.cause, again.last_end.after) == (
        2, "killed by SIGKILL", 7.0,
    )  # fmt: skip
    # the end before the last one was more than an hour ago
    settled = instance("running", ready=True, restarts=9, ago=60, after=3700)
    assert seen(settled).restarts == clusters.restarts_lately(settled) == 1
    before = seen(instance("running", ready=True, restarts=2, ago=3700))
    assert (before.restarts, before.last_end) == (0, None)
    worker = structs.replace(instance("running", ready=True, restarts=2, ago=60), process="worker")
    assert (seen(worker).restarts, seen(worker).state) == (0, "down")


def test_apps_on_a_cluster_that_is_away_keep_no_other_from_being_recovered(
    gatling: Gatling, tmp_path: Path
) -> None:
    """After a boot. The cluster is asked once, whatever number of apps it has."""
    for name in ("second", "shop"):
        if name != "shop":
            apps.create(gatling.db, name, lambda _: True, "prod")
        gatling.home.app(name).root.mkdir(parents=True)
        gatling.home.app(name).lock.touch()

    def recovered() -> str:
        with (tmp_path / "said").open("w") as file:
            lifecycle.recover(gatling, Progress(file))
        return (tmp_path / "said").read_text()

    said = recovered()
    assert said.count("cannot be reached:") == 1, said
    assert "second:" in said
    assert "shop: left alone, as prod cannot be reached" in said
    with lock.hold(gatling.home.app("second").lock, lambda: None):
        assert "second" not in recovered(), "it is being deployed"
