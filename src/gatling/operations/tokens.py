"""The tokens of the HTTP API."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling import times
from gatling.errors import InvalidInput
from gatling.state import audit
from gatling.state import tokens as state
from gatling.state.keys import Role  # noqa: TC001 (msgspec reads it)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gatling.platform.open import Gatling

DAY = 86400
MAX_DAYS = 366
DEFAULT = "90d"
_SPAN = re.compile(r"([1-9][0-9]{0,3})([hd])", re.ASCII)
_SECONDS = {"h": 3600, "d": DAY}


class TokenEntry(Struct, frozen=True):
    """A token of the HTTP API, without its text."""

    name: str
    role: Role
    apps: list[str]
    """`*` stands for all."""
    created_by: str
    created_at: str
    expires_at: str
    expired: bool
    used_at: str | None
    """When it was last used, to the hour."""


class Created(Struct, frozen=True):
    """A new token."""

    token: str
    """Its text, which is shown this once."""
    entry: TokenEntry


def every(gatling: Gatling) -> list[TokenEntry]:
    """The tokens, by name. Those that have expired stay in the list until they are removed."""
    return [_entry(one) for one in state.every(gatling.db)]


def expiry(text: str) -> str:
    """The time that is so far away: `12h`, `90d`. Raises InvalidInput."""
    span = _SPAN.fullmatch(text)
    seconds = int(span[1]) * _SECONDS[span[2]] if span else 0
    if not 0 < seconds <= MAX_DAYS * DAY:
        raise InvalidInput(
            f"{text!r} is no time until a token expires.",
            hint=f"For example 12h or 90d, and {MAX_DAYS}d at most.",
        )
    return times.stamp_of(time.time() + seconds)


def add(gatling: Gatling, name: str, role: Role, apps: Iterable[str], expires: str) -> Created:
    """Create a token; raises InvalidInput, and then nothing has been changed."""
    until = expiry(expires)
    text = state.add(
        gatling.db, name, role=role, apps=apps, created_by=gatling.actor, expires_at=until
    )
    made = state.get(gatling.db, name)
    detail = f"{name} {role} {','.join(made.apps)} until {until[:10]}"
    audit.record(gatling.db, gatling.actor, None, "tokens add", detail)
    return Created(text, _entry(made))


def remove(gatling: Gatling, name: str) -> None:
    """Remove a token; raises NotFound. The next request with it is refused."""
    removed = state.remove(gatling.db, name)
    audit.record(gatling.db, gatling.actor, None, "tokens remove", f"{name} {removed.role}")


def _entry(token: state.Token) -> TokenEntry:
    return TokenEntry(
        token.name, token.role, list(token.apps), token.created_by, token.created_at,
        token.expires_at, token.expired, token.used_at,
    )  # fmt: skip
