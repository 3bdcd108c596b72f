"""What follows the decision: all of it, whatever fails."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from gatling.deploy import deployment_log, published, settle
from gatling.deploy.evidence.prober import Proof
from gatling.errors import SupervisorFailed
from gatling.project import repository
from gatling.releases import distillery, store
from gatling.runtime import jobs, spec, workers
from gatling.state import deployments, releases
from tests.deploy.stage import make_live, release

if TYPE_CHECKING:
    from pathlib import Path

    from tests.deploy.stage import Stage

STEPS = ["flags", "publish", "written", "workers", "jobs", "events", "summary", "retire"]


@pytest.fixture
def _noted(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def noted(what: str) -> Any:
        def done(*_: object) -> list[str]:
            stage.do(what)
            return []

        return done

    monkeypatch.setattr(settle, "_say_flags", noted("flags"))
    monkeypatch.setattr(published, "follow", noted("publish"))
    monkeypatch.setattr(published, "warn_of_written", noted("written"))
    monkeypatch.setattr(settle, "_replace_workers", noted("workers"))
    monkeypatch.setattr(jobs, "follow", noted("jobs"))
    monkeypatch.setattr(settle, "_count_events", noted("events"))
    monkeypatch.setattr(settle, "_summary", noted("summary"))
    monkeypatch.setattr(settle, "_retire", noted("retire"))


@pytest.mark.usefixtures("_noted")
@pytest.mark.parametrize("failing", STEPS)
def test_no_failure_stops_the_rest(stage: Stage, failing: str) -> None:
    context = stage.context()
    stage.faults[failing] = SupervisorFailed(f"no {failing}")
    settle.settle(stage.gatling, context, release(8))
    assert stage.done == STEPS
    assert context.result.warnings == [f"no {failing}"]


@pytest.fixture
def kept(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> dict[str, set[int]]:
    """Releases that workers and jobs still use; those of before are recorded."""
    used: dict[str, set[int]] = {"workers": set(), "jobs": set()}
    for number in (1, 2, 3):
        old = release(number)
        releases.add(stage.gatling.db, old)
        stage.gatling.home.app("shop").release(number).mkdir(parents=True)
    monkeypatch.setattr(workers, "in_use", lambda *_: used["workers"])
    monkeypatch.setattr(jobs, "releases_in_use", lambda *_: used["jobs"])
    monkeypatch.setattr(jobs, "forget", lambda *_: None)
    monkeypatch.setattr(repository, "try_to_keep_commits", lambda *_: None)
    for module, name in ((distillery, "sweep"), (deployment_log, "remove_old")):
        monkeypatch.setattr(module, name, lambda *_: None)
    monkeypatch.setattr(deployments, "ever_live", lambda *_: {1, 2, 7})
    return used


def retire(stage: Stage, keep: int = 1) -> set[int]:
    """The releases that are left when v8 is live in slot 2."""
    make_live(stage.gatling.db, "shop", release=8, slot=2, config=None)
    context = stage.context({"releases.keep": str(keep)})
    settle._retire(stage.gatling, context, release(8))
    left = set(releases.kept_commits(stage.gatling.db, "shop"))
    paths = stage.gatling.home.app("shop")
    assert left == {number for number in (1, 2, 3, 7, 8) if paths.release(number).exists()}
    return left


def test_old_releases_and_those_that_never_served_go(
    stage: Stage, kept: dict[str, set[int]]
) -> None:
    stage.running = {2: 8}
    assert retire(stage) == {7, 8}


def test_what_runs_keeps_its_files(stage: Stage, kept: dict[str, set[int]]) -> None:
    stage.running = {2: 1}  # booted as v1, and upgraded hot since
    kept |= {"workers": {2}, "jobs": {3}}
    assert retire(stage) == {1, 2, 3, 7, 8}


def test_a_tree_that_cannot_be_removed_is_a_note(
    stage: Stage, kept: dict[str, set[int]], monkeypatch: pytest.MonkeyPatch, said: Path
) -> None:
    def stuck(*_: object) -> None:
        raise OSError(5, "odd")

    monkeypatch.setattr(store, "remove", stuck)
    settle._retire(stage.gatling, stage.context(), release(8))
    assert "old releases could not all be removed" in said.read_text()


@pytest.mark.parametrize(
    ("problems", "error", "told"),
    [
        (["worker.1 does not stay up"], None, "worker.1 does not stay up"),
        ([], SupervisorFailed("no"), "the processes of shop: no"),
        ([], OSError(5, "odd"), "the processes of shop: OSError: [Errno 5] odd"),
    ],
)
def test_workers_that_fail_are_notes(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, said: Path, problems: list[str],
    error: Exception | None, told: str,
) -> None:  # fmt: skip
    def follow(*_: object, **__: object) -> list[str]:
        if error:
            raise error
        return problems

    monkeypatch.setattr(workers, "wanted", lambda *_: {"worker.1": None})
    monkeypatch.setattr(workers, "follow", follow)
    monkeypatch.setattr(workers, "unwell", lambda *_: [])
    context = stage.context()
    settle._replace_workers(stage.gatling, context)
    assert told in said.read_text()
    assert context.result.warnings == []


def test_flags_that_rule_out_hot_upgrades_are_told_at_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, said: Path
) -> None:
    monkeypatch.setattr(spec, "flag_faults", lambda *_: ["vm.args sets -name"])
    settle._say_flags(stage.gatling, stage.context(), release(8))
    assert "hot upgrades from v8 are not possible: vm.args sets -name." in said.read_text()


def test_the_summary(stage: Stage, said: Path) -> None:
    context = stage.context()
    deployments.set_target(
        stage.gatling.db, context.deployment.id, release=8, slot=2, strategy="rolling", reasons=()
    )
    with context.journal.step("drain"):
        pass
    context.result.proof = Proof(requests=9, failed=0, longest_ms=1.4)
    settle._summary(stage.gatling, context, release(8))
    lines = said.read_text().splitlines()
    assert re.fullmatch(r"=====> shop v8 is live \(rolling deployment\) in [\d.]+ m?s", lines[-4])
    assert lines[-3] == "       0 of 9 requests failed, the slowest took 1 ms"
    assert lines[-2].startswith("       http://shop.localhost")
    assert lines[-1] == "       Logs: gatling logs shop --follow   Undo: gatling rollback shop"
