"""The audit: the typed result behind `gatling audit`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.state import audit

if TYPE_CHECKING:
    from gatling.platform.open import Gatling


class AuditEntry(Struct, frozen=True):
    """A change of state, with its time and its author."""

    at: str
    actor: str
    app: str | None
    action: str
    detail: str


def latest(gatling: Gatling, app: str | None) -> list[AuditEntry]:
    """The newest entries first: of one app, which may exist no longer, or all."""
    return [
        AuditEntry(one.at, one.actor, one.app, one.action, one.detail)
        for one in audit.latest(gatling.db, app)
    ]
