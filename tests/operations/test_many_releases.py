"""The work for an app that has had hundreds of releases: it grows only where all are listed."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from gatling.deploy.plan import explain
from gatling.errors import NotFound
from gatling.operations import history
from gatling.operations import releases as operations
from gatling.platform.open import open_gatling
from gatling.runtime import jobs
from gatling.state import apps, database, releases, runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gatling.platform.open import Gatling

MANY = 500
KEPT = 5
"""The newest releases, which are retained."""


@pytest.fixture
def gatling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gatling]:
    """A home with an app of many releases. Only those that are retained can be decoded."""
    monkeypatch.setenv("GATLING_HOME", str(tmp_path / "home"))
    with open_gatling() as opened:
        apps.create(opened.db, "shop", lambda _: True)
        for number in range(1, MANY + 1):
            kept = number > MANY - KEPT
            releases.add(opened.db, releases.Release(
                app="shop", number=number, origin="build", base=None, commit=f"{number:040x}",
                name="shop", version=f"0.{number}.0", elixir="1.18", otp="27", bytes=1,
                created_at="2026-01-01T00:00:00.000Z", removed_at=None if kept else "2026-01-02",
                config={"A": "1"}, manifest={f"schedule.j{number}.command": "x"},
            ))  # fmt: skip
        with opened.db.transaction():
            opened.db.execute("UPDATE releases SET config = '-', manifest = '-'"
                              " WHERE removed_at IS NOT NULL")  # fmt: skip
        yield opened


@contextlib.contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Count the queries of releases, and the JSON documents that are decoded for them."""
    count = {"queries": 0, "documents": 0}
    run, loads = database.Database._run, json.loads

    def counting_run(self: database.Database, sql: str, *values: object) -> Any:
        count["queries"] += "releases" in sql
        return run(self, sql, *values)

    def counting_loads(text: str) -> Any:
        count["documents"] += 1
        return loads(text)

    with monkeypatch.context() as patched:
        patched.setattr(database.Database, "_run", counting_run)
        patched.setattr(releases.json, "loads", counting_loads)  # type: ignore[attr-defined]
        yield count


def listed(gatling: Gatling) -> None:
    with contextlib.suppress(FileNotFoundError):
        assert len(operations.every(gatling, "shop")) == MANY


def jobs_forgotten(gatling: Gatling) -> None:
    gatling.home.app("shop").jobs.mkdir(parents=True, exist_ok=True)
    jobs.forget(gatling, "shop")
    assert set(runs.latest(gatling.db, "shop")) == {f"j{MANY}"}


def newest(gatling: Gatling) -> None:
    assert explain.target(gatling, "shop", None, None).number == MANY
    assert explain.target(gatling, "shop", None, f"{MANY - 1:040x}").number == MANY - 1
    with pytest.raises(NotFound):
        explain.target(gatling, "shop", None, f"{1:040x}")


def chain(gatling: Gatling) -> None:
    assert releases.unknown(gatling.db, "shop", ["v1", f"v{MANY}"]) == set()
    assert releases.unknown(gatling.db, "shop", ["v0", "v1", "v01", "'"]) == {"v0", "v01", "'"}
    assert releases.unknown(gatling.db, "blog", ["v1"]) == {"v1"}


def versions(gatling: Gatling) -> None:
    expected = [f"0.{number}.0" for number in range(MANY, MANY - KEPT, -1)]
    assert releases.kept_versions(gatling.db, "shop") == expected


def before(gatling: Gatling) -> None:
    release = releases.get(gatling.db, "shop", MANY)
    found = history._before(gatling, release, None)
    assert found is not None
    assert found.number == MANY - 1


@pytest.mark.parametrize("work", [listed, jobs_forgotten, newest, chain, versions, before])
def test_few_queries_and_only_what_is_asked_is_decoded(
    gatling: Gatling, monkeypatch: pytest.MonkeyPatch, work: Callable[[Gatling], None]
) -> None:
    for number in (1, MANY):
        begun = runs.begin(
            gatling.db, "shop", f"j{number}", cause="schedule", actor=None, mark="m", release=number
        )
        runs.end(gatling.db, begun.id, "succeeded", seconds=1.0)
    with counted(monkeypatch) as count:
        work(gatling)
    assert count["queries"] <= 4
    assert count["documents"] <= 2 * KEPT
