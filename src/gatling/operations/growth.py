"""How databases grow: their sizes are recorded while apps are sampled, and with each backup."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.errors import GatlingError
from gatling.platform.postgres.clusters import Cluster
from gatling.state import database_sizes
from gatling.state import databases as records

if TYPE_CHECKING:
    from gatling.platform.open import Gatling
    from gatling.state.databases import Record

DAY = 86400.0


class Growth(Struct, frozen=True):
    """The sizes of a database in the past, in bytes; None where nobody recorded them."""

    day_ago: int | None
    week_ago: int | None


def record(gatling: Gatling, one: Record) -> None:
    """Record the size of a database now; one that does not answer is left out."""
    try:
        found = gatling.databases.facts(Cluster(one.name, one.version, one.generation))
    except GatlingError:
        return
    database_sizes.add(gatling.db, one.name, found.bytes, time.time())


def record_all(gatling: Gatling) -> None:
    """Record the sizes of all databases."""
    for one in records.every(gatling.db):
        if one.state == "ready":
            record(gatling, one)


def of(gatling: Gatling, database: str) -> Growth:
    """The sizes of a database about a day and about a week ago."""
    now = time.time()
    return Growth(
        database_sizes.near(gatling.db, database, now - DAY, DAY / 2),
        database_sizes.near(gatling.db, database, now - 7 * DAY, 2 * DAY),
    )
