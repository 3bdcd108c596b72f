"""The names in a home's records that a shell completes: apps, releases, config, domains, and more.

Read without msgspec or the rest of the records, because a user waits for it with each press of the
tab key. No values of config are read.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NEWEST = 50
"""How many releases of an app are listed."""
_SECTION = re.compile(r"(schedule|processes)\.([^.]+)\.")

Names = dict[str, dict[str, list[str]]]
"""By app: `releases` (newest first), `config`, `domains`, `jobs` and `processes`."""


def read(database: Path, shown: Callable[[str], bool] = lambda _: True) -> Names:
    """The names of the apps that are shown. Empty if there is no home, or none that can be read."""
    found: Names = {}
    with contextlib.suppress(sqlite3.Error, ValueError):
        uri = f"{database.as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=1)) as db:
            rows = db.execute(
                "SELECT apps.name, settings, manifest FROM apps LEFT JOIN releases"
                " ON releases.app = apps.name AND releases.number = live_release ORDER BY apps.name"
            ).fetchall()
            for app, settings, manifest in rows:
                if shown(app):
                    found[app] = _of_app(db, app) | _sections(settings, manifest)
    return found


def _of_app(db: sqlite3.Connection, app: str) -> dict[str, list[str]]:
    def column(query: str) -> list[Any]:
        return [row[0] for row in db.execute(query, (app,))]

    numbers = column(
        "SELECT number FROM releases WHERE app = ? AND removed_at IS NULL ORDER BY number DESC"
    )
    return {
        "releases": [f"v{number}" for number in numbers[:NEWEST]],
        "config": column("SELECT name FROM config WHERE app = ? ORDER BY name"),
        "domains": column("SELECT domain FROM domains WHERE app = ? ORDER BY position, rowid"),
    }


def _sections(*texts: str | None) -> dict[str, list[str]]:
    named: dict[str, set[str]] = {"schedule": set(), "processes": set()}
    for text in texts:
        for key in json.loads(text or "{}"):
            match = _SECTION.match(key)
            if match:
                named[match[1]].add(match[2])
    return {"jobs": sorted(named["schedule"]), "processes": sorted(named["processes"])}
