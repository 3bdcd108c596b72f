"""Databases of apps: creating, sharing and showing them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from gatling import names
from gatling.cleanup import cleaning
from gatling.deploy import pools
from gatling.errors import CommandFailed, DiskFull, InvalidInput, NotAllowed, NotFound
from gatling.operations import config as variables
from gatling.operations import lifecycle
from gatling.paths import exclusively
from gatling.platform.base import run_mark
from gatling.platform.postgres import health, pooler
from gatling.platform.postgres.clusters import Cluster, Facts
from gatling.state import apps, audit, config, databases, forks, former_clusters
from gatling.state import pools as sizes
from gatling.state.databases import Attachment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gatling.platform.base import Task
    from gatling.platform.open import Gatling
    from gatling.state.databases import Access, Record
    from gatling.ui.progress import Progress

VARIABLE = databases.MAIN
_BEGUN = {"restoring": ("restored", "restore"), "forking": ("forked", "fork")}
"""The words for what has begun, and the command that completes it."""


class Wanted(Struct, frozen=True):
    """A database that is to be created, or used by a further app, and the variable with its URL."""

    app: str
    name: str
    variable: str
    replace: bool = False
    """Whether a variable that has another value is changed."""
    restart: bool = True


class Done(Struct, frozen=True):
    """The result of `create` and `attach`."""

    database: str
    app: str
    variable: str
    version: int
    access: Access
    changed: bool


class Pool(Struct, frozen=True):
    """The pool of connections of an app."""

    app: str
    variable: str
    """The config variable with its URL."""
    size: int
    """Connections that it opens at most."""


class DatabaseEntry(Struct, frozen=True):
    """A database."""

    name: str
    app: str | None
    version: int
    generation: int
    state: str
    created_at: str
    used_by: list[Attachment]
    facts: Facts | None = None
    """None where they were not asked for."""
    faults: list[health.Fault] = []
    """The faults that they show, each with advice."""
    fork_of: str = ""
    """The database that it is a fork of; empty: it is none."""
    earlier: list[former_clusters.Former] = []
    """Stopped clusters of it that upgrades have kept."""
    pools: list[Pool] = []
    """The pools of connections through which apps use it."""


def wanted(
    app: str, name: str | None, variable: str | None, *, replace: bool = False, restart: bool = True
) -> Wanted:
    """A database of an app by the names that were given, or the usual ones.

    Raises InvalidInput for names that cannot be.
    """
    database = names.app_name(name or app)
    usual = VARIABLE if database == app else f"{database.replace('-', '_').upper()}_{VARIABLE}"
    return Wanted(app, database, names.variable(variable or usual), replace, restart)


def create(
    gatling: Gatling,
    want: Wanted,
    progress: Progress,
    *,
    version: int | None = None,
    may_install: bool = True,
) -> Done:
    """Create a database for an app, or complete a creation that was killed.

    Raises InvalidInput for a name or a variable that is taken, NotAllowed where PostgreSQL is
    missing and the user may not install it, and as the platform does; then the same call goes on.
    """
    apps.get(gatling.db, want.app)
    gatling.databases.check(want.name)
    lifecycle.ensure_up(gatling, progress)
    with exclusively(gatling.home, "databases"):
        record = databases.find(gatling.db, want.name)
        if record is not None:
            _check_same(record, want, version)
        check_variable(gatling, want)
        if record is None:
            chosen = installed(gatling, version, progress, may_install=may_install)
            progress.phase(f"Creating the database {want.name} (PostgreSQL {chosen})")
            databases.add(gatling.db, want.name, want.app, chosen, want.variable)
            record = databases.get(gatling.db, want.name)
        elif databases.attachments(gatling.db, database=want.name, app=want.app) == []:
            databases.attach(gatling.db, Attachment(want.name, want.app, want.variable, "write"))
        changed = record.state == "creating" or not gatling.databases.exists(cluster(record))
        if changed:  # a restored home may lack the cluster and the version
            installed(gatling, record.version, progress, may_install=may_install)
        _make(gatling, record)
        if record.state == "creating":
            databases.mark(gatling.db, want.name, "ready")
            detail = f"{want.name} (PostgreSQL {record.version})"
            audit.record(gatling.db, gatling.actor, want.app, "db create", detail)
    changed = _set(gatling, want, progress) or changed
    return Done(want.name, want.app, want.variable, record.version, "write", changed)


def attach(gatling: Gatling, want: Wanted, access: Access, progress: Progress) -> Done:
    """Let a further app use a database; raises InvalidInput and NotFound as `create` does."""
    apps.get(gatling.db, want.app)
    with exclusively(gatling.home, "databases"):
        record = _ready(gatling, want.name)
        check_variable(gatling, want)
        before = databases.attachments(gatling.db, database=want.name)
        use = Attachment(want.name, want.app, want.variable, access)
        databases.attach(gatling.db, use)
        if record.app is None:
            databases.give(gatling.db, want.name, want.app)
        gatling.databases.allow(cluster(record), allowed(gatling, want.name))
        if use not in before:
            audit.record(gatling.db, gatling.actor, want.app, "db attach", f"{want.name} {access}")
    changed = _set(gatling, want, progress) or use not in before
    return Done(want.name, want.app, want.variable, record.version, access, changed)


def detach(
    gatling: Gatling, app: str, name: str | None, progress: Progress, *, restart: bool = True
) -> str:
    """Let an app no longer use a database, which stays; the database's name.

    Raises NotFound for a database that the app does not use, and what a deployment raises.
    """
    use = use_of(gatling, app, name)
    url = gatling.databases.url(app, use.database)
    if config.of_app(gatling.db, app).get(use.variable) == url:
        variables.change(
            gatling, app, {use.variable: None}, progress=progress, restart=restart
        )  # fmt: skip
    with exclusively(gatling.home, "databases"):
        _leave(gatling, use)
        for problem in pools.settled(gatling, app):
            progress.say(problem)
        audit.record(gatling.db, gatling.actor, app, "db detach", use.database)
    return use.database


def leave(gatling: Gatling, app: str) -> list[str]:
    """Close all databases to an app that is being removed; those that stay without an app."""
    with exclusively(gatling.home, "databases"):
        for use in databases.attachments(gatling.db, app=app):
            _leave(gatling, use)
        pools.settle(gatling, app)
    return of_app(gatling, app)


def find(gatling: Gatling, app: str, name: str | None) -> str:
    """The database of an app that another one is to use; also one whose app was removed.

    Raises NotFound and InvalidInput.
    """
    left = [record.name for record in databases.every(gatling.db) if record.app is None]
    if (name or app) in left:
        return name or app
    return chosen(gatling, app, name).name


def of_app(gatling: Gatling, app: str) -> list[str]:
    """The names of the databases that were created for an app."""
    return [record.name for record in databases.every(gatling.db) if record.app == app]


def every(gatling: Gatling, may_see: Callable[[str], bool]) -> list[DatabaseEntry]:
    """The databases of the apps that the caller may see, without their facts.

    A database without an app is for those who may see all apps, which an empty name stands for.
    """
    found = [visible(_shown(gatling, one), may_see) for one in databases.every(gatling.db)]
    return [one for one in found if one.app or one.used_by or may_see("")]


def visible(one: DatabaseEntry, may_see: Callable[[str], bool]) -> DatabaseEntry:
    """A database without the apps that the caller may not see."""
    app = one.app if one.app and may_see(one.app) else None
    used_by = [use for use in one.used_by if may_see(use.app)]
    shown = [pool for pool in one.pools if may_see(pool.app)]
    return structs.replace(one, app=app, used_by=used_by, pools=shown)


def info(gatling: Gatling, app: str, name: str | None) -> DatabaseEntry:
    """A database that an app uses, or that was created for it."""
    return by_name(gatling, chosen(gatling, app, name).name)


def by_name(gatling: Gatling, name: str) -> DatabaseEntry:
    """A database with its facts, for a caller who may see it; raises NotFound."""
    record = databases.get(gatling.db, name)
    facts = gatling.databases.facts(cluster(record)) if record.state == "ready" else None
    return _shown(gatling, record, facts)


def shell(gatling: Gatling, app: str, name: str | None, words: Sequence[str]) -> Task:
    """psql in a database that an app uses, with the app's rights."""
    use = use_of(gatling, app, name)
    record = _ready(gatling, use.database)
    audit.record(gatling.db, gatling.actor, app, "db psql", use.database)
    task = gatling.databases.shell(app, cluster(record), words)
    return structs.replace(task, mark=run_mark(task.paths, os.urandom(8).hex()))


