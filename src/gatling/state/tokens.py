"""The tokens of the HTTP API: whose they are, what they permit, and until when.

A token is 256 random bits, so a plain digest of it can be stored: nobody can try so many. The
records, and a backup of them, let nobody in.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.errors import InvalidInput, NotFound
from gatling.state import keys
from gatling.times import now

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from gatling.state.database import Database
    from gatling.state.keys import Role

PREFIX = "gatling_"
"""The beginning of each token, by which scanners of repositories find one."""
LENGTH = len(PREFIX) + 43
"""Characters of a token."""


class Token(Struct, frozen=True):
    """A token without its text, which nobody can know again."""

    name: str
    digest: str
    role: Role
    apps: tuple[str, ...]
    """The apps that it is for; `keys.EVERY_APP` stands for all."""
    created_by: str
    created_at: str
    expires_at: str
    used_at: str | None
    """When it was last used, to the hour."""

    @property
    def expired(self) -> bool:
        """Whether it lets nobody in any more."""
        return self.expires_at <= now()


def digest_of(text: str) -> str:
    """The digest under which a token is recorded."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def add(
    db: Database, name: str, *, role: Role, apps: Iterable[str], created_by: str, expires_at: str
) -> str:
    """Create a token; its text. Raises InvalidInput for a name that is taken or not valid."""
    text = PREFIX + secrets.token_urlsafe(32)
    with db.transaction(durable=True):
        check_new(db, name)
        db.execute(
            "INSERT INTO tokens (name, digest, role, apps, created_by, created_at, expires_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            name, digest_of(text), role, json.dumps(sorted(set(apps))), created_by, now(),
            expires_at,
        )  # fmt: skip
    return text


def check_new(db: Database, name: str) -> None:
    """Raise InvalidInput for a name that is not valid, or that a token or an SSH key has.

    The audit names tokens and keys alike.
    """
    if not keys.is_name(name):
        raise InvalidInput(
            f"{name!r} cannot be a token's name.",
            hint="Use up to 64 lower-case letters, digits and . _ @ -, such as ci@github.",
        )
    if db.row("SELECT 1 FROM tokens WHERE name = ?", name):
        raise InvalidInput(
            f"There is already a token {name}.", hint=f"`gatling tokens remove {name}` removes it."
        )
    if db.row("SELECT 1 FROM keys WHERE name = ?", name):
        raise InvalidInput(f"There is an SSH key {name}.", hint="Choose another name.")


def remove(db: Database, name: str) -> Token:
    """Remove a token, and return what it was; raises NotFound."""
    removed = get(db, name)  # first, as there may be no home to write to
    with db.transaction(durable=True):
        db.execute("DELETE FROM tokens WHERE name = ?", name)
    return removed


def get(db: Database, name: str) -> Token:
    """The token of that name; raises NotFound."""
    row = db.row("SELECT * FROM tokens WHERE name = ?", name)
    if row is None:
        raise NotFound(f"There is no token {name!r}.", hint="`gatling tokens list` lists them.")
    return _token(row)


def find(db: Database, digest: str) -> Token | None:
    """The token with that digest, be it expired or not."""
    row = db.row("SELECT * FROM tokens WHERE digest = ?", digest)
    return None if row is None else _token(row)


def used(db: Database, token: Token) -> None:
    """Record that a token was used, once an hour."""
    hour = f"{now()[:13]}:00:00.000Z"
    if token.used_at != hour:
        with db.transaction():
            db.execute("UPDATE tokens SET used_at = ? WHERE name = ?", hour, token.name)


def every(db: Database) -> list[Token]:
    """All tokens, by name."""
    return [_token(row) for row in db.rows("SELECT * FROM tokens ORDER BY name")]


def _token(row: sqlite3.Row) -> Token:
    values = dict(row)
    values["apps"] = tuple(json.loads(values["apps"]))
    return Token(**values)
