"""Releases: what was built, from which commit, with which config; also those no longer kept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct, field

from gatling.errors import NotFound
from gatling.times import now

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from gatling.state.database import Database

Origin = Literal["build", "config"]
_COLUMNS = ("app", "number", "origin", "base", "commit_id", "name", "version", "elixir", "otp",
            "bytes", "created_at", "removed_at")  # fmt: skip
_LISTED = f"SELECT {', '.join(_COLUMNS)} FROM releases WHERE app = ? ORDER BY number DESC"  # noqa: S608


class Summary(Struct, frozen=True):
    """A release without its config and settings, which may be long."""

    app: str
    number: int
    origin: Origin
    base: int | None
    """The release whose tree a change of config took over."""
    commit: str
    name: str
    """The OTP release's name: what stands in bin/."""
    version: str
    elixir: str
    otp: str
    bytes: int
    created_at: str
    removed_at: str | None

    @property
    def label(self) -> str:
        """`v7`."""
        return f"v{self.number}"


class Release(Summary, frozen=True):
    """One release: an immutable tree, and the config that it runs with."""

    config: dict[str, str]
    manifest: dict[str, str] = field(default_factory=dict)
    """Settings that its source has in gatling.toml."""
    image: str = ""
    """Its image in a registry, with the digest; empty where none was pushed."""
    base_image: str = ""
    """The image below its own layers, with the digest; empty: this machine's distribution."""


def next_number(db: Database, app: str) -> int:
    """The number that the next release of the app gets; numbers are never used twice."""
    highest: int = db.value("SELECT coalesce(max(number), 0) FROM releases WHERE app = ?", app)
    return highest + 1


def add(db: Database, release: Release) -> None:
    """Record a release whose tree is in the store."""
    with db.transaction():
        db.execute(
            "INSERT INTO releases (app, number, origin, base, commit_id, name, version, elixir,"
            " otp, config, bytes, created_at, removed_at, manifest, image, base_image)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            release.app,
            release.number,
            release.origin,
            release.base,
            release.commit,
            release.name,
            release.version,
            release.elixir,
            release.otp,
            json.dumps(release.config),
            release.bytes,
            release.created_at,
            release.removed_at,
            json.dumps(release.manifest),
            release.image,
            release.base_image,
        )


def set_image(db: Database, app: str, number: int, image: str, base: str = "") -> None:
    """Record the image of a release, once a registry has it, and the image that it is based on."""
    with db.transaction():
        db.execute(
            "UPDATE releases SET image = ?, base_image = ? WHERE app = ? AND number = ?",
            image, base, app, number,
        )  # fmt: skip


def images(db: Database, app: str, *, retained: bool) -> dict[int, str]:
    """The images of the releases that are retained, or of those that are not, by number."""
    rows = db.rows(
        "SELECT number, image, removed_at FROM releases WHERE app = ? AND image != ''", app
    )
    return {row["number"]: row["image"] for row in rows if (row["removed_at"] is None) is retained}


def get(db: Database, app: str, number: int) -> Release:
    """The release of that number, kept or not; raises NotFound."""
    row = db.row("SELECT * FROM releases WHERE app = ? AND number = ?", app, number)
    if row is None:
        raise NotFound(f"{app} has no release v{number}.", hint=f"See `gatling releases {app}`.")
    return _release(row)


def kept(db: Database, app: str, number: int) -> Release:
    """As `get`, and NotFound too when its tree has been removed."""
    release = get(db, app, number)
    if release.removed_at is not None:
        raise NotFound(
            f"Release v{number} of {app} is no longer retained (removed"
            f" {release.removed_at[:10]}).",
            hint=f"`gatling deploy {app} {release.commit[:12]}` builds its commit again.",
        )
    return release


def every(db: Database, app: str) -> list[Summary]:
    """All releases of an app, the newest first."""
    rows = db.rows(_LISTED, app)
    return [Summary(**_listed(row)) for row in rows]


def newest_kept(db: Database, app: str, commit: str | None = None) -> Release | None:
    """The newest release that is still kept; with `commit`, of those built from it."""
    row = db.row(
        "SELECT * FROM releases WHERE app = ? AND removed_at IS NULL"
        " AND commit_id = coalesce(?, commit_id) ORDER BY number DESC LIMIT 1",
        app,
        commit,
    )
    return None if row is None else _release(row)


def number_before(db: Database, app: str, number: int) -> int | None:
    """The number of the release that was built before this one; None for the first."""
    before: int | None = db.value(
        "SELECT max(number) FROM releases WHERE app = ? AND number < ?", app, number
    )
    return before


def unknown(db: Database, app: str, labels: Iterable[str]) -> set[str]:
    """Those of the labels, such as `v7`, that no release of the app has or had."""
    rows = db.rows(
        "SELECT 'v' || number AS label FROM releases WHERE app = ?1"
        " AND label IN (SELECT value FROM json_each(?2))",
        app,
        json.dumps(list(labels)),
    )
    return set(labels) - {row["label"] for row in rows}


def kept_versions(db: Database, app: str) -> list[str]:
    """The versions of an app's releases that are still kept, the newest first."""
    rows = db.rows(
        "SELECT version FROM releases WHERE app = ? AND removed_at IS NULL ORDER BY number DESC",
        app,
    )
    return [row["version"] for row in rows]


def kept_settings(db: Database, app: str) -> set[str]:
    """The names of the settings that any release that is still kept has in gatling.toml."""
    rows = db.rows("SELECT manifest FROM releases WHERE app = ? AND removed_at IS NULL", app)
    return {name for row in rows for name in json.loads(row["manifest"])}


def kept_commits(db: Database, app: str) -> dict[int, str]:
    """The commits of an app's releases that are still kept, by number."""
    rows = db.rows(
        "SELECT number, commit_id FROM releases WHERE app = ? AND removed_at IS NULL", app
    )
    return {row["number"]: row["commit_id"] for row in rows}


def mark_removed(db: Database, app: str, number: int) -> None:
    """Record that the tree is no longer kept. Its config, which may hold secrets, goes as well."""
    with db.transaction(durable=True):  # the tree goes next; a power cut must not bring it back
        db.execute(
            "UPDATE releases SET removed_at = ?, config = '{}' WHERE app = ? AND number = ?",
            now(),
            app,
            number,
        )


def _release(row: sqlite3.Row) -> Release:
    config, manifest = json.loads(row["config"]), json.loads(row["manifest"])
    return Release(
        **_listed(row), config=config, manifest=manifest, image=row["image"],
        base_image=row["base_image"],
    )  # fmt: skip


def _listed(row: sqlite3.Row) -> dict[str, Any]:
    return {"commit" if name == "commit_id" else name: row[name] for name in _COLUMNS}
