"""Releases, deployments and the audit: what has happened, and what follows from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec import structs

from gatling.errors import NotFound
from gatling.state import apps, audit, config, deployments, home_settings, releases
from gatling.state.releases import Release

if TYPE_CHECKING:
    from gatling.state.database import Database
    from gatling.state.deployments import Deployment, Outcome

RELEASE = Release(
    app="shop", number=1, origin="build", base=None, commit="ab" * 20, name="shop",
    version="0.1.0", elixir="1.18.0", otp="27.2", config={"KEY": "a\nb", "OTHER": "ü"},
    bytes=1234, created_at="2026-01-31T12:00:00.000Z", removed_at=None,
)  # fmt: skip


@pytest.fixture(autouse=True)
def shop(db: Database) -> None:
    apps.create(db, "shop", lambda _port: True)


def begin(db: Database, cause: str = "push", commit: str | None = None) -> Deployment:
    return deployments.begin(db, "shop", cause=cause, actor="me", mark="mark", commit=commit)


def deploy(db: Database, release: int, outcome: Outcome = "succeeded", cause: str = "push") -> None:
    """A deployment of a release, which is live afterwards if it succeeded."""
    deployment = begin(db, cause)
    slot = apps.get(db, "shop").free_slot
    deployments.set_target(
        db, deployment.id, release=release, slot=slot, strategy="rolling", reasons=[]
    )
    if outcome == "succeeded":
        apps.make_live(db, "shop", release=release, slot=slot, config={})
    deployments.end(db, deployment.id, outcome)


def live_before(db: Database) -> int | None:
    live = apps.get(db, "shop").live_release
    assert live is not None
    return deployments.live_before(db, "shop", live)


def test_a_release_comes_back_as_it_was_added(db: Database) -> None:
    releases.add(db, RELEASE)
    derived = structs.replace(RELEASE, number=2, origin="config", base=1, bytes=0, config={})
    releases.add(db, derived)
    assert releases.get(db, "shop", 1) == releases.kept(db, "shop", 1) == RELEASE
    listed = [
        (each.number, each.label, each.base, each.bytes) for each in releases.every(db, "shop")
    ]
    assert listed == [(2, "v2", 1, 0), (1, "v1", None, 1234)]
    assert releases.every(db, "blog") == []
    with pytest.raises(NotFound, match="shop has no release v3"):
        releases.get(db, "shop", 3)


def test_numbers_are_never_used_twice(db: Database) -> None:
    for number in (1, 2, 3):
        assert releases.next_number(db, "shop") == number
        releases.add(db, structs.replace(RELEASE, number=number))
    for number in (3, 2, 1):
        releases.mark_removed(db, "shop", number)
        assert releases.next_number(db, "shop") == 4
    releases.add(db, structs.replace(RELEASE, number=7))
    assert releases.next_number(db, "shop") == 8
    apps.create(db, "blog", lambda _port: True)
    assert releases.next_number(db, "blog") == 1


def test_a_release_that_is_no_longer_kept_has_no_secrets(db: Database) -> None:
    for number in (1, 2):
        releases.add(db, structs.replace(RELEASE, number=number, config={"KEY": "hidden"}))
    releases.mark_removed(db, "shop", 1)
    gone, kept = releases.get(db, "shop", 1), releases.get(db, "shop", 2)
    assert gone.removed_at is not None
    assert gone.config == {}
    assert (gone.commit, gone.version) == (RELEASE.commit, RELEASE.version)
    assert kept.config == {"KEY": "hidden"}
    assert kept.removed_at is None
    with pytest.raises(NotFound, match="v1 of shop is no longer retained") as caught:
        releases.kept(db, "shop", 1)
    assert f"gatling deploy shop {RELEASE.commit[:12]}" in caught.value.hint


def test_a_deployment_from_its_beginning_to_its_end(db: Database) -> None:
    first = begin(db, "push", "cd" * 20)
    assert (first.outcome, first.release, first.previous, first.steps) == (
        "running",
        None,
        None,
        (),
    )
    assert (first.cause, first.actor, first.mark) == ("push", "me", "mark")
    deployments.set_target(
        db, first.id, release=1, slot=1, strategy="start", reasons=["nothing → v1", "ü"]
    )
    for position, name in enumerate(("mix_compile", "health_check", "drain"), start=1):
        deployments.begin_step(db, first.id, position, name)
        if name != "drain":
            deployments.end_step(db, first.id, position, "succeeded", 1.5)
    under_way = deployments.get(db, first.id)
    assert [s.outcome for s in under_way.steps] == ["succeeded", "succeeded", "running"]
    proof = {"requests": 10, "failed": 0, "longest_ms": 1.5}
    deployments.end(db, first.id, "failed", seconds=2.5, error="why", probe=proof)
    ended = deployments.get(db, first.id, "shop")
    assert (ended.outcome, ended.seconds, ended.error, ended.probe) == ("failed", 2.5, "why", proof)
    assert (ended.release, ended.slot, ended.strategy) == (1, 1, "start")
    assert ended.reasons == ("nothing → v1", "ü")
    assert ended.commit == "cd" * 20
    assert [(s.name, s.seconds, s.outcome) for s in ended.steps] == [
        ("mix_compile", 1.5, "succeeded"), ("health_check", 1.5, "succeeded"),
        ("drain", None, "failed"),
    ]  # fmt: skip


@pytest.mark.parametrize("outcome", ["cancelled", "interrupted", "failed"])
def test_a_step_that_is_open_ends_as_its_deployment_does(db: Database, outcome: Outcome) -> None:
    other, deployment = begin(db), begin(db)
    for d in (other, deployment):
        deployments.begin_step(db, d.id, 1, "mix_compile")
    deployments.end(db, deployment.id, outcome)
    assert [s.outcome for s in deployments.get(db, deployment.id).steps] == [outcome]
    assert [s.outcome for s in deployments.get(db, other.id).steps] == ["running"]


def test_deployments_of_an_app_and_those_under_way(db: Database) -> None:
    apps.create(db, "blog", lambda _port: True)
    first, second, third = begin(db), begin(db), begin(db)
    foreign = deployments.begin(db, "blog", cause="c", actor="a", mark="m", commit=None)
    deployments.end(db, second.id, "succeeded")
    assert [d.id for d in deployments.of_app(db, "shop")] == [third.id, second.id, first.id]
    assert [d.id for d in deployments.of_app(db, "shop", limit=2)] == [third.id, second.id]
    assert [d.id for d in deployments.running(db, "shop")] == [first.id, third.id]
    assert [d.id for d in deployments.running(db)] == [first.id, third.id, foreign.id]
    with pytest.raises(NotFound, match=f"no deployment {foreign.id} of shop"):
        deployments.get(db, foreign.id, "shop")
    with pytest.raises(NotFound):
        deployments.get(db, 9999)


def test_before_the_first_release_there_was_none(db: Database) -> None:
    deploy(db, 1)
    assert live_before(db) is None
    deploy(db, 1)  # a restart
    assert live_before(db) is None


def test_what_was_live_before(db: Database) -> None:
    for release in (1, 2, 3):
        deploy(db, release)
    assert live_before(db) == 2
    deploy(db, 4, "failed")
    deploy(db, 5, "interrupted")
    assert live_before(db) == 2
    deploy(db, 3)  # a restart of what is live changes nothing of that
    assert live_before(db) == 2
    deploy(db, 6)
    assert live_before(db) == 3


def test_what_was_live_before_after_several_rollbacks(db: Database) -> None:
    for release in (1, 2, 3):
        deploy(db, release)
    deploy(db, 2)  # rolled back: v3 was live before that
    assert live_before(db) == 3
    deploy(db, 3)  # and forth again
    assert live_before(db) == 2
    deploy(db, 1)  # far back, by name
    assert live_before(db) == 3
    deploy(db, 4)
    assert live_before(db) == 1
    deploy(db, 1, "cancelled")  # a rollback that did not come about
    assert live_before(db) == 1


def test_a_release_that_was_undone_is_not_rolled_back_to(db: Database) -> None:
    deploy(db, 1)
    deploy(db, 2)
    deploy(db, 1, cause=deployments.WATCH)
    assert live_before(db) is None, "v2 served worse, and v1 is the first"
    deploy(db, 3)
    assert live_before(db) == 1
    deploy(db, 4)
    deploy(db, 3, cause=deployments.WATCH)
    assert live_before(db) == 1
    deploy(db, 4)  # somebody wants it all the same, by name
    assert live_before(db) == 3


def test_the_audit_tells_the_newest_first(db: Database) -> None:
    audit.record(db, "ann", None, "up")
    for n in range(5):
        audit.record(db, "bob", "shop" if n % 2 else "blog", "deploy", f"number {n}")
    everything = audit.latest(db)
    assert [e.detail for e in everything] == [f"number {n}" for n in (4, 3, 2, 1, 0)] + [""]
    assert (everything[-1].actor, everything[-1].app, everything[-1].action) == ("ann", None, "up")
    assert [e.detail for e in audit.latest(db, "shop")] == ["number 3", "number 1"]
    assert [e.detail for e in audit.latest(db, limit=2)] == ["number 4", "number 3"]


def test_the_audit_outlives_its_app(db: Database) -> None:
    audit.record(db, "ann", "shop", "load")
    apps.delete(db, "shop")
    assert [e.action for e in audit.latest(db, "shop")] == ["load"]


def test_config_is_replaced_as_a_whole(db: Database) -> None:
    apps.create(db, "blog", lambda _port: True)
    config.replace(db, "blog", {"KEPT": "1"})
    config.replace(db, "shop", {"B": "two\nlines", "A": ""})
    assert list(config.of_app(db, "shop").items()) == [("A", ""), ("B", "two\nlines")]
    config.replace(db, "shop", {"C": "ü"})
    assert config.of_app(db, "shop") == {"C": "ü"}
    assert config.of_app(db, "blog") == {"KEPT": "1"}


def test_settings_of_the_home(db: Database) -> None:
    assert home_settings.get(db, "listen") is None
    home_settings.put(db, "listen", "127.0.0.1:1")
    home_settings.put(db, "listen", "127.0.0.1:2")
    assert home_settings.get(db, "listen") == "127.0.0.1:2"


def test_variables_that_wait_for_the_next_deployment(db: Database) -> None:
    config.replace(db, "shop", {"A": "1"})
    assert config.pending(db, "shop") == []  # nothing is live
    releases.add(db, structs.replace(RELEASE, config={"A": "1", "B": "2"}))
    apps.make_live(db, "shop", release=1, slot=1, config={"A": "1", "B": "2"})
    assert config.pending(db, "shop") == []
    config.replace(db, "shop", {"A": "other", "C": "3"})
    assert config.pending(db, "shop") == ["A", "B", "C"]


def test_a_decision_that_is_taken_back_leaves_a_stopped_app_stopped(db: Database) -> None:
    apps.make_live(db, "shop", release=1, slot=1, config=None)
    apps.want(db, "shop", "stopped")
    before = apps.get(db, "shop")
    apps.make_live(db, "shop", release=2, slot=2, config=None)
    assert apps.get(db, "shop").wanted == "running"
    apps.make_live(
        db, "shop", release=before.live_release, slot=before.live_slot, config=None,
        wanted=before.wanted,
    )  # fmt: skip
    assert apps.get(db, "shop") == before


def test_a_release_that_was_live_when_another_deployment_began_has_been_live(db: Database) -> None:
    deploy(db, 1)
    deploy(db, 2, "failed")  # of another Gatling, which recorded it so although it was live
    apps.make_live(db, "shop", release=2, slot=2, config=None)
    deploy(db, 3, "failed")
    assert deployments.ever_live(db, "shop") == {1, 2}
