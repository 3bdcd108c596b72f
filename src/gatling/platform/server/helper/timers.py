"""When jobs of an app are due, as the helper receives it, becomes systemd timers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gatling.platform.server import timers
from gatling.platform.server.helper import unit_files
from gatling.platform.server.helper.shapes import Refused


def jobs(request: dict[str, Any]) -> dict[str, list[str]]:
    """The calendars of each job, by name."""
    given = request.get("jobs")
    if not isinstance(given, list) or len(given) > timers.MAX_JOBS:
        raise Refused("jobs is not a short list")
    found: dict[str, list[str]] = {}
    for job in given:
        if not isinstance(job, dict) or job.keys() != {"name", "calendars"}:
            raise Refused("a job is a name and calendars")
        name, calendars = job["name"], job["calendars"]
        if not isinstance(name, str) or not timers.NAME.fullmatch(name) or name in found:
            raise Refused("jobs: name")
        if not isinstance(calendars, list) or not 1 <= len(calendars) <= 2:
            raise Refused("jobs: calendars")
        if not all(_is_calendar(text) for text in calendars):
            raise Refused("jobs: calendar")
        found[name] = calendars
    return found


def write(units: Path, app: str, wanted: dict[str, list[str]], call: Callable[..., object]) -> None:
    """Have timers for these jobs of an app and for no others."""
    texts = {timers.timer(app, name): timers.text(app, name, times)
             for name, times in wanted.items()}  # fmt: skip
    wants = units / timers.WANTS
    known = {file.name for place in (units, wants) for file in place.glob(timers.timers(app))}
    gone = sorted(known - texts.keys())
    if gone:
        call(["systemctl", "stop", *gone], check=False)
    changed = []
    with unit_files.writing(call) as files:
        if gone:
            files.remove(*(place / name for name in gone for place in (wants, units)))
        for name, text in sorted(texts.items()):
            written = files.write(units / name, text)
            if files.link(wants / name, units / name) or written:
                changed.append(name)
    if changed:
        call(["systemctl", "restart", "--job-mode=ignore-dependencies", *changed])
    elif texts:  # nothing but a look, unless somebody has stopped them
        call(["systemctl", "start", "--job-mode=ignore-dependencies", *sorted(texts)])


def _is_calendar(text: object) -> bool:
    return (isinstance(text, str) and len(text) <= timers.MAX_CALENDAR
            and timers.CALENDAR.fullmatch(text) is not None)  # fmt: skip
