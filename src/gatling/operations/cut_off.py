"""Databases whose upgrade, or the way back, was cut off: by a power cut, say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling import debuglog
from gatling.paths import exclusively_or_not
from gatling.state import databases as records

if TYPE_CHECKING:
    from gatling.platform.open import Gatling
    from gatling.platform.postgres.clusters import Cluster
    from gatling.state.databases import Record
    from gatling.ui.progress import Progress


def lock(database: str) -> str:
    """The name of the lock that an upgrade of a database holds."""
    return f"upgrade-{database}"


def start(gatling: Gatling, progress: Progress) -> None:
    """Start each cluster that the state says is used, and that an upgrade has left stopped.

    That is the one of before until the decision, and the new one afterwards. An upgrade that is
    running is left alone. An error in one database does not stop the others.
    """
    for one in records.every(gatling.db):
        if not _is_left(gatling, one):
            continue
        with exclusively_or_not(gatling.home, lock(one.name)) as mine:
            record = records.find(gatling.db, one.name)
            if not mine or record is None or not _is_left(gatling, record):
                continue
            progress.say(f"Starting the database {record.name}: an upgrade of it was cut off")
            uses = records.attachments(gatling.db, database=record.name)
            try:
                gatling.databases.create(_cluster(record), {use.app: use.access for use in uses})
            except Exception as error:  # noqa: BLE001 (apps start, and other databases)
                progress.fail(debuglog.explained(error, f"the database {record.name}"))


def _is_left(gatling: Gatling, record: Record) -> bool:
    return record.state == "ready" and gatling.databases.is_left(_cluster(record))


def _cluster(record: Record) -> Cluster:
    from gatling.platform.postgres.clusters import Cluster  # no command without a database needs it

    return Cluster(record.name, record.version, record.generation)
