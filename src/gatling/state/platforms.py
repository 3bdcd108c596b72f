"""The platforms that apps can be moved to, besides the home itself; their records are secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from gatling import decoding
from gatling.errors import InvalidInput, NotFound
from gatling.times import now

if TYPE_CHECKING:
    import sqlite3

    from gatling.state.database import Database


class Connection(Struct, frozen=True, kw_only=True):
    """How a cluster is reached, and as whom."""

    server: str
    namespace: str
    authority: str = ""
    """The certificates (PEM) that the server is checked by; empty: those of the system."""
    token: str = ""
    certificate: str = ""
    """A client certificate (PEM) in the place of a token, with its key."""
    key: str = ""


class Store(Struct, frozen=True, kw_only=True):
    """A place in a registry, for the images of apps."""

    place: str
    """`registry.example.com/team`: the registry and the start of the repositories."""
    user: str = ""
    password: str = ""
    authority: str = ""
    """The certificates (PEM) that the registry is checked by; empty: those of the system."""


class Platform(Struct, frozen=True, kw_only=True):
    """A cluster."""

    name: str
    cluster: Connection
    registry: Store | None
    added_at: str


def add(db: Database, name: str, cluster: Connection, registry: Store | None) -> None:
    """Record a platform; raises InvalidInput if there is one of that name."""
    values = (msgspec.json.encode(one).decode() for one in (cluster, registry))
    with db.transaction(durable=True):
        if db.value("SELECT 1 FROM platforms WHERE name = ?", name):
            raise InvalidInput(
                f"There is a platform {name} already.",
                hint=f"`gatling platform remove {name}` comes first, or choose another name.",
            )
        db.execute(
            "INSERT INTO platforms (name, cluster, registry, added_at) VALUES (?, ?, ?, ?)",
            name, *values, now(),
        )  # fmt: skip


def remove(db: Database, name: str) -> None:
    """Forget a platform; raises NotFound, and InvalidInput while apps run on it."""
    get(db, name)
    with db.transaction(durable=True):
        used = [row["name"] for row in db.rows("SELECT name FROM apps WHERE platform = ?", name)]
        rows = db.rows("SELECT app, stage FROM moves WHERE platform = ?", name)
        if used:
            raise InvalidInput(
                f"Apps run on the platform {name}: {', '.join(used)}.",
                hint="`gatling move` moves an app, and `gatling unload` removes it.",
            )
        if rows:
            raise InvalidInput(
                f"The platform {name} still has objects of {rows[0]['app']}, which has moved.",
                hint=f"`gatling move {rows[0]['app']} --finish` removes them."
                if rows[0]["stage"] == "serving"
                else f"`gatling recover {rows[0]['app']}` removes them.",
            )
        db.execute("DELETE FROM platforms WHERE name = ?", name)


def get(db: Database, name: str) -> Platform:
    """The platform of that name; raises NotFound."""
    row = db.row("SELECT * FROM platforms WHERE name = ?", name)
    if row is None:
        raise _missing(name)
    return _platform(row)


def every(db: Database) -> list[Platform]:
    """All platforms, by name."""
    return [_platform(row) for row in db.rows("SELECT * FROM platforms ORDER BY name")]


def _platform(row: sqlite3.Row) -> Platform:
    return Platform(
        name=row["name"],
        cluster=decoding.from_json(row["cluster"], Connection),
        registry=decoding.from_json(row["registry"], Store | None),
        added_at=row["added_at"],
    )


def _missing(name: str) -> NotFound:
    return NotFound(
        f"There is no platform {name}.", hint="`gatling platform list` lists those that there are."
    )
