"""The clusters of a database that are kept: which one an undo returns to."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

from gatling.state import apps, databases, former_clusters
from gatling.state.database import open_database
from gatling.state.schema import SCHEMA

if TYPE_CHECKING:
    from pathlib import Path

    from gatling.state.database import Database


def upgrade(db: Database, version: int, generation: int) -> None:
    former_clusters.upgraded(db, databases.get(db, "shop"), version, generation)


def undo(db: Database) -> int | None:
    """The version that an undo returns to; None: there was nothing to undo."""
    found = former_clusters.before(db, "shop")
    if found is not None:
        former_clusters.undone(db, databases.get(db, "shop"), found)
    return None if found is None else found.version


def kept(db: Database) -> set[tuple[int, int, bool]]:
    return {(one.version, one.generation, one.undone) for one in former_clusters.of(db, "shop")}


def test_each_undo_goes_one_upgrade_back(db: Database) -> None:
    apps.create(db, "shop", lambda port: True)  # noqa: ARG005
    databases.add(db, "shop", "shop", 15, "DATABASE_URL")
    upgrade(db, 16, 2)
    upgrade(db, 17, 3)
    assert kept(db) == {(15, 1, False), (16, 2, False)}
    assert undo(db) == 16
    upgrade(db, 18, 4)
    assert [undo(db), undo(db), undo(db)] == [16, 15, None]
    assert kept(db) == {(16, 2, True), (17, 3, True), (18, 4, True)}
    databases.forget(db, "shop")
    assert kept(db) == set()


def test_what_an_earlier_gatling_kept_is_known(tmp_path: Path) -> None:
    before = next(number for number, script in enumerate(SCHEMA) if "kept_clusters" in script)
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as old:
        for script in SCHEMA[:before]:
            old.executescript(script)
        old.execute(f"PRAGMA user_version = {before}")
        old.executescript(
            "INSERT INTO databases (name, version, generation, state, kept, created_at)"
            " VALUES ('shop', 17, 2, 'ready', '', '2026-01-01T00:00:00.000Z');"
            "INSERT INTO former_clusters VALUES ('shop', 15, 1, '2026-01-02T00:00:00.000Z');"
        )
    with contextlib.closing(open_database(tmp_path / "state.db")) as db:
        assert kept(db) == {(15, 1, False)}
