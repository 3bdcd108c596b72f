"""The SSH keys that are let in: whose they are, and what their holders may do."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from gatling.errors import InvalidInput, NotFound
from gatling.times import now

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from gatling.state.database import Database

Role = Literal["admin", "deployer", "reader"]

EVERY_APP = "*"
"""Among the apps of a key: all there are and will be."""

# it stands unquoted in the forced command and in the audit: nothing that a shell or sshd reads
_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}\Z")


class Key(Struct, frozen=True):
    """A public key with the name and the rights of who holds it."""

    name: str
    type: str
    blob: str
    """The key itself, in base64."""
    fingerprint: str
    role: Role
    apps: tuple[str, ...]
    """The apps that it is for; `EVERY_APP` stands for all."""
    created_at: str


def is_name(text: str) -> bool:
    """Whether a key can have this name."""
    return bool(_NAME.match(text))


def add(
    db: Database,
    name: str,
    *,
    kind: str,
    blob: str,
    fingerprint: str,
    role: Role,
    apps: Iterable[str],
) -> Key:
    """Record a key; raises InvalidInput when its name cannot be one, or name or key is taken."""
    with db.transaction(durable=True):
        check_new(db, name, fingerprint)
        db.execute(
            "INSERT INTO keys (name, type, blob, fingerprint, role, apps, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            name,
            kind,
            blob,
            fingerprint,
            role,
            json.dumps(sorted(set(apps))),
            now(),
        )
    return get(db, name)


def check_new(db: Database, name: str, fingerprint: str) -> None:
    """Raise InvalidInput for a name that is not valid, or when name or key is taken."""
    if not is_name(name):
        raise InvalidInput(
            f"{name!r} cannot be a key's name.",
            hint="Use up to 64 lower-case letters, digits and . _ @ -, such as ann@laptop.",
        )
    if db.row("SELECT 1 FROM keys WHERE name = ?", name):
        raise InvalidInput(
            f"There is already a key {name}.", hint=f"`gatling server keys remove {name}`"
        )
    if db.row("SELECT 1 FROM tokens WHERE name = ?", name):
        raise InvalidInput(f"There is a token {name} of the HTTP API.", hint="Choose another name.")
    owner = db.value("SELECT name FROM keys WHERE fingerprint = ?", fingerprint)
    if owner is not None:
        raise InvalidInput(f"This key already exists, as {owner}.")


def remove(db: Database, name: str) -> None:
    """Forget a key; raises NotFound."""
    with db.transaction(durable=True):
        if not db.execute("DELETE FROM keys WHERE name = ?", name):
            raise _unknown(name)


def get(db: Database, name: str) -> Key:
    """The key of that name; raises NotFound."""
    row = db.row("SELECT * FROM keys WHERE name = ?", name)
    if row is None:
        raise _unknown(name)
    return _key(row)


def every(db: Database) -> list[Key]:
    """All keys, by name."""
    return [_key(row) for row in db.rows("SELECT * FROM keys ORDER BY name")]


def _unknown(name: str) -> NotFound:
    return NotFound(f"There is no key {name!r}.", hint="`gatling server keys list` lists them.")


def _key(row: sqlite3.Row) -> Key:
    return Key(
        name=row["name"],
        type=row["type"],
        blob=row["blob"],
        fingerprint=row["fingerprint"],
        role=row["role"],
        apps=tuple(json.loads(row["apps"])),
        created_at=row["created_at"],
    )
