"""Forks of databases: new ones with the data of now, which may be removed without a copy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling import names
from gatling.errors import GatlingError, InvalidInput, NotFound
from gatling.operations import config as variables
from gatling.operations import databases, destroying, new_clusters
from gatling.paths import exclusively
from gatling.platform.postgres.clusters import Cluster
from gatling.platform.postgres.sites import ForkWish
from gatling.state import audit, config, former_clusters
from gatling.state import databases as records
from gatling.state import forks as forked

if TYPE_CHECKING:
    from gatling.platform.open import Gatling
    from gatling.platform.postgres.sites import Forked
    from gatling.state.databases import Record
    from gatling.state.forks import Fork
    from gatling.ui.progress import Progress

MOST = 5
"""Forks that an app may have: each is a cluster that runs, with memory of its own."""
SCRIPT_BYTES = 100_000
"""Bytes of a script as JSON: it is an argument of a program (execve(2), MAX_ARG_STRLEN)."""


class Done(Struct, frozen=True):
    """A fork that was made."""

    database: str
    source: str
    app: str
    variable: str
    """The config variable with its URL."""
    how: str
    """`clone` (copy-on-write), `copy` or `schema`."""
    scrubbed: bool
    tables: int
    bytes: int
    """The size of the database that it was forked from."""
    copy_seconds: float
    scrub_seconds: float


class Shown(Struct, frozen=True):
    """A fork."""

    database: str
    source: str
    app: str | None
    how: str
    scrubbed: bool
    state: str
    created_at: str
    bytes: int | None
    """Its size; None while it does not run."""


def fork(
    gatling: Gatling,
    app: str,
    new: str,
    name: str | None,
    progress: Progress,
    *,
    schema_only: bool = False,
    scrub: str = "",
) -> Done:
    """Fork a database of an app, and give the app its URL in a variable of its own.

    Raises InvalidInput for a name that is taken, too many forks and a script that is too long or
    fails, and as the platform does. A fork that was killed is made again by the same call.
    """
    wish = ForkWish(app, schema_only, scrub)
    want, source, found = make(gatling, app, new, name, wish, progress)
    url = gatling.databases.url(app, want.name)
    variables.change(gatling, app, {want.variable: url}, progress=progress, restart=False)
    return Done(
        want.name, source.name, app, want.variable, found.how, bool(scrub), found.tables,
        found.bytes, found.copy_seconds, found.scrub_seconds,
    )  # fmt: skip


def make(
    gatling: Gatling, app: str, new: str, name: str | None, wish: ForkWish, progress: Progress
) -> tuple[databases.Wanted, Record, Forked]:
    """Fork a database, without changing the config of the app; raises as `fork` does."""
    source = databases.ready(gatling, app, name)
    want = databases.wanted(app, new, None)
    gatling.databases.check(want.name)
    if len(json.dumps(wish.scrub)) > SCRIPT_BYTES or "\0" in wish.scrub:
        raise InvalidInput(
            f"The script is longer than {SCRIPT_BYTES // 1000} kB, or is not a text. Nothing was"
            " changed."
        )
    with exclusively(gatling.home, f"restore-{want.name}"):
        if records.find(gatling.db, want.name) is None:
            _check_number(gatling, app)

        def fill(cluster: Cluster) -> Forked:
            forked.record(gatling.db, forked.Fork(want.name, source.name, "", bool(wish.scrub)))
            progress.phase(f"Forking {source.name} as the database {want.name}")
            return gatling.databases.fork(
                cluster, databases.cluster(source), databases.allowed(gatling, source.name), wish,
                progress.say,
            )  # fmt: skip

        found = new_clusters.make(gatling, want, source, records.FORKING, fill)
        forked.record(gatling.db, forked.Fork(want.name, source.name, found.how, bool(wish.scrub)))
    audit.record(gatling.db, gatling.actor, app, "db fork", f"{want.name} of {source.name}")
    return want, source, found


def every(gatling: Gatling, app: str | None = None) -> list[Shown]:
    """The forks of an app's databases, or all forks, with their sizes."""
    return [_shown(gatling, record, fork) for record, fork in _records(gatling)
            if app in (None, record.app)]  # fmt: skip


def check(gatling: Gatling, app: str, name: str) -> str:
    """The name of a fork that may be removed without a copy.

    Raises NotFound, and InvalidInput where an app uses it as its main database.
    """
    database = names.app_name(name)
    for record, fork in _records(gatling):
        if fork.database == database and record.app == app:
            for use in records.attachments(gatling.db, database=database):
                values = config.of_app(gatling.db, use.app)
                main = use.variable == databases.VARIABLE
                if main and values.get(use.variable) == gatling.databases.url(use.app, database):
                    raise InvalidInput(
                        f"{use.app} uses {database} as its {databases.VARIABLE}.",
                        hint=f"`gatling db destroy {app} --name {database}` keeps a last copy.",
                    )
            return database
    raise NotFound(f"{app} has no fork {database}.", hint="`gatling db forks` lists the forks.")


def destroy(gatling: Gatling, app: str, name: str, progress: Progress) -> str:
    """Remove a fork, without a copy; raises as `check` does."""
    database = check(gatling, app, name)
    with exclusively(gatling.home, f"upgrade-{database}"), exclusively(gatling.home, "databases"):
        database = check(gatling, app, name)
        record = records.get(gatling.db, database)
        progress.phase(f"Removing the fork {database}")
        destroying.remove_earlier(gatling, database, "", progress)
        gatling.databases.remove(databases.cluster(record), "")
        for use in records.attachments(gatling.db, database=database):
            values = config.of_app(gatling.db, use.app)
            if values.get(use.variable) == gatling.databases.url(use.app, database):
                variables.change(
                    gatling, use.app, {use.variable: None}, progress=progress, restart=False
                )
        records.forget(gatling.db, database)
        audit.record(gatling.db, gatling.actor, app, "db fork", f"{database} removed")
    return database


def own(gatling: Gatling, record: Record) -> None:
    """Take a fork for a database like others: an app's main one is not removed without a copy."""
    if forked.find(gatling.db, record.name) is not None:
        former = former_clusters.of(gatling.db, record.name)
        clusters = [Cluster(one.database, one.version, one.generation) for one in former]
        for cluster in (databases.cluster(record), *clusters):
            if gatling.databases.exists(cluster):
                gatling.databases.own(cluster)
        forked.forget(gatling.db, record.name)


def _check_number(gatling: Gatling, app: str) -> None:
    own = [fork.database for record, fork in _records(gatling) if record.app == app]
    if len(own) >= MOST:
        raise InvalidInput(
            f"{app} has {len(own)} forks: {', '.join(own)}. More than {MOST} are not made.",
            hint=f"Remove one: gatling db fork {app} {own[0]} --destroy",
        )


def _records(gatling: Gatling) -> list[tuple[Record, Fork]]:
    found = {record.name: record for record in records.every(gatling.db)}
    return [(found[fork.database], fork) for fork in forked.every(gatling.db)]


def _shown(gatling: Gatling, record: Record, fork: Fork) -> Shown:
    size = None
    if record.state == "ready":
        try:
            size = gatling.databases.facts(databases.cluster(record)).bytes
        except GatlingError:  # it does not run
            size = None
    return Shown(
        record.name, fork.source, record.app, fork.how, fork.scrubbed, record.begun or record.state,
        record.created_at, size,
    )  # fmt: skip