def chosen(gatling: Gatling, app: str, name: str | None) -> Record:
    """A database that an app uses, or that was created for it.

    Raises NotFound and InvalidInput.
    """
    apps.get(gatling.db, app)
    used = [use.database for use in databases.attachments(gatling.db, app=app)]
    return databases.get(
        gatling.db, _choose(gatling, app, name, list(dict.fromkeys([*used, *of_app(gatling, app)])))
    )


def ready(gatling: Gatling, app: str, name: str | None) -> Record:
    """The database that `chosen` gives; raises InvalidInput as well where it is not complete."""
    return _ready(gatling, chosen(gatling, app, name).name)


def allowed(gatling: Gatling, database: str) -> dict[str, str]:
    """The apps that use a database, with what they may do."""
    found = databases.attachments(gatling.db, database=database)
    return {use.app: use.access for use in found}


def cluster(record: Record) -> Cluster:
    """The cluster that a database stands for."""
    return Cluster(record.name, record.version, record.generation)


def _make(gatling: Gatling, record: Record) -> None:
    """Create a cluster; the record of one that could not be begun is removed."""
    try:
        gatling.databases.create(cluster(record), allowed(gatling, record.name))
    except (InvalidInput, DiskFull) as error:
        with cleaning(error):
            if record.state == "creating" and not gatling.databases.exists(cluster(record)):
                databases.forget(gatling.db, record.name)
        raise


