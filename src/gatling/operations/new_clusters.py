"""A new database with the data of another one: restored from a backup, or forked."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from gatling.cleanup import cleaning
from gatling.errors import GatlingError, InvalidInput
from gatling.operations import databases
from gatling.paths import exclusively
from gatling.platform.postgres.clusters import Cluster
from gatling.state import databases as records

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatling.platform.open import Gatling
    from gatling.state.databases import Begun, Record

T = TypeVar("T")


def make(
    gatling: Gatling,
    want: databases.Wanted,
    source: Record,
    kind: Begun,
    fill: Callable[[Cluster], T],
) -> T:
    """Record a new database, have `fill` make its cluster, and let the app use it.

    The record says that it is incomplete until it is complete, so that nothing takes it for another
    one, and the same call completes what was killed. Raises InvalidInput for a name that is taken,
    and what `fill` raises; then nothing is left.
    """
    _begin(gatling, want, source, kind)
    cluster = Cluster(want.name, source.version)
    try:
        found = fill(cluster)
    except GatlingError as error:
        with cleaning(error):  # the record stays as long as something of the database may be left
            gatling.databases.remove(cluster, "")
            records.forget(gatling.db, want.name)
        raise
    with exclusively(gatling.home, "databases"):
        record = records.find(gatling.db, want.name)
        if record is None or record.begun != kind:
            raise InvalidInput(f"{want.name} was removed before it was complete.")
        gatling.databases.create(cluster, databases.allowed(gatling, want.name))
        records.mark(gatling.db, want.name, "ready")
    return found


def _begin(gatling: Gatling, want: databases.Wanted, source: Record, kind: Begun) -> None:
    hint = "Choose another name" + (" with `--as`." if kind == records.RESTORING else ".")
    with exclusively(gatling.home, "databases"):
        record = records.find(gatling.db, want.name)
        if record is None:
            if gatling.databases.exists(Cluster(want.name, source.version)):
                raise InvalidInput(
                    f"A database {want.name} that was not created here is on this host."
                    " Nothing was changed.",
                    hint=hint,
                )
            databases.check_variable(gatling, want)
            records.add(gatling.db, want.name, want.app, source.version, want.variable, kept=kind)
        elif record.begun != kind or record.app != want.app:
            raise InvalidInput(
                f"The name {want.name} is taken by another database. Nothing was changed.",
                hint=hint,
            )
