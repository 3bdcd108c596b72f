"""When jobs of an app are due, as the helper is told it, becomes timers of systemd's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gatling.helper.shapes import Refused
from gatling.supervisor import timers


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
    changed = sorted(name for name, text in texts.items() if not _is_there(units, name, text))
    if gone:
        call(["systemctl", "stop", *gone], check=False)
        for name in gone:
            (wants / name).unlink(missing_ok=True)
            (units / name).unlink(missing_ok=True)
    for name in changed:
        new = units / f".{name}.new"
        new.write_text(texts[name])
        new.rename(units / name)
        wants.mkdir(exist_ok=True)
        if not (wants / name).is_symlink():
            (wants / name).symlink_to(units / name)
    if gone or changed:
        call(["systemctl", "daemon-reload"])
    if changed:
        call(["systemctl", "restart", "--job-mode=ignore-dependencies", *changed])
    elif texts:  # nothing but a look, unless somebody has stopped them
        call(["systemctl", "start", "--job-mode=ignore-dependencies", *sorted(texts)])


def _is_there(units: Path, name: str, text: str) -> bool:
    file = units / name
    link = units / timers.WANTS / name
    return link.is_symlink() and file.exists() and file.read_text() == text


def _is_calendar(text: object) -> bool:
    return (isinstance(text, str) and len(text) <= timers.MAX_CALENDAR
            and timers.CALENDAR.fullmatch(text) is not None)  # fmt: skip
