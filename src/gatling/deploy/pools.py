"""The pool of connections of an app: which config has its URL, and whether it runs.

A release is deployed with its config, so an earlier one may come back with the URL of a pool. A
pool therefore runs as long as the config of any retained release names it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gatling.errors import GatlingError
from gatling.platform.postgres import pooler
from gatling.state import config, databases, pools

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gatling.platform.open import Gatling


def used(gatling: Gatling, app: str, values: Mapping[str, str]) -> dict[str, str]:
    """The databases that an app with this config uses through its pool, with the variables."""
    named = {url: database for database, url in _urls(gatling, app).items()}
    return {named[value]: name for name, value in values.items() if value in named}


def follow(
    gatling: Gatling,
    app: str,
    changes: Mapping[str, str | None],
    values: Mapping[str, str] | None = None,
) -> dict[str, str | None]:
    """Changes of a config, with those of the URLs of the pool that have to follow them.

    A variable must not have the URL of the pool for another database, or for one that is not
    Gatling's. `values` is the config that is changed, by default that of the app. The pool runs
    with all databases of the app then; raises as `settle` does.
    """
    found, uses = dict(changes), databases.attachments(gatling.db, app=app)
    if not uses:
        return found
    values = config.of_app(gatling.db, app) if values is None else values
    urls = _urls(gatling, app)
    for variable, value in changes.items():
        name = pooler.variable(variable)
        if name not in changes and values.get(name) in urls.values():
            found[name] = next(
                (urls[use.database] for use in uses
                 if gatling.databases.url(app, use.database) == value), None,
            )  # fmt: skip
    if any(found[name] for name in found.keys() - changes.keys()):
        settle(gatling, app)
    return found


def direct(gatling: Gatling, app: str, values: Mapping[str, str]) -> dict[str, str]:
    """A config whose URLs of the pool are those of the databases themselves.

    Migrations need sessions of their own: for their locks, and for settings that they change.
    """
    urls = {
        url: gatling.databases.url(app, database) for database, url in _urls(gatling, app).items()
    }
    return {name: urls.get(value, value) for name, value in values.items()}


def settle(gatling: Gatling, app: str) -> None:
    """Have the pool of an app run with all of its databases, or not run where none is needed.

    Raises InvalidInput without PgBouncer, and CommandFailed.
    """
    found = [use.database for use in databases.attachments(gatling.db, app=app)]
    if found and _is_needed(gatling, app):
        gatling.pools.set(app, found, pools.size(gatling.db, app) or pooler.SIZE)
    elif gatling.pools.exists(app):
        gatling.pools.remove(app)


def settled(gatling: Gatling, app: str) -> list[str]:
    """The same where nothing may be raised; the failure, in words."""
    try:
        settle(gatling, app)
    except GatlingError as error:
        return [f"the connection pool of {app}: {error.what}"]
    return []


def retire(gatling: Gatling, app: str) -> None:
    """Stop the pool of an app once no release is left that uses it."""
    if databases.attachments(gatling.db, app=app) and not _is_needed(gatling, app):
        settle(gatling, app)


def _is_needed(gatling: Gatling, app: str) -> bool:
    if pools.size(gatling.db, app) is not None:
        return True
    urls = set(_urls(gatling, app).values())
    rows = gatling.db.rows("SELECT config FROM releases WHERE app = ? AND removed_at IS NULL", app)
    configs = [config.of_app(gatling.db, app), *(json.loads(row["config"]) for row in rows)]
    return any(value in urls for values in configs for value in values.values())


def _urls(gatling: Gatling, app: str) -> dict[str, str]:
    """The URLs of the pool, by the databases that the app may use."""
    uses = databases.attachments(gatling.db, app=app)
    return {use.database: gatling.pools.url(app, use.database) for use in uses}
