"""Upgrading a database to another major version of PostgreSQL, and the way back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.cleanup import cleaning
from gatling.errors import GatlingError, InvalidInput, NotAllowed, NotFound
from gatling.operations import cut_off, databases
from gatling.paths import exclusively
from gatling.platform.postgres.clusters import Cluster
from gatling.state import audit, former_clusters

if TYPE_CHECKING:
    from gatling.platform.open import Gatling
    from gatling.platform.postgres.sites import Upgraded
    from gatling.state.databases import Record
    from gatling.state.former_clusters import Former
    from gatling.ui.progress import Progress


class Done(Struct, frozen=True):
    """A database that uses another cluster."""

    database: str
    before: int
    version: int
    """Major versions of PostgreSQL."""
    generation: int
    outage_seconds: float
    """The time in which no app could use the database."""
    tables: int = 0
    rows: int = 0
    """The numbers of tables and rows that were compared."""


class Rehearsed(Struct, frozen=True):
    """An upgrade that was rehearsed on a copy."""

    database: str
    version: int
    tables: int
    rows: int
    seconds: float
    """The time that pg_upgrade took."""


def rehearse(
    gatling: Gatling, app: str, name: str | None, version: int, progress: Progress, *,
    may_install: bool,
) -> Rehearsed:  # fmt: skip
    """Upgrade a copy of a database, and compare both.

    Raises InvalidInput for a version that is not later or cannot be installed, NotAllowed where
    only an admin may install it, and CommandFailed with the reasons of pg_upgrade.
    """
    record = databases.ready(gatling, app, name)
    _install(gatling, record, version, progress, may_install=may_install)
    found = _rehearse(gatling, record, version, progress)
    return Rehearsed(record.name, version, found.tables, found.rows, found.seconds)


def upgrade(
    gatling: Gatling, app: str, name: str | None, version: int, progress: Progress, *,
    may_install: bool,
) -> Done:  # fmt: skip
    """Rehearse an upgrade, then make it; raises as `rehearse`, and the database is as before.

    The cluster of before is stopped, and stays.
    """
    record = databases.ready(gatling, app, name)
    _install(gatling, record, version, progress, may_install=may_install)
    with exclusively(gatling.home, cut_off.lock(record.name)):
        record = databases.ready(gatling, app, record.name)
        rehearsed = _rehearse(gatling, record, version, progress)
        progress.say(f"The rehearsal succeeded: pg_upgrade took {rehearsed.seconds:.1f} s")
        new = _free(gatling, record, version)
        progress.phase(f"Upgrading {record.name} to PostgreSQL {version}: it is stopped until then")
        old, began = databases.cluster(record), time.monotonic()
        found = gatling.databases.upgrade(old, new, progress.say, rehearsal=False)
        with exclusively(gatling.home, "databases"):
            former_clusters.upgraded(gatling.db, record, new.version, new.generation)
            try:
                gatling.databases.create(new, databases.allowed(gatling, record.name))
            except GatlingError as error:
                with cleaning(error):
                    _return(gatling, record, new)
                raise
        outage = time.monotonic() - began
        detail = f"{record.name} from PostgreSQL {record.version} to {version}"
        audit.record(gatling.db, gatling.actor, app, "db upgrade", detail)
    progress.say("Gathering statistics for the planner")
    gatling.databases.analyze(new)
    return Done(record.name, record.version, version, new.generation, outage, found.tables,
                found.rows)  # fmt: skip


def before(gatling: Gatling, app: str, name: str | None) -> Former:
    """The cluster that `undo` returns to; raises NotFound."""
    record = databases.ready(gatling, app, name)
    found = former_clusters.before(gatling.db, record.name)
    if found is None:
        raise NotFound(f"{record.name} was not upgraded, or that was undone already.")
    if not gatling.databases.exists(Cluster(record.name, found.version, found.generation)):
        raise NotFound(f"The cluster of {record.name} with PostgreSQL {found.version} is not on"
                       " this host any more.")  # fmt: skip
    return found


def undo(gatling: Gatling, app: str, name: str | None) -> Done:
    """Use the cluster of before an upgrade again; what was written since is in the other one only.

    Raises NotFound, and as the platform does.
    """
    record, former = databases.ready(gatling, app, name), before(gatling, app, name)
    with exclusively(gatling.home, cut_off.lock(record.name)):
        began = time.monotonic()
        gatling.databases.retire(databases.cluster(record))
        with exclusively(gatling.home, "databases"):
            old = Cluster(record.name, former.version, former.generation)
            former_clusters.undone(gatling.db, record, former)
            gatling.databases.create(old, databases.allowed(gatling, record.name))
        outage = time.monotonic() - began
        detail = f"{record.name} back to PostgreSQL {old.version}"
        audit.record(gatling.db, gatling.actor, app, "db upgrade", detail)
    return Done(record.name, record.version, old.version, old.generation, outage)


def _rehearse(gatling: Gatling, record: Record, version: int, progress: Progress) -> Upgraded:
    progress.phase(f"Rehearsing the upgrade of {record.name} to PostgreSQL {version} on a copy")
    new = _free(gatling, record, version)
    return gatling.databases.upgrade(databases.cluster(record), new, progress.say, rehearsal=True)


def _free(gatling: Gatling, record: Record, version: int) -> Cluster:
    """A cluster that is not there: an undone upgrade has left its own."""
    generation = record.generation + 1
    while gatling.databases.exists(Cluster(record.name, version, generation)):
        generation += 1
    return Cluster(record.name, version, generation)


def _return(gatling: Gatling, record: Record, new: Cluster) -> None:
    """Use the cluster of before, because the new one does not start."""
    gatling.databases.retire(new)
    former_clusters.failed(gatling.db, record)
    gatling.databases.create(databases.cluster(record), databases.allowed(gatling, record.name))


def _install(
    gatling: Gatling, record: Record, version: int, progress: Progress, *, may_install: bool
) -> None:
    """Have both versions installed; raises InvalidInput and NotAllowed."""
    if version <= record.version:
        raise InvalidInput(f"{record.name} has PostgreSQL {record.version} already.")
    if version in gatling.databases.versions():
        return
    if not gatling.databases.can_install(version):
        found = [one for one in gatling.databases.versions() if one > record.version]
        others = f" This host has {', '.join(map(str, found))}." if found else ""
        raise InvalidInput(
            f"PostgreSQL {version} is not installed, and the package lists of this host do not"
            f" offer it.{others} Nothing was changed.",
            hint="Each release of Debian has one version. The packages of postgresql.org have all:"
            " `sudo /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh`, then"
            f" `sudo apt install postgresql-{version}`.",
        )
    if not may_install:
        raise NotAllowed(
            f"PostgreSQL {version} is not installed on this server, and only an admin may install"
            " it.",
            hint="Ask an admin to upgrade the database.",
        )
    progress.phase(f"Installing PostgreSQL {version}, which this host does not have")
    gatling.databases.install(version, progress.say)
    audit.record(gatling.db, gatling.actor, None, "db install", f"PostgreSQL {version}")
