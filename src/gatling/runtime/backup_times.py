"""When the daily backups of databases are due: pure."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from gatling.errors import InvalidInput

if TYPE_CHECKING:
    from datetime import tzinfo

    from gatling.state.backups import Attempts, Plan

AGAIN_SECONDS = 3600.0
"""The pause after a failed attempt."""
_TIME = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]", re.ASCII)


def time_of_day(text: str) -> str:
    """A time of day such as `03:15`; raises InvalidInput."""
    if not _TIME.fullmatch(text):
        raise InvalidInput(f"{text!r} is not a time of day.", hint="Use HH:MM, such as 03:15.")
    return text


def due_at(plan: Plan, last: Attempts | None, zone: tzinfo) -> float:
    """The Unix time from which on the next backup is due: a missed one is made late, and once.

    A failed one is tried again after an hour.
    """
    tried = None if last is None else datetime.fromisoformat(last.tried_at)
    since = max(filter(None, (tried, datetime.fromisoformat(plan.changed_at))))
    hour, minute = map(int, plan.at.split(":"))
    after = since.astimezone(zone)
    moment = after.replace(hour=hour, minute=minute, second=0, microsecond=0)
    if moment <= after:
        moment += timedelta(days=1)
    again = since.timestamp() + AGAIN_SECONDS
    failed = last is not None and last.fault != "" and tried == since
    return min(moment.timestamp(), again) if failed else moment.timestamp()
