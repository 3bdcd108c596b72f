"""When jobs are due: crontab(5)'s five fields, for the embedded home's clock and for systemd."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def check(cron: str) -> None:
    """Raise ValueError for what is not five fields of crontab(5), or never comes."""
    try:
        parsed = _parsed(cron, datetime(2024, 1, 1))
        next(parsed)
    except CronSimError as error:
        said = str(error)[:1].lower() + str(error)[1:]
        raise ValueError(f"cron: {said}, expected such as 30 3 * * mon-fri") from None
    except StopIteration:
        raise ValueError("cron: that time never comes") from None


def following(cron: str, moment: datetime) -> datetime:
    """The first time after a moment, in its time zone, at which a schedule is due."""
    return next(_parsed(cron, moment))


def is_due(cron: str, minute: datetime) -> bool:
    """Whether a schedule is due in a minute.

    With a time zone: what a change of clocks leaves out is due after it, a fixed time in an hour
    that comes twice is due once, as in Debian's cron.
    """
    if minute.tzinfo is None:
        before = minute - timedelta(seconds=1)
    else:
        before = (minute.astimezone(UTC) - timedelta(seconds=1)).astimezone(minute.tzinfo)
    found = following(cron, before)
    return found == minute and found.fold == minute.fold


def here() -> tzinfo:
    """The host's time zone, with the changes of its clocks."""
    try:
        if name := os.environ.get("TZ", "").removeprefix(":"):
            return ZoneInfo(name)
        with Path("/etc/localtime").open("rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError, KeyError):  # none that is known by a name or a file
        return datetime.now().astimezone().tzinfo or UTC


def calendars(cron: str) -> list[str]:
    """The same as systemd.time(7) has it, for OnCalendar=: due whenever one of them is."""
    parsed = _parsed(cron, datetime(2024, 1, 1))
    time = f"{_list(parsed.hours, 24)}:{_list(parsed.minutes, 60)}:00"
    months = _list(parsed.months, 12)
    dates = f"*-{months}-{_list(parsed.days, 31)}"
    days = {int(str(day)) % 7 for day in parsed.weekdays}
    weekdays = ",".join(_DAYS[day] for day in sorted(days))
    if parsed.day_and:
        found = [f"{dates} {time}" if len(days) == 7 else f"{weekdays} {dates} {time}"]
    elif len(days) == 7:  # named one by one: then any day of the month is one of them
        found = [f"*-{months}-* {time}"]
    else:  # either the day of the month or that of the week
        found = [f"{dates} {time}", f"{weekdays} *-{months}-* {time}"]
    return found


def _list(values: set[int], whole: int) -> str:
    return "*" if len(values) == whole else ",".join(map(str, sorted(values)))


def _parsed(cron: str, moment: datetime) -> CronSim:
    text = ALIASES.get(cron.strip().lower(), cron)
    if len(text.split()) != 5:
        raise CronSimError("Not five fields")
    parsed = CronSim(text, moment)
    # L, LW and MON#2 are not crontab(5)'s
    if min(parsed.days) < 0 or not all(isinstance(day, int) for day in parsed.weekdays):
        raise CronSimError("Not a field of crontab(5)")
    return parsed
