"""Apps on a cluster that is away, or lacks something; tests/cluster has a real one."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from gatling.errors import ClusterFailed, InvalidInput, NotFound, NotOnCluster
from gatling.operations import apps as loading
from gatling.operations import lifecycle, overview, session
from gatling.platform import lock
from gatling.platform.open import open_gatling
from gatling.state import apps, platforms
from gatling.state.platforms import Connection, Store
from gatling.ui.progress import Progress
from tests.platform.kubernetes.test_check import TOKEN
from tests.proxy.bench import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gatling.platform.open import Gatling


@pytest.fixture
def gatling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gatling]:
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


@pytest.mark.usefixtures("gatling")
def test_a_command_that_does_not_name_clusters_is_refused() -> None:
    for way in (session.opened, session.reading):
        with (
            pytest.raises(NotOnCluster, match="shop runs on the cluster prod") as refused,
            way("shop"),
        ):
            pass
        assert "docs/kubernetes.md" in refused.value.hint
        with way("shop", clusters=True):
            pass


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
