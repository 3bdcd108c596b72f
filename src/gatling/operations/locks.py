"""A deployment lock: while an app has one, its live release stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.errors import InvalidInput
from gatling.state import apps, audit, locks

if TYPE_CHECKING:
    from gatling.platform.open import Gatling
    from gatling.state.locks import Lock

MAX_REASON = 200


def lock(gatling: Gatling, app: str, reason: str) -> Lock:
    """Refuse deployments of an app from now on. A deployment in progress is not stopped.

    Raises NotFound, or InvalidInput when the app is locked already.
    """
    if len(reason) > MAX_REASON or not reason.isprintable():
        raise InvalidInput(f"A reason is one line of up to {MAX_REASON} characters.")
    apps.get(gatling.db, app)
    made = locks.put(gatling.db, app, gatling.actor, reason)
    audit.record(gatling.db, gatling.actor, app, "lock", reason)
    return made


def unlock(gatling: Gatling, app: str) -> Lock:
    """Allow deployments of an app again; the lock it had. Raises NotFound."""
    apps.get(gatling.db, app)
    held = locks.remove(gatling.db, app)
    audit.record(gatling.db, gatling.actor, app, "unlock", locks.describe(held))
    return held
