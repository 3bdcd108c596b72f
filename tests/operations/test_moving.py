"""Moves that are refused, or meet a cluster that is away; tests/cluster has a real one."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from gatling.cli import cli
from gatling.deploy import places, recovery
from gatling.errors import ClusterFailed, InvalidInput, Misused, NotFound
from gatling.operations import apps as loading
from gatling.operations import auth, deploys, maintenance, moving, overview
from gatling.operations import platforms as adding
from gatling.platform import lock
from gatling.state import apps, moves, platforms, releases, runs
from gatling.ui.progress import Progress
from tests.host.archives import release
from tests.operations.test_clusters import away

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gatling.platform.open import Gatling


@pytest.fixture
def gatling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gatling]:
    """A home with an app, and a cluster that does not answer."""
    for made in away(tmp_path, monkeypatch):
        apps.delete(made.db, "shop")
        apps.create(made.db, "shop", lambda _: True)
        made.home.app("shop").root.mkdir(parents=True)
        made.home.app("shop").lock.touch()
        yield made


def deployed(gatling: Gatling) -> None:
    releases.add(gatling.db, release(1))
    apps.make_live(gatling.db, "shop", release=1, slot=2, config={})


def move(gatling: Gatling, to: str) -> moving.Moved:
    return moving.move(gatling, "shop", to, progress=Progress(io.StringIO()))


def test_moves_that_are_not_possible(gatling: Gatling) -> None:
    with pytest.raises(NotFound, match="no platform other"):
        move(gatling, "other")
    with pytest.raises(InvalidInput, match="bare has no registry"):
        move(gatling, "bare")
    with pytest.raises(InvalidInput, match="shop runs on this machine already"):
        move(gatling, "here")
    deployed(gatling)
    apps.maintain(gatling.db, "shop", "")
    with pytest.raises(InvalidInput, match="in maintenance"):
        move(gatling, "prod")
    apps.maintain(gatling.db, "shop", None)
    apps.want(gatling.db, "shop", "stopped")
    with pytest.raises(InvalidInput, match="shop is stopped"):
        move(gatling, "prod")
    apps.want(gatling.db, "shop", "running")
    runs.begin(gatling.db, "shop", "report", cause="schedule", actor=None, mark="m" * 16, release=1)
    with pytest.raises(InvalidInput, match="job report of shop is under way"):
        move(gatling, "prod")
    assert apps.get(gatling.db, "shop").platform is None
    assert moves.others(gatling.db, "shop") == []


def test_this_machine_is_no_name_of_a_cluster() -> None:
    with pytest.raises(InvalidInput, match="'here' cannot be a platform's name"):
        adding.checked_name("here")


def test_the_decision_is_one_change_of_the_records(gatling: Gatling) -> None:
    deployed(gatling)
    moves.begin(gatling.db, "shop", "prod")
    assert moves.others(gatling.db, "shop") == ["prod"]
    moves.decide(gatling.db, "shop", "prod", slot=1, deployment=7)
    app = apps.get(gatling.db, "shop")
    assert (app.platform, app.live_release, app.live_slot, app.live_deployment) == ("prod", 1, 1, 7)
    assert moves.others(gatling.db, "shop") == [moves.HERE]
    moves.begin(gatling.db, "shop", moves.HERE)
    assert moves.served_here(gatling.db) == {"shop"}
    moves.decide(gatling.db, "shop", moves.HERE, slot=1, deployment=None)
    assert moves.others(gatling.db, "shop") == ["prod"]
    assert moves.served_here(gatling.db) == set()
    assert apps.get(gatling.db, "shop").platform is None


def test_an_app_leaves_a_cluster_that_is_away(gatling: Gatling) -> None:
    """It serves here all the same, and what is left there is not forgotten."""
    moves.decide(gatling.db, "shop", "prod", slot=None, deployment=None)
    moves.end(gatling.db, "shop", moves.HERE)
    moved = move(gatling, "here")
    assert (moved.place, moved.domains) == ("here", [])
    assert apps.get(gatling.db, "shop").platform is None
    with lock.hold_app(gatling.home.app("shop"), lambda _: None):
        (problem,) = recovery.reconcile(gatling, "shop")
    assert problem.startswith("prod still has objects of shop: The cluster http://127.0.0.1:")
    assert problem.endswith("`gatling recover shop` tries again.")
    with pytest.raises(InvalidInput, match="prod still has objects of shop"):
        platforms.remove(gatling.db, "prod")
    with pytest.raises(ClusterFailed) as failed:
        loading.unload(gatling, "shop", Progress(io.StringIO()))
    assert "gatling unload shop --leave-objects" in failed.value.hint
    assert [app.name for app in apps.every(gatling.db)] == ["shop"]
    loading.unload(gatling, "shop", Progress(io.StringIO()), leave_objects=True)
    platforms.remove(gatling.db, "prod")


def test_an_app_stays_where_it_is_while_the_cluster_is_away(gatling: Gatling) -> None:
    with pytest.raises(ClusterFailed):
        move(gatling, "prod")
    assert apps.get(gatling.db, "shop").platform is None
    assert moves.others(gatling.db, "shop") == []


def serves_twice(gatling: Gatling) -> None:
    """An app that was moved to a cluster, and is served here as well."""
    deployed(gatling)
    moves.decide(gatling.db, "shop", "prod", slot=1, deployment=7, serves=True)


def test_the_place_before_serves_as_well_until_that_is_ended(gatling: Gatling) -> None:
    serves_twice(gatling)
    assert moves.serving(gatling.db, "shop") == moves.HERE
    assert moves.slot(gatling.db, "shop") == 2
    assert moves.served_here(gatling.db) == {"shop"}
    assert overview.details(gatling, "shop").also == "here"
    kept: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "keep", lambda *given: kept.append(given[-1]))
        assert places.leave(gatling, apps.get(gatling.db, "shop")) == []
    assert kept == [moves.HERE]
    with pytest.raises(ClusterFailed):  # recovery of an app on a cluster that is away
        moving.finish(gatling, "shop", progress=Progress(io.StringIO()))
    assert moves.others(gatling.db, "shop") == []
    assert overview.details(gatling, "shop").also is None
    with pytest.raises(InvalidInput, match="No other place serves shop"):
        moving.finish(gatling, "shop", progress=Progress(io.StringIO()))


def test_an_app_that_is_stopped_serves_nowhere(gatling: Gatling) -> None:
    serves_twice(gatling)
    apps.want(gatling.db, "shop", "stopped")
    assert places.leave(gatling, apps.get(gatling.db, "shop")) == []
    assert moves.others(gatling.db, "shop") == []


def test_what_would_not_take_effect_in_both_places_is_refused(gatling: Gatling) -> None:
    serves_twice(gatling)
    silent = Progress(io.StringIO())
    for refused in (
        lambda: deploys.restart(gatling, "shop", progress=silent),
        lambda: maintenance.switch(gatling, "shop", ""),
        lambda: auth.add(gatling, "shop", "*", "ann", "secret"),
        lambda: move(gatling, "bare"),
    ):
        with pytest.raises(InvalidInput, match="this machine still serves it as well") as error:
            refused()
        assert "`gatling move shop --finish`" in error.value.hint
    moves.decide(gatling.db, "shop", moves.HERE, slot=2, deployment=None, serves=True)
    with pytest.raises(InvalidInput, match="prod still has objects of shop") as error:
        platforms.remove(gatling.db, "prod")
    assert error.value.hint == "`gatling move shop --finish` removes them."


def test_a_command_needs_a_place_or_the_end() -> None:
    done = CliRunner().invoke(cli, ["move", "shop"])
    assert isinstance(done.exception, Misused)
