"""How HTTPS is with an app: its certificates, the next renewal, and the last error."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec import Struct

from gatling.operations import certificates
from gatling.project import settings
from gatling.runtime import obtaining
from gatling.state import apps, issuance
from gatling.times import stamp_of

if TYPE_CHECKING:
    from gatling.platform.open import Gatling


class Https(Struct, frozen=True):
    """How HTTPS is with an app."""

    app: str
    certificates: list[certificates.Kept]
    without: list[str]
    """Domains that are served over HTTP."""
    unverifiable: list[str]
    """Domains for which no certificate can be obtained, such as those with a `*` without DNS."""
    automatic: bool
    """Whether Gatling obtains certificates for the app."""
    renew_at: str | None
    error: str
    """The error of the last attempt; empty when it succeeded."""
    hint: str
    retry_at: str | None
    problems: list[str] = []
    """Why a home's own authority makes no certificate for some domains."""


def shown(gatling: Gatling, app: str) -> Https:
    """How HTTPS is with an app; raises NotFound."""
    found, now = apps.get(gatling.db, app), time.time()
    kept = gatling.certificates.of(app)
    state = obtaining.trusted(issuance.of_app(gatling.db, app), now)
    current = obtaining.newest(kept)
    account = issuance.account(gatling.db)
    automatic = gatling.certificates.authority() is not None or (
        account is not None and settings.parse(found.effective).certificates.obtain
    )
    own = [one.names for one in kept if not one.obtained and one.not_after >= now]
    means = obtaining.means(gatling.db)
    without = certificates.without(found, kept)
    return Https(
        app,
        certificates.of(gatling, app),
        without,
        [one for one in without if not obtaining.obtainable(one, **means)],
        automatic=automatic
        and not (own and not obtaining.wanted(found.domains, kept, now, **means)),
        renew_at=stamp_of(obtaining.renew_at(current, state)) if current and automatic else None,
        error=state.error,
        hint=state.hint,
        retry_at=stamp_of(max(state.retry_at, state.blocked_until)) if state.error else None,
        problems=gatling.certificates.problems(found),
    )
