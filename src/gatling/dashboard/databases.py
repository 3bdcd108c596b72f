"""The page of the databases: what their clusters and the repositories of their backups report.

A cluster and a repository of backups may be slow or away. They are asked in threads, as nodes are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from gatling.errors import GatlingError
from gatling.operations import backups, databases
from gatling.operations.session import opened
from gatling.platform.postgres import health  # noqa: TC001 (msgspec reads it)
from gatling.platform.postgres.clusters import Facts  # noqa: TC001
from gatling.project.schedule import here
from gatling.runtime import backup_times
from gatling.state import backups as recorded
from gatling.times import stamp_of

if TYPE_CHECKING:
    from gatling.dashboard.visit import Visit
    from gatling.operations.backups import BackupEntry
    from gatling.platform.open import Gatling

LISTED = 8
"""Backups of a database that are listed: the newest, and the newest that is proved."""


class State(Struct, frozen=True):
    """The report of a cluster."""

    facts: Facts | None = None
    """None for a database that is not complete."""
    faults: list[health.Fault] = []
    error: str = ""
    """Why it did not answer."""


class Backups(Struct, frozen=True):
    """The report of a repository about the backups of a database."""

    shown: list[BackupEntry] = []
    more: int = 0
    """Those that are not listed."""
    error: str = ""
    """Why it did not answer."""


def page(gatling: Gatling, visit: Visit) -> dict[str, Any]:
    """The databases of all apps that the person may see, by records alone."""
    found = databases.every(gatling, visit.grant.covers)
    plans, last, zone = recorded.plans(gatling.db), recorded.every(gatling.db), here()
    return {
        "rows": found,
        "plans": plans,
        "next": {
            name: stamp_of(backup_times.due_at(plan, last.get(name), zone))
            for name, plan in plans.items() if plan.at
        },
        "last": last,
        "asked": [one.name for one in found],
    }  # fmt: skip


def ask_cluster(name: str) -> State:
    """The state of a cluster; takes as long as it does."""
    with opened() as gatling:
        try:
            found = databases.by_name(gatling, name)
        except GatlingError as error:
            return State(error=error.what)
    return State(found.facts, found.faults)


def ask_backups(name: str) -> Backups:
    """The backups of a database; takes as long as their repository does."""
    with opened() as gatling:
        try:
            found = backups.of_database(gatling, name)
        except GatlingError as error:
            return Backups(error=error.what)
    proved = next((one for one in found if one.state == "proved"), None)
    shown = found[:LISTED]
    if proved is not None and proved not in shown:
        shown.append(proved)
    return Backups(shown, len(found) - len(shown))
