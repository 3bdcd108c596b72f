"""Notifications of alerts that have ended.

The beginning of an alert may still wait for a channel, in quiet hours above all. A reader would
look in the morning for a fault that is over. So the end takes its place: one notification says from
when to when the alert was on, however often it began and ended in between.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from gatling.state import notices
from gatling.times import now

if TYPE_CHECKING:
    from gatling.state.database import Database
    from gatling.state.notices import Notice

STARTED, ENDED = "alert.started", "alert.ended"


def end(db: Database, app: str, rule: str, title: str, hint: str) -> None:
    """Record that an alert has ended. Call it within the fact's transaction.

    `hint` says where more is to be seen.
    """
    plain = []
    for channel in notices.every(db):
        wanted = [one for one in (ENDED, STARTED) if notices.wants(channel, one, app)]
        waiting = notices.waiting_alerts(db, channel.name, app, rule)
        if wanted and waiting and waiting[-1].event == STARTED:
            notices.withdraw(db, channel.name, [one.id for one in waiting])
            _merge(db, channel.name, wanted[0], waiting, title, hint)
        elif ENDED in wanted:
            plain.append(channel.name)
    body = f"The alert {rule}. {hint}"
    notices.add_for(db, plain, ENDED, title, body, app=app, data={"rule": rule})


def _merge(
    db: Database, channel: str, event: str, waiting: list[Notice], title: str, hint: str
) -> None:
    """Record one notification for those that wait for a channel, and for the end."""
    first, app, rule, ended = waiting[0], waiting[0].app, waiting[0].data["rule"], now()
    began = str(first.data.get("began_at", first.at))
    times = sum(int(one.data.get("times", one.event == STARTED)) for one in waiting)
    often = "" if times == 1 else f" {times} times"
    said = str(first.data.get("began", first.title)).removeprefix(f"{app}: ")
    notices.add_for(
        db,
        [channel],
        event,
        f"{app}: the alert {rule} was on{often} from {_clock(began)} to {_clock(ended)}",
        f"It began with: {said}. It ended with: {title.removeprefix(f'{app}: ')}. {hint}",
        app=app,
        data={"rule": rule, "began_at": began, "ended_at": ended, "times": times, "began": said},
    )


def _clock(stamp: str) -> str:
    """A time in that of the host, to the minute."""
    return f"{datetime.fromisoformat(stamp).astimezone():%Y-%m-%d %H:%M}"
