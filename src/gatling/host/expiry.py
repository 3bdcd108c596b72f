"""Certificates that have expired, will soon, or could not be obtained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.proxy import certificates
from gatling.times import day, stamp_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from gatling.state.apps import App
    from gatling.state.issuance import Issuance

WARN_DAYS = 14
DAY = 86400


def faults(every: Iterable[App], kept: Path, now: float) -> Iterator[tuple[str, str]]:
    """Yield faults of certificates that serve, each with advice; `now` is Unix time."""
    for app in every:
        serving = certificates.chosen(certificates.stored(kept, app.name), app.domains, now)
        by_id = {one.id: one for one in serving.values()}
        for one in by_id.values():
            domains = ", ".join(d for d, chosen in serving.items() if chosen.id == one.id)
            left = one.not_after - now
            hint = f"Get a new one, then `gatling certificates add {app.name}`."
            if one.obtained:
                hint = f"`gatling certificates issue {app.name}` obtains another one."
            if left < 0:
                yield f"The certificate of {domains} expired on {day(one.not_after)}.", hint
            # of one that is short-lived by design, a third of its life
            elif left < min(WARN_DAYS * DAY, (one.not_after - one.not_before) / 3):
                yield f"The certificate of {domains} expires on {day(one.not_after)}.", hint


def failures(every: Iterable[Issuance]) -> Iterator[tuple[str, str]]:
    """Yield the errors of the last attempts to obtain certificates, each with advice."""
    for one in every:
        if one.error:
            again = f"The next attempt is at {stamp_of(one.retry_at)}."
            yield f"{one.app} has no new certificate: {one.error}", f"{one.hint} {again}".strip()
