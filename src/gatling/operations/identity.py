"""The person who runs a command, and their permissions."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.state import keys

if TYPE_CHECKING:
    from gatling.platform.open import Gatling


class Identity(Struct, frozen=True):
    """The person who runs a command.

    Without a key they are at the machine and may do everything.
    """

    name: str
    role: str
    apps: list[str]
    """The apps that the key is for; `*` stands for all."""
    fingerprint: str | None
    added_at: str | None
    host: str
    home: str


def who(gatling: Gatling, *, by_key: bool) -> Identity:
    """Identify the caller.

    With `by_key` the command came over SSH; raises NotFound for a removed key.
    """
    key = keys.get(gatling.db, gatling.actor) if by_key else None
    return Identity(
        name=gatling.actor,
        role=key.role if key else "admin",
        apps=list(key.apps) if key and key.role != "admin" else [keys.EVERY_APP],
        fingerprint=key.fingerprint if key else None,
        added_at=key.created_at if key else None,
        host=os.uname().nodename,
        home=str(gatling.home.root),
    )