def installed(
    gatling: Gatling, version: int | None, progress: Progress, *, may_install: bool
) -> int:
    """The version for a new database: the one that is asked for, or the newest; installed."""
    found = gatling.databases.versions()
    if version in found or (version is None and found):
        return version or found[0]
    if not may_install:
        raise NotAllowed(
            "PostgreSQL is not installed on this server, and only an admin may install it.",
            hint="Ask an admin to create the first database.",
        )
    offered = version or gatling.databases.offered()
    progress.phase(
        f"Installing PostgreSQL{f' {offered}' if offered else ''}, which this host does not have"
    )
    gatling.databases.install(version, progress.say)
    found = gatling.databases.versions()
    if not found or (version is not None and version not in found):
        raise CommandFailed(
            f"PostgreSQL {version or ''} is still not installed.".replace("  ", " ")
        )
    audit.record(gatling.db, gatling.actor, None, "db install", f"PostgreSQL {version or found[0]}")
    return version or found[0]


def _check_same(record: Record, want: Wanted, version: int | None) -> None:
    if record.app != want.app:
        raise InvalidInput(
            f"The name {want.name} is taken by another database.",
            hint=f"Choose a name: `gatling db create {want.app} --name NAME`.",
        )
    if record.begun:
        done, verb = _BEGUN[record.begun]
        raise InvalidInput(
            f"{want.name} is being {done}.", hint=f"The same `gatling db {verb}` completes it."
        )
    if record.state == "removing":
        raise InvalidInput(
            f"{want.name} is being removed.", hint=f"`gatling db destroy {want.app}` completes it."
        )
    if version not in (None, record.version):
        raise InvalidInput(f"{want.name} exists, with PostgreSQL {record.version}.")


def check_variable(gatling: Gatling, want: Wanted) -> None:
    """Raise InvalidInput for a variable that has another value, unless that is to be replaced."""
    value = config.of_app(gatling.db, want.app).get(want.variable)
    if value in (None, gatling.databases.url(want.app, want.name)) or want.replace:
        return
    raise InvalidInput(
        f"{want.app} has a variable {want.variable} already. Nothing was changed.",
        hint="Use `--as NAME` for another variable, or `--replace` to change this one.",
    )


def _set(gatling: Gatling, want: Wanted, progress: Progress) -> bool:
    url = gatling.databases.url(want.app, want.name)
    return variables.change(
        gatling, want.app, {want.variable: url}, progress=progress, restart=want.restart
    )


def _leave(gatling: Gatling, use: Attachment) -> None:
    record = databases.get(gatling.db, use.database)
    left = {app: kind for app, kind in allowed(gatling, use.database).items() if app != use.app}
    if record.state != "removing" and gatling.databases.exists(cluster(record)):
        gatling.databases.allow(cluster(record), left)
    databases.detach(gatling.db, use.database, use.app)


def _ready(gatling: Gatling, name: str) -> Record:
    record = databases.get(gatling.db, name)
    if record.state != "ready":
        word = "created" if record.state == "creating" else "removed"
        verb = "create" if record.state == "creating" else "destroy"
        if record.begun:
            word, verb = _BEGUN[record.begun]
        raise InvalidInput(
            f"{name} is still being {word}.",
            hint=f"`gatling db {verb} {record.app or name}` completes it.",
        )
    return record


def use_of(gatling: Gatling, app: str, name: str | None) -> Attachment:
    """The use of a database by an app: the named one, that of DATABASE_URL, or the only one.

    Raises NotFound, and InvalidInput where there are several.
    """
    apps.get(gatling.db, app)
    found = {use.database: use for use in databases.attachments(gatling.db, app=app)}
    return found[_choose(gatling, app, name, list(found))]


def _choose(gatling: Gatling, app: str, name: str | None, found: list[str]) -> str:
    if name is not None and name in found:
        return name
    if name is not None or not found:
        raise NotFound(
            f"{app} has no database{f' {name}' if name else ''}.",
            hint=f"`gatling db create {app}` creates one.",
        )
    used = databases.attachments(gatling.db, app=app)
    main = [use.database for use in used if use.variable == VARIABLE]
    usual = [one for one in (*main, app) if one in found]
    if usual or len(found) == 1:
        return (usual or found)[0]
    raise InvalidInput(
        f"{app} uses {len(found)} databases.", hint=f"Name one of them: {', '.join(found)}."
    )


def _shown(gatling: Gatling, record: Record, facts: Facts | None = None) -> DatabaseEntry:
    wrong = [] if facts is None else health.faults(record.name, record.app or record.name, facts)
    return DatabaseEntry(
        record.name, record.app, record.version, record.generation,
        record.begun or record.state,
        record.created_at, databases.attachments(gatling.db, database=record.name), facts, wrong,
        fork.source if (fork := forks.find(gatling.db, record.name)) else "",
        former_clusters.of(gatling.db, record.name), list(_pools(gatling, record.name)),
    )  # fmt: skip


def _pools(gatling: Gatling, database: str) -> Iterator[Pool]:
    """The pools through which apps use a database."""
    for use in databases.attachments(gatling.db, database=database):
        values = config.of_app(gatling.db, use.app)
        if variable := pools.used(gatling, use.app, values).get(database):
            size = sizes.size(gatling.db, use.app) or pooler.SIZE
            yield Pool(use.app, variable, size)
