"""The sizes that databases had."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from gatling.state import apps, database_sizes, databases
from gatling.state.database import open_database

if TYPE_CHECKING:
    from pathlib import Path

DAY = 86400


def test_the_nearest_size_is_found_and_old_ones_go(tmp_path: Path) -> None:
    db = open_database(tmp_path / "state.db")
    apps.create(db, "shop", lambda _: True)
    databases.add(db, "shop", "shop", 17, "DATABASE_URL")
    now = time.time()
    for days, size in ((40, 1), (7.5, 70), (6.9, 69), (1.2, 12), (0.9, 9), (0, 5)):
        database_sizes.add(db, "shop", size, now - days * DAY)
    database_sizes.add(db, "shop", 6, now)  # in the same hour
    assert database_sizes.near(db, "shop", now, DAY / 2) == 6
    assert database_sizes.near(db, "shop", now - DAY, DAY / 2) == 9
    assert database_sizes.near(db, "shop", now - 7 * DAY, 2 * DAY) == 69
    assert database_sizes.near(db, "shop", now - 20 * DAY, 2 * DAY) is None
    assert db.value("SELECT count(*) FROM database_sizes") == 5
    databases.forget(db, "shop")
    assert db.value("SELECT count(*) FROM database_sizes") == 0
    db.close()
